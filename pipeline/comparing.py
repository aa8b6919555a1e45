"""Two encoders or recipes compared, and what is kept of it: beside the scores, and in MLflow."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sigma_pipeline.infra.errors import ConfigError, GateError, MissingInputError
from sigma_pipeline.infra.identity import fingerprint, new_attempt
from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.best_by import BestBy
from sigma_pipeline.jobs.compare import compare
from sigma_pipeline.jobs.compare_result import Comparison, Gate, Question
from sigma_pipeline.jobs.compare_sides import Side, find_relation, find_side
from sigma_pipeline.jobs.evaluate_request import evaluate_folder
from sigma_pipeline.jobs.figure_flips import draw_flips
from sigma_pipeline.pipeline.compare_lines import comparison_page
from sigma_pipeline.pipeline.run_recipe import recipe_key
from sigma_pipeline.pipeline.science import science_fingerprint
from sigma_pipeline.pipeline.training import recorded_settings

_MAIN = "compare.json"
_SHOWN_GAPS = 3


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What somebody asks for, as typed."""

    a: str
    b: str
    margin: float
    by: tuple[str, ...]
    """``benchmark/dataset/score``."""
    is_about_encoders: bool
    """Whether what other runs would give is left aside, however many there are."""


def ask(storage: Storage, wish: Wish) -> Comparison:
    """The answer to a wish; nothing is written.

    Raises:
        ConfigError: it cannot be meant so.
        MissingInputError: an encoder is not there, or both sides have finished no trial alike; says
            what makes one.
    """

    def recipe_of(run_name: str) -> str | None:
        settings = recorded_settings(storage, run_name)
        return None if settings is None else science_fingerprint({**settings, "seed": None})

    a, b = (find_side(storage, text, recipe_of) for text in (wish.a, wish.b))
    relation = find_relation(a, b, recipe_of, of_encoders=wish.is_about_encoders)
    by = tuple(map(_parsed, wish.by))
    question = Question(a=a, b=b, relation=relation, margin=wish.margin, by=by)
    comparison = compare(storage, question)
    if not comparison.trials:
        raise MissingInputError(f"nothing to compare: {_gaps(storage, comparison)}")
    return comparison


def check_gate(storage: Storage, comparison: Comparison, gate: Gate) -> None:
    """Ends the command unless the answer is as required.

    Raises:
        MissingInputError: something is missing that was to be compared: a gate is not passed by
            what was not measured.
        GateError: the answer is another one.
    """
    if comparison.gaps:
        raise MissingInputError(
            f"--require {gate} is not answered: {_gaps(storage, comparison)}; or name what counts: "
            "--by BENCHMARK/DATASET/SCORE"
        )
    if not comparison.meets(gate):
        margin = comparison.question.margin
        beyond = f" with a margin of {margin:g}" if margin else ""
        raise GateError(f"--require {gate}{beyond} is not met: A is {_found(comparison)}")


def comparison_files(comparison: Comparison) -> dict[str, bytes]:
    """What is kept, by name: ``compare.json``, ``compare.md``, and a picture for each trial."""
    pictures = {
        f"flips-{trial.label}-{trial.dataset}.png": draw_flips(
            trial.flips, f"{trial.where}: A {comparison.question.a}; B {comparison.question.b}"
        )
        for trial in comparison.trials
        if trial.flips
    }
    return {
        _MAIN: comparison_json(comparison).encode(),
        "compare.md": comparison_page(comparison, list(pictures)).encode(),
        **pictures,
    }


def comparison_json(comparison: Comparison) -> str:
    """For programs."""
    return json.dumps(comparison.to_plain(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def keep(storage: Storage, comparison: Comparison, files: Mapping[str, bytes]) -> str:
    """Puts the files beside A's scores and names them in its journal; returns the folder's key.

    Equal comparisons are kept once.
    """
    a, b = comparison.question.a.members[0], comparison.question.b.members[0]
    name = f"{a.source.name}{_others(comparison.question.a)}/"
    name += f"{b.run_name}-{b.source.name}{_others(comparison.question.b)}"
    name += f"-{fingerprint([comparison.to_plain(), comparison.question.relation])}"
    folder = f"{evaluate_folder(a.run_name)}/compare/{name}"
    last = f"{folder}/{_MAIN}"
    if storage.exists(last):
        return folder
    for file in files.keys() - {_MAIN}:
        storage.write(f"{folder}/{file}", files[file])
    journal = Journal(storage, a.run_name, new_attempt(), "compare")
    for file in files:
        journal.artifact(f"compare/{name}/{file}", f"{folder}/{file}")
    journal.close()
    storage.write(last, files[_MAIN])  # it says that all is there, and told
    return folder


def _others(side: Side) -> str:
    """What tells a side of several runs from its first one."""
    return f"-and-{len(side.members) - 1}-more" if len(side.members) > 1 else ""


def _parsed(text: str) -> BestBy:
    try:
        return BestBy.parse(text)
    except ValueError:
        raise ConfigError(
            f"--by {text!r} is not BENCHMARK/DATASET/SCORE, as in: knn/k400/top1"
        ) from None


def _found(comparison: Comparison) -> str:
    """Which trials decided, in words."""
    trials = ", ".join(
        f"{trial.verdict} on {trial.label}/{trial.dataset} ({trial.estimate.low:+.4f} to "
        f"{trial.estimate.high:+.4f})"
        for trial in comparison.trials
    )
    return f"{comparison.overall} in all; {trials}"


def _gaps(storage: Storage, comparison: Comparison) -> str:
    """What is missing, and the command that makes it."""
    gaps = comparison.gaps
    if not gaps:
        return "neither run has been evaluated; sigma-pipeline run --stage evaluate does so"
    shown = "; ".join(f"{gap.where}: {gap.reason}" for gap in gaps[:_SHOWN_GAPS])
    more = f"; and {len(gaps) - _SHOWN_GAPS} more" if len(gaps) > _SHOWN_GAPS else ""
    runs = dict.fromkeys(gap.run_name for gap in gaps if gap.run_name)
    commands = " and ".join(
        f"sigma-pipeline run --stage evaluate --config {storage.uri(recipe_key(run_name))}"
        for run_name in runs
    )
    made_by = f"; what is missing is made by: {commands}" if commands else ""
    return f"{shown}{more}{made_by}"
