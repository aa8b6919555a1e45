"""What is kept of the checkout that code lies in."""

import subprocess
from pathlib import Path

import pytest

from sigma_pipeline.jobs import provenance
from sigma_pipeline.jobs.provenance import describe_checkout, list_packages


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package in a checkout with one commit."""
    package = tmp_path / "checkout" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (tmp_path / "checkout" / "notes.txt").write_text("one\n")
    git(package, "init", "--initial-branch", "trunk", str(tmp_path / "checkout"))
    git(package.parent, "add", ".")
    git(package.parent, "commit", "-m", "first")
    return package


def test_a_clean_checkout_is_its_commit(package: Path) -> None:
    facts, diff = describe_checkout(package)

    assert facts is not None
    assert (facts["branch"], facts["is_dirty"], len(facts["commit"])) == ("trunk", False, 40)
    assert diff == b""


def test_changes_are_kept_staged_or_not_but_of_unknown_files_only_the_names(package: Path) -> None:
    (package.parent / "notes.txt").write_text("two\n")
    (package / "__init__.py").write_text("staged = 1\n")
    git(package, "add", "__init__.py")
    (package.parent / "secret.env").write_text("PASSWORD=hidden\n")

    facts, diff = describe_checkout(package)

    assert facts is not None
    assert facts["is_dirty"]
    assert b"+two" in diff
    assert b"+staged = 1" in diff
    assert b"# untracked: secret.env" in diff
    assert b"hidden" not in diff


def test_a_long_diff_is_cut(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_LARGEST_DIFF", 50)
    (package.parent / "notes.txt").write_text("x" * 1000)

    _, diff = describe_checkout(package)

    assert len(diff) < 100
    assert b"# cut here" in diff


def test_a_package_that_is_installed_into_a_checkout_of_something_else_has_none(
    package: Path,
) -> None:
    installed = package.parent / "site-packages" / "other"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")

    assert describe_checkout(installed) == (None, b"")


def test_without_git_there_is_no_checkout(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert describe_checkout(package) == (None, b"")


def test_python_and_every_package_are_listed_with_their_versions() -> None:
    first, *others = list_packages()

    assert first.startswith("python==3.")
    assert any(line.startswith("submitit==1.") for line in others)
