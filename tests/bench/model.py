"""One optimizer step of SIGMA ViT-S, ours against the plain reference, on the CPU.

Both have the same weights, clips and masks, and must give the same loss. Their steps alternate in
one process, and medians are compared; so are the parts, of which forward passes are timed one by
one. Memory is the peak of the resident set of a process of its own for each, above what the process
had before the model was built: weights, gradients, moments, and all that a step needs.

    python -m tests.bench.model [--batches 2 4] [--precisions fp32 bf16] [--repeats 5]
"""

import argparse
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import get_args

import torch
import torch.nn.functional as F

from sigma_pipeline.model.scores import cosine_scores
from sigma_pipeline.model.sinkhorn import measured_assignments
from tests.bench.model_flops import step_flops
from tests.bench.model_reference import plain_sinkhorn
from tests.bench.model_step import CONFIG, Case, Precision, Step
from tests.bench.rows import Row

TOLERANCE = {"fp32": 1e-4, "bf16": 1e-2}
"""Relative, of the loss: rounding moves labels that are nearly ties."""
GOALS = {"fp32": 1.8, "bf16": 3.0}
SINKHORN_TOKENS = 45_000
_MATMUL_SIDE = 2048


def matmul_peak(precision: Precision) -> float:
    """Floating-point operations per second of a large product: what any step may hope for."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    side = _MATMUL_SIDE
    one, other = torch.randn(side, side).to(dtype), torch.randn(side, side).to(dtype)
    products: list[Callable[[], object]] = [lambda: F.linear(one, other), lambda: one @ other]
    return 2 * side**3 / min(_fastest(call) for call in products)


def compare_steps(case: Case, repeats: int) -> Iterator[Row]:
    """Alternating steps from the same weights, whose losses must agree."""
    ours, reference = Step(case), Step(case._replace(who="reference"))
    _require_same_loss(ours()[1], reference()[1], case)
    pairs = [(ours(), reference()) for _ in range(repeats)]
    ours_s, reference_s = (
        statistics.median(run[0] for run in runs) for runs in zip(*pairs, strict=True)
    )
    label = f"{case.precision}, batch {case.batch}"
    yield Row(f"step, {label}: reference", reference_s, "s")
    yield Row(f"step, {label}: ours", ours_s, "s")
    ratios = [reference_run[0] / ours_run[0] for ours_run, reference_run in pairs]
    yield Row(f"step, {label}: speed", statistics.median(ratios), "x", GOALS[case.precision])
    share = step_flops(CONFIG, case.batch) / ours_s / matmul_peak(case.precision)
    yield Row(f"step, {label}: share of the matmul peak", 100 * share, "%")
    by_part = Step(case._replace(who="parts"))
    by_part()
    ours_parts = [by_part()[2].seconds for _ in range(repeats)]
    for name in ours_parts[0]:
        theirs = statistics.median(pair[1][2].seconds[name] for pair in pairs)
        own = statistics.median(parts[name] for parts in ours_parts)
        yield Row(f"  {name}: reference", theirs, "s")
        yield Row(f"  {name}: ours", own, "s")


def compare_memory(case: Case) -> Iterator[Row]:
    """Peaks of two processes, each with one step behind it."""
    peaks = {who: _peak_of_process(f"{who},{case.precision},{case.batch}") for who in WHO}
    label = f"memory, {case.precision}, batch {case.batch}"
    for who, peak in peaks.items():
        yield Row(f"{label}: {who}", peak / 2**20, "MiB")
    yield Row(f"{label}: reference / ours", peaks["reference"] / peaks["ours"], "x", 2.0)


WHO = ("reference", "ours")


def compare_sinkhorn(repeats: int) -> Iterator[Row]:
    """Labels of many tokens, from features to labels, in time and memory."""
    calls = {"reference": _plain_labels, "ours": _our_labels}
    agreeing = (calls["ours"]() == calls["reference"]()).float().mean()
    yield Row("Sinkhorn: labels that agree", 100 * float(agreeing), "%", 99.9)
    seconds = [{who: _seconds(call) for who, call in calls.items()} for _ in range(repeats)]
    for who in WHO:
        yield Row(f"Sinkhorn: {who}", statistics.median(each[who] for each in seconds), "s")
    ratio = statistics.median(each["reference"] / each["ours"] for each in seconds)
    yield Row("Sinkhorn: speed", ratio, "x", 2.0)
    peaks = {who: _peak_of_process(f"sinkhorn-{who}") for who in WHO}
    for who, peak in peaks.items():
        yield Row(f"Sinkhorn memory: {who}", peak / 2**20, "MiB")
    yield Row("Sinkhorn memory: reference / ours", peaks["reference"] / peaks["ours"], "x", 3.0)


def _features() -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    dim = CONFIG.target.dim
    # Centres that features lie around, as those of a model in training do.
    prototypes = F.normalize(torch.randn(CONFIG.prototypes, dim, generator=draws), dim=1)
    near = torch.randint(0, CONFIG.prototypes, (SINKHORN_TOKENS,), generator=draws)
    noise = torch.randn(SINKHORN_TOKENS, dim, generator=draws)
    return prototypes[near] + 0.1 * noise, prototypes


def _our_labels() -> torch.Tensor:
    return measured_assignments(cosine_scores(*_features()), CONFIG)[0]


def _plain_labels() -> torch.Tensor:
    features, prototypes = _features()
    return plain_sinkhorn(F.normalize(features, dim=1) @ prototypes.T, CONFIG.sinkhorn)


def _require_same_loss(ours: float, reference: float, case: Case) -> None:
    if not abs(ours - reference) <= TOLERANCE[case.precision] * abs(reference):
        raise SystemExit(f"{case}: our loss is {ours}, the reference has {reference}")


def _peak_of_process(what: str) -> int:
    command = [sys.executable, "-m", "tests.bench.model", "--peak-of", what]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout)


def _peak_of(what: str) -> int:
    """Bytes at the peak of this process above those before it began."""
    before = _status_bytes("VmRSS")
    if what.startswith("sinkhorn-"):
        {"ours": _our_labels, "reference": _plain_labels}[what.removeprefix("sinkhorn-")]()
    else:
        who, precision, batch = what.split(",")
        step = Step(Case.named(who, precision, int(batch)))
        step()
        step()
    return _status_bytes("VmHWM") - before


def _status_bytes(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def _seconds(call: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    call()
    return time.perf_counter() - started_s


def _fastest(call: Callable[[], object], tries: int = 10) -> float:
    return min(_seconds(call) for _ in range(tries))


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """All figures that are asked for."""
    for precision in options.precisions:
        yield Row(f"matmul peak, {precision}", matmul_peak(precision) / 1e9, "GFLOP/s")
    for precision, batch in product(options.precisions, options.batches):
        case = Case("ours", precision, batch)
        yield from compare_steps(case, options.repeats)
        yield from compare_memory(case)
    yield from compare_sinkhorn(options.repeats)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, and says where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[2, 4])
    parser.add_argument(
        "--precisions", nargs="+", choices=get_args(Precision), default=get_args(Precision)
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak-of", help="of one process; used by the benchmark itself")
    options = parser.parse_args(arguments)
    if options.peak_of:
        sys.stdout.write(f"{_peak_of(options.peak_of)}\n")
        return 0
    is_reached = True
    for row in measure(options):
        goal = "" if row.goal is None else f"   goal: at least {row.goal:g}"
        is_reached &= row.goal is None or row.value >= row.goal
        sys.stdout.write(f"{row.what:48} {row.value:10.3f} {row.unit:8}{goal}\n")
        sys.stdout.flush()
    return int(not is_reached)


if __name__ == "__main__":
    sys.exit(main())
