"""Datasets side by side."""

import pytest

from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.pool import Pool
from sigma_pipeline.infra.storage import Storage

Split = tuple[Storage, Index]


@pytest.fixture
def indexes(coloured_split: Split) -> list[Index]:
    """Of 13, 0 and 3 samples."""
    _, index = coloured_split
    return [index, index.part([]), index.part([4, 2, 0])]


@pytest.mark.parametrize(
    ("sample", "number", "row"), [(0, 0, 0), (12, 0, 12), (13, 2, 0), (15, 2, 2)]
)
def test_a_sample_is_found_in_its_dataset(
    indexes: list[Index], sample: int, number: int, row: int
) -> None:
    pool = Pool(indexes)

    assert len(pool) == 16
    assert pool.locate(sample) == (indexes[number], row)
    assert pool.source(sample) == indexes[number].source(row)


@pytest.mark.parametrize("sample", [-1, 16])
def test_a_sample_of_none_is_an_error(indexes: list[Index], sample: int) -> None:
    with pytest.raises(IndexError, match=f"sample {sample} of 16"):
        Pool(indexes).locate(sample)
