"""Parts of videos as tables of times."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.infra.errors import ConfigError

ListDataset = Callable[..., Listing]
MakeFiles = Callable[..., Path]
CountRows = Callable[[Listing], Mapping[str, Mapping[str, int]]]


@pytest.fixture
def read(make_files: MakeFiles, list_dataset: ListDataset) -> Callable[..., Listing]:
    """Lists two videos by one table of segments with this content."""

    def list_segments(content: str, **options: object) -> Listing:
        source = make_files("videos", "a.mp4", "b.mp4")
        lists = make_files("lists", contents={"t.csv": content})
        return list_dataset("segments", source, lists, splits={"train": "t.csv"}, options=options)

    return list_segments


Read = Callable[..., Listing]


@pytest.mark.parametrize(
    "content",
    [
        "a.mp4,0,2.5,sit\na.mp4,2.5,10,stand\nb.mp4,1,3.25,sit\n",
        "video,start,end,label\na.mp4,0,2.5,sit\na.mp4,2.5,10,stand\nb.mp4,1,3.25,sit\n",
        "label\tend_s\tstart_s\tpath\nsit\t2.5\t0\ta\nstand\t10\t2.5\ta\nsit\t3.25\t1\tb\n",
    ],
)
def test_each_row_is_a_sample_with_its_times(read: Read, content: str) -> None:
    listing = read(content)

    assert [(item.name, item.segment, item.class_name) for item in listing.items] == [
        ("a.mp4#0-2.5", (0, 2.5), "sit"),
        ("a.mp4#2.5-10", (2.5, 10), "stand"),
        ("b.mp4#1-3.25", (1, 3.25), "sit"),
    ]
    assert listing.classes == ("sit", "stand")
    assert listing.left_out["train"] == ()


def test_segments_may_have_no_class(read: Read) -> None:
    listing = read("a.mp4,0,2.5\nb.mp4,1,3\n")

    assert [(item.label, item.class_name) for item in listing.items] == [(None, None)] * 2


def test_labels_may_be_numbers_with_names_in_a_file(make_files: MakeFiles, read: Read) -> None:
    make_files("lists", contents={"names.txt": "sit\nstand\n"})

    listing = read("a.mp4,0,2.5,1\nb.mp4,1,3,2\n", label_base=1, classes="names.txt")

    assert [(item.label, item.class_name) for item in listing.items] == [(0, "sit"), (1, "stand")]


def test_times_that_are_none_and_parts_listed_twice_are_shown(read: Read) -> None:
    with pytest.raises(ConfigError) as caught:
        read("a.mp4,0,2.5,x\na.mp4,early,3,x\nb.mp4,3,2,x\na.mp4,0.0,2.50,y\n")

    message = str(caught.value)
    assert "t.csv:2: 'early' to '3' is no time in seconds" in message
    assert "t.csv:3: there is no time from 3 to 2 s" in message
    assert "t.csv:4: 'a.mp4#0-2.5' is listed at t.csv:1 already" in message


def test_a_table_without_times_is_refused(read: Read) -> None:
    with pytest.raises(ConfigError, match=r"t\.csv lacks columns.*has path, label"):
        read("path,label\na.mp4,x\n")


def test_a_video_that_is_not_there_misses_all_its_parts(read: Read, count_rows: CountRows) -> None:
    listing = read("a.mp4,0,2,x\nc.mp4,0,2,x\nc.mp4,2,4,x\n")

    assert count_rows(listing) == {"train": {"missing_file": 2, "not_listed": 1}}
    assert listing.left_out["train"][1].source == "c.mp4#0-2"


def test_real_intervals_of_a_real_video(
    list_dataset: ListDataset, make_files: MakeFiles, real_videos: Path
) -> None:
    rows = (real_videos / "annotations/gmdcsa24/Subject3_ADL.csv").read_text()
    assert "19.mp4,06,Night" in rows
    assert "Walking[1.8 to 5]" in rows
    lists = make_files("lists", contents={"t.csv": "Subject3_ADL_19.mp4,1.8,5,Walking\n"})

    listing = list_dataset(
        "segments", real_videos / "actions/gmdcsa24", lists, splits={"train": "t.csv"}
    )

    (item,) = listing.items
    assert (item.name, item.segment) == ("Subject3_ADL_19.mp4#1.8-5", (1.8, 5))
