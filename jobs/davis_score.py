"""Semi-supervised video segmentation by others' masks: J and F of a folder of PNGs."""

from dataclasses import dataclass
from pathlib import Path

from sigma_pipeline.infra.errors import ConfigError, MissingInputError
from sigma_pipeline.jobs.benchmarks.davis_metrics import (
    MIN_FRAMES,
    Ids,
    ObjectScores,
    num_objects,
    object_scores,
)
from sigma_pipeline.jobs.mask_files import frame_files, read_stack, with_binary_as_object


@dataclass(frozen=True)
class ScoredSequence:
    """J and F of every object of a sequence."""

    objects: list[ObjectScores]
    is_binary: bool
    """The annotations were grey masks, with 255 for the one object."""


def score_sequence(results: Path, annotations: Path) -> ScoredSequence:
    """Scores the PNGs in ``results``, named as those in ``annotations``, of one sequence.

    The first and the last frame are not read: they are not scored.

    Raises:
        ConfigError: a file is damaged, of another size, or shows an object there is not.
        MissingInputError: a frame has no result.
    """
    files = frame_files(annotations)
    if len(files) < MIN_FRAMES:
        raise ConfigError(
            f"{annotations} has {len(files)} frames, but the first and the last are not scored: "
            "leave this sequence out with --sequences FILE"
        )
    truth, is_binary = with_binary_as_object(read_stack(list(files.values())))
    objects = num_objects(truth[0])
    if not objects:
        raise ConfigError(
            f"{next(iter(files.values()))} marks no object, so there is nothing to follow: leave "
            "this sequence out with --sequences FILE"
        )
    paths = _result_files(results, list(files)[1:-1])
    predicted = read_stack(paths, truth.shape[1:])
    if is_binary:  # elsewhere 255 is no object, and masks of one object may show nothing else
        predicted, _ = with_binary_as_object(predicted)
    _check_ids(predicted, paths, objects)
    return ScoredSequence(object_scores(predicted, truth[1:-1], objects), is_binary)


def _result_files(results: Path, names: list[str]) -> list[Path]:
    there = frame_files(results)
    missing = [f"{name}.png" for name in names if name not in there]
    if missing:
        raise MissingInputError(
            f"{results / missing[0]} is missing: {len(missing)} of {len(names)} frames to score "
            "have no result; write a PNG per frame, named as its annotation"
        )
    return [there[name] for name in names]


def _check_ids(predicted: Ids, paths: list[Path], objects: int) -> None:
    for ids, path in zip(predicted, paths, strict=True):
        if ids.max() > objects:
            raise ConfigError(
                f"{path} shows object {ids.max()}, but the first annotation ends at {objects}: "
                "write the ids of the annotation, 0 for background"
            )
