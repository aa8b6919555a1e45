"""Decoded views: the same arrays whether kept or not, and made once."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from sigma_pipeline.data_prep.config import MultiViewConfig, ViewConfig
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.view_plans import view_frames
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs import decoded
from sigma_pipeline.jobs.decoded import ClipShape, DecodedView

REF = DatasetRef("squares", "val", "v1")
SHAPE = ClipShape(ViewConfig(frame_stride=2, crop="resize"), num_frames=4, frame_size_px=32)


@pytest.fixture
def view(storage: Storage, tmp_path: Path) -> DecodedView:
    return DecodedView(storage, Index.load(storage, REF), SHAPE, str(tmp_path / "scratch"))


def test_a_view_too_large_to_keep_gives_the_same_clips(
    view: DecodedView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = torch.cat(list(view.batches(5)))
    monkeypatch.setattr(decoded, "KEPT_VIEW_BYTES", 0)
    streamed = torch.cat(list(view.batches(7)))

    assert kept.shape == (12, 3, 4, 32, 32)
    assert torch.equal(kept, streamed)
    assert len(list((tmp_path / "scratch" / "views").glob("*.npy"))) == 1


@pytest.mark.parametrize("kept_bytes", [decoded.KEPT_VIEW_BYTES, 0])
def test_runs_of_samples_are_those_of_the_whole_split_with_all_their_views(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_bytes: int
) -> None:
    monkeypatch.setattr(decoded, "KEPT_VIEW_BYTES", kept_bytes)
    shape = ClipShape(MultiViewConfig(segments=3, crop="resize"), num_frames=2, frame_size_px=32)
    view = DecodedView(storage, Index.load(storage, REF), shape, str(tmp_path))
    whole = torch.cat(list(view.batches(100)))

    batches = list(view.batches(7, [range(1, 4), range(9, 12)]))

    assert [len(batch) for batch in batches] == [6, 3, 6, 3]  # two samples at a time
    assert torch.equal(torch.cat(batches), torch.cat([whole[3:12], whole[27:36]]))


@pytest.mark.slow  # starts processes
def test_other_processes_decode_the_same_clips(
    view: DecodedView, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = torch.cat(list(view.batches(5)))
    monkeypatch.setattr(decoded, "KEPT_VIEW_BYTES", 0)

    assert torch.equal(torch.cat(list(view.batches(5, decoders=2))), kept)


def test_videos_are_decoded_once(view: DecodedView, storage: Storage) -> None:
    first = torch.cat(list(view.batches(5)))
    storage.delete(f"{REF.prefix}/shard-000000.a.tar")

    assert torch.equal(torch.cat(list(view.batches(12))), first)


def test_masks_show_the_objects_of_the_clips_own_frames(view: DecodedView) -> None:
    clips, masks = torch.cat(list(view.batches(12))).numpy(), view.masks()

    assert masks.shape == (12, 4, 32, 32)
    assert set(np.unique(masks)) == {0, 1}
    red = clips[0].astype(int)  # the first clip's square is red
    inside = masks[0] == 1
    assert (red[0] - red[2])[inside].mean() > 100
    assert abs((red[0] - red[2])[~inside].mean()) < 40


def test_frames_are_those_that_the_view_plans_for_each_sample(
    storage: Storage, tmp_path: Path
) -> None:
    random = ViewConfig(sampling="random", crop="resize")
    shape = ClipShape(random, num_frames=4, frame_size_px=32)
    view = DecodedView(storage, Index.load(storage, REF), shape, str(tmp_path))

    expected = [view_frames(8, 4, random, sample)[0].tolist() for sample in range(12)]

    assert view.frames().tolist() == expected


def test_a_decoding_that_was_killed_is_begun_again(
    view: DecodedView, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(batch: int, samples: Sequence[range], decoders: int) -> Iterator[torch.Tensor]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(view, "_decoded", killed)
        with pytest.raises(KeyboardInterrupt):
            list(view.batches(5))

    assert torch.cat(list(view.batches(5))).any(dim=(1, 2, 3, 4)).all()


def test_another_view_or_version_is_another_file(storage: Storage, tmp_path: Path) -> None:
    index = Index.load(storage, REF)
    newer = Index(DatasetRef("squares", "val", "v2"), index.classes, "1", index.rows)
    other = ClipShape(ViewConfig(frame_stride=1, crop="resize"), 4, 32)

    names = {
        DecodedView(storage, each, shape, str(tmp_path))._name
        for each, shape in ((index, SHAPE), (index, other), (newer, SHAPE))
    }

    assert len(names) == 3
