"""What is in each global batch follows from the seed alone, however it is shared out."""

from collections.abc import Callable, Iterator
from itertools import islice
from math import gcd
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigma_pipeline.data_prep.augment import Crop
from sigma_pipeline.data_prep.batches import BatchPlan, Span
from sigma_pipeline.data_prep.clip_plan import ClipPlan, groups_of
from sigma_pipeline.data_prep.config import ClipConfig, LoaderConfig
from sigma_pipeline.data_prep.draws import sample_seed
from sigma_pipeline.data_prep.index import Index
from sigma_pipeline.data_prep.order import Order, batches_per_epoch
from sigma_pipeline.data_prep.pool import Pool
from sigma_pipeline.data_prep.train_order import build_order

GLOBAL_BATCH = 24
MakeIndex = Callable[..., Index]


class Planned(NamedTuple):
    """All that makes a clip."""

    position: int
    sample: int
    frames: tuple[int, ...]
    crop: Crop
    mask_seed: int


class Training(NamedTuple):
    """A mixture with everything that decides what its clips hold."""

    pool: Pool
    order: Order
    plan: ClipPlan

    @property
    def batches_per_epoch(self) -> int:
        """Whole global batches."""
        return batches_per_epoch(self.order, GLOBAL_BATCH)

    def clips(self, span: Span) -> Iterator[Planned]:
        """Those of one micro-batch."""
        samples = self.order.samples(span.epoch, np.arange(span.first, span.last))
        for group in groups_of(span, self.plan.clip.clips_per_decode):
            sample = int(samples[group.positions[0] - span.first])
            source = self.pool.source(sample)
            frames = self.plan.frames(sample, source, span.epoch, group.first)
            for position in group.positions:
                yield Planned(
                    position,
                    int(samples[position - span.first]),
                    tuple(frames.tolist()),
                    self.plan.crop(source, span.epoch, position),
                    sample_seed(self.plan.seed, span.epoch, position, "mask"),
                )

    def global_batch(self, epoch: int, batch: int, ranks: int, micro_batch: int) -> list[Planned]:
        """What all ranks together make of it, when they begin there."""
        shares = (self.batches_per_epoch, GLOBAL_BATCH, micro_batch)
        steps = GLOBAL_BATCH // ranks // micro_batch
        return [
            clip
            for rank in range(ranks)
            for span in islice(BatchPlan(*shares, rank, ranks, epoch, batch), steps)
            for clip in self.clips(span)
        ]


@pytest.fixture(scope="session")
def begin(make_index: MakeIndex) -> Callable[..., Training]:
    """A training on datasets of some sizes; keywords are settings."""

    def build(
        sizes: list[int],
        weights: list[float],
        *,
        seed: int,
        window_shards: int = 0,
        **clip: Any,
    ) -> Training:
        pool = Pool([make_index(size, f"d{number}") for number, size in enumerate(sizes)])
        config = ClipConfig(**clip)
        loader = LoaderConfig(order_window_shards=window_shards)
        order = build_order(pool, weights, clip=config, loader=loader, seed=seed)
        return Training(pool, order, ClipPlan(config, 8, 32, seed))

    return build


TRAININGS = st.fixed_dictionaries(
    {
        "sizes": st.lists(st.integers(60, 90), min_size=1, max_size=3),
        "weights": st.lists(st.sampled_from([1.0, 2.0, 2.5]), min_size=3, max_size=3),
        "seed": st.integers(0, 2**40),
        "window_shards": st.sampled_from([0, 1, 3]),
        "clips_per_decode": st.sampled_from([1, 2, 3, 4, 5]),
        "sampling": st.sampled_from(["dense", "segments"]),
        "starts": st.sampled_from(["any", "grid"]),
        "flip_probability": st.just(0.5),
    }
)


@settings(max_examples=40, deadline=None)
@given(
    training=TRAININGS,
    ranks=st.sampled_from([1, 2, 3, 4, 8]),
    cut=st.sampled_from([1, 2, 3, 4, 6, 12]),
    epoch=st.integers(0, 2**20),
    data=st.data(),
)
def test_a_global_batch_is_the_same_for_any_ranks_and_micro_batches(
    begin: Callable[..., Training],
    training: dict[str, Any],
    ranks: int,
    cut: int,
    epoch: int,
    data: st.DataObject,
) -> None:
    weights = training["weights"][: len(training["sizes"])]
    begun = begin(**{**training, "weights": weights})
    batch = data.draw(st.integers(0, begun.batches_per_epoch - 1))
    micro_batch = gcd(GLOBAL_BATCH // ranks, cut)

    ours = begun.global_batch(epoch, batch, ranks, micro_batch)

    assert ours == begun.global_batch(epoch, batch, 1, GLOBAL_BATCH)
    first = batch * GLOBAL_BATCH
    assert [clip.position for clip in ours] == list(range(first, first + GLOBAL_BATCH))


@settings(max_examples=15, deadline=None)
@given(training=TRAININGS, epoch=st.integers(0, 2**20))
def test_an_epoch_decodes_no_sample_twice_and_cuts_as_many_clips_as_asked(
    begin: Callable[..., Training], training: dict[str, Any], epoch: int
) -> None:
    weights = training["weights"][: len(training["sizes"])]
    begun = begin(**{**training, "weights": weights})
    repeats = training["clips_per_decode"]

    clips = [
        clip
        for batch in range(begun.batches_per_epoch)
        for clip in begun.global_batch(epoch, batch, 1, GLOBAL_BATCH)
    ]

    decodes = {(clip.position // repeats, clip.sample) for clip in clips}
    samples = {sample for _, sample in decodes}
    assert len(decodes) == len(samples) == -(-len(clips) // repeats)


def test_clips_of_one_decode_share_frames_but_not_crops(begin: Callable[..., Training]) -> None:
    clips = begin([60], [1.0], seed=0, clips_per_decode=4).global_batch(0, 0, 1, GLOBAL_BATCH)

    groups = [clips[start : start + 4] for start in range(0, GLOBAL_BATCH, 4)]
    assert all(len({(clip.sample, clip.frames) for clip in group}) == 1 for group in groups)
    assert all(len({clip.crop for clip in group}) > 1 for group in groups)
    assert len({clip.mask_seed for clip in clips}) == GLOBAL_BATCH


def test_with_one_clip_each_a_repeated_order_changes_nothing(
    begin: Callable[..., Training],
) -> None:
    """Runs of earlier versions go on with the same clips."""
    alone = begin([60], [1.0], seed=3).global_batch(1, 0, 1, GLOBAL_BATCH)
    shared = begin([60], [1.0], seed=3, clips_per_decode=2).global_batch(1, 0, 1, GLOBAL_BATCH)

    assert [clip.sample for clip in shared[::2]] == [clip.sample for clip in alone[:12]]
    assert shared[0].frames == alone[0].frames


def test_starts_stand_on_the_grid_only_when_asked(begin: Callable[..., Training]) -> None:
    def odd_starts(starts: str) -> int:
        training = begin([90], [1.0], seed=1, starts=starts, frame_stride=1)
        clips = training.global_batch(0, 0, 1, GLOBAL_BATCH)
        on_grid = [clip for clip in clips if training.pool.source(clip.sample).frame_grid == 2]
        return sum(clip.frames[0] % 2 for clip in on_grid)

    assert odd_starts("grid") == 0
    assert odd_starts("any") > 0


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (0, 4, [(0, 0, 3), (3, 3, 4)]),
        (4, 8, [(3, 4, 6), (6, 6, 8)]),
        (6, 9, [(6, 6, 9)]),
        (7, 8, [(6, 7, 8)]),
    ],
)
def test_a_group_that_a_micro_batch_cuts_is_taken_up_by_the_next(
    first: int, last: int, expected: list[tuple[int, int, int]]
) -> None:
    groups = groups_of(Span(0, first, last), 3)

    assert [(g.first, g.positions.start, g.positions.stop) for g in groups] == expected
