"""One demo clip as pixels: textured objects moving over a textured background.

Textures are sums of plane waves, evaluated where they are needed: they move, turn and scale without
interpolation. Every clip draws its own shapes, textures and colours, so no two clips share an
object or a background.

Axes: ``frames height width``; lengths are in frame widths.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sigma_pipeline.data_prep.demo_cycles import draw_cycles
from sigma_pipeline.data_prep.demo_motions import Motion, Path, draw_path, draw_repetitions

Floats = NDArray[np.float32]
"""Single precision: twice as fast, and far finer than a grey level."""

NUM_OBJECTS = (1, 2)
"""Objects in a clip, both included."""
OBJECT_WAVES = (0.5, 1.2)
"""Waves of an object's texture in its diameter."""
BACKGROUND_WAVES = (0.3, 0.8)
"""Waves of a background in the frame."""
WAVES_PER_TEXTURE = 4
EDGE_PX = 1.0
"""Width over which an object's edge fades, against staircases."""


@dataclass(frozen=True)
class Clip:
    """A rendered clip and what is true of it."""

    frames: NDArray[np.uint8]
    """RGB, [frames, height, width, 3]."""
    masks: NDArray[np.uint8]
    """Object ids, [frames, height, width]; 0: background, 1..n: objects, later ones in front."""
    repetitions: int | None
    num_objects: int
    boundaries: tuple[int, ...] | None = None
    """Frames between which the cycles lie, where these are what the clip is about."""


@dataclass(frozen=True)
class _Texture:
    """Colours as a function of a point."""

    waves: Floats
    """[waves, 3]: radians per unit length along x and y, phase in radians."""
    weights: Floats
    """[waves, 3] red, green, blue."""
    colour: Floats
    """[3], mean colour in [0, 1]."""

    def at(self, x: Floats, y: Floats) -> Floats:
        """Colours in about [0, 1], [..., 3]."""
        value = np.broadcast_to(self.colour, (*x.shape, 3)).copy()
        for (along_x, along_y, phase), weight in zip(self.waves, self.weights, strict=True):
            wave: Floats = np.cos(along_x * x + along_y * y + phase)
            value += wave[..., None] * weight
        return value


def _draw_texture(
    draws: np.random.Generator, waves_per_unit: tuple[float, float], contrast: float
) -> _Texture:
    """Waves of all directions; brightness varies more than hue, as in natural pictures."""
    frequency = 2 * np.pi * draws.uniform(*waves_per_unit, WAVES_PER_TEXTURE)
    direction = draws.uniform(0, 2 * np.pi, WAVES_PER_TEXTURE)
    phase = draws.uniform(0, 2 * np.pi, WAVES_PER_TEXTURE)
    waves = np.stack([frequency * np.cos(direction), frequency * np.sin(direction), phase], axis=1)
    brightness = draws.choice([-1.0, 1.0], (WAVES_PER_TEXTURE, 1))
    hue = draws.uniform(-0.5, 0.5, (WAVES_PER_TEXTURE, 3))
    weights = contrast / np.sqrt(WAVES_PER_TEXTURE) * (brightness + hue)
    colour = draws.uniform(0.35, 0.65, 3)
    return _Texture(_single(waves), _single(weights), _single(colour))


@dataclass(frozen=True)
class _Object:
    """A wavy disc with a texture, on a path."""

    path: Path
    texture: _Texture
    lobes: int
    lobe_depth: float
    lobe_phase: float

    def layer(self, size_px: int) -> tuple[Floats, Floats]:
        """Colours [frames, height, width, 3] and opacity [frames, height, width]."""
        centres = _pixel_centres(size_px)
        x = _wrapped(centres[None, None, :] - _per_frame(self.path.x))
        y = _wrapped(centres[None, :, None] - _per_frame(self.path.y))
        radius = _per_frame(self.path.radius)
        cos, sin = _per_frame(np.cos(self.path.angle)), _per_frame(np.sin(self.path.angle))
        own_x = _single((cos * x + sin * y) / radius)
        own_y = _single((cos * y - sin * x) / radius)
        bearing = np.arctan2(own_y, own_x)
        rim = 1 + self.lobe_depth * np.cos(self.lobes * bearing + self.lobe_phase)
        inside_px = (rim - np.hypot(own_x, own_y)) * radius * size_px
        return self.texture.at(own_x, own_y), np.clip(inside_px / EDGE_PX + 0.5, 0, 1)


def _single(values: NDArray[np.float64]) -> Floats:
    return values.astype(np.float32)


def _per_frame(values: NDArray[np.float64]) -> Floats:
    return _single(values)[:, None, None]


def _pixel_centres(size_px: int) -> Floats:
    return _single((np.arange(size_px) + 0.5) / size_px)


def _wrapped(offset: Floats) -> Floats:
    """The shortest way on a frame whose edges meet."""
    return (offset + 0.5) % 1.0 - 0.5


def _draw_object(draws: np.random.Generator, path: Path) -> _Object:
    low, high = OBJECT_WAVES
    return _Object(
        path=path,
        texture=_draw_texture(draws, (low / 2, high / 2), contrast=0.35),
        lobes=int(draws.integers(2, 6)),
        lobe_depth=draws.uniform(0.1, 0.25),
        lobe_phase=draws.uniform(0, 2 * np.pi),
    )


def render_clip(
    motion: Motion,
    draws: np.random.Generator,
    num_frames: int,
    size_px: int,
    *,
    has_cycles: bool = False,
) -> Clip:
    """One clip of ``motion``; everything in it comes from ``draws``.

    With ``has_cycles``, of a motion that repeats, its cycles are of varying length.
    """
    cycles = draw_cycles(draws, num_frames) if has_cycles else None
    repetitions = cycles.count if cycles else draw_repetitions(motion, draws)
    low, high = NUM_OBJECTS
    num_objects = int(draws.integers(low, high + 1))
    centres = _pixel_centres(size_px)
    x, y = np.broadcast_arrays(centres[None, None, :], centres[None, :, None])
    background = _draw_texture(draws, BACKGROUND_WAVES, contrast=0.2).at(x, y)
    picture = np.repeat(background, num_frames, axis=0)
    masks = np.zeros((num_frames, size_px, size_px), np.uint8)
    for identity in range(1, num_objects + 1):
        path = draw_path(motion, draws, num_frames, repetitions, cycles.time if cycles else None)
        colours, opacity = _draw_object(draws, path).layer(size_px)
        picture += opacity[..., None] * (colours - picture)
        masks[opacity > 0.5] = identity
    frames = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    boundaries = cycles.boundaries if cycles else None
    return Clip(frames, masks, repetitions, num_objects, boundaries)
