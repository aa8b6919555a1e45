"""Tries the clips of a bad step again, in one process: which one goes wrong, and in which layer.

Every clip is computed alone, forward and backward, with the weights, the mask and the draws of
stochastic depth that it had; once in float32, once in the precision of the run. So layers get what
they got then. Only the loss is another one where clips depend on each other: Sinkhorn balances all
hidden tokens of a global batch, and here those of one clip.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.infra.errors import MissingInputError, StageError
from sigma_pipeline.infra.storage import Storage, read_json
from sigma_pipeline.jobs.bad_steps import BAD_FILE, FORMAT_VERSION, bad_steps_folder, rank_file
from sigma_pipeline.jobs.checkpoints import load_weights as commit_weights
from sigma_pipeline.jobs.commits import list_commits
from sigma_pipeline.jobs.sigma_objective import batch_masks, batch_scales
from sigma_pipeline.model.config import ExecutionConfig, ModelConfig
from sigma_pipeline.model.sigma import Sigma, build_sigma
from sigma_pipeline.model.weights import load_weights, restore_weights

_PARAMETERS_NAMED = 5


@dataclass(frozen=True)
class Finding:
    """What came of one clip."""

    loss: float
    layer: str | None
    """The first whose output is not finite; None: all are."""
    gradients: tuple[str, ...]
    """Parameters whose gradient is not finite."""

    def __str__(self) -> str:
        """For people."""
        if self.layer is not None:
            return f"not finite first in the output of {self.layer}"
        if not math.isfinite(self.loss):
            return f"the loss itself is {self.loss}, all layers are finite"
        if self.gradients:
            more = len(self.gradients) - _PARAMETERS_NAMED
            rest = f" and {more} more" if more > 0 else ""
            named = ", ".join(self.gradients[:_PARAMETERS_NAMED])
            return f"loss {self.loss:.4g}, the gradient of {named}{rest} is not finite"
        return f"finite, loss {self.loss:.4g}"

    @property
    def is_finite(self) -> bool:
        """Whether nothing went wrong."""
        return self.layer is None and math.isfinite(self.loss) and not self.gradients


def replay_step(storage: Storage, run_name: str, step: int) -> Iterator[str]:
    """Lines that say what comes of each clip that was kept of a step, as they are found out.

    Raises:
        MissingInputError: nothing was kept of this step.
        StageError: what was kept cannot be used.
    """
    prefix = _newest_dump(storage, run_name, step)
    facts = read_json(storage, f"{prefix}/{BAD_FILE}")
    if facts["format"] != FORMAT_VERSION:
        raise StageError(
            f"{storage.uri(prefix)} has format {facts['format']}, this version reads "
            f"{FORMAT_VERSION}; use the version of sigma-pipeline that wrote it"
        )
    bad = facts["ranks_with_bad_loss"]
    what = f"the loss on rank {', '.join(map(str, bad))}" if bad else "a gradient, and no loss,"
    yield f"Step {step}, attempt {facts['attempt']}: {what} was not finite."
    weights, origin = _weights(storage, run_name, facts)
    yield f"Weights: {origin}; {_describe_weights(weights)}."
    config = ModelConfig.model_validate(facts["model"])
    if config.objective == "sigma":
        yield "Each clip is assigned alone, so its loss is not the one it had in training."
    for rank in facts["ranks"]:
        yield from _replay_rank(storage, f"{prefix}/{rank_file(rank)}", facts, config, weights)


def _replay_rank(
    storage: Storage,
    stem: str,
    facts: Mapping[str, Any],
    config: ModelConfig,
    weights: Mapping[str, Tensor],
) -> Iterator[str]:
    try:
        origin = read_json(storage, f"{stem}.json")
        clips = load_weights(storage.read(f"{stem}.safetensors"))
    except FileNotFoundError as error:
        yield f"A rank's clips were not kept: {error}"
        return
    losses = ", ".join(origin["losses"])
    yield f"Rank {origin['rank']} on {origin['host']}, loss then: {losses}"
    for precision in dict.fromkeys(("fp32", facts["precision"])):
        model = _build(config, weights, precision)
        num_bad = 0
        for number, key in enumerate(origin["keys"]):
            batch = _one_clip(clips, number, origin["epoch"])
            finding = try_clip(model, batch, facts["seed"], precision)
            num_bad += not finding.is_finite
            if not finding.is_finite:
                yield f"  {precision}: clip {number} ({key}): {finding}"
        total = len(origin["keys"])
        yield f"  {precision}: {total - num_bad} of {total} clips are finite, gradients too."


def try_clip(model: Sigma, batch: Batch, seed: int, precision: str) -> Finding:
    """Forward and backward pass over the clips of ``batch`` together.

    Args:
        model: with its weights, in training mode; gets gradients.
        batch: clips and where they come from.
        seed: of the run.
        precision: as in the settings of training.
    """
    device = next(model.parameters()).device
    scales = batch_scales(batch, model.config, seed)
    mask = batch_masks(batch, model.config, seed)
    is_mixed = precision == "bf16_autocast"
    context = torch.autocast(device.type, torch.bfloat16) if is_mixed else nullcontext()
    model.zero_grad()
    with _watched(model) as first, context:
        clip = batch.clip.to(device)
        output = model(clip, mask, None, None if scales is None else scales.to(device))
    loss = float(output.loss.detach())
    if first or not math.isfinite(loss):
        return Finding(loss, first[0] if first else None, ())
    output.loss.backward()
    gradients = (
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and not bool(parameter.grad.isfinite().all())
    )
    return Finding(loss, None, tuple(gradients))


@contextmanager
def _watched(model: nn.Module) -> Iterator[list[str]]:
    """Names of the layers whose output is not finite, in the order they are computed."""
    found: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, object, object], None]:
        def look(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and not bool(output.isfinite().all()):
                found.append(name)

        return look

    hooks = [
        module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _build(config: ModelConfig, weights: Mapping[str, Tensor], precision: str) -> Sigma:
    """On a GPU where there is one; blocks uncompiled, so that each layer can be watched."""
    plain = config.model_copy(update={"execution": ExecutionConfig()})
    model = build_sigma(plain, seed=0)
    restore_weights(model, weights)
    if precision == "bf16":
        model.to(torch.bfloat16)
    return model.to("cuda" if torch.cuda.is_available() else "cpu").train()


def _one_clip(clips: Mapping[str, Tensor], number: int, epoch: int) -> Batch:
    place = slice(number, number + 1)
    samples = clips["samples"][place]
    return Batch(
        clips["clip"][place],
        epoch,
        clips["positions"][place],
        samples,
        torch.full_like(samples, -1),
    )


def _newest_dump(storage: Storage, run_name: str, step: int) -> str:
    """Key of the folder that the newest attempt left of a step."""
    keys = storage.list(bad_steps_folder(run_name, step))
    complete = [key for key in keys if key.endswith(f"/{BAD_FILE}")]
    if not complete:
        raise MissingInputError(
            f"run {run_name!r} has kept nothing of step {step} for replay; of steps whose numbers "
            "were not finite the log says so"
        )
    return complete[-1].removesuffix(f"/{BAD_FILE}")


def _weights(
    storage: Storage, run_name: str, facts: Mapping[str, Any]
) -> tuple[Mapping[str, Tensor], str]:
    """The weights of the step and where they are from; else those of the commit before it."""
    key, step = facts["weights"], facts["step"]
    if key is not None and storage.exists(key):
        return load_weights(storage.read(key)), f"those of step {step}"
    commits = [commit for commit in list_commits(storage, run_name) if commit.step < step]
    if not commits:
        raise StageError(f"no weights were kept of step {step}, and no commit is before it")
    weights = commit_weights(storage, commits[-1])
    return weights, f"not kept of step {step}, so those of the commit of step {commits[-1].step}"


def _describe_weights(weights: Mapping[str, Tensor]) -> str:
    bad: Sequence[str] = [name for name, each in weights.items() if not bool(each.isfinite().all())]
    if not bad:
        return "all are finite"
    shown = ", ".join(bad[:_PARAMETERS_NAMED])
    more = len(bad) - _PARAMETERS_NAMED
    return f"not finite: {shown}{f' and {more} more' if more > 0 else ''}"
