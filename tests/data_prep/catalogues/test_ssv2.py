"""Something-Something v2 by its real lists."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.infra.errors import ConfigError, MissingInputError

ListDataset = Callable[..., Listing]
MakeFiles = Callable[..., Path]
CountRows = Callable[[Listing], Mapping[str, Mapping[str, int]]]

LISTS = "annotations/severe/ssv2"
SPLITS = {
    "val": "something-something-v2-validation.subset.json",
    "test": "something-something-v2-test.subset.json",
}
LABELS = "something-something-v2-labels.json"
TRAIN = {"splits": {"train": "train.json"}, "options": {"labels": "labels.json"}}


def test_real_ids_get_the_number_of_their_template(
    list_dataset: ListDataset,
    make_files: MakeFiles,
    count_rows: CountRows,
    real_videos: Path,
) -> None:
    source = make_files("videos", "clips/74225.webm", "clips/116154.webm", "clips/1420.webm")

    listing = list_dataset("ssv2", source, real_videos / LISTS, splits=SPLITS)

    found = {item.name: item for item in listing.items}
    spinning = found["clips/74225.webm"]
    assert (spinning.split, spinning.label) == ("val", 140)
    assert spinning.class_name == "Spinning something that quickly stops spinning"
    assert spinning.listed_at == "something-something-v2-validation.subset.json:2"
    assert spinning.annotation == (
        '{"label":"spinning cube that quickly stops spinning","placeholders":["cube"]}'
    )
    assert len(listing.classes) == 174
    assert count_rows(listing) == {"val": {"missing_file": 98}, "test": {"missing_file": 99}}


def test_ids_of_the_test_list_have_no_class(
    list_dataset: ListDataset, make_files: MakeFiles, real_videos: Path
) -> None:
    source = make_files("videos", "1420.webm")

    (item,) = list_dataset("ssv2", source, real_videos / LISTS, splits=SPLITS).items

    assert (item.split, item.label, item.class_name) == ("test", None, None)


def test_every_template_of_the_real_list_is_numbered(
    list_dataset: ListDataset, real_videos: Path
) -> None:
    with pytest.raises(MissingInputError, match=r"none of the 200 files.*'74225'"):
        list_dataset("ssv2", real_videos / "odd", real_videos / LISTS, splits=SPLITS)


def test_unknown_templates_missing_and_double_ids_are_shown_by_line(
    list_dataset: ListDataset, make_files: MakeFiles
) -> None:
    content = """[
      {"id": "1", "template": "Doing [something]"},
      {"id": "2", "template": "Undoing [something]"},
      {"template": "Doing [something]"},
      {"id": 1, "template": "Doing [something]"}
    ]"""
    lists = make_files(
        "lists", contents={"train.json": content, "labels.json": '{"Doing something": "0"}'}
    )

    with pytest.raises(ConfigError) as caught:
        list_dataset("ssv2", make_files("videos", "1.webm"), lists, **TRAIN)

    message = str(caught.value)
    assert "train.json:3: template 'Undoing [something]' is not among the 1 numbered" in message
    assert "train.json:4: there is no id" in message
    assert "train.json:5: '1.webm' is listed at train.json:2 already" in message


@pytest.mark.parametrize("labels", ["[]", "{}", '{"a": "1"}', '{"a": "0", "b": "0"}', '{"a": "x"}'])
def test_labels_that_do_not_count_from_0_are_refused(
    list_dataset: ListDataset, make_files: MakeFiles, labels: str
) -> None:
    lists = make_files("lists", contents={"train.json": "[]", "labels.json": labels})

    with pytest.raises(ConfigError, match=r"labels\.json does not number templates from 0"):
        list_dataset("ssv2", make_files("videos", "1.webm"), lists, **TRAIN)


def test_without_its_labels_the_key_to_set_is_named(
    list_dataset: ListDataset, make_files: MakeFiles
) -> None:
    source = make_files("videos", "1.webm")

    with pytest.raises(MissingInputError, match=rf"{LABELS}.*its options\.labels"):
        list_dataset("ssv2", source, source, splits=SPLITS)
