"""The decoder: its answers belong to the tokens that were asked for."""

import pytest
import torch
from torch import Tensor

from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.decoder import Decoder

Question = tuple[Tensor, Tensor, Tensor, Tensor]


@pytest.fixture
def decoder(config: ModelConfig) -> Decoder:
    return Decoder(config, out_dim=5)


@pytest.fixture
def question() -> Question:
    """Features of 6 tokens, the mask token, their numbers, and 3 numbers to predict."""
    features, mask_token = torch.randn(2, 6, 32), torch.randn(1, 1, 32)
    visible, hidden = torch.arange(6).expand(2, -1), torch.tensor([[9, 20, 63], [10, 11, 12]])
    return features, mask_token, visible, hidden


def test_only_the_hidden_tokens_are_predicted(decoder: Decoder, question: Question) -> None:
    assert decoder(*question).shape == (2, 3, 5)


def test_answers_keep_the_order_of_the_questions(decoder: Decoder, question: Question) -> None:
    features, mask_token, visible, hidden = question

    swapped = decoder(features, mask_token, visible, hidden.flip(1))

    torch.testing.assert_close(swapped.flip(1), decoder(*question))


def test_hidden_tokens_are_told_apart_by_their_position(
    decoder: Decoder, question: Question
) -> None:
    answers = decoder(*question)

    assert not torch.allclose(answers[0, 0], answers[0, 1], atol=1e-3)


def test_visible_tokens_are_told_apart_by_their_position(
    decoder: Decoder, question: Question
) -> None:
    features, mask_token, visible, hidden = question

    moved = decoder(features, mask_token, visible.flip(1), hidden)

    assert not torch.allclose(moved, decoder(*question), atol=1e-4)
