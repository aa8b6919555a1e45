"""What sequences are called in results."""

from dataclasses import dataclass

import pytest

from sigma_pipeline.jobs.benchmarks.sequences import sequence_names


@dataclass
class Row:
    """What names depend on, of a row of an index."""

    source: str
    media: str = "frames"

    @property
    def key(self) -> str:
        """Of the sample."""
        return f"key-of-{self.source}"


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        ([Row("JPEGImages/480p/bear"), Row("JPEGImages/480p/goat")], ["bear", "goat"]),
        ([Row("judo/images"), Row("1001_3i/images")], ["judo", "1001_3i"]),
        ([Row("a/bear"), Row("b/bear"), Row("b/goat")], None),
        ([Row("videos/bear.mp4", "video"), Row("goat.mp4", "video")], ["bear", "goat"]),
        ([Row("a.b"), Row("a.c")], ["a.b", "a.c"]),
        ([Row("x/.hidden"), Row("x/bear")], None),
        ([Row("x/a\\xff"), Row("x/bear")], None),
        ([Row("bear")], ["bear"]),
        ([], []),
    ],
)
def test_a_sequence_is_called_as_the_folder_that_tells_it_apart_or_by_its_key(
    rows: list[Row], names: list[str] | None
) -> None:
    assert sequence_names(rows) == (names or [row.key for row in rows])  # type: ignore[arg-type]
