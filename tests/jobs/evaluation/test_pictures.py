"""Pictures: what is drawn where."""

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from sigma_pipeline.data_prep.config import ViewConfig
from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.drawing import PictureContent, draw_png, prototype_colour
from sigma_pipeline.jobs.encoders import committed_encoder
from sigma_pipeline.jobs.pictures import (
    VISIBLE,
    PictureRequest,
    assigned_prototypes,
    make_picture,
)
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.masking import tube_masks
from sigma_pipeline.model.sigma import build_sigma


@pytest.fixture
def request_(add_commit: Callable[..., Commit]) -> PictureRequest:
    return PictureRequest(
        run_name="r1",
        source=committed_encoder(add_commit(0)),
        ref=DatasetRef("squares", "val", "v1"),
        view=ViewConfig(frame_stride=2, crop="resize"),
        seed=0,
    )


def _pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_a_picture_is_drawn_once_and_the_same_each_time(
    storage: Storage, request_: PictureRequest
) -> None:
    make_picture(storage, request_)
    first = storage.read(request_.key)
    storage.delete(request_.key)
    make_picture(storage, request_)

    assert storage.read(request_.key) == first
    assert _pixels(first).shape[2] == 3
    storage.write(request_.key, b"there")
    make_picture(storage, request_)
    assert storage.read(request_.key) == b"there"


def test_other_weights_are_another_picture(
    request_: PictureRequest, add_commit: Callable[..., Commit]
) -> None:
    other = replace(request_, source=committed_encoder(add_commit(0, attempt="a22")))

    assert other.key != request_.key


def test_an_objective_without_prototypes_still_has_a_picture(
    storage: Storage, request_: PictureRequest, add_commit: Callable[..., Commit]
) -> None:
    values = dict(request_.source.model)
    values |= {"objective": "l2", "target": {"kind": "pixels"}}
    model = ModelConfig.model_validate(values)
    source = committed_encoder(add_commit(5, model=model))
    pixels = replace(request_, source=source)

    make_picture(storage, request_)
    make_picture(storage, pixels)

    heights = [len(_pixels(storage.read(one.key))) for one in (request_, pixels)]
    assert heights[0] - heights[1] == 2 * (96 + 3)  # two rows fewer


def test_exactly_the_hidden_tubelets_have_prototypes(request_: PictureRequest) -> None:
    config = request_.source.model_config
    clips = torch.randint(256, (3, 3, 4, 32, 32), dtype=torch.uint8)
    mask = tube_masks(config, [1, 2, 3])

    branches = assigned_prototypes(build_sigma(config, seed=0), clips, mask)

    for branch in branches:
        assert branch.shape == (3, 2, 4, 4)
        hidden = mask.view(3, 1, 4, 4).expand_as(branch)
        assert torch.equal(branch != VISIBLE, hidden)
        assert branch.max() < config.prototypes


def test_hidden_patches_show_grey_and_then_the_colour_of_their_prototype() -> None:
    hidden = np.zeros((1, 2, 2), dtype=bool)
    hidden[0, 0, 0] = True
    content = PictureContent(
        heading="",
        titles=["clip"],
        frames=np.full((1, 1, 8, 8, 3), 200, dtype=np.uint8),
        hidden=hidden,
        assignments={"target": np.where(hidden[:, None], 7, -1)},
    )

    pixels = _pixels(draw_png(content))

    left, top, tile, gap = 84, 40, 96, 3
    corners = [pixels[top + row * (tile + gap) + 10, left + 10].tolist() for row in range(3)]
    assert corners == [[200] * 3, [128] * 3, list(prototype_colour(7))]
    visible = pixels[top + 2 * (tile + gap) + 80, left + 80]
    assert visible.min() > 200  # faded


def test_colours_never_change_and_differ() -> None:
    assert prototype_colour(7) == prototype_colour(7)
    assert len({prototype_colour(number) for number in range(200)}) > 195
