"""Where the shard stage has its shards made."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.pipeline import sharding
from sigma_pipeline.pipeline.config import PipelineConfig, load_config
from sigma_pipeline.pipeline.services import Services
from sigma_pipeline.pipeline.sharding import preview_shard_stage, run_shard_stage

ON_SLURM = ("launch.cluster=slurm", "launch.shard.tasks=8", "launch.shard.workers=3")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two small videos."""
    (tmp_path / "videos").mkdir()
    for number in range(2):
        frames = np.full((3, 16, 16, 3), 20 * number, dtype=np.uint8)
        write_video(tmp_path / f"videos/{number}.mp4", frames, fps=10, crf=20, gop_frames=3)
    return tmp_path / "videos"


@pytest.mark.usefixtures("source")
def test_a_dry_run_tells_how_many_make_the_shards(recipe_path: str, services: Services) -> None:
    on_slurm = load_config(recipe_path, ON_SLURM)
    here = load_config(recipe_path, ("launch.shard.workers=3",))

    assert list(preview_shard_stage(on_slurm, services.storage))[-1] == (
        "dataset clips: shards are made by a SLURM array of 8 tasks with 3 workers each"
    )
    assert list(preview_shard_stage(here, services.storage))[-1] == (
        "dataset clips: shards are made by 3 workers on this machine"
    )


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("cluster", ["local", "debug", "slurm"])
def test_an_array_makes_the_shards_where_the_cluster_is_slurm(
    recipe_path: str, services: Services, monkeypatch: pytest.MonkeyPatch, cluster: str
) -> None:
    config: PipelineConfig = load_config(recipe_path, (f"launch.cluster={cluster}",))
    asked: dict[str, Any] = {}
    for name in ("shard_on_slurm", "shard_dataset"):
        monkeypatch.setattr(
            sharding, name, lambda _, *, name=name, **settings: asked.update({name: settings})
        )

    run_shard_stage(config, services, force=True)

    ((name, settings),) = asked.items()
    assert name == ("shard_on_slurm" if cluster == "slurm" else "shard_dataset")
    assert settings["force"]
    if cluster == "slurm":
        assert settings["snapshot"].work_dir == config.work_path
