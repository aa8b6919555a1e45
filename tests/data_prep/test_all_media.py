"""Real media in the layouts of their datasets: nothing is lost on the way into shards."""

import os
import tarfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import webdataset

from sigma_pipeline.data_prep.catalogues import Listing, list_items
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.keys import printable
from sigma_pipeline.data_prep.sample import SampleSettings
from sigma_pipeline.data_prep.samples import prepare
from sigma_pipeline.data_prep.shards import write_shard
from sigma_pipeline.data_prep.verdicts import Rejected

DAVIS_2017 = {"train": "2017_class_train.txt", "val": "2017_class_val.txt"}
UCFREP_TEXTS = {"train": "repetition_label", "val": "repetition_label"}
IN_SEQUENCES = {"frames_folder": "{sequence}/images", "annotations_folder": "{sequence}/masks"}

# Folder of media, catalogue, folder of lists, and what else the recipe says.
LAYOUTS: list[tuple[str, str, str | None, dict[str, Any]]] = [
    ("actions/arid", "folder", None, {}),
    ("actions/gmdcsa24", "folder", None, {}),
    ("actions/gt_mhi", "folder", None, {}),
    ("actions/hmdb51", "hmdb51", "annotations/severe/hmdb51_splits", {}),
    ("actions/kinetics", "folder", None, {}),
    ("actions/quva_repetition", "quva", None, {}),
    ("actions/surv_fight", "folder", None, {}),
    ("actions/ucf101", "ucf101", "annotations/severe/ucf101", {}),
    ("actions/ucf101", "ucfrep", "annotations/ucfrep", {"splits": UCFREP_TEXTS}),
    ("actions/weizmann64", "folder", None, {}),
    ("odd", "folder", None, {}),
    ("vos", "image_folder", None, {"splits": {"a": "DAVIS", "b": "davis_interactive"}}),
    ("vos/DAVIS", "davis", "annotations/davis", {"splits": DAVIS_2017}),
    ("vos/DAVIS", "davis", "annotations/davis", {"splits": {"val": "2016_480p_val.txt"}}),
    ("vos/davis_interactive", "davis", "annotations/davis", {"splits": DAVIS_2017}),
    ("vos/multi", "davis", None, {"options": IN_SEQUENCES, "splits": {"val": "names.txt"}}),
    ("", "folder", None, {}),
]


def listed(media: Path, catalogue: str, lists: Path | None, settings: dict[str, Any]) -> Listing:
    dataset = DatasetConfig.model_validate(
        {
            "source": str(media),
            "catalogue": catalogue,
            "annotations": None if lists is None else str(lists),
            **settings,
        }
    )
    return list_items(dataset, [media])


@pytest.fixture
def names_of_sequences(tmp_path: Path) -> Path:
    (tmp_path / "names.txt").write_text("judo\n1001_3iEIq5HBY1s\n")
    return tmp_path


@pytest.mark.parametrize(("media", "catalogue", "lists", "settings"), LAYOUTS)
def test_every_file_is_part_of_an_item_or_a_row_of_the_ledger(
    real_videos: Path,
    names_of_sequences: Path,
    media: str,
    catalogue: str,
    lists: str | None,
    settings: dict[str, Any],
) -> None:
    root = real_videos / media
    folder = real_videos / lists if lists else None
    if settings.get("splits") == {"val": "names.txt"}:
        folder = names_of_sequences

    listing = listed(root, catalogue, folder, settings)

    rows = [row for of_split in listing.left_out.values() for row in of_split]
    in_items = {
        printable(file.name) for item in listing.items for file in (*item.files, *item.sidecars)
    }
    missing = {row for row in rows if row.reason == "missing_file" and row.counted}
    in_ledger = Counter(row.source for row in rows if row not in missing)
    there = {
        printable(os.path.relpath(Path(folder, name), root))
        for folder, _, names in os.walk(root)
        for name in names
    }
    assert in_items | set(in_ledger) == there
    assert not in_items & set(in_ledger)
    assert set(in_ledger.values()) <= {1}
    assert listing.items
    assert all("listed at" in row.detail for row in missing)


def test_a_real_sequence_with_a_mask_of_another_size_is_rejected_by_its_name(
    real_videos: Path, names_of_sequences: Path
) -> None:
    settings = {"options": IN_SEQUENCES, "splits": {"val": "names.txt"}}
    listing = listed(real_videos / "vos/multi", "davis", names_of_sequences, settings)
    (judo,) = (item for item in listing.items if item.name == "judo/images")

    with pytest.raises(Rejected, match=r"masks/\d{5}\.png has size \(853, 480\), the video \(854"):
        prepare(judo, SampleSettings(min_frames=2, transcode=None))


@pytest.fixture(scope="module")
def davis_tar(
    real_videos: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any, Listing]:
    """The three real sequences of DAVIS in one shard."""
    lists = real_videos / "annotations/davis"
    listing = listed(real_videos / "vos/DAVIS", "davis", lists, {"splits": DAVIS_2017})
    path = tmp_path_factory.mktemp("davis") / "shard.tar"
    make = partial(prepare, settings=SampleSettings(min_frames=2, transcode=None))
    return path, write_shard(path, 0, listing.items, make, lambda _: None), listing


def test_frames_and_masks_of_davis_come_back_byte_for_byte(
    davis_tar: tuple[Path, Any, Listing],
) -> None:
    path, shard, listing = davis_tar

    assert not shard.rejected
    assert [row.frames for row in shard.rows] == [50, 40, 25]
    content = path.read_bytes()
    for row, item in zip(shard.rows, listing.items, strict=True):
        at = {member.name.partition(".")[2]: member for member in row.members}
        for files, ending in ((item.files, "jpg"), (item.sidecars, "png")):
            for number, file in enumerate(files):
                _, offset, size = at[f"{number:05d}.{ending}"]
                assert content[offset : offset + size] == Path(file.path).read_bytes()
        frames = [member for end, member in at.items() if end.endswith(".jpg")]
        assert row.media_offset == min(member.offset for member in frames)
        assert row.media_offset + row.media_size == max(
            member.offset + member.size for member in frames
        )
        assert (row.media, row.suffix, row.width, row.height, row.fps) == (
            "frames", ".jpg", 854, 480, 24,
        )  # fmt: skip


@pytest.mark.filterwarnings("ignore:Exception ignored in")  # it leaves the file to be closed
def test_stock_webdataset_and_tar_iterate_davis(davis_tar: tuple[Path, Any, Listing]) -> None:
    path, shard, listing = davis_tar

    samples = list(webdataset.WebDataset([str(path)], shardshuffle=False, empty_check=False))

    assert [sample["__key__"] for sample in samples] == [row.key for row in shard.rows]
    for sample, item in zip(samples, listing.items, strict=True):
        assert sample["00007.jpg"] == Path(item.files[7].path).read_bytes()
        assert sample["00007.png"] == Path(item.sidecars[7].path).read_bytes()
    with tarfile.open(path) as tar:
        assert len(tar.getnames()) == 2 * (50 + 40 + 25) + 3
