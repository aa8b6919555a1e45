"""A frozen teacher is known by its content: a moved file is the same one, a changed one is not."""

import errno
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from sigma_pipeline.infra.errors import ConfigError
from sigma_pipeline.infra.storage import read_json
from sigma_pipeline.model.config import TargetConfig
from sigma_pipeline.pipeline.config import PipelineConfig, load_config
from sigma_pipeline.pipeline.science import differences, science_fingerprint, training_settings
from sigma_pipeline.pipeline.services import Services
from sigma_pipeline.pipeline.teacher import check_teacher, identify_teacher
from sigma_pipeline.pipeline.training import record_settings, training

if TYPE_CHECKING:
    from tests.pipeline.conftest import FakeJob

PUBLISHED = {
    "model_type": "vit",
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "patch_size": 16,
}
Taught = Callable[[Path], PipelineConfig]


def target(weights: Path) -> TargetConfig:
    return TargetConfig(kind="dino", teacher="dino_s", teacher_weights=str(weights))


def put_file(path: Path, content: bytes = b"weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def put_folder(folder: Path, **changes: str) -> Path:
    """As Hugging Face publishes it, with a file that nobody reads."""
    files = {"config.json": json.dumps(PUBLISHED), "model.safetensors": "w", "README.md": "r"}
    for name, content in (files | changes).items():
        put_file(folder / name, content.encode())
    return folder


@pytest.fixture
def taught(recipe_path: str) -> Taught:
    """The small recipe with a frozen teacher."""

    def load(weights: Path) -> PipelineConfig:
        kind = f"model.target={{kind: dino, teacher: dino_s, teacher_weights: '{weights}'}}"
        return load_config(recipe_path, (kind,))

    return load


def test_a_file_is_known_by_what_sha256sum_prints(tmp_path: Path) -> None:
    path = put_file(tmp_path / "dino.pth")

    assert identify_teacher(target(path)) == sha256(b"weights").hexdigest()
    assert identify_teacher(TargetConfig(kind="mlp")) is None


def test_a_folder_is_known_by_the_files_that_are_read(tmp_path: Path) -> None:
    first = identify_teacher(target(put_folder(tmp_path / "a")))

    same = put_folder(tmp_path / "b", **{"README.md": "other"})
    assert identify_teacher(target(same)) == first
    for number, changes in enumerate(
        (
            {"model.safetensors": "other"},
            {"config.json": json.dumps(PUBLISHED | {"layer_norm_eps": 1})},
        )
    ):
        other = put_folder(tmp_path / str(number), **changes)
        assert identify_teacher(target(other)) != first


def test_a_teacher_that_is_not_there_is_a_fault_of_the_recipe(tmp_path: Path) -> None:
    for look in (check_teacher, identify_teacher):
        with pytest.raises(ConfigError, match=r"^model\.target\.teacher_weights=.* does not exist"):
            look(target(tmp_path / "dino.pth"))


def test_a_teacher_that_cannot_be_read_is_a_fault_of_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put_file(tmp_path / "dino.pth")
    fail = mock.Mock(side_effect=OSError(errno.EIO, "Input/output error"))
    monkeypatch.setattr("hashlib.file_digest", fail)

    with pytest.raises(ConfigError, match=rf"^model\..*={path} cannot be read \(Input/output err"):
        identify_teacher(target(path))


def test_the_same_teacher_elsewhere_is_the_same_science(tmp_path: Path, taught: Taught) -> None:
    old, new = put_file(tmp_path / "old" / "dino.pth"), put_file(tmp_path / "new" / "dino.pth")

    before, now = (training_settings(taught(path), "v1") for path in (old, new))

    assert science_fingerprint(before) == science_fingerprint(now)
    assert differences(before, now) == ([], [f"model.target.teacher_weights: {old} -> {new}"])


def test_another_teacher_at_the_same_place_is_other_science(tmp_path: Path, taught: Taught) -> None:
    config = taught(put_file(tmp_path / "dino.pth"))
    before = training_settings(config, "v1")
    put_file(tmp_path / "dino.pth", b"others")

    now = training_settings(config, "v1")

    assert science_fingerprint(before) != science_fingerprint(now)
    hashes = " -> ".join(sha256(content).hexdigest() for content in (b"weights", b"others"))
    assert differences(before, now) == ([f"teacher_sha256: {hashes}"], [])


def test_a_run_goes_on_after_its_teacher_was_moved_but_not_after_it_was_replaced(
    tmp_path: Path, taught: Taught, services: Services, commit: Callable[[int], None]
) -> None:
    weights = put_file(tmp_path / "old" / "dino.pth")
    record_settings(services.storage, "trial", training_settings(taught(weights), "v1"))
    commit(0)
    moved = taught(weights.rename(tmp_path / "dino.pth"))

    record_settings(services.storage, "trial", training_settings(moved, "v1"))

    recorded = read_json(services.storage, "runs/trial/train/settings.json")
    assert recorded["teacher_sha256"] == sha256(b"weights").hexdigest()
    put_file(tmp_path / "dino.pth", b"others")
    with pytest.raises(ConfigError, match="begun with other settings: teacher_sha256: "):
        record_settings(services.storage, "trial", training_settings(moved, "v1"))


def test_a_run_whose_teacher_nobody_wrote_down_needs_another_name(
    tmp_path: Path, taught: Taught, services: Services, commit: Callable[[int], None]
) -> None:
    now = training_settings(taught(put_file(tmp_path / "dino.pth")), "v1")
    earlier = {key: value for key, value in now.items() if key != "teacher_sha256"}
    record_settings(services.storage, "trial", earlier)
    commit(0)

    with pytest.raises(ConfigError) as caught:
        record_settings(services.storage, "trial", now)

    assert "did not record which teacher it had" in str(caught.value)
    assert str(caught.value).endswith("begin another run with --set run_name=trial-2")
    assert "set them back" not in str(caught.value)


@pytest.mark.usefixtures("sharded")
def test_the_job_is_told_which_teacher_it_is_to_find(
    tmp_path: Path, taught: Taught, services: Services, job: "FakeJob"
) -> None:
    with training(taught(put_file(tmp_path / "dino.pth")), services):
        pass

    assert job.requests[0].teacher_sha256 == sha256(b"weights").hexdigest()
