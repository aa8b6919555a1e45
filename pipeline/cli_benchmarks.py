"""Commands about benchmarks: which there are, tables of a run, and metrics of others' results."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sigma_pipeline.infra.errors import ConfigError
from sigma_pipeline.pipeline.benchmark_lines import (
    Block,
    ava_blocks,
    davis_blocks,
    list_blocks,
    uvos_blocks,
)
from sigma_pipeline.pipeline.cli_options import load_recipe, with_recipe
from sigma_pipeline.pipeline.written_files import write_files

if TYPE_CHECKING:
    from sigma_pipeline.jobs.uvos_score import Matching, ScoredClip

Scored = TypeVar("Scored")
_FOLDER = _FILE = click.Path(path_type=Path)
_OF_RUNS = ("severe", "few")
"""Commands that show scores of a run."""
_MATCHINGS = ("hungarian", "many-to-one")


@click.group(invoke_without_command=True)
@with_recipe
@click.pass_context
def benchmarks(context: click.Context, recipe: str | None, overrides: tuple[str, ...]) -> None:
    """Lists the benchmarks, what each needs, and whether the recipe's datasets have it.

    Of the commands below, few and severe show the scores of a run; the others score results that
    were made elsewhere, and need no recipe.
    """
    if context.invoked_subcommand is None:
        _list(recipe, overrides)
    elif recipe is not None or overrides:
        advice = (
            "name them after" if context.invoked_subcommand in _OF_RUNS else "leave them out for"
        )
        raise ConfigError(
            f"--config and --set before a command go with the list alone: {advice} "
            f"benchmarks {context.invoked_subcommand}"
        )


@benchmarks.command()
@with_recipe
def severe(recipe: str | None, overrides: tuple[str, ...]) -> None:
    """Shows SEVERE's columns of a run beside the published rows.

    A row per evaluated commit; the mean where all eight columns are there. Cells of the recipe say
    which column they fill; what was scored on other data is shown apart, as a stand-in.
    """
    from sigma_pipeline.infra.storage import open_storage
    from sigma_pipeline.pipeline.summary_lines import severe_blocks

    config = load_recipe(recipe, overrides)
    _echo(severe_blocks(config, open_storage(config.root_uri)))


@benchmarks.command()
@with_recipe
def few(recipe: str | None, overrides: tuple[str, ...]) -> None:
    """Shows what a run learned from few examples, over sizes and seeds.

    A table per benchmark and dataset whose cells have sizes (examples): mean, standard deviation
    and range over the seeds.
    """
    from sigma_pipeline.infra.storage import open_storage
    from sigma_pipeline.pipeline.summary_lines import few_blocks

    config = load_recipe(recipe, overrides)
    _echo(few_blocks(config, open_storage(config.root_uri)))


def _on_davis(command: Any) -> Any:
    """Adds the options that say what to score on: ``davis``, ``set_name`` and ``list_file``."""
    davis = click.option(
        "--davis",
        type=_FOLDER,
        required=True,
        help="Folder of DAVIS: the one that holds Annotations and ImageSets.",
    )
    set_name = click.option(
        "--set",
        "set_name",
        metavar="NAME",
        help="Score ImageSets/2017/NAME.txt; if absent: val, or where that is not, what is there.",
    )
    list_file = click.option(
        "--sequences",
        "list_file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Score the sequences that FILE names, one per line.",
    )
    return davis(set_name(list_file(command)))


@benchmarks.command("davis-score")
@click.option("--results", type=_FOLDER, required=True, help="Folder of sequences with PNGs.")
@_on_davis
@click.option("--output", type=_FOLDER, help="Also write both tables into this folder, as CSV.")
def davis_score(
    results: Path,
    davis: Path,
    set_name: str | None,
    list_file: Path | None,
    *,
    output: Path | None,
) -> None:
    """Scores masks of semi-supervised VOS: J and F.

    As the official DAVIS 2017 evaluator. RESULTS/<sequence>/<frame>.png holds the object ids of a
    frame, as palette or 8-bit grey PNG.
    """
    from sigma_pipeline.jobs.davis_folder import annotations_dir, chosen_sequences
    from sigma_pipeline.jobs.davis_score import score_sequence
    from sigma_pipeline.jobs.vos_results import results_csv

    truth = annotations_dir(davis)
    chosen = chosen_sequences(results, davis, truth, set_name=set_name, list_file=list_file)
    scored = _each(chosen.names, lambda name: score_sequence(results / name, truth / name))
    _echo(davis_blocks(scored, chosen.remarks))
    if output is not None:
        _write(output, results_csv({name: of.objects for name, of in scored.items()}))


@benchmarks.command("uvos-score")
@click.option("--predictions", type=_FOLDER, required=True, help="Folder of sequences with PNGs.")
@_on_davis
@click.option(
    "--matching",
    type=click.Choice(_MATCHINGS),
    default=_MATCHINGS[0],
    show_default=True,
    help="One cluster to an object, or each cluster to the object that fills most of it.",
)
@click.option("--void-as-class", is_flag=True, help="Score void, as one more object (TimeT's way).")
def uvos_score(
    predictions: Path,
    davis: Path,
    set_name: str | None,
    list_file: Path | None,
    *,
    matching: "Matching",
    void_as_class: bool,
) -> None:
    """Scores cluster maps of unsupervised VOS: mIoU.

    PREDICTIONS/<sequence>/<frame>.png holds the cluster ids of a frame, as palette or 8-bit grey
    PNG. The frames that are there are the clip; they may be smaller than those of DAVIS.
    """
    from sigma_pipeline.jobs.davis_folder import annotations_dir, chosen_sequences
    from sigma_pipeline.jobs.uvos_score import score_clip

    truth = annotations_dir(davis, unsupervised=True)
    chosen = chosen_sequences(predictions, davis, truth, set_name=set_name, list_file=list_file)

    def score(name: str) -> "ScoredClip":
        return score_clip(predictions / name, truth / name, matching, void_as_class=void_as_class)

    scored = _each(chosen.names, score)
    _echo(uvos_blocks(scored, [f"Annotations: {truth}", *chosen.remarks]))


@benchmarks.command("ava-score")
@click.option("--detections", type=_FILE, required=True, help="CSV with a score in column 8.")
@click.option("--truth", type=_FILE, required=True, help="CSV of AVA: ava_val_v2.2.csv.")
@click.option("--actions", type=_FILE, help="List of the actions that count (.pbtxt), else all.")
@click.option("--excluded", type=_FILE, help="CSV of the seconds that do not count.")
@click.option(
    "--at-most",
    type=click.IntRange(min=1),
    metavar="N",
    help="Keep the surest N detections of each frame; ActivityNet's evaluator: 50.",
)
def ava_score(
    detections: Path,
    truth: Path,
    actions: Path | None,
    excluded: Path | None,
    *,
    at_most: int | None,
) -> None:
    """Scores boxes of actions: frame mAP at an overlap of 0.5.

    As ActivityNet's evaluator of AVA. Both files have the columns movie, second, x1, y1, x2, y2,
    action and no header, corners as parts of width and height.
    """
    from sigma_pipeline.jobs.ava_score import score_detections

    scored = score_detections(
        detections, truth, actions=actions, excluded=excluded, at_most=at_most
    )
    _echo(ava_blocks(scored))


def _list(recipe: str | None, overrides: tuple[str, ...]) -> None:
    from sigma_pipeline.infra.storage import open_storage
    from sigma_pipeline.pipeline.evaluating import list_benchmarks

    config = load_recipe(recipe, overrides)
    _echo(list_blocks(list_benchmarks(config, open_storage(config.root_uri))))


def _each(names: Sequence[str], score: Callable[[str], Scored]) -> dict[str, Scored]:
    """The scores by name; a terminal sees how far it has come."""
    is_hidden = not sys.stderr.isatty()
    with click.progressbar(names, file=sys.stderr, show_pos=True, hidden=is_hidden) as shown:
        return {name: score(name) for name in shown}


def _echo(blocks: Sequence[Block]) -> None:
    click.echo("\n\n".join("\n".join(block) for block in blocks if block))


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    write_files(folder, files, "--output")
    click.echo(f"\nWritten into {folder}: {', '.join(files)}")
