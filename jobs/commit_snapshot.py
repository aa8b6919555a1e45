"""Weights and optimizer state of one step in host memory, while training goes on.

Between two updates nobody changes them. So the copy is made by another thread while the next step
runs forward and backward; only its update has to wait for the last byte.
"""

import threading
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sigma_pipeline.jobs.checkpoints import MOMENTS, optimizer_state, optimizer_steps
from sigma_pipeline.jobs.masters import (
    flat_masters,
    has_whole_weights,
    owned_fragments,
    whole_weights,
)

if TYPE_CHECKING:  # imported when ``init_ranks`` has prepared it
    from deepspeed import DeepSpeedEngine


class Snapshot:
    """What this rank brings to a commit; the memory for it is taken once and used again."""

    def __init__(self, engine: "DeepSpeedEngine", *, has_weights: bool) -> None:
        """``has_weights``: whether this rank keeps all weights, besides its optimizer state."""
        self.weights: dict[str, Tensor] = {}
        """Whole, in float32, by name; of a rank that does not keep them none."""
        self.moments: dict[str, Tensor] = {}
        """``exp_avg/<parameter>`` and ``exp_avg_sq/<parameter>``: the elements that it owns."""
        self.starts: dict[str, int] = {}
        """Number of the first of these in the flattened parameter."""
        self.optimizer_steps = 0
        """Updates applied."""
        self._engine = engine
        self._has_weights = has_weights
        self._is_on_gpu = engine.device.type == "cuda"
        streams: Any = torch.cuda  # whose Stream has no types in torch 2.13
        self._stream: torch.cuda.Stream | None = (
            streams.Stream(engine.device) if self._is_on_gpu else None
        )
        self._hosts: dict[str, Tensor] = {}
        self._copies: list[tuple[Tensor, Tensor]] = []
        self._copied = threading.Event()
        self._copied.set()

    def begin(self) -> None:
        """Says what is to be copied; ``copy`` has to follow. A collective: all ranks call it.

        Weights that no rank has as a whole are put together, and copied, here.
        """
        self._copied.clear()
        self._copies.clear()
        self.weights.clear()
        are_whole = has_whole_weights(self._engine)
        for name, weight in whole_weights(self._engine):
            if self._has_weights:
                self.weights[name] = host = self._host(name, weight)
                if are_whole:
                    self._copies.append((weight, host))
                else:
                    host.copy_(weight, non_blocking=True)
        self._begin_moments()
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._engine.device))

    def copy(self) -> None:
        """Copies; in any thread."""
        try:
            with self._aside():
                self.optimizer_steps = optimizer_steps(self._engine)
                for source, host in self._copies:
                    host.copy_(source, non_blocking=True)
            if self._stream is not None:
                self._stream.synchronize()
        finally:
            self._copied.set()

    def wait(self) -> None:
        """Returns when nothing of the engine is read any more, so that it may be updated."""
        self._copied.wait()

    def _begin_moments(self) -> None:
        state = optimizer_state(self._engine)
        hosts: dict[tuple[int, str], Tensor] = {}
        for number, flat in enumerate(flat_masters(self._engine)):
            for moment in MOMENTS if flat in state else ():
                source = state[flat][moment]
                hosts[id(flat), moment] = host = self._host(f"{moment}/{number}", source)
                self._copies.append((source, host))
        for fragment in owned_fragments(self._engine) if hosts else ():
            for moment in MOMENTS:
                name = f"{moment}/{fragment.parameter}"
                self.moments[name] = fragment.of(hosts[id(fragment.flat), moment])
                self.starts[name] = fragment.start

    def _host(self, name: str, source: Tensor) -> Tensor:
        """Memory for one tensor: page-locked where a GPU writes into it."""
        if name not in self._hosts:
            self._hosts[name] = torch.empty(
                source.shape, dtype=source.dtype, pin_memory=self._is_on_gpu
            )
        return self._hosts[name]

    def _aside(self) -> AbstractContextManager[object]:
        """On a GPU, beside the kernels of the step."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)
