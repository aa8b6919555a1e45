"""What a model that was fine-tuned says about test clips, shared out over the gang that trained it.

Every sample is seen by one process alone, and once; results stand in the order of the index.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sigma_pipeline.data_prep.config import ViewConfig
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.views import ViewLoader
from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.jobs.benchmarks.benchmark import Subject
from sigma_pipeline.jobs.checkpoints import load_weights
from sigma_pipeline.jobs.commits import Commit
from sigma_pipeline.jobs.decoded import decoders
from sigma_pipeline.jobs.fine_tuning_objective import FineTuning, FineTuningObjective
from sigma_pipeline.jobs.train_request import RankPlace
from sigma_pipeline.model.weights import restore_weights

Array = npt.NDArray[np.float32]


def shared_out(
    subject: Subject, function: Callable[..., Array], num_samples: int, *arguments: Any
) -> Array:
    """Rows [samples, ...] that the gang has made, each process those of its samples.

    Args:
        subject: of the gang.
        function: of a module; called as ``function(place, samples, *arguments)`` with a range of
            the samples, one at least, and gives a row for each.
        num_samples: in all.
        arguments: plain data.
    """
    parts = subject.gang.run(_take_share, function, num_samples, arguments)
    return np.concatenate([part for part in parts if len(part)])


def view_outputs(
    subject: Subject, tuning: FineTuning, commit: Commit, positions: tuple[int, ...] | None = None
) -> Array:
    """What the trained model says of every view of test samples: [samples, views, ...].

    For models that are called with clips alone.

    Args:
        subject: whose test split is seen through its ``view``.
        tuning: what was learned.
        commit: what came of it.
        positions: samples of the test split; all where absent.

    Raises:
        StageError: a sample cannot be read.
    """
    pass_over = ViewPass(
        root_uri=subject.storage.root_uri,
        scratch_dir=str(subject.scratch_dir),
        tuning=tuning,
        commit=commit,
        ref=subject.test.ref,
        positions=positions,
        view=subject.view,
        batch_clips=subject.batch_clips,
        is_bf16=subject.precision == "bf16_autocast",
    )
    num_samples = len(subject.test) if positions is None else len(positions)
    return shared_out(subject, _outputs_of_views, num_samples, pass_over)


@dataclass(frozen=True, kw_only=True)
class ViewPass:
    """A trained model, and which clips it is to see."""

    root_uri: str
    scratch_dir: str
    tuning: FineTuning
    commit: Commit
    ref: DatasetRef
    positions: tuple[int, ...] | None
    view: ViewConfig
    batch_clips: int
    is_bf16: bool


def fine_tuned_model(
    storage: Storage, tuning: FineTuning, commit: Commit, place: RankPlace
) -> tuple[nn.Module, torch.device]:
    """What was trained, in evaluation mode on the device of ``place``, and that device."""
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", place.local_rank)
    objective = tuning.objective()
    assert isinstance(objective, FineTuningObjective)
    model = objective.canary_model(None)
    restore_weights(model, load_weights(storage, commit), assign=True)
    return model.to(device).eval(), device


def _take_share(
    place: RankPlace, function: Callable[..., Array], num_samples: int, arguments: tuple[Any, ...]
) -> Array:
    first, end = (num_samples * rank // place.world_size for rank in (place.rank, place.rank + 1))
    if first == end:  # fewer samples than processes
        return np.empty(0, np.float32)
    return function(place, range(first, end), *arguments)


@torch.inference_mode()
def _outputs_of_views(place: RankPlace, samples: range, given: ViewPass) -> Array:
    storage = open_storage(given.root_uri)
    model, device = fine_tuned_model(storage, given.tuning, given.commit, place)
    index = Index.load(storage, given.ref, Path(given.scratch_dir))
    if given.positions is not None:
        index = index.part(given.positions)
    loader = ViewLoader(
        storage,
        index,
        view=given.view,
        num_frames=given.tuning.num_frames,
        frame_size_px=given.tuning.model.frame_size_px,
        batch_clips=given.batch_clips,
        workers=decoders(),
        samples=[samples],
    )
    outputs = []
    for batch in loader:
        with torch.autocast(device.type, torch.bfloat16, enabled=given.is_bf16):
            outputs.append(model(batch.clip.to(device)).float().cpu().numpy())
    joined: Array = np.concatenate(outputs)
    return joined.reshape(len(samples), given.view.views, *joined.shape[1:])
