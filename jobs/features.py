"""Features of a frozen encoder: one pass per (weights, dataset view), shared by all benchmarks.

They lie in the store under the fingerprint of everything they depend on, in parts: extraction holds
one at a time, and goes on with the next one after it was killed. Sets that nobody waits for go when
others need the room (``feature_space``), and are extracted again when somebody does.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.benchmarks.benchmark import FeatureSet
from sigma_pipeline.jobs.config import Pooling
from sigma_pipeline.jobs.decoded import DecodedView
from sigma_pipeline.jobs.encoders import load_encoder
from sigma_pipeline.jobs.feature_request import FeatureRequest
from sigma_pipeline.jobs.feature_space import reserve
from sigma_pipeline.jobs.feature_store import FeatureFolder, LostFeatures
from sigma_pipeline.model.encoder import Encoder

log = logging.getLogger(__name__)

_TRIES = 3
"""Times that features are extracted which are gone, or damaged, before they are read."""
_Made = TypeVar("_Made")


def ready_features(
    storage: Storage, request: FeatureRequest, scratch_dir: str, *, layer: int | None = None
) -> FeatureSet:
    """Features from the store; extracted first if they are not there, or not as they were put.

    Args:
        storage: of the run.
        request: which features.
        scratch_dir: folder on the node's own disk.
        layer: whose tokens to read, too; one of ``request.layers``.

    Raises:
        StageError: as ``extract_features``; or they are lost again and again.
    """

    def extract_and_load() -> FeatureSet:
        _extract(storage, request, scratch_dir)
        return load_features(storage, request, layer)

    return _made_again_if_lost(request, extract_and_load)


def extract_features(storage: Storage, request: FeatureRequest, scratch_dir: str) -> None:
    """Runs the encoder over the split and stores what it says; nothing if that is there.

    Raises:
        StageError: the features are not finite or too large, or a video or the weights cannot be
            read; or parts are lost again and again.
    """
    _made_again_if_lost(request, lambda: _extract(storage, request, scratch_dir))


def _made_again_if_lost(request: FeatureRequest, make: Callable[[], _Made]) -> _Made:
    for tries_left in reversed(range(_TRIES)):
        try:
            return make()
        except LostFeatures as error:
            if not tries_left:
                raise
            log.warning("%s are extracted again: %s", request, error)
    raise AssertionError("not reached")


def _extract(storage: Storage, request: FeatureRequest, scratch_dir: str) -> None:
    """Extracts what is missing; LostFeatures if somebody removes parts while others are made."""
    if storage.exists(request.key):
        return
    request.check()
    folder = reserve(storage, request)
    index = Index.load(storage, request.ref)
    view = DecodedView(storage, index, request.clip_shape, scratch_dir)
    finished = {part.first for part in folder.finished_parts()}
    missing = [samples for samples in request.parts if samples.start not in finished]
    if missing:
        encoder = load_encoder(storage, request.source)
        encoder.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        batches = view.batches(request.batch_clips, missing, decoders=request.decoders)
        for samples in missing:
            clips = _clips_of(samples, view.views, batches)
            folder.put_part(samples, _encode(encoder, clips, request))
    # Rows of a large split are slow to go through: once will do.
    keys, groups = zip(*((row.key, row.group) for row in index.rows), strict=True)
    columns = {"key": keys, "group": groups, "label": index.labels}
    folder.finish(columns, len(index.classes), request.about)


def load_features(
    storage: Storage, request: FeatureRequest, layer: int | None = None
) -> FeatureSet:
    """The features that ``extract_features`` stored; masks are not among them.

    Raises:
        LostFeatures: they are not there, or not as they were put.
    """
    folder = FeatureFolder(storage, request.folder)
    index = folder.index()
    samples = folder.samples(index)
    return FeatureSet(
        keys=samples["key"].to_pylist(),
        groups=samples["group"].to_pylist(),
        labels=samples["label"].to_numpy().copy(),
        num_classes=index.num_classes,
        pooled=folder.array(index, "pooled"),
        tokens=None if layer is None else folder.array(index, _tokens_name(layer)),
    )


def pool_tokens(tokens: Tensor, pooling: Pooling) -> Tensor:
    """One vector per clip, [batch, dim'], from tokens [batch, slices, rows, columns, dim]."""
    if pooling == "mean":
        return tokens.mean(dim=(1, 2, 3))
    if pooling == "slices":
        return tokens.mean(dim=(2, 3)).flatten(1)
    frames = tokens.flatten(0, 1).permute(0, 3, 1, 2)  # [batch * slices, dim, rows, columns]
    return F.adaptive_avg_pool2d(frames, 2).reshape(len(tokens), -1)


def _clips_of(samples: range, views: int, batches: Iterator[Tensor]) -> Iterator[Tensor]:
    """The next batches, as many as hold the clips of ``samples``."""
    num_left = len(samples) * views
    while num_left:
        clips = next(batches)
        num_left -= len(clips)
        yield clips


@torch.inference_mode()
def _encode(
    encoder: Encoder, batches: Iterable[Tensor], request: FeatureRequest
) -> dict[str, npt.NDArray[np.floating]]:
    """``pooled`` float32 and tokens float16, [samples, ...], of the samples of these clips."""
    device = next(encoder.parameters()).device
    kept: dict[str, list[Tensor]] = {}
    for clips in batches:
        with torch.autocast(
            device.type, torch.bfloat16, enabled=request.precision == "bf16_autocast"
        ):
            tokens = encoder.encode_layers(clips.to(device), {-1, *request.layers})
        pooled = pool_tokens(tokens[-1].float(), request.pooling)
        kept.setdefault("pooled", []).append(pooled.cpu())
        for layer in request.layers:
            kept.setdefault(_tokens_name(layer), []).append(tokens[layer].half().cpu())
    arrays = {name: torch.cat(batches).numpy() for name, batches in kept.items()}
    pooled_clips = arrays["pooled"]
    if not np.isfinite(pooled_clips).all():
        raise StageError(
            f"features of {request.source.name} on {request.ref.prefix} are not finite: these "
            "weights are no use; look at the training loss before that step"
        )
    by_sample = pooled_clips.reshape(-1, request.view.views, pooled_clips.shape[1])
    return arrays | {"pooled": by_sample}


def _tokens_name(layer: int) -> str:
    return f"tokens{layer}"
