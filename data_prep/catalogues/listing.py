"""What every catalogue gives: the items of all splits, and every other file with a reason."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.ledger import LedgerRow


@dataclass(frozen=True)
class Listing:
    """Everything found, in the order of names."""

    items: tuple[Item, ...]
    left_out: dict[str, tuple[LedgerRow, ...]]
    """By split: files that are not opened, and entries of lists whose files are not there."""
    classes: tuple[str, ...]
    """Names of the labels, of all splits."""


def make_listing(
    dataset: DatasetConfig,
    items: Iterable[Item],
    left_out: Iterable[tuple[str, LedgerRow]],
    classes: Sequence[str],
) -> Listing:
    """A listing of ``items`` and of the rows of each split, both brought into order."""
    rows_of: dict[str, list[LedgerRow]] = {split: [] for split in dataset.split_names}
    for split, row in left_out:
        rows_of[split].append(row)
    return Listing(
        items=tuple(sorted(items, key=lambda item: item.name)),
        left_out={
            split: tuple(sorted(rows, key=lambda row: row.source))
            for split, rows in rows_of.items()
        },
        classes=tuple(classes),
    )
