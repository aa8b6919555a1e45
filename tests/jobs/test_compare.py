"""Comparisons of runs in a store: what is paired, what is said, and what is missing."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from sigma_pipeline.infra.errors import ConfigError, MissingInputError, StageError
from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.jobs.compare_result import Comparison
from tests.compared_runs import (
    add_commit,
    add_run,
    ask_for,
    classified,
    compare_runs,
    finish,
    planned,
)

GOOD = np.arange(60) % 10 < 8  # 48 of 60 right
BAD = np.arange(60) % 10 < 4  # 24 of those
Compare = Callable[..., Comparison]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path))


@pytest.fixture
def compared(storage: Storage) -> Compare:
    """Two sides of the store, by what people type."""
    return partial(compare_runs, storage)


def test_a_trained_encoder_is_better_than_its_untrained_self(
    storage: Storage, compared: Compare
) -> None:
    add_run(storage, "r", {0: BAD, 40: GOOD}, planned())

    found = compared("r", "r@untrained")

    (trial,) = found.trials
    assert (trial.a, trial.b, trial.samples) == (0.8, 0.4, 60)
    assert trial.estimate.p_value == pytest.approx(2 * 0.5**24)
    assert 0.25 < trial.estimate.low < 0.4 < trial.estimate.high < 0.55
    assert [(one.name, one.samples, one.gained, one.lost) for one in trial.flips] == [
        ("left", 20, 8, 0),
        ("right", 20, 8, 0),
        ("round", 20, 8, 0),
    ]
    assert found.overall == trial.verdict == "better"
    assert compared("r@0", "r@40").overall == "worse"
    assert not found.question.is_about_recipes


def test_two_seeds_of_one_recipe_are_not_called_different(
    storage: Storage, compared: Compare
) -> None:
    one = planned()
    add_run(storage, "r_0", {40: GOOD}, one)
    add_run(storage, "r_1", {40: BAD}, one)
    add_run(storage, "other", {40: BAD}, one)

    seeds, recipes = compared("r_0", "r_1"), compared("r_0", "other")

    assert (seeds.overall, recipes.overall) == ("not distinguishable", "better")
    assert seeds.trials[0].p_encoders == recipes.trials[0].estimate.p_value < 0.001
    assert seeds.question.relation == "one_recipe"


def test_several_runs_are_told_apart_by_how_runs_vary(storage: Storage, compared: Compare) -> None:
    one, order = planned(), np.random.default_rng(0)
    for recipe, shares in {"a": (48, 50, 52), "b": (30, 33, 31), "c": (40, 52, 28)}.items():
        for number, right in enumerate(shares):
            hits = np.isin(np.arange(60), order.permutation(60)[:right])
            add_run(storage, f"{recipe}_{number}", {40: hits}, one)

    far = compared("a_0,a_1,a_2", "b_0,b_1,b_2")
    near = compared("a_0,a_1,a_2", "c_0,c_1,c_2")

    assert far.question.is_about_recipes
    assert (far.overall, near.overall) == ("better", "not distinguishable")
    assert far.trials[0].a == pytest.approx(50 / 60)
    assert far.trials[0].flips[0].gained % 1 > 0  # a mean over runs


def test_flips_that_runs_or_seeds_make_both_ways_are_counted_both_ways(
    storage: Storage, compared: Compare
) -> None:
    one = planned(seeds=(0, 1))
    for name, results in {"a": (GOOD, BAD), "b": (BAD, GOOD)}.items():
        ask_for(storage, name, one)
        commit = add_commit(storage, name, 40)
        for seed, hits in enumerate(results):
            finish(storage, commit, one, classified(hits), {"top1": 0.6}, seed=seed)

    (trial,) = compared("a", "b").trials

    assert sum(one.gained for one in trial.flips) == sum(one.lost for one in trial.flips) == 12


def test_few_videos_show_nothing_however_many_runs_there_are(
    storage: Storage, compared: Compare
) -> None:
    one = planned("davis")
    for number in range(3):
        for recipe, value in {"a": 0.6, "b": 0.2}.items():
            run_name, score = f"{recipe}_{number}", value + number / 100
            ask_for(storage, run_name, one)
            columns = {"key": ["bear", "cows"], "jf_mean": [score, score + 0.01]}
            commit = add_commit(storage, run_name, 40)
            finish(storage, commit, one, columns, {"jf_mean": score + 0.005})

    found = compared("a_0,a_1,a_2", "b_0,b_1,b_2", margin=0.1)

    assert found.overall == "not distinguishable"
    assert not found.meets("not-worse")
    assert "2 samples or groups are too few to tell anything apart" in found.trials[0].notes


def test_movies_of_a_detection_are_compared_by_what_each_adds(
    storage: Storage, compared: Compare
) -> None:
    one, movies = planned("detection"), [f"movie-{number}" for number in range(20)]
    ask_for(storage, "r", one)
    for step, value in {0: 0.1, 40: 0.3}.items():
        values = [value + number / 1000 for number in range(20)]
        columns = {"key": movies, "seconds": [900] * 20, "frame_map": values}
        scores = {"frame_map": float(np.mean(values))}
        finish(storage, add_commit(storage, "r", step), one, columns, scores)

    (trial,) = compared("r", "r@0").trials

    assert (trial.score, trial.clusters, trial.verdict) == ("frame_map", 20, "better")
    assert trial.estimate.difference == pytest.approx(0.2)
    assert trial.notes == ()


def test_samples_are_paired_by_key_whatever_their_order(
    storage: Storage, compared: Compare
) -> None:
    one = planned()
    commits = add_run(storage, "r", {0: BAD, 40: GOOD}, one)
    expected = compared("r", "r@0").trials
    shuffled = np.random.default_rng(0).permutation(60)
    columns = {
        name: [list(column)[i] for i in shuffled] for name, column in classified(BAD).items()
    }
    finish(storage, commits[0], one, columns, {"top1": 0.4})

    assert compared("r", "r@0").trials == expected


def test_other_samples_are_refused_with_their_names(storage: Storage, compared: Compare) -> None:
    one = planned()
    commits = add_run(storage, "r", {0: BAD, 40: GOOD}, one)
    columns = classified(BAD) | {"key": ["new", *classified(BAD)["key"][1:]]}
    finish(storage, commits[0], one, columns, {"top1": 0.4})

    with pytest.raises(MissingInputError, match=r"without 1 \(clip-000\); besides 1 \(new\)"):
        compared("r", "r@0")


def test_what_one_side_has_not_finished_is_named(storage: Storage, compared: Compare) -> None:
    knn, linear, other = planned(), planned("linear", seeds=(0, 1)), planned("linear", c=1)
    for run_name, trials in {"a": (knn, linear), "b": (knn, linear, other)}.items():
        ask_for(storage, run_name, *trials)
        commit = add_commit(storage, run_name, 40)
        finish(storage, commit, knn, classified(GOOD), {"top1": 0.8})
        finish(storage, commit, linear, classified(GOOD), {"top1": 0.8}, seed=0)
        if run_name == "b":
            finish(storage, commit, linear, classified(GOOD), {"top1": 0.8}, seed=1)

    found = compared("a", "b")

    assert [(trial.label, trial.seeds) for trial in found.trials] == [
        ("knn", (0,)),
        ("linear", (0,)),
    ]
    assert [(gap.where, gap.reason) for gap in found.gaps] == [
        ("linear on demo", "a (step 40) has no scores with seed 1"),
        ("linear on demo", "a was evaluated without it, or with other settings or data"),
    ]


def test_seeds_that_only_one_side_was_asked_for_are_named(
    storage: Storage, compared: Compare
) -> None:
    knn, linear = planned(seeds=(0, 1)), planned("linear")
    for run_name, trials in {"a": (knn, linear), "b": (linear, planned())}.items():
        ask_for(storage, run_name, *trials)
        commit = add_commit(storage, run_name, 40)
        for one in trials:
            for seed in one.seeds:
                finish(storage, commit, one, classified(GOOD), {"top1": 0.8}, seed=seed)

    found = compared("a", "b")

    assert [(trial.label, trial.seeds) for trial in found.trials] == [
        ("knn", (0,)),
        ("linear", (0,)),
    ]
    assert [(gap.where, gap.reason) for gap in found.gaps] == [
        ("knn on demo", "b was evaluated without seed 1")
    ]


def test_a_run_that_was_never_evaluated_is_said_to_be_so(
    storage: Storage, compared: Compare
) -> None:
    add_run(storage, "a", {40: GOOD}, planned())
    add_commit(storage, "b", 40)

    assert [gap.reason for gap in compared("a", "b").gaps] == ["b has not been evaluated"]


def test_a_single_score_can_be_asked_for(storage: Storage, compared: Compare) -> None:
    one = planned()
    add_run(storage, "a", {40: GOOD}, one)
    columns = classified(BAD)
    for run_name in "ab":
        ask_for(storage, run_name, one, planned("linear"))
        commit = add_commit(storage, run_name, 40)
        finish(storage, commit, one, columns, {"top1": 0.4, "mean_class": 0.4, "ece": 0.1})

    found = compared("a", "b", "knn/demo/mean_class")

    assert [(trial.label, trial.score) for trial in found.trials] == [("knn", "mean_class")]
    assert found.gaps == ()
    with pytest.raises(ConfigError, match="'ece', which says nothing of single samples; it may be"):
        compared("a", "b", "knn/demo/ece")
    with pytest.raises(ConfigError, match="'map', which is no score of it"):
        compared("a", "b", "knn/demo/map")
    with pytest.raises(ConfigError, match="not evaluated with davis on demo, only with: knn on d"):
        compared("a", "b", "davis/demo/jf_mean")


def test_less_may_be_better(storage: Storage, compared: Compare) -> None:
    one = planned("counting")
    ask_for(storage, "r", one)
    keys = [f"v{number}" for number in range(40)]
    errors = np.random.default_rng(0).uniform(0.2, 0.6, 40)
    for step, worse in {0: 0.3, 40: 0.0}.items():
        columns = {"key": keys, "mae": (errors + worse).tolist()}
        scores = {"mae": float(np.mean(columns["mae"]))}
        finish(
            storage, add_commit(storage, "r", step), one, columns, scores, higher_is_better=False
        )

    (trial,) = compared("r", "r@0").trials

    assert trial.verdict == "better"
    assert trial.estimate.difference == pytest.approx(-0.3)
    assert trial.least_gain == pytest.approx(0.3)
    assert trial.flips == ()


def test_outcomes_that_are_no_numbers_are_no_verdict(storage: Storage, compared: Compare) -> None:
    one = planned("uvos")
    ask_for(storage, "r", one)
    for step, value in {0: float("nan"), 40: 0.5}.items():
        columns = {"key": ["a", "b"], "miou": [0.5, value]}
        finish(storage, add_commit(storage, "r", step), one, columns, {"miou": 0.5})

    with pytest.raises(StageError, match="uvos on demo: not every sample has a number for miou"):
        compared("r", "r@0")


def test_rows_of_one_video_or_group_are_one(storage: Storage, compared: Compare) -> None:
    one = planned("davis")
    ask_for(storage, "r", one)
    for step, value in {0: 0.2, 40: 0.6}.items():
        columns = {"key": ["bear", "bear", "cows"], "object": [1, 2, 1], "jf_mean": [value] * 3}
        finish(storage, add_commit(storage, "r", step), one, columns, {"jf_mean": value})

    (trial,) = compared("r", "r@0").trials

    assert (trial.samples, trial.clusters, trial.verdict) == (3, 2, "not distinguishable")
    assert "2 samples or groups are too few to tell anything apart" in trial.notes


def test_a_trial_is_judged_by_the_score_of_its_severe_column(
    storage: Storage, compared: Compare
) -> None:
    one = planned("finetune", column="fx_s1")
    ask_for(storage, "r", one)
    for step, hits in {0: BAD, 40: GOOD}.items():
        share = float(np.mean(hits))
        scores = {"top1": share, "mean_class": share}
        finish(storage, add_commit(storage, "r", step), one, classified(hits), scores)

    assert [trial.score for trial in compared("r", "r@0").trials] == ["mean_class"]
