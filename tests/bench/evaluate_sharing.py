"""Three benchmarks of one commit that share its features, against three runs of their own."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from sigma_pipeline.infra.storage import open_storage
from sigma_pipeline.jobs.checkpoint_import import import_checkpoint
from sigma_pipeline.jobs.commits import list_commits
from sigma_pipeline.jobs.encoders import committed_encoder
from sigma_pipeline.jobs.features import extract_features
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.model.sigma import build_sigma
from sigma_pipeline.model.weights import save_weights
from sigma_pipeline.pipeline.config import PipelineConfig, load_config
from sigma_pipeline.pipeline.evaluating import recorded_evaluation
from sigma_pipeline.pipeline.services import open_services
from sigma_pipeline.pipeline.sharding import run_shard_stage
from tests.bench.evaluate_clips import make_clips
from tests.bench.figure import Figure
from tests.bench.process_cost import Cost, cost_of

RECIPE = Path(__file__).with_name("evaluate.yaml")
GOAL_RATIO = 2.5
TOGETHER = "together"


@dataclass(frozen=True)
class Trial:
    """A run that is measured, with a store of its own."""

    name: str
    settings: tuple[str, ...]

    def config(self) -> PipelineConfig:
        """Its recipe."""
        return load_config(str(RECIPE), self.settings)

    def command(self, program: str) -> list[str]:
        """What scores its commit."""
        options = [word for setting in self.settings for word in ("--set", setting)]
        return [program, "run", "--stage", "evaluate", "--config", str(RECIPE), *options]


def measure_sharing(
    program: str, data: Path, folder: Path, clips: int, settings: Sequence[str]
) -> Iterator[Figure]:
    """Scores an untrained encoder by all benchmarks at once, and by one after another.

    Args:
        program: ``sigma-pipeline``.
        data: folder of real videos.
        folder: for all that is made.
        clips: so many videos.
        settings: of the recipe, besides.
    """
    make_clips(data, folder / "videos", clips)
    costs = {}
    trials = [_trial(name, folder, settings) for name in (TOGETHER, *_benchmarks())]
    for trial in trials:
        _prepare(trial.config(), folder)
        costs[trial.name] = cost_of(trial.command(program), folder / f"{trial.name}.txt")
    yield from compared(costs)
    encoding_s = _encoding_s(_trial("encoding", folder, settings), folder)
    yield Figure("one pass of the encoder over all clips", encoding_s, "s of a processor")
    share = 100 * encoding_s / costs[TOGETHER].processor_s
    yield Figure("that pass, of the three together", share, "%")


def compared(costs: dict[str, Cost]) -> Iterator[Figure]:
    """All runs side by side, and how much less it takes together."""
    for name, cost in costs.items():
        yield Figure(f"{name}: processors", cost.processor_s, "s")
        yield Figure(f"{name}: by the clock", cost.clock_s, "s")
    together = costs[TOGETHER]
    apart = [cost for name, cost in costs.items() if name != TOGETHER]
    by_processor = sum(cost.processor_s for cost in apart) / together.processor_s
    by_clock = sum(cost.clock_s for cost in apart) / together.clock_s
    yield Figure("times as cheap together, processors", by_processor, "x", at_least=GOAL_RATIO)
    yield Figure("times as cheap together, by the clock", by_clock, "x", at_least=GOAL_RATIO)


def _benchmarks() -> list[str]:
    return [cell.benchmark for cell in load_config(str(RECIPE)).evaluate.cells]


def _trial(name: str, folder: Path, settings: Sequence[str]) -> Trial:
    """Of the benchmark ``name``, or of all; nothing that another run made is in its reach."""
    cells = load_config(str(RECIPE)).evaluate.model_dump(mode="json", exclude_unset=True)["cells"]
    own = [cell for cell in cells if cell["benchmark"] == name] or cells
    return Trial(
        name,
        (
            f"run_name={name}",
            f"root_uri={folder / name}",
            f"scratch_dir={folder / name / 'scratch'}",
            f"datasets.clips.source={folder / 'videos'}",
            f"evaluate.cells={own}",
            *settings,
        ),
    )


def _prepare(config: PipelineConfig, folder: Path) -> None:
    """Shards the videos into the run's store, and makes the same untrained encoder its commit."""
    services = open_services(config, lambda _: None)
    run_shard_stage(config, services, force=False)
    weights = folder / "untrained.safetensors"
    if not weights.exists():
        weights.write_bytes(save_weights(build_sigma(config.model, seed=0).state_dict()))
    import_checkpoint(services.storage, config.run_name, weights, config.model, config.scratch_path)


def _encoding_s(trial: Trial, folder: Path) -> float:
    """Seconds of this process's processors for the features of all benchmarks together."""
    config = trial.config()
    _prepare(config, folder)
    storage = open_storage(config.root_uri)
    request = recorded_evaluation(config, open_services(config, lambda _: None))
    grid = plan_grid(storage, request)
    (commit,) = list_commits(storage, config.run_name)
    features = grid.features(grid.trials[0].trial, committed_encoder(commit))
    torch.set_num_threads(1)  # as in the tasks of the recipe
    began_s = time.process_time()
    for wanted in features:  # what is there already is not extracted again
        extract_features(storage, wanted, request.scratch_dir)
    return time.process_time() - began_s
