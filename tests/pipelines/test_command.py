"""The command: exit codes, one-line errors, single steps, scaffolding."""

import base64
import fcntl
import json
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from components.common.environment import Environment
from components.common.errors import UsageError
from pipelines.reference import check_reference
from pipelines.scaffold import scaffold_step
from pipelines.single import describe_step, parse_options, parse_pairs, run_single, step_names

RUFF = str(Path(sys.executable).with_name("ruff"))


def headrace(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *arguments], cwd=cwd, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def elsewhere(tmp_path: Path, environment_at: Callable[[Path], Environment]) -> Path:
    """An environment file with ports that nothing listens on."""
    path = tmp_path / "elsewhere.yaml"
    fields = environment_at(tmp_path / "home").model_dump(mode="json")
    path.write_text(yaml.safe_dump(fields), "utf-8")
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "one.md").write_text("# Hammer\n\nA hammer drives nails into wood.\n", "utf-8")
    (folder / "두번째.md").write_text("# 망치\n\n망치는 못을 박는 데 쓰는 도구입니다.\n", "utf-8")
    return folder


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "--recipe", "none"], 2, "there is no recipe 'none'"),
        (["run", "model.tune.epoch=3"], 2, "did you mean epochs"),
        (["run", "--docs", "nowhere"], 2, "there is no such folder"),
        (["run", "--nonsense"], 2, "No such option"),
        (["step", "data/none"], 2, "there is no step 'data/none'"),
        (["step", "data/parse", "--in", "documents=none"], 2, "parsed is missing; it takes --out parsed=DIR"),
        (["step", "data/parse", "--in", "documents=none", "--set", "a=["], 2, "not valid YAML"),
        (["step", "data/parse", "--in", "documents=none", "--set", "a=1", "--set", "a.b=2"], 2, "not a section"),
        (["step", "operations/notify", "--out", "notice=x"], 2, "status, pipeline, schedule, run by its pipeline"),
        (["run", "--home", "a-file/x"], 2, "a-file is a file"),
        (["run", "--home", "x" * 300], 1, "choose a folder with a shorter path"),
        (["doctor", "--environment", "none.yaml"], 2, "there is no environment"),
        (["new", "step", "data/import"], 2, "a Python keyword"),
        (["ledger", "verify"], 1, "there is no ledger"),
        (["ledger", "trace", "abcdefgh"], 2, "no document, version, revision or entry"),
        (["cut", "--images", "none.yaml"], 2, "an image lock maps"),
        (["diff", "none"], 2, "there is no release 'none'"),
        (["promote", "--to", "none"], 2, "there is no environment 'none'"),
        (["promote", "--to", "local", "--release", "x"], 2, "environment local has no Kubeflow Pipelines"),
        (["import", "none.jsonl", "out", "--source", "x", "--sources", "none.yaml"], 2, "none.yaml"),
    ],
)
def test_mistakes_are_one_line_with_an_exit_code(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    (tmp_path / "a-file").touch()
    ended = headrace(*arguments, cwd=tmp_path)
    assert ended.returncode == code, ended.stderr
    assert message in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "arguments", [["rollout", "status"], ["rollout", "promote"], ["serve", "status"], ["chat", "hi"]]
)
def test_without_a_plane_the_command_says_how_to_start_one(
    tmp_path: Path, elsewhere: Path, arguments: list[str]
) -> None:
    ended = headrace(*arguments, "--environment", str(elsewhere), cwd=tmp_path)
    assert ended.returncode == 1
    assert "headrace serve up" in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr


def test_help_teaches() -> None:
    ended = headrace("--help", cwd=Path.cwd())
    assert ended.returncode == 0
    commands = "run chat compile cut diff step serve rollout ledger doctor import new submit schedule runs logs"
    for command in commands.split():
        assert f" {command} " in ended.stdout
    assert "3 a gate said no" in " ".join(ended.stdout.split())


def test_a_single_step_runs_from_the_command_line(tmp_path: Path, corpus: Path) -> None:
    source = {"id": "d", "class": "in_house", "location": str(corpus), "license": "MIT", "owner": "me"}
    sources = f"sources={json.dumps([source])}"
    ended = headrace("step", "data/ingest", "--out", "documents=out/documents", "--set", sources, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["records_out"] == 2
    assert (tmp_path / "out" / "documents" / "ledger.json").is_file()
    artifacts = ("--in", "documents=out/documents", "--out", "parsed=out/documents")
    again = headrace("step", "data/parse", *artifacts, cwd=tmp_path)
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_every_step_says_how_to_call_it() -> None:
    for name in step_names():
        assert f"headrace step {name} " in describe_step(name)


def test_the_generated_tables_are_current() -> None:
    check_reference()


def test_pairs_and_options_are_parsed() -> None:
    assert parse_pairs(["a=b=c"], "--in") == {"a": "b=c"}
    assert parse_options(["a.b=3", "c=[x, y]"]) == {"a": {"b": 3}, "c": ["x", "y"]}
    with pytest.raises(UsageError, match="write name=value"):
        parse_pairs(["a"], "--in")
    with pytest.raises(UsageError, match="not a section"):
        parse_options(["a=1", "a.b=2"])


def test_a_scaffolded_step_passes_its_own_test(tmp_path: Path) -> None:
    written = scaffold_step("things/weigh", tmp_path / "components", tmp_path / "tests" / "components")
    (tmp_path / "components" / "__init__.py").write_text(
        "from pkgutil import extend_path\n__path__ = extend_path(__path__, __name__)\n"
    )
    assert all(path.is_file() for path in written)
    script = (
        "import sys, components, pytest; "
        f"components.__path__.append({str(tmp_path / 'components')!r}); "
        f"sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', {str(written[-1])!r}]))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "1 passed" in ended.stdout, ended.stdout + ended.stderr
    with pytest.raises(UsageError, match="exists already"):
        scaffold_step("things/weigh", tmp_path / "components", tmp_path / "tests" / "components")
    with pytest.raises(UsageError, match="write AREA/NAME"):
        scaffold_step("Things", tmp_path / "components", tmp_path / "tests" / "components")


@pytest.mark.parametrize("name", ["data/translate", "zoo/weigh_it"])
def test_a_scaffolded_step_passes_the_linter(tmp_path: Path, name: str) -> None:
    scaffold_step(name, tmp_path / "components", tmp_path / "tests" / "components")
    shutil.copy("pyproject.toml", tmp_path)
    for check in (["check"], ["format", "--check"]):
        ended = subprocess.run([RUFF, *check, "--no-cache"], cwd=tmp_path, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout


def test_doctor_looks_at_a_home_that_is_not_there_yet(tmp_path: Path, elsewhere: Path) -> None:
    ended = headrace("doctor", "--environment", str(elsewhere), "--home", "a/b/c", cwd=tmp_path)
    assert ended.returncode in (0, 1)
    assert "Traceback" not in ended.stderr
    assert f"Python {platform.python_version()}" in ended.stdout
    assert ended.stdout.count("is free") == 2
    assert not (tmp_path / "a").exists()


def test_doctor_misses_the_key_that_names_people_only_when_it_named_some(tmp_path: Path, elsewhere: Path) -> None:
    def said() -> str:
        return headrace("doctor", "--environment", str(elsewhere), "--home", "home", cwd=tmp_path).stdout

    assert "✓ key that names people is made when it is needed" in said()
    record = tmp_path / "home" / "store" / "tombstones" / "case" / "000000.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    named = re.search(r"✗ key that names people is gone  →  put back the copy of (\S+/subjects\.key) that", said())
    assert named
    key = tmp_path / named[1]
    key.parent.mkdir(parents=True)
    key.write_text("no key")
    assert "✗ key that names people  →  " in said() and "is not 32 bytes in base64" in said()
    key.write_bytes(base64.b64encode(bytes(32)))
    assert "✓ key that names people\n" in said()


def test_doctor_names_a_busy_port(tmp_path: Path, elsewhere: Path) -> None:
    port = urlsplit(yaml.safe_load(elsewhere.read_text("utf-8"))["serving"]["api"]).port
    with socket.create_server(("127.0.0.1", port)):
        ended = headrace("doctor", "--environment", str(elsewhere), cwd=tmp_path)
    assert ended.returncode == 1
    assert f"stop what listens on {port}" in ended.stdout


def test_a_second_run_in_the_same_home_is_refused(tmp_path: Path, elsewhere: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with (home / "run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4711")
        lock.flush()
        ended = headrace("run", "--environment", str(elsewhere), "--home", str(home), cwd=tmp_path)
    assert ended.returncode == 1
    assert "another run is under way" in ended.stderr
    assert "kill 4711" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_step_on_a_full_disk_is_one_line(tmp_path: Path, corpus: Path) -> None:
    source = {"id": "d", "class": "in_house", "location": str(corpus), "license": "MIT", "owner": "me"}
    arguments = ["step", "data/ingest", "--out", "documents=out/documents", "--set", f"sources={json.dumps([source])}"]
    limited = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500)); from pipelines.cli import main; main()"
    )
    ended = subprocess.run([sys.executable, "-c", limited, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "File too large" in ended.stderr
    assert "raise the file size limit" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.rglob("*.partial"))
    again = headrace(*arguments, cwd=tmp_path)
    assert again.returncode == 0, again.stderr


def test_run_single_refuses_other_artifacts(tmp_path: Path, environment_at) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match="other is none of its artifacts"):
        run_single("data/parse", {"documents": tmp_path, "other": tmp_path}, {}, {}, environment_at(tmp_path))
