"""A labelled dataset with masks, and commits of a tiny untrained model, in a local store."""

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sigma_pipeline.data_prep.config import ViewConfig
from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.data_prep.rows import encode_rows
from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.storage import Storage, open_storage, write_json
from sigma_pipeline.jobs import benchmarks, feature_request
from sigma_pipeline.jobs.benchmarks.benchmark import FeatureSet
from sigma_pipeline.jobs.benchmarks.table import all_benchmarks
from sigma_pipeline.jobs.checkpoint_import import import_checkpoint
from sigma_pipeline.jobs.commits import WEIGHTS_FILE, Commit, manifest_key, put_commit, put_hint
from sigma_pipeline.jobs.config import CellConfig, EvaluateConfig
from sigma_pipeline.jobs.decoded import DecodedView
from sigma_pipeline.jobs.encoders import committed_encoder
from sigma_pipeline.jobs.evaluate_request import EvaluateRequest
from sigma_pipeline.jobs.evaluation import Evaluation
from sigma_pipeline.jobs.feature_request import FeatureRequest
from sigma_pipeline.jobs.features import ready_features
from sigma_pipeline.jobs.grid import plan_grid
from sigma_pipeline.model.config import ModelConfig
from sigma_pipeline.model.sigma import build_sigma
from sigma_pipeline.model.weights import save_weights
from tests.jobs.evaluation.in_process import InProcess
from tests.jobs.evaluation.release_files import write_release
from tests.jobs.evaluation.squares import SIZE, sample_members, sample_row

RUN = "r1"
COUNTS = {"train": 24, "val": 12}
MODEL = ModelConfig.model_validate(
    {
        "num_frames": 4,
        "frame_size_px": SIZE,
        "patch_size_px": 8,
        "mask_ratio": 0.75,
        "encoder": {"embed_dim": 16, "depth": 1, "num_heads": 2},
        "decoder": {"embed_dim": 8, "depth": 1, "num_heads": 1},
        "target": {"hidden_dims": (16,), "dim": 8},
        "prototypes": 12,
    }
)

AddCommit = Callable[..., Commit]
AddBenchmark = Callable[[str, str], None]
GetFeatures = Callable[..., FeatureSet]
MakeRequest = Callable[..., EvaluateRequest]
Import = Callable[..., Commit]
Evaluate = Callable[..., int]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Of PyTorch: what decodes with a process for each of the others then decodes here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def dataset_objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Objects of the dataset ``squares``, by key: 8 frames, class = colour of the square."""
    folder = tmp_path_factory.mktemp("squares")
    objects: dict[str, bytes] = {}
    for split, count in COUNTS.items():
        ref, content, rows = DatasetRef("squares", split, "v1"), b"", []
        for number in range(count):
            members = sample_members(folder, split, number)
            rows.append(sample_row(split, number, members, len(content)))
            content += b"".join(members.values())
        objects[f"{ref.prefix}/shard-000000.a.tar"] = content
        objects[ref.index_key] = encode_rows(rows)
    return objects


@pytest.fixture
def storage(tmp_path: Path, dataset_objects: Mapping[str, bytes]) -> Storage:
    """A store with both splits of ``squares``."""
    storage = open_storage(str(tmp_path / "store"))
    for key, data in dataset_objects.items():
        storage.write(key, data)
    for split, count in COUNTS.items():
        manifest = {"samples": count, "classes": ["blue", "green", "red"], "root_hash": "0"}
        write_json(storage, DatasetRef("squares", split, "v1").manifest_key, manifest)
    return storage


@pytest.fixture
def journal(storage: Storage) -> Journal:
    return Journal(storage, RUN, "20250101T000000000000-000000", "evaluate")


@pytest.fixture
def add_commit(storage: Storage) -> AddCommit:
    """Commits a model with random weights; equal steps of other attempts have other weights."""

    def add(
        step: int,
        *,
        attempt: str = "a1",
        model: ModelConfig = MODEL,
        nan: bool = False,
        has_optimizer: bool = False,
    ) -> Commit:
        state = build_sigma(model, seed=step + len(attempt)).state_dict()
        if nan:
            state["encoder.norm.weight"].fill_(float("nan"))
        data = save_weights(state)
        commit = Commit(
            run_name=RUN,
            step=step,
            attempt=attempt,
            epoch=0,
            batch=step,
            global_batch_clips=8,
            world_size=1,
            config_fingerprint="0",
            datasets=(),
            model=model.model_dump(mode="json"),
            weights_sha256=hashlib.sha256(data).hexdigest(),
            canary_loss=1.0,
            has_optimizer=has_optimizer,
        )
        storage.write(f"{commit.prefix}/{WEIGHTS_FILE}", data)
        put_commit(storage, commit)
        put_hint(storage, commit)
        return commit

    return add


@pytest.fixture
def make_request(storage: Storage, tmp_path: Path) -> MakeRequest:
    """A request for cells of ``squares``; keyword arguments go to ``EvaluateConfig``."""

    def make(*cells: dict[str, Any], **evaluate: Any) -> EvaluateRequest:
        return EvaluateRequest(
            run_name=RUN,
            root_uri=storage.root_uri,
            scratch_dir=str(tmp_path / "scratch"),
            work_dir=str(tmp_path / "work"),
            seed=0,
            evaluate=EvaluateConfig(
                cells=tuple(CellConfig.model_validate({"dataset": "squares"} | c) for c in cells),
                view=ViewConfig(frame_stride=2, crop="resize"),
                **{"pictures": False, "batch_clips": 5} | evaluate,
            ),
            datasets={("squares", split): DatasetRef("squares", split, "v1") for split in COUNTS},
        )

    return make


@pytest.fixture
def add_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AddBenchmark]:
    """Drops a file of this name and content among the benchmarks."""
    folder = tmp_path / "more_benchmarks"
    folder.mkdir()
    monkeypatch.setattr(benchmarks, "__path__", [*benchmarks.__path__, str(folder)])
    names = []

    def add(name: str, source: str) -> None:
        (folder / f"{name}.py").write_text(source)
        names.append(f"{benchmarks.__name__}.{name}")
        all_benchmarks.cache_clear()

    yield add
    all_benchmarks.cache_clear()
    for name in names:
        sys.modules.pop(name, None)
        vars(benchmarks).pop(name.rpartition(".")[2], None)


@pytest.fixture
def val_features(add_commit: AddCommit) -> FeatureRequest:
    """Features of the validation split, tokens among them, by an untrained encoder."""
    return FeatureRequest(
        run_name=RUN,
        source=committed_encoder(add_commit(0)),
        ref=DatasetRef("squares", "val", "v1"),
        num_samples=COUNTS["val"],
        view=ViewConfig(frame_stride=2, crop="resize"),
        pooling="slices",
        layers=(-1,),
        precision="fp32",
        batch_clips=5,
        decoders=0,
        limit_gib=1,
    )


@pytest.fixture
def workers() -> InProcess:
    """Remember what they did."""
    return InProcess()


@pytest.fixture
def evaluate(storage: Storage, journal: Journal, workers: InProcess) -> Evaluate:
    """Evaluates a request with ``workers``; returns the number of tasks."""

    def run(
        request: EvaluateRequest,
        follow: Callable[[], bool] | None = None,
        *,
        is_trained: bool = True,
    ) -> int:
        if is_trained:
            write_json(storage, manifest_key(RUN), {})
        return Evaluation(storage, journal, plan_grid(storage, request), workers).run(follow)

    return run


@pytest.fixture
def get(storage: Storage, tmp_path: Path) -> GetFeatures:
    """Features that are asked for, extracted first if need be."""

    def run(request: FeatureRequest, layer: int | None = None) -> FeatureSet:
        return ready_features(storage, request, str(tmp_path), layer=layer)

    return run


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[range]:
    """Small parts; of each the samples that were decoded, in order."""
    monkeypatch.setattr(feature_request, "PART_SAMPLES", 5)
    asked: list[range] = []
    batches = DecodedView.batches

    def watched(
        view: DecodedView, batch: int, samples: Sequence[range], decoders: int
    ) -> Iterator[Tensor]:
        for rows in samples:
            asked.append(rows)
            yield from batches(view, batch, [rows], decoders=decoders)

    monkeypatch.setattr(DecodedView, "batches", watched)
    return asked


@pytest.fixture
def state() -> dict[str, Tensor]:
    """Weights that are in no commit."""
    return dict(build_sigma(MODEL, seed=5).state_dict())


@pytest.fixture
def official(tmp_path: Path, state: dict[str, Tensor]) -> Path:
    """A file as the official release writes them."""
    return write_release(tmp_path / "official.pth", state)


@pytest.fixture
def import_file(storage: Storage, tmp_path: Path) -> Import:
    """Imports a file for the model of these tests, with ``changes`` of its settings."""

    def run(path: Path, run_name: str = RUN, **changes: Any) -> Commit:
        changed = ModelConfig.model_validate(MODEL.model_dump() | changes)
        return import_checkpoint(storage, run_name, path, changed, tmp_path / "scratch")

    return run
