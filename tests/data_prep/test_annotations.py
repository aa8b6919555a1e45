"""What annotations say of objects and of cycles."""

import pytest

from sigma_pipeline.data_prep.annotations import cycle_boundaries, object_categories


def test_categories_of_objects_are_found_by_their_ids() -> None:
    text = '{"fps": 6, "objects": {"1": {"category": "ape", "frames": [0]}, "12": {}, "x": 1}}'

    assert object_categories(text) == {1: "ape"}


@pytest.mark.parametrize("text", [None, "[1]", "{}", '{"objects": [1]}', '{"objects": {"1": 2}}'])
def test_annotations_of_other_forms_say_nothing(text: str | None) -> None:
    assert object_categories(text) == {}


def test_cycles_lie_between_boundaries() -> None:
    assert cycle_boundaries('{"boundaries": [0, 17, 34], "count": 2}') == (0, 17, 34)


@pytest.mark.parametrize(
    "found", ["[]", "[3]", "[5, 5]", "[9, 3]", "[-1, 4]", "[1, 2.5]", "[true, 4]", '"x"', "null"]
)
def test_what_bounds_no_cycle_says_nothing(found: str) -> None:
    assert cycle_boundaries(f'{{"boundaries": {found}}}') is None
    assert cycle_boundaries(found) is None
