"""Drawing splits from names."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from sigma_pipeline.data_prep.splits import draw_splits

SHARES = {"train": 0.8, "val": 0.2}


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=8), st.sampled_from(["a", "b", None]), max_size=40))
def test_every_name_gets_a_split_and_every_large_enough_class_has_all_splits(
    class_of: dict[str, str | None],
) -> None:
    drawn = draw_splits(class_of.items(), SHARES)

    assert drawn.keys() == class_of.keys()
    for class_name, count in Counter(class_of.values()).items():
        splits = {drawn[name] for name in class_of if class_of[name] == class_name}
        assert splits == set(SHARES) if count > 1 else splits == {"train"}


@settings(deadline=None)
@given(st.integers(min_value=5, max_value=200))
def test_shares_are_kept_to_within_one_video(count: int) -> None:
    drawn = draw_splits(((f"{n}.mp4", "walk") for n in range(count)), SHARES)

    assert abs(Counter(drawn.values())["val"] - 0.2 * count) <= 1


def test_the_order_of_names_does_not_matter() -> None:
    names = [(f"{n}.mp4", "walk") for n in range(50)]

    assert draw_splits(names, SHARES) == draw_splits(reversed(names), SHARES)


def test_a_single_split_takes_everything() -> None:
    assert set(draw_splits([("a", None), ("b", "x")], {"all": 1.0}).values()) == {"all"}
