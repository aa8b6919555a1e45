"""Figures of benchmarks as files that one can look at: PNG pictures and mp4 videos."""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from sigma_pipeline.data_prep.augment import Crop, centre_square, even
from sigma_pipeline.data_prep.config import ViewConfig
from sigma_pipeline.data_prep.frames import FrameReader
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.masks import NO_MASK, load_masks
from sigma_pipeline.data_prep.rows import SampleRow
from sigma_pipeline.data_prep.verdicts import BadSample
from sigma_pipeline.data_prep.view_plans import view_crops, view_frames
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.benchmarks.figures import (
    ClassBars,
    Confusion,
    Counts,
    Figure,
    Neighbours,
    Overlay,
    SelfSimilarity,
)
from sigma_pipeline.jobs.decoded import ClipShape
from sigma_pipeline.jobs.figure_class_bars import draw_class_bars
from sigma_pipeline.jobs.figure_confusion import draw_confusion
from sigma_pipeline.jobs.figure_counts import (
    ShownCycles,
    draw_counts,
    draw_cycles,
    thumbnail_frames,
)
from sigma_pipeline.jobs.figure_neighbours import (
    TILE_PX,
    ShownClip,
    ShownNeighbours,
    draw_neighbours,
)
from sigma_pipeline.jobs.figure_overlay import ShownObjects, draw_sheet, overlay_video
from sigma_pipeline.jobs.object_overlay import resized_objects

_OVERLAY_PX = 480
"""The longer side of a video's frames."""

Pixels = npt.NDArray[np.uint8]


def draw_figures(
    storage: Storage,
    figures: Sequence[Figure],
    train: Index | None,
    test: Index,
    shape: ClipShape,
) -> dict[str, bytes]:
    """Each figure as one file or two, by name.

    Args:
        storage: holds the videos.
        figures: of one result.
        train: the split that neighbours are from; None where there is none.
        test: the split that was scored.
        shape: how its clips were cut.

    Returns:
        ``confusion.png``, ``class_bars.png``, ``counts.png``, ``neighbours.png``,
        ``<key>-cycles.png``, ``<key>-<title>.png`` and ``<key>-<title>.mp4``.

    Raises:
        StageError: a sample cannot be read.
    """
    files: dict[str, bytes] = {}
    for figure in figures:
        match figure:
            case Confusion():
                files["confusion.png"] = draw_confusion(figure, test.classes)
            case ClassBars():
                files["class_bars.png"] = draw_class_bars(figure, test.classes)
            case Counts():
                files["counts.png"] = draw_counts(figure)
            case SelfSimilarity():
                shown = _shown_cycles(_Samples(storage, test, [figure.key]), figure)
                files[f"{figure.key}-cycles.png"] = draw_cycles(shown)
            case Neighbours() if figure.queries:
                assert train is not None, "neighbours are samples of the training split"
                queries = _Samples(storage, test, figure.queries)
                bank = _Samples(storage, train, {key for row in figure.neighbours for key in row})
                rows = list(_shown_neighbours(figure, queries, bank, shape))
                files["neighbours.png"] = draw_neighbours(rows)
            case Overlay():
                objects = _shown_objects(_Samples(storage, test, [figure.key]), figure, shape.view)
                stem = f"{figure.key}-{figure.title}"
                files[f"{stem}.png"] = draw_sheet(objects)
                files[f"{stem}.mp4"] = overlay_video(objects)
    return files


class _Samples:
    """Some samples of a split, by key."""

    def __init__(self, storage: Storage, index: Index, keys: Collection[str]) -> None:
        """Looks the samples up."""
        self._storage = storage
        self._index = index
        self._reader = FrameReader(storage, index)
        self._places = index.places(keys)

    def row(self, key: str) -> SampleRow:
        """All that is known of a sample."""
        return self._index.row(self._places[key])

    def frames(self, key: str, numbers: Sequence[int], area: Crop, size: tuple[int, int]) -> Pixels:
        """An area of some frames of a sample, resized: [frames, height, width, 3].

        Raises:
            StageError: the sample cannot be read.
        """
        try:
            clip = self._reader.clips(self._places[key], np.array(numbers), [area], size)[0]
        except BadSample as error:
            raise StageError(str(error)) from error
        return clip.permute(1, 2, 3, 0).numpy()

    def glance(self, key: str, shape: ClipShape) -> ShownClip:
        """First, middle and last frame of the clip of a sample that the encoder sees."""
        place, view = self._places[key], shape.view.single
        source = self._index.source(place)
        (numbers,) = view_frames(source.frames, shape.num_frames, view, place)
        some = np.unique(numbers[[0, len(numbers) // 2, -1]]).tolist()
        (area,) = view_crops(source.height, source.width, view)
        name = self._index.classes[source.label] if source.label >= 0 else None
        return ShownClip(self.frames(key, some, area, (TILE_PX, TILE_PX)), name)

    def objects(
        self, key: str, numbers: Sequence[int], view: ViewConfig, size: tuple[int, int]
    ) -> Pixels | None:
        """The ids of what is known to be there, as ``view`` cuts it; None where nothing is."""
        if not self.row(key).mask_members:
            return None
        masks = load_masks(
            self._storage,
            self._index,
            self._places[key],
            numbers,
            frame_size_px=max(size),
            crop=view.crop,
        )
        return resized_objects(masks, *size) if (masks != NO_MASK).any() else None


def _shown_neighbours(
    figure: Neighbours, queries: _Samples, bank: _Samples, shape: ClipShape
) -> Iterator[ShownNeighbours]:
    for query, keys, similarity in zip(
        figure.queries, figure.neighbours, figure.similarity, strict=True
    ):
        neighbours = [bank.glance(key, shape) for key in keys]
        yield ShownNeighbours(queries.glance(query, shape), neighbours, similarity)


def _shown_objects(samples: _Samples, figure: Overlay, view: ViewConfig) -> ShownObjects:
    row, numbers = samples.row(figure.key), tuple(figure.frames)
    # A whole frame that was squashed to a square is shown as it is.
    shown = ViewConfig(crop="resize" if figure.is_whole_frame else view.crop)
    (area,) = view_crops(row.height, row.width, shown)
    size = _even_size(area)
    spacing = float(np.median(np.diff(numbers))) if len(numbers) > 1 else 1.0
    return ShownObjects(
        heading=f"{figure.title}: {row.key} from {row.source}",
        numbers=numbers,
        frames=samples.frames(figure.key, numbers, area, size),
        truth=samples.objects(figure.key, numbers, shown, size),
        found=resized_objects(figure.objects, *size),
        fps=row.fps / max(spacing, 1.0),
    )


def _shown_cycles(samples: _Samples, figure: SelfSimilarity) -> ShownCycles:
    row = samples.row(figure.key)
    numbers = [min(figure.first + frame, row.frames - 1) for frame in thumbnail_frames(figure)]
    area = centre_square(row.height, row.width)
    frames = samples.frames(figure.key, numbers, area, (TILE_PX, TILE_PX))
    return ShownCycles(row.source, figure, frames)


def _even_size(area: Crop) -> tuple[int, int]:
    """Height and width that an area is shown at; videos with few colours want even ones."""
    scale = min(1.0, _OVERLAY_PX / max(area.height, area.width))
    return max(2, even(round(area.height * scale))), max(2, even(round(area.width * scale)))
