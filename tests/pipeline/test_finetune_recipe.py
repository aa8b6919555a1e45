"""The recipe of full fine-tuning: its cells are the two published scripts."""

from typing import Any

from sigma_pipeline.jobs.benchmarks.table import build_benchmark
from sigma_pipeline.pipeline.config import load_config


def settings() -> dict[str, dict[str, Any]]:
    cells = load_config("finetune").evaluate.cells
    return {
        cell.dataset: build_benchmark(cell.benchmark, cell.settings).model_dump() for cell in cells
    }


def test_ssv2_differs_from_k400_as_the_two_scripts_do() -> None:
    k400, ssv2 = settings()["k400"], settings()["ssv2"]

    changed = {name: (k400[name], ssv2[name]) for name in k400 if k400[name] != ssv2[name]}

    assert changed == {"epochs": (100, 40), "flip_probability": (0.5, 0.0)}


def test_clips_and_views_are_the_published_ones() -> None:
    views = {cell.dataset: cell.view for cell in load_config("finetune").evaluate.cells}

    k400, ssv2 = views["k400"], views["ssv2"]
    assert k400 is not None
    assert ssv2 is not None
    assert (k400.sampling, k400.frame_stride, k400.views) == ("dense", 4, 15)
    assert (ssv2.sampling, ssv2.views) == ("segments", 6)


def test_a_step_is_shared_out_as_in_the_scripts() -> None:
    config = load_config("finetune")

    assert {cell.processes for cell in config.evaluate.cells} == {8}
    assert settings()["k400"]["batch_videos"] == 8 * config.evaluate.batch_clips // 8
