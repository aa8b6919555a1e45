"""The commits of one run, as an evaluation comes to know them, and which of them are scored."""

from collections.abc import Sequence

from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.commit_numbers import record_numbers
from sigma_pipeline.jobs.commits import Commit, list_commits, manifest_key, train_folder
from sigma_pipeline.jobs.evaluate_policy import chosen_steps
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.planned_trials import PlannedTrial

Choice = tuple[Commit, PlannedTrial]


class RunCommits:
    """The commits that there were at the last look; only damaged ones are read at each look."""

    def __init__(self, storage: Storage, request: EvaluateRequest) -> None:
        """Has not looked yet."""
        self.all: list[Commit] = []
        """By step."""
        self._storage = storage
        self._request = request
        self._known: dict[str, Commit] = {}
        self._numbers: dict[int, int] = {}

    @property
    def own(self) -> list[Commit]:
        """Those that are not left to another job."""
        return [commit for commit in self.all if self._request.takes(commit.step)]

    def hint(self) -> bytes:
        """Changes with each new commit; reading it is cheaper than listing all of them."""
        try:
            return self._storage.read(f"{train_folder(self._request.run_name)}/latest.json")
        except FileNotFoundError:
            return b""

    def are_whole(self) -> bool:
        """Whether there will be no more, and it is for this job to know."""
        # Of jobs for single commits none knows which is the last; it is left to the job for all.
        is_for_all = self._request.steps is None
        return is_for_all and self._storage.exists(manifest_key(self._request.run_name))

    def look(self) -> None:
        """Reads the commits that have come since, and gives them their numbers."""
        run_name = self._request.run_name
        self.all = list_commits(self._storage, run_name, self._known)
        self._numbers = record_numbers(self._storage, run_name, self._steps())

    def chosen(self, trials: Sequence[PlannedTrial], *, is_whole: bool) -> list[Choice]:
        """What is to be scored on what, as far as that depends on no score.

        All of one commit comes before the next, so that its features are read while they are there.
        """
        by_step = {commit.step: commit for commit in self.own}
        choices = [
            (by_step[step], planned)
            for planned in trials
            for step in self._chosen_steps(planned, is_whole=is_whole)
            if step in by_step
        ]
        return sorted(choices, key=lambda choice: choice[0].step)

    def num_waiting(self, planned: PlannedTrial) -> int:
        """How many of these a trial would be made on besides, were no more to come."""
        if planned.best is not None:
            return min(planned.best, len(self.all))
        now, then = (self._chosen_steps(planned, is_whole=is_whole) for is_whole in (False, True))
        return len(then) - len(now)

    def _chosen_steps(self, planned: PlannedTrial, *, is_whole: bool) -> list[int]:
        return chosen_steps(self._steps(), planned, numbers=self._numbers, is_final=is_whole)

    def _steps(self) -> list[int]:
        return [commit.step for commit in self.all]
