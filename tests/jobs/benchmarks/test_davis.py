"""Objects of the first mask are followed and scored; what is written can be scored again."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sigma_pipeline.jobs.benchmarks.benchmark import VOID_ID, EncoderBenchmark, Result
from sigma_pipeline.jobs.benchmarks.davis import SemiSupervisedVos
from sigma_pipeline.jobs.benchmarks.figures import Overlay
from sigma_pipeline.jobs.davis_score import score_sequence
from tests.jobs.benchmarks.davis_split import (
    Pixels,
    moving_square,
    subject_of,
    tiny_encoder,
    write_sequence,
)

SMALL = SemiSupervisedVos(short_side_px=64, radius=3)


def value(result: Result, name: str) -> float:
    return {score.name: score.value for score in result.scores}[name]


def overlays(result: Result) -> list[Overlay]:
    return [figure for figure in result.figures if isinstance(figure, Overlay)]


def write_files(folder: Path, result: Result) -> None:
    for name, data in result.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def of_square(folder: Path, masks: dict[int, Pixels], settings: SemiSupervisedVos) -> Result:
    frames, _ = moving_square()
    write_sequence(folder / "DAVIS", "square", frames, masks)
    return settings.scores_of(subject_of(folder / "DAVIS", ["square"], folder), seed=0)


@pytest.mark.parametrize("frames", ["still", "clip"])
@pytest.mark.parametrize("positions", ["interpolated", "flattened"])
def test_a_moving_square_is_followed(tmp_path: Path, frames: str, positions: str) -> None:
    _, ids = moving_square()
    settings = SemiSupervisedVos(
        short_side_px=128,
        radius=3,
        frames=frames,  # type: ignore[arg-type]
        positions=positions,  # type: ignore[arg-type]
    )

    result = of_square(tmp_path, dict(enumerate(ids)), settings)

    staying = np.mean([(ids[0] & one).sum() / (ids[0] | one).sum() for one in ids[1:-1]])
    assert staying < 0.3
    assert value(result, "j_mean") > 0.65
    assert value(result, "jf_mean") == pytest.approx(
        (value(result, "j_mean") + value(result, "f_mean")) / 2
    )


def test_no_mask_but_the_first_changes_what_is_found(tmp_path: Path) -> None:
    _, ids = moving_square()
    wrong = [ids[0], *(np.zeros_like(one) for one in ids[1:])]

    right, other = (
        of_square(tmp_path / name, dict(enumerate(masks)), SMALL)
        for name, masks in (("right", ids), ("wrong", wrong))
    )

    found = {name: data for name, data in right.files.items() if name.endswith(".png")}
    assert found.items() <= other.files.items()
    assert value(other, "j_mean") < 0.01 < value(right, "j_mean")


def test_a_cell_keeps_the_official_layout_whose_scores_are_its_own(tmp_path: Path) -> None:
    _, ids = moving_square()
    result = of_square(tmp_path, dict(enumerate(ids)), SMALL)

    write_files(tmp_path, result)
    scored = score_sequence(
        tmp_path / "predictions/square", tmp_path / "DAVIS/Annotations/480p/square"
    )

    assert set(result.files) == {
        "global_results-val.csv",
        "per-sequence_results-val.csv",
        *(f"predictions/square/{number:05d}.png" for number in range(10)),
    }
    (one,) = scored.objects
    assert (one.j.mean, one.f.mean) == (value(result, "j_mean"), value(result, "f_mean"))
    with Image.open(io.BytesIO(result.files["predictions/square/00000.png"])) as first:
        assert first.mode == "P"
        assert np.array_equal(np.array(first), ids[0])
    assert (
        f"square_1,{one.j.mean:.4f},{one.f.mean:.4f}"
        in result.files["per-sequence_results-val.csv"].decode()
    )


def test_there_is_a_row_for_each_object_and_an_overlay_of_each_sequence(tmp_path: Path) -> None:
    _, ids = moving_square()
    ids[:, 48:60, 80:104] = 2
    ids[0, :4] = VOID_ID

    result = of_square(tmp_path, dict(enumerate(ids)), SMALL)

    assert result.outcomes["object"] == [1, 2]
    assert set(result.outcomes) == {"key", "object", *(score.name for score in result.scores)}
    assert all(score.samples == 2 for score in result.scores)
    assert {score.name for score in result.scores if not score.higher_is_better} == {
        "j_decay",
        "f_decay",
    }
    assert all(score.low == score.value == score.high for score in result.scores)
    assert result.notes == ("one sequence: no interval",)
    (overlay,) = overlays(result)
    assert overlay.key == result.outcomes["key"][0]
    assert overlay.objects.shape == ids.shape
    assert not (overlay.objects == VOID_ID).any()


def test_grey_masks_of_davis_2016_are_one_object(tmp_path: Path) -> None:
    _, ids = moving_square()

    grey, numbered = (
        of_square(tmp_path / str(times), dict(enumerate(ids * times)), SMALL) for times in (255, 1)
    )

    assert grey.scores == numbered.scores
    assert grey.outcomes["object"] == [1]


def test_annotated_frames_are_scored_from_the_first_on_with_a_word(tmp_path: Path) -> None:
    _, ids = moving_square()
    masks = {frame: ids[frame] for frame in (2, 5, 7, 9)}

    result = of_square(tmp_path, masks, SMALL)

    assert result.notes == (
        "1 of 1 sequences have their first mask late: followed from there on (square first)",
        "1 of 1 sequences have masks on some frames only: those are scored (square first)",
        "one sequence: no interval",
    )
    predictions = [name for name in result.files if name.endswith(".png")]
    assert predictions == [f"predictions/square/{number:05d}.png" for number in range(2, 10)]
    assert result.outcomes["j_mean"][0] > 0.5


def test_sequences_that_cannot_be_scored_are_left_out_with_a_word(tmp_path: Path) -> None:
    frames, ids = moving_square()
    none = np.zeros_like(ids[0])
    of = {
        "bare": {},
        "few": {0: ids[0], 9: ids[9]},
        "empty": {**dict(enumerate(ids)), 0: none},
        "good": dict(enumerate(ids)),
    }
    for name, masks in of.items():
        write_sequence(tmp_path / "DAVIS", name, frames, masks)

    result = SMALL.scores_of(subject_of(tmp_path / "DAVIS", list(of), tmp_path), seed=0)

    assert len(result.outcomes["key"]) == 1
    assert set(result.notes) == {
        "2 of 4 sequences have fewer than 3 masks: left out (bare first)",
        "1 of 4 sequences show no object in their first mask: left out (empty first)",
        "one sequence: no interval",
    }


def test_a_split_without_any_sequence_to_score_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no sequence can be scored: 1 of 1 sequences have fewer"):
        of_square(tmp_path, {}, SMALL)


def test_the_encoder_is_left_as_it_was(tmp_path: Path) -> None:
    _, ids = moving_square()
    encoder = tiny_encoder()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    write_sequence(tmp_path / "DAVIS", "square", moving_square()[0], dict(enumerate(ids)))

    subject = subject_of(tmp_path / "DAVIS", ["square"], tmp_path, encoder=encoder)
    SMALL.scores_of(subject, seed=0)

    assert all(torch.equal(before[name], one) for name, one in encoder.state_dict().items())
    assert next(encoder.parameters()).device.type == "cpu"
    assert encoder.frame_shape_px == (32, 32)


@pytest.mark.parametrize(
    ("size", "patch_size_px", "expected"),
    [
        ((480, 854), 16, (480, 832)),
        ((1080, 1920), 16, (480, 832)),
        ((854, 480), 16, (832, 480)),
        ((480, 480), 16, (480, 448)),
        ((480, 854), 14, (476, 826)),
    ],
)
def test_frames_are_encoded_at_whole_patches(
    size: tuple[int, int], patch_size_px: int, expected: tuple[int, int]
) -> None:
    assert SemiSupervisedVos().encoded_size(*size, patch_size_px) == expected


def test_sides_that_leave_nothing_of_a_square_are_refused() -> None:
    with pytest.raises(ValueError, match="short_side_px=48 is below long_side_step_px=64"):
        SemiSupervisedVos(short_side_px=48)


def test_it_is_a_benchmark_of_the_encoder() -> None:
    assert isinstance(SMALL, EncoderBenchmark)
    assert SMALL.needs.encoder
    assert SMALL.needs.masks


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_finds_the_same_objects_and_leaves_the_encoder_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, ids = moving_square()
    write_sequence(tmp_path / "DAVIS", "square", frames, dict(enumerate(ids)))
    subject = subject_of(tmp_path / "DAVIS", ["square"], tmp_path)

    on_gpu = SMALL.scores_of(subject, seed=0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on_processor = SMALL.scores_of(subject, seed=0)

    assert next(subject.encoder.parameters()).device.type == "cpu"
    assert value(on_gpu, "jf_mean") == pytest.approx(value(on_processor, "jf_mean"), abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "least_j"), [("still", 0.5), ("clip", 0.2)])
def test_real_sequences_are_scored_as_the_command_scores_their_predictions(
    real_videos: Path, tmp_path: Path, frames: str, least_j: float
) -> None:
    names = ["blackswan", "car-shadow", "dog-agility"]
    davis = real_videos / "vos/DAVIS"
    encoder = tiny_encoder(frame_size_px=112, patch_size_px=16)
    settings = SemiSupervisedVos(short_side_px=240, radius=6, frames=frames)  # type: ignore[arg-type]

    result = settings.scores_of(subject_of(davis, names, tmp_path, encoder=encoder), seed=0)

    write_files(tmp_path, result)
    predictions, annotations = tmp_path / "predictions", davis / "Annotations/480p"
    scored = [score_sequence(predictions / name, annotations / name) for name in names]
    assert result.outcomes["j_mean"] == [of.objects[0].j.mean for of in scored]
    assert result.outcomes["f_mean"] == [of.objects[0].f.mean for of in scored]
    assert result.outcomes["j_mean"][0] > least_j  # a swan that hardly moves, by random weights
    assert [len(overlay.frames) for overlay in overlays(result)] == [50, 40, 25]
