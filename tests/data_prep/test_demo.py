"""The demo set as files: layout, repeatability, and nothing half-visible."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import active_children
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from sigma_pipeline.data_prep import demo
from sigma_pipeline.data_prep.config import RenderedConfig
from sigma_pipeline.data_prep.demo import demo_folder, render
from sigma_pipeline.data_prep.demo_motions import MOTIONS
from sigma_pipeline.infra.errors import StageError

SMALL = RenderedConfig(train_clips=12, val_clips=11, frames=4, size_px=16)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "set"
    render(SMALL, folder, workers=1)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_every_motion_is_a_folder_in_both_splits(rendered: Path) -> None:
    for split, clips in (("train", 12), ("val", 11)):
        videos = list((rendered / split).glob("*/*.mp4"))
        assert len(videos) == clips
        assert {video.parent.name for video in videos} == {motion.name for motion in MOTIONS}


def test_a_clip_comes_with_its_facts_and_a_mask_per_frame(rendered: Path) -> None:
    video = next(rendered.glob("val/oscillate_vertically/*.mp4"))

    facts = json.loads(video.with_suffix(".json").read_text())
    masks = [Image.open(path) for path in sorted(video.with_suffix(".masks").iterdir())]
    with av.open(video) as container:
        frames = list(container.decode(video=0))
    assert facts.keys() == {"motion", "objects", "repetitions"}
    assert facts["motion"] == "oscillate_vertically"
    assert facts["repetitions"] >= 2
    assert [Path(str(mask.filename)).name for mask in masks] == [f"{n:05d}.png" for n in range(4)]
    assert len(frames) == len(masks)
    assert all((mask.mode, mask.size) == ("P", (16, 16)) for mask in masks)
    assert np.max([np.array(mask) for mask in masks]) == facts["objects"]


def test_no_clip_of_validation_is_one_of_training(rendered: Path) -> None:
    files = contents(rendered)

    train, val = (
        {data for name, data in files.items() if name.startswith(split) and name.endswith(".mp4")}
        for split in ("train", "val")
    )
    assert not train & val
    assert (len(train), len(val)) == (12, 11)


def test_a_complete_set_is_left_alone(rendered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_write_clip", lambda _: pytest.fail("rendered again"))

    render(SMALL, rendered, workers=1)


def test_a_longer_set_begins_with_the_shorter_one(rendered: Path, tmp_path: Path) -> None:
    render(SMALL.model_copy(update={"train_clips": 14}), tmp_path / "set", workers=1)

    shorter, longer = contents(rendered), contents(tmp_path / "set")
    assert shorter.items() <= longer.items()
    assert len([name for name in longer if name.endswith(".mp4")]) == 25


def test_another_seed_gives_other_clips(rendered: Path, tmp_path: Path) -> None:
    render(SMALL.model_copy(update={"seed": 1}), tmp_path / "set", workers=1)

    same, other = contents(rendered), contents(tmp_path / "set")
    name = "train/right/right-00000.mp4"
    assert same[name] != other[name]


def test_an_interrupted_rendering_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "_write_clip", fail)

    with pytest.raises(KeyboardInterrupt):
        render(SMALL, tmp_path / "set", workers=1)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_what_a_killed_rendering_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".set-abandoned" / "train").mkdir(parents=True)

    render(SMALL, tmp_path / "set", workers=1)

    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["set"]


def test_the_second_of_two_renderers_waits_for_the_first_ones_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered_clips: list[object] = []
    monkeypatch.setattr(demo, "_write_clip", rendered_clips.append)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: render(SMALL, tmp_path / "set", workers=1), range(2)))

    assert len(rendered_clips) == SMALL.train_clips + SMALL.val_clips


def test_settings_have_a_folder_of_their_own(tmp_path: Path) -> None:
    other = SMALL.model_copy(update={"size_px": 32})

    assert demo_folder(SMALL, tmp_path) == demo_folder(SMALL.model_copy(), tmp_path)
    assert demo_folder(SMALL, tmp_path) != demo_folder(other, tmp_path)
    assert tmp_path in demo_folder(SMALL, tmp_path).parents


@pytest.mark.slow
def test_any_number_of_workers_renders_the_same_bytes(rendered: Path, tmp_path: Path) -> None:
    render(SMALL, tmp_path / "set", workers=2)

    assert contents(tmp_path / "set") == contents(rendered)


def render_and_kill(config: RenderedConfig, folder: Path) -> None:
    """Kills a worker with its first clips done, then leaves the others alone."""
    before = set(active_children())
    with ThreadPoolExecutor(1) as thread:
        rendering = thread.submit(render, config, folder, 2)
        while not list(folder.parent.glob(f".{folder.name}-*/train/*/*.mp4")):
            time.sleep(0.01)
        worker = next(iter(set(active_children()) - before))
        worker.kill()
        rendering.result()


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_no_clip(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = RenderedConfig(train_clips=80, val_clips=40, frames=8)
    render(config, tmp_path / "undisturbed", workers=1)

    render_and_kill(config, tmp_path / "set")

    assert "ended early (exit statuses " in caplog.text
    assert "-9" in caplog.text
    assert contents(tmp_path / "set") == contents(tmp_path / "undisturbed")


@pytest.mark.slow
def test_workers_that_are_killed_each_time_are_an_error_that_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_POOLS", 1)

    with pytest.raises(StageError, match="In 1 attempts with 2 processes"):
        render_and_kill(RenderedConfig(train_clips=80, val_clips=40), tmp_path / "set")

    assert [path.name for path in tmp_path.iterdir()] == [".set.lock"]


@pytest.mark.slow
def test_workers_end_when_the_rendering_process_is_killed(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from sigma_pipeline.data_prep.config import RenderedConfig
from sigma_pipeline.data_prep.demo import render
if __name__ == "__main__":
    render(RenderedConfig(train_clips=100000), Path({str(tmp_path / "set")!r}), workers=2)
"""
    (tmp_path / "program.py").write_text(program)
    process = subprocess.Popen([sys.executable, "-P", str(tmp_path / "program.py")])
    while not list(tmp_path.glob(".set-*/train/*/*.mp4")):
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()

    os.kill(process.pid, signal.SIGKILL)
    process.wait()

    deadline = time.monotonic() + 20
    while any(_runs(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(children) >= 2
    assert not any(_runs(child) for child in children)


def _runs(process: str) -> bool:
    """Whether a process is there and not merely waiting to be reaped."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] not in {"Z", "X"}
