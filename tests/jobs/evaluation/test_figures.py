"""Figures of real results: which frames of which samples are shown."""

import io

import av
import numpy as np
import pytest
from PIL import Image

from sigma_pipeline.data_prep.config import MultiViewConfig, ViewConfig
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.benchmarks.figures import Confusion, Neighbours, Overlay
from sigma_pipeline.jobs.decoded import ClipShape
from sigma_pipeline.jobs.figure_neighbours import TILE_PX
from sigma_pipeline.jobs.figures import draw_figures
from tests.jobs.evaluation.squares import COLOURS, SIZE

SHAPE = ClipShape(ViewConfig(frame_stride=2, crop="resize"), num_frames=4, frame_size_px=SIZE)


@pytest.fixture
def train(storage: Storage) -> Index:
    return Index.load(storage, DatasetRef("squares", "train", "v1"))


@pytest.fixture
def test(storage: Storage) -> Index:
    return Index.load(storage, DatasetRef("squares", "val", "v1"))


def overlay(test: Index, number: int, objects: np.ndarray, *, is_whole_frame: bool) -> Overlay:
    return Overlay(test.row(number).key, "hungarian", [1, 3, 5], objects, is_whole_frame)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)


def test_a_figure_of_each_kind_is_a_file_of_its_own(
    storage: Storage, train: Index, test: Index
) -> None:
    figures = (
        Confusion([0, 1, 2], [0, 1, 1]),
        Neighbours(["val-0"], [["train-3", "train-1"]], [[0.9, 0.8]]),
        overlay(test, 2, np.ones((3, SIZE, SIZE), dtype=np.uint8), is_whole_frame=True),
    )

    files = draw_figures(storage, figures, train, test, SHAPE)

    names = ["confusion.png", "neighbours.png", "val-2-hungarian.mp4", "val-2-hungarian.png"]
    assert sorted(files) == names
    assert draw_figures(storage, figures, train, test, SHAPE) == files


@pytest.mark.parametrize("view", [SHAPE.view, MultiViewConfig(segments=2, crops=3)])
def test_neighbours_are_shown_by_their_own_frames(
    storage: Storage, train: Index, test: Index, view: ViewConfig
) -> None:
    figure = Neighbours(["val-0"], [["train-2"]], [[0.9]])  # red, and blue

    shape = ClipShape(view, 4, SIZE)
    page = pixels(draw_figures(storage, [figure], train, test, shape)["neighbours.png"])

    def colourful(left: int) -> np.ndarray:
        strip = page[52 : 52 + TILE_PX, left : left + 3 * TILE_PX]
        found: np.ndarray = strip[np.ptp(strip, axis=-1) > 120].mean(axis=0)
        return found

    query, neighbour = colourful(8), colourful(8 + 3 * TILE_PX + 8 + 24)
    assert np.abs(query - COLOURS[0]).max() < 40
    assert np.abs(neighbour - COLOURS[2]).max() < 40


def test_the_truth_is_laid_over_the_object_and_the_prediction_where_it_was_found(
    storage: Storage, train: Index, test: Index
) -> None:
    found = np.zeros((3, SIZE // 2, SIZE // 2), dtype=np.uint8)
    found[:, :, :2] = 2

    files = draw_figures(
        storage, [overlay(test, 0, found, is_whole_frame=False)], train, test, SHAPE
    )

    with av.open(io.BytesIO(files["val-0-hungarian.mp4"])) as container:
        video = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode()]
        assert float(container.streams.video[0].average_rate or 0) == 5  # every other of 10
    assert [frame.shape for frame in video] == [(SIZE, 2 * SIZE, 3)] * 3
    truth, prediction = video[0][:, :SIZE], video[0][:, SIZE:]
    is_red = (truth[..., 0] > 130) & (truth[..., 1] < 60)
    assert is_red.mean() == pytest.approx(1 / 4, abs=0.08)  # all of the square, nothing else
    greener = prediction[..., 1] - prediction[..., [0, 2]].mean(axis=-1)
    assert greener[:, :3].mean() > greener[:, 6:].mean() + 30


def test_a_sample_whose_shard_is_cut_off_is_named(
    storage: Storage, train: Index, test: Index
) -> None:
    key = f"{test.ref.prefix}/shard-000000.a.tar"
    storage.write(key, storage.read(key)[:100])

    figure = overlay(test, 3, np.ones((3, 8, 8), dtype=np.uint8), is_whole_frame=True)
    with pytest.raises(StageError, match="val-3"):
        draw_figures(storage, [figure], train, test, SHAPE)
