"""Why a cell of a recipe cannot be made: of the recipe itself, and of the data it names."""

from collections.abc import Iterator
from functools import cached_property

from sigma_pipeline.data_prep.annotations import cycle_boundaries
from sigma_pipeline.data_prep.config import ViewConfig
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.marked_seconds import has_boxes
from sigma_pipeline.jobs.benchmarks.benchmark import Benchmark, Needs
from sigma_pipeline.jobs.config import EvaluateConfig
from sigma_pipeline.model.config import ModelConfig


def chosen_view(evaluate: EvaluateConfig, number: int, benchmark: Benchmark) -> ViewConfig:
    """How clips of the recipe's cell ``number`` are cut: as it says, or all, or the benchmark.

    Where that matters; else as the benchmark says.
    """
    needs = benchmark.needs
    asked = (evaluate.cells[number].view or evaluate.view) if needs.clips else None
    return asked or needs.view


def view_note(evaluate: EvaluateConfig, number: int, benchmark: Benchmark) -> str | None:
    """That ``evaluate.view`` goes before what the protocol itself says of views; None if not so."""
    needs, general = benchmark.needs, evaluate.view
    if evaluate.cells[number].view is not None or general is None or not needs.clips:
        return None
    own = needs.view.model_dump(mode="json", exclude_unset=True)
    if own.items() <= general.model_dump(mode="json").items():
        return None
    said = ", ".join(f"{name} {value}" for name, value in own.items())
    return (
        f"clips are cut as evaluate.view says, not as this protocol does ({said}); set the cell's "
        "view to choose"
    )


def cell_notes(evaluate: EvaluateConfig, number: int, benchmark: Benchmark) -> tuple[str, ...]:
    """What there is to say of the recipe's cell ``number``, which can be made all the same."""
    notes = (make(evaluate, number, benchmark) for make in (view_note, same_split_note))
    return tuple(note for note in notes if note is not None)


def same_split_note(evaluate: EvaluateConfig, number: int, benchmark: Benchmark) -> str | None:
    """That a benchmark is tested on what it has learned from; None if not so.

    No problem: where only the cost matters, one split may do for both.
    """
    needs, cell = benchmark.needs, evaluate.cells[number]
    if not needs.train or needs.groups or cell.learned_split != cell.test_split:
        return None
    return (
        f"evaluate.cells.{number} learns from split {cell.test_split!r} and is tested on the same "
        "samples, labels and all: its score says nothing of others; set train_split or test_split "
        "to another split"
    )


def cell_problems(
    evaluate: EvaluateConfig, number: int, benchmark: Benchmark, model: ModelConfig | None = None
) -> Iterator[str]:
    """What is wrong with the recipe's cell ``number``, whatever the data.

    Args:
        evaluate: the recipe's section.
        number: of the cell.
        benchmark: the cell's, with its settings.
        model: that will be evaluated, where that is known.
    """
    needs, cell = benchmark.needs, evaluate.cells[number]
    if cell.processes > 1 and not needs.trains:
        yield (
            f"evaluate.cells.{number}.processes={cell.processes}: {benchmark.name} trains nothing "
            "through the encoder, and runs in one process; remove it"
        )
    if cell.examples is not None and (not needs.train or needs.groups):
        yield (
            f"evaluate.cells.{number}.examples: {benchmark.name} as it is set has no training "
            "split of which it could take a part; remove it"
        )
    if needs.groups:
        yield from _group_problems(evaluate, number)
    view = chosen_view(evaluate, number, benchmark)
    if needs.tokens and view.views > 1:
        yield (
            f"evaluate.cells.{number}.view: {benchmark.name} reads a feature of each token, which "
            f"are kept of one view of a video, not of {view.views}; remove segments and crops"
        )
    if model is not None and not needs.encoder:
        yield from _shape_problems(evaluate, number, benchmark, model)


class SplitContent:
    """What the samples of a split bring, looked up once for all who ask."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def test_obstacle(self, needs: Needs) -> str | None:
        """Why samples cannot be scored, in words; None if they can."""
        if obstacle := self.train_obstacle(needs):
            return obstacle
        if needs.groups and self._group_obstacle is not None:
            return self._group_obstacle
        if needs.masks and not self._has_masks:
            return f"{self._name} has no object masks"
        return None

    def train_obstacle(self, needs: Needs, *, is_drawn: bool = False) -> str | None:
        """Why nothing can be learned from samples; None if it can.

        With ``is_drawn``, from so many of each class.
        """
        if not len(self._index):
            return f"{self._name} is empty"
        has_classes = (self._index.labels >= 0).any()
        if needs.labels and not has_classes:
            return f"{self._name} has no class labels"
        if needs.all_labels and not self._has_labels:
            return f"{self._name} has no class labels, neither one nor several of a sample"
        if is_drawn and not has_classes:
            return f"{self._name} has no samples of one class, which examples are drawn by"
        if needs.boxes and not self._has_boxes:
            return f"{self._name} has no annotation with boxes of persons by second"
        if needs.cycles and not self._has_cycles:
            return f"{self._name} has no annotation with boundaries of cycles"
        return None

    @property
    def _name(self) -> str:
        return f"split {self._index.ref.split!r} of dataset {self._index.ref.name!r}"

    @cached_property
    def _has_labels(self) -> bool:
        return self._index.has_labels()

    @cached_property
    def _has_boxes(self) -> bool:
        return any(map(has_boxes, self._index.annotations()))

    @cached_property
    def _has_cycles(self) -> bool:
        return any(cycle_boundaries(each) is not None for each in self._index.annotations())

    @cached_property
    def _has_masks(self) -> bool:
        return self._index.has_masks()

    @cached_property
    def _group_obstacle(self) -> str | None:
        """Why the labelled samples, of which there are some, cannot be split by group."""
        counted = zip(self._index.rows, self._index.labels >= 0, strict=True)
        groups = [row.group for row, is_labelled in counted if is_labelled]
        samples = f"labelled samples of {self._name}"
        if lacking := groups.count(None):
            return f"{lacking} of {len(groups)} {samples} have no group"
        if len(set(groups)) < 2:
            return f"all {len(groups)} {samples} are of group {groups[0]!r}"
        return None


def _group_problems(evaluate: EvaluateConfig, number: int) -> Iterator[str]:
    cell, supervised = evaluate.cells[number], evaluate.supervised
    read = cell.dataset, cell.test_split
    if cell.learned_split != cell.test_split:
        yield (
            f"evaluate.cells.{number}: leave_one_group_out takes one split, but train_split is "
            f"{cell.learned_split!r} and test_split {cell.test_split!r}; set both to the split "
            "whose groups are to be left out"
        )
    elif supervised is not None and (supervised.dataset, supervised.split) == read:
        yield (
            f"evaluate.supervised: trains on {'/'.join(read)}, so that it would know the labels of "
            f"each group that evaluate.cells.{number} leaves out; take another dataset or split, "
            "or remove evaluate.supervised"
        )


def _shape_problems(
    evaluate: EvaluateConfig, number: int, benchmark: Benchmark, model: ModelConfig
) -> Iterator[str]:
    view, needs = chosen_view(evaluate, number, benchmark), benchmark.needs
    if view.num_frames is not None and (problem := frames_problem(view.num_frames, model)):
        is_general = evaluate.cells[number].view is None and evaluate.view is not None
        key = "evaluate.view" if is_general else f"evaluate.cells.{number}.view"
        yield f"{key}.num_frames: {problem}"
    if needs.tokens and (problem := layer_problem(needs.layer, model)):
        yield f"evaluate.cells.{number}.settings: {problem}"


def frames_problem(num_frames: int, model: ModelConfig) -> str | None:
    """Why the encoder does not take clips of so many frames; None if it does."""
    if num_frames % model.tubelet_frames or num_frames > model.num_frames:
        return (
            f"clips of {num_frames} frames are not for this model: it takes multiples of "
            f"model.tubelet_frames={model.tubelet_frames} up to "
            f"model.num_frames={model.num_frames}"
        )
    return None


def layer_problem(layer: int, model: ModelConfig) -> str | None:
    """Why the encoder has no tokens of ``layer``; None if it has."""
    depth = model.encoder.depth
    if not -depth <= layer <= -1:
        return (
            f"there is no layer {layer}: the encoder's {depth} blocks are -{depth} to -1; take one "
            "of them"
        )
    return None
