"""The lists that ``make frozen`` writes."""

import csv
from pathlib import Path

from tests.bench.frozen import write_lists


def test_nobody_who_is_scored_is_learned_from(tmp_path: Path) -> None:
    rows = [f"actions/weizmann64/bend/{i}.mp4,bend,person{i % 5},x" for i in range(10)]
    others = ["actions/arid/Jump/1.mp4,Jump,g1,x"]
    (tmp_path / "SOURCES.csv").write_text("\n".join(["path,label,group,note", *rows, *others]))

    write_lists(tmp_path, tmp_path)

    groups = {}
    for name in ("train", "val"):
        with (tmp_path / f"{name}.csv").open(newline="") as file:
            groups[name] = [row["group"] for row in csv.DictReader(file)]
    assert sorted(groups["train"]) == ["person0", "person0", "person1", "person1"] + ["person2"] * 2
    assert sorted(groups["val"]) == ["person3", "person3", "person4", "person4"]
