"""Clustering benchmark: clips whose right answer is known."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from sigma_pipeline.jobs.benchmarks.benchmark import VOID_ID, FeatureSet, ObjectMasks, Result
from sigma_pipeline.jobs.benchmarks.figures import Overlay
from sigma_pipeline.jobs.benchmarks.uvos import UnsupervisedVos

SIZE = 12  # pixels of a frame; tokens are 6 x 6


def _features(
    masks: npt.NDArray[np.uint8],
    tokens: npt.NDArray[np.float16],
    categories: Sequence[Mapping[int, str]] = (),
) -> FeatureSet:
    """Clips of every second frame."""
    count = len(masks)
    return FeatureSet(
        keys=[f"clip{i}" for i in range(count)],
        groups=[None] * count,
        labels=np.full(count, -1),
        num_classes=0,
        pooled=np.zeros((count, 1, 1), dtype=np.float32),
        tokens=tokens,
        masks=ObjectMasks(
            ids=masks,
            frames=np.tile(np.arange(masks.shape[1]) * 2, (count, 1)),
            categories=categories or [{}] * count,
            names=[f"video{i}" for i in range(count)],
        ),
    )


def _scored(masks: npt.NDArray[np.uint8], tokens: npt.NDArray[np.float16]) -> Result:
    # Tokens of equal objects are equal: random starts could miss one of them for good.
    return UnsupervisedVos(start="spread").scores(None, _features(masks, tokens), seed=0)


def _objects(ids: Sequence[int]) -> npt.NDArray[np.uint8]:
    """A clip of 4 frames [1, 4, 12, 12]: object ``ids[i]`` fills the i-th band of columns."""
    bands = np.repeat(np.asarray(ids, dtype=np.uint8), SIZE // len(ids))
    return np.broadcast_to(bands, (1, 4, SIZE, SIZE)).copy()


def _tokens(masks: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
    """One-hot object ids on the token grid: [1, 2, 6, 6, 8]."""
    return np.eye(8, dtype=np.float16)[masks[:, ::2, ::2, ::2]] * 4


def _noisy(masks: npt.NDArray[np.uint8], seed: int = 0) -> npt.NDArray[np.float16]:
    noise = np.random.default_rng(seed).standard_normal(_tokens(masks).shape)
    return _tokens(masks) + noise.astype(np.float16)


@pytest.mark.parametrize("start", ["random", "spread"])
@pytest.mark.parametrize("fit_on", ["tokens", "pixels"])
def test_tokens_that_tell_objects_apart_score_near_one(fit_on: str, start: str) -> None:
    masks = _objects([0, 1, 2])
    benchmark = UnsupervisedVos.model_validate({"fit_on": fit_on, "start": start, "restarts": 20})

    result = benchmark.scores(None, _features(masks, _tokens(masks)), seed=0)

    miou, miou_over = result.scores
    assert (miou.name, miou.value) == ("miou", 1.0)
    assert miou_over.value > 0.9
    assert result.outcomes["objects"] == [3]


def test_tokens_that_say_nothing_score_as_one_cluster() -> None:
    masks = _objects([0, 0, 0, 1])
    collapsed = np.ones((1, 2, 6, 6, 8), dtype=np.float16)

    result = UnsupervisedVos().scores(None, _features(masks, collapsed), seed=0)

    # All pixels in one cluster: background 3/4 and the object missed.
    assert [score.value for score in result.scores] == pytest.approx([0.375, 0.375])


def test_iou_is_pooled_over_the_frames_of_a_clip() -> None:
    masks = _objects([0, 1])
    seen = masks.copy()
    seen[:, 2:] = 0  # the second time slice shows the object as background

    result = _scored(masks, _tokens(seen))

    # Object: half of it found. Background: 1/2 of the pixels, of 3/4 that are called so.
    assert result.scores[0].value == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_void_pixels_are_no_object_unless_that_is_asked_for() -> None:
    masks = _objects([0, 1, 1])
    tokens = _tokens(masks)
    masks[..., -4:] = VOID_ID

    plain, trap = (
        UnsupervisedVos(void_as_class=is_class, start="spread").scores(
            None, _features(masks, tokens), seed=0
        )
        for is_class in (False, True)
    )

    assert (plain.outcomes["objects"], plain.scores[0].value) == ([2], 1.0)
    assert trap.outcomes["objects"] == [3]


def test_clips_without_masks_are_left_out_with_a_word() -> None:
    masks = np.concatenate([_objects([0, 1]), np.full((1, 4, SIZE, SIZE), VOID_ID, np.uint8)])
    tokens = np.concatenate([_tokens(masks[:1])] * 2)

    result = UnsupervisedVos().scores(None, _features(masks, tokens), seed=0)

    assert result.outcomes["key"] == ["clip0"]
    assert result.scores[0].samples == 1
    assert result.notes == ("1 of 2 samples have no mask: left out", "one sequence: no interval")
    with pytest.raises(ValueError, match="no sample has an annotated pixel"):
        UnsupervisedVos().scores(None, _features(masks[1:], tokens[1:]), seed=0)


def test_a_clip_scores_the_same_alone_and_in_company() -> None:
    generator = np.random.default_rng(0)
    masks = np.concatenate([_objects([0, 1, 2]), _objects([0, 1])])
    tokens = generator.standard_normal((2, 2, 6, 6, 8)).astype(np.float16)
    benchmark = UnsupervisedVos(pca_dims=3)

    both = benchmark.scores(None, _features(masks, tokens), seed=3)
    alone = benchmark.scores(None, _features(masks[1:], tokens[1:]), seed=3)

    assert both.outcomes["miou"][1] == alone.outcomes["miou"][0]


def test_a_clip_scores_otherwise_in_other_company_where_pca_is_of_a_batch() -> None:
    masks = np.concatenate([_objects([0, 1, 2])] * 3)
    tokens = np.concatenate([_noisy(masks[i : i + 1], seed=i) for i in range(3)])
    tokens[2] *= np.linspace(1, 9, 8, dtype=np.float16)
    benchmark = UnsupervisedVos(pca_dims=1, pca_scope="batch", batch_clips=2)

    def score(*clips: int) -> Result:
        chosen = _features(masks[list(clips)], tokens[list(clips)])
        return benchmark.scores(None, chosen, seed=0)

    beside_1, beside_2, third = score(0, 1), score(0, 2), score(0, 1, 2)

    assert beside_1.outcomes["miou"][0] != beside_2.outcomes["miou"][0]
    assert third.outcomes["miou"][:2] == beside_1.outcomes["miou"]
    assert "batches of 2 clips" in beside_1.notes[0]


def test_slices_become_frames_as_chosen() -> None:
    masks = _objects([0, 1])
    masks[:, 1] = 0  # the second frame of the first slice shows no object
    tokens = _tokens(masks)
    late = tokens.copy()
    late[:, 1] = late[:, 1, :, :1]  # the second slice shows background alone

    def scored(time: str, tokens: npt.NDArray[np.float16]) -> tuple[float, int]:
        benchmark = UnsupervisedVos.model_validate({"time": time, "start": "spread"})
        result = benchmark.scores(None, _features(masks, tokens), seed=0)
        return result.scores[0].value, len(result.files)

    miou, frames = scored("repeat", tokens)
    # Half frames. Object: 3 right of 4 that are called so. Background: 4 found of 5.
    assert miou == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert frames == 4
    assert scored("every_slice", tokens) == (1.0, 2)
    # Between the slices, at a quarter and three quarters: the object ends after the second frame.
    assert scored("linear", late) == scored("repeat", late)


def test_frames_between_slices_are_between_them_in_features() -> None:
    masks = _objects([0, 1])
    masks[:, 0] = 0  # the object is there from the second frame on
    tokens = np.zeros((1, 2, 6, 6, 8), dtype=np.float16)
    tokens[:, 1, :, 3:, 0] = 8
    tokens[:, 0, :, 3:, 0] = 3.5

    def object_frames(time: str) -> list[int]:
        benchmark = UnsupervisedVos.model_validate({"time": time, "fit_on": "tokens"})
        shown = benchmark.scores(None, _features(masks, tokens), seed=0).figures[0]
        assert isinstance(shown, Overlay)
        return [int(frame[:, -1].any()) for frame in shown.objects]

    # Centres lie at 7/6 and 8: above 4.58 is object. Between slices: 3.5, 4.63, 6.88, 8.
    assert object_frames("linear") == [0, 1, 1, 1]
    assert object_frames("repeat") == [0, 0, 1, 1]


def test_clips_of_four_frames_are_two_slices() -> None:
    masks = _objects([0, 1])

    result = _scored(masks, _tokens(masks))

    assert result.scores[0].value == 1.0
    assert sorted(result.files) == [
        f"predictions/hungarian/video0/{frame:05d}.png" for frame in (0, 2, 4, 6)
    ]


def test_objects_of_one_category_are_one_where_categories_are_scored() -> None:
    masks = _objects([1, 2, 3])
    merged = np.where(masks == 3, 1, masks)
    features = _features(masks, _tokens(merged), [{1: "ape", 2: "sign", 3: "ape"}])
    benchmark = UnsupervisedVos(labels="categories", start="spread")

    result = benchmark.scores(None, features, seed=0)

    assert (result.outcomes["objects"], result.scores[0].value) == ([2], 1.0)
    with pytest.raises(ValueError, match="set labels: instances"):
        benchmark.scores(None, _features(masks, _tokens(merged), [{}]), seed=0)


def test_a_mean_over_batches_gives_a_small_last_batch_more_weight() -> None:
    masks = np.concatenate([_objects([0, 1])] * 3)
    tokens = _tokens(masks)
    tokens[2] = 1  # says nothing: background half right, the object missed

    def mean(average: str) -> float:
        benchmark = UnsupervisedVos.model_validate(
            {"average": average, "batch_clips": 2, "start": "spread"}
        )
        return benchmark.scores(None, _features(masks, tokens), seed=0).scores[0].value

    assert mean("clips") == pytest.approx((1 + 1 + 0.25) / 3)
    assert mean("batches") == pytest.approx((1 + 0.25) / 2)


def test_matched_clusters_are_kept_as_pictures_of_the_first_clips() -> None:
    masks = np.concatenate([_objects([0, 5]), _objects([7, 3])])
    features = _features(masks, _tokens(masks))

    result = UnsupervisedVos(start="spread", kept_predictions=1).scores(None, features, seed=0)

    assert {path.split("/")[2] for path in result.files} == {"video0"}
    with Image.open(io.BytesIO(result.files["predictions/hungarian/video0/00002.png"])) as picture:
        assert picture.mode == "P"
        assert np.array_equal(np.array(picture), masks[0, 1])
    shown = [figure for figure in result.figures if isinstance(figure, Overlay)]
    titles = [(figure.key, figure.title) for figure in shown]
    assert titles == [
        (f"clip{i}", title) for i in (0, 1) for title in ("hungarian", "overclusters")
    ]
    assert np.array_equal(shown[2].objects, masks[1])
    assert shown[2].frames == [0, 2, 4, 6]


def test_equal_seeds_give_equal_results() -> None:
    masks = _objects([0, 1, 2])
    features = _features(masks, _noisy(masks))

    first, again = (UnsupervisedVos().scores(None, features, seed=4) for _ in range(2))

    assert first.scores == again.scores
    assert first.files == again.files
