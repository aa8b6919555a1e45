"""DAVIS as it is downloaded: where annotations lie, and which sequences a result is scored on."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from sigma_pipeline.infra.errors import ConfigError, MissingInputError
from sigma_pipeline.jobs.mask_files import sequence_names

DEFAULT_SET = "val"
_ANNOTATIONS = "Annotations/480p"
_UNSUPERVISED_ANNOTATIONS = "Annotations_unsupervised/480p"
_MAX_NAMES_SHOWN = 5


@dataclass(frozen=True)
class Selection:
    """Sequences to score, and what should be said of the choice."""

    names: Sequence[str]
    remarks: Sequence[str] = ()


def annotations_dir(davis: Path, *, unsupervised: bool = False) -> Path:
    """The folder of annotated sequences; of the unsupervised task where they are there.

    Raises:
        MissingInputError: ``davis`` has none.
    """
    kinds = [_UNSUPERVISED_ANNOTATIONS] if unsupervised else []
    for kind in (*kinds, _ANNOTATIONS):
        if (davis / kind).is_dir():
            return davis / kind
    raise MissingInputError(
        f"{davis} has no {_ANNOTATIONS}: name the folder that holds Annotations and JPEGImages"
    )


def chosen_sequences(
    results: Path,
    davis: Path,
    annotations: Path,
    *,
    set_name: str | None = None,
    list_file: Path | None = None,
) -> Selection:
    """The sequences of a list file, or of a set, or of ``val``, or else those that have results.

    Raises:
        ConfigError: both a set and a file are given, or the list is no list of names.
        MissingInputError: the set or the file is not there, or a sequence of it has no results or
            no annotations.
    """
    if set_name is not None and list_file is not None:
        raise ConfigError("--set and --sequences exclude each other: give one of them")
    found = sequence_names(results)
    set_file = davis / "ImageSets" / "2017" / f"{_plain_name(set_name or DEFAULT_SET)}.txt"
    if list_file is None and set_name is None and not set_file.is_file():
        selection = _by_results(found, set_file, annotations)
    else:
        selection = Selection(_listed(list_file or set_file))
        _check_all_there(selection.names, found, f"{results} holds no folder")
    _check_all_there(selection.names, sequence_names(annotations), f"{annotations} does not have")
    return selection


def _by_results(found: Sequence[str], set_file: Path, annotations: Path) -> Selection:
    remarks = [f"{set_file} is not there: scored are the {len(found)} sequences that have results."]
    without = sorted(set(sequence_names(annotations)) - set(found))
    if without:
        remarks.append(f"Annotated, but without results: {_shown(without)}.")
    return Selection(found, remarks)


def _listed(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise MissingInputError(
            f"{path} cannot be read ({reason}); name a file with one sequence per line: "
            "--sequences FILE"
        ) from error
    names = [_plain_name(line.strip()) for line in lines if line.strip()]
    if not names or len(set(names)) < len(names):
        problem = "names a sequence twice" if names else "is empty"
        raise ConfigError(f"{path} {problem}: write one sequence name per line, each once")
    return names


def _plain_name(name: str) -> str:
    if name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise ConfigError(f"{name!r} is no name of a sequence or a set: write it without a folder")
    return name


def _check_all_there(names: Sequence[str], there: Collection[str], problem: str) -> None:
    missing = [name for name in names if name not in there]
    if missing:
        raise MissingInputError(
            f"{problem} {_shown(missing)}, {len(missing)} of {len(names)} sequences to score; "
            "choose others with --sequences FILE (one name per line)"
        )


def _shown(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMES_SHOWN
    return ", ".join(names[:_MAX_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
