"""Countix: segments with a count."""

from pathlib import Path

import pytest

from sigma_pipeline.data_prep.catalogues.countix import list_countix
from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.infra.errors import ConfigError

HEADER = "video_id,class,kinetics_start,kinetics_end,repetition_start,repetition_end,count\n"


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def listed(root: Path, **settings: object) -> Listing:
    dataset = DatasetConfig.model_validate(
        {"source": str(root), "catalogue": "countix", "splits": {"train": "train.csv"}, **settings}
    )
    return list_countix(dataset, [root])


def test_times_of_a_clip_count_from_its_start_and_those_of_a_whole_video_do_not(
    tmp_path: Path,
) -> None:
    write(
        tmp_path / "train.csv",
        HEADER + "AP-os_K,battle rope,17,27,18.5,26.976643,20\nBB,battle rope,17,27,18.5,20,4\n",
    )
    touch(tmp_path, "battle rope/AP-os_K_000017_000027.mp4", "BB.webm")

    whole, clip = listed(tmp_path).items

    assert clip.name == "battle rope/AP-os_K_000017_000027.mp4#1.5-9.976643"
    assert (clip.segment, clip.annotation) == ((1.5, 9.976643), '{"count":20}')
    assert (clip.class_name, clip.label) == ("battle rope", 0)
    assert (whole.name, whole.segment) == ("BB.webm#18.5-20", (18.5, 20))


def test_real_lists_are_read_whole(real_videos: Path, tmp_path: Path) -> None:
    folder = real_videos / "annotations/countix"
    splits = {split: f"countix_{split}.head.csv" for split in ("train", "val", "test")}
    touch(tmp_path, "0CnQ-_e5Sl8_000017_000027.mp4")

    listing = listed(tmp_path, annotations=str(folder), splits=splits)

    assert [(item.segment, item.annotation) for item in listing.items] == [
        ((1.5, 3.233333), '{"count":4}'),
        ((4.633333, 7.166667), '{"count":6}'),
    ]
    assert {item.label for item in listing.items} == {None}
    assert len(listing.classes) > 5
    lines = sum(len((folder / name).read_text().split("\n")) - 1 for name in splits.values())
    missing = [row for rows in listing.left_out.values() for row in rows]
    assert len(missing) + 2 >= lines - len(splits)
    assert {(row.reason, row.counted) for row in missing} == {("missing_file", True)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video_id,count\nA,1\n", r"train.csv:1: the header has no column kinetics_start, kin"),
        (HEADER + "A,x,17,27,18.5,nan,4\n", r"train.csv:2: .* there is no time from 18.5 to nan"),
        (HEADER + "A,x,17,27,18.5,20\n", r"train.csv:2: is not a segment with a count: 'count'"),
        (HEADER + "A,x,17,27,20,18,4\n", r"train.csv:2: there is no time from 3 to 1 s"),
    ],
)
def test_what_is_no_segment_is_named_with_its_place(
    tmp_path: Path, text: str, message: str
) -> None:
    write(tmp_path / "train.csv", text)

    with pytest.raises(ConfigError, match=message):
        listed(tmp_path)
