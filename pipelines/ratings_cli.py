"""`headrace ratings`: have people rate the answers of a candidate, blind, and read what that comes to."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components.common.errors import UsageError

if TYPE_CHECKING:
    from components.evaluation.ratings.study import Study

ratings_app = typer.Typer(
    no_args_is_help=True,
    help="People rate answers from 1 to 5, blind to the model: make a study, serve it, report what it says.",
)

console = Console(highlight=False)

_Folder = Annotated[Path, typer.Argument(help="The study's folder.")]


@ratings_app.command()
def make(
    evidence: Annotated[Path, typer.Argument(help="Evidence of evaluation/benchmark: the folder with samples.jsonl.")],
    folder: Annotated[Path, typer.Argument(help="A new folder for the study.")],
    rater: Annotated[list[str], typer.Option(help="Who rates; give it once for each.")],
    per_item: Annotated[int, typer.Option(help="Raters of each item.", min=1)] = 2,
    limit: Annotated[int, typer.Option(help="Most items, drawn by lot; 0 for all.", min=0)] = 30,
    seed: Annotated[int, typer.Option(help="Seed of the draw and of each rater's order.", min=0)] = 17,
    environment: Annotated[
        str, typer.Option("--environment", "-e", help="A file, or the name of one in pipelines/environments.")
    ] = "local",
    home: Annotated[Path, typer.Option(help="Folder for local state.")] = Path(".headrace"),
) -> None:
    """Lay out a study: who rates which answers, in which order.

    The folder then holds `study.json` for the raters and `key.json`, which
    says whose answers these are: keep it from them.

      headrace ratings make EVIDENCE study --rater ada --rater bora
    """
    from components.common.environment import load_environment
    from components.common.wrapping import open_vault
    from components.evaluation.ratings.study import make as make_study

    with open_vault(load_environment(environment, home)).opened(evidence) as readable:
        study = make_study(readable, folder, rater, per_item, limit, seed)
    table = Table("rater", "answers")
    for name, order in study.orders.items():
        table.add_row(name, str(len(order)))
    console.print(table)
    if study.left_out:
        console.print(f"{study.left_out} items are left out: beyond the limit, or not to be shown to people")
    console.print(f"next: headrace ratings serve {escape(str(folder))}")


@ratings_app.command()
def serve(
    folder: _Folder, port: Annotated[int, typer.Option(help="Port on 127.0.0.1.", min=1, max=65535)] = 8090
) -> None:
    """Serve the page on which people rate, to this machine only, until Ctrl-C.

    Every choice is saved at once; who comes back goes on where they were.
    """
    from components.evaluation.ratings.server import HOST
    from components.evaluation.ratings.server import serve as serve_page

    console.print(f"http://{HOST}:{port}")
    serve_page(folder, port)


@ratings_app.command()
def sheet(
    folder: _Folder,
    rater: Annotated[str, typer.Argument(help="Who rates.")],
    file: Annotated[Path, typer.Argument(help="CSV file to write.")],
) -> None:
    """Write a rater's answers as a sheet to be filled in with a spreadsheet."""
    from components.evaluation.ratings import sheets

    study = _study(folder, rater)
    try:
        with file.open("x", encoding="utf-8-sig", newline="") as out:
            out.write(sheets.blank(study, rater))
    except FileExistsError as error:
        raise UsageError(f"{file} exists already; choose another name") from error
    console.print(f"{len(study.orders[rater])} answers in {escape(str(file))}")


@ratings_app.command()
def take(
    folder: _Folder,
    rater: Annotated[str, typer.Argument(help="Who rated.")],
    file: Annotated[Path, typer.Argument(help="The filled-in CSV file.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="In the place of what the rater has rated already.")
    ] = False,
) -> None:
    """Take a filled-in sheet, if every answer is rated on every scale; what is wrong is named by line and column."""
    from components.evaluation.ratings import sheets

    rated = sheets.read(file, _study(folder, rater), rater)
    path = sheets.path_of(folder, rater)
    with sheets.held(folder):
        if path.is_file() and not replace:
            raise UsageError(f"{rater} has rated already, in {path}; --replace puts the sheet in its place")
        sheets.write(path, rated)
    console.print(f"{len(rated)} answers of {rater} taken")


@ratings_app.command()
def report(
    folder: _Folder,
    confidence: Annotated[float, typer.Option(help="Level of the intervals.", min=0.5, max=0.999)] = 0.95,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples.", min=100)] = 1000,
    store: Annotated[bool, typer.Option("--store", help="Put the evidence into the store, for the gate.")] = False,
    environment: Annotated[
        str, typer.Option("--environment", "-e", help="A file, or the name of one in pipelines/environments.")
    ] = "local",
    home: Annotated[Path, typer.Option(help="Folder for local state.")] = Path(".headrace"),
) -> None:
    """Say what was rated, how far the raters agree, and whose ratings are odd.

    Writes `report.html`, `evidence/` for the gate and `feedback.jsonl`,
    which `headrace import` makes documents to train on of.
    """
    from components.evaluation.ratings import outcome, sheets
    from components.evaluation.ratings.study import read_key, read_study

    study, key = read_study(folder), read_key(folder)
    paths = {rater: sheets.path_of(folder, rater) for rater in study.orders}
    ratings = {rater: sheets.read(path, study, rater, whole=False) for rater, path in paths.items() if path.is_file()}
    if not any(ratings.values()):
        raise UsageError(f"{folder}: nobody has rated anything yet; `headrace ratings serve {folder}`")
    rules = outcome.Rules(confidence, resamples)
    evidence = outcome.evidence_of(key, ratings, rules)
    page = outcome.report_of(study, key, ratings, evidence, rules)
    outcome.write(folder, page, evidence, outcome.feedback_of(study, ratings))
    for metric in evidence.metrics:
        console.print(escape("  ".join(metric.row().values())))
    console.print(f"{escape(str(folder / 'report.html'))}")
    if store:
        from components.common.environment import load_environment
        from components.common.sealed_store import store_of
        from components.evaluation.ratings.stored import keep

        kept = keep(evidence, study.candidate, store_of(load_environment(environment, home)))
        console.print(f"for the gate: headrace run evaluation.gate.ratings={kept}", soft_wrap=True)


def _study(folder: Path, rater: str) -> "Study":
    from components.evaluation.ratings.study import read_study

    study = read_study(folder)
    if rater not in study.orders:
        raise UsageError(f"{rater!r} is no rater of this study; they are {', '.join(study.orders)}")
    return study
