"""What is printed of a comparison, and what of it is written down."""

from collections.abc import Iterator, Sequence

from sigma_pipeline.jobs.compare_result import Comparison, Question, TrialComparison
from sigma_pipeline.pipeline.benchmark_lines import Block
from sigma_pipeline.pipeline.table import aligned

_COLUMNS = ("trial", "score", "A", "B", "A - B", "95% interval", "p", "won / lost", "verdict")
_SHOWN_CLASSES = 6
_LEAST_P = 0.001


def comparison_blocks(comparison: Comparison) -> list[Block]:
    """The sides and what the verdict is about, a row per trial, remarks, classes, and the verdict.

    Numbers have no more digits than their intervals bear.
    """
    question = comparison.question
    rows = [_COLUMNS, *(_row(trial) for trial in comparison.trials)]
    return [
        [f"A: {question.a}", f"B: {question.b}", _subject(question)],
        aligned(rows, left=(0, 1, 5, 8)),
        [*_remarks(comparison)],
        [*_class_lines(comparison.trials)],
        [_overall(comparison)],
    ]


def comparison_page(comparison: Comparison, pictures: Sequence[str]) -> str:
    """All of it as Markdown, with the pictures of these names beside it."""
    heading = "# A compared with B"
    blocks = ["```text\n" + "\n".join(block) + "\n```" for block in comparison_blocks(comparison)]
    shown = [f"![flips of classes]({name})" for name in pictures]
    return "\n\n".join([heading, *blocks, *shown]) + "\n"


def _subject(question: Question) -> str:
    """What a verdict speaks of."""
    sizes = len(question.a.members), len(question.b.members)
    if question.relation == "one_recipe" and max(sizes) == 1:
        return (
            "Two runs of one recipe: what they differ by is all that is known of what a seed does, "
            "and cannot stand out from it. --encoders asks about these two encoders alone."
        )
    if not question.is_about_recipes:
        return (
            "The verdict speaks of these encoders on samples like these, not of their recipes: "
            "other seeds may differ by more. Name several runs a side, as A1,A2,A3, for those."
        )
    if question.relation == "same_runs":
        return "The verdict speaks of recipes: A and B are compared within each run."
    alone = [name for name, size in zip("AB", sizes, strict=True) if size == 1]
    if alone:
        return (
            f"The verdict speaks of recipes. {alone[0]} is one run: others of its recipe are taken "
            "to vary as those of the other side do."
        )
    return "The verdict speaks of recipes: it takes in what other seeds would change."


def _row(trial: TrialComparison) -> tuple[str, ...]:
    found, sign = trial.estimate, "" if trial.higher_is_better else " (less is better)"
    won, lost = (sum(getattr(one, name) for one in trial.flips) for name in ("gained", "lost"))
    return (
        trial.where,
        f"{trial.score}{sign}",
        f"{trial.a:.4f}",
        f"{trial.b:.4f}",
        f"{found.difference:+.4f}",
        f"{found.low:+.4f} to {found.high:+.4f}" if abs(found.low) < float("inf") else "unknown",
        _p(found.p_value),
        f"{won:.4g} / {lost:.4g}" if trial.flips else "-",
        trial.verdict,
    )


def _remarks(comparison: Comparison) -> Iterator[str]:
    is_asked = comparison.question.is_about_recipes
    for trial in comparison.trials:
        for note in trial.notes:
            yield f"{trial.where}: {note}"
        if is_asked:
            yield f"{trial.where}: of these very encoders, p {_p(trial.p_encoders)}"
    for gap in comparison.gaps:
        yield f"{gap.where} is not compared: {gap.reason}"


def _class_lines(trials: Sequence[TrialComparison]) -> Iterator[str]:
    """Of each trial, the classes that won and lost most."""
    for trial in trials:
        shown = [one for one in trial.flips if one.total][:_SHOWN_CLASSES]
        if shown:
            flips = ", ".join(f"{one.name} +{one.gained:.4g} -{one.lost:.4g}" for one in shown)
            yield f"{trial.where}, classes with most flips: {flips}"


def _overall(comparison: Comparison) -> str:
    words = {
        "better": "A is better than B",
        "worse": "A is worse than B",
        "mixed": "A is better than B on some, worse on others",
        "not distinguishable": "A and B are not distinguishable",
    }
    beyond, count = comparison.question.margin, len(comparison.trials)
    how = ["5% level"]
    how += [f"beyond a margin of {beyond:g}"] if beyond else []
    how += [f"p corrected for {count} trials (Holm)"] if count > 1 else []
    return f"{words[comparison.overall]}: {', '.join(how)}."


def _p(value: float) -> str:
    return f"<{_LEAST_P:g}" if value < _LEAST_P else f"{value:.3f}"
