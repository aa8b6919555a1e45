"""J and F of folders of masks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sigma_pipeline.infra.errors import ConfigError, MissingInputError, PipelineError
from sigma_pipeline.jobs.benchmarks.davis_metrics import sequence_scores
from sigma_pipeline.jobs.davis_score import score_sequence
from tests.mask_folders import Ids, two_objects, write_sequence


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """Two objects over five frames."""
    return write_sequence(tmp_path / "truth/bear", two_objects())


def test_files_score_as_arrays_do(tmp_path: Path, annotations: Path) -> None:
    predicted = np.roll(two_objects() % 255, 2, axis=2)
    results = write_sequence(tmp_path / "results/bear", predicted)

    scored = score_sequence(results, annotations)

    assert scored.objects == sequence_scores(predicted, two_objects())
    assert not scored.is_binary


def test_the_first_and_the_last_frame_need_no_result(tmp_path: Path, annotations: Path) -> None:
    inner = {f"{i:05d}": frame % 255 for i, frame in enumerate(two_objects()) if i in (1, 2, 3)}
    results = write_sequence(tmp_path / "results/bear", inner)

    assert [scored.j.mean for scored in score_sequence(results, annotations).objects] == [1, 1]


def test_grey_masks_of_0_and_255_are_one_object(tmp_path: Path) -> None:
    binary = np.where(two_objects() == 1, 255, 0).astype(np.uint8)
    annotations = write_sequence(tmp_path / "truth", binary)

    for results in (binary, binary // 255):
        scored = score_sequence(write_sequence(tmp_path / "results", results), annotations)

        assert scored.is_binary
        assert [(of.object_id, of.j.mean, of.f.mean) for of in scored.objects] == [(1, 1, 1)]


def test_void_in_a_frame_without_objects_stays_void(tmp_path: Path) -> None:
    truth = two_objects()
    truth[2][truth[2] != 255] = 0
    scored = score_sequence(
        write_sequence(tmp_path / "results", truth % 255), write_sequence(tmp_path / "truth", truth)
    )

    assert [of.j.per_frame for of in scored.objects] == [(1, 1, 1), (1, 1, 1)]


def test_void_in_a_result_is_no_object_where_objects_are_numbered(tmp_path: Path) -> None:
    one = (two_objects() == 1).astype(np.uint8)
    annotations = write_sequence(tmp_path / "truth", one)
    results = write_sequence(tmp_path / "results", one * 255)

    with pytest.raises(ConfigError, match=r"00001\.png shows object 255, but the first annotation"):
        score_sequence(results, annotations)


def wrong_size(ids: Ids) -> Ids:
    return ids[:, :20]


def unknown_object(ids: Ids) -> Ids:
    ids[3, 0, 0] = 3
    return ids


def too_few_frames(ids: Ids) -> Ids:
    return ids[:3]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (wrong_size, ConfigError, r"00001\.png is 32 x 20, its sequence 32 x 24"),
        (unknown_object, ConfigError, r"00003\.png shows object 3, but the first annotation ends"),
        (too_few_frames, MissingInputError, r"00003\.png is missing: 1 of 3 frames to score"),
    ],
)
def test_results_that_do_not_fit_are_refused_by_file(
    tmp_path: Path,
    annotations: Path,
    *,
    change: Callable[[Ids], Ids],
    error: type[PipelineError],
    message: str,
) -> None:
    results = write_sequence(tmp_path / "results", change(two_objects() % 255))

    with pytest.raises(error, match=message):
        score_sequence(results, annotations)


def test_annotations_with_nothing_to_follow_are_refused(tmp_path: Path) -> None:
    nothing = np.zeros((5, 8, 8), dtype=np.uint8)
    results = write_sequence(tmp_path / "results", nothing)

    with pytest.raises(ConfigError, match=r"00000\.png marks no object"):
        score_sequence(results, write_sequence(tmp_path / "truth", nothing))
    with pytest.raises(ConfigError, match="has 2 frames, but the first and the last"):
        score_sequence(results, write_sequence(tmp_path / "short", nothing[:2]))
