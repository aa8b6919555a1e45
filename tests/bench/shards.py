"""How fast shards are made: copies against ``tar``, transcodes against ``ffmpeg``.

All figures are of processor time, so that another process on the machine does not count: ours and
the commands' with one thread each. Copies are given thrice: with every frame decoded, which costs
some thirty times as much as packing small files; with packets read and one frame decoded, the goal
(``check: packets``); and with the facts known already, which is what packing itself costs.
Opening a container and decoding one frame cost the same for every file, so that the share of
``tar`` depends on how large files are: it is given for those of ordinary clips, too.
"""

import hashlib
import resource
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sigma_pipeline.data_prep.config import TranscodeConfig
from sigma_pipeline.data_prep.decode import decode_all
from sigma_pipeline.data_prep.encode import Encoding
from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.sample import Sample, SampleSettings
from sigma_pipeline.data_prep.samples import prepare
from sigma_pipeline.data_prep.shards import write_shard
from sigma_pipeline.data_prep.source_tree import SourceFile, find_files
from sigma_pipeline.data_prep.suffixes import VIDEO_SUFFIXES, suffix_of
from tests.bench.rows import Row

COPY = SampleSettings(2, transcode=None)
PACKETS = SampleSettings(2, transcode=None, check="packets")
SMALL = SampleSettings(2, TranscodeConfig())
_TRIES = 3
_PSNR_FRAMES = 64
_LARGE_BYTES = 300_000


def measure(folder: Path, data: Path) -> list[Row]:
    """The figures, of the action videos below ``data``; ``folder`` is for what is written."""
    files = [
        file for file in find_files(data / "actions") if suffix_of(file.name) in VIDEO_SUFFIXES
    ]
    return [*_measure_copy(folder, files), *_measure_transcode(folder, files)]


def _measure_copy(folder: Path, files: Sequence[SourceFile]) -> list[Row]:
    items = _items(files)
    samples = {item.name: prepare(item, COPY) for item in items}

    def pack_known(item: Item) -> Sample:
        known = samples[item.name]
        data = Path(item.files[0].path).read_bytes()
        members = ((known.suffix[1:], data), *known.members[1:])
        return replace(known, sha256=hashlib.sha256(data).hexdigest(), members=members)

    plain_s = _plain_s(folder, files)
    decoded_s = _copy_s(folder, items, partial(prepare, settings=COPY))
    packets_s = _copy_s(folder, items, partial(prepare, settings=PACKETS))
    packed_s = _copy_s(folder, items, pack_known)
    large = [file for file in files if file.size >= _LARGE_BYTES]
    large_s = _copy_s(folder, _items(large), partial(prepare, settings=PACKETS))
    what = f"the same, files of {_LARGE_BYTES // 1000} kB and more"
    return [
        Row("tar + sha256sum", len(files) / plain_s, "videos/s"),
        Row("copy, every frame decoded", len(files) / decoded_s, "videos/s"),
        Row("copy, packets checked", len(files) / packets_s, "videos/s"),
        Row("copy, facts known", len(files) / packed_s, "videos/s"),
        Row("copy, every frame decoded / (tar + sha256sum)", plain_s / decoded_s, "x"),
        Row("copy, packets checked / (tar + sha256sum)", plain_s / packets_s, "x", goal=0.70),
        Row(what, _plain_s(folder, large) / large_s, "x"),
        Row("copy, facts known / (tar + sha256sum)", plain_s / packed_s, "x", goal=0.70),
    ]


def _items(files: Sequence[SourceFile]) -> list[Item]:
    return [Item(file.name, "video", (file,), "train") for file in files]


def _plain_s(folder: Path, files: Sequence[SourceFile]) -> float:
    paths = [file.path for file in files]
    tar = str(folder / "files.tar")
    return _cpu_s_of_commands(["tar", "-chPf", tar, *paths], ["sha256sum", *paths])


def _copy_s(folder: Path, items: Sequence[Item], make: Callable[[Item], Sample]) -> float:
    return _cpu_s(lambda: write_shard(folder / "shard.tar", 0, items, make, lambda _: None))


def _measure_transcode(folder: Path, files: Sequence[SourceFile]) -> list[Row]:
    """Every fourth file; ``ffmpeg`` is begun anew for each, as on a command line."""
    items = _items(files[::4])
    samples: list[Sample] = []
    ours_s = _cpu_s(lambda: samples.extend(prepare(item, SMALL) for item in items), tries=1)
    outputs = [folder / f"{number}.mp4" for number in range(len(items))]
    theirs_s = _cpu_s_of_commands(*map(_ffmpeg, samples, outputs), tries=1)
    source_bytes = sum(item.source_bytes for item in items)
    frames = sum(sample.probe.frames for sample in samples)
    quality = [_psnr(sample, output) for sample, output in zip(samples, outputs, strict=True)]
    return [
        Row("ffmpeg", frames / theirs_s, "frames/s"),
        Row("transcode, checked", frames / ours_s, "frames/s"),
        Row("transcode / ffmpeg", theirs_s / ours_s, "x", goal=0.95),
        Row("bytes of the source", source_bytes / 1e6, "MB"),
        Row("bytes of the transcode", sum(map(_size, samples)) / 1e6, "MB"),
        Row("bytes by ffmpeg", sum(path.stat().st_size for path in outputs) / 1e6, "MB"),
        Row("PSNR of the transcode", float(np.mean([ours for ours, _ in quality])), "dB"),
        Row("PSNR of ffmpeg's", float(np.mean([theirs for _, theirs in quality])), "dB"),
    ]


def _ffmpeg(sample: Sample, output: Path) -> list[str]:
    """The command line with the settings of ``SMALL``."""
    config = SMALL.transcode
    assert config
    size = f"{sample.probe.width}:{sample.probe.height}"
    filters = f"scale={size}:flags=bicubic,setsar=1"
    encoding = Encoding(config.crf, config.gop_frames, config.preset, config.disposable_frames)
    structure = str(encoding.options["x264-params"])
    read = ["-threads", "1", "-filter_threads", "1", "-i", sample.item.files[0].path]
    picture = ["-map", "0:v:0", "-fps_mode", "passthrough", "-vf", filters, "-pix_fmt", "yuv420p"]
    encode = ["-c:v", "libx264", "-preset", config.preset, "-crf", str(config.crf)]
    write = ["-threads", "1", "-x264-params", structure, "-movflags", "+faststart", str(output)]
    return ["ffmpeg", "-v", "error", "-nostdin", "-y", *read, *picture, *encode, *write]


def _psnr(sample: Sample, theirs: Path) -> tuple[float, float]:
    """Of our frames and ffmpeg's, against the source's scaled in RGB, in dB."""
    size = sample.probe.width, sample.probe.height
    source = decode_all(Path(sample.item.files[0].path).read_bytes(), _PSNR_FRAMES)
    wanted = np.stack(
        [
            np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))
            for frame in source
        ]
    )
    stored = (dict(sample.members)["mp4"], theirs.read_bytes())
    ours_db, theirs_db = (_decibels(wanted, decode_all(data, _PSNR_FRAMES)) for data in stored)
    return ours_db, theirs_db


def _decibels(wanted: NDArray[np.uint8], given: NDArray[np.uint8]) -> float:
    count = min(len(wanted), len(given))
    error = np.mean((wanted[:count].astype(float) - given[:count]) ** 2)
    return float(10 * np.log10(255**2 / error))


def _size(sample: Sample) -> int:
    return len(dict(sample.members)["mp4"])


def _cpu_s(work: Callable[[], object], tries: int = _TRIES) -> float:
    """Processor time of this process; the least of some tries."""
    times = []
    for _ in range(tries):
        start_s = time.process_time()
        work()
        times.append(time.process_time() - start_s)
    return min(times)


def _cpu_s_of_commands(*commands: Sequence[str], tries: int = _TRIES) -> float:
    """Processor time of all ``commands`` together; the least of some tries.

    Raises:
        FileNotFoundError: a command is not installed (``apt-get install ffmpeg``).
    """
    times = []
    for _ in range(tries):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        for command in commands:
            subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)
