"""Features of a frozen encoder: one pass per (weights, dataset view), shared by all benchmarks.

They lie in the store under the fingerprint of everything they depend on, as one safetensors file
whose header also holds the sample keys, so that a single put makes them complete. They are kept:
a benchmark that is added later need not run the encoder again.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import safetensors.numpy
import torch
import torch.nn.functional as F
from torch import Tensor

from sigma_pipeline.data_prep.config import ViewConfig
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.identity import fingerprint
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.benchmarks.benchmark import FeatureSet
from sigma_pipeline.jobs.config import Pooling, Precision
from sigma_pipeline.jobs.decoded import ClipShape, DecodedView
from sigma_pipeline.jobs.encoders import EncoderSource, load_encoder
from sigma_pipeline.model.encoder import Encoder

FEATURES_VERSION = 1
"""Raised when equal weights and clips would give other features."""


@dataclass(frozen=True, kw_only=True)
class FeatureRequest:
    """Features of one split, seen through one view, by one encoder."""

    run_name: str
    source: EncoderSource
    ref: DatasetRef
    view: ViewConfig
    pooling: Pooling
    has_tokens: bool
    """Keep the features of each token too; large, and only clustering reads them."""
    batch_clips: int
    precision: Precision

    @property
    def key(self) -> str:
        """Where the features lie; equal for requests whose features are equal."""
        content = {
            "version": FEATURES_VERSION,
            "weights": self.source.weights_sha256,
            "shape": self.source.shape,
            "dataset": asdict(self.ref),
            "view": self.view.model_dump(mode="json"),
            "pooling": self.pooling,
            "has_tokens": self.has_tokens,
            "precision": self.precision,
        }
        return f"runs/{self.run_name}/features/{fingerprint(content)}.safetensors"

    @property
    def clip_shape(self) -> ClipShape:
        """How the clips are cut for this encoder."""
        model = self.source.model_config
        return ClipShape(self.view, model.num_frames, model.frame_size_px)


def extract_features(storage: Storage, request: FeatureRequest, scratch_dir: str) -> None:
    """Runs the encoder over the split and stores what it says; nothing if that is there.

    Raises:
        StageError: the features are not finite, or a video or the weights cannot be read.
    """
    if storage.exists(request.key):
        return
    index = Index.load(storage, request.ref)
    view = DecodedView(storage, index, request.clip_shape, scratch_dir)
    encoder = load_encoder(storage, request.source)
    arrays = _encode(encoder, view, request) | {"labels": index.labels}
    if not np.isfinite(arrays["pooled"]).all():
        raise StageError(
            f"features of {request.source.name} on {request.ref.prefix} are not finite: these "
            "weights are no use; look at the training loss before that step"
        )
    rows = list(index.rows)
    header = {
        "keys": json.dumps([row.key for row in rows]),
        "groups": json.dumps([row.group for row in rows]),
        "num_classes": str(len(index.classes)),
    }
    # Another process may have been first: its features are the same.
    storage.write_if_absent(request.key, safetensors.numpy.save(arrays, header))


def load_features(storage: Storage, key: str) -> FeatureSet:
    """The features that ``extract_features`` stored; masks are not among them."""
    data = storage.read(key)
    arrays, header = safetensors.numpy.load(data), _header(data)
    keys = json.loads(header["keys"])
    # Features of indexes without groups may be older than groups are.
    groups = json.loads(header["groups"]) if "groups" in header else [None] * len(keys)
    return FeatureSet(
        keys=keys,
        groups=groups,
        labels=arrays["labels"],
        num_classes=int(header["num_classes"]),
        pooled=arrays["pooled"],
        tokens=arrays.get("tokens"),
    )


def pool_tokens(tokens: Tensor, pooling: Pooling) -> Tensor:
    """One vector per clip, [batch, dim'], from tokens [batch, slices, rows, columns, dim]."""
    if pooling == "mean":
        return tokens.mean(dim=(1, 2, 3))
    if pooling == "slices":
        return tokens.mean(dim=(2, 3)).flatten(1)
    frames = tokens.flatten(0, 1).permute(0, 3, 1, 2)  # [batch * slices, dim, rows, columns]
    return F.adaptive_avg_pool2d(frames, 2).reshape(len(tokens), -1)


@torch.inference_mode()
def _encode(encoder: Encoder, view: DecodedView, request: FeatureRequest) -> dict[str, np.ndarray]:
    """``pooled`` float32 and, if asked for, ``tokens`` float16, in the order of the index."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder.to(device)
    pooled, kept_tokens = [], []
    for clips in view.batches(request.batch_clips):
        with torch.autocast(
            device.type, torch.bfloat16, enabled=request.precision == "bf16_autocast"
        ):
            tokens = encoder.encode(clips.to(device)).float()
        pooled.append(pool_tokens(tokens, request.pooling).cpu().numpy())
        if request.has_tokens:
            kept_tokens.append(tokens.half().cpu().numpy())
    arrays = {"pooled": np.concatenate(pooled)}
    return arrays | ({"tokens": np.concatenate(kept_tokens)} if kept_tokens else {})


def _header(data: bytes) -> Mapping[str, str]:
    """Metadata of a safetensors file in memory: 8 bytes of length, then JSON."""
    length = int.from_bytes(data[:8], "little")
    metadata: Mapping[str, str] = json.loads(data[8 : 8 + length])["__metadata__"]
    return metadata
