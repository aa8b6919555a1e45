"""One shard: samples written to a tar, the same bytes for the same samples.

Any reader of WebDataset or of tar can take it apart; ours goes by the offsets noted here.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.keys import printable
from sigma_pipeline.data_prep.ledger import LedgerRow
from sigma_pipeline.data_prep.rows import Member, SampleRow
from sigma_pipeline.data_prep.sample import Sample
from sigma_pipeline.data_prep.suffixes import is_counted
from sigma_pipeline.data_prep.tars import TarWriter
from sigma_pipeline.data_prep.verdicts import Rejected

Prepare = Callable[[Item], Sample]


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
    items: Iterable[Item],
    prepare: Prepare,
    progress: Callable[[int], None],
) -> Shard:
    """Prepares ``items`` one by one and writes those that can be used to the tar ``path``.

    The rows name the tar ``""``: under which name it is stored is decided later.

    Args:
        path: of the tar.
        number: of the shard.
        items: in the order of the shard.
        prepare: see ``samples.prepare``.
        progress: told the source's size of each item that is done.
    """
    rows: list[SampleRow] = []
    rejected: list[LedgerRow] = []
    with path.open("wb") as file:
        tar = TarWriter(file)
        for item in items:
            try:
                sample = prepare(item)
            except Rejected as verdict:
                rejected += _ledger_rows(item, verdict)
            else:
                rows.append(_row(sample, number, _write(tar, sample)))
            progress(item.source_bytes)
        sha256, size = tar.finish()
    if not rows:
        path.unlink()
        return Shard((), tuple(rejected), sha256=None, size=0)
    return Shard(tuple(rows), tuple(rejected), sha256, size)


def _write(tar: TarWriter, sample: Sample) -> tuple[Member, ...]:
    """Frames come first, so that one range holds them; all else by name."""

    def place(member: tuple[str, bytes]) -> tuple[bool, str]:
        end, _ = member
        return sample.item.media == "frames" and not _is_media(sample, end), end

    members = sorted(sample.members, key=place)
    return tuple(tar.add(f"{sample.key}.{end}", content) for end, content in members)


def _row(sample: Sample, shard: int, members: tuple[Member, ...]) -> SampleRow:
    item, facts = sample.item, sample.probe
    media_offset, media_size = _media_range(sample, members)
    return SampleRow(
        key=sample.key,
        shard=shard,
        tar="",
        media=item.media,
        sha256=sample.sha256,
        media_offset=media_offset,
        media_size=media_size,
        suffix=sample.suffix,
        members=members,
        frames=facts.frames,
        first_frame=sample.first_frame,
        fps=facts.fps,
        width=facts.width,
        height=facts.height,
        rotation=facts.rotation,
        keyframes=facts.keyframes,
        keyframe_pts=facts.keyframe_pts,
        frame_grid=sample.frame_grid,
        label=item.label,
        labels=item.labels,
        class_name=item.class_name,
        annotation=sample.annotation,
        source=printable(item.name),
        group=item.group,
    )


def _media_range(sample: Sample, members: tuple[Member, ...]) -> tuple[int, int]:
    """Offset and size of the video or image; of frames, from the first one's to the last's end."""
    first = len(sample.key) + 1
    stored = [member for member in members if _is_media(sample, member.name[first:])]
    start = min(member.offset for member in stored)
    return start, max(member.offset + member.size for member in stored) - start


def _is_media(sample: Sample, end: str) -> bool:
    """Whether the member of that end of a name is the video, the image or a frame."""
    if sample.item.media == "frames":
        return re.fullmatch(rf"\d+{re.escape(sample.suffix)}", end) is not None
    return end == sample.suffix[1:]


def _ledger_rows(item: Item, verdict: Rejected) -> list[LedgerRow]:
    """One for the item, and one for each file that would have gone with it."""
    row = LedgerRow(
        source=printable(item.name),
        size=sum(file.size for file in item.files),
        reason=verdict.reason,
        detail=verdict.detail,
        counted=item.media != "video" or is_counted(item.files[0].name, verdict.reason),
        retryable=verdict.is_retryable,
    )
    detail = "the video it belongs to was rejected"
    return [
        row,
        *(
            LedgerRow(printable(file.name), file.size, "not_a_video", detail, counted=False)
            for file in item.sidecars
        ),
    ]
