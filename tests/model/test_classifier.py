"""Fine-tuning's model: the published names, the published head, and the mean token."""

import pytest
import torch
from torch import Tensor, nn

from sigma_pipeline.model.checkpoint_files import untrained_encoder
from sigma_pipeline.model.classifier import ClassHead, VideoClassifier
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.stochastic_depth import branch_scales


@pytest.fixture
def model(config: ModelConfig) -> VideoClassifier:
    return VideoClassifier(untrained_encoder(config), num_classes=5, seed=0)


def test_parameters_are_the_published_ones_without_the_final_norm(
    model: VideoClassifier, config: ModelConfig
) -> None:
    encoder = {f"encoder.{name}" for name in untrained_encoder(config).state_dict()}

    names = set(model.state_dict())

    assert encoder - names == {"encoder.norm.weight", "encoder.norm.bias"}
    assert names - encoder == {
        f"classifier.{part}.{kind}" for part in ("fc_norm", "head") for kind in ("weight", "bias")
    }


def test_the_head_begins_near_zero_as_its_seed_says() -> None:
    head, same, other = ClassHead(400, 50, 0), ClassHead(400, 50, 0), ClassHead(400, 50, 1)

    assert 1e-5 < head.head.weight.std() < 3e-5
    assert not head.head.bias.any()
    assert torch.equal(head.head.weight, same.head.weight)
    assert not torch.equal(head.head.weight, other.head.weight)


def test_scores_are_those_of_the_normalized_mean_of_unnormalized_tokens(
    model: VideoClassifier, clip: Tensor
) -> None:
    with torch.no_grad():
        tokens = model.encoder.encode_unnormalized(clip)
        features = nn.functional.layer_norm(tokens.flatten(1, 3).mean(1), (48,), eps=1e-6)
        expected = features @ model.classifier.head.weight.T

        scores = model(clip)

    assert tokens.flatten(1, 3).mean(1).std() != pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-6)


def test_what_is_left_out_while_training_changes_the_scores(
    model: VideoClassifier, config: ModelConfig, clip: Tensor
) -> None:
    deep = config.model_copy(update={"drop_path": 0.9})
    half = torch.ones(len(clip), 48)
    half[:, ::2] = 0

    with torch.no_grad():
        whole, without_features = model(clip), model(clip, None, half)
        without_blocks = model(clip, branch_scales(deep, range(len(clip))))

    assert not torch.allclose(whole, without_features, atol=1e-6)
    assert not torch.allclose(whole, without_blocks, atol=1e-6)
