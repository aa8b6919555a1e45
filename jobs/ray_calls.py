"""What a process of Ray runs: one function, kept to what its task may take."""

import gc
import importlib
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sigma_pipeline.jobs.backlog import TaskLimits
from sigma_pipeline.jobs.gpu_sharing import cap_memory


def run(function: Callable[..., Any], arguments: tuple[Any, ...], limits: TaskLimits) -> None:
    """Calls ``function`` for what it stores; Ray is to carry nothing."""
    call(function, arguments, limits)


def call(function: Callable[..., Any], arguments: tuple[Any, ...], limits: TaskLimits) -> Any:
    """What ``function`` returns; Ray finds it by its name."""
    if not limits.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Ray shows all of them to who asks for none

    import torch  # not for who submits

    torch.set_num_threads(max(1, int(limits.cpus)))
    if limits.gpu_memory_share is not None:
        cap_memory(limits.gpu_memory_share)
    try:
        return function(*arguments)
    finally:
        if limits.gpus:
            _empty_gpu()


def _empty_gpu() -> None:
    """Gives the memory back now: Ray tells of the end of a task before its process is gone."""
    import torch

    traceback.clear_frames(sys.exc_info()[2])  # what failed holds its tensors
    gc.collect()
    with suppress(RuntimeError):  # of a broken GPU: the task's own error says more
        torch.cuda.empty_cache()


def load_tasks() -> None:
    """Loads what tasks are made of, PyTorch for one, into the worker that runs this."""
    from sigma_pipeline.jobs.benchmarks.table import all_benchmarks

    all_benchmarks()
    importlib.import_module("sigma_pipeline.jobs.scoring")
