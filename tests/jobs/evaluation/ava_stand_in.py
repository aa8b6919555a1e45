"""A stand-in for AVA, whose movies cannot be had: real clips in its layout, two side by side.

A movie is one second after another, each of two persons, whose boxes are the halves of the frame,
and who do what they do in a clip each. Frames are pictures; lists, boxes and names of actions are
files as AVA has them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

FPS = 10
ACTIONS = {"bend/bow (at the waist)": 1, "hand wave": 69, "jump/leap": 5, "stand": 12}
FIRST_SECOND = 901
_HEADER = "original_vido_id video_id frame_id path labels"
_SIDES = ("0.0,0.0,0.5,1.0", "0.5,0.0,1.0,1.0")
_FOUND_SIDES = ("0.02,0.05,0.49,0.97", "0.51,0.0,0.98,0.95")
_MIDDLE = "0.3,0.0,0.7,1.0"

Frames = NDArray[np.uint8]


@dataclass
class _Split:
    """Lines of the files of a split."""

    frames: list[str] = field(default_factory=lambda: [_HEADER])
    boxes: list[str] = field(default_factory=list)
    predicted: list[str] = field(default_factory=list)


def write_ava(
    root: Path, clips: Mapping[int, Sequence[Path]], *, train_clips: int, predicted: bool = False
) -> dict[str, Any]:
    """Writes the dataset below ``root``; its settings in a recipe.

    Args:
        root: a new folder.
        clips: video files of each action, by its number, as many of each.
        train_clips: so many of each, the first ones, are in training movies, a movie for each, and
            all others in validation movies.
        predicted: whether there are predicted boxes of the validation movies, too: those of the
            persons, a little off, and an unsure one between them.
    """
    (root / "annotations").mkdir(parents=True)
    (root / "frame_lists").mkdir()
    items = (f'item {{\n  name: "{name}"\n  id: {id}\n}}\n' for name, id in ACTIONS.items())
    (root / "annotations/ava_action_list_v2.2_for_activitynet_2019.pbtxt").write_text(
        "".join(items)
    )
    num_clips = len(next(iter(clips.values())))
    parts = {"train": range(train_clips), "val": range(train_clips, num_clips)}
    for split, numbers in parts.items():
        lines = _Split()
        for number in numbers:
            own = {action: _read(paths[number]) for action, paths in clips.items()}
            _write_movie(root, f"{split}_{number:03d}", own, lines)
        (root / f"frame_lists/{split}.csv").write_text("\n".join(lines.frames) + "\n")
        (root / f"annotations/ava_{split}_v2.2.csv").write_text("\n".join(lines.boxes) + "\n")
        (root / f"predicted_{split}.csv").write_text("\n".join(lines.predicted) + "\n")
    options = {"fps": FPS} | ({"predicted_boxes": "predicted_{split}.csv"} if predicted else {})
    return {
        "source": str(root),
        "catalogue": "ava",
        "splits": {split: f"frame_lists/{split}.csv" for split in parts},
        "options": options,
    }


def _write_movie(root: Path, name: str, clips: Mapping[int, Frames], lines: _Split) -> None:
    """A second of each pair of different actions; half a second before the first is black."""
    (root / "frames" / name).mkdir(parents=True)
    pairs = [(one, other) for one in clips for other in clips if one != other]
    blank = np.zeros_like(np.concatenate([next(iter(clips.values()))[0]] * 2, axis=1))
    frames = [blank] * (FPS // 2)
    for place, pair in enumerate(pairs):
        seen = (islice(cycle(clips[action][::2]), FPS) for action in pair)
        frames += [np.concatenate(both, axis=1) for both in zip(*seen, strict=True)]
        second = f"{name},{FIRST_SECOND + place:04d}"
        for person, action in enumerate(pair):
            lines.boxes.append(f"{second},{_SIDES[person]},{action},{person}")
            lines.predicted.append(f"{second},{_FOUND_SIDES[person]},,0.97")
        lines.predicted.append(f"{second},{_MIDDLE},,0.3")
    for number, frame in enumerate(frames):
        path = f"{name}/{name}_{number + 1:06d}.jpg"
        Image.fromarray(frame).save(root / "frames" / path, quality=90)
        lines.frames.append(f'{name} 0 {number} {path} ""')


def _read(path: Path) -> Frames:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
