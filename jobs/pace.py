"""How long a rank works before it meets the others: what tells a slow one from those who wait.

All ranks end a step together, for they add up gradients. So the time of a step is the same on all,
and says nothing of who was late. What differs is how long a rank takes from the beginning of a step
until it first waits for the others: with prototypes, the forward pass of its first micro-batch up
to the first sum of Sinkhorn (of all its micro-batches where they are assigned together); else until
its first backward pass. A GPU that is throttled, or a node whose processors are busy, shows there,
and so do slow data, which are added by ``TrainRecord``.

At ZeRO 3 ranks fetch weights from each other all through the forward pass, so that only what comes
before it (clips to the device, masks) and slow data tell ranks apart.
"""

import time

import torch

_Span = tuple[torch.cuda.Event, torch.cuda.Event]


class Pace:
    """The clock of one rank. On a GPU it is the GPU's own, which the host does not wait for."""

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._own_s = 0.0
        self._started_s: float | None = None
        self._started: torch.cuda.Event | None = None
        self._spans: list[_Span] = []

    def begin(self) -> None:
        """A step begins."""
        if self._is_cuda:
            self._started = _now_on_gpu()
        else:
            self._started_s = time.monotonic()

    def meet(self) -> None:
        """This rank is about to wait for the others; only the first time in a step counts."""
        if self._started is not None:
            self._spans.append((self._started, _now_on_gpu()))
            self._started = None
        if self._started_s is not None:
            self._own_s += time.monotonic() - self._started_s
            self._started_s = None

    def take_s(self) -> float:
        """Seconds since this was last asked; on a GPU waits for the steps that are counted."""
        for start, end in self._spans:
            end.synchronize()
            self._own_s += start.elapsed_time(end) / 1000
        own_s, self._own_s = self._own_s, 0.0
        self._spans.clear()
        return own_s


def _now_on_gpu() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event
