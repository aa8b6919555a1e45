"""Global batches depend on the seed alone: not on ranks, workers, memory or where one started."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sigma_pipeline.data_prep.batches import Batch
from sigma_pipeline.data_prep.clip_plan import ClipPlan
from sigma_pipeline.data_prep.config import ClipConfig, LoaderConfig
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.loader import TrainLoader
from sigma_pipeline.infra.errors import ConfigError
from sigma_pipeline.infra.storage import Storage

Split = tuple[Storage, Index]
IN_PROCESS = LoaderConfig(workers=0)


def loader_of(
    split: Split,
    *,
    rank: int = 0,
    world_size: int = 1,
    micro_batch_clips: int = 4,
    loader: LoaderConfig = IN_PROCESS,
    clip: ClipConfig | None = None,
    seed: int = 0,
) -> TrainLoader:
    storage, index = split
    return TrainLoader(
        storage,
        [index],
        ClipPlan(clip or ClipConfig(flip_probability=0.5), 4, 32, seed),
        loader=loader,
        global_batch_clips=4,
        micro_batch_clips=micro_batch_clips,
        rank=rank,
        world_size=world_size,
    )


def joined(batches: list[Batch]) -> dict[str, Tensor]:
    """All that micro-batches hold, in order, as if they were one batch."""
    return {
        "clip": torch.cat([batch.clip for batch in batches]),
        "epoch": torch.cat([torch.full_like(b.positions, b.epoch) for b in batches]),
        "positions": torch.cat([batch.positions for batch in batches]),
        "samples": torch.cat([batch.samples for batch in batches]),
        "labels": torch.cat([batch.labels for batch in batches]),
    }


def assert_same(ours: list[Batch], theirs: list[Batch]) -> None:
    expected = joined(theirs)
    for name, values in joined(ours).items():
        assert torch.equal(values, expected[name]), name


def first_batches(loader: TrainLoader, number: int, epoch: int = 0, batch: int = 0) -> list[Batch]:
    global_batches = islice(loader.micro_batches(epoch, batch), number)
    return [micro_batch for global_batch in global_batches for micro_batch in global_batch]


def test_a_batch_says_where_its_clips_come_from(coloured_split: Split) -> None:
    (batch,) = first_batches(loader_of(coloured_split), 1)

    assert batch.clip.shape == (4, 3, 4, 32, 32)
    assert batch.clip.dtype is torch.uint8
    assert batch.clip.is_contiguous()
    assert batch.positions.tolist() == [0, 1, 2, 3]
    assert batch.labels.tolist() == (batch.samples % 3).tolist()
    red = batch.clip[:, 0].double().mean(dim=(1, 2, 3))
    torch.testing.assert_close(red, 16.0 * batch.samples.double(), atol=8, rtol=0)


def test_clips_have_the_wanted_stride(coloured_split: Split) -> None:
    for batch in first_batches(loader_of(coloured_split, clip=ClipConfig(frame_stride=3)), 3):
        green = batch.clip[:, 1].double().mean(dim=(2, 3))

        steps = green.diff(dim=1)
        torch.testing.assert_close(steps, torch.full_like(steps, 60.0), atol=8, rtol=0)


@pytest.mark.parametrize(
    ("world_size", "micro_batch_clips"), [(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (4, 1)]
)
def test_ranks_and_micro_batches_share_out_the_same_global_batches(
    coloured_split: Split, world_size: int, micro_batch_clips: int
) -> None:
    ranks = [
        loader_of(
            coloured_split, rank=rank, world_size=world_size, micro_batch_clips=micro_batch_clips
        ).micro_batches(0, 0)
        for rank in range(world_size)
    ]
    undivided = loader_of(coloured_split).micro_batches(0, 0)

    for _ in range(4):
        shares = [next(rank) for rank in ranks]

        assert {len(share) for share in shares} == {4 // world_size // micro_batch_clips}
        assert_same([batch for share in shares for batch in share], next(undivided))


@pytest.mark.parametrize(("epoch", "batch"), [(0, 1), (0, 2), (1, 0), (2, 1)])
def test_going_on_from_anywhere_gives_what_an_undisturbed_run_gives(
    coloured_split: Split, epoch: int, batch: int
) -> None:
    undisturbed = first_batches(loader_of(coloured_split), 3 * epoch + batch + 4)

    resumed = first_batches(loader_of(coloured_split), 4, epoch, batch)

    assert_same(resumed, undisturbed[-4:])


def test_one_past_the_last_batch_is_the_next_epoch(coloured_split: Split) -> None:
    loader = loader_of(coloured_split)

    assert loader.batches_per_epoch == 3
    assert_same(first_batches(loader, 1, 0, 3), first_batches(loader, 1, 1, 0))


def test_an_epoch_takes_a_sample_at_most_once_and_the_next_one_orders_them_anew(
    coloured_split: Split,
) -> None:
    batches = first_batches(loader_of(coloured_split), 6)

    orders = [joined(batches[:3])["samples"].tolist(), joined(batches[3:])["samples"].tolist()]
    assert [batch.epoch for batch in batches] == [0, 0, 0, 1, 1, 1]
    assert [len(set(order)) for order in orders] == [12, 12]
    assert orders[0] != orders[1]


def test_a_sample_is_cut_anew_each_epoch(coloured_split: Split) -> None:
    clips: dict[int, list[bytes]] = {}
    for batch in first_batches(loader_of(coloured_split), 12):
        for sample, clip in zip(batch.samples.tolist(), batch.clip, strict=True):
            clips.setdefault(sample, []).append(clip.numpy().tobytes())

    assert all(len(set(cuts)) > 1 for cuts in clips.values())


def test_another_seed_is_another_order(coloured_split: Split) -> None:
    ours = joined(first_batches(loader_of(coloured_split, seed=0), 3))
    theirs = joined(first_batches(loader_of(coloured_split, seed=1), 3))

    assert ours["samples"].tolist() != theirs["samples"].tolist()


def test_videos_kept_in_memory_give_the_same_batches(coloured_split: Split) -> None:
    remembering = loader_of(coloured_split, loader=LoaderConfig(workers=0, decoded_cache_gib=1))

    assert_same(first_batches(remembering, 7), first_batches(loader_of(coloured_split), 7))


def test_what_is_done_to_a_batch_does_not_reach_the_next_ones(coloured_split: Split) -> None:
    config = LoaderConfig(workers=0, decoded_cache_gib=1)
    spoiled = loader_of(coloured_split, loader=config).micro_batches(0, 0)
    for _ in range(6):
        next(spoiled)[0].clip.zero_()

    assert_same(next(spoiled), first_batches(loader_of(coloured_split), 1, 2, 0))


def test_a_short_video_still_fills_its_clip(coloured_split: Split) -> None:
    (batch,) = first_batches(loader_of(coloured_split, clip=ClipConfig(frame_stride=50)), 1)

    assert torch.equal(batch.clip[:, :, 0], batch.clip[:, :, 3])


@pytest.mark.parametrize("clips_per_decode", [1, 3])
def test_going_on_reads_nothing_of_the_batches_before(
    coloured_split: Split, monkeypatch: pytest.MonkeyPatch, clips_per_decode: int
) -> None:
    storage, index = coloured_split
    offsets = []
    read = type(storage).read

    def noted(self: Storage, key: str, start: int = 0, length: int | None = None) -> bytes:
        offsets.append(start)
        return read(self, key, start, length)

    clip = ClipConfig(clips_per_decode=clips_per_decode)
    loader = loader_of(coloured_split, clip=clip)
    monkeypatch.setattr(type(storage), "read", noted)

    batches = first_batches(loader, 1, 1, 2)

    wanted = {index.source(sample).media_offset for sample in joined(batches)["samples"].tolist()}
    assert set(offsets) == wanted
    assert len(offsets) == len(wanted)


def test_a_cache_on_disk_gives_the_same_batches_without_the_store(
    coloured_split: Split, tmp_path: Path
) -> None:
    storage, index = coloured_split

    def cached() -> TrainLoader:
        return TrainLoader(
            storage,
            [index],
            ClipPlan(ClipConfig(), 4, 32, 0),
            loader=LoaderConfig(workers=0, range_cache_gib=0.1, read_threads=2),
            global_batch_clips=4,
            micro_batch_clips=4,
            cache_dir=tmp_path / "ranges",
        )

    before = first_batches(cached(), 3)
    storage.delete(index.source(0).tar)

    assert_same(first_batches(cached(), 3), before)


@pytest.mark.parametrize(("cache_gib", "warnings"), [(0.0, 0), (1e-4, 1), (1.0, 0)])
def test_a_cache_too_small_for_the_split_is_warned_of(
    coloured_split: Split, caplog: pytest.LogCaptureFixture, cache_gib: float, warnings: int
) -> None:
    loader_of(coloured_split, loader=LoaderConfig(workers=0, decoded_cache_gib=cache_gib))

    assert len(caplog.records) == warnings


def test_ranks_that_do_not_fit_are_refused(coloured_split: Split) -> None:
    with pytest.raises(ConfigError, match="Ranks that fit this micro-batch: 1, 2;"):
        loader_of(coloured_split, world_size=3, micro_batch_clips=2)


def test_a_split_smaller_than_a_batch_is_refused(coloured_split: Split) -> None:
    storage, index = coloured_split

    with pytest.raises(ConfigError, match="is 4, but an epoch has only 3 clips"):
        loader_of((storage, index.part(range(3))))


@pytest.mark.slow
@pytest.mark.parametrize("cache_gib", [0.0, 1.0])
def test_decoding_processes_give_the_same_batches(coloured_split: Split, cache_gib: float) -> None:
    config = LoaderConfig(workers=2, prefetch_batches=2, decoded_cache_gib=cache_gib)
    ours = first_batches(loader_of(coloured_split, loader=config, micro_batch_clips=2), 7)

    assert_same(ours, first_batches(loader_of(coloured_split), 7))
    assert np.all([batch.clip.is_contiguous() for batch in ours])


@pytest.mark.gpu
def test_batches_lie_in_page_locked_memory(coloured_split: Split) -> None:
    (batch,) = first_batches(loader_of(coloured_split), 1)

    assert batch.clip.is_pinned()
    assert_same([batch], first_batches(loader_of(coloured_split), 1))
