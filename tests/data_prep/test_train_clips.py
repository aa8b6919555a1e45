"""Clips by position: what stands in for damaged samples, and what stays as it was."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from sigma_pipeline.data_prep.batches import Batch, Span
from sigma_pipeline.data_prep.clip_plan import ClipPlan
from sigma_pipeline.data_prep.config import AugmentConfig, ClipConfig, LoaderConfig
from sigma_pipeline.data_prep.frames import FrameReader
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.pool import Pool
from sigma_pipeline.data_prep.train_clips import TrainClips
from sigma_pipeline.data_prep.train_order import build_order
from sigma_pipeline.infra.errors import StageError
from sigma_pipeline.infra.storage import Storage

Split = tuple[Storage, Index]
Cut = Callable[..., Batch]


@pytest.fixture
def cut(coloured_split: Split) -> Cut:
    """The clips at some positions of the first epoch; keywords are clip settings."""
    storage, index = coloured_split

    def clips(first: int, last: int, **settings: Any) -> Batch:
        clip, pool = ClipConfig(**settings), Pool([index])
        order = build_order(pool, [1.0], clip=clip, loader=LoaderConfig(), seed=0)
        source = TrainClips(pool, FrameReader(storage, pool), order, ClipPlan(clip, 4, 32, 0))
        batch = source[Span(0, first, last)]
        if isinstance(batch, StageError):
            raise batch
        return batch

    return clips


def blank(split: Split, *samples: int) -> None:
    """Overwrites the bytes of videos inside their tar with zeros."""
    storage, index = split
    tar = bytearray(storage.read(index.source(0).tar))
    for sample in samples:
        source = index.source(sample)
        start, size = source.media_offset, source.media_size
        tar[start : start + size] = bytes(size)
    storage.write(index.source(0).tar, bytes(tar))


def assert_same(ours: Batch, theirs: Batch) -> None:
    for name in ("clip", "positions", "samples", "labels"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name


def test_a_damaged_sample_is_replaced_by_another_and_nothing_else_changes(
    coloured_split: Split, cut: Cut
) -> None:
    before = cut(4, 8)
    bad = int(before.samples[2])
    blank(coloured_split, bad)

    after = cut(4, 8)

    stand_in = int(after.samples[2])
    assert stand_in != bad
    assert int(after.labels[2]) == stand_in % 3
    assert float(after.clip[2, 0].double().mean()) == pytest.approx(16 * stand_in, abs=8)
    others = [0, 1, 3]
    assert torch.equal(after.clip[others], before.clip[others])
    assert torch.equal(after.positions, before.positions)


def test_a_batch_says_what_was_replaced_in_it_and_where_that_lies(
    coloured_split: Split, cut: Cut
) -> None:
    bad = int(cut(4, 8).samples[2])
    blank(coloured_split, bad)

    (replaced,) = cut(4, 8).replaced

    assert cut(0, 4).replaced == ()
    assert (replaced.dataset, replaced.split) == ("colours", "train")
    assert (replaced.key, replaced.source) == (f"clip-{bad}", f"colours/{bad}.mp4")
    assert replaced.tar == "datasets/colours/train/v1/shard-000000.a.tar"
    assert (replaced.epoch, replaced.position) == (0, 6)
    assert f"clip-{bad}" in replaced.reason


def test_a_sample_whose_clips_are_cut_apart_is_replaced_alike_and_counted_once(
    coloured_split: Split, cut: Cut
) -> None:
    bad = int(cut(3, 6, clips_per_decode=3).samples[0])
    blank(coloured_split, bad)

    whole = cut(3, 6, clips_per_decode=3)
    apart = [cut(3, 4, clips_per_decode=3), cut(4, 6, clips_per_decode=3)]

    assert len(set(whole.samples.tolist())) == 1
    assert torch.equal(torch.cat([batch.clip for batch in apart]), whole.clip)
    assert torch.equal(torch.cat([batch.samples for batch in apart]), whole.samples)
    assert apart[0].replaced == whole.replaced
    assert apart[1].replaced == ()
    assert whole.replaced[0].position == 3


def test_when_the_stand_ins_are_damaged_too_the_batch_fails(
    coloured_split: Split, cut: Cut
) -> None:
    blank(coloured_split, *range(13))

    with pytest.raises(StageError, match="the 8 samples that were to take its place"):
        cut(0, 1)


def test_a_store_that_does_not_answer_is_no_damage(
    coloured_split: Split, cut: Cut, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bytes:
        raise StageError("the store does not answer")

    monkeypatch.setattr(type(coloured_split[0]), "read", refuse)

    with pytest.raises(StageError, match=r"^the store does not answer$"):
        cut(0, 1)


def test_clips_of_one_decode_are_of_one_sample_and_differ(cut: Cut) -> None:
    batch = cut(0, 4, clips_per_decode=4, flip_probability=0.5)

    assert len(set(batch.samples.tolist())) == 1
    assert len({clip.numpy().tobytes() for clip in batch.clip}) > 1
    green = batch.clip[:, 1].double().mean(dim=(2, 3))
    torch.testing.assert_close(green, green[:1].expand(4, -1), atol=4, rtol=0)  # equal frames


def test_segments_cover_the_video(cut: Cut) -> None:
    green = cut(0, 8, sampling="segments").clip[:, 1].double().mean(dim=(2, 3)) / 20

    parts = torch.arange(4.0).double() * 3  # of twelve frames
    assert bool(((green > parts - 0.5) & (green < parts + 2.5)).all())


def test_augmentation_follows_from_the_position(cut: Cut) -> None:
    augment = AugmentConfig(operations=4, magnitude=9, erase_probability=1)

    whole = cut(0, 4, augment=augment)

    assert_same(cut(2, 3, augment=augment), Batch(whole.clip[2:3], 0, *_places(whole, 2)))
    changed = (whole.clip != cut(0, 4).clip).flatten(1).any(dim=1)
    assert bool(changed.all())


def _places(batch: Batch, slot: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    part = slice(slot, slot + 1)
    return batch.positions[part], batch.samples[part], batch.labels[part]
