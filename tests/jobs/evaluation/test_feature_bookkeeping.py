"""What it costs to know which features there are, and who reads them."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from sigma_pipeline.infra.storage import LocalStorage, Storage
from sigma_pipeline.jobs.feature_request import FeatureRequest
from sigma_pipeline.jobs.feature_space import FeatureSpace, reserve
from sigma_pipeline.jobs.feature_store import FeatureFolder


class CountingStorage(LocalStorage):
    """Counts what it is asked for."""

    asked: ClassVar[Counter[str]] = Counter()

    def exists(self, key: str) -> bool:
        """Counts."""
        self.asked["exists"] += 1
        return super().exists(key)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Counts."""
        self.asked["read"] += 1
        return super().read(key, start, length)

    def list(self, prefix: str) -> list[str]:
        """Counts."""
        self.asked["list"] += 1
        return super().list(prefix)


@pytest.fixture
def counting(tmp_path: Path) -> CountingStorage:
    """Has been asked for nothing."""
    CountingStorage.asked.clear()
    return CountingStorage(str(tmp_path / "store"))


def _requests(one: FeatureRequest, count: int) -> list[FeatureRequest]:
    return [
        replace(one, source=replace(one.source, weights_sha256=str(number)))
        for number in range(count)
    ]


def test_the_sets_of_a_new_commit_cost_two_lists_each_however_many_there_are(
    counting: CountingStorage, val_features: FeatureRequest
) -> None:
    *old, train, test = _requests(val_features, 28)
    for request in old:
        FeatureFolder(counting, request.folder).plan(request.num_bytes)
    space = FeatureSpace(counting, "r1", limit_gib=1)

    for cell in ("knn", "linear"):
        space.add_reader(cell, [train, test])
    for request in (train, test):
        space.begin(request.key)
        reserve(counting, request)  # by the worker
        space.end(request.key)
    for cell in ("knn", "linear"):
        space.end(cell)

    assert counting.asked == {"exists": 2, "list": 5}


def test_whether_there_is_room_for_one_set_takes_no_look_at_all_others(
    storage: Storage, val_features: FeatureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = FeatureSpace(storage, "r1", limit_gib=1)
    *held, new = _requests(val_features, 30)
    for number, request in enumerate([*held, new]):
        space.add_reader(f"cell {number}", [request])
    for request in held:
        space.begin(request.key)
    sizes: list[FeatureRequest] = []
    monkeypatch.setattr(FeatureRequest, "num_bytes", property(lambda one: sizes.append(one) or 1))

    assert space.has_room(new.key)

    assert sizes == [new]
