"""What names claim."""

import pytest

from sigma_pipeline.data_prep.suffixes import claims_other, is_counted, suffix_of


def test_a_suffix_is_compared_in_lower_case() -> None:
    assert suffix_of("A/B.MP4") == ".mp4"


@pytest.mark.parametrize("name", ["README", "a.mp4/b", ".mp4", "a.", "", "a/.avi"])
def test_a_name_may_have_no_suffix(name: str) -> None:
    assert suffix_of(name) == ""


@pytest.mark.parametrize("name", ["notes.txt", "a.JPG", "sound.mp3", "labels.csv", ".DS_Store"])
def test_a_name_of_another_kind_is_a_verdict(name: str) -> None:
    assert claims_other(name) is not None


@pytest.mark.parametrize("name", ["a.mp4", "a.AVI", "README", "a.unheard-of", "animated.gif"])
def test_a_name_that_may_be_a_video_is_no_verdict(name: str) -> None:
    assert claims_other(name) is None


def test_a_broken_video_counts_whatever_it_is_called() -> None:
    assert is_counted("a.mp4", "corrupt")
    assert is_counted("a.unheard-of", "corrupt")


def test_text_counts_only_where_it_claims_to_be_a_video() -> None:
    assert is_counted("a.mp4", "not_a_video")
    assert not is_counted("README", "not_a_video")


def test_what_macos_leaves_beside_a_video_does_not_count() -> None:
    assert not is_counted("walk/._a.mp4", "not_a_video")
