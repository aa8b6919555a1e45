"""One optimizer step of SIGMA ViT-S, ours against the plain reference, on the CPU.

Both have the same weights, clips and masks, and must give the same loss. Each is a process of its
own; their steps alternate, and medians are compared. Ours keeps freed memory, as processes of
training do; since that alone makes a step faster, the reference is measured in both ways.

Memory is the peak of the resident set above what the process had before the model was built:
weights, gradients, moments, and all that a step needs; and without the weights and moments, which
nobody can do without.

    python -m tests.bench.model [--batches 2 4] [--precisions fp32 bf16] [--repeats 5]
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import get_args

import torch

from sigma_pipeline.model.flops import step_flops
from sigma_pipeline.model.sigma import build_sigma, num_parameters
from tests.bench.model_floor import (
    Machine,
    floors,
    matmul_flops,
    memory_bytes_per_s,
)
from tests.bench.model_process import BenchProcess, Taken
from tests.bench.model_sinkhorn import features, our_labels, plain_labels
from tests.bench.model_step import CONFIG, Precision
from tests.bench.rows import Row

TOLERANCE = {"fp32": 1e-4, "bf16": 1e-2}
"""Relative, of the loss: rounding moves labels that are nearly ties."""
GOALS = {"fp32": 1.8, "bf16": 3.0}
WHO = ("reference", "kept", "ours")
NAMES = {"reference": "reference", "kept": "reference, memory kept", "ours": "ours"}


def alternated(processes: Sequence[Callable[[], Taken]], repeats: int) -> list[list[Taken]]:
    """What each took, one after the other, after two that warm up."""
    rounds = [[process() for process in processes] for _ in range(2 + repeats)]
    return [list(taken) for taken in zip(*rounds[2:], strict=True)]


def median_ratio(slow: list[Taken], fast: list[Taken]) -> float:
    """How many times as fast, in the median of neighbours."""
    return statistics.median(
        one.seconds / other.seconds for one, other in zip(slow, fast, strict=True)
    )


def median_seconds(taken: list[Taken]) -> float:
    """Of some calls."""
    return statistics.median(each.seconds for each in taken)


def compare_steps(precision: str, batch: int, repeats: int, machine: Machine) -> Iterator[Row]:
    """Alternating steps from the same weights, whose losses must agree."""
    label = f"{precision}, batch {batch}"
    with ExitStack() as stack:
        processes = [stack.enter_context(BenchProcess(who, precision, batch)) for who in WHO]
        taken = dict(zip(WHO, alternated(processes, repeats), strict=True))
    _require_same_losses(taken, precision)
    for who, name in NAMES.items():
        yield Row(f"step, {label}: {name}", median_seconds(taken[who]), "s")
    speed = median_ratio(taken["reference"], taken["ours"])
    yield Row(f"step, {label}: speed", speed, "x", GOALS[precision])
    alike = median_ratio(taken["kept"], taken["ours"])
    yield Row(f"step, {label}: speed, memory kept by both", alike, "x")
    share = step_flops(CONFIG, batch) / median_seconds(taken["ours"]) / machine.flops
    yield Row(f"step, {label}: share of the matmul peak", 100 * share, "%")
    yield from _compare_memory(label, taken)
    yield from _compare_parts(precision, batch, machine, taken["reference"])


def _compare_memory(label: str, taken: dict[str, list[Taken]]) -> Iterator[Row]:
    peaks = {who: each[-1].peak_bytes for who, each in taken.items()}
    for who, name in NAMES.items():
        yield Row(f"memory, {label}: {name}", peaks[who] / 2**20, "MiB")
    ratio = peaks["reference"] / peaks["ours"]
    yield Row(f"memory, {label}: reference / ours", ratio, "x", 2.0)
    common = 3 * 4 * _num_parameters()
    ratio = (peaks["reference"] - common) / (peaks["ours"] - common)
    yield Row(f"memory, {label}: the same without weights and moments", ratio, "x")


def _compare_parts(
    precision: str, batch: int, machine: Machine, reference: list[Taken]
) -> Iterator[Row]:
    with BenchProcess("parts", precision, batch) as process:
        ours = alternated([process], len(reference))[0]
    lowest = floors(CONFIG, batch, _num_parameters(), machine)
    for part in ours[0].parts:
        theirs, own = (
            statistics.median(each.parts[part] for each in taken) for taken in (reference, ours)
        )
        yield Row(f"  {part}: reference", theirs, "s")
        yield Row(f"  {part}: ours", own, "s")
        yield Row(f"  {part}: floor", lowest.get(part, 0.0), "s")


def compare_sinkhorn(repeats: int) -> Iterator[Row]:
    """Labels of many tokens, from features to labels, in time and memory."""
    given = features()
    agreeing = (our_labels(*given) == plain_labels(*given)).float().mean()
    yield Row("Sinkhorn: labels that agree", 100 * float(agreeing), "%", 99.9)
    who = ("reference", "ours")
    with ExitStack() as stack:
        processes = [stack.enter_context(BenchProcess("sinkhorn", each)) for each in who]
        taken = dict(zip(who, alternated(processes, repeats), strict=True))
    for name, each in taken.items():
        yield Row(f"Sinkhorn: {name}", median_seconds(each), "s")
    yield Row("Sinkhorn: speed", median_ratio(taken["reference"], taken["ours"]), "x", 2.0)
    peaks = {name: each[-1].peak_bytes for name, each in taken.items()}
    for name, peak in peaks.items():
        yield Row(f"Sinkhorn memory: {name}", peak / 2**20, "MiB")
    yield Row("Sinkhorn memory: reference / ours", peaks["reference"] / peaks["ours"], "x", 3.0)


def _num_parameters() -> int:
    return num_parameters(build_sigma(CONFIG, seed=0))


def _require_same_losses(taken: dict[str, list[Taken]], precision: str) -> None:
    for ours, reference in zip(taken["ours"], taken["reference"], strict=True):
        if not abs(ours.loss - reference.loss) <= TOLERANCE[precision] * abs(reference.loss):
            raise SystemExit(f"our loss is {ours.loss}, the reference has {reference.loss}")


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """All figures that are asked for."""
    exact_flops, bytes_per_s = matmul_flops(torch.float32), memory_bytes_per_s()
    yield Row("memory, copied", bytes_per_s / 1e9, "GB/s")
    for precision in options.precisions:
        flops = exact_flops if precision == "fp32" else matmul_flops(torch.bfloat16)
        yield Row(f"matmul peak, {precision}", flops / 1e9, "GFLOP/s")
        machine = Machine(flops, exact_flops, bytes_per_s)
        for batch in options.batches:
            yield from compare_steps(precision, batch, options.repeats, machine)
    yield from compare_sinkhorn(options.repeats)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, and says where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[2, 4])
    parser.add_argument(
        "--precisions", nargs="+", choices=get_args(Precision), default=get_args(Precision)
    )
    parser.add_argument("--repeats", type=int, default=5)
    is_reached = True
    for row in measure(parser.parse_args(arguments)):
        goal = "" if row.goal is None else f"   goal: at least {row.goal:g}"
        is_reached &= row.goal is None or row.value >= row.goal
        sys.stdout.write(f"{row.what:56} {row.value:10.3f} {row.unit:8}{goal}\n")
        sys.stdout.flush()
    return int(not is_reached)


if __name__ == "__main__":
    sys.exit(main())
