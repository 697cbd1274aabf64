"""What every step of `prepare_data` costs by number of documents: processor and wall time, rate, and peak memory.

The documents are made from real text: paragraphs of the installed packages' documentation, English and Korean, put
together anew; code from real files; one in twenty is an earlier document with a few words changed.

    HEADRACE_DOCUMENTS=10000,100000,1000000 .venv/bin/pytest -m benchmark tests/benchmarks/test_throughput.py

Each step is a process of its own. The rate is text by processor time of that process and its children, start included:
what one core does, whatever else the machine does meanwhile. Wall time says how long one waited on that machine. A
million documents take 20 GB below pytest's folder (`--basetemp`).
"""

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

from components.common.documents import read_batches

ROOT = Path(__file__).parents[2]
SIZES = [int(size) for size in os.environ.get("HEADRACE_DOCUMENTS", "10000,100000").split(",")]
STEPS = {
    "ingest": ("", "documents"),
    "parse": ("documents", "parsed"),
    "screen": ("documents", "allowed"),
    "mask": ("documents", "masked originals"),
    "filter": ("documents", "kept"),
    "deduplicate": ("documents", "unique"),
    "mix": ("documents", "mixed"),
    "card": ("documents", "dataset"),
}
SOURCE = {"id": "corpus", "class": "in_house", "license": "Apache-2.0", "owner": "the benchmark", "pii": "present"}
HEADER = (
    "| step | documents | MB of text | CPU s | wall s | MB per CPU second | peak MiB |\n|---|--:|--:|--:|--:|--:|--:|"
)
FILES_PER_FOLDER = 1_000
HANGUL = re.compile("[가-힣]")


def paragraphs() -> tuple[list[str], list[str]]:
    """English and Korean paragraphs of documentation, each 80 to 1,200 characters."""
    site = Path(np.__file__).parents[1]
    files = [ROOT / "README.ko.md", *sorted(p for end in ("*.md", "*.rst", "METADATA") for p in site.rglob(end))]
    found = [
        paragraph.strip()
        for file in files
        for paragraph in file.read_text("utf-8", errors="ignore").split("\n\n")
        if 80 <= len(paragraph) <= 1_200
    ]
    unique = list(dict.fromkeys(found))
    korean = [paragraph for paragraph in unique if len(HANGUL.findall(paragraph)) > 0.3 * len(paragraph)]
    return [paragraph for paragraph in unique if not HANGUL.search(paragraph)], korean


def code() -> list[str]:
    """Python files of the installed packages."""
    files = sorted(Path(np.__file__).parents[1].rglob("*.py"))
    return [text for file in files if 500 < len(text := file.read_text("utf-8", errors="ignore")) < 8_000]


def documents(count: int) -> Iterator[tuple[str, str]]:
    """Yield extension and text of each document."""
    chance = random.Random(count)
    english, korean = paragraphs()
    programs = code()
    latest: list[tuple[str, str]] = []
    for number in range(count):
        if latest and chance.random() < 0.05:
            extension, text = chance.choice(latest)
            words = text.split(" ")
            words[chance.randrange(len(words))] = f"edited{number}"
            yield extension, " ".join(words)
            continue
        if chance.random() < 0.15:
            lines = chance.choice(programs).splitlines()
            start = chance.randrange(len(lines))
            made = ".py", "\n".join(lines[start:] + lines[:start])
        else:
            pool = korean if chance.random() < 0.3 else english
            made = ".md", "\n\n".join([f"# Note {number}", *chance.sample(pool, chance.randint(3, 8))])
        latest = [*latest[-999:], made]
        yield made


def write_corpus(folder: Path, count: int) -> None:
    for number, (extension, text) in enumerate(documents(count)):
        below = folder / f"{number // FILES_PER_FOLDER:05}"
        if number % FILES_PER_FOLDER == 0:
            below.mkdir(parents=True)
        (below / f"{number:08}{extension}").write_text(text, "utf-8", errors="ignore")


def measure(step: str, arguments: list[str], log: Path) -> tuple[float, float, float]:
    """Run a step; answer with its processor seconds, its wall seconds, and its peak in MiB."""
    began = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", "step", f"data/{step}", *arguments],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, log.read_text("utf-8")[-2_000:]
    return used.ru_utime + used.ru_stime, time.perf_counter() - began, used.ru_maxrss / 1024


def read_in(path: Path) -> tuple[int, float]:
    """Count the documents of a step and the megabytes of their text."""
    counted, size = 0, 0
    for batch in read_batches(path, columns=["text"]):
        counted += len(batch)
        size += pc.sum(pc.binary_length(batch["text"])).as_py() or 0
    return counted, size / 1e6


@pytest.mark.benchmark
@pytest.mark.timeout(0)
@pytest.mark.parametrize("count", SIZES)
def test_each_step_by_number_of_documents(count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_corpus(tmp_path / "corpus", count)
    options: dict[str, dict[str, Any]] = {
        "ingest": {"sources": json.dumps([{**SOURCE, "location": str(tmp_path / "corpus")}])},
        "card": {"name": "throughput", "description": "Made from documentation.", "owner": "the benchmark"},
    }
    with capsys.disabled():
        print(f"\n{HEADER}", flush=True)
    given = ""
    for step, (needs, makes) in STEPS.items():
        made = [tmp_path / name for name in makes.split()]
        arguments = ["--home", str(tmp_path / "home"), *(f"--out={path.name}={path}" for path in made)]
        arguments += ["--in", f"{needs}={given}"] if needs else []
        arguments += [part for key, value in options.get(step, {}).items() for part in ("--set", f"{key}={value}")]
        cpu, wall, peak = measure(step, arguments, tmp_path / f"{step}.log")
        counted, megabytes = read_in(Path(given) if needs else made[0])
        with capsys.disabled():
            print(
                f"| {step} | {counted:,} | {megabytes:,.0f} | {cpu:,.1f} | {wall:,.1f} | {megabytes / cpu:.1f} "
                f"| {peak:,.0f} |",
                flush=True,
            )
        given = str(made[0])
