"""`headrace evaluate`: the benchmark on its own, of a model directory or a served model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from components.common.environment import load_environment
from components.common.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from components.evaluation.benchmark.options import Benchmark
    from components.evaluation.evidence import Evidence

evaluate_app = typer.Typer()

console = Console(highlight=False)


@evaluate_app.command()
def evaluate(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Recipe overrides, such as evaluation.benchmark.batch_size=4.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="Model directory, or base URL of an OpenAI-compatible API (…/openai/v1).")
    ] = "",
    against: Annotated[str, typer.Option(help="A second directory or URL to compare with, item by item.")] = "",
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            help="Task to ask: one of the recipe's, or any task, group or tag of lm-eval; once per task. Without, all "
            "of the recipe's."
        ),
    ] = None,
    include: Annotated[
        Path | None, typer.Option(help="Folder with lm-eval task YAML of your own; such files may run Python.")
    ] = None,
    questions: Annotated[
        Path | None, typer.Option(help="Folder of held-out questions, as data/curate writes them.")
    ] = None,
    revision: Annotated[
        str, typer.Option(help="Revision of --model that must answer; pins the gateway's choice.")
    ] = "",
    against_revision: Annotated[str, typer.Option(help="The same of --against.")] = "",
    out: Annotated[Path, typer.Option(help="Folder to make for evidence and report.html.")] = Path("evaluation"),
    recipe: Annotated[str, typer.Option(help="A recipe file, or the name of one in pipelines/recipes.")] = "evaluation",
    environment: Annotated[
        str, typer.Option("--environment", "-e", help="A file, or the name of one in pipelines/environments.")
    ] = "local",
    home: Annotated[Path, typer.Option(help="Folder for local state.")] = Path(".headrace"),
) -> None:
    """Evaluate a model, wherever it is: a directory, or behind a URL.

    Every metric comes with an interval, and against a second model with
    the paired difference. Writes evidence.json, scores.json,
    samples.jsonl, replies.jsonl and report.html.

    A model directory against another, on all tasks of a recipe:

      headrace evaluate --model DIR --against DIR

    The canary that is being rolled out, on one task of the recipe and one
    of lm-eval:

      headrace evaluate --model http://127.0.0.1:8080/openai/v1 \\
        --revision REVISION --tasks qa --tasks gsm8k

    The canary against the stable revision behind the same gateway:

      headrace evaluate --model URL --revision CANARY \\
        --against URL --against-revision STABLE

    A model that judges is asked as the recipe says, whatever is pinned.

    The key of an API that wants one is read from OPENAI_API_KEY.
    """
    from components.common.recipes import load_recipe
    from components.common.step import Context
    from components.evaluation.evidence import BASE, CANDIDATE, Evidence

    if not model:
        raise UsageError("give --model DIR or --model URL")
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"--out {out}: exists already; remove it or choose another folder")
    chosen = load_recipe(recipe, overrides or []).evaluation.benchmark
    options = _narrowed(chosen, tasks or [], include)
    place = load_environment(environment, home)
    from components.evaluation.benchmark.compare import measure
    from components.evaluation.benchmark.items import read_questions
    from components.evaluation.benchmark.served import is_url

    asked = read_questions(questions, options.limit) if questions else None
    arms = {**({BASE: against} if against else {}), CANDIDATE: model}
    revisions = {BASE: against_revision, CANDIDATE: revision}
    for pin, arm in (("--revision", CANDIDATE), ("--against-revision", BASE)):
        if revisions[arm] and not is_url(arms.get(arm, "")):
            raise UsageError(
                f"{pin} {revisions[arm]}: only a served model has revisions; give its URL, or leave it out"
            )
    out.mkdir(parents=True, exist_ok=True)
    bars = Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=Console(stderr=True))
    try:
        with bars:
            bar = bars.add_task("opening the model", total=None)

            class Shown(Context):
                def progress(self, done: float, total: float, note: str = "") -> None:
                    bars.update(bar, completed=done, total=total, description=note)

            outcome = measure(arms, asked, out, options, Shown("evaluation/benchmark", place), revisions)
    except KeyboardInterrupt as error:
        raise Interrupted("interrupted; nothing was measured to its end, run it again") from error
    finally:
        if not any(out.iterdir()):
            out.rmdir()
    (out / "report.html").write_text(outcome.report.html(), "utf-8")
    _print(Evidence.read(out), bool(against))
    console.print(f"[bold]report[/] {escape(str(out / 'report.html'))}", soft_wrap=True)


def _narrowed(chosen: "Benchmark", names: list[str], include: Path | None) -> "Benchmark":
    """The recipe's options with the tasks that were named on the command line."""
    from components.evaluation.benchmark.options import Task

    known = {task.name: task for task in chosen.tasks}
    location = str(include.resolve()) if include else ""
    picked = [known.get(name) or Task(name=name, kind="lm_eval", location=location) for name in names]
    return chosen.model_copy(update={"tasks": picked}) if picked else chosen


def _print(found: "Evidence", compared: bool) -> None:
    columns = ["metric", *(["base"] if compared else []), "candidate", *(["gain"] if compared else []), "items"]
    table = Table(*columns, title=f"{found.confidence:.0%} intervals")
    for metric in found.metrics:
        row = metric.row() | {"items": f"{metric.n:,}"}
        table.add_row(*(escape(row[name]) for name in columns))
    console.print(table)
