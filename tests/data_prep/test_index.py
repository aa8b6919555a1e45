"""Rows of an index, written and read."""

import io
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from sigma_pipeline.data_prep.index import DatasetRef, Index, Member, SampleRow, encode_rows
from sigma_pipeline.infra.errors import MissingInputError, StageError
from sigma_pipeline.infra.storage import Storage, open_storage, write_json

REF = DatasetRef("set", "train", "v1")
CONTENT = b"<mask 3><mask 12>{}<video>"
ROW = SampleRow(
    key="walk-1",
    shard=0,
    tar="shard-000000.x.tar",
    sha256="0" * 64,
    video_offset=19,
    video_size=7,
    suffix=".mp4",
    members=(
        Member("walk-1.00012.png", 8, 9),
        Member("walk-1.00003.png", 0, 8),
        Member("walk-1.json", 17, 2),
        Member("walk-1.mp4", 19, 7),
    ),
    frames=16,
    fps=12.5,
    width=64,
    height=48,
    rotation=90,
    keyframes=(0, 12),
    keyframe_pts=(-512, 2**40),
    label=3,
    class_name="walk",
    annotation='{"a":1}',
    source="walk/1.mp4",
)
BARE_ROW = replace(ROW, key="2", members=(), label=None, class_name=None, annotation=None)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """A store with a split of two samples."""
    storage = open_storage(str(tmp_path))
    storage.write(f"{REF.prefix}/{ROW.tar}", CONTENT)
    storage.write(REF.index_key, encode_rows([ROW, BARE_ROW]))
    manifest = {"samples": 2, "classes": ["a", "b", "c", "walk"], "root_hash": "r"}
    write_json(storage, REF.manifest_key, manifest)
    return storage


def test_rows_come_back_as_they_were(storage: Storage) -> None:
    index = Index.load(storage, REF)

    assert list(index.rows) == [ROW, BARE_ROW]
    assert (len(index), index.classes[3], index.root_hash) == (2, "walk", "r")


def test_a_missing_label_is_minus_one(storage: Storage) -> None:
    assert Index.load(storage, REF).labels.tolist() == [3, -1]


def test_other_programs_can_read_the_index(storage: Storage) -> None:
    table = pd.read_parquet(io.BytesIO(storage.read(REF.index_key)))

    assert table["frames"].tolist() == [16, 16]
    assert table["keyframes"][0].tolist() == [0, 12]


def test_the_video_is_read_by_its_range(storage: Storage) -> None:
    assert Index.load(storage, REF).read_video(storage, 0) == b"<video>"


def test_masks_come_by_frame_number(storage: Storage) -> None:
    index = Index.load(storage, REF)

    assert index.read_masks(storage, 0) == [(3, b"<mask 3>"), (12, b"<mask 12>")]
    assert index.read_masks(storage, 1) == []


def test_a_split_without_a_manifest_is_a_missing_input(storage: Storage) -> None:
    storage.delete(REF.manifest_key)

    with pytest.raises(MissingInputError, match=r"'set', split 'train'.*--stage shard"):
        Index.load(storage, REF)


def test_an_index_that_is_not_the_manifests_is_refused(storage: Storage) -> None:
    storage.write(REF.index_key, encode_rows([ROW]))

    with pytest.raises(StageError, match="has 1 rows, but its manifest says 2"):
        Index.load(storage, REF)


def test_a_tar_that_ends_early_is_an_error_that_names_the_sample(storage: Storage) -> None:
    storage.write(f"{REF.prefix}/{ROW.tar}", CONTENT[:-1])

    with pytest.raises(StageError, match=r"shard-000000\.x\.tar ends before sample 'walk-1'"):
        Index.load(storage, REF).read_video(storage, 0)
