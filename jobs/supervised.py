"""The supervised reference: the same encoder trained with labels, from the same random start.

It shows what the benchmarks give when the task is learned at all, on this data and at this size.
Its weights go through the same cells as those of commits.
"""

import hashlib
import logging
import math
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.data_prep.clip_plan import ClipPlan
from sigma_pipeline.data_prep.config import ClipConfig, LoaderConfig
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.loader import TrainLoader
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.identity import new_attempt
from sigma_pipeline.infra.storage import (
    Storage,
    write_json_if_absent,
)
from sigma_pipeline.jobs.config import SupervisedConfig
from sigma_pipeline.jobs.features import pool_tokens
from sigma_pipeline.jobs.supervised_request import SupervisedRequest
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.encoder import Encoder
from sigma_pipeline.model.sigma import build_sigma
from sigma_pipeline.model.weights import ENCODER_PREFIX, save_weights

log = logging.getLogger(__name__)

_WARMUP_FRACTION = 0.1
_GRADIENT_CLIP_NORM = 1.0
_DECODED_CACHE_GIB = 0.5


def train_supervised(storage: Storage, request: SupervisedRequest) -> None:
    """Trains the reference and stores its weights; nothing if they are there.

    Raises:
        StageError: the loss is not finite, or a sample cannot be read.
    """
    if storage.exists(request.receipt_key):
        return
    index = Index.load(storage, request.ref)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = ModelConfig.model_validate(request.model)
    encoder = build_sigma(model, request.seed).encoder.to(device)
    accuracy = _fit(encoder, _batches(storage, index, request, model), len(index.classes), request)
    data = save_weights(
        {f"{ENCODER_PREFIX}{name}": value for name, value in encoder.state_dict().items()}
    )
    weights_key = f"{request.folder}/model-{new_attempt()}.safetensors"
    storage.write(weights_key, data)
    receipt = {
        "weights": weights_key,
        "weights_sha256": hashlib.sha256(data).hexdigest(),
        "train_accuracy": accuracy,
    }
    if not write_json_if_absent(storage, request.receipt_key, receipt):
        storage.delete(weights_key)  # another attempt was first


def peak_share(step: int, steps: int) -> float:
    """Share of the peak learning rate: linear warm-up, then a cosine to 0."""
    warmup = max(1, round(_WARMUP_FRACTION * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _batches(
    storage: Storage, index: Index, request: SupervisedRequest, model: ModelConfig
) -> TrainLoader:
    batch_clips = min(request.config.batch_clips, len(index))
    clip = ClipConfig(
        frame_stride=request.view.frame_stride,
        crop="resize" if request.view.crop == "resize" else "multi_scale",
    )
    return TrainLoader(
        storage,
        [index],
        ClipPlan(clip, model.num_frames, model.frame_size_px, request.seed),
        loader=LoaderConfig(workers=0, decoded_cache_gib=_DECODED_CACHE_GIB),
        global_batch_clips=batch_clips,
        micro_batch_clips=batch_clips,
    )


def _fit(
    encoder: Encoder, loader: TrainLoader, num_classes: int, request: SupervisedRequest
) -> float:
    """Trains ``encoder`` in place; the share of right answers in the last tenth of the steps."""
    steps, device = request.config.steps, next(encoder.parameters()).device
    pooled_dim = pool_tokens(_blank_tokens(encoder, device), request.pooling).shape[1]
    head = nn.Linear(pooled_dim, num_classes, device=device)
    nn.init.zeros_(head.weight)  # a head without a say of its own: nothing else is random here
    nn.init.zeros_(head.bias)
    optimizer = _optimizer(nn.ModuleList([encoder, head]), request.config)
    right, counted = 0, 0
    for step, (batch,) in enumerate(islice(loader.micro_batches(0, 0), steps)):
        if batch.replaced:  # a reference on other data than was asked for is none
            raise StageError(f"supervised reference: {batch.replaced[0].reason}")
        for group in optimizer.param_groups:
            group["lr"] = request.config.peak_lr * peak_share(step, steps)
        with torch.autocast(
            device.type, torch.bfloat16, enabled=request.precision == "bf16_autocast"
        ):
            tokens = encoder.encode(batch.clip.to(device))
        logits = head(pool_tokens(tokens.float(), request.pooling))
        _step(optimizer, logits, batch, step)
        if step >= 0.9 * steps:
            labels = batch.labels.to(device)
            right += int((logits.argmax(dim=1) == labels).sum())
            counted += int((labels >= 0).sum())
    accuracy = right / max(1, counted)
    log.info("supervised reference: %d steps, accuracy %.3f at the end", steps, accuracy)
    return accuracy


def _step(optimizer: torch.optim.Optimizer, logits: Tensor, batch: Batch, step: int) -> None:
    labels = batch.labels.to(logits.device)
    # Clips without a label count for nothing; the sum keeps a batch without any from being 0 / 0.
    loss = F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum") / len(labels)
    if not bool(loss.isfinite()):
        raise StageError(f"supervised reference: loss {loss} at step {step}; lower its peak_lr")
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    for group in optimizer.param_groups:
        nn.utils.clip_grad_norm_(group["params"], _GRADIENT_CLIP_NORM)
    optimizer.step()


def _optimizer(module: nn.Module, config: SupervisedConfig) -> torch.optim.Optimizer:
    """AdamW; no weight decay on biases and norms."""
    decayed = [parameter for parameter in module.parameters() if parameter.ndim > 1]
    free = [parameter for parameter in module.parameters() if parameter.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.peak_lr)


def _blank_tokens(encoder: Encoder, device: torch.device) -> Tensor:
    """Zeros of the shape of one clip's tokens."""
    model = encoder.config
    side = model.frame_size_px // model.patch_size_px
    return torch.zeros(1, model.num_slices, side, side, model.encoder.embed_dim, device=device)
