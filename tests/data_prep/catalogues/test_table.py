"""Tables of paths and labels in all forms."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.infra.errors import ConfigError, MissingInputError

ListDataset = Callable[..., Listing]
MakeFiles = Callable[..., Path]
CountRows = Callable[[Listing], Mapping[str, Mapping[str, int]]]

NAMES = ("walk/a b.mp4", "walk/c.mp4", "run/d.mp4")


@pytest.fixture
def read(make_files: MakeFiles, list_dataset: ListDataset) -> Callable[..., Listing]:
    """Lists three videos by one table with this content."""

    def list_table(content: str, name: str = "t.csv", **options: object) -> Listing:
        source = make_files("videos", *NAMES)
        lists = make_files("lists", contents={name: content})
        return list_dataset("table", source, lists, splits={"train": name}, options=options)

    return list_table


Read = Callable[..., Listing]


def found(listing: Listing) -> dict[str, tuple[int | None, str | None]]:
    return {item.name: (item.label, item.class_name) for item in listing.items}


NUMBERED = {"walk/a b.mp4": (1, "1"), "walk/c.mp4": (1, "1"), "run/d.mp4": (0, "0")}
NAMED = {"walk/a b.mp4": (1, "walk"), "walk/c.mp4": (1, "walk"), "run/d.mp4": (0, "run")}


@pytest.mark.parametrize(
    "content",
    [
        "walk/a b.mp4 1\nwalk/c.mp4 1\nrun/d.mp4 0\n",
        "/mnt/k/walk/a b.mp4 1\n/mnt/k/walk/c.avi 1\n/mnt/k/run/d 0",
        "walk/a b.mp4,1\nwalk/c.mp4,1\nrun/d.mp4,0\n",
        "walk/a b.mp4\t1\nwalk/c.mp4\t1\nrun/d.mp4\t0\n",
        "walk/a b.mp4;1\nwalk/c.mp4;1\nrun/d.mp4;0\n",
        "path label\nwalk/a b.mp4 1\nwalk/c.mp4 1\nrun/d.mp4 0\n",
        "label,frames,Path\r\n1,9,walk/a b.mp4\r\n1,9,walk/c.mp4\r\n0,9,run/d.mp4\r\n",
        '"walk/a b.mp4", 1\nwalk/c.mp4, 1\nrun/d.mp4, 0\n',
    ],
)
def test_the_form_of_a_table_is_recognized(read: Read, content: str) -> None:
    assert found(read(content)) == NUMBERED


@pytest.mark.parametrize(
    "content",
    [
        "walk/a b.mp4 walk\nwalk/c.mp4 walk\nrun/d.mp4 run\n",
        "video,class\nwalk/a b.mp4,walk\nwalk/c.mp4,walk\nrun/d.mp4,run\n",
    ],
)
def test_labels_may_be_names_of_classes(read: Read, content: str) -> None:
    listing = read(content)

    assert found(listing) == NAMED
    assert listing.classes == ("run", "walk")


def test_paths_alone_have_no_class(read: Read) -> None:
    listing = read("walk/a b.mp4\nwalk/c.mp4\n")

    assert found(listing) == {"walk/a b.mp4": (None, None), "walk/c.mp4": (None, None)}
    assert listing.classes == ()


def test_a_path_with_commas_needs_its_separator_named(read: Read) -> None:
    with pytest.raises(MissingInputError, match="the first: 'a'"):
        read("a,b.mp4 1\n")
    with pytest.raises(MissingInputError, match=r"the first: 'a,b\.mp4'"):
        read("a,b.mp4 1\n", separator="space")


@pytest.mark.parametrize("labels", [[1, 1, 0], ["walk", "walk", "run"]])
def test_parquet_is_read_by_its_column_names(
    make_files: MakeFiles, list_dataset: ListDataset, labels: list[object]
) -> None:
    source, lists = make_files("videos", *NAMES), make_files("lists", "none")
    pq.write_table(pa.table({"label": labels, "path": list(NAMES)}), lists / "t.parquet")

    listing = list_dataset("table", source, lists, splits={"train": "t.parquet"})

    assert found(listing) == (NUMBERED if labels[0] == 1 else NAMED)
    assert listing.items[0].listed_at == "t.parquet:3"


def test_a_file_that_is_no_parquet_is_refused(read: Read) -> None:
    with pytest.raises(ConfigError, match=r"t\.parquet is no Parquet table"):
        read("nonsense", name="t.parquet")


def test_numbers_may_count_from_1(read: Read) -> None:
    listing = read("walk/c.mp4 2\nrun/d.mp4 1\n", label_base=1)

    assert found(listing) == {"walk/c.mp4": (1, "2"), "run/d.mp4": (0, "1")}


@pytest.mark.parametrize(
    "names", ["run\nwalk\n", "0 run\n1 walk\n", "run 1\nwalk 2\n", "1\trun\r\n2\twalk\r\n"]
)
def test_a_file_names_the_classes_with_or_without_numbers(
    make_files: MakeFiles, read: Read, names: str
) -> None:
    make_files("lists", contents={"names.txt": names})

    assert found(read("walk/a b.mp4 1\nwalk/c.mp4 1\nrun/d.mp4 0\n", classes="names.txt")) == NAMED


def test_labels_that_the_file_of_classes_lacks_are_shown(make_files: MakeFiles, read: Read) -> None:
    make_files("lists", contents={"names.txt": "run\nwalk\n"})

    with pytest.raises(ConfigError, match=r"t\.csv:2: label 2 is not among the 2 classes"):
        read("walk/c.mp4 1\nrun/d.mp4 2\n", classes="names.txt")
    with pytest.raises(ConfigError, match=r"t\.csv:1: class 'swim' is not among the 2"):
        read("walk/c.mp4 swim\nrun/d.mp4 run\n", classes="names.txt")


def test_a_number_too_high_for_a_class_is_refused(read: Read) -> None:
    with pytest.raises(ConfigError, match=r"t\.csv:2: label 123456789 is not among"):
        read("walk/c.mp4 1\nrun/d.mp4 123456789\n")


def test_rows_of_another_width_are_shown(read: Read) -> None:
    with pytest.raises(ConfigError, match=r"t\.csv:3: 1 fields instead of 2"):
        read("path,label\nwalk/c.mp4,1\nrun/d.mp4\n")
    with pytest.raises(ConfigError, match=r"t\.csv:2: 1 fields instead of 2"):
        read("walk/c.mp4,1\nrun/d.mp4\nwalk/a b.mp4,1\n", separator="comma")


def test_columns_without_names_have_to_be_told(read: Read) -> None:
    content = "0\t1\twalk/c.mp4\n1\t0\trun/d.mp4\n"

    with pytest.raises(ConfigError, match=r"which of its 3 columns.*options\.path_column"):
        read(content)

    listing = read(content, path_column=2, label_column=1)
    assert found(listing) == {"walk/c.mp4": (1, "1"), "run/d.mp4": (0, "0")}


def test_a_column_that_is_not_there_is_shown_with_those_that_are(read: Read) -> None:
    with pytest.raises(ConfigError, match=r"t\.csv has no column 'clip', but path, label"):
        read("path,label\nwalk/c.mp4,1\n", path_column="clip")


def test_an_unknown_option_is_refused_with_the_known_ones(read: Read) -> None:
    with pytest.raises(ConfigError, match=r"options\.heading: unknown; .*separator, header"):
        read("walk/c.mp4 1\n", heading=True)


def test_a_header_can_be_ruled_out(read: Read) -> None:
    with pytest.raises(MissingInputError, match="'path'"):
        read("path,label\n", header=False)


@pytest.mark.parametrize(("column", "header"), [("Who", "path,label,who\n"), (2, "")])
def test_a_column_may_name_the_group_of_each_sample(
    read: Read, column: str | int, header: str
) -> None:
    rows = "walk/a b.mp4,1,ann\nwalk/c.mp4,1,\nrun/d.mp4,0,ann\n"

    listing = read(header + rows, path_column=0, label_column=1, group_column=column)

    assert {item.name: item.group for item in listing.items} == {
        "walk/a b.mp4": "ann",
        "walk/c.mp4": None,
        "run/d.mp4": "ann",
    }


def test_without_its_column_there_are_no_groups(read: Read) -> None:
    listing = read("path,label,group\nwalk/c.mp4,1,ann\n")

    assert [item.group for item in listing.items] == [None]


def test_a_name_of_a_group_that_is_no_utf8_is_still_one(
    make_files: MakeFiles, list_dataset: ListDataset
) -> None:
    source, lists = make_files("videos", *NAMES), make_files("lists", "none")
    (lists / "t.csv").write_bytes(b"path,label,group\nwalk/c.mp4,1,Zo\xeb\n")

    listing = list_dataset(
        "table", source, lists, splits={"train": "t.csv"}, options={"group_column": "group"}
    )

    assert [item.group for item in listing.items] == ["Zo\\xeb"]


def test_only_rows_whose_path_matches_are_taken(read: Read, count_rows: CountRows) -> None:
    listing = read("walk/a b.mp4 walk\nwalk/c.mp4 walk\nrun/gone.mp4 run\n", only="walk/*")

    assert found(listing) == {"walk/a b.mp4": (0, "walk"), "walk/c.mp4": (0, "walk")}
    assert listing.classes == ("walk",)
    assert count_rows(listing) == {"train": {"not_listed": 1}}


@pytest.mark.parametrize("separator", ["auto", "comma"])
def test_nothing_is_asked_of_rows_whose_path_does_not_match(read: Read, separator: str) -> None:
    content = "path,label\nwalk/c.mp4,walk\nrun/d.mp4\nrun/d.mp4,a,b\n"

    listing = read(content, only="walk/*", separator=separator)

    assert found(listing) == {"walk/c.mp4": (0, "walk")}


@pytest.mark.parametrize(
    ("row", "flaw"), [("walk,walk/c.mp4", "2 fields"), ("walk,walk/c.mp4,a,b", "4 fields")]
)
def test_rows_that_match_or_have_no_path_are_still_checked(read: Read, row: str, flaw: str) -> None:
    content = f"label,path,group\nrun,run/d.mp4\n{row}\n"

    with pytest.raises(ConfigError, match=rf"^t\.csv:3: {flaw} instead of 3; correct"):
        read(content, only="walk/*")
    with pytest.raises(ConfigError, match=r"^t\.csv:2: 1 fields instead of 2; correct"):
        read("label,path\nwalk\nrun,run/d.mp4\n", only="walk/*")


def test_a_glob_that_matches_no_row_is_shown(read: Read) -> None:
    with pytest.raises(ConfigError, match=r"options\.only: no path of t\.csv matches 'WALK/\*'"):
        read("walk/c.mp4 1\n", only="WALK/*")


def test_the_real_tables_of_arid_find_all_videos_that_are_here(
    list_dataset: ListDataset, count_rows: CountRows, real_videos: Path
) -> None:
    listing = list_dataset(
        "table",
        real_videos / "actions/arid",
        real_videos / "annotations/arid",
        splits={"train": "train.txt"},
        options={"path_column": 2, "label_column": 1, "classes": "mapping_table_24.txt"},
    )

    assert listing.classes == ("Jump", "Run", "Sit", "Stand", "Turn", "Walk")
    assert all(item.name.startswith(f"{item.class_name}/") for item in listing.items)
    assert len(listing.items) == 24
    assert count_rows(listing) == {"train": {"missing_file": 126, "not_listed": 1}}


def test_the_real_lists_of_mini_kinetics_count_from_1(
    list_dataset: ListDataset, make_files: MakeFiles, real_videos: Path
) -> None:
    listing = list_dataset(
        "table",
        make_files("videos", "kIRmvrmc2nM_000020_000030.mp4", "zkyy5cC7SL4_000000_000010.mp4"),
        real_videos / "annotations/sigma_mini_kinetics",
        splits={"train": "trainlist.head.txt", "val": "vallist.head.txt"},
        options={"label_base": 1, "classes": "action_names.txt"},
    )

    assert [(item.split, item.label, item.class_name) for item in listing.items] == [
        ("train", 3, "arm wrestling"),
        ("val", 8, "belly dancing"),
    ]
    assert len(listing.left_out["train"]) == len(listing.left_out["val"]) == 29
