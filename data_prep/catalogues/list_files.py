"""The lists of a dataset as text: where they lie, their lines and values with ``file:line``."""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.infra.errors import ConfigError, MissingInputError

_LABEL = re.compile(r"-?[0-9]{1,9}")

Options = TypeVar("Options", bound=BaseModel)


class NoOptions(BaseModel, frozen=True, extra="forbid"):
    """Of a catalogue that lets nothing be chosen."""


class Line(NamedTuple):
    """One line of a list that is not blank."""

    where: str
    """``trainlist01.txt:17``."""
    text: str
    """Without white space at its end."""


def check_options(dataset: DatasetConfig, known: type[Options]) -> Options:
    """The options of ``dataset``, as the catalogue declares them.

    Raises:
        ConfigError: an option is unknown (the known ones are listed) or has a wrong value.
    """
    try:
        return known.model_validate(dataset.options)
    except ValidationError as error:
        first = error.errors()[0]
        is_unknown = first["type"] == "extra_forbidden"
        names = ", ".join(known.model_fields) or "none"
        raise ConfigError(
            f"options.{first['loc'][0]}: {'unknown' if is_unknown else first['msg']}; "
            f"catalogue '{dataset.catalogue}' knows these options: {names}"
        ) from error


def parse_label(text: str) -> int | None:
    """The whole number that ``text`` writes, or none; more than nine digits are no label."""
    return int(text) if _LABEL.fullmatch(text) else None


class ListFiles:
    """Finds and reads the lists of one dataset."""

    def __init__(self, dataset: DatasetConfig, roots: Sequence[Path]) -> None:
        self._dataset = dataset
        annotations = dataset.annotations
        self.folders = (Path(annotations).expanduser(),) if annotations else tuple(roots)

    def splits(self, **values: object) -> Mapping[str, str]:
        """List of each split; ``{fold}`` and the like in its name replaced from ``values``."""
        named = {}
        for split, name in self._dataset.split_files.items():
            for key, value in values.items():
                name = name.replace(f"{{{key}}}", str(value))
            named[split] = name
        return named

    def path(self, name: str, key: str) -> Path:
        """Where the list ``name`` lies; ``key``, such as ``splits.train``, says who named it.

        Raises:
            MissingInputError: it is not there.
        """
        for folder in self.folders:
            if (folder / name).exists():
                return folder / name
        raise MissingInputError(
            f"list {str(self.folders[0] / name)!r} is not there; set the dataset's annotations to "
            f"the folder of its lists, or its {key} to the name of this one"
        )

    def has(self, name: str) -> bool:
        """Whether there is a list ``name``."""
        return any((folder / name).exists() for folder in self.folders)

    def names_ending(self, ending: str, key: str) -> list[str]:
        """Names of the lists that end so, sorted.

        Raises:
            MissingInputError: there is none.
        """
        for folder in self.folders:
            if names := sorted(path.name for path in folder.glob(f"*{ending}")):
                return names
        return [self.path(f"*{ending}", key).name]

    def text(self, name: str, key: str) -> str:
        """All of the list ``name``; bytes that are no UTF-8 come as in names of files."""
        path = self.path(name, key)
        try:
            return path.read_bytes().decode("utf-8-sig", "surrogateescape")
        except OSError as error:
            raise MissingInputError(
                f"list {str(path)!r} cannot be read: {error.strerror}"
            ) from error

    def lines(self, name: str, key: str) -> Iterator[Line]:
        """The lines of the list ``name`` that are not blank."""
        for number, text in enumerate(self.text(name, key).split("\n"), 1):
            if text := text.rstrip():
                yield Line(f"{name}:{number}", text)

    def rows(self, name: str, key: str, separator: str = ",") -> Iterator[tuple[str, list[str]]]:
        """Fields of each row of a CSV file that is not blank, quotes resolved, and its place.

        Raises:
            ConfigError: a field is too long to be one: a quote that does not end.
        """
        reader = csv.reader(self.text(name, key).splitlines(keepends=True), delimiter=separator)
        try:
            for row in reader:
                if any(row):
                    yield f"{name}:{reader.line_num}", row
        except csv.Error as error:
            raise ConfigError(f"{name}:{reader.line_num}: {error}") from error

    def json(self, name: str, key: str) -> Any:
        """The value in a JSON file.

        Raises:
            ConfigError: it is not JSON.
        """
        try:
            return json.loads(self.text(name, key))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{name} is not JSON: {error}") from error

    def json_items(self, name: str, key: str) -> Iterator[tuple[str, Any]]:
        """Each element of a JSON file that holds a list, and the place where it begins.

        Raises:
            ConfigError: it is not JSON, or no list.
        """
        text = self.text(name, key)
        if not isinstance(self.json(name, key), list):
            raise ConfigError(f"{name} holds no JSON list")
        decoder, space = json.JSONDecoder(), " \t\r\n,"
        position, line, counted = text.index("[") + 1, 1, 0
        while True:
            while text[position] in space:
                position += 1
            if text[position] == "]":
                return
            line += text.count("\n", counted, position)
            counted = position
            value, position = decoder.raw_decode(text, position)
            yield f"{name}:{line}", value
