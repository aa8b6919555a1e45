"""The order of commits by a score, and the mark on the best one."""

from collections.abc import Callable

import pytest

from sigma_pipeline.infra.errors import ConfigError, MissingInputError
from sigma_pipeline.infra.storage import Storage, write_json
from sigma_pipeline.jobs import ranking as module
from sigma_pipeline.jobs.benchmarks.benchmark import Score
from sigma_pipeline.jobs.best_by import BestBy
from sigma_pipeline.jobs.best_commit import BestCommit, find_best, read_best
from sigma_pipeline.jobs.cells import CellRecord
from sigma_pipeline.jobs.commits import COMMIT_FILE, Commit, list_commits
from sigma_pipeline.jobs.encoders import committed_encoder
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.jobs.planned_trials import PlannedTrial
from sigma_pipeline.jobs.ranking import Ranking

RUN = "r1"

AddCommit = Callable[..., Commit]
MakeRequest = Callable[..., EvaluateRequest]


@pytest.fixture
def planned(storage: Storage, make_request: MakeRequest) -> PlannedTrial:
    """k-NN with two seeds."""
    return plan_grid(storage, make_request({"benchmark": "knn", "seeds": [0, 1]})).trials[0]


@pytest.fixture
def ranking(storage: Storage, planned: PlannedTrial) -> Ranking:
    return Ranking(storage, RUN, planned, BestBy.parse("knn/squares/top1"))


@pytest.fixture
def score(storage: Storage, planned: PlannedTrial) -> Callable[..., None]:
    """Finishes a trial with a value for each seed; of one seed alone, the other is missing."""

    def finish(commit: Commit, *values: float, higher_is_better: bool = True) -> None:
        source = committed_encoder(commit)
        for cell, value in zip(planned.cells(RUN, source), values, strict=False):
            top1 = Score("top1", value, "fraction", higher_is_better, value, value, 12)
            record = CellRecord(
                fingerprint=cell.fingerprint,
                encoder=source.name,
                step=source.step,
                weights_sha256=source.weights_sha256,
                trial=cell.trial,
                seed=cell.seed,
                scores=(top1,),
                notes=(),
                cost="cheap",
                seconds=1.0,
                gpus=0.0,
                outcomes="",
                files=(),
                attempt="a",
            )
            write_json(storage, cell.key, record.to_plain())

    return finish


def steps(commits: list[Commit]) -> list[int]:
    return [commit.step for commit in commits]


def test_commits_are_ranked_by_the_mean_of_seeds_and_of_equal_ones_the_earlier_is_first(
    add_commit: AddCommit, ranking: Ranking, score: Callable[..., None]
) -> None:
    commits = [add_commit(step) for step in (0, 10, 20, 30, 40)]
    for commit, values in zip(
        commits, [(0.5, 0.5), (0.25, 0.5), (0.25, 0.75), (0.9,), (float("nan"), 0.5)], strict=True
    ):
        score(commit, *values)

    assert steps(ranking.best_first(commits)) == [0, 20, 10]  # one seed of 30 is missing


def test_a_score_that_is_better_lower_ranks_so(
    add_commit: AddCommit, ranking: Ranking, score: Callable[..., None]
) -> None:
    commits = [add_commit(step) for step in (0, 10)]
    for commit, value in zip(commits, (0.5, 0.25), strict=True):
        score(commit, value, value, higher_is_better=False)

    assert steps(ranking.best_first(commits)) == [10, 0]


def test_writers_that_race_agree_on_the_best(
    storage: Storage,
    add_commit: AddCommit,
    ranking: Ranking,
    score: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = add_commit(0), add_commit(10)
    score(first, 0.5, 0.5)
    put = write_json

    def another_first(store: Storage, key: str, value: object) -> None:
        """Another writer finishes a better commit, and its mark is overwritten by an old one."""
        monkeypatch.setattr(module, "write_json", put)
        score(second, 0.75, 0.75)
        put(store, key, value)

    monkeypatch.setattr(module, "write_json", another_first)

    best = ranking.mark_best([first, second])

    assert best is not None
    assert (best.step, best.value) == (10, 0.75)
    assert read_best(storage, RUN) == best
    assert find_best(storage, RUN) == second


def test_without_any_score_nothing_is_marked(
    storage: Storage, add_commit: AddCommit, ranking: Ranking
) -> None:
    assert ranking.mark_best([add_commit(0)]) is None
    assert read_best(storage, RUN) is None
    with pytest.raises(MissingInputError, match=r"set evaluate\.best_by"):
        find_best(storage, RUN)


def test_the_mark_of_another_score_goes_and_one_of_this_score_stays_until_there_is_another(
    storage: Storage,
    planned: PlannedTrial,
    add_commit: AddCommit,
    ranking: Ranking,
    score: Callable[..., None],
) -> None:
    commit = add_commit(0)
    score(commit, 0.5, 0.5)
    ranking.mark_best([commit])
    storage.delete(planned.cells(RUN, committed_encoder(commit))[0].key)

    same = Ranking(storage, RUN, planned, BestBy.parse("knn/squares/top1"))
    assert same.mark_best([commit]) is None
    assert find_best(storage, RUN) == commit
    other = Ranking(storage, RUN, planned, BestBy.parse("knn/squares/top5"))
    assert other.mark_best([commit]) is None
    assert read_best(storage, RUN) is None


def test_a_best_commit_that_was_deleted_is_not_exported_and_the_next_look_finds_another(
    storage: Storage, add_commit: AddCommit, ranking: Ranking, score: Callable[..., None]
) -> None:
    commits = [add_commit(step) for step in (0, 10)]
    for commit, value in zip(commits, (0.5, 0.75), strict=True):
        score(commit, value, value)
    ranking.mark_best(commits)
    storage.delete(f"{commits[1].prefix}/{COMMIT_FILE}")

    with pytest.raises(MissingInputError, match=r"step 10 by knn/squares/top1, is no longer"):
        find_best(storage, RUN)
    again = ranking.mark_best(list_commits(storage, RUN))

    assert again == BestCommit("knn/squares/top1", 0, 0.5, commits[0].weights_sha256, "a1")


def test_a_score_of_another_name_is_refused_with_those_there_are(
    storage: Storage, planned: PlannedTrial, add_commit: AddCommit, score: Callable[..., None]
) -> None:
    commit = add_commit(0)
    score(commit, 0.5, 0.5)

    with pytest.raises(ConfigError, match=r"has no score 'top5'; .* knn/squares/top1"):
        Ranking(storage, RUN, planned, BestBy.parse("knn/squares/top5")).best_first([commit])
