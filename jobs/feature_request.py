"""Features as they are asked for: of what, how large they are, and where they lie."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from math import prod
from typing import Any

from sigma_pipeline.data_prep.config import ViewConfig
from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.identity import fingerprint
from sigma_pipeline.jobs.config import Pooling, Precision
from sigma_pipeline.jobs.decoded import ClipShape
from sigma_pipeline.jobs.encoders import EncoderSource
from sigma_pipeline.jobs.feature_files import INDEX_FILE
from sigma_pipeline.jobs.obstacles import frames_problem, layer_problem
from sigma_pipeline.jobs.versions import CLIPS_VERSION, FEATURES_VERSION

PART_BYTES = 128 << 20
PART_SAMPLES = 4096
"""Neither is exceeded by one part, unless a single sample does: what is in memory at a time, and
what is lost when an attempt is killed."""
_GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class FeatureRequest:
    """Features of one split, seen through one view, by one encoder."""

    run_name: str
    source: EncoderSource
    ref: DatasetRef
    num_samples: int
    """Of the split."""
    view: ViewConfig
    pooling: Pooling
    layers: tuple[int, ...]
    """Whose tokens are kept, too, as ``Needs.layer`` counts them; large, and only some read them.
    None: pooled features alone."""
    batch_clips: int
    decoders: int
    """Processes that decode, where a split is too large to be kept decoded; 0: that of the task."""
    precision: Precision
    limit_gib: float
    """``evaluate.features_gib``."""

    @cached_property
    def folder(self) -> str:
        """Where the features lie; equal for requests whose features are equal."""
        return f"{features_folder(self.run_name)}/{fingerprint(self.about)}"

    @property
    def about(self) -> dict[str, Any]:
        """All that the features depend on."""
        return {
            "version": FEATURES_VERSION,
            "clips": CLIPS_VERSION,
            "weights": self.source.weights_sha256,
            "shape": self.source.shape,
            "dataset": asdict(self.ref),
            "view": self.view.model_dump(mode="json"),
            "pooling": self.pooling,
            "layers": self.layers,
            "precision": self.precision,
        }

    @property
    def key(self) -> str:
        """What is there once they are complete."""
        return f"{self.folder}/{INDEX_FILE}"

    @property
    def clip_shape(self) -> ClipShape:
        """How the clips are cut for this encoder."""
        return ClipShape.of(self.view, self.source.model_config)

    @cached_property
    def num_bytes(self) -> int:
        """Size of all arrays."""
        return self.num_samples * self._sample_bytes

    @property
    def parts(self) -> Iterator[range]:
        """Samples of each part; the same however often extraction is begun."""
        size = max(1, min(PART_SAMPLES, PART_BYTES // self._sample_bytes))
        for first in range(0, self.num_samples, size):
            yield range(first, min(first + size, self.num_samples))

    def check(self) -> None:
        """Refuses what cannot be made.

        Raises:
            StageError: the encoder takes no such clips, or has no such layer, or the features alone
                would take more of the store than all may.
        """
        model = self.source.model_config
        problems = [frames_problem(self.clip_shape.num_frames, model)]
        problems += [layer_problem(layer, model) for layer in self.layers]
        for problem in filter(None, problems):
            raise StageError(f"{self}: {problem}")
        if self.num_bytes > self.limit_gib * _GIB:
            keep_less = (
                "tokens of fewer layers, or none" if self.layers else "fewer views or frames"
            )
            raise StageError(
                f"{self} take {self.num_bytes / _GIB:.3g} GiB, but all features of the run may "
                f"take evaluate.features_gib={self.limit_gib:g}: raise that, or keep less "
                f"({keep_less})"
            )

    def __str__(self) -> str:
        """For people."""
        return f"features of {self.ref.name}/{self.ref.split}, {self.source.name}"

    @property
    def _sample_bytes(self) -> int:
        model = self.source.model_config
        slices, side = self.clip_shape.num_frames // model.tubelet_frames, model.frame_size_px
        dim, side = model.encoder.embed_dim, side // model.patch_size_px
        vectors = {"mean": 1, "slices": slices, "slices_grid2": 4 * slices}[self.pooling]
        token_bytes = 2 * len(self.layers) * prod((slices, side, side, dim))
        return 4 * self.view.views * vectors * dim + token_bytes


def features_folder(run_name: str) -> str:
    """Key of the folder of all features of a run."""
    return f"runs/{run_name}/features"
