"""The recipe that docs/benchmarks.md counts rendered cycles with."""

from pathlib import Path

from sigma_pipeline.infra.storage import open_storage
from sigma_pipeline.pipeline.config import load_config
from sigma_pipeline.pipeline.evaluating import check_cells


def test_the_recipe_is_valid_and_has_as_many_steps_as_the_docs_say(tmp_path: Path) -> None:
    config = load_config(str(Path(__file__).with_name("cycles.yaml")), [f"root_uri={tmp_path}"])

    check_cells(config, open_storage(str(tmp_path)))

    (cell,) = config.evaluate.cells
    rendered = config.datasets["cycles"].rendered
    assert rendered is not None
    epochs = cell.settings["epochs"]
    assert isinstance(epochs, int)
    clips_per_video, batch_clips = 10, 32  # defaults of the benchmark
    assert epochs * (rendered.train_clips * clips_per_video // batch_clips) == 750
