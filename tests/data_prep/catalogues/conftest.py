"""What tests of catalogues share."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from sigma_pipeline.data_prep.catalogues import list_items
from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.config import DatasetConfig

ListDataset = Callable[..., Listing]
MakeFiles = Callable[..., Path]
CountRows = Callable[[Listing], Mapping[str, Mapping[str, int]]]


@pytest.fixture
def make_files(tmp_path: Path) -> MakeFiles:
    """Makes empty files, and lists with a content, below a new folder, which it returns."""

    def make(folder: str, *names: str, contents: Mapping[str, str] | None = None) -> Path:
        root = tmp_path / folder
        for name, content in {**dict.fromkeys(names, ""), **(contents or {})}.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return root

    return make


@pytest.fixture
def list_dataset() -> ListDataset:
    """Lists one source folder by a catalogue, with settings of the dataset."""

    def list_one(catalogue: str, source: Path, annotations: Path, **settings: object) -> Listing:
        dataset = DatasetConfig.model_validate(
            {
                "catalogue": catalogue,
                "source": str(source),
                "annotations": str(annotations),
                **settings,
            }
        )
        return list_items(dataset, [source])

    return list_one


@pytest.fixture
def count_rows() -> CountRows:
    """Ledger rows of each split by reason."""

    def count(listing: Listing) -> Mapping[str, Mapping[str, int]]:
        return {
            split: dict(Counter(row.reason for row in rows))
            for split, rows in listing.left_out.items()
        }

    return count
