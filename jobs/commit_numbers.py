"""The numbers of a run's commits, which "each n-th one" goes by: a commit keeps the one it has.

They are given in the order in which commits appear, and written down. So it changes nothing for the
others when one is deleted or damaged, or when training went back and commits other steps.
"""

from collections.abc import Iterable

from sigma_pipeline.infra.storage import Storage, read_json, write_json
from sigma_pipeline.jobs.commits import committed_steps
from sigma_pipeline.jobs.evaluate_request import evaluate_folder


def commit_numbers(storage: Storage, run_name: str, steps: Iterable[int]) -> dict[int, int]:
    """Numbers by step, from 0, of all commits that there ever were; nothing is written.

    Args:
        storage: where the run lies.
        run_name: the run.
        steps: that are committed now; those that are new get the next numbers in ascending order.
    """
    known = _numbered_steps(storage, run_name)
    all_steps = [*known, *sorted(set(steps).difference(known))]
    return {step: number for number, step in enumerate(all_steps)}


def record_numbers(storage: Storage, run_name: str, seen: Iterable[int]) -> dict[int, int]:
    """The same of all commits that there are, damaged ones among them; new numbers are written.

    Two processes that do it at once see the same commits, or one of them some more at the end, and
    give the same numbers.

    Args:
        storage: where the run lies.
        run_name: the run.
        seen: steps of commits that were there a moment ago.
    """
    steps = {*seen, *committed_steps(storage, run_name)}
    numbers = commit_numbers(storage, run_name, steps)
    if list(numbers) != _numbered_steps(storage, run_name):
        write_json(storage, _key(run_name), list(numbers))
    return numbers


def _numbered_steps(storage: Storage, run_name: str) -> list[int]:
    """In the order of their numbers."""
    try:
        return [int(step) for step in read_json(storage, _key(run_name))]
    except FileNotFoundError:
        return []


def _key(run_name: str) -> str:
    return f"{evaluate_folder(run_name)}/commit_numbers.json"
