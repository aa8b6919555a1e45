"""Several datasets side by side, as one run of sample numbers."""

from collections.abc import Sequence

import numpy as np

from sigma_pipeline.data_prep.hot_columns import ClipSource
from sigma_pipeline.data_prep.index import Index


class Pool:
    """The samples of all ``indexes``, numbered on from one to the next. Picklable."""

    def __init__(self, indexes: Sequence[Index]) -> None:
        self.indexes = tuple(indexes)
        self._starts = np.cumsum([0, *map(len, self.indexes)])

    def __len__(self) -> int:
        """Number of samples of all."""
        return int(self._starts[-1])

    def locate(self, sample: int) -> tuple[Index, int]:
        """The index that holds ``sample``, and its row there.

        Raises:
            IndexError: there is no such sample.
        """
        if not 0 <= sample < len(self):
            raise IndexError(f"sample {sample} of {len(self)}")
        number = int(np.searchsorted(self._starts, sample, side="right")) - 1
        return self.indexes[number], sample - int(self._starts[number])

    def source(self, sample: int) -> ClipSource:
        """What planning and reading a clip of ``sample`` needs."""
        index, row = self.locate(sample)
        return index.source(row)
