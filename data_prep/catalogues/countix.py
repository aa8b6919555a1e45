"""Countix: parts of Kinetics videos with a number of repetitions (protocols 10)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sigma_pipeline.data_prep.catalogues.list_files import ListFiles, NoOptions, check_options
from sigma_pipeline.data_prep.catalogues.listing import Listing
from sigma_pipeline.data_prep.catalogues.lists import Entry, Flaws, annotation_text, list_entries
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.items import Segment
from sigma_pipeline.data_prep.source_files import SourceFiles

_COLUMNS = (
    "video_id", "kinetics_start", "kinetics_end", "repetition_start", "repetition_end", "count",
)  # fmt: skip


class Repetition(NamedTuple):
    """One line; times in seconds of the whole video."""

    split: str
    where: str
    video: str
    class_name: str | None
    kinetics_start_s: int
    kinetics_end_s: int
    start_s: float
    end_s: float
    repetitions: int


def list_countix(dataset: DatasetConfig, roots: Sequence[Path]) -> Listing:
    """Lists the segments of the CSV files; those of the test split have no class.

    The file of a segment is the clip of Kinetics, ``<id>_000017_000027.mp4``, in a folder of any
    name, or else the whole video, ``<id>.mp4``. The annotation is ``count``.
    """
    check_options(dataset, NoOptions)
    lists, flaws, files = ListFiles(dataset, roots), Flaws(), SourceFiles(roots)
    rows = [
        row
        for split, name in lists.splits().items()
        for row in _read_list(lists, name, split, flaws)
    ]
    classes = sorted({row.class_name for row in rows if row.class_name is not None})
    label_of = {name: label for label, name in enumerate(classes)}
    entries = [_entry(row, label_of, files) for row in rows]
    return list_entries(dataset, files, entries, classes, flaws, is_unique=True)


def _read_list(lists: ListFiles, name: str, split: str, flaws: Flaws) -> Iterator[Repetition]:
    rows = lists.rows(name, f"splits.{split}")
    where, header = next(rows, (name, []))
    if missing := [column for column in _COLUMNS if column not in header]:
        flaws.add(where, f"the header has no column {', '.join(missing)}")
        return
    for where, values in rows:
        row = dict(zip(header, values, strict=False))
        try:
            yield _parse(row, split, where)
        except (KeyError, ValueError) as error:
            flaws.add(where, f"is not a segment with a count: {error}")


def _parse(row: Mapping[str, str], split: str, where: str) -> Repetition:
    start_s, end_s = float(row["repetition_start"]), float(row["repetition_end"])
    if not (math.isfinite(start_s) and math.isfinite(end_s)):
        raise ValueError(f"there is no time from {start_s} to {end_s} s")
    return Repetition(
        split,
        where,
        row["video_id"],
        row.get("class"),
        int(row["kinetics_start"]),
        int(row["kinetics_end"]),
        start_s,
        end_s,
        int(row["count"]),
    )


def _entry(row: Repetition, label_of: Mapping[str, int], files: SourceFiles) -> Entry:
    clip = f"{row.video}_{row.kinetics_start_s:06d}_{row.kinetics_end_s:06d}"
    is_whole = not files.find_deeper(clip) and bool(files.find_deeper(row.video))
    offset_s = 0 if is_whole else row.kinetics_start_s
    # Rounded, as differences of decimal fractions are none.
    segment = Segment(round(row.start_s - offset_s, 6), round(row.end_s - offset_s, 6))
    return Entry(
        row.video if is_whole else clip,
        row.split,
        row.where,
        None if row.class_name is None else label_of[row.class_name],
        segment=segment,
        annotation=annotation_text({"count": row.repetitions}),
    )
