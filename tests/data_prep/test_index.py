"""The index of a split, held in memory or brought to the node's disk."""

import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from sigma_pipeline.data_prep import rows as rows_module
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.rows import Member, SampleRow, encode_rows
from sigma_pipeline.infra.errors import MissingInputError, StageError
from sigma_pipeline.infra.storage import LocalStorage, Storage, open_storage, write_json

REF = DatasetRef("set", "train", "v1")
CONTENT = b"<mask 3><mask 12>{}<video>"
ROW = SampleRow(
    key="walk-1",
    shard=0,
    tar="shard-000000.x.tar",
    media="video",
    sha256="0" * 64,
    media_offset=19,
    media_size=7,
    suffix=".mp4",
    members=(
        Member("walk-1.00012.png", 8, 9),
        Member("walk-1.00003.png", 0, 8),
        Member("walk-1.json", 17, 2),
        Member("walk-1.mp4", 19, 7),
    ),
    frames=16,
    first_frame=0,
    fps=12.5,
    width=64,
    height=48,
    rotation=90,
    keyframes=(0, 12),
    keyframe_pts=(-512, 2**40),
    frame_grid=1,
    labels=(),
    label=3,
    class_name="walk",
    annotation='{"a":1}',
    source="walk/1.mp4",
)
BARE_ROW = replace(ROW, key="2", members=(), label=None, class_name=None, annotation=None)


MANIFEST = {"samples": 2, "classes": ["a", "b", "c", "walk"], "root_hash": "r", "attempt": "x"}


class SlowStorage(LocalStorage):
    """Counts downloads, each of which takes a while."""

    downloads = 0

    def download(self, key: str, path: Path) -> None:
        """Counts, waits, and downloads."""
        type(self).downloads += 1
        time.sleep(0.1)
        super().download(key, path)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """A store with a split of two samples."""
    storage = open_storage(str(tmp_path / "store"))
    storage.write(f"{REF.prefix}/{ROW.tar}", CONTENT)
    storage.write(REF.index_key, encode_rows([ROW, BARE_ROW]))
    write_json(storage, REF.manifest_key, MANIFEST)
    return storage


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


@pytest.fixture(params=["in memory", "on disk"])
def index(storage: Storage, cache_dir: Path, request: pytest.FixtureRequest) -> Index:
    return Index.load(storage, REF, cache_dir if request.param == "on disk" else None)


def test_rows_come_back_as_they_were(index: Index) -> None:
    assert list(index.rows) == [ROW, BARE_ROW]
    assert [index.row(1), index.row(0)] == [BARE_ROW, ROW]
    assert (len(index), index.classes[3], index.root_hash) == (2, "walk", "r")


def test_what_clips_need_is_there_without_the_row(index: Index) -> None:
    source = index.source(0)

    assert source.tar == "datasets/set/train/v1/shard-000000.x.tar"
    assert (source.keyframes, source.keyframe_pts) == (
        range(0, 24, 12),
        range(-512, 2**41, 2**40 + 512),
    )
    assert index.samples_per_shard.tolist() == [2]


def test_a_missing_label_is_minus_one(index: Index) -> None:
    assert index.labels.tolist() == [3, -1]


def test_samples_are_found_by_their_keys(index: Index) -> None:
    assert index.places(["2", "nobody"]) == {"2": 1}
    assert index.part([1, 0]).places(["2", "walk-1"]) == {"2": 0, "walk-1": 1}


def test_a_part_has_the_samples_asked_for(index: Index, storage: Storage) -> None:
    part = index.part([1, 0, 1])

    assert [row.key for row in part.rows] == ["2", "walk-1", "2"]
    assert part.labels.tolist() == [-1, 3, -1]
    assert part.read_media(storage, 1) == b"<video>"
    assert (part.ref, part.root_hash) == (index.ref, index.root_hash)


@pytest.mark.parametrize("is_cached", [False, True])
def test_a_part_says_what_its_rows_say_whatever_their_order(
    storage: Storage, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, *, is_cached: bool
) -> None:
    monkeypatch.setattr(rows_module, "ROWS_PER_GROUP", 3)
    frames = replace(ROW, media="frames", suffix=".png", members=(Member("f.00000.png", 9, 4),))
    rows = [
        replace(row, key=str(i), shard=i // 4, tar=f"{i // 4}.tar", media_offset=i, annotation=text)
        for i, row in enumerate([ROW, BARE_ROW, frames] * 3)
        for text in [f"[{i}]"]
    ]
    storage.write(REF.index_key, encode_rows(rows))
    write_json(storage, REF.manifest_key, {**MANIFEST, "samples": len(rows)})
    whole = Index.load(storage, REF, cache_dir if is_cached else None)
    first = whole.part([8, 1, 7, 4, 0, 2, 8])

    for part, chosen in ((first, [8, 1, 7, 4, 0, 2, 8]), (first.part([5, 1, 3]), [2, 1, 4])):
        expected = Index(REF, whole.classes, whole.root_hash, [rows[i] for i in chosen])
        for lazy in (part, pickle.loads(pickle.dumps(part))):
            assert list(lazy.rows) == list(expected.rows) == [lazy.row(i) for i in range(len(lazy))]
            assert lazy.labels.tolist() == expected.labels.tolist()
            assert lazy.samples_per_shard.tolist() == expected.samples_per_shard.tolist()
            assert lazy.places(["4", "2", "3"]) == expected.places(["4", "2", "3"])
            assert list(lazy.annotations()) == list(expected.annotations())
            assert lazy.has_labels()
            assert lazy.has_masks() == expected.has_masks()
            for i in range(len(lazy)):
                assert lazy.source(i) == expected.source(i)
                assert lazy.frame_files(i) == expected.frame_files(i)
    bare = whole.part([1, 4])
    assert (bare.has_labels(), bare.has_masks(), list(whole.part([]).rows)) == (False, False, [])
    with pytest.raises(IndexError):
        whole.part([9])


def test_a_part_is_made_at_once_and_travels_as_its_numbers(
    storage: Storage, cache_dir: Path
) -> None:
    rows = (replace(ROW, key=str(i)) for i in range(20_000))
    storage.write(REF.index_key, encode_rows(rows))
    write_json(storage, REF.manifest_key, {**MANIFEST, "samples": 20_000})
    whole = Index.load(storage, REF, cache_dir)

    start_s = time.process_time()
    part = whole.part(range(1, 20_000))
    spent_s = time.process_time() - start_s

    assert spent_s < 0.2
    assert len(pickle.dumps(part)) < len(pickle.dumps(whole)) + 2 * 20_000 + 2000
    assert (len(part), part.row(19_998).key) == (19_999, "19999")


def test_an_index_travels_to_other_processes(index: Index) -> None:
    copy = pickle.loads(pickle.dumps(index))

    assert copy.source(0) == index.source(0)
    assert (list(copy.rows), copy.labels.tolist()) == ([ROW, BARE_ROW], [3, -1])


def test_processes_of_a_node_bring_the_index_once(storage: Storage, cache_dir: Path) -> None:
    slow = SlowStorage(storage.root_uri)
    SlowStorage.downloads = 0

    with ThreadPoolExecutor(4) as processes:
        indexes = list(processes.map(lambda _: Index.load(slow, REF, cache_dir), range(4)))

    assert SlowStorage.downloads == 1
    assert {index.source(0) for index in indexes} == {indexes[0].source(0)}


def test_an_index_on_disk_needs_the_manifest_alone(storage: Storage, cache_dir: Path) -> None:
    Index.load(storage, REF, cache_dir)
    storage.delete(REF.index_key)

    again = Index.load(storage, REF, cache_dir)

    assert list(again.rows) == [ROW, BARE_ROW]


def test_a_split_made_again_is_brought_again(storage: Storage, cache_dir: Path) -> None:
    Index.load(storage, REF, cache_dir)
    storage.write(REF.index_key, encode_rows([replace(ROW, tar="shard-000000.y.tar"), BARE_ROW]))
    write_json(storage, REF.manifest_key, {**MANIFEST, "attempt": "y"})

    assert Index.load(storage, REF, cache_dir).source(0).tar.endswith("shard-000000.y.tar")


def test_what_a_killed_process_left_is_made_anew(storage: Storage, cache_dir: Path) -> None:
    Index.load(storage, REF, cache_dir)
    (made,) = (cache_dir / "index").glob("*.arrow")
    made.rename(made.with_suffix(".partial"))
    made.with_suffix(".partial").write_bytes(b"half")

    assert Index.load(storage, REF, cache_dir).labels.tolist() == [3, -1]
    assert not made.with_suffix(".partial").exists()


def test_the_video_is_read_by_its_range(index: Index, storage: Storage) -> None:
    assert index.read_media(storage, 0) == b"<video>"


def test_masks_come_by_frame_number(index: Index, storage: Storage) -> None:
    assert index.read_masks(storage, 0) == [(3, b"<mask 3>"), (12, b"<mask 12>")]
    assert index.read_masks(storage, 1) == []


def test_a_split_without_a_manifest_is_a_missing_input(storage: Storage) -> None:
    storage.delete(REF.manifest_key)

    with pytest.raises(MissingInputError, match=r"'set', split 'train'.*--stage shard"):
        Index.load(storage, REF)


@pytest.mark.parametrize("is_cached", [False, True])
def test_an_index_that_is_not_the_manifests_is_refused(
    storage: Storage, cache_dir: Path, is_cached: bool
) -> None:
    storage.write(REF.index_key, encode_rows([ROW]))

    for _ in range(2):
        with pytest.raises(StageError, match="has 1 rows, but its manifest says 2"):
            Index.load(storage, REF, cache_dir if is_cached else None)


def test_a_tar_that_ends_early_is_an_error_that_names_the_sample(storage: Storage) -> None:
    storage.write(f"{REF.prefix}/{ROW.tar}", CONTENT[:-1])

    with pytest.raises(StageError, match=r"shard-000000\.x\.tar ends before sample 'walk-1'"):
        Index.load(storage, REF).read_media(storage, 0)
