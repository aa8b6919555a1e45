"""What a cell has fine-tuned goes out to others, with the same scores and the names of classes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

from sigma_pipeline.infra.errors import ConfigError, MissingInputError
from sigma_pipeline.infra.storage import Storage, write_json
from sigma_pipeline.jobs.fine_tuned_export import FILE, export_fine_tuned, find_fine_tuned
from sigma_pipeline.model.checkpoint_files import (
    read_checkpoint,
    safetensors_file,
    untrained_encoder,
)
from sigma_pipeline.model.classifier import VideoClassifier
from sigma_pipeline.model.patches import IMAGENET_MEAN, IMAGENET_STD
from tests.jobs.evaluation.conftest import MODEL, RUN
from tests.jobs.evaluation.release_files import equal

CLASSES = ("blue", "green", "red")
PutCell = Callable[..., str]


@pytest.fixture
def model() -> VideoClassifier:
    """With numbers that are not zeros and ones, so that none can be left out unseen."""
    model = VideoClassifier(untrained_encoder(MODEL), len(CLASSES), seed=0)
    draws = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draws))
    return model.eval()


@pytest.fixture
def put_cell(storage: Storage, model: VideoClassifier) -> PutCell:
    """Leaves what a finished cell leaves, as far as it is looked at."""

    def put(step: int, seed: int = 0, dataset: str = "squares", *, is_done: bool = True) -> str:
        stem = f"runs/{RUN}/evaluate/step-{step:08d}/finetune/{dataset}/{seed}-0123456789abcdef"
        file = f"{stem}.a1/{FILE}"
        storage.write(file, safetensors_file(model.state_dict(), MODEL, CLASSES))
        trial = {"test": {"name": dataset}, "settings": {"epochs": 5}}
        if is_done:
            write_json(storage, f"{stem}.json", {"step": step, "trial": trial, "files": [file]})
        return f"{stem}.json"

    return put


def normalized(clip: torch.Tensor) -> torch.Tensor:
    """As VideoMAE takes clips: [batch, frames, channels, height, width]."""
    mean, std = (torch.tensor(each)[:, None, None, None] for each in (IMAGENET_MEAN, IMAGENET_STD))
    return ((clip / 255 - mean) / std).transpose(1, 2)


def test_transformers_gives_the_same_scores_and_knows_the_classes(
    storage: Storage, put_cell: PutCell, model: VideoClassifier, tmp_path: Path
) -> None:
    put_cell(0)
    draws = torch.Generator().manual_seed(3)
    clip = torch.randint(0, 256, (2, 3, 4, 32, 32), dtype=torch.uint8, generator=draws)

    export_fine_tuned(
        storage, find_fine_tuned(storage, RUN, "squares"), "huggingface", tmp_path / "out"
    )

    theirs, report = transformers.VideoMAEForVideoClassification.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    with torch.inference_mode():
        scores = theirs.eval()(normalized(clip)).logits
        # Theirs adds 1e-5, not 1e-6, to the variance of the averaged features.
        torch.testing.assert_close(scores, model(clip), rtol=0, atol=2e-3)
    labels = json.loads((tmp_path / "out" / "config.json").read_text())["id2label"]
    assert labels == {"0": "blue", "1": "green", "2": "red"}


@pytest.mark.parametrize("layout", ["official", "safetensors"])
def test_it_comes_back_bit_for_bit(
    storage: Storage, put_cell: PutCell, model: VideoClassifier, tmp_path: Path, layout: str
) -> None:
    put_cell(0)

    export_fine_tuned(storage, find_fine_tuned(storage, RUN, "squares"), layout, tmp_path / "out")

    again = read_checkpoint(tmp_path / "out")
    norm = {"encoder.norm.weight", "encoder.norm.bias"}
    assert again.kind == "fine-tuned classifier"
    assert equal({n: t for n, t in again.state.items() if n not in norm}, model.state_dict())


def test_the_last_commit_is_meant_unless_another_is_named(
    storage: Storage, put_cell: PutCell
) -> None:
    put_cell(0)
    put_cell(300)
    put_cell(600, is_done=False)
    put_cell(900, dataset="circles")

    assert find_fine_tuned(storage, RUN, "squares").step == 300
    assert find_fine_tuned(storage, RUN, "squares", 0).step == 0


def test_of_several_seeds_one_has_to_be_named_by_its_key(
    storage: Storage, put_cell: PutCell
) -> None:
    keys = [put_cell(0, seed) for seed in (0, 1)]

    with pytest.raises(ConfigError, match=rf"2 classifiers .* from step 0; .*{keys[1]}"):
        find_fine_tuned(storage, RUN, "squares")
    assert find_fine_tuned(storage, RUN, keys[1]).key == keys[1]


def test_without_one_it_is_said_how_to_make_it(storage: Storage) -> None:
    with pytest.raises(MissingInputError, match=r"no classifier .*'squares'; make one with a cell"):
        find_fine_tuned(storage, RUN, "squares")
