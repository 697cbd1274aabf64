"""The pointer: one line changes, nothing else does, in the file and in git."""

import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from components.common.environment import ENVIRONMENTS
from components.common.errors import HeadraceError, UsageError
from pipelines.pointer import Repository, point, read_pointer, release_before, write_pointer

V = "2026.01.02-0123456789ab"


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An environment's file, committed, in a folder of a repository."""
    path = tmp_path / "deep" / "staging.yaml"
    path.parent.mkdir()
    path.write_text('store: x # where\nrelease: ""  # what runs\n')
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    git(tmp_path, "config", "user.name", "Test")
    git(tmp_path, "config", "user.email", "test@example.com")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    return path


@pytest.mark.parametrize("path", sorted(ENVIRONMENTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_only_the_pointer_of_an_environment_changes(path: Path) -> None:
    text = path.read_text("utf-8")
    pointed = point(text, V)
    assert read_pointer(pointed) == V
    changed = [line for line in pointed.splitlines() if line not in text.splitlines()]
    assert changed == [f'release: "{V}"']
    assert point(point(text, V), read_pointer(text)) == (text if "release:" in text else point(text, ""))


@given(
    before=st.sampled_from(["", "a: 1\n", "# release: x\n", "a:\n  release: inner\n", "가: 나\r\n"]),
    value=st.sampled_from(['""', "old", "a b", "'old'", '"old"', "~"]),
    comment=st.sampled_from(["", "  # why", " # release: no"]),
    after=st.sampled_from(["", "\n", "\nb: 2", "\r\nb: 2\r\n", "\nlist:\n- release: x\n"]),
)
def test_comments_line_ends_and_neighbours_stay(before: str, value: str, comment: str, after: str) -> None:
    text = f"{before}release: {value}{comment}{after}"
    assert point(text, V) == f'{before}release: "{V}"{comment}{after}'


@pytest.mark.parametrize(
    "text", ["{release: x}", "release: a#b\n", "release: |\n  x\n", "release:\n  x\n", "release: &a x\nb: *a\n", "["]
)
def test_a_pointer_that_is_not_on_a_line_of_its_own_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="at the margin"):
        point(text, V)


def test_an_empty_pointer_keeps_its_comment_a_comment() -> None:
    assert point("release:   # why\n", V) == f'release: "{V}"   # why\n'
    assert point("a: 1\r\nb: 2", V) == f'a: 1\r\nb: 2\r\nrelease: "{V}"\r\n'


def test_a_commit_takes_the_file_and_leaves_what_is_staged(file: Path) -> None:
    root = file.parent.parent
    (root / "other").write_text("staged")
    git(root, "add", "other")
    write_pointer(file, V)
    Repository(file).commit(file, "Promote")
    assert git(root, "show", "--format=%s", "--name-only", "HEAD").split() == ["Promote", "deep/staging.yaml"]
    assert git(root, "diff", "--cached", "--name-only").split() == ["other"]


def test_a_commit_on_a_branch_leaves_the_working_tree_and_the_index_alone(file: Path) -> None:
    root, text = file.parent.parent, file.read_text()
    (root / "other").write_text("staged")
    git(root, "add", "other")
    Repository(file).commit_on_branch("promote/staging", file, point(text, V), "Promote")
    assert file.read_text() == text
    assert git(root, "branch", "--show-current").strip() == "main"
    assert git(root, "status", "--porcelain").splitlines() == ["A  other"]
    assert git(root, "diff", "--name-only", "main", "promote/staging").split() == ["deep/staging.yaml"]
    assert read_pointer(git(root, "show", "promote/staging:deep/staging.yaml")) == V
    with pytest.raises(UsageError, match="exists"):
        Repository(file).commit_on_branch("promote/staging", file, point(text, V), "Promote")


def test_the_history_tells_where_the_pointer_was(file: Path) -> None:
    for release in ("A", "B", "B", "A"):
        file.write_text(point(file.read_text(), release) + "#\n")
        Repository(file).commit(file, release)
    assert Repository(file).pointers(file) == ["", "A", "B", "A"]


@pytest.mark.parametrize(
    ("history", "before"),
    [
        ([], ""),
        (["A"], ""),
        (["", "A"], ""),
        (["", "A", "B"], "A"),
        (["", "A", "B", "A"], ""),
        (["", "A", "B", "C", "B"], "A"),
        (["", "A", "B", "A", "C"], "A"),
    ],
)
def test_going_back_twice_goes_back_two(history: list[str], before: str) -> None:
    assert release_before(history) == before


def test_without_a_repository_or_git_it_says_so(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    elsewhere = tmp_path.parent / "elsewhere.yaml"
    elsewhere.write_text(yaml.safe_dump({"release": ""}))
    with pytest.raises(HeadraceError, match="in no git repository"):
        Repository(elsewhere)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HeadraceError, match="git is not installed"):
        Repository(file)
