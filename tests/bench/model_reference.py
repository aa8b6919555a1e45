"""SIGMA's step written straight down after protocols 1, to measure ours against.

Every tubelet is embedded by a convolution, tokens are taken by boolean masks, attention is a
softmax of a matrix that is written out, Sinkhorn scales its full matrix twice a round, and the
scores of both branches are kept for their gradients. Weights are those of our model.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sigma_pipeline.model.config import SinkhornConfig
from sigma_pipeline.model.patches import IMAGENET_MEAN, IMAGENET_STD
from sigma_pipeline.model.sigma import Sigma
from sigma_pipeline.model.transformer import Attention, Block


class Parts:
    """Seconds by part of a step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Adds the time inside to a part."""
        started_s = time.perf_counter()
        yield
        spent_s = time.perf_counter() - started_s
        self.seconds[name] = self.seconds.get(name, 0) + spent_s


class Reference:
    """The loss of a model's weights, computed the plain way."""

    def __init__(self, model: Sigma) -> None:
        self.model = model
        self.config = model.config

    def loss(self, clip: Tensor, mask: Tensor, parts: Parts) -> Tensor:
        """Of one batch with masks [batch, patches], True: hidden."""
        model, config = self.model, self.config
        hidden = mask[:, None, :].expand(-1, config.num_slices, -1).flatten(1)
        channel = (1, 3, 1, 1, 1)
        mean = torch.tensor(IMAGENET_MEAN).view(channel)
        std = torch.tensor(IMAGENET_STD).view(channel)
        with parts("embedding"):
            pixels = (clip.float() / 255 - mean) / std
            projection = model.encoder.patch_embed.proj
            embedded = F.conv3d(
                pixels, projection.weight, projection.bias, stride=projection.weight.shape[2:]
            )
            tokens = embedded.flatten(2).transpose(1, 2) + model.encoder.positions
            tokens = _taken(tokens, ~hidden)
        with parts("encoder"):
            for block in model.encoder.blocks:
                tokens = _block(block, tokens)
            features = model.encoder.norm(tokens)
        with parts("decoder"):
            prediction = self._decoded(features, hidden)
        with parts("target"):
            target = self._projected(self._tubelets(pixels * std + mean, hidden))
        return self._symmetric_loss(target.flatten(0, 1), prediction.flatten(0, 1), parts)

    def _decoded(self, features: Tensor, hidden: Tensor) -> Tensor:
        model = self.model
        positions = model.decoder.positions.expand(len(hidden), -1, -1)
        known = _linear(model.encoder_to_decoder, features) + _taken(positions, ~hidden)
        tokens = torch.cat((known, model.mask_token + _taken(positions, hidden)), dim=1)
        for block in model.decoder.blocks:
            tokens = _block(block, tokens)
        return _linear(model.decoder.head, model.decoder.norm(tokens[:, known.shape[1] :]))

    def _projected(self, pixels: Tensor) -> Tensor:
        first, *others = self.model.head.children()
        features = _linear(first, pixels)
        for layer in others:
            features = _linear(layer, F.gelu(features))
        return features

    def _tubelets(self, pixels: Tensor, hidden: Tensor) -> Tensor:
        """Normalized pixels of the hidden tubelets, (frame, row, column, channel) flattened."""
        config = self.config
        size, side = config.patch_size_px, config.frame_size_px // config.patch_size_px
        cut = pixels.view(
            len(pixels), 3, config.num_slices, config.tubelet_frames, side, size, side, size
        ).permute(0, 2, 4, 6, 3, 5, 7, 1)
        voxels = cut.reshape(len(pixels), config.num_tokens, -1, 3)
        deviation = voxels.var(dim=-2, unbiased=True, keepdim=True).sqrt() + 1e-6
        normalized = (voxels - voxels.mean(dim=-2, keepdim=True)) / deviation
        return _taken(normalized.flatten(-2), hidden)

    def _symmetric_loss(self, target: Tensor, prediction: Tensor, parts: Parts) -> Tensor:
        prototypes, temperature = self.model.prototypes, self.config.temperature
        with torch.autocast("cpu", enabled=False):
            with parts("scores"):
                to_target = F.normalize(target.float(), dim=-1) @ prototypes.T
                to_prediction = F.normalize(prediction.float(), dim=-1) @ prototypes.detach().T
            with parts("Sinkhorn"):
                of_target = plain_sinkhorn(to_target.detach(), self.config.sinkhorn)
                of_prediction = plain_sinkhorn(to_prediction.detach(), self.config.sinkhorn)
            with parts("loss"):
                return F.cross_entropy(to_target / temperature, of_prediction) + F.cross_entropy(
                    to_prediction / temperature, of_target
                )


def plain_sinkhorn(scores: Tensor, config: SinkhornConfig) -> Tensor:
    """Labels by rescaling the whole matrix in each half round (protocols 1.3)."""
    plan = torch.exp(scores / config.epsilon).T
    plan /= plan.sum()
    for _ in range(config.iterations):
        plan *= (1 / plan.shape[0]) / plan.sum(dim=1, keepdim=True)
        plan *= (1 / plan.shape[1]) / plan.sum(dim=0, keepdim=True)
    plan /= plan.sum(dim=0, keepdim=True)
    return plan.argmax(dim=0)


def _taken(tokens: Tensor, mask: Tensor) -> Tensor:
    return tokens[mask].view(len(tokens), -1, tokens.shape[-1])


def _block(block: Block, tokens: Tensor) -> Tensor:
    tokens = tokens + _attention(block.attn, block.norm1(tokens))
    mlp = block.mlp
    return tokens + _linear(mlp.fc2, F.gelu(_linear(mlp.fc1, block.norm2(tokens))))


def _attention(attention: Attention, tokens: Tensor) -> Tensor:
    bias = torch.cat((attention.q_bias, torch.zeros_like(attention.q_bias), attention.v_bias))
    stacked = F.linear(tokens, attention.qkv.weight, bias)
    query, key, value = stacked.view(*tokens.shape[:2], 3, attention.num_heads, -1).permute(
        2, 0, 3, 1, 4
    )
    weights = ((query * query.shape[-1] ** -0.5) @ key.mT).softmax(dim=-1)
    mixed = (weights @ value).transpose(1, 2).flatten(2)
    return _linear(attention.proj, mixed)


def _linear(layer: nn.Module, inputs: Tensor) -> Tensor:
    """PyTorch's own, with a layer's parameters."""
    weight, bias = layer.get_parameter("weight"), dict(layer.named_parameters()).get("bias")
    return F.linear(inputs, weight, bias)
