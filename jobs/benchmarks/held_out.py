"""Parts of a training split that are held out to choose settings, so that no test sample does."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


def stratified_part(labels: npt.NDArray[np.int64], fraction: float, seed: int) -> Mask:
    """Marks a share of each class, rounded down: every class keeps at least one sample."""
    generator = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        chosen[members[: int(fraction * len(members))]] = True
    return chosen


def group_part(groups: Sequence[str | None], fraction: float, seed: int) -> Mask:
    """Marks all samples of a share of the groups: at least one, and never all of them."""
    names, group_of = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    wanted = min(max(1, int(fraction * len(names))), len(names) - 1)
    chosen = np.random.default_rng(seed).permutation(len(names))[:wanted]
    return np.isin(group_of, chosen)
