"""Rules of the repository that no single module can keep."""

import ast
import functools
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

FOLDERS = ("pipeline", "model", "data_prep", "jobs", "infra")
ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
AV_MODULES = (
    "convert",
    "decode",
    "decode_clip",
    "decode_open",
    "decode_packets",
    "decode_still",
    "encode",
    "transcode",
)
CONFIG_MODULES = [
    f"sigma_pipeline.{folder}.config"
    for folder in FOLDERS
    if (ROOT / folder / "config.py").exists()
]


def sections() -> Iterator[type[BaseModel]]:
    for name in CONFIG_MODULES:
        for _, member in inspect.getmembers(importlib.import_module(name), inspect.isclass):
            if issubclass(member, BaseModel) and member.__module__ == name:
                yield member


@functools.cache
def top_level_imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_is_imported_through_a_relative_link(folder: str) -> None:
    link = ROOT / "src" / "sigma_pipeline" / folder

    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert link.resolve() == ROOT / folder


def test_the_package_holds_nothing_but_the_links_and_its_markers() -> None:
    entries = {path.name for path in (ROOT / "src" / "sigma_pipeline").iterdir()}

    assert entries - {"__pycache__"} == {*FOLDERS, "__init__.py", "py.typed"}


@pytest.mark.parametrize("section", list(sections()), ids=lambda section: section.__name__)
def test_a_section_is_frozen_and_refuses_unknown_keys(section: type[BaseModel]) -> None:
    assert section.model_config.get("frozen") is True
    assert section.model_config.get("extra") == "forbid"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_named_after_a_concept(path: Path) -> None:
    assert path.stem not in {"utils", "util", "helpers", "common", "misc"}
    assert re.fullmatch(r"[a-z][a-z0-9_]*|__init__", path.stem)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_stays_within_three_hundred_lines_of_ascii(path: Path) -> None:
    text = path.read_text()

    assert text.isascii()
    assert text.count("\n") <= 300


@pytest.mark.parametrize(
    ("library", "doors"),
    [
        ("av", {f"data_prep/{name}.py" for name in AV_MODULES}),
        ("boto3", {"infra/s3_client.py"}),
        ("mlflow", {"infra/mlflow_run.py", "infra/tracking.py"}),
        ("ray", {"jobs/ray_cluster.py"}),
        ("submitit", {"jobs/submit.py", "jobs/submit_array.py"}),
    ],
)
def test_an_outside_service_has_one_door(library: str, doors: set[str]) -> None:
    users = {str(p.relative_to(ROOT)) for p in SOURCES if library in top_level_imports(p)}

    assert users
    assert users <= doors


def test_only_the_command_line_prints_or_ends_the_process() -> None:
    calls = re.compile(r"\b(print|click\.echo|sys\.exit|quit)\(")
    speakers = {str(p.relative_to(ROOT)) for p in SOURCES if calls.search(p.read_text())}

    assert all(speaker.startswith("pipeline/cli") for speaker in speakers)


def test_the_command_line_starts_without_the_heavy_libraries() -> None:
    heavy = "{'torch', 'ray', 'mlflow', 'deepspeed', 'numpy', 'boto3', 'submitit', 'av'}"
    check = (
        "import sys, sigma_pipeline.pipeline.cli as c;"
        "c.cli.main(['recipes'], standalone_mode=False);"
        f"sys.stderr.write(', '.join({heavy} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-P", "-c", check], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
