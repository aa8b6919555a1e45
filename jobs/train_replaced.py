"""Bad samples of a training: counted over all ranks, named once each, and no more than agreed."""

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.data_prep.replacement import Replaced, damaged_shards, is_over_budget
from sigma_pipeline.infra.errors import PipelineError, StageError
from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.commits import train_folder
from sigma_pipeline.jobs.distributed import RankContext
from sigma_pipeline.jobs.train_request import TrainRequest

log = logging.getLogger(__name__)

ARTIFACTS = "train/replaced_samples"
"""Folder that MLflow shows: in all its files one line for each bad sample, where it was met first.
Files are never changed, since MLflow is sent each just once."""
_SHARDS_NAMED = 10
_Identity = tuple[str, str, str]


class ReplacedSamples:
    """The account of one attempt, on every rank; rank 0 holds the pen."""

    def __init__(
        self,
        request: TrainRequest,
        context: RankContext,
        storage: Storage,
        *,
        attempt: str,
        journal: Journal | None,
        total: int,
    ) -> None:
        """``total``: how many the commit that is resumed has counted."""
        self.total = total
        self._request = request
        self._context = context
        self._storage = storage
        self._journal = journal
        self._attempt = attempt
        self._noted: list[Replaced] = []
        self._met: dict[_Identity, Replaced] = {}
        earlier = read_replaced(storage, request.run_name) if journal is not None else []
        self._listed = {_identity(each) for each in earlier}
        self._new: dict[_Identity, Replaced] = {}
        self._num_files = 0

    def note(self, batches: Iterable[Batch]) -> None:
        """Takes down what this rank's micro-batches say."""
        self._noted += (each for batch in batches for each in batch.replaced)

    def settle(self) -> int:
        """Counts what all ranks have noted; how many there were since the start of the run.

        A collective: every rank calls it after the same steps.
        """
        noted = self._context.all_gather(self._noted)
        self._noted = []
        replaced = [each for of_rank in noted for each in of_rank]
        replaced.sort(key=lambda each: (each.epoch, each.position))
        self.total += len(replaced)
        self._met |= {_identity(each): each for each in replaced}
        if self._journal is not None:
            self._list(replaced, self._journal)
        return self.total

    def require_few(self, step: int) -> None:
        """Gives up when too many samples were bad in ``step`` steps; on every rank at once.

        Raises:
            StageError: names the shards they lie in, and how to repair those.
        """
        train = self._request.train
        taken = step * train.global_batch_clips // train.clip.clips_per_decode
        allowed = train.loader.max_bad_fraction
        if not self._met or not is_over_budget(self.total, taken, allowed):
            return
        first, *_ = self._met.values()
        raise StageError(
            f"{self.total} of the {taken} samples so far could not be read, more than "
            f"train.loader.max_bad_fraction={allowed:g} allows: {_shards(self._met.values())}. "
            f"One of them: {first.reason}"
        )

    def _list(self, replaced: Iterable[Replaced], journal: Journal) -> None:
        """Writes down those that no attempt has met before, if there are any.

        A failing store does not end training here, but at the commits: the next call tries again.
        """
        for each in replaced:
            if _identity(each) not in self._listed and _identity(each) not in self._new:
                self._new[_identity(each)] = each
                log.warning("Another sample was taken in the place of a bad one: %s", each.reason)
        if not self._new:
            return
        name = f"{self._attempt}-{self._num_files + 1:05d}.jsonl"
        key = f"{_folder(self._request.run_name)}/{name}"
        lines = (json.dumps(asdict(each), ensure_ascii=False) for each in self._new.values())
        try:
            self._storage.write(key, "".join(f"{line}\n" for line in lines).encode())
        except (OSError, PipelineError) as error:
            log.warning("The list of bad samples is not written yet: %s", error)
            return
        journal.artifact(f"{ARTIFACTS}/{name}", key)
        self._num_files += 1
        self._listed |= self._new.keys()
        self._new = {}


def read_replaced(storage: Storage, run_name: str) -> list[Replaced]:
    """The bad samples that all attempts of a run have met."""
    lines = (
        line
        for key in storage.list(_folder(run_name))
        for line in storage.read(key).decode().splitlines()
    )
    return [Replaced(**json.loads(line)) for line in lines]


def _folder(run_name: str) -> str:
    return f"{train_folder(run_name)}/replaced"


def _identity(replaced: Replaced) -> _Identity:
    return replaced.dataset, replaced.split, replaced.key


def _shards(replaced: Iterable[Replaced]) -> str:
    """The shards that most of them lie in, and what repairs all of them."""
    counts = damaged_shards(replaced)
    named = [f"{tar} ({number})" for (_, _, tar), number in counts.most_common(_SHARDS_NAMED)]
    if len(counts) > _SHARDS_NAMED:
        named.append(f"{len(counts) - _SHARDS_NAMED} more")
    splits = sorted({(dataset, split) for dataset, split, _ in counts})
    commands = (f"sigma-pipeline shards repair {dataset}/{split}" for dataset, split in splits)
    return (
        f"{', '.join(named)}; repair them with: {' and '.join(commands)} (the same --config and "
        "--set)"
    )
