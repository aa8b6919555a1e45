"""The matrix that Sinkhorn's rounds scale: exponentials of scores, part by part.

Axes: ``tokens`` hidden tokens of all clips of a batch, ``prototypes`` cluster centres.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_pipeline.model.products import product
from sigma_pipeline.model.scores import Scores, row_parts

LOWEST_EXPONENT = -70.0
"""No prototype is out of reach of a token: with entries of at least exp(-70), and the largest
column scale kept at 1, every sum of up to 10**8 tokens is a normal float32, never 0 and never
infinite. Cosines reach it only where epsilon is below 2 / 70."""
MOST_KEPT_BYTES = 8 * 2**30
"""A larger kernel is not kept: its parts are computed anew in every round."""
_ENTROPY_ROWS = 256


class Kernel:
    """``exp(score / epsilon + shift)``, rows over their maximum, and a scale for every row.

    Shifts are logarithms of column scales that have become too large or too small for a float;
    the rows' maximum is constant per row, which the scaling of rows takes out again.
    """

    def __init__(self, scores: Scores, epsilon: float) -> None:
        tokens, prototypes = scores.shape
        dtype = torch.promote_types(scores.dtype, torch.float32)
        self._scores = scores
        # Of cosines, the prototypes are divided; of a matrix, each part when it is looked at.
        self._divided = scores if isinstance(scores, Tensor) else scores * (1 / epsilon)
        self._epsilon = epsilon
        self._top = torch.empty(tokens, dtype=dtype, device=scores.device)
        self._row_scale = torch.ones_like(self._top)
        self._row_log: Tensor | None = None
        self._shift: Tensor | None = None
        is_kept = tokens * prototypes * dtype.itemsize <= MOST_KEPT_BYTES
        self._kept = self._top.new_empty(tokens, prototypes) if is_kept else None
        self._is_filled = False

    @property
    def has_floor(self) -> bool:
        """Whether cosines may fall below the lowest exponent and are lifted to it."""
        return 2 / self._epsilon > -LOWEST_EXPONENT

    def column_sum(
        self, column_scale: Float[Tensor, " prototypes"] | None
    ) -> Float[Tensor, " prototypes"]:
        """Sums of the columns over scaled rows.

        Args:
            column_scale: new scales of the rows are taken from it before, so that each row of the
                doubly scaled kernel sums to 1; those of the rows stay as they are when None.
        """
        total = self._top.new_zeros(self._scores.shape[1])
        for rows, kernel in self._parts():
            if column_scale is not None:
                self._row_scale[rows] = 1 / _times(kernel, column_scale)
            elif self._row_log is not None:
                self._row_scale[rows] = (self._row_log[rows] + self._top[rows]).exp()
            total += _times(kernel.T, self._row_scale[rows])
        self._row_log = None
        return total

    def shift(self, column_scale: Float[Tensor, " prototypes"]) -> None:
        """Takes column scales into the exponent; what the scaled rows stand for stays the same."""
        self._row_log = self._row_scale.log() - self._top
        shift = column_scale.log()
        self._shift = shift if self._shift is None else self._shift + shift
        self._is_filled = False

    def labels(self, column_scale: Float[Tensor, " prototypes"]) -> Int[Tensor, " tokens"]:
        """The prototype with the largest share of each token. Scales of rows play no part."""
        parts = row_parts(self._scores)
        return torch.cat([(self._rows(rows) * column_scale).argmax(dim=1) for rows in parts])

    def row_entropy(self, column_scale: Float[Tensor, " prototypes"]) -> Float[Tensor, ""]:
        """Mean entropy of the rows over its maximum, of a few tokens spread over all."""
        stride = max(1, len(self._top) // _ENTROPY_ROWS)
        rows = slice(0, None, stride)
        shares = self._rows(rows) * column_scale
        shares /= shares.sum(dim=1, keepdim=True)
        entropy: Tensor = torch.special.entr(shares).sum(dim=1).mean()
        return entropy / max(math.log(shares.shape[1]), 1e-12)

    def plan(
        self, column_scale: Float[Tensor, " prototypes"]
    ) -> Float[Tensor, "tokens prototypes"]:
        """The doubly scaled kernel, whose rows sum to 1; it takes the kernel's place."""
        plan = self._top.new_empty(self._scores.shape) if self._kept is None else self._kept
        for rows in row_parts(self._scores):
            kernel = self._rows(rows)
            row_sum = _times(kernel, column_scale)[:, None]
            torch.mul(kernel, column_scale, out=plan[rows]).div_(row_sum)
        self._is_filled = False
        return plan

    def _parts(self) -> Iterator[tuple[slice, Tensor]]:
        """Its rows, part by part: as they are there, or computed now."""
        for rows in row_parts(self._scores):
            kept = None if self._kept is None else self._kept[rows]
            if kept is None or not self._is_filled:
                kept = self._exponentials(rows, kept)
            yield rows, kept
        self._is_filled = self._kept is not None

    def _rows(self, rows: slice) -> Tensor:
        """Some of its rows, after all have been gone through."""
        return self._kept[rows] if self._kept is not None else self._exponentials(rows)

    def _exponentials(self, rows: slice, out: Tensor | None = None) -> Tensor:
        """At most 1, so that they cannot overflow."""
        exponents = self._divided[rows]
        if isinstance(self._divided, Tensor):
            exponents = exponents.to(self._top.dtype) / self._epsilon
        if self._shift is not None:
            exponents = exponents + self._shift
        self._top[rows] = exponents.amax(dim=1)
        exponents = torch.sub(exponents, self._top[rows, None], out=out)
        if self.has_floor:
            exponents.clamp_(min=LOWEST_EXPONENT)
        return exponents.exp_()


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    """In the precision of its factors, also inside autocast."""
    with torch.autocast(matrix.device.type, enabled=False):
        # MKL, to which PyTorch gives vectors, multiplies them with one thread.
        return product(matrix, vector[None])[:, 0]
