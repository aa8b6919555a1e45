"""A stand-in for Charades, whose videos cannot be had: real clips in its layout, joined in pairs.

Frames as pictures, lists with the labels of each frame, names of classes; a video is a clip of one
class followed by one of another.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import av
from PIL import Image

FPS = 25.0
_HEADER = "original_vido_id video_id frame_id path labels"
_NAMES = "Charades_v1_classes.txt"


def write_charades(
    root: Path, clips: Mapping[str, Sequence[Path]], train_clips: int
) -> dict[str, Any]:
    """Writes the dataset below ``root``; its settings in a recipe.

    Args:
        root: a new folder.
        clips: video files of each class, as many of each.
        train_clips: so many of each class, the first ones, are joined to training videos, and all
            others to validation videos.
    """
    names = list(clips)
    root.mkdir()
    (root / _NAMES).write_text("".join(f"c{i:03d} {name}\n" for i, name in enumerate(names)))
    num_clips = len(clips[names[0]])
    parts = {"train": range(train_clips), "val": range(train_clips, num_clips)}
    for split, numbers in parts.items():
        lines = [_HEADER]
        for number in numbers:
            for first in range(len(names)):
                second = (first + 1 + number % (len(names) - 1)) % len(names)
                joined = {label: clips[names[label]][number] for label in (first, second)}
                lines += _write_video(root, f"{split}{number:03d}{first:03d}", joined)
        (root / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return {
        "source": str(root),
        "catalogue": "charades",
        "splits": {split: f"{split}.csv" for split in parts},
        "options": {"fps": FPS},
    }


def _write_video(root: Path, name: str, clips: Mapping[int, Path]) -> list[str]:
    """Frames of all ``clips``, by label, one after another; the lines of the list."""
    folder = root / "Charades_v1_rgb" / name
    folder.mkdir(parents=True)
    lines: list[str] = []
    for label, path in clips.items():
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                picture = f"{name}-{len(lines) + 1:06d}.jpg"
                pixels = frame.to_ndarray(format="rgb24")
                Image.fromarray(pixels).save(folder / picture, quality=90)
                lines.append(f'{name} 0 {len(lines)} {name}/{picture} "{label}"')
    return lines
