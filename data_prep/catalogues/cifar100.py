"""CIFAR-100 in the pickles of its authors, each a split (protocols 10)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from sigma_pipeline.data_prep.catalogues.list_files import ListFiles, NoOptions, check_options
from sigma_pipeline.data_prep.catalogues.listing import Listing, make_listing
from sigma_pipeline.data_prep.catalogues.lists import Flaws, annotation_text
from sigma_pipeline.data_prep.catalogues.subsets import keep_subset
from sigma_pipeline.data_prep.cifar import (
    PICTURE_BYTES,
    CifarTable,
    read_cifar,
    read_class_names,
)
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.keys import printable
from sigma_pipeline.data_prep.ledger import LedgerRow
from sigma_pipeline.data_prep.restricted_pickle import RefusedPickleError
from sigma_pipeline.data_prep.source_files import SourceFiles
from sigma_pipeline.data_prep.source_tree import SourceFile
from sigma_pipeline.data_prep.suffixes import claims_other
from sigma_pipeline.infra.errors import ConfigError, MissingInputError

_NAMES = "meta"


def list_cifar100(dataset: DatasetConfig, roots: Sequence[Path]) -> Listing:
    """Lists the pictures of the pickles; annotations are their ``coarse_class``.

    Raises:
        MissingInputError: a pickle is not there.
        ConfigError: one is not CIFAR's, or asks for more than data.
    """
    check_options(dataset, NoOptions)
    lists, flaws, files = ListFiles(dataset, roots), Flaws(), SourceFiles(roots)
    items: list[Item] = []
    used: set[str] = set()
    try:
        classes = read_class_names(lists.path(_NAMES, "annotations"))
        for split, name in lists.splits().items():
            file = _pickle(files, name, split)
            used.add(file.name)
            items += _items(file, split, read_cifar(Path(file.path)), classes, flaws)
    except RefusedPickleError as error:
        raise ConfigError(str(error)) from error
    flaws.raise_any()
    rows = [(dataset.split_names[0], _left_out(file)) for file in files if file.name not in used]
    return make_listing(dataset, keep_subset(items, dataset.subset), rows, classes[0])


def _pickle(files: SourceFiles, name: str, split: str) -> SourceFile:
    file = files.exact(name)
    if file is None or file.flaw:
        raise MissingInputError(
            f"there is no file {name!r} in {', '.join(map(str, files.roots))}; set the dataset's "
            f"source to the folder of CIFAR-100's pickles, or its splits.{split} to the name of one"
        )
    return file


def _items(
    file: SourceFile,
    split: str,
    table: CifarTable,
    classes: tuple[list[str], list[str]],
    flaws: Flaws,
) -> Iterator[Item]:
    fine_names, coarse_names = classes
    for row, (fine, coarse, name) in enumerate(
        zip(table.fine_labels, table.coarse_labels, table.names, strict=True)
    ):
        where = f"{file.name}:{row}"
        if not 0 <= fine < len(fine_names) or not 0 <= coarse < len(coarse_names):
            flaws.add(where, f"there are no classes {fine} (fine) and {coarse} (coarse)")
            continue
        yield Item(
            name=f"{file.name}/{row:05d}-{name}",
            media="image",
            files=(SourceFile(file.path, file.name, PICTURE_BYTES, row=row),),
            split=split,
            class_name=fine_names[fine],
            label=fine,
            annotation=annotation_text({"coarse_class": coarse_names[coarse]}),
            listed_at=where,
        )


def _left_out(file: SourceFile) -> LedgerRow:
    reason, detail = claims_other(file.name) or ("not_listed", "it holds no split's pictures")
    return LedgerRow(printable(file.name), file.size, reason, detail, counted=False)
