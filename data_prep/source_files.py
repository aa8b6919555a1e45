"""All files of a dataset's sources, found once and looked up by what lists call them.

Whatever a list says, nothing but files below the sources can come out of a look-up.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from sigma_pipeline.data_prep.source_tree import SourceFile, find_files, source_prefixes
from sigma_pipeline.data_prep.suffixes import VIDEO_SUFFIXES, suffix_of


class SourceFiles:
    """The files below ``roots``, in the order of names.

    Names are relative to their root; where there are several roots, they begin with its name.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = tuple(roots)
        self._prefixes = source_prefixes(roots)
        self._by_name: dict[str, SourceFile] = {}
        for root, prefix in zip(roots, self._prefixes, strict=True):
            for file in find_files(root):
                found = replace(file, name=prefix + file.name) if prefix else file
                self._by_name[found.name] = found

    def __iter__(self) -> Iterator[SourceFile]:
        """Every file."""
        return iter(self._by_name.values())

    def exact(self, path: str) -> SourceFile | None:
        """The file at ``path`` below a root (the first that has it); its name may have a prefix."""
        for prefix in self._prefixes:
            if found := self._by_name.get(prefix + path):
                return found
        return self._by_name.get(path)

    def in_folder(self, folder: str) -> tuple[SourceFile, ...]:
        """The files that lie right in ``folder``, a path below a root, in the order of names."""
        for prefix in self._prefixes:
            if found := self._by_folder.get(prefix + folder):
                return tuple(found)
        return tuple(self._by_folder.get(folder, ()))

    def find(self, path: str) -> SourceFile | None:
        """The video that a list calls ``path``, or none.

        ``path`` may lack its suffix, or bear that of the container before a conversion: then the
        first video of that name is taken. Where it is absolute and not below a root, its longest
        tail that exists below one counts.
        """
        if not path.startswith("/"):
            return self._find_below(path.removeprefix("./"))
        for root, prefix in zip(self.roots, self._prefixes, strict=True):
            top = f"{root.absolute()}/"
            name = prefix + path.removeprefix(top)
            if path.startswith(top) and (found := self._at(name)):
                return found
        return next(filter(None, map(self._find_below, _tails(path))), None)

    def find_deeper(self, path: str) -> tuple[SourceFile, ...]:
        """As ``find``, but the file may also lie deeper below a root than ``path`` says.

        For names that are unique in a dataset. More than one: in folders of equal right.
        """
        if found := self.find(path):
            return (found,)
        candidates = self._by_last_part.get(_stem(path.rpartition("/")[2]), ())
        for tail in _tails(path) if candidates else ():
            similar = [file for file in candidates if _stem(file.name).endswith(f"/{_stem(tail)}")]
            if similar:
                same = [file for file in similar if file.name.endswith(f"/{tail}")]
                return tuple(same or similar)
        return ()

    def _find_below(self, path: str) -> SourceFile | None:
        if found := self.exact(path):
            return found
        return next(filter(None, (self._at(prefix + path) for prefix in self._prefixes)), None)

    def _at(self, name: str) -> SourceFile | None:
        return self._by_name.get(name) or self._by_stem.get(_stem(name))

    @cached_property
    def _by_stem(self) -> dict[str, SourceFile]:
        """Of videos with one name and several suffixes, the first by name."""
        found: dict[str, SourceFile] = {}
        for name, file in self._by_name.items():
            if suffix_of(name) in VIDEO_SUFFIXES:
                found.setdefault(_stem(name), file)
        return found

    @cached_property
    def _by_last_part(self) -> dict[str, list[SourceFile]]:
        found: dict[str, list[SourceFile]] = defaultdict(list)
        for stem, file in self._by_stem.items():
            found[stem.rpartition("/")[2]].append(file)
        return found

    @cached_property
    def _by_folder(self) -> dict[str, list[SourceFile]]:
        found: dict[str, list[SourceFile]] = defaultdict(list)
        for name, file in self._by_name.items():
            found[name.rpartition("/")[0]].append(file)
        return dict(found)


def _stem(name: str) -> str:
    """``name`` without the suffix of a video; other dots belong to it."""
    suffix = suffix_of(name)
    return name[: -len(suffix)] if suffix in VIDEO_SUFFIXES else name


def _tails(path: str) -> Iterator[str]:
    """``path`` if it is relative, else what remains of it as folders fall away at its front."""
    tail = path.lstrip("/")
    yield tail
    while path.startswith("/") and "/" in tail:
        tail = tail.partition("/")[2]
        yield tail
