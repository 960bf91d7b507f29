"""Baselines are read from files and through git, and never written over."""

import os
import subprocess
from pathlib import Path

import pytest

from jaynes_audit.analyzers.baseline import places
from jaynes_audit.analyzers.baseline.entry import Baseline
from jaynes_audit.analyzers.baseline.places import (
    is_git_reference,
    read_baseline,
    read_content,
    rewrite_baseline,
    write_baseline,
)
from jaynes_audit.analyzers.baseline.text import to_text
from jaynes_audit.analyzers.errors import CouldNotRead, UsageError


def baseline(model: str) -> str:
    return to_text(Baseline(model=model, revision="", statistics="1", entries=(), known=()))


def git(*arguments: str) -> str:
    who = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", *who, *arguments], capture_output=True, text=True, check=True)  # noqa: S603, S607
    return done.stdout.strip()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose first version has a baseline `old`, its second one `new`, and the working tree `changed`."""
    for name in [each for each in os.environ if each.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    folder = tmp_path / "baselines"
    folder.mkdir()
    for model in ("old", "new"):
        (folder / "model.jaynes.jsonl").write_text(baseline(model))
        git("add", ".")
        git("commit", "--quiet", "--message", model)
    git("tag", "v2")
    (folder / "model.jaynes.jsonl").write_text(baseline("changed"))
    return tmp_path


def test_a_file_is_read(repository: Path) -> None:
    stored = read_baseline("baselines/model.jaynes.jsonl")
    assert (stored.baseline.model, stored.place) == ("changed", "baselines/model.jaynes.jsonl")
    assert read_baseline(str(repository / "baselines" / "model.jaynes.jsonl")).baseline.model == "changed"


@pytest.mark.parametrize(("revision", "model"), [("HEAD", "new"), ("HEAD~1", "old"), ("v2", "new"), ("main", "new")])
def test_a_version_is_read_through_git(revision: str, model: str, repository: Path) -> None:
    stored = read_baseline(f"{revision}:baselines/model.jaynes.jsonl")
    assert stored.baseline.model == model
    assert stored.place == f"{revision}:baselines/model.jaynes.jsonl"
    shown = git("show", f"{revision}:baselines/model.jaynes.jsonl")
    assert read_content(f"{revision}:baselines/model.jaynes.jsonl").content.decode().strip() == shown
    assert read_baseline(f"{revision}:{repository}/baselines/model.jaynes.jsonl").baseline.model == model


def test_the_path_of_a_version_counts_from_the_working_directory(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository / "baselines")
    for path in ("model.jaynes.jsonl", "./model.jaynes.jsonl", "../baselines/model.jaynes.jsonl"):
        assert read_baseline(f"HEAD:{path}").baseline.model == "new"


def test_a_file_of_the_whole_name_does_not_take_the_place_of_a_version(repository: Path) -> None:
    (repository / "HEAD:baselines").mkdir()
    (repository / "HEAD:baselines" / "model.jaynes.jsonl").write_text(baseline("file"))
    assert read_baseline("HEAD:baselines/model.jaynes.jsonl").baseline.model == "new"
    assert read_baseline("./HEAD:baselines/model.jaynes.jsonl").baseline.model == "file"
    assert is_git_reference("HEAD:baselines/model.jaynes.jsonl")
    assert not is_git_reference("./HEAD:baselines/model.jaynes.jsonl")
    assert not is_git_reference("other.jaynes.jsonl")


REFUSED = {
    "nothing.jaynes.jsonl": "there is no baseline 'nothing.jaynes.jsonl'; make it with 'jaynes baseline write'",
    "baselines": "'baselines' is a folder; name the baseline in it",
    "baselines/model.jaynes.jsonl/x": "there is no baseline",
    ":baselines/model.jaynes.jsonl": "there is no baseline",
    "": "is a folder",
    "a\0b": "is no name that a file could have",
    "nowhere:baselines/model.jaynes.jsonl": "git has no revision 'nowhere' here; fetch it",
    "--output=x:baselines/model.jaynes.jsonl": "'--output=x' is no revision of git: it begins as an option does",
    "HEAD:nothing.jaynes.jsonl": "revision 'HEAD' has no file 'nothing.jaynes.jsonl', counted from",
    "HEAD:../../nothing.jaynes.jsonl": "revision 'HEAD' has no file",
    "HEAD:baselines": "'baselines' is no file in revision 'HEAD'",
    "HEAD:a\0b": "revision 'HEAD' has no file",
    "HE\0AD:b": "git has no revision",
}


@pytest.mark.parametrize("place", REFUSED)
def test_what_is_not_there_is_refused_in_words(place: str, repository: Path) -> None:
    del repository
    with pytest.raises(UsageError) as refusal:
        read_content(place)
    assert REFUSED[place] in str(refusal.value)
    assert str(refusal.value).isprintable()


def test_outside_a_repository_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UsageError, match="the working directory is not in a git repository"):
        read_content("HEAD:model.jaynes.jsonl")


def test_without_git_it_is_said(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repository))
    with pytest.raises(UsageError, match="git is not installed"):
        read_content("HEAD:model.jaynes.jsonl")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_file_that_may_not_be_read_is_no_missing_one(repository: Path) -> None:
    (repository / "baselines" / "model.jaynes.jsonl").chmod(0)
    with pytest.raises(CouldNotRead, match="cannot be read"):
        read_content("baselines/model.jaynes.jsonl")


def test_a_file_that_is_too_large_is_refused(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del repository
    monkeypatch.setattr(places, "MOST_BYTES", 100)
    for place in ("baselines/model.jaynes.jsonl", "HEAD:baselines/model.jaynes.jsonl"):
        with pytest.raises(UsageError, match="no baseline is so large"):
            read_content(place)


def test_writing_makes_a_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "model.jaynes.jsonl"
    write_baseline(path, baseline("new"))
    assert path.read_bytes() == baseline("new").encode()
    assert names(tmp_path) == ["model.jaynes.jsonl"]


def test_writing_never_replaces_a_file_not_even_what_a_link_leads_to(tmp_path: Path) -> None:
    path, link = tmp_path / "model.jaynes.jsonl", tmp_path / "link.jaynes.jsonl"
    path.write_text("old")
    link.symlink_to(tmp_path / "nowhere")
    for place in (path, link):
        with pytest.raises(UsageError, match="exists; 'jaynes baseline update' changes"):
            write_baseline(place, "new")
    assert path.read_text() == "old"
    with pytest.raises(UsageError, match="there is no folder"):
        write_baseline(tmp_path / "none" / "model.jaynes.jsonl", "new")


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.jaynes.jsonl"
    real = os.link

    def late(source: Path, target: Path) -> None:
        path.write_text("of another process")
        real(source, target)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(UsageError, match="exists"):
        write_baseline(path, "new")
    assert path.read_text() == "of another process"
    assert names(tmp_path) == ["model.jaynes.jsonl"]


def test_rewriting_replaces_what_a_link_leads_to(tmp_path: Path) -> None:
    path, link = tmp_path / "model.jaynes.jsonl", tmp_path / "link.jaynes.jsonl"
    path.write_text("old")
    link.symlink_to(path)
    rewrite_baseline(link, "new")
    assert link.is_symlink()
    assert path.read_text() == "new"
    assert names(tmp_path) == ["link.jaynes.jsonl", "model.jaynes.jsonl"]
