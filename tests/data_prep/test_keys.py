"""Keys of samples."""

import re

import pytest

from sigma_pipeline.data_prep.keys import printable, sample_key

NASTY = [
    "-dash .mp4",
    "a\nb.mp4",
    "\u00e9\u4e2d.mp4",
    "bad\udcff.mp4",
    "...",
    "a.b.c/d.e.mp4",
    "x" * 300,
]


@pytest.mark.parametrize("name", NASTY)
def test_any_name_gives_a_short_key_of_letters_digits_and_dashes(name: str) -> None:
    key = sample_key(name)

    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*-[0-9a-f]{12}", key)
    assert len(key) <= 40 + 1 + 12


def test_names_that_look_alike_have_different_keys() -> None:
    names = ["a/b.mp4", "a-b.mp4", "a/b.avi", "A/b.mp4", "a b.mp4"]

    assert len({sample_key(name) for name in names}) == len(names)


def test_a_key_is_the_same_on_every_machine() -> None:
    assert sample_key("walk/clip 1.mp4") == "walk-clip-1-258c759a96b6"


def test_bytes_that_are_no_text_are_written_out() -> None:
    assert printable("bad\udcff.mp4") == "bad\\xff.mp4"
