"""Videos in folders that bear the names of their classes; every other file with a reason.

Only names and sizes are looked at; nothing is opened.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from sigma_pipeline.data_prep.catalogues.list_files import NoOptions, check_options
from sigma_pipeline.data_prep.catalogues.listing import Listing, make_listing
from sigma_pipeline.data_prep.catalogues.subsets import keep_subset
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.data_prep.items import Item
from sigma_pipeline.data_prep.keys import printable
from sigma_pipeline.data_prep.ledger import LedgerRow
from sigma_pipeline.data_prep.source_tree import SourceFile, find_files, source_prefixes
from sigma_pipeline.data_prep.splits import draw_splits
from sigma_pipeline.data_prep.suffixes import VIDEO_SUFFIXES, claims_other, suffix_of
from sigma_pipeline.infra.errors import ConfigError, MissingInputError

log = logging.getLogger(__name__)

_MASK_FOLDER_SUFFIX = ".masks"


def list_folder(dataset: DatasetConfig, roots: Sequence[Path]) -> Listing:
    """Lists every video below the source; its class is the folder it lies in.

    A source whose top folders bear exactly the names of the splits is split already; otherwise the
    splits are drawn per class, by the shares of ``splits``. With several sources, names begin with
    that of the source.

    Raises:
        MissingInputError: a folder is not there or cannot be listed, or no file may be a video.
        ConfigError: a source is a file, or options or annotations are set.
    """
    check_options(dataset, NoOptions)
    if dataset.annotations is not None:
        raise ConfigError("annotations: catalogue 'folder' reads no lists; leave annotations away")
    videos: list[Item] = []
    left_out: list[tuple[str, LedgerRow]] = []
    for root, prefix in zip(roots, source_prefixes(roots), strict=True):
        found, rest = _list_source(root, prefix, dataset)
        videos += found
        left_out += rest
    if not videos:
        raise MissingInputError(
            f"there is no video below {', '.join(map(str, roots))}; set the dataset's source, or "
            "shard.source, to a folder of videos"
        )
    videos.sort(key=lambda video: video.name)
    classes = sorted({video.class_name for video in videos if video.class_name is not None})
    items = _with_labels(_with_splits(videos, dataset), classes)
    return make_listing(dataset, keep_subset(items, dataset.subset), left_out, classes)


def _list_source(
    root: Path, prefix: str, dataset: DatasetConfig
) -> tuple[list[Item], list[tuple[str, LedgerRow]]]:
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
        Item(
            name=prefix + file.name,
            media="video",
            files=(file,),
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
            split = top if is_split and top in dataset.split_names else dataset.split_names[0]
            rest.append((split, _left_out(replace(file, name=prefix + file.name))))
    return videos, rest


def _is_split(root: Path, candidates: Iterable[SourceFile], dataset: DatasetConfig) -> bool:
    """Whether the top folders are the splits, and no video lies outside of them."""
    folders = {path.name for path in root.iterdir() if path.is_dir()}
    splits = set(dataset.split_names)
    if folders == splits and all("/" in file.name for file in candidates):
        return True
    if folders & splits:
        log.warning(
            "%s has folders named like splits (%s), but its top level is not exactly the folders "
            "%s, so they are taken for classes and splits are drawn; if that is not meant, set the "
            "dataset's splits to the folders there are",
            root,
            ", ".join(sorted(folders & splits)),
            ", ".join(dataset.split_names),
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


def _with_splits(videos: Sequence[Item], dataset: DatasetConfig) -> list[Item]:
    undecided = [(video.name, video.class_name) for video in videos if not video.split]
    drawn = draw_splits(undecided, dataset.shares)
    return [replace(video, split=video.split or drawn[video.name]) for video in videos]


def _with_labels(videos: Iterable[Item], classes: Sequence[str]) -> list[Item]:
    labels = {name: label for label, name in enumerate(classes)}
    return [
        video if video.class_name is None else replace(video, label=labels[video.class_name])
        for video in videos
    ]
