"""What one item may take of the process that prepares it: processor time and memory.

The kernel enforces both. Never wall time, which depends on what else the machine does.
"""

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sigma_pipeline.data_prep.config import LimitsConfig
from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.sample import Sample, SampleSettings
from sigma_pipeline.data_prep.samples import prepare

_BYTES_PER_CPU_S = 50_000
"""Source bytes that earn an item one second more; decoding them takes some hundredths of it."""
_GIB = 1 << 30


def prepare_limited(item: Item, settings: SampleSettings) -> Sample:
    """``samples.prepare`` within ``settings.limits``.

    When the item has used up its processor time, the kernel ends this process by ``SIGXCPU``.

    Raises:
        Rejected: it cannot become a sample.
        StageError: it is not the file any more that was listed.
        MemoryError: more memory was asked for than is allowed, or than there is.
    """
    with (
        _lowered(resource.RLIMIT_CPU, _used_cpu_s() + cpu_limit_s(item, settings.limits)),
        # Of addresses, not of what is resident: only that can be refused, rather than killed for.
        _lowered(resource.RLIMIT_AS, _used_bytes() + memory_limit(item, settings.limits)),
    ):
        return prepare(item, settings)


def cpu_limit_s(item: Item, limits: LimitsConfig) -> int:
    """Processor time that ``item`` may take, in whole seconds as the kernel counts them."""
    return 1 + limits.cpu_s + item.source_bytes // _BYTES_PER_CPU_S


def memory_limit(item: Item, limits: LimitsConfig) -> int:
    """Bytes that preparing ``item`` may take, besides those of an idle process."""
    return int(limits.memory_gib * _GIB) + item.source_bytes  # the source is held in memory


@contextmanager
def _lowered(kind: int, limit: int) -> Iterator[None]:
    """Sets a soft limit of this process for as long as the block takes."""
    before, hard = resource.getrlimit(kind)
    others = [known for known in (before, hard) if known != resource.RLIM_INFINITY]
    resource.setrlimit(kind, (min([limit, *others]), hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (before, hard))


def _used_cpu_s() -> int:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return int(used.ru_utime + used.ru_stime)


def _used_bytes() -> int:
    """Size of this process's address space."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


def name_of_signal(number: int) -> str:
    """``SIGSEGV`` for 11."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
