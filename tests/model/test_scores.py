"""Scores: cosines, in enough precision, part by part."""

import pytest
import torch
import torch.nn.functional as F

from sigma_pipeline.model import scores as scores_module
from sigma_pipeline.model.scores import CosineScores, cosine_scores, joined_scores, row_parts


def unit_rows(rows: int, dim: int) -> torch.Tensor:
    return F.normalize(torch.randn(rows, dim), dim=1)


def test_scores_are_cosines_whatever_the_length_of_the_features() -> None:
    prototypes = torch.tensor([[1.0, 0.0], [0.0, 1.0]])

    scores = cosine_scores(torch.tensor([[3.0, 4.0], [-0.1, 0.0]]), prototypes)

    torch.testing.assert_close(scores.matrix(), torch.tensor([[0.6, 0.8], [-1.0, 0.0]]))


def test_scores_are_float32_inside_autocast() -> None:
    features, prototypes = torch.randn(16, 8), unit_rows(4, 8)

    with torch.autocast("cpu", torch.bfloat16):
        scores = cosine_scores(features, prototypes).matrix()

    assert torch.equal(scores, cosine_scores(features, prototypes).matrix())


def test_half_precision_features_are_scored_in_float32() -> None:
    scores = cosine_scores(torch.randn(3, 8).bfloat16(), unit_rows(4, 8))

    assert scores.matrix().dtype is torch.float32


def test_float64_is_kept() -> None:
    assert cosine_scores(torch.ones(1, 2).double(), torch.ones(1, 2).double()).dtype == torch.double


def test_a_feature_of_length_zero_is_like_nothing() -> None:
    assert not cosine_scores(torch.zeros(1, 4), unit_rows(3, 4)).matrix().any()


def test_joined_scores_are_those_of_the_parts_below_each_other() -> None:
    prototypes = unit_rows(4, 8)
    parts = [cosine_scores(torch.randn(rows, 8), prototypes) for rows in (3, 5)]

    joined = joined_scores(parts)

    assert joined.shape == (8, 4)
    torch.testing.assert_close(joined.matrix(), torch.cat([part.matrix() for part in parts]))


@pytest.mark.parametrize("part_bytes", [1, 100, 10**9])
def test_parts_cover_every_row_once(part_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores_module, "CPU_PART_BYTES", part_bytes)
    scores = CosineScores(unit_rows(23, 4), unit_rows(5, 4))

    parts = [scores[rows] for rows in row_parts(scores)]

    torch.testing.assert_close(torch.cat(parts), scores.matrix())
    assert all(part.nbytes <= max(part_bytes, 5 * 4) for part in parts)
