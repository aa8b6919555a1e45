"""Scores of boxes: each sees its own place, and all else is as in the classifier of clips."""

import pytest
import torch

from sigma_pipeline.model.box_classifier import BoxClassifier
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.encoder import Encoder
from tests.tiny import TINY_MODEL

CONFIG = ModelConfig.model_validate(TINY_MODEL)
HALVES = torch.tensor([[[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]]])


@pytest.fixture
def clip() -> torch.Tensor:
    """One of noise."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (1, 3, 4, 32, 32), dtype=torch.uint8, generator=generator)


def model(slices: str = "mean") -> BoxClassifier:
    torch.manual_seed(0)
    return BoxClassifier(Encoder(CONFIG), 5, seed=0, slices=slices).eval()  # type: ignore[arg-type]


def test_a_box_has_the_strongest_value_of_the_tokens_in_it(clip: torch.Tensor) -> None:
    boxes = model()

    tokens = boxes.encoder.encode_unnormalized(clip).mean(dim=1)[0]  # [4, 4, dim]
    scores = boxes(clip, HALVES)[0]

    # Parts of 7 x 7 lie between the 4 x 4 tokens, so that a box sees its neighbours, too.
    whole = boxes(clip, torch.tensor([[[0.0, 0.0, 1.0, 1.0]]]))[0, 0]
    corner = boxes(clip, torch.tensor([[[0.0, 0.0, 0.01, 0.01]]]))[0, 0]
    torch.testing.assert_close(corner, boxes.classifier(tokens[0, 0]))
    assert not torch.equal(scores[0], scores[1])
    assert not torch.equal(scores[0], whole)


def test_boxes_do_not_see_each_other(clip: torch.Tensor) -> None:
    boxes = model()

    both, right = boxes(clip, HALVES), boxes(clip, HALVES[:, 1:])

    torch.testing.assert_close(both[:, 1:], right)


def test_the_maximum_over_time_is_another_map(clip: torch.Tensor) -> None:
    mean, strongest = model("mean"), model("max")

    assert not torch.equal(mean(clip, HALVES), strongest(clip, HALVES))


def test_dropout_is_that_of_the_clip_for_all_of_its_boxes(clip: torch.Tensor) -> None:
    boxes = model()

    scores = boxes(clip, HALVES, None, torch.zeros(1, 32))

    torch.testing.assert_close(scores[0, 0], boxes.classifier.head.bias)
    torch.testing.assert_close(scores[0, 1], boxes.classifier.head.bias)
