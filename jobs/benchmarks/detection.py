"""What persons do, and where: AVA, frame mAP at an overlap of 0.5 (protocols 5.2).

Outside of SIGMA's tables. Published: boxes at 7 x 7 by aligned RoIAlign, sigmoid of 80 classes,
dropout 0.5, 20 epochs with 5 of warm-up, true boxes and predicted ones of a score of 0.9 or more,
clips over 64 frames. All else is fine-tuning as of protocols 2, and these are choices of ours:

* the map of a clip is the mean of its time slices, or their maximum (``slices``), and a box is the
  strongest value of its 7 x 7; a fresh LayerNorm stands before the linear layer (``finetune``);
* 16 frames, 4 apart, where the published 32 were 2 apart;
* frames are squashed to the square, in training and in the test; nothing is cropped;
* the loss of a clip is the mean over its boxes, and counts as much as that of any other clip;
* an epoch visits each movie as often as it has marked seconds (``visits_per_movie``), another
  second each time;
* AdamW with layer decay and the rates of protocols 2, not SGD.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field, PositiveInt

from sigma_pipeline.data_prep.catalogues.ava import scored_classes
from sigma_pipeline.data_prep.config import ClipConfig
from sigma_pipeline.jobs.benchmarks.benchmark import Cost, Needs, Result, Subject
from sigma_pipeline.jobs.benchmarks.box_outputs import box_outputs
from sigma_pipeline.jobs.benchmarks.box_training import BoxTuning, learned_seconds
from sigma_pipeline.jobs.benchmarks.detection_result import Detected, detection_result
from sigma_pipeline.jobs.benchmarks.fine_tuning import (
    fine_tune,
    smaller_step,
    training_config,
    videos_of_step,
)
from sigma_pipeline.jobs.benchmarks.scored_seconds import scored_seconds
from sigma_pipeline.jobs.benchmarks.tuning_settings import Share, TuningSettings
from sigma_pipeline.jobs.encoders import EncoderSource
from sigma_pipeline.model.box_classifier import SlicePooling


class ActionDetection(TuningSettings, frozen=True, extra="forbid"):
    """Actions of persons whose boxes are given: encoder, RoIAlign, sigmoid of each class.

    Boxes of the test are those of a detector where the dataset has them
    (``options.predicted_boxes``), else the true ones: an upper bound, and a note says so. Scored
    are the classes that the dataset's list of actions names.
    """

    name: ClassVar[str] = "detection"
    version: ClassVar[int] = 1
    cost: ClassVar[Cost] = "dear"
    summary: ClassVar[str] = "Fine-tuning on actions in boxes, frame mAP at an overlap of 0.5"

    epochs: PositiveInt = 20
    frame_stride: PositiveInt = 4
    """Distance of a clip's frames in the movie; the marked second is in their middle."""
    slices: SlicePooling = "mean"
    min_score: float = Field(default=0.9, ge=0, le=1)
    """Predicted boxes with a lower one are neither learned from nor scored."""
    uses_predicted: bool = True
    """Where there are predicted boxes; if not, the test has the true ones all the same."""
    max_boxes: PositiveInt = 32
    """That are learned from in one clip; true ones come first."""
    visits_per_movie: PositiveInt | None = None
    """Clips of a movie in an epoch; as many as movies have marked seconds in the mean, if None."""
    batch_clips: PositiveInt = 32
    """Of a step, each of another movie. A split with fewer movies makes it smaller."""
    dropout: Share = 0.5
    """Before the last layer."""

    @property
    def needs(self) -> Needs:
        """Boxes in two splits; whole frames, whatever a recipe says of views."""
        return Needs(train=True, boxes=True, encoder=True, pooled=False, clips=False, trains=True)

    def scores_of(self, subject: Subject, seed: int) -> Result:
        """``frame_map``: mean average precision at an overlap of 0.5, as AVA's evaluator has it.

        Raises:
            ValueError: a split has no second that can be used.
            StageError: a sample cannot be read, or numbers are not finite.
            Interrupted: training was stopped, and can go on.
        """
        assert subject.train is not None, "needs.train"
        test = scored_seconds(subject.test, self.min_score, with_predicted=self.uses_predicted)
        if not len(test.boxes):
            raise ValueError("no frame of the test split shows a second with a box")
        counts = [len(movie) for movie in learned_seconds(subject.train, self._learned_score)]
        movies = np.flatnonzero(counts).tolist()
        if not movies:
            raise ValueError("no frame of the training split shows a second with a box")
        positions = _positions(movies, len(counts), subject.train_positions)
        tuning = self.tuning(subject.source, len(subject.train.classes), positions, seed)
        visits = self.visits_per_movie or round(sum(counts) / len(movies))
        taken = videos_of_step(self.batch_clips, len(movies))
        recipe = self.recipe(taken, visits)
        config = training_config(subject, tuning, recipe, num_videos=len(movies))
        commit = fine_tune(subject, tuning, config)
        detected = Detected(
            test,
            box_outputs(subject, tuning, commit, test.boxes),
            labels=scored_classes(subject.test.classes),
            keys=[subject.test.row(sample).key for sample in range(len(subject.test))],
            classes=subject.test.classes,
        )
        return detection_result(detected, seed, self._notes(len(counts), len(movies), taken))

    @property
    def _learned_score(self) -> float | None:
        """Least score of predicted boxes that are learned from; None: of none."""
        return self.min_score if self.uses_predicted else None

    def tuning(
        self,
        source: EncoderSource,
        num_classes: int,
        positions: tuple[int, ...] | None,
        seed: int,
    ) -> BoxTuning:
        """What is learned, from movies at ``positions`` of the training split, or all."""
        return BoxTuning(
            source=source,
            seed=seed,
            clip=ClipConfig(
                frame_stride=self.frame_stride,
                starts="any",
                crop="resize",
                flip_probability=self.flip_probability,
            ),
            num_frames=source.model_config.num_frames,
            positions=positions,
            layer_decay=self.layer_decay,
            drop_path=self.drop_path,
            dropout=self.dropout,
            num_classes=num_classes,
            max_boxes=self.max_boxes,
            min_score=self._learned_score,
            slices=self.slices,
        )

    def _notes(self, num_movies: int, num_marked: int, taken: int) -> list[str]:
        notes = []
        if num_marked < num_movies:
            notes.append(
                f"{num_movies - num_marked} of {num_movies} training movies have no second with a "
                "box: left out"
            )
        return notes + smaller_step("batch_clips", self.batch_clips, num_marked, taken)


def _positions(
    movies: Sequence[int], num_movies: int, taken: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    """``movies`` by their places in the whole split; None where they are all of it.

    Args:
        movies: numbers in what is taken of the split.
        num_movies: that are taken.
        taken: their places; None: all.
    """
    if taken is None:
        return None if len(movies) == num_movies else tuple(movies)
    return tuple(taken[number] for number in movies)


BENCHMARK = ActionDetection
