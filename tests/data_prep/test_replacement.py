"""Stand-ins of bad samples: the same on every rank, of the same dataset; and how many are borne."""

import pytest

from sigma_pipeline.data_prep.replacement import (
    MAX_TRIES,
    Replaced,
    damaged_shards,
    is_over_budget,
    stand_ins,
)


def test_stand_ins_follow_from_seed_epoch_and_position_alone() -> None:
    ours = list(stand_ins(3, 1, 40, range(1000)))

    assert list(stand_ins(3, 1, 40, range(1000))) == ours
    others = [(4, 1, 40), (3, 2, 40), (3, 1, 41)]
    assert all(list(stand_ins(*place, range(1000))) != ours for place in others)


def test_several_others_are_tried_and_all_are_of_the_same_dataset() -> None:
    tried = list(stand_ins(0, 0, 0, range(100, 10_000)))

    assert len(set(tried)) == MAX_TRIES
    assert all(100 <= sample < 10_000 for sample in tried)


@pytest.mark.parametrize(
    ("num_replaced", "num_taken", "fraction", "is_over"),
    [
        (16, 16, 0.0, False),
        (17, 10**9, 0.0, True),
        (17, 1000, 0.01, True),
        (100, 10_000, 0.01, False),
        (101, 10_000, 0.01, True),
    ],
)
def test_sixteen_always_may_and_beyond_that_a_share(
    num_replaced: int, num_taken: int, fraction: float, is_over: bool
) -> None:
    assert is_over_budget(num_replaced, num_taken, fraction) is is_over


def test_shards_are_blamed_by_how_many_different_samples_are_bad_in_them() -> None:
    def bad(key: str, tar: str) -> Replaced:
        return Replaced("d", "train", key, tar, "s", "r", 0, 0)

    counts = damaged_shards([bad("a", "2"), bad("b", "1"), bad("b", "1"), bad("c", "2")])

    assert counts.most_common() == [(("d", "train", "2"), 2), (("d", "train", "1"), 1)]
