"""Stopping together: a wish on any rank becomes a decision of all ranks at the same step.

Wishes are exchanged over the control group, one step late, so that nobody ever waits for the
exchange (design 5).
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist


class Agreement:
    """Small numbers of the ranks, the highest of each known to all one call later."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self._flags = torch.zeros(0, dtype=torch.int32)
        self._work: dist.Work | None = None

    def exchange(self, flags: Sequence[int]) -> list[int]:
        """Sends this rank's flags; returns the highest of all ranks at the call before.

        Every rank must call it equally often, with as many flags, and then gets the same answers:
        zeros from the first call.
        """
        agreed = self.close() or [0] * len(flags)
        self._flags = torch.tensor(flags, dtype=torch.int32)
        self._work = dist.all_reduce(
            self._flags, op=dist.ReduceOp.MAX, group=self._group, async_op=True
        )
        return agreed

    def close(self) -> list[int]:
        """Waits for the last exchange; returns its result, nothing without one."""
        if self._work is None:
            return []
        self._work.wait()
        self._work = None
        flags: list[int] = self._flags.tolist()
        return flags
