"""The pointer: the `release:` line of an environment's file, and its history in git.

A promotion changes this line and nothing else, so that what runs where can be read, reviewed and undone like any other
change of the project.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from components.common.errors import HeadraceError, UsageError

_LINE = re.compile(
    r"""^release[ \t]*:(?:[ \t]+(?:"[^"\n]*"|'[^'\n]*'|[^#\s"'][^#\r\n]*?))?"""
    r"(?P<comment>(?:[ \t]+#[^\r\n]*)?)[ \t]*(?=\r?$)",
    re.MULTILINE,
)


def read_pointer(text: str) -> str:
    """The release that an environment's file points to; '' if it points to none."""
    fields = yaml.safe_load(text)
    return str(fields.get("release") or "") if isinstance(fields, dict) else ""


def point(text: str, release: str) -> str:
    """Return an environment's file with another release in its `release:` line and every other byte as it was.

    Raises:
        UsageError: The release is not written on one line of its own.
    """
    line, fields = f'release: "{release}"', _load(text)
    if "release" in fields:
        pointed = _LINE.sub(lambda found: line + found["comment"], text, count=1)
    else:
        newline = "\r\n" if "\r\n" in text else "\n"
        pointed = text + newline * (not text.endswith("\n")) + line + newline
    if _load(pointed) != {**fields, "release": release}:
        raise UsageError('the release stands in no line of its own; write `release: ""` on one, at the margin')
    return pointed


def write_pointer(file: Path, release: str) -> None:
    """Change an environment's file to point to a release, all at once or not at all."""
    text = point(file.read_bytes().decode(), release)
    handle, temporary = tempfile.mkstemp(prefix=".partial-", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(text.encode())
        shutil.copymode(file, temporary)
        Path(temporary).replace(file)
    finally:
        Path(temporary).unlink(missing_ok=True)


class Repository:
    """The git repository that a file belongs to, as far as a promotion needs it."""

    def __init__(self, file: Path) -> None:
        """Find the repository.

        Raises:
            HeadraceError: git is not installed, the file is in no repository, or nothing was committed yet.
        """
        self.folder = file.resolve().parent
        if shutil.which("git") is None:
            raise HeadraceError("git is not installed")
        try:
            self.root = Path(self._git("rev-parse", "--show-toplevel").strip())
            self._git("rev-parse", "--verify", "HEAD")
        except HeadraceError as error:
            raise HeadraceError(f"{self.folder} is in no git repository with a commit") from error

    def committed(self, file: Path) -> str | None:
        """The file as the last commit has it; None if it has none."""
        name = self._name(file)
        if not self._git("ls-tree", "--name-only", "HEAD", "--", name, cwd=self.root).strip():
            return None
        return self._git("show", f"HEAD:{name}", cwd=self.root)

    def is_clean(self, path: Path) -> bool:
        """Whether a file or folder is as the last commit has it."""
        return not self._git("status", "--porcelain", "--ignored", "--", str(path.resolve())).strip()

    def pointers(self, file: Path) -> list[str]:
        """The releases that the file pointed to, oldest first, each where it changed."""
        name = self._name(file)
        history: list[str] = []
        for commit in self._git(
            "log", "--first-parent", "--reverse", "--format=%H", "HEAD", "--", name, cwd=self.root
        ).split():
            if not self._git("ls-tree", "--name-only", commit, "--", name, cwd=self.root).strip():
                continue
            pointer = read_pointer(self._git("show", f"{commit}:{name}", cwd=self.root))
            if not history or history[-1] != pointer:
                history.append(pointer)
        return history

    def commit(self, file: Path, message: str) -> str:
        """Commit this one file and nothing else; what is staged stays staged. Returns the commit's short name."""
        self._git("commit", "--quiet", "--only", "--message", message, "--", str(file.resolve()))
        return self._git("rev-parse", "--short", "HEAD").strip()

    def commit_on_branch(self, branch: str, file: Path, text: str, message: str) -> str:
        """Commit another text of one file on a new branch; working tree, index and current branch stay as they are.

        Raises:
            HeadraceError: The branch exists, or git refuses.
        """
        self._git("check-ref-format", "--branch", branch)
        if self._git("branch", "--list", branch).strip():
            raise UsageError(f"the branch {branch} exists; choose another name, or delete it")
        name = self._name(file)
        mode = self._git("ls-tree", "HEAD", "--", name, cwd=self.root).split()[0]
        blob = self._git("hash-object", "-w", "--stdin", "--path", name, text=text, cwd=self.root).strip()
        with tempfile.TemporaryDirectory() as folder:
            index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            self._git("read-tree", "HEAD", more=index)
            self._git("update-index", "--cacheinfo", f"{mode},{blob},{name}", more=index, cwd=self.root)
            tree = self._git("write-tree", more=index).strip()
        commit = self._git("commit-tree", tree, "-p", "HEAD", text=message).strip()
        self._git("branch", branch, commit)
        return self._git("rev-parse", "--short", commit).strip()

    def _name(self, file: Path) -> str:
        return file.resolve().relative_to(self.root.resolve()).as_posix()

    def _git(
        self, *arguments: str, text: str | None = None, more: dict[str, str] | None = None, cwd: Path | None = None
    ) -> str:
        ended = subprocess.run(
            ["git", *arguments],
            cwd=cwd or self.folder,
            input=None if text is None else text.encode(),
            capture_output=True,
            check=False,
            env={**os.environ, "LC_ALL": "C", **(more or {})},
        )
        if ended.returncode:
            said = " ".join((ended.stderr or ended.stdout).decode(errors="replace").split())
            raise HeadraceError(f"git {arguments[0]}: {said or f'it ended with {ended.returncode}'}")
        return ended.stdout.decode(errors="surrogateescape")


def release_before(history: Sequence[str]) -> str:
    """The release to go back to, from the releases an environment pointed to, oldest first; '' if there is none.

    Going back is no step forward: after A, B and the return to A, the release before is what was there before A.
    """
    stack: list[str] = []
    for pointer in history:
        stack = stack[: stack.index(pointer) + 1] if pointer in stack else [*stack, pointer]
    return stack[-2] if len(stack) > 1 else ""


def _load(text: str) -> dict[str, Any]:
    try:
        fields = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return fields if isinstance(fields, dict) else {}
