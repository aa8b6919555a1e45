"""Checkpoints of every origin give the same encoder."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from sigma_pipeline.model import ModelConfig, load_encoder, untrained_encoder
from sigma_pipeline.model.checkpoint_files import read_checkpoint, write_safetensors
from sigma_pipeline.model.encoder import Encoder
from sigma_pipeline.model.huggingface import write_huggingface
from sigma_pipeline.model.official import write_official
from sigma_pipeline.model.weights import build_encoder

Release = Callable[[Mapping[str, Tensor]], Path]


@pytest.fixture
def encoder(config: ModelConfig, state: dict[str, Tensor]) -> Encoder:
    return build_encoder(config, state)


def commit_folder(folder: Path, state: dict[str, Tensor], config: ModelConfig) -> Path:
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    commit = {"step": 3, "model": config.model_dump(mode="json")}
    (folder / "commit.json").write_text(json.dumps(commit))
    return folder


def huggingface_folder(folder: Path, state: dict[str, Tensor], config: ModelConfig) -> Path:
    folder.mkdir()
    write_huggingface(folder, state, config)
    return folder


def own_file(path: Path, state: dict[str, Tensor], config: ModelConfig) -> Path:
    write_safetensors(path, state, config)
    return path


def own_official_file(path: Path, state: dict[str, Tensor], config: ModelConfig) -> Path:
    write_official(path, state, config, epoch=0)
    return path


def weights_of_a_commit(folder: Path, state: dict[str, Tensor], config: ModelConfig) -> Path:
    return commit_folder(folder, state, config) / "model.safetensors"


@pytest.mark.parametrize(
    "write",
    [commit_folder, weights_of_a_commit, huggingface_folder, own_file, own_official_file],
)
def test_an_encoder_comes_back_with_its_settings(
    tmp_path: Path,
    config: ModelConfig,
    state: dict[str, Tensor],
    encoder: Encoder,
    clip: Tensor,
    write: Callable[[Path, dict[str, Tensor], ModelConfig], Path],
) -> None:
    loaded = load_encoder(write(tmp_path / "checkpoint", state, config))

    assert not loaded.training
    assert loaded.config.num_frames == config.num_frames
    assert torch.equal(loaded.encode(clip), encoder.encode(clip))


def test_an_official_file_needs_the_settings_that_shapes_do_not_show(
    release: Release, config: ModelConfig, state: dict[str, Tensor], encoder: Encoder, clip: Tensor
) -> None:
    path = release(state)

    with pytest.raises(ValueError, match="how many heads it has is not known"):
        load_encoder(path)
    assert torch.equal(load_encoder(path, config).encode(clip), encoder.encode(clip))


def test_an_official_file_of_a_published_width_needs_nothing(release: Release) -> None:
    published = ModelConfig.model_validate(
        {"encoder": {"embed_dim": 192, "depth": 1, "num_heads": 3}, "prototypes": 8}
    )
    encoder = untrained_encoder(published)

    loaded = load_encoder(
        release({f"encoder.{name}": t for name, t in encoder.state_dict().items()})
    )

    assert loaded.config.encoder == published.encoder
    assert (loaded.config.num_frames, loaded.config.frame_size_px) == (16, 224)


def test_a_bare_state_dict_is_an_encoder(
    tmp_path: Path, config: ModelConfig, encoder: Encoder, clip: Tensor
) -> None:
    torch.save(encoder.state_dict(), tmp_path / "bare.pth")

    assert read_checkpoint(tmp_path / "bare.pth").kind == "encoder"
    assert torch.equal(
        load_encoder(tmp_path / "bare.pth", config).encode(clip), encoder.encode(clip)
    )


def test_a_projection_network_is_never_taken_for_a_classifier(
    tmp_path: Path, config: ModelConfig, state: dict[str, Tensor], encoder: Encoder, clip: Tensor
) -> None:
    stripped = {name.removeprefix("encoder."): tensor for name, tensor in state.items()}
    assert "head.0.weight" in stripped
    torch.save(stripped, tmp_path / "stripped.pth")

    found = read_checkpoint(tmp_path / "stripped.pth")

    assert found.kind == "encoder"
    assert found.state.keys() == {f"encoder.{name}" for name in encoder.state_dict()}
    loaded = load_encoder(tmp_path / "stripped.pth", config)
    assert torch.equal(loaded.encode(clip), encoder.encode(clip))


def test_a_classifier_gives_its_encoder_with_an_unlearned_norm(
    release: Release,
    config: ModelConfig,
    classifier: dict[str, Tensor],
    encoder: Encoder,
    clip: Tensor,
) -> None:
    found = read_checkpoint(release(classifier))

    assert (found.kind, found.has_own_norm) == ("fine-tuned classifier", False)
    assert torch.equal(found.state["classifier.head.weight"], classifier["head.weight"])
    encoder.norm = torch.nn.Identity()
    expected = F.layer_norm(encoder.encode(clip), (48,), eps=1e-6)
    loaded = load_encoder(release(classifier), config)
    torch.testing.assert_close(loaded.encode(clip), expected)


def test_a_classifier_goes_out_as_it_came_in(
    tmp_path: Path, release: Release, config: ModelConfig, classifier: dict[str, Tensor]
) -> None:
    found = read_checkpoint(release(classifier))

    write_official(tmp_path / "out.pth", found.state, config, epoch=0)

    written = torch.load(tmp_path / "out.pth", weights_only=True)["model"]
    assert written.keys() == classifier.keys()
    assert all(torch.equal(written[name], classifier[name]) for name in classifier)


def test_an_encoder_of_another_config_is_refused_with_the_differences(
    release: Release, config: ModelConfig, state: dict[str, Tensor]
) -> None:
    deeper = config.model_copy(
        update={"encoder": config.encoder.model_copy(update={"depth": 3}), "tubelet_frames": 4}
    )

    with pytest.raises(
        ValueError,
        match=r"model\.tubelet_frames: recipe 4, file 2; model\.encoder\.depth: recipe 3, file 2$",
    ):
        load_encoder(release(state), deeper)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "it is no whole PyTorch file"),
        (b"not a checkpoint", "it is no whole PyTorch file"),
        (bytes(8) + b"{}", "it is no whole safetensors file"),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "file").write_bytes(content)

    with pytest.raises(ValueError, match=sentence):
        read_checkpoint(tmp_path / "file")


def test_a_truncated_safetensors_file_is_refused(
    tmp_path: Path, config: ModelConfig, state: dict[str, Tensor]
) -> None:
    path = own_file(tmp_path / "model.safetensors", state, config)
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(ValueError, match="it is no whole safetensors file"):
        read_checkpoint(path)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"neither config\.json nor commit\.json"):
        read_checkpoint(tmp_path)


def test_entries_that_are_no_weights_are_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save({"model": state | {"encoder.step": torch.tensor(3)}}, tmp_path / "file.pth")

    with pytest.raises(ValueError, match=r"its encoder\.step is a torch\.int64 tensor"):
        read_checkpoint(tmp_path / "file.pth")


def test_an_untrained_encoder_depends_on_its_seed_alone(config: ModelConfig, clip: Tensor) -> None:
    torch.manual_seed(9)
    first = untrained_encoder(config, seed=4).encode(clip)
    drawn = torch.rand(1)
    torch.manual_seed(9)

    assert torch.equal(drawn, torch.rand(1))
    assert torch.equal(first, untrained_encoder(config, seed=4).encode(clip))
    assert not torch.equal(first, untrained_encoder(config, seed=5).encode(clip))


def test_the_package_loads_nothing_until_it_is_used_and_none_of_our_other_folders() -> None:
    check = (
        "import sys, sigma_pipeline.model as model;"
        "assert 'torch' not in sys.modules;"
        "assert 'load_encoder' in dir(model);"
        "model.load_encoder;"
        "ours = {name.split('.')[1] for name in sys.modules if name.startswith('sigma_pipeline.')};"
        "assert ours == {'model'}, ours;"
        "assert 'transformers' not in sys.modules"
    )

    subprocess.run([sys.executable, "-P", "-c", check], check=True)
