"""Objects that were found in a clip, beside those that are there: as a sheet and as a video."""

import tempfile
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.jobs.object_overlay import overlaid
from sigma_pipeline.jobs.page import FONT, GAP_PX, LINE_PX, TEXT, blank_page, png, text_width

_MAX_TILES = 8
_COLUMNS = 4
_TILE_PX = 200
"""The longer side of a frame of the sheet."""
_BLOCK_GAP_PX = 10
_VIDEO_CRF = 20
_VIDEO_GOP_FRAMES = 16

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ShownObjects:
    """A clip with objects in it."""

    heading: str
    numbers: tuple[int, ...]
    """Of the frames in their video."""
    frames: Pixels
    """[frames, height, width, 3]; height and width are even."""
    truth: Pixels | None
    """[frames, height, width] ids; None where nobody said what is there."""
    found: Pixels
    """[frames, height, width] ids."""
    fps: float
    """At which these frames show the clip as fast as it is; 0: unknown."""


def draw_sheet(shown: ShownObjects) -> bytes:
    """A PNG file of a few frames: the truth above, where it is known, what was found below."""
    places = np.unique(np.linspace(0, len(shown.frames) - 1, _MAX_TILES).round().astype(np.int64))
    layers = _layers(shown)
    height, width = _tile_size(shown.frames)
    columns = min(_COLUMNS, len(places))
    lines = [shown.heading, f"rows: {', '.join(layers)}"]
    top = GAP_PX + LINE_PX * len(lines)
    step = len(layers) * (height + GAP_PX) + LINE_PX + _BLOCK_GAP_PX
    page_width = max(columns * (width + GAP_PX), text_width(*lines)) + GAP_PX
    page, pen = blank_page(page_width, top + step * ceil(len(places) / columns))
    for number, line in enumerate(lines):
        pen.text((GAP_PX, GAP_PX + number * LINE_PX), line, TEXT, FONT)
    for slot, place in enumerate(places.tolist()):
        left = GAP_PX + slot % columns * (width + GAP_PX)
        down = top + slot // columns * step
        for layer in layers.values():
            page.paste(Image.fromarray(layer[place]).resize((width, height)), (left, down))
            down += height + GAP_PX
        pen.text((left, down - GAP_PX), f"frame {shown.numbers[place]}", TEXT, FONT)
    return png(page)


def overlay_video(shown: ShownObjects) -> bytes:
    """An mp4 file (h264) of all frames: the truth at the left, where it is known."""
    frames = np.concatenate(list(_layers(shown).values()), axis=2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "overlay.mp4"
        write_video(path, frames, shown.fps, _VIDEO_CRF, _VIDEO_GOP_FRAMES)
        return path.read_bytes()


def _layers(shown: ShownObjects) -> dict[str, Pixels]:
    """What is shown of every frame, by name: [frames, height, width, 3] each."""
    layers = {"truth": shown.truth, "prediction": shown.found}
    return {
        name: overlaid(shown.frames, objects)
        for name, objects in layers.items()
        if objects is not None
    }


def _tile_size(frames: Pixels) -> tuple[int, int]:
    """Height and width of frames [frames, height, width, 3] in a sheet."""
    height, width = frames.shape[1:3]
    scale = _TILE_PX / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))
