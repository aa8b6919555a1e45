"""What ``make bench-train`` counts, and the trainings that it measures."""

from pathlib import Path

import pytest

from sigma_pipeline.pipeline.config import load_config
from tests.bench import train_steps
from tests.bench.figure import Figure
from tests.bench.train import GOAL_WAIT_PERCENT, PARTS, RECIPE, _options, commits, main
from tests.bench.train import scaling as scaling_of
from tests.bench.train_steps import Trained

TINY = (
    "model.encoder={embed_dim: 32, depth: 2, num_heads: 2}",
    "model.decoder={embed_dim: 16, depth: 1, num_heads: 2}",
    "model.target={kind: mlp, hidden_dims: [32], dim: 16}",
    "model.prototypes=12",
    "model.num_frames=4",
    "model.frame_size_px=64",
    "datasets.actions.options={only: actions/weizmann64/*}",
)


def trained(clips_per_step: int = 2, *, slow_step: int = 11) -> Trained:
    """Steps of a second; the one after each commit takes half a second more."""
    ended_s, now_s = {}, 100.0
    for step in range(1, 31):
        now_s += 1.5 if step in (slow_step, slow_step + 10) else 1.0
        ended_s[step] = now_s
    commit_steps = (10, 20)
    return Trained(
        clips_per_step=clips_per_step,
        ended_s=ended_s,
        committed_s={0: 99.0, 30: now_s + 9} | {step: ended_s[step] + 1.2 for step in commit_steps},
        waited_s={0: 0.0, 10: 5.0, 20: 5.1, 30: 5.2},
        data_fractions=[0.9, 0.9, 0.9, *[0.25] * 27],
    )


def test_steps_with_a_commit_under_way_are_told_from_quiet_ones() -> None:
    run = trained()

    assert set(run.quiet_s) == {1.0}
    assert run.clips_per_s == 2
    assert run.data_fraction == 0.25


def test_the_cost_of_a_commit_is_what_it_adds_to_the_steps_meanwhile() -> None:
    run = trained()

    assert run.wait_s == pytest.approx(0.1)
    assert run.under_way_s == pytest.approx(1.2)
    assert run.lost_s == pytest.approx(0.5)
    assert run.slowdown == pytest.approx(0.5)


def test_a_step_that_is_slow_by_itself_is_not_blamed_on_a_commit() -> None:
    assert trained(slow_step=15).lost_s == pytest.approx(0)


def test_the_wait_is_held_against_torch_save() -> None:
    figures = {figure.what: figure for figure in commits("one process", [trained()], plain_s=4)}

    share = figures["one process: that wait, of torch.save"]
    assert share.value == pytest.approx(2.5)
    assert share.at_most == GOAL_WAIT_PERCENT
    assert share.is_reached
    assert "at most 5: met" in share.line()
    assert "**missed**" in Figure("wait", 6, "%", 5).line()


def test_efficiency_is_of_twice_one_process() -> None:
    alone, together = trained(2), trained(3)

    figures = scaling_of([alone], [together], [alone, alone])

    shares = [figure.value for figure in figures if figure.what.startswith("efficiency")]
    assert shares == [75, 75]


def test_what_is_trained_is_as_large_as_published() -> None:
    config = load_config(str(RECIPE))

    assert (config.model.encoder.embed_dim, config.model.encoder.depth) == (384, 12)
    assert (config.model.num_tokens, config.model.prototypes) == (1568, 3000)


def test_a_part_that_there_is_not_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "SOURCES.csv").touch()

    assert _options(["--data", str(tmp_path)]).parts == list(PARTS)
    with pytest.raises(SystemExit):
        _options(["--data", str(tmp_path), "tapes"])
    assert "no part tapes; there are scaling, commits, restart" in capsys.readouterr().err


@pytest.mark.slow
def test_all_figures_of_one_machine_come_of_a_tiny_training(
    real_videos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SLURM_CONF", raising=False)
    monkeypatch.setattr(train_steps, "_SETTLE_S", 0)
    settings = [word for setting in TINY for word in ("--set", setting)]

    main(["--data", str(real_videos), "--steps", "12", "--repeats", "1", *settings])

    table = capsys.readouterr().out
    for what in ("two processes: rate", "a step waits for a commit", "restart, here: in all"):
        assert what in table
