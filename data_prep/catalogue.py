"""What a source holds: its videos with class and split, and every other file with a reason.

Only names and sizes are looked at; nothing is opened.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.keys import printable
from sigma_pipeline.data_prep.ledger import LedgerRow
from sigma_pipeline.data_prep.source_tree import SourceFile, find_files
from sigma_pipeline.data_prep.splits import draw_splits
from sigma_pipeline.data_prep.suffixes import VIDEO_SUFFIXES, claims_other, suffix_of
from sigma_pipeline.infra.errors import MissingInputError

log = logging.getLogger(__name__)

_MASK_FOLDER_SUFFIX = ".masks"


@dataclass(frozen=True)
class Video:
    """One file that may be a video, with what stands beside it."""

    file: SourceFile
    class_name: str | None
    """The sub-folder it lies in, below the split's folder where there is one."""
    split: str
    label: int | None = None
    """Place of the class in ``Listing.classes``."""
    sidecars: tuple[SourceFile, ...] = ()
    """``<stem>.json`` and ``<stem>.masks/*``, in the order of names."""


@dataclass(frozen=True)
class Listing:
    """Everything found, in the order of names."""

    videos: tuple[Video, ...]
    left_out: dict[str, tuple[LedgerRow, ...]]
    """By split: files that are not opened."""
    classes: tuple[str, ...]
    """Of all splits, sorted."""


def list_videos(dataset: DatasetConfig, roots: Sequence[Path]) -> Listing:
    """Lists the folders ``roots``, which stand for the sources of ``dataset``.

    Names are relative to their source; where there are several, they begin with its name.

    Raises:
        MissingInputError: a folder is not there or cannot be listed, or no file may be a video.
        ConfigError: a source is a file.
    """
    videos: list[Video] = []
    left_out: dict[str, list[LedgerRow]] = {split: [] for split in dataset.splits}
    for root, prefix in zip(roots, _prefixes(roots), strict=True):
        found, rest = _list_source(root, prefix, dataset)
        videos += found
        for split, row in rest:
            left_out[split].append(row)
    if not videos:
        raise MissingInputError(
            f"there is no video below {', '.join(map(str, roots))}; set the dataset's source, or "
            "shard.source, to a folder of videos"
        )
    videos.sort(key=lambda video: video.file.name)
    classes = sorted({video.class_name for video in videos if video.class_name is not None})
    return Listing(
        videos=tuple(_with_labels(_with_splits(videos, dataset), classes)),
        left_out={
            split: tuple(sorted(rows, key=lambda row: row.source))
            for split, rows in left_out.items()
        },
        classes=tuple(classes),
    )


def _prefixes(roots: Sequence[Path]) -> list[str]:
    """What tells equal names of several sources apart; nothing for a single one."""
    if len(roots) == 1:
        return [""]
    used: dict[str, int] = defaultdict(int)
    prefixes = []
    for root in roots:
        name = root.absolute().name or "root"
        used[name] += 1
        prefixes.append(f"{name}/" if used[name] == 1 else f"{name}~{used[name]}/")
    return prefixes


def _list_source(
    root: Path, prefix: str, dataset: DatasetConfig
) -> tuple[list[Video], list[tuple[str, LedgerRow]]]:
    """Videos of one source (split "" where it has to be drawn), and the rest by split."""
    candidates: list[SourceFile] = []
    others: list[SourceFile] = []
    for file in find_files(root):
        (others if file.flaw or claims_other(file.name) else candidates).append(file)
    beside = [file for file in others if not file.flaw] if dataset.sidecars else []
    sidecars = _sidecars(candidates, beside)
    used = {file.name for files in sidecars.values() for file in files}
    is_split = _is_split(root, candidates, dataset)
    videos = [
        Video(
            file=replace(file, name=prefix + file.name),
            class_name=_class_name(file.name, is_split=is_split),
            split=file.name.split("/")[0] if is_split else "",
            sidecars=sidecars.get(file.name, ()),
        )
        for file in candidates
    ]
    rest = []
    for file in others:
        if file.name not in used:
            top = file.name.split("/")[0]
            split = top if is_split and top in dataset.splits else next(iter(dataset.splits))
            rest.append((split, _left_out(replace(file, name=prefix + file.name))))
    return videos, rest


def _is_split(root: Path, candidates: Iterable[SourceFile], dataset: DatasetConfig) -> bool:
    """Whether the top folders are the splits, and no video lies outside of them."""
    folders = {path.name for path in root.iterdir() if path.is_dir()}
    splits = set(dataset.splits)
    if folders == splits and all("/" in file.name for file in candidates):
        return True
    if folders & splits:
        log.warning(
            "%s has folders named like splits (%s), but its top level is not exactly the folders "
            "%s, so they are taken for classes and splits are drawn; if that is not meant, set the "
            "dataset's splits to the folders there are",
            root,
            ", ".join(sorted(folders & splits)),
            ", ".join(dataset.splits),
        )
    return False


def _class_name(name: str, *, is_split: bool) -> str | None:
    folders = PurePosixPath(name).parent.parts[1 if is_split else 0 :]
    return printable("/".join(folders)) or None


def _sidecars(
    videos: Iterable[SourceFile], others: Iterable[SourceFile]
) -> dict[str, tuple[SourceFile, ...]]:
    """By a video's name, the files that belong to it."""
    files_of: dict[str, list[SourceFile]] = defaultdict(list)
    for file in others:
        path = PurePosixPath(file.name)
        if path.suffix == ".json":
            files_of[str(path.with_suffix(""))].append(file)
        elif path.parent.suffix == _MASK_FOLDER_SUFFIX:
            files_of[str(path.parent.with_suffix(""))].append(file)
    return {
        video.name: tuple(files_of.get(str(PurePosixPath(video.name).with_suffix("")), ()))
        for video in videos
    }


def _left_out(file: SourceFile) -> LedgerRow:
    """The ledger's row on a file that is not opened."""
    if claim := claims_other(file.name):
        return LedgerRow(printable(file.name), file.size, *claim, counted=False)
    is_counted = suffix_of(file.name) in VIDEO_SUFFIXES
    return LedgerRow(
        printable(file.name), file.size, "unreadable", file.flaw or "", counted=is_counted
    )


def _with_splits(videos: Sequence[Video], dataset: DatasetConfig) -> list[Video]:
    undecided = [(video.file.name, video.class_name) for video in videos if not video.split]
    drawn = draw_splits(undecided, dataset.splits)
    return [replace(video, split=video.split or drawn[video.file.name]) for video in videos]


def _with_labels(videos: Iterable[Video], classes: Sequence[str]) -> list[Video]:
    labels = {name: label for label, name in enumerate(classes)}
    return [
        video if video.class_name is None else replace(video, label=labels[video.class_name])
        for video in videos
    ]
