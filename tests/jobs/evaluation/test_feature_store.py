"""The store of features: of two attempts at a part or a set, one counts."""

import numpy as np
import pytest

from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.feature_files import is_plan
from sigma_pipeline.jobs.feature_space import stored_sets
from sigma_pipeline.jobs.feature_store import FeatureFolder, LostFeatures

FOLDER = "runs/r1/features/f"
ARRAYS = {"pooled": np.arange(6, dtype=np.float32).reshape(2, 1, 3)}
SAMPLES = {"key": ["a", "b", "c"], "group": [None, "x", None], "label": np.array([0, -1, 1])}


@pytest.fixture
def attempts(storage: Storage) -> tuple[FeatureFolder, FeatureFolder]:
    return FeatureFolder(storage, FOLDER), FeatureFolder(storage, FOLDER)


def test_the_second_attempt_at_a_part_adopts_the_first_and_leaves_nothing(
    storage: Storage, attempts: tuple[FeatureFolder, FeatureFolder]
) -> None:
    first, second = attempts
    first.put_part(range(2), ARRAYS)
    files = storage.list(FOLDER)

    second.put_part(range(2), ARRAYS)

    assert storage.list(FOLDER) == files
    assert first.finished_parts() == second.finished_parts()


def test_both_attempts_finish_with_the_index_of_one_and_only_its_files(
    storage: Storage, attempts: tuple[FeatureFolder, FeatureFolder]
) -> None:
    first, second = attempts
    first.put_part(range(2), ARRAYS)
    second.put_part(range(2, 3), {"pooled": ARRAYS["pooled"][:1]})

    first.finish(SAMPLES, 2, {})
    index = first.index()
    second.finish(SAMPLES, 2, {})

    assert second.index() == index
    names = {key.rpartition("/")[2] for key in storage.list(FOLDER)}
    (plan,) = filter(is_plan, names)
    assert {name for name in names if not name.endswith(".json")} == {plan, *index.files}
    assert second.array(index, "pooled").tolist() == [[[0, 1, 2]], [[3, 4, 5]], [[0, 1, 2]]]
    samples = second.samples(index)
    assert samples["group"].to_pylist() == [None, "x", None]
    assert [(part.first, part.last) for part in index.parts] == [(0, 2), (2, 3)]


@pytest.mark.parametrize("missing", [range(2), range(2, 3)])
def test_features_of_which_parts_were_removed_meanwhile_are_not_finished(
    storage: Storage, attempts: tuple[FeatureFolder, FeatureFolder], missing: range
) -> None:
    folder = attempts[0]
    for samples in (range(2), range(2, 3)):
        if samples != missing:
            folder.put_part(samples, {"pooled": ARRAYS["pooled"][: len(samples)]})

    with pytest.raises(LostFeatures, match=f"from sample {missing.start} on are not there"):
        folder.finish(SAMPLES, 2, {})

    assert not storage.exists(f"{FOLDER}/index.json")


def test_features_whose_plan_was_removed_meanwhile_have_one_once_they_are_complete(
    storage: Storage, attempts: tuple[FeatureFolder, FeatureFolder]
) -> None:
    folder = attempts[0]
    folder.put_part(range(3), {"pooled": np.zeros((3, 1, 3), np.float32)})

    folder.finish(SAMPLES, 2, {})

    (one,) = stored_sets(storage, "r1")
    assert (one.folder, one.num_bytes, one.is_complete) == (FOLDER, 36, True)


def test_a_receipt_that_is_removed_while_it_is_looked_for_is_lost(
    storage: Storage,
    attempts: tuple[FeatureFolder, FeatureFolder],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts[0].put_part(range(2), ARRAYS)
    listed = storage.list(FOLDER)
    attempts[0].delete()
    monkeypatch.setattr(type(storage), "list", lambda *_: listed)

    with pytest.raises(LostFeatures, match="is being removed"):
        attempts[1].finished_parts()


def test_what_another_attempt_begins_during_a_removal_is_left_to_it(
    storage: Storage,
    attempts: tuple[FeatureFolder, FeatureFolder],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = attempts
    first.plan(36)
    first.put_part(range(3), {"pooled": np.zeros((3, 1, 3), np.float32)})
    first.finish(SAMPLES, 2, {})
    delete = type(storage).delete

    def begun_meanwhile(self: Storage, key: str) -> None:
        delete(self, key)
        if key.endswith("index.json"):
            second.plan(36)

    monkeypatch.setattr(type(storage), "delete", begun_meanwhile)

    first.delete()

    (one,) = stored_sets(storage, "r1")
    assert (one.num_bytes, one.is_complete) == (36, False)


def test_nothing_is_left_of_what_is_deleted(
    storage: Storage, attempts: tuple[FeatureFolder, FeatureFolder]
) -> None:
    folder = attempts[0]
    folder.plan(100)
    folder.put_part(range(3), {"pooled": np.zeros((3, 1, 3), np.float32)})
    folder.finish(SAMPLES, 2, {})

    folder.delete()

    assert storage.list(FOLDER) == []
