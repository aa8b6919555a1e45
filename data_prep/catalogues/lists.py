"""What lists say of videos, frames and images, matched with the files that are there.

The ground of all catalogues that read lists. Such a catalogue

1. checks its options: ``options = check_options(dataset, Ucf101Options)`` (a pydantic model),
2. reads its lists with ``ListFiles(dataset, roots)``: ``splits(fold=1)`` gives list names by split,
   ``lines``, ``rows``, ``json`` and ``json_items`` their content with ``file:line``,
3. makes an ``Entry`` of each thing listed; what is malformed goes to ``flaws.add(where, what)``,
4. returns ``list_entries(dataset, SourceFiles(roots), entries, classes, flaws)``, which does the
   rest: labels out of range, duplicates and paths that leave the source become flaws (one
   ConfigError for all), the subset is drawn, missing and unlisted files get ledger rows.

A catalogue that lists without entries applies ``subsets.keep_subset`` to its items itself.
"""

import json
import logging
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

from sigma_pipeline.data_prep.catalogues.listing import Listing, make_listing
from sigma_pipeline.data_prep.catalogues.subsets import keep_subset
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.items import Item, Media, Segment
from sigma_pipeline.data_prep.keys import printable
from sigma_pipeline.data_prep.ledger import LedgerRow
from sigma_pipeline.data_prep.source_files import SourceFiles
from sigma_pipeline.data_prep.source_tree import SourceFile
from sigma_pipeline.data_prep.suffixes import PICTURE_SUFFIXES, claims_other, suffix_of
from sigma_pipeline.data_prep.verdicts import Reason
from sigma_pipeline.infra.errors import ConfigError, MissingInputError

log = logging.getLogger(__name__)

_SHOWN_FLAWS = 10
_NOT_LISTED: tuple[Reason, str] = "not_listed", "no list of the splits asks for it"


class Entry(NamedTuple):
    """One thing that a list names."""

    path: str
    """As the list writes it: relative to a source or absolute, perhaps without its suffix. Of
    frames, the name of the sample (their folder); of an image, its exact path."""
    split: str
    where: str
    """``trainlist01.txt:17``."""
    label: int | None = None
    """From 0."""
    labels: tuple[int, ...] = ()
    segment: Segment | None = None
    annotation: str | None = None
    """JSON text in canonical form (``annotation_text``)."""
    media: Media = "video"
    frames: tuple[str, ...] = ()
    """With ``media="frames"``: exact paths of the pictures, in their order."""
    sidecars: tuple[str, ...] = ()
    """Exact paths of masks."""
    group: str | None = None
    """See ``Item``."""


@dataclass
class Flaws:
    """What is wrong with lists, collected so that one run shows all of it."""

    found: list[str] = field(default_factory=list)

    def add(self, where: str, *reasons: str) -> bool:
        """Notes why the line at ``where`` cannot be used; whether there is a reason at all."""
        self.found += [f"{where}: {reason}" for reason in reasons]
        return bool(reasons)

    def raise_any(self) -> None:
        """Ends with all flaws at once.

        Raises:
            ConfigError: there is one.
        """
        if self.found:
            shown = "; ".join(self.found[:_SHOWN_FLAWS])
            more = len(self.found) - _SHOWN_FLAWS
            raise ConfigError(
                f"{shown}{f'; and {more} more' if more > 0 else ''}; correct the lists, or name "
                "others in the dataset's splits"
            )


def list_entries(
    dataset: DatasetConfig,
    files: SourceFiles,
    entries: Sequence[Entry],
    classes: Sequence[str],
    flaws: Flaws,
    *,
    is_unique: bool = False,
) -> Listing:
    """The items that ``entries`` stand for, and a ledger row for everything else.

    With ``is_unique``, last parts of paths name a video all over the dataset, so that files may
    lie deeper below the source than lists say.

    Raises:
        ConfigError: some entries are flawed, or were before (``flaws``); sidecars are wanted.
        MissingInputError: none of the entries' files is there.
    """
    if dataset.sidecars:
        raise ConfigError(
            f"sidecars: catalogue '{dataset.catalogue}' takes annotations from its lists; leave "
            "the dataset's sidecars away"
        )
    # Whatever bytes a list holds, names of classes have to fit into Parquet.
    classes = [name.encode("utf-8", "backslashreplace").decode() for name in classes]
    wanted = set(keep_subset(entries, dataset.subset)) if dataset.subset else None
    matching = _Matching(files, classes, flaws, is_unique=is_unique)
    for entry in entries:
        if not flaws.add(entry.where, *_flaws_of(entry, len(classes))):
            matching.take(entry, is_wanted=wanted is None or entry in wanted)
    flaws.raise_any()
    if not matching.items:
        raise _nothing_found(files, entries)
    _warn_of_overlap(matching.items)
    has_pictures = any(entry.media != "video" for entry in entries)
    first_split = dataset.split_names[0]
    rows = [*matching.all_rows()]
    rows += [(first_split, _unlisted(file, has_pictures)) for file in matching.unclaimed()]
    return make_listing(dataset, matching.items, rows, classes)


def annotation_text(value: object) -> str:
    """``value`` as the JSON text that an ``Item`` carries."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def segment_suffix(segment: Segment | None) -> str:
    """What the name of a segment's item has after that of its video: ``#2.5-10``."""
    if segment is None:
        return ""
    return "#" + "-".join(f"{time_s:.6f}".rstrip("0").rstrip(".") for time_s in segment)


class _Matching:
    """Items and ledger rows of the entries taken so far."""

    def __init__(
        self, files: SourceFiles, classes: Sequence[str], flaws: Flaws, *, is_unique: bool
    ) -> None:
        self.items: list[Item] = []
        self._rows: list[tuple[str, LedgerRow]] = []
        self._stranded: dict[str, tuple[SourceFile, str, str]] = {}
        self._claimed: set[str] = set()
        self._where_of: dict[tuple[str, str], str] = {}
        self._files, self._classes = files, classes
        self._flaws, self._is_unique = flaws, is_unique

    def take(self, entry: Entry, *, is_wanted: bool) -> None:
        """Adds the item of ``entry``, or the rows that say why there is none."""
        looked_up = [(path, self._look_up(entry, path)) for path in _paths(entry)]
        found = [file for _, file in looked_up if file]
        self._claimed.update(file.name for file in found)
        name = entry.path if entry.media == "frames" or not found else found[0].name
        name += segment_suffix(entry.segment)
        earlier = self._where_of.setdefault((entry.split, name), entry.where)
        if earlier != entry.where:
            self._flaws.add(entry.where, f"{printable(name)!r} is listed at {earlier} already")
        elif is_wanted and (row := _rejection(entry, name, looked_up)):
            self._rows.append((entry.split, row))
            for file in found:
                self._stranded[file.name] = (file, entry.split, name)
        elif is_wanted:
            self.items.append(self._item(entry, name, found))

    def all_rows(self) -> Iterator[tuple[str, LedgerRow]]:
        """Rows of entries without an item, and of those of their files that serve no other."""
        yield from self._rows
        used = {file.name for item in self.items for file in (*item.files, *item.sidecars)}
        named = {row.source for _, row in self._rows}
        for file, split, name in self._stranded.values():
            if file.name not in used and printable(file.name) not in named:
                detail = f"part of {printable(name)}, which lacks files"
                source = printable(file.name)
                yield split, LedgerRow(source, file.size, "missing_file", detail, counted=False)

    def unclaimed(self) -> Iterator[SourceFile]:
        """Files that no entry names."""
        return (file for file in self._files if file.name not in self._claimed)

    def _look_up(self, entry: Entry, path: str) -> SourceFile | None:
        if entry.media != "video" or path != entry.path:
            return self._files.exact(path)
        if not self._is_unique:
            return self._files.find(path)
        several = self._files.find_deeper(path)
        if len(several) > 1:
            names = " or ".join(printable(file.name) for file in several[:2])
            self._flaws.add(entry.where, f"{printable(path)!r} may be {names}")
        return several[0] if several else None

    def _item(self, entry: Entry, name: str, found: Sequence[SourceFile]) -> Item:
        num_files = len(found) - len(entry.sidecars)
        return Item(
            name=name,
            media=entry.media,
            files=tuple(found[:num_files]),
            split=entry.split,
            class_name=None if entry.label is None else self._classes[entry.label],
            label=entry.label,
            labels=entry.labels,
            segment=entry.segment,
            annotation=entry.annotation,
            group=None if entry.group is None else printable(entry.group),
            sidecars=tuple(found[num_files:]),
            listed_at=entry.where,
        )


def _paths(entry: Entry) -> tuple[str, ...]:
    return (*(entry.frames if entry.media == "frames" else (entry.path,)), *entry.sidecars)


def _flaws_of(entry: Entry, num_classes: int) -> Iterator[str]:
    if not entry.path:
        yield "the path is empty"
    try:
        os.fsencode(entry.path)
    except UnicodeEncodeError:  # JSON can write halves of characters
        yield f"{entry.path!a} is no name of a file"
        return
    if ".." in entry.path and ".." in entry.path.split("/"):
        yield f"{printable(entry.path)!r} leaves the source"
    if entry.media == "frames" and not entry.frames:
        yield f"{printable(entry.path)!r} has no frames"
    for label in entry.labels if entry.label is None else (entry.label, *entry.labels):
        if not 0 <= label < num_classes:
            yield f"label {label} is not among the {num_classes} classes (from 0)"
    if entry.segment and not 0 <= entry.segment.start_s < entry.segment.end_s < math.inf:
        yield f"there is no time from {entry.segment.start_s:g} to {entry.segment.end_s:g} s"


def _rejection(
    entry: Entry, name: str, looked_up: Sequence[tuple[str, SourceFile | None]]
) -> LedgerRow | None:
    """The row that counts for an entry of which a file is not there or cannot be opened."""
    lacking = [(path, file) for path, file in looked_up if file is None or file.flaw]
    if not lacking:
        return None
    detail = f"listed at {entry.where}"
    path, file = lacking[0]
    if len(looked_up) > 1:
        detail = f"{len(lacking)} of {len(looked_up)} files, first {printable(path)}; {detail}"
    if file is None:
        return LedgerRow(printable(name), 0, "missing_file", detail, counted=True)
    return LedgerRow(printable(name), 0, "unreadable", f"{file.flaw}; {detail}", counted=True)


def _unlisted(file: SourceFile, has_pictures: bool) -> LedgerRow:
    """The row of a file that no entry asks for; none of these counts."""
    reason, detail = claims_other(file.name) or _NOT_LISTED
    if has_pictures and suffix_of(file.name) in PICTURE_SUFFIXES:
        reason, detail = _NOT_LISTED
    return LedgerRow(printable(file.name), file.size, reason, detail, counted=False)


def _nothing_found(files: SourceFiles, entries: Sequence[Entry]) -> MissingInputError:
    first = f" (the first: {printable(entries[0].path)!r})" if entries else ""
    return MissingInputError(
        f"none of the {len(entries)} files that the lists name{first} can be used below "
        f"{', '.join(map(str, files.roots))}; set the dataset's source, or shard.source, to the "
        "folder that holds them"
    )


def _warn_of_overlap(items: Iterable[Item]) -> None:
    names_of: dict[str, set[str]] = defaultdict(set)
    for item in items:
        names_of[item.split].add(item.name)
    for one, other in combinations(names_of, 2):
        if shared := len(names_of[one] & names_of[other]):
            log.warning("%d samples are listed in both %s and %s", shared, one, other)
