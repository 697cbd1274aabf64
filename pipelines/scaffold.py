"""Scaffold a new step: `headrace new step AREA/NAME`."""

import keyword
import re
from pathlib import Path

from components.common.errors import UsageError
from pipelines.single import STEPS

TESTS = STEPS.parent / "tests" / "components"
_IMPORTS = re.compile(r"(^ *from components\..*\n)+", re.MULTILINE)

_OPTIONS = '''"""Options of {area}/{name}."""

from pydantic import Field

from components.common.options import Options


class {title}(Options):
    """What the step may be told."""

    least_characters: int = Field(1, ge=0, description="Fewest characters of a document that is kept.")
'''

_COMPONENT = '''"""KFP interface of {area}/{name}."""

from kfp import dsl

from components.common.step import step


@step("data")
def {name}(
    documents: dsl.Input[dsl.Dataset],
    kept: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Say in one sentence what the step does.

    Args:
        documents: What comes in.
        kept: What goes out.
        metrics: Counts and rates.
        report: What was dropped, and why.
        options: The step's part of the recipe.
        environment: Where the run takes place.
    """
    from components.{area}.{name}.work import run
    from components.common.step import execute

    execute(run, locals())
'''

_WORK = '''"""The work of {area}/{name}: plain functions over directories and Arrow tables."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from components.{area}.{name}.options import {title}
from components.common.documents import DocumentWriter, count_documents, read_batches
from components.common.report import Report
from components.common.step import Context, Outcome

TOO_SHORT = "too_short"


def run(documents: Path, kept: Path, options: {title}, context: Context) -> Outcome:
    """Keep the documents that are long enough; replace this by the step's own work.

    Args:
        documents: What comes in.
        kept: What goes out.
        options: The step's part of the recipe.
        context: Where the run takes place.
    """
    total = count_documents(documents)
    seen = 0
    with DocumentWriter(kept) as writer:
        for batch in read_batches(documents):
            seen += batch.num_rows
            table = pa.Table.from_batches([batch])
            writer.write(table.filter(pc.greater_equal(pc.utf8_length(table["text"]), options.least_characters)))
            context.progress(seen, total, f"{{seen:,}} documents")
    dropped = {{TOO_SHORT: seen - writer.rows}}
    report = Report("{title}", f"{{writer.rows:,}} of {{seen:,}} documents kept").bars(dropped, "Dropped")
    return Outcome(seen, writer.rows, report, dropped)
'''

_README = """# {area}/{name}

What it does, how it decides, what it drops and why.

<!-- parameters -->
<!-- /parameters -->
"""

_TEST = '''"""{area}/{name} through its public function."""

from datetime import UTC, datetime
from pathlib import Path

from components.{area}.{name}.options import {title}
from components.{area}.{name}.work import run
from components.common.documents import DocumentWriter, new_document, read_table
from components.common.environment import load_environment
from components.common.step import Context


def test_keeps_what_is_long_enough(tmp_path: Path) -> None:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [new_document(source="s", url=text, text=text, retrieved_at=when) for text in ("a", "abc")]
    with DocumentWriter(tmp_path / "in") as writer:
        writer.write(rows)
    context = Context("{area}/{name}", load_environment("local", tmp_path))
    outcome = run(tmp_path / "in", tmp_path / "out", {title}(least_characters=2), context)
    assert read_table(tmp_path / "out").column("text").to_pylist() == ["abc"]
    assert outcome.dropped == {{"too_short": 1}}
'''


def scaffold_step(name: str, steps: Path = STEPS, tests: Path = TESTS) -> list[Path]:
    """Write a new step that already runs: interface, options, work, README and test.

    Args:
        name: `area/name`, both lower-case identifiers.
        steps: Folder of the areas.
        tests: Folder of the areas' tests.

    Returns:
        The files written.

    Raises:
        UsageError: The name is malformed, or the step exists.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*/[a-z][a-z0-9_]*", name):
        raise UsageError(f"{name!r}: write AREA/NAME in lower case, such as data/translate")
    area, _, step = name.partition("/")
    if keyword.iskeyword(area) or keyword.iskeyword(step):
        raise UsageError(f"{name!r}: a Python keyword names no step; choose another word")
    folder = steps / area / step
    test = tests / area / f"test_{step}.py"
    if folder.exists() or test.exists():
        raise UsageError(f"{name} exists already in {folder}")
    words = {"area": area, "name": step, "title": step.title().replace("_", "")}
    pages = {
        folder / "__init__.py": "",
        folder / "options.py": _OPTIONS,
        folder / "component.py": _COMPONENT,
        folder / "work.py": _WORK,
        folder / "README.md": _README,
        test: _TEST,
    }
    if not (steps / area / "__init__.py").exists():
        pages = {steps / area / "__init__.py": "", **pages}
    for path, template in pages.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_sort_imports(template.format(**words)), "utf-8")
    return list(pages)


def _sort_imports(source: str) -> str:
    """Put the imports in the order that the linter wants, which depends on the area's name."""
    return _IMPORTS.sub(lambda block: "".join(sorted(block[0].splitlines(keepends=True))), source)
