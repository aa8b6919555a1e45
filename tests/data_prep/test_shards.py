"""Writing one tar."""

import hashlib
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import webdataset

from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.keys import sample_key
from sigma_pipeline.data_prep.probe import Probe
from sigma_pipeline.data_prep.sample import Sample
from sigma_pipeline.data_prep.shards import Shard, write_shard
from sigma_pipeline.data_prep.source_tree import SourceFile
from sigma_pipeline.data_prep.verdicts import Rejected

FACTS = Probe(6, 10.0, 40, 24, 0, (0, 4), (0, 512), "h264", "mov,mp4")
Write = Callable[[Sequence[Item]], Shard]


def video(name: str, *sidecars: str) -> Item:
    beside = tuple(SourceFile(f"/{sidecar}", sidecar, 3) for sidecar in sidecars)
    return Item(
        name, "video", (SourceFile(f"/{name}", name, 10),), "train", "walk", 1, sidecars=beside
    )


def prepare(item: Item) -> Sample:
    """A sample without a real video; names with "bad" in them are rejected."""
    name = item.name
    if "bad" in name:
        raise Rejected("corrupt", "frames decoded: 3")
    content = f"content of {name}".encode() * 100
    sha256 = hashlib.sha256(content).hexdigest()
    members = (("mp4", content), ("json", b"{}"), ("00002.png", b"mask"))
    return Sample(item, sample_key(name), ".mp4", sha256, FACTS, '{"x":1}', members)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes videos to ``tmp_path/shard.tar``."""
    return lambda videos: write_shard(
        tmp_path / "shard.tar", 7, videos, prepare, lambda num_bytes: None
    )


def test_each_row_points_at_the_bytes_of_its_sample(write: Write, tmp_path: Path) -> None:
    shard = write([video("a.mp4"), video("b.mp4")])

    data = (tmp_path / "shard.tar").read_bytes()
    for row in shard.rows:
        content = data[row.media_offset : row.media_offset + row.media_size]
        assert hashlib.sha256(content).hexdigest() == row.sha256
        mask = next(member for member in row.members if member.name.endswith(".00002.png"))
        assert data[mask.offset : mask.offset + mask.size] == b"mask"
    assert [row.source for row in shard.rows] == ["a.mp4", "b.mp4"]
    assert {row.shard for row in shard.rows} == {7}
    assert (shard.rows[0].frames, shard.rows[0].keyframe_pts) == (6, (0, 512))
    assert shard.sha256 == hashlib.sha256(data).hexdigest()
    assert shard.size == len(data)


def test_the_same_samples_give_the_same_bytes(write: Write, tmp_path: Path) -> None:
    videos = [video("a.mp4"), video("bad.mp4"), video("b.mp4")]
    write(videos)
    first = (tmp_path / "shard.tar").read_bytes()

    write(videos)

    assert (tmp_path / "shard.tar").read_bytes() == first


@pytest.mark.filterwarnings("ignore:Exception ignored in")  # it leaves the file to be closed
def test_stock_webdataset_and_tar_read_it(write: Write, tmp_path: Path) -> None:
    write([video("-a b.mp4"), video("c\nd.mp4")])

    url = str(tmp_path / "shard.tar")
    samples = list(webdataset.WebDataset([url], shardshuffle=False, empty_check=False))
    assert [sample["__key__"] for sample in samples] == [
        sample_key("-a b.mp4"),
        sample_key("c\nd.mp4"),
    ]
    assert samples[0].keys() >= {"mp4", "json", "00002.png"}
    with tarfile.open(url) as tar:
        assert len(tar.getnames()) == 6


def test_a_rejected_video_leaves_a_row_in_the_ledger_and_nothing_in_the_tar(
    write: Write,
) -> None:
    shard = write([video("a.mp4"), video("bad.mp4", "bad.json"), video("b.mp4")])

    assert [row.source for row in shard.rows] == ["a.mp4", "b.mp4"]
    rejected, beside = shard.rejected
    assert (rejected.source, rejected.size, rejected.reason) == ("bad.mp4", 10, "corrupt")
    assert rejected.counted
    assert (beside.source, beside.counted) == ("bad.json", False)


def test_frames_are_found_by_one_range_from_the_first_to_the_last(
    tmp_path: Path,
) -> None:
    contents = {f"{number:05d}.jpg": bytes([65 + number]) * 700 for number in range(3)}
    masks = {"00001.png": b"mask"}
    files = tuple(SourceFile(f"/f/{name}", f"f/{name}", 700) for name in contents)
    item = Item("f", "frames", files, "train")
    members = (*contents.items(), ("json", b"{}"), *masks.items())
    sample = Sample(item, sample_key("f"), ".jpg", "", FACTS, None, members)

    shard = write_shard(tmp_path / "f.tar", 0, [item], lambda _: sample, lambda _: None)

    (row,) = shard.rows
    data = (tmp_path / "f.tar").read_bytes()
    stored = data[row.media_offset : row.media_offset + row.media_size]
    assert stored.startswith(contents["00000.jpg"])
    assert stored.endswith(contents["00002.jpg"])
    assert b"mask" not in stored
    assert [number for number, _ in row.mask_members] == [1]


def test_rejected_frames_are_one_row_of_all_their_bytes(tmp_path: Path) -> None:
    files = tuple(SourceFile(f"/bad/{n}.jpg", f"bad/{n}.jpg", 10) for n in range(3))

    shard = write_shard(
        tmp_path / "f.tar", 0, [Item("bad", "frames", files, "train")], prepare, lambda _: None
    )

    (row,) = shard.rejected
    assert (row.source, row.size, row.counted, row.retryable) == ("bad", 30, True, False)


def test_a_segment_counts_by_the_suffix_of_its_file(tmp_path: Path) -> None:
    file = SourceFile("/bad.mp4", "bad.mp4", 10)
    item = Item("bad.mp4#0.5-1.5", "video", (file,), "train")

    shard = write_shard(tmp_path / "f.tar", 0, [item], prepare, lambda _: None)

    assert shard.rejected[0].counted


def test_a_shard_without_a_sample_has_no_tar(write: Write, tmp_path: Path) -> None:
    shard = write([video("bad.mp4")])

    assert (shard.rows, shard.sha256, shard.size) == ((), None, 0)
    assert not (tmp_path / "shard.tar").exists()


def test_progress_is_told_of_each_video_rejected_or_not(tmp_path: Path) -> None:
    told: list[int] = []

    videos = [video("a.mp4", "a.json"), video("bad.mp4")]
    write_shard(tmp_path / "shard.tar", 0, videos, prepare, told.append)

    assert told == [13, 10]
