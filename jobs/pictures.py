"""A picture of what a commit does: input, mask, and the prototypes its hidden tubelets go to.

One PNG per commit, of the same clips under the same masks, so that a series can be leafed through.
"""

import logging
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from sigma_pipeline.data_prep.config import ViewConfig
from sigma_pipeline.data_prep.draws import sample_seed
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.views import ViewLoader
from sigma_pipeline.infra.identity import fingerprint
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.drawing import PictureContent, draw_png
from sigma_pipeline.jobs.encoders import EncoderSource, load_state
from sigma_pipeline.jobs.evaluate_request import evaluate_folder
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.masking import split_tokens, tube_masks
from sigma_pipeline.model.sigma import Sigma, build_sigma
from sigma_pipeline.model.sinkhorn import balanced_assignment
from sigma_pipeline.model.teacher_source import teacher_source
from sigma_pipeline.model.weights import restore_weights

log = logging.getLogger(__name__)

_VERSION = 2
_SHOWN_CLIPS = 3
_BALANCED_CLIPS = 12  # shown ones among them: balance over three clips would be another task

VISIBLE = -1
"""Stands where a tubelet has no assignment because it is not hidden."""


@dataclass(frozen=True)
class PictureRequest:
    """A picture of one commit on clips of one split."""

    run_name: str
    source: EncoderSource
    ref: DatasetRef
    view: ViewConfig
    seed: int

    @property
    def key(self) -> str:
        """Where the PNG lies, once it is drawn."""
        content = {
            "version": _VERSION,
            "weights": self.source.weights_sha256,
            "model": self.source.model,
            "dataset": asdict(self.ref),
            "view": self.view.model_dump(mode="json"),
            "seed": self.seed,
        }
        folder = f"{evaluate_folder(self.run_name)}/{self.source.name}/pictures"
        return f"{folder}/{self.ref.name}-{fingerprint(content)}.png"


def make_picture(storage: Storage, request: PictureRequest) -> None:
    """Draws the picture and stores it; nothing if it is there."""
    if storage.exists(request.key):
        return
    index = Index.load(storage, request.ref)
    rows = np.linspace(0, len(index) - 1, min(_BALANCED_CLIPS, len(index)), dtype=int).tolist()
    model = request.source.model_config
    clips = _clips(storage, index, rows, request, model)
    mask = tube_masks(model, [sample_seed(request.seed, 0, row, "picture") for row in rows])
    branches = _branches(storage, request.source, clips, mask)
    # Every fourth of the twelve is shown, so that a split sorted by class shows several classes.
    shown = list(range(0, len(rows), max(1, len(rows) // _SHOWN_CLIPS)))[:_SHOWN_CLIPS]
    content = PictureContent(
        heading=f"{request.run_name}, {request.source.name}: {_summary(model, branches)}",
        titles=[_title(index, rows[i]) for i in shown],
        frames=clips[shown, :, :: model.tubelet_frames].permute(0, 2, 3, 4, 1).numpy(),
        hidden=mask[shown].view(len(shown), *_grid(model)[1:]).numpy(),
        assignments={
            name: branch[shown].numpy()
            for name, branch in zip(("target", "prediction"), branches, strict=False)
        },
    )
    storage.write_if_absent(request.key, draw_png(content))


def _branches(
    storage: Storage, source: EncoderSource, clips: Tensor, mask: Tensor
) -> tuple[Tensor, ...]:
    """Assignments of both branches; none where there are no prototypes, or no teacher at hand.

    Imported weights may be an encoder's alone, and a teacher's are in no commit.
    """
    model, state = source.model_config, load_state(storage, source)
    if "prototypes" not in state:
        return ()
    if model.target.teacher is not None:
        try:
            teacher_source(model.target)
        except ValueError as error:
            log.warning("The picture of %s shows no assignments: %s", source.name, error)
            return ()
    sigma = build_sigma(model, seed=0).eval()
    restore_weights(sigma, state)
    return assigned_prototypes(sigma, clips, mask)


@torch.no_grad()
def assigned_prototypes(sigma: Sigma, clips: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Prototype of each tubelet, [clips, slices, rows, columns], of both branches.

    The most likely one under the plan balanced over these clips, as hard assignment takes it;
    ``VISIBLE`` where a tubelet is not hidden.
    """
    config = sigma.config
    hidden = split_tokens(config, mask)[1]
    maps = []
    for scores in sigma.scores(clips, mask):
        plan = balanced_assignment(scores, config.sinkhorn.epsilon, config.sinkhorn.iterations)
        tokens = torch.full((len(clips), config.num_tokens), VISIBLE)
        tokens.scatter_(1, hidden, plan.argmax(dim=1).view(hidden.shape))
        maps.append(tokens.view(len(clips), *_grid(config)))
    target, prediction = maps
    return target, prediction


def _clips(
    storage: Storage, index: Index, rows: list[int], request: PictureRequest, model: ModelConfig
) -> Tensor:
    """Clips [clips, 3, frames, height, width] of these rows of the index."""
    loader = ViewLoader(
        storage,
        index.part(rows),
        view=request.view,
        num_frames=model.num_frames,
        frame_size_px=model.frame_size_px,
        batch_clips=len(rows),
    )
    (batch,) = loader
    return batch.clip


def _grid(config: ModelConfig) -> tuple[int, int, int]:
    side = config.frame_size_px // config.patch_size_px
    return config.num_slices, side, side


def _title(index: Index, row: int) -> str:
    sample = index.rows[row]
    return sample.source if sample.class_name is None else f"{sample.class_name}: {sample.source}"


def _summary(config: ModelConfig, branches: tuple[Tensor, ...]) -> str:
    share = f"{config.num_masked_patches / config.num_patches:.0%} of patches hidden"
    if not branches:
        return f"{share}; no prototypes to assign them to"
    target, prediction = (branch[branch != VISIBLE] for branch in branches)
    used = [len(set(branch.tolist())) for branch in (target, prediction)]
    agreement = float((target == prediction).float().mean())
    return (
        f"{share}; of {config.prototypes} prototypes the target branch takes {used[0]} and the "
        f"prediction branch {used[1]}; they agree on {agreement:.0%} of hidden tubelets"
    )
