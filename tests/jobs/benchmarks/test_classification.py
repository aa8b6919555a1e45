"""One group left out at a time: what is learned of a performer helps no other."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from sigma_pipeline.jobs.benchmarks.benchmark import FeatureSet
from sigma_pipeline.jobs.benchmarks.classification import (
    Classification,
    evenly_chosen,
    merged_views,
    one_group_each,
)
from sigma_pipeline.jobs.benchmarks.figures import Neighbours
from sigma_pipeline.jobs.benchmarks.intervals import exact_interval
from sigma_pipeline.jobs.benchmarks.knn import Knn
from sigma_pipeline.jobs.benchmarks.linear import LinearProbe

Make = Callable[..., FeatureSet]
ACTIONS, PERFORMERS = 4, 5
LEAVE_OUT: tuple[Classification, ...] = (
    Knn(k=3, leave_one_group_out=True),
    LinearProbe(leave_one_group_out=True, min_steps=200),
)


@pytest.fixture
def clips(make_features: Make) -> Make:
    """Two clips of each of five performers doing four actions, with given features of each."""

    def make(features: Callable[[int, int], list[float]]) -> FeatureSet:
        cast = [(p, a) for p in range(PERFORMERS) for a in range(ACTIONS) for _ in range(2)]
        return make_features(
            [features(performer, action) for performer, action in cast],
            [action for _, action in cast],
            groups=[f"person{performer}" for performer, _ in cast],
        )

    return make


@pytest.fixture
def performers(clips: Make) -> FeatureSet:
    """Features that tell who it is and, just among clips of the same one, what is done."""

    def features(performer: int, action: int) -> list[float]:
        pair = performer * ACTIONS + action
        return [*np.eye(PERFORMERS)[performer] * 3, *np.eye(PERFORMERS * ACTIONS)[pair]]

    return clips(features)


@pytest.fixture
def actions(clips: Make) -> FeatureSet:
    """Features that tell what is done and, more loudly, who it is."""
    return clips(lambda p, a: [*np.eye(PERFORMERS)[p] * 3, *np.eye(ACTIONS)[a] * 2])


@pytest.mark.parametrize("benchmark", LEAVE_OUT, ids=lambda benchmark: benchmark.name)
def test_features_of_the_performer_score_at_chance_once_that_one_is_left_out(
    performers: FeatureSet, benchmark: Classification
) -> None:
    all_together = benchmark.model_copy(update={"leave_one_group_out": False})

    seen = all_together.scores(performers, performers, seed=0).scores[0]
    unseen = benchmark.scores(performers, performers, seed=0).scores[0]

    assert seen.value == 1.0
    assert unseen.value <= 1 / ACTIONS
    assert unseen.samples == seen.samples == 40


@pytest.mark.parametrize("benchmark", LEAVE_OUT, ids=lambda benchmark: benchmark.name)
def test_features_of_the_action_carry_over_to_a_performer_never_seen(
    actions: FeatureSet, benchmark: Classification
) -> None:
    result = benchmark.scores(actions, actions, seed=0)

    assert result.scores[0].value == 1.0
    assert (result.scores[0].low, result.scores[0].high) == exact_interval(40, 40)
    assert result.outcomes["key"] == actions.keys
    assert result.outcomes["group"] == actions.groups
    assert result.notes[:2] == (
        "each of 5 groups left out in turn: 40 samples",
        "the interval takes 40 samples of 5 groups as independent",
    )


@pytest.mark.parametrize("benchmark", LEAVE_OUT, ids=lambda benchmark: benchmark.name)
def test_the_labels_of_a_group_change_nothing_of_its_own_predictions(
    clips: Make, benchmark: Classification
) -> None:
    generator = np.random.default_rng(0)
    split = clips(lambda performer, action: generator.normal(size=6).tolist())
    is_first = np.array([group == "person0" for group in split.groups])
    relabelled = replace(split, labels=np.where(is_first, 3 - split.labels, split.labels))

    before = benchmark.scores(split, split, seed=0).outcomes["prediction"]
    after = benchmark.scores(relabelled, relabelled, seed=0).outcomes["prediction"]

    assert before[:8] == after[:8]
    assert before[8:] != after[8:]


def test_each_fold_is_scored_by_all_other_groups(actions: FeatureSet) -> None:
    folds = list(one_group_each(actions))

    result = LEAVE_OUT[0].scores(actions, actions, seed=0)

    expected = [
        prediction
        for fold in folds
        for prediction in Knn(k=3)
        .scores(actions.part(~fold), actions.part(fold), seed=0)
        .outcomes["prediction"]
    ]
    assert np.sum(folds, axis=0).tolist() == [1] * 40
    assert result.outcomes["prediction"] == expected


def test_what_holds_for_some_folds_is_said_with_their_number(make_features: Make) -> None:
    split = make_features(
        [[1, 0], [0, 1]] * 4, [0, 1] * 4, groups=["a", "a", "b", "b", "c", "c", "c", "c"]
    )

    result = Knn(k=3, leave_one_group_out=True).scores(split, split, seed=0)

    why = "the bank's mean number of clips per class"
    assert result.notes == (
        "each of 3 groups left out in turn: 8 samples",
        "the interval takes 8 samples of 3 groups as independent",
        f"k=3 was capped at 2, {why} (1 of 3 folds)",
    )


def test_a_class_of_one_group_alone_is_counted_and_wrong(make_features: Make) -> None:
    split = make_features(
        [[1, 0], [0, 1], [1, 0], [0, 1], [1, 1]],
        [0, 1, 0, 1, 2],
        groups=["a", "a", "b", "b", "b"],
    )

    result = Knn(k=1, leave_one_group_out=True).scores(split, split, seed=0)

    assert result.outcomes["top1"] == [True, True, True, True, False]
    assert "1 samples are of a class of no other group: counted, and always wrong" in result.notes


def test_samples_without_a_label_are_left_out_with_a_word(actions: FeatureSet) -> None:
    labels = actions.labels.copy()
    labels[:8] = -1  # all of person0
    split = replace(actions, labels=labels)

    result = LEAVE_OUT[0].scores(split, split, seed=0)

    assert result.notes[:3] == (
        "8 of 40 samples have no label: left out",
        "each of 4 groups left out in turn: 32 samples",
        "the interval takes 32 samples of 4 groups as independent",
    )


def test_samples_without_a_group_are_refused_with_their_number(actions: FeatureSet) -> None:
    split = replace(actions, groups=[None, None, *actions.groups[2:]])

    with pytest.raises(ValueError, match="2 of 40 samples have no group"):
        LEAVE_OUT[0].scores(split, split, seed=0)


def test_one_group_alone_is_refused(actions: FeatureSet) -> None:
    split = replace(actions, groups=["ann"] * 40)

    with pytest.raises(ValueError, match="all samples are of group ann"):
        LEAVE_OUT[0].scores(split, split, seed=0)


def test_two_splits_are_refused(actions: FeatureSet) -> None:
    other = replace(actions, keys=[f"other{key}" for key in actions.keys])

    with pytest.raises(ValueError, match="one split, as train and as test"):
        LEAVE_OUT[0].scores(other, actions, seed=0)


def test_a_fold_of_one_class_leaves_the_probe_nothing_to_tell_apart(make_features: Make) -> None:
    split = make_features([[1, 0], [0, 1]] * 2, [0, 1] * 2, groups=["a", "b"] * 2)

    with pytest.raises(ValueError, match="all training samples are of one class"):
        LEAVE_OUT[1].scores(split, split, seed=0)


def test_one_group_is_left_out_of_choosing_the_rates_as_a_whole(actions: FeatureSet) -> None:
    by_groups = LEAVE_OUT[1].scores(actions, actions, seed=0)

    # Of each fold's four performers one chooses: eight clips.
    assert all("chosen on 8 held-out training clips" in note for note in by_groups.notes[2:])


def test_neighbours_of_all_folds_are_shown_and_none_is_of_the_own_group(
    actions: FeatureSet,
) -> None:
    result = LEAVE_OUT[0].scores(actions, actions, seed=0)

    shown = next(figure for figure in result.figures if isinstance(figure, Neighbours))
    group_of = dict(zip(actions.keys, actions.groups, strict=True))
    assert len(shown.queries) == 8
    assert {group_of[key] for key in shown.queries} == set(actions.groups)
    for query, neighbours in zip(shown.queries, shown.neighbours, strict=True):
        assert len(neighbours) == 5
        assert group_of[query] not in {group_of[key] for key in neighbours}


def test_training_sees_the_middle_view_and_the_test_all_of_them(actions: FeatureSet) -> None:
    turned = np.concatenate([actions.pooled, -actions.pooled, actions.pooled], axis=1)
    views = replace(actions, pooled=turned)

    result = LEAVE_OUT[0].scores(actions, views, seed=0)

    assert result.scores[0].value == 1.0


@pytest.mark.parametrize(
    ("total", "wanted", "chosen"), [(10, 3, [0, 3, 6]), (2, 8, [0, 1]), (0, 8, []), (8, 8, None)]
)
def test_a_few_are_chosen_evenly(total: int, wanted: int, chosen: list[int] | None) -> None:
    assert evenly_chosen(total, wanted) == (list(range(8)) if chosen is None else chosen)


def test_merged_probabilities_do_not_underflow_where_a_classifier_is_sure() -> None:
    logits = torch.tensor([[[0.0, -900.0, -950.0], [0.0, -1000.0, -940.0]]])

    (merged,) = merged_views(logits)

    assert merged.tolist() == pytest.approx([0.0, -900 - np.log(2), -940 - np.log(2)])


def test_a_part_that_is_the_whole_copies_no_features(actions: FeatureSet) -> None:
    some = np.arange(40) < 8

    assert np.shares_memory(actions.part(np.ones(40, np.bool_)).pooled, actions.pooled)
    assert actions.part(some).keys == list(actions.keys[:8])
    assert not np.shares_memory(actions.part(some).pooled, actions.pooled)
