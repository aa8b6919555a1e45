"""``shards`` and ``datasets`` on a real, small store: what is listed, found broken, and mended."""

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from sigma_pipeline.data_prep.catalogues import CATALOGUES
from sigma_pipeline.data_prep.encode import write_video
from sigma_pipeline.data_prep.index import DatasetRef, Index
from sigma_pipeline.data_prep.rows import encode_rows
from sigma_pipeline.data_prep.samples import prepare
from sigma_pipeline.infra.storage import open_storage
from sigma_pipeline.jobs.shard import plan_dataset, shard_dataset
from sigma_pipeline.jobs.shard_progress import Progress
from sigma_pipeline.jobs.shard_unit import UnitTask, build_unit
from sigma_pipeline.pipeline.cli import cli
from sigma_pipeline.pipeline.config import load_config


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def build_here(
    tasks: Sequence[UnitTask], *, workers: int, scratch_dir: Path, progress: Progress
) -> None:
    """Makes shards in this process, not in workers."""
    for task in tasks:
        build_unit(task, partial(prepare, settings=task.settings), progress.add, scratch_dir)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A recipe whose dataset, ten videos in two classes, is sharded: two videos to a tar."""
    for number in range(10):
        path = tmp_path / f"videos/{'walk' if number % 2 else 'run'}/{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = np.full((6, 24, 32, 3), 20 * number, dtype=np.uint8)
        write_video(path, frames, fps=10, crf=20, gop_frames=4)
    values = {
        "run_name": "trial",
        "root_uri": str(tmp_path / "store"),
        "datasets": {"clips": {"source": str(tmp_path / "videos")}},
        "shard": {"samples_per_shard": 2},
        "train": {"dataset": "clips", "optimizer": {"warmup_epochs": 1}},
        "launch": {"shard": {"workers": 1}},
    }
    (tmp_path / "trial.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.setattr("sigma_pipeline.jobs.shard.build_units", build_here)
    config = load_config(str(tmp_path / "trial.yaml"))
    plan = plan_dataset("clips", config.datasets["clips"], config.shard, config.scratch_path)
    shard_dataset(
        plan,
        storage=open_storage(config.root_uri),
        shard=config.shard,
        workers=1,
        journal=None,
        attempt="one",
        force=False,
    )
    return str(tmp_path / "trial.yaml")


def call(recipe: str, *words: str) -> Result:
    return CliRunner().invoke(cli, [*words, "--config", recipe])


def tar_of(recipe: str, split: str, number: int) -> Path:
    (path,) = Path(recipe).parent.glob(f"store/datasets/clips/{split}/*/shard-{number:06d}.*.tar")
    return path


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[700:900] = b"x" * 200
    path.write_bytes(content)


def test_datasets_lists_every_catalogue_and_what_is_sharded(recipe: str) -> None:
    output = call(recipe, "datasets").output

    for name in CATALOGUES:
        assert f"\n  {name} " in output
    assert [line.split()[-1] for line in output.splitlines()[-2:]] == ["complete", "complete"]


def test_datasets_tells_what_one_catalogue_reads() -> None:
    output = CliRunner().invoke(cli, ["datasets", "ucf101"]).output

    assert output.startswith("ucf101: UCF101: ")
    assert "  val: testlist0{fold}.txt" in output


def test_an_unfinished_split_is_listed_as_such(recipe: str) -> None:
    next(Path(recipe).parent.glob("store/datasets/clips/val/*/manifest.json")).unlink()

    lines = call(recipe, "datasets").output.splitlines()

    assert [line.endswith("not complete") for line in lines[-2:]] == [False, True]


def test_ls_shows_shards_or_samples(recipe: str) -> None:
    shards = call(recipe, "shards", "ls", "clips/train").output
    samples = call(recipe, "shards", "ls", "--samples").output

    assert "8 samples, root hash" in shards
    assert shards.count(".one.tar") == 4
    assert len(samples.splitlines()) == 10
    assert "6 x 32x24" in samples


def test_verify_is_content_with_what_was_just_made(recipe: str) -> None:
    result = call(recipe, "shards", "verify", "--decode")

    assert result.exit_code == 0
    assert result.output.count("as they were made") == 2


def test_broken_and_missing_tars_are_found_and_made_again_as_they_were(recipe: str) -> None:
    paths = tar_of(recipe, "train", 1), tar_of(recipe, "val", 0)
    before = [path.read_bytes() for path in paths]
    damage(paths[0])
    paths[1].unlink()

    found = call(recipe, "shards", "verify")
    repaired = call(recipe, "shards", "repair")

    assert found.exit_code == 1
    assert "shard 1: shard-000001.one.tar has other bytes" in found.output
    assert "shard 0: shard-000000.one.tar is gone" in found.output
    assert "sigma-pipeline shards repair" in found.output
    assert repaired.exit_code == 0
    assert repaired.output.count("  repaired") == 2
    assert [path.read_bytes() for path in paths] == before
    assert call(recipe, "shards", "verify").exit_code == 0


def test_an_index_that_is_not_that_of_the_receipts_is_found_and_mended(recipe: str) -> None:
    (train,) = Path(recipe).parent.glob("store/datasets/clips/train/*/index.parquet")
    before = train.read_bytes()
    storage = open_storage(load_config(recipe).root_uri)
    ref = DatasetRef("clips", "train", train.parent.name)
    rows = list(Index.load(storage, ref).rows)
    train.write_bytes(encode_rows([*rows[1:], rows[0]]))

    assert "index: index.parquet has other rows" in call(recipe, "shards", "verify").output
    assert call(recipe, "shards", "repair", "clips/train").exit_code == 0
    assert train.read_bytes() == before


def test_what_the_source_cannot_give_again_is_left_and_said(recipe: str) -> None:
    damage(tar_of(recipe, "train", 0))
    config = load_config(recipe)
    changed = next(Path(config.datasets["clips"].sources[0]).rglob("*.mp4"))
    changed.write_bytes(changed.read_bytes() + b"more")

    result = call(recipe, "shards", "repair")

    assert result.exit_code == 1
    assert "was made from other source files or settings" in result.output


def test_a_source_file_of_the_same_size_with_other_content_is_not_taken(recipe: str) -> None:
    damage(tar_of(recipe, "train", 0))
    broken = tar_of(recipe, "train", 0).read_bytes()
    for path in Path(load_config(recipe).datasets["clips"].sources[0]).rglob("*.mp4"):
        content = bytearray(path.read_bytes())
        content[content.rindex(b"udta") if b"udta" in content else -1] ^= 1
        path.write_bytes(content)

    result = call(recipe, "shards", "repair", "clips/train")

    assert result.exit_code == 1
    assert "comes out with other bytes than it had" in result.output
    assert tar_of(recipe, "train", 0).read_bytes() == broken


def test_show_draws_the_sample_whose_key_begins_so(recipe: str, tmp_path: Path) -> None:
    key = call(recipe, "shards", "ls", "--samples").output.split()[0]
    picture = tmp_path / "sample.png"

    result = call(recipe, "shards", "show", key[:12], "--out", str(picture))

    assert result.output.strip() == str(picture)
    with Image.open(picture) as image:
        assert image.width > 4 * 200
        assert len(image.convert("RGB").getcolors(1 << 20) or ()) > 2


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("show", "nothing-like-it"), 3, "no sample of clips/train, clips/val"),
        (("show", ""), 2, "10 keys begin with ''"),
        (("verify", "clips/test"), 2, "it has: clips/train, clips/val"),
        (("ls", "other"), 2, "no dataset or split 'other'"),
    ],
)
def test_a_wrong_name_ends_with_what_there_is(
    recipe: str, words: tuple[str, ...], status: int, message: str
) -> None:
    result = call(recipe, "shards", *words)

    assert result.exit_code == status
    assert message in result.output
