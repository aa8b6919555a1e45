"""Frame mAP of a file of detections, in AVA's own CSV formats.

    truth:       movie, second, x1, y1, x2, y2, action[, person]
    detections:  movie, second, x1, y1, x2, y2, action, score
    excluded:    movie, second

Corners are parts of width and height, actions count from 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
from numpy.typing import NDArray

from sigma_pipeline.data_prep.catalogues.ava import listed_actions
from sigma_pipeline.infra.errors import ConfigError, MissingInputError
from sigma_pipeline.jobs.benchmarks.frame_map import (
    Detections,
    TrueBoxes,
    average_precision,
    ranked_hits,
    surest_of_frames,
)

_FRAME = {"movie": pa.string(), "second": pa.int32()}
_BOX = {**_FRAME, **dict.fromkeys(("x1", "y1", "x2", "y2"), pa.float64()), "action": pa.int32()}
_DETECTION = {**_BOX, "score": pa.float64()}
_PERSON = {**_BOX, "person": pa.string()}
_SECONDS = 1 << 31
"""More than any movie has."""


@dataclass(frozen=True)
class ScoredDetections:
    """AP of each action, and what it was taken on."""

    precisions: Mapping[str, float]
    """By the name of the action, of those with any true box."""
    absent: Sequence[str]
    """Listed actions without a true box, which are left out of the mean."""
    frames: int
    """With a true box."""
    boxes: int
    """True ones, one for each action of a person."""
    detections: int
    elsewhere: int
    """Detections in movies of which nothing is known; all of them mistakes."""

    @property
    def mean(self) -> float:
        """mAP."""
        return sum(self.precisions.values()) / len(self.precisions)


@dataclass(frozen=True, eq=False)
class _Listed:
    """Boxes of a file, of all actions."""

    frames: NDArray[np.int64]
    """Movie and second in one number."""
    actions: NDArray[np.int32]
    corners: NDArray[np.float64]
    scores: NDArray[np.float64] | None

    def part(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> "_Listed":
        """Those that a mask or numbers choose."""
        scores = None if self.scores is None else self.scores[chosen]
        return _Listed(self.frames[chosen], self.actions[chosen], self.corners[chosen], scores)


def score_detections(
    detections: Path,
    truth: Path,
    *,
    actions: Path | None = None,
    excluded: Path | None = None,
    at_most: int | None = None,
) -> ScoredDetections:
    """Frame mAP at an overlap of a half.

    Args:
        detections: CSV.
        truth: CSV.
        actions: list (``.pbtxt``) of the actions that count; all that ``truth`` has, when absent.
        excluded: CSV of seconds that do not count.
        at_most: keep the surest so many of each frame, as ActivityNet's evaluator does with 50;
            all, when absent, as SlowFast does.

    Raises:
        MissingInputError: a file is not there.
        ConfigError: a file is of another form, or no true box is left.
    """
    movies: dict[str, int] = {}
    there, known = _read_boxes(truth, movies, has_scores=False), len(movies)
    found = _read_boxes(detections, movies, has_scores=True)
    names = _names(actions, there)
    left_out = _read_frames(excluded, movies) if excluded else np.empty(0, dtype=np.int64)
    there, found = (_counting(boxes, names, left_out) for boxes in (there, found))
    if not len(there.frames):
        raise ConfigError(f"{truth} has no box left to be found: check --actions and --excluded")
    if at_most is not None and found.scores is not None:
        found = found.part(surest_of_frames(found.frames, found.scores, at_most))
    present = set(there.actions.tolist())
    return ScoredDetections(
        {
            name: _precision(found, there, number)
            for number, name in names.items()
            if number in present
        },
        [name for number, name in names.items() if number not in present],
        frames=len(np.unique(there.frames)),
        boxes=len(there.frames),
        detections=len(found.frames),
        elsewhere=int((found.frames // _SECONDS >= known).sum()),
    )


def _precision(found: _Listed, there: _Listed, action: int) -> float:
    """AP of one action."""
    found, there = found.part(found.actions == action), there.part(there.actions == action)
    assert found.scores is not None, "detections"
    detections = Detections(found.frames, found.corners, found.scores)
    return average_precision(ranked_hits(detections, TrueBoxes(there.frames, there.corners)))


def _counting(boxes: _Listed, names: Mapping[int, str], left_out: NDArray[np.int64]) -> _Listed:
    counts = np.isin(boxes.actions, list(names)) & ~np.isin(boxes.frames, left_out)
    return boxes.part(counts)


def _names(path: Path | None, there: _Listed) -> dict[int, str]:
    """Actions that count, by number."""
    if path is None:
        return {number: f"action {number}" for number in np.unique(there.actions).tolist()}
    try:
        names = listed_actions(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    if not names:
        raise ConfigError(
            f"{path} lists no action: give one of AVA's lists, such as "
            "ava_action_list_v2.2_for_activitynet_2019.pbtxt"
        )
    return dict(sorted(names.items()))


def _read_boxes(path: Path, movies: dict[str, int], *, has_scores: bool) -> _Listed:
    columns = _DETECTION if has_scores else _truth_columns(path)
    table = _read(path, columns)
    corners = np.stack([table[name].to_numpy() for name in ("x1", "y1", "x2", "y2")], axis=1)
    scores = table["score"].to_numpy() if has_scores else None
    if not np.isfinite(corners).all() or not (scores is None or np.isfinite(scores).all()):
        raise ConfigError(f"{path} has a corner or a score that is no finite number: correct it")
    return _Listed(_frames(table, movies), table["action"].to_numpy(), corners, scores)


def _read_frames(path: Path, movies: dict[str, int]) -> NDArray[np.int64]:
    return _frames(_read(path, _FRAME), movies)


def _frames(table: pa.Table, movies: dict[str, int]) -> NDArray[np.int64]:
    """Movie and second in one number; ``movies`` numbers the movies, and learns new ones."""
    encoded = table["movie"].combine_chunks().dictionary_encode()
    numbers = [movies.setdefault(name, len(movies)) for name in encoded.dictionary.to_pylist()]
    of_rows = np.array(numbers, dtype=np.int64)[encoded.indices.to_numpy()]
    frames: NDArray[np.int64] = of_rows * _SECONDS + table["second"].to_numpy()
    return frames


def _truth_columns(path: Path) -> Mapping[str, pa.DataType]:
    """With or without a person, as its first line has it."""
    try:
        with path.open(encoding="utf-8") as file:
            return _BOX if file.readline().count(",") + 1 == len(_BOX) else _PERSON
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _read(path: Path, columns: Mapping[str, pa.DataType]) -> pa.Table:
    """A CSV file without a header."""
    # One thread, so that a mistake is named with its row.
    options = pc.ReadOptions(column_names=list(columns), use_threads=False)
    convert = pc.ConvertOptions(column_types=columns, null_values=[])
    try:
        with path.open("rb") as file:
            return pc.read_csv(file, options, convert_options=convert)
    except OSError as error:
        raise _unreadable(path, error) from error
    except pa.ArrowInvalid as error:
        raise ConfigError(
            f"{path} is not a CSV file of {', '.join(columns)}: {str(error).splitlines()[0]}"
        ) from error


def _unreadable(path: Path, error: OSError | UnicodeDecodeError) -> MissingInputError:
    reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
    return MissingInputError(f"{path} cannot be read ({reason}): name a file of AVA's form")
