"""Ranks as real processes: the same global batches to the last pixel."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.infra.storage import Storage, write_json

pytestmark = pytest.mark.slow

BATCHES = 5
"""Of 12 clips, from the second of an epoch on, which has three."""


@pytest.fixture
def two_splits(coloured_split: tuple[Storage, Index]) -> Storage:
    """A store with the coloured videos as two datasets."""
    storage, index = coloured_split
    copy = DatasetRef("copies", "train", "v1")
    for key in storage.list(index.ref.prefix):
        storage.write(key.replace(index.ref.prefix, copy.prefix), storage.read(key))
    manifest = {"samples": len(index), "classes": ["a", "b", "c"], "root_hash": "1"}
    write_json(storage, copy.manifest_key, manifest)
    return storage


@pytest.fixture
def shares(two_splits: Storage) -> list[dict[str, list[Any]]]:
    """What each of three processes gave as a rank of one, two or three."""
    program = Path(__file__).with_name("loader_rank.py")
    processes = [
        subprocess.Popen(
            [sys.executable, "-P", program, two_splits.root_uri, str(rank), str(BATCHES)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(3)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 3
    return [json.loads(output) for output in outputs]


def test_two_and_three_ranks_together_give_the_global_batches_of_one(
    shares: list[dict[str, list[Any]]],
) -> None:
    alone = shares[0]["1"]

    for ranks in (2, 3):
        assert [
            [clip for rank in range(ranks) for clip in shares[rank][str(ranks)][batch]]
            for batch in range(BATCHES)
        ] == alone
    assert [len(batch) for batch in alone] == [12] * BATCHES
    assert len({digest for batch in alone for *_, digest in batch}) > 40
