"""Parts of features: finished ones outlive a kill, damaged ones are found and made again."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.benchmarks.benchmark import FeatureSet
from sigma_pipeline.jobs.decoded import DecodedView
from sigma_pipeline.jobs.feature_request import FeatureRequest
from sigma_pipeline.jobs.feature_space import stored_sets
from sigma_pipeline.jobs.feature_store import Arrays, FeatureFolder
from sigma_pipeline.jobs.features import extract_features, load_features

Get = Callable[..., FeatureSet]


def test_an_extraction_that_was_killed_goes_on_with_the_next_part(
    storage: Storage,
    val_features: FeatureRequest,
    get: Get,
    encoded: list[range],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = get(replace(val_features, run_name="r2"), layer=-1)
    encoded.clear()
    with monkeypatch.context() as patch:
        watched = DecodedView.batches

        def killed(
            view: DecodedView, batch: int, samples: Sequence[range], decoders: int
        ) -> Iterator[torch.Tensor]:
            yield from watched(view, batch, samples[:2], decoders=decoders)
            raise KeyboardInterrupt

        patch.setattr(DecodedView, "batches", killed)
        with pytest.raises(KeyboardInterrupt):
            get(val_features)
    orphan = f"{val_features.folder}/part-00000010.earlier.pooled.npy"
    storage.write(orphan, b"half")  # put by an attempt that was killed before its receipt

    resumed = get(val_features, layer=-1)

    assert encoded == [range(5), range(5, 10), range(10, 12)]
    np.testing.assert_array_equal(resumed.pooled, whole.pooled)
    np.testing.assert_array_equal(resumed.tokens, whole.tokens)  # type: ignore[arg-type]
    assert not storage.exists(orphan)


@pytest.mark.parametrize("damage", ["flipped", "gone"])
def test_only_the_part_that_is_damaged_is_made_again(
    storage: Storage,
    val_features: FeatureRequest,
    get: Get,
    encoded: list[range],
    damage: str,
) -> None:
    first = get(val_features, layer=-1)
    encoded.clear()
    (key,) = (
        key
        for key in storage.list(val_features.folder)
        if "part-00000005." in key and key.endswith("pooled.npy")
    )
    data = storage.read(key)
    if damage == "gone":
        storage.delete(key)
    else:
        storage.write(key, data[:-1] + bytes([data[-1] ^ 1]))

    again = get(val_features, layer=-1)

    assert encoded == [range(5, 10)]
    np.testing.assert_array_equal(again.pooled, first.pooled)
    np.testing.assert_array_equal(again.tokens, first.tokens)  # type: ignore[arg-type]
    assert not storage.exists(key)


def test_features_that_never_last_are_given_up(
    storage: Storage, val_features: FeatureRequest, get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = type(storage).write

    def spoilt(self: Storage, key: str, data: bytes) -> None:
        write(self, key, data[:-1] if key.endswith(".npy") else data)

    monkeypatch.setattr(type(storage), "write", spoilt)

    with pytest.raises(StageError, match=r"pooled\.npy is damaged"):
        get(val_features)


def test_the_index_is_put_after_all_that_it_names(
    storage: Storage,
    val_features: FeatureRequest,
    tmp_path: Path,
    encoded: list[range],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there: list[set[str]] = []
    put = type(storage).write_if_absent

    def watched(self: Storage, key: str, data: bytes) -> bool:
        if key == val_features.key:
            there.append({one.rpartition("/")[2] for one in storage.list(val_features.folder)})
        return put(self, key, data)

    monkeypatch.setattr(type(storage), "write_if_absent", watched)

    extract_features(storage, val_features, str(tmp_path))

    names = {".".join(name.split(".")[::2]) for name in there[0] if name.endswith(".npy")}
    assert len(encoded) == 3
    assert names == {
        f"part-{first:08d}.{array}" for first in (0, 5, 10) for array in ("pooled", "tokens-1")
    }


def test_features_that_are_removed_while_they_are_made_are_made_again(
    storage: Storage,
    val_features: FeatureRequest,
    tmp_path: Path,
    encoded: list[range],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put_part = FeatureFolder.put_part

    def removed_once(folder: FeatureFolder, samples: range, arrays: Arrays) -> None:
        if encoded == [range(5), range(5, 10)]:
            FeatureFolder(storage, val_features.folder).delete()
        put_part(folder, samples, arrays)

    monkeypatch.setattr(FeatureFolder, "put_part", removed_once)

    extract_features(storage, val_features, str(tmp_path))

    assert encoded == [range(5), range(5, 10), range(10, 12), range(5)]
    (one,) = stored_sets(storage, "r1")
    assert (one.num_bytes, one.is_complete) == (val_features.num_bytes, True)


def test_load_says_when_there_is_nothing(storage: Storage, val_features: FeatureRequest) -> None:
    with pytest.raises(StageError, match=r"/runs/r1/features/.* is not complete"):
        load_features(storage, val_features)
