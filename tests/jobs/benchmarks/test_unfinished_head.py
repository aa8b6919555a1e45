"""What is kept of a head in training, and what comes back of it."""

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from sigma_pipeline.jobs.benchmarks.unfinished_head import UnfinishedHead


def steps(head: nn.Module, optimizer: torch.optim.Optimizer, numbers: range) -> None:
    for number in numbers:
        draws = torch.Generator().manual_seed(number)
        optimizer.zero_grad()
        head(torch.randn(8, 4, generator=draws)).square().sum().backward()
        optimizer.step()


def fresh() -> tuple[nn.Module, torch.optim.Optimizer]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3))
    return head, torch.optim.AdamW(head.parameters(), lr=0.1, weight_decay=0.05)


def test_what_comes_back_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole, first, second = fresh(), fresh(), fresh()
    unfinished = UnfinishedHead(tmp_path / "a" / "b")
    steps(*whole, range(6))
    steps(*first, range(3))
    unfinished.save(*first, epochs=1)
    steps(*first, range(3, 4))
    unfinished.save(*first, epochs=2)

    assert unfinished.restore(*second) == 2
    steps(*second, range(4, 6))

    theirs = whole[0].state_dict()
    assert all(torch.equal(theirs[name], own) for name, own in second[0].state_dict().items())
    assert len(list((tmp_path / "a" / "b").iterdir())) == 1
    unfinished.remove()
    unfinished.remove()
    assert not list((tmp_path / "a").iterdir())


def test_where_nothing_whole_was_kept_training_starts_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unfinished = UnfinishedHead(tmp_path)
    assert unfinished.restore(*fresh()) == 0
    unfinished.save(*fresh(), epochs=1)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    head, optimizer = fresh()

    with caplog.at_level(logging.WARNING):
        assert unfinished.restore(head, optimizer) == 0

    assert "cannot be read, so training starts anew" in caplog.text
    expected = fresh()[0].state_dict()
    assert all(torch.equal(expected[name], own) for name, own in head.state_dict().items())


def test_a_disk_that_takes_nothing_ends_no_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()

    with caplog.at_level(logging.WARNING):
        UnfinishedHead(tmp_path / "file" / "below").save(*fresh(), epochs=3)

    assert "epoch 3 is not kept" in caplog.text
