"""One shard: samples written to a tar, the same bytes for the same samples.

Any reader of WebDataset or of tar can take it apart; ours goes by the offsets noted here.
"""

import hashlib
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sigma_pipeline.data_prep.catalogue import Video
from sigma_pipeline.data_prep.decode import Rejected
from sigma_pipeline.data_prep.index import Member, SampleRow
from sigma_pipeline.data_prep.keys import printable
from sigma_pipeline.data_prep.ledger import LedgerRow
from sigma_pipeline.data_prep.samples import Sample
from sigma_pipeline.data_prep.suffixes import is_counted
from sigma_pipeline.data_prep.units import source_bytes

Prepare = Callable[[Video], Sample]


@dataclass(frozen=True)
class Shard:
    """What one unit of work became."""

    rows: tuple[SampleRow, ...]
    rejected: tuple[LedgerRow, ...]
    sha256: str | None
    """Of the tar; None where no sample was left and there is none."""
    size: int


def write_shard(
    path: Path,
    number: int,
    videos: Iterable[Video],
    prepare: Prepare,
    progress: Callable[[int], None],
) -> Shard:
    """Prepares ``videos`` one by one and writes those that can be used to the tar ``path``.

    The rows name the tar ``""``: under which name it is stored is decided later.

    Args:
        path: of the tar.
        number: of the shard.
        videos: in the order of the shard.
        prepare: see ``samples.prepare``.
        progress: told the source's size of each video that is done.
    """
    # It imports torch: seconds that only a process that writes has to pay.
    from webdataset import TarWriter

    samples: list[Sample] = []
    rejected: list[LedgerRow] = []
    with path.open("wb") as file, TarWriter(file, encoder=False, mtime=0) as writer:
        for video in videos:
            try:
                sample = prepare(video)
            except Rejected as verdict:
                rejected += _ledger_rows(video, verdict)
            else:
                writer.write({"__key__": sample.key, **dict(sample.members)})
                samples.append(replace(sample, members=()))
            progress(source_bytes(video))
    return _describe(path, number, samples, tuple(rejected))


def _describe(
    path: Path, number: int, samples: Sequence[Sample], rejected: tuple[LedgerRow, ...]
) -> Shard:
    """The shard whose tar lies at ``path``; an empty tar is removed."""
    if not samples:
        path.unlink()
        return Shard((), rejected, sha256=None, size=0)
    members = _members(path)
    with path.open("rb") as written:
        sha256 = hashlib.file_digest(written, "sha256").hexdigest()
    rows = tuple(_row(sample, number, members[sample.key]) for sample in samples)
    return Shard(rows, rejected, sha256, path.stat().st_size)


def _members(path: Path) -> dict[str, tuple[Member, ...]]:
    """Where each member lies, by the key of its sample."""
    members: dict[str, list[Member]] = defaultdict(list)
    with tarfile.open(path, "r:") as tar:
        for info in tar:
            key = info.name.partition(".")[0]
            members[key].append(Member(info.name, info.offset_data, info.size))
    return {key: tuple(found) for key, found in members.items()}


def _row(sample: Sample, shard: int, members: tuple[Member, ...]) -> SampleRow:
    video, facts = sample.video, sample.probe
    stored = next(member for member in members if member.name == sample.key + sample.suffix)
    return SampleRow(
        key=sample.key,
        shard=shard,
        tar="",
        sha256=sample.sha256,
        video_offset=stored.offset,
        video_size=stored.size,
        suffix=sample.suffix,
        members=members,
        frames=facts.frames,
        fps=facts.fps,
        width=facts.width,
        height=facts.height,
        rotation=facts.rotation,
        keyframes=facts.keyframes,
        keyframe_pts=facts.keyframe_pts,
        label=video.label,
        class_name=video.class_name,
        annotation=sample.annotation,
        source=printable(video.file.name),
    )


def _ledger_rows(video: Video, verdict: Rejected) -> list[LedgerRow]:
    """One for the video, and one for each file that would have gone with it."""
    name = printable(video.file.name)
    counted = is_counted(video.file.name, verdict.reason)
    rows = [LedgerRow(name, video.file.size, verdict.reason, verdict.detail, counted)]
    for file in video.sidecars:
        detail = "the video it belongs to was rejected"
        rows.append(LedgerRow(printable(file.name), file.size, "not_a_video", detail, False))
    return rows
