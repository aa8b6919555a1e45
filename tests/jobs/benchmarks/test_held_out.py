"""Which part of a training split is held out."""

import numpy as np
import pytest

from sigma_pipeline.jobs.benchmarks.held_out import group_part, stratified_part


def test_the_seed_draws_the_held_out_part_and_leaves_each_class_something() -> None:
    labels = np.array([0] * 10 + [1] * 5 + [2])

    part = stratified_part(labels, 0.2, seed=0)

    assert np.bincount(labels[part], minlength=3).tolist() == [2, 1, 0]
    assert (part == stratified_part(labels, 0.2, seed=0)).all()
    assert any((part != stratified_part(labels, 0.2, seed=s)).any() for s in range(1, 5))


def test_groups_are_held_out_as_a_whole() -> None:
    groups = [f"g{number % 10}" for number in range(35)]

    part = group_part(groups, 0.25, seed=0)

    chosen = {group for group, is_chosen in zip(groups, part, strict=True) if is_chosen}
    rest = {group for group, is_chosen in zip(groups, part, strict=True) if not is_chosen}
    assert (len(chosen), len(rest), chosen & rest) == (2, 8, set())
    assert (part == group_part(groups, 0.25, seed=0)).all()
    assert any((part != group_part(groups, 0.25, seed=s)).any() for s in range(1, 5))


@pytest.mark.parametrize(("num_groups", "held_out"), [(1, 0), (2, 1), (4, 1), (5, 1)])
def test_few_groups_hold_out_one_while_there_is_another(num_groups: int, held_out: int) -> None:
    assert group_part([f"g{n}" for n in range(num_groups)], 0.2, seed=0).sum() == held_out
