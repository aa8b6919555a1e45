"""Counting how often an action repeats: UCF-RC of SEVERE (protocols 5.2), on a ViT.

The context-aware and scale-insensitive counter of Zhang et al. (CVPR 2020): fine-tuned to correct
guesses of cycle lengths (``cycle_training``), it looks for those of a test video from coarse to
fine (``cycle_search``). It sees what lies between the first and the last boundary that are marked,
as UCFRep's videos are cut. Numbers are the published ones; where they were tuned for a
convolutional network, or are unknown, the settings say so.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from sigma_pipeline.data_prep.config import ClipConfig
from sigma_pipeline.jobs.benchmarks.benchmark import Cost, Needs, Result, Subject
from sigma_pipeline.jobs.benchmarks.cycle_clips import Guesses
from sigma_pipeline.jobs.benchmarks.cycle_counting import CountPass, found_cycles, likeness
from sigma_pipeline.jobs.benchmarks.cycle_result import (
    counting_result,
    mean_count_note,
    shown_videos,
)
from sigma_pipeline.jobs.benchmarks.cycle_search import FoundCycles, Search
from sigma_pipeline.jobs.benchmarks.cycle_training import CycleTuning
from sigma_pipeline.jobs.benchmarks.cycle_videos import MarkedVideos
from sigma_pipeline.jobs.benchmarks.cycles import Context
from sigma_pipeline.jobs.benchmarks.figures import SelfSimilarity
from sigma_pipeline.jobs.benchmarks.fine_tuning import (
    CURVE,
    fine_tune,
    smaller_step,
    training_config,
    training_curve,
    videos_of_step,
)
from sigma_pipeline.jobs.benchmarks.tuning_settings import TuningSettings

_WIDTH_CYCLES = 0.5
"""Of a moment whose likeness to others is shown: shorter than a cycle, so that phases differ."""


class RepetitionCounting(TuningSettings, frozen=True, extra="forbid"):
    """The previous and the next cycle at any frame of a video, and how many cycles that makes."""

    name: ClassVar[str] = "counting"
    version: ClassVar[int] = 1
    cost: ClassVar[Cost] = "dear"
    summary: ClassVar[str] = "Repetition counting with a fine-tuned encoder (UCF-RC)"

    clips_per_video: PositiveInt = 10
    """Of an epoch, each with a position and a guess of its own."""
    batch_clips: PositiveInt = 32
    """Of a step, each of another video, which a split with fewer makes smaller. A clip has two
    halves."""
    base_lr: PositiveFloat = 4e-4
    """Per 256 clips: the peak is the published 5e-5 with 32. Its schedule is unknown; ours is that
    of fine-tuning, as are ``warmup_epochs``, ``layer_decay`` and ``drop_path``."""
    weight_decay: float = Field(default=1e-3, ge=0)
    box_weight: PositiveFloat = 50.0
    """Of the offsets' loss."""
    near_context: PositiveFloat = 1.0
    far_context: PositiveFloat = 2.0
    """Guessed cycles that a half shows on the other side of the position, and on its own. What the
    published 1 and 2 stand for is unknown."""
    near_fraction: float = Field(default=0.5, ge=0, le=1)
    """Of training guesses that are near the truth; ours."""
    near_ratio: float = Field(default=2.0, ge=1)
    """Furthest that these are from it; ours."""
    scales: PositiveInt = 30
    """Guesses in the search."""
    smallest_scale: PositiveFloat = 0.03
    largest_scale: PositiveFloat = 0.35
    """Of guesses over the video's length; in training, too, but for those near the truth."""
    refinements: NonNegativeInt = 4
    levels: PositiveInt = 5
    """Of which each cuts the video into twice as many parts; the last of 5 into 16."""
    merge_weight: float = Field(default=0.5, ge=0, le=1)
    """Of a length as it comes from the coarser level."""
    shown_videos: NonNegativeInt = 4
    """Of which pictures are drawn, from the best counted to the worst."""

    @property
    def needs(self) -> Needs:
        """Both splits, with boundaries of cycles."""
        return Needs(train=True, cycles=True, encoder=True, trains=True, pooled=False, clips=False)

    def scores_of(self, subject: Subject, seed: int) -> Result:
        """Mean relative error, and the share of videos whose count is off by one at most.

        Raises:
            ValueError: no cycles are marked, or the gang cannot share a step.
            StageError: a sample cannot be read, or numbers are not finite.
            Interrupted: training was asked to stop.
        """
        assert subject.train is not None, "needs.train"
        train = MarkedVideos.of(subject.train, "train", subject.train_positions)
        test = MarkedVideos.of(subject.test, "test")
        taken = videos_of_step(self.batch_clips, len(train.keys))
        given = self._trained(subject, self._tuning(subject, seed, train), test, taken)
        found = found_cycles(subject, given)
        notes = [*train.notes, *test.notes, mean_count_note(train.counts, test.counts)]
        notes += smaller_step("batch_clips", self.batch_clips, len(train.keys), taken)
        result = counting_result(test.keys, test.counts, [each.count for each in found], notes)
        shown = shown_videos(result.outcomes["mae"], self.shown_videos)
        similarity = _similarity(subject, given, test, found, shown)
        files = {CURVE: training_curve(subject)}
        return replace(result, files=files, figures=(*result.figures, *similarity))

    def _tuning(self, subject: Subject, seed: int, train: MarkedVideos) -> CycleTuning:
        return CycleTuning(
            source=subject.source,
            seed=seed,
            clip=ClipConfig(starts="any", crop="resize", flip_probability=self.flip_probability),
            num_frames=subject.encoder.config.num_frames,
            positions=train.positions,
            layer_decay=self.layer_decay,
            drop_path=self.drop_path,
            context=Context(self.near_context, self.far_context),
            guesses=Guesses(
                self.near_fraction, self.near_ratio, self.smallest_scale, self.largest_scale
            ),
            box_weight=self.box_weight,
        )

    def _trained(
        self, subject: Subject, tuning: CycleTuning, test: MarkedVideos, batch_videos: int
    ) -> CountPass:
        assert tuning.positions is not None, "of the videos with cycles"
        halves = replace(subject, batch_clips=max(1, subject.batch_clips // 2))
        recipe = self.recipe(batch_videos, self.clips_per_video)
        config = training_config(halves, tuning, recipe, num_videos=len(tuning.positions))
        return CountPass(
            root_uri=subject.storage.root_uri,
            scratch_dir=str(subject.scratch_dir),
            tuning=tuning,
            commit=fine_tune(subject, tuning, config),
            ref=subject.test.ref,
            positions=test.positions,
            search=self._search,
            batch_clips=subject.batch_clips,
            is_bf16=subject.precision == "bf16_autocast",
        )

    @property
    def _search(self) -> Search:
        return Search(
            scales=self.scales,
            smallest_scale=self.smallest_scale,
            largest_scale=self.largest_scale,
            refinements=self.refinements,
            levels=self.levels,
            merge_weight=self.merge_weight,
        )


def _similarity(
    subject: Subject,
    given: CountPass,
    test: MarkedVideos,
    found: Sequence[FoundCycles],
    shown: Sequence[int],
) -> list[SelfSimilarity]:
    """Of some videos, how alike their moments are, and which cycles there are and were found."""
    if not shown:
        return []
    some = replace(given, positions=tuple(test.positions[number] for number in shown))
    widths = [_WIDTH_CYCLES / found[number].rates.mean() for number in shown]
    squares = likeness(subject, some, widths)
    return [
        SelfSimilarity(
            key=test.keys[number],
            similarity=square,
            first=test.cycles[number].first,
            boundaries=test.cycles[number].boundaries,
            found_boundaries=found[number].boundaries,
            count=found[number].count,
        )
        for number, square in zip(shown, squares, strict=True)
    ]


BENCHMARK = RepetitionCounting
