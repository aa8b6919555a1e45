"""``--set``: values are typed as YAML types them, and go exactly where the key says."""

from typing import Any

import pytest

from sigma_pipeline.pipeline.overrides import apply_overrides


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("3.0e-4", 3.0e-4),
        ("false", False),
        ("null", None),
        ("", ""),
        ('""', ""),
        ("0", 0),
        ("[1, 2]", [1, 2]),
        ("{a: 1}", {"a": 1}),
        ("s3://bucket/a=b", "s3://bucket/a=b"),
    ],
)
def test_a_value_is_typed_and_really_replaces_the_old_one(text: str, value: object) -> None:
    values: dict[str, Any] = {"section": {"key": "old"}}

    assert apply_overrides(values, [f"section.key={text}"]) == []
    assert values == {"section": {"key": value}}


def test_sections_are_made_on_the_way_even_where_the_recipe_left_one_empty() -> None:
    values: dict[str, Any] = {"empty": None}

    assert apply_overrides(values, ["empty.a=1", "new.b.c=2"]) == []
    assert values == {"empty": {"a": 1}, "new": {"b": {"c": 2}}}


def test_a_number_steps_into_a_list() -> None:
    values: dict[str, Any] = {"cells": [{"every": 1}, {"every": 1}]}

    assert apply_overrides(values, ["cells.1.every=5"]) == []
    assert values == {"cells": [{"every": 1}, {"every": 5}]}


def test_a_later_override_wins() -> None:
    values: dict[str, Any] = {}

    assert apply_overrides(values, ["a=1", "a=2"]) == []
    assert values == {"a": 2}


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("seed", "--set 'seed': write it as section.key=value"),
        ("=1", "--set '=1': write it as section.key=value"),
        ("a..b=1", "--set 'a..b=1': write it as section.key=value"),
        ("leaf.deeper=1", "--set 'leaf.deeper=1': 'leaf' is a value, not a section"),
        ("cells.2.x=1", "--set 'cells.2.x=1': 'cells' is a list of 1; '2' is not a place in it"),
        ("cells.x=1", "--set 'cells.x=1': 'cells' is a list of 1; 'x' is not a place in it"),
    ],
)
def test_an_override_that_leads_nowhere_is_reported_and_changes_nothing(
    override: str, problem: str
) -> None:
    values: dict[str, Any] = {"leaf": 1, "cells": [{}]}

    assert apply_overrides(values, [override]) == [problem]
    assert values == {"leaf": 1, "cells": [{}]}


def test_a_value_that_is_no_yaml_is_reported() -> None:
    (problem,) = apply_overrides({}, ["a=[1"])

    assert problem.startswith("--set 'a=[1': the value is not valid YAML: expected ',' or ']'")
