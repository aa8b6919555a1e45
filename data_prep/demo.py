"""The demo set as a folder of videos, as if somebody had recorded it: what ``demo://`` stands for.

    <folder>/<split>/<motion>/<clip>.mp4
    <folder>/<split>/<motion>/<clip>.json           motion, repetitions, objects
    <folder>/<split>/<motion>/<clip>.masks/<frame>.png   palette images: 0 background, 1..n objects

In videos of kind ``cycles`` the annotation says, as that of UCFRep, the ``count`` of cycles and the
``boundaries`` between them; they have no masks.

Each clip depends only on (seed, split, number of the clip, frames, size): a longer set begins with
the clips of a shorter one, and workers may render in any order.
"""

import colorsys
import fcntl
import json
import logging
import os
import shutil
import tempfile
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sigma_pipeline.data_prep.config import RenderedConfig
from sigma_pipeline.data_prep.demo_motions import MOTIONS, REPEATED_MOTIONS, Motion
from sigma_pipeline.data_prep.demo_scene import Clip, render_clip
from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.identity import fingerprint

log = logging.getLogger(__name__)

RENDERER_VERSION = 1
"""Raised when the same settings render other pictures."""
FPS = 12.0
CRF = 12
"""Textures of a few pixels survive it; about 1 kB a frame at 48 pixels."""
GOP_FRAMES = 12
SPLITS = ("train", "val")
"""Their places are part of each clip's key: append only."""
_CLIPS_PER_TASK = 16
_POOLS = 3
"""A pool of processes ends with the first of them that is killed or crashes."""


@dataclass(frozen=True)
class _Place:
    """One clip of the set: what to draw, and where to write it."""

    folder: Path
    split: str
    number: int
    config: RenderedConfig

    @property
    def motion(self) -> Motion:
        """Motions take turns."""
        motions = _motions(self.config)
        return motions[self.number % len(motions)]


def demo_folder(config: RenderedConfig, scratch_dir: Path) -> Path:
    """The folder in which the set of these settings is, or would be, rendered."""
    settings = {**config.model_dump(mode="json"), "renderer": RENDERER_VERSION}
    return scratch_dir / "demo" / fingerprint(settings)


def render(config: RenderedConfig, folder: Path, workers: int | None = None) -> None:
    """Render the set into ``folder``; nothing happens when it is complete there already.

    The set is rendered beside ``folder`` and renamed, so a folder of that name is always whole.
    One process of a machine renders at a time, and first removes what killed ones have left.

    Args:
        config: how many clips, how long, how large.
        folder: where the set appears, on a disk of this machine; see `demo_folder`.
        workers: processes; as many as the machine has cores when absent.

    Raises:
        StageError: a process was killed or crashed, and so did one of each pool that followed.
    """
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():  # another process may just have finished it
            _render_and_rename(config, folder, workers or os.cpu_count() or 1)


def _render_and_rename(config: RenderedConfig, folder: Path, workers: int) -> None:
    prefix = f".{folder.name}-"
    for abandoned in folder.parent.glob(f"{prefix}*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    try:
        places = _plan(config, unfinished)
        log.info("Rendering %d demo clips into %s", len(places), folder)
        _render_all(places, workers)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _plan(config: RenderedConfig, folder: Path) -> list[_Place]:
    counts = {"train": config.train_clips, "val": config.val_clips}
    for split in SPLITS:
        for motion in _motions(config):
            (folder / split / motion.name).mkdir(parents=True)
    return [
        _Place(folder, split, number, config) for split in SPLITS for number in range(counts[split])
    ]


def _render_all(places: list[_Place], workers: int) -> None:
    """Spawned workers: forking is unsafe where the caller already runs threads."""
    if workers == 1:
        _write_clips(places)
        return
    starts = range(0, len(places), _CLIPS_PER_TASK)
    to_do = [places[start : start + _CLIPS_PER_TASK] for start in starts]
    for _ in range(_POOLS):
        to_do = _render_in_pool(to_do, workers)
        if not to_do:
            return
    raise StageError(
        f"In {_POOLS} attempts with {workers} processes at a time, one of them was killed or "
        "crashed while it rendered demo clips; free memory here, then run the same command again"
    )


def _render_in_pool(to_do: list[list[_Place]], workers: int) -> list[list[_Place]]:
    """Renders what it can.

    Returns:
        What is still to do, because a worker was killed or crashed.
    """
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent) as pool:
        tasks = [(pool.submit(_write_clips, places), places) for places in to_do]
        processes = active_children()
        failed = [places for task, places in tasks if _has_lost_its_process(task)]
    if failed:
        codes = ", ".join(str(process.exitcode) for process in processes)
        log.warning("A process that renders demo clips ended early (exit statuses %s)", codes)
    return failed


def _has_lost_its_process(task: Future[None]) -> bool:
    """Waits for ``task``; raises what it raised itself."""
    try:
        task.result()
    except BrokenProcessPool:
        return True
    return False


def _end_with_parent() -> None:
    """Workers of a killed process would otherwise wait for tasks for ever."""
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _write_clips(places: list[_Place]) -> None:
    for place in places:
        _write_clip(place)


def _write_clip(place: _Place) -> None:
    config, motion = place.config, place.motion
    key = [config.seed, SPLITS.index(place.split) << 32 | place.number]
    draws = np.random.Generator(np.random.Philox(key=key))
    has_cycles = config.kind == "cycles"
    clip = render_clip(motion, draws, config.frames, config.size_px, has_cycles=has_cycles)
    stem = place.folder / place.split / motion.name / f"{motion.name}-{place.number:05d}"
    write_video(stem.with_suffix(".mp4"), clip.frames, FPS, CRF, GOP_FRAMES)
    stem.with_suffix(".json").write_text(json.dumps(_facts(motion, clip), sort_keys=True) + "\n")
    if not has_cycles:
        _write_masks(stem.with_suffix(".masks"), clip)


def _motions(config: RenderedConfig) -> tuple[Motion, ...]:
    return REPEATED_MOTIONS if config.kind == "cycles" else MOTIONS


def _facts(motion: Motion, clip: Clip) -> dict[str, Any]:
    facts = {"motion": motion.name, "objects": clip.num_objects, "repetitions": clip.repetitions}
    if clip.boundaries is None:
        return facts
    return facts | {"count": clip.repetitions, "boundaries": clip.boundaries}


def _write_masks(folder: Path, clip: Clip) -> None:
    folder.mkdir(exist_ok=True)  # a killed worker may have begun it
    palette = _palette(clip.num_objects)
    for number, mask in enumerate(clip.masks):
        image = Image.fromarray(mask, mode="P")
        image.putpalette(palette)
        image.save(folder / f"{number:05d}.png", bits=4)


def _palette(num_objects: int) -> list[int]:
    """Black background, then hues a golden angle apart."""
    hues = [colorsys.hsv_to_rgb(n * 0.618 % 1, 0.8, 1.0) for n in range(num_objects)]
    return [0, 0, 0, *(round(255 * value) for hue in hues for value in hue)]
