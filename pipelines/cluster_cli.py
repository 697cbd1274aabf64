"""The commands that speak to Kubeflow Pipelines: `submit`, `schedule`, `runs`, `logs`."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components.common.environment import Environment, load_environment

app = typer.Typer()
schedule_app = typer.Typer(help="Recurring runs of an environment, as its file says.", no_args_is_help=True)
app.add_typer(schedule_app, name="schedule")

console = Console(highlight=False)

Place = Annotated[
    str, typer.Option("--environment", "-e", help="A file, or the name of one in pipelines/environments.")
]
Home = Annotated[Path, typer.Option(help="Folder for local state.")]
Names = Annotated[list[str] | None, typer.Argument(help="Schedules; all that `apply` made if none is named.")]
_HOME = Path(".headrace")
_STATES = {"SUCCEEDED": "green", "FAILED": "red", "CANCELED": "red"}


@app.command()
def submit(
    pipeline: Annotated[str, typer.Argument(help="Name of a pipeline of the environment's release.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Parameters of the pipeline, or recipe overrides such as a.b=1.")
    ] = None,
    environment: Place = "local",
    recipe: Annotated[str, typer.Option(help="A recipe; the environment's by default.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run; exits with 1 if it fails, 3 if held.")] = False,
    home: Home = _HOME,
) -> None:
    """Run a pipeline of the environment's release on Kubeflow Pipelines.

    The release is uploaded if it is not there yet. A run on this machine is `headrace run`.
    """
    from pipelines.kubeflow import Kfp
    from pipelines.submit import follow
    from pipelines.submit import submit as start

    place = load_environment(environment, home)
    kfp = Kfp(place)
    run = start(kfp, pipeline, place, recipe, overrides or [])
    _say(f"{run.id}  {run.name}")
    _say(run.url)
    if wait:
        follow(kfp, run, _say)


@schedule_app.command("apply")
def apply_(environment: Place = "local", home: Home = _HOME) -> None:
    """Make the recurring runs what the environment's file says; new ones begin paused."""
    from pipelines import schedule

    place, kfp = _connect(environment, home)
    _tell(schedule.apply(place, kfp))
    _preview(place)


@schedule_app.command("list")
def list_(environment: Place = "local", home: Home = _HOME) -> None:
    """Show the recurring runs that are wanted and those that are there."""
    from pipelines import schedule

    place, kfp = _connect(environment, home)
    seen = kfp.recurring()
    rows = []
    for step in schedule.compare(schedule.wanted(place), seen):
        states = {"create": "missing", "replace": "differs", "delete": "not wanted", "keep": "as wanted"}
        for found in step.seen or (None,):
            running = "" if found is None else "running" if found.enabled else "paused"
            version = step.wanted.version if found is None and step.wanted else found.version if found else ""
            cron = step.wanted.cron.expression if step.wanted else found.cron if found else ""
            rows.append((step.name, states[step.action], running, cron, version))
    others = [found for found in seen if not found.description.startswith(schedule.MARK)]
    rows += [(o.name, "made elsewhere", "running" if o.enabled else "paused", o.cron, o.version) for o in others]
    _table(("schedule", "state", "", "cron", "release"), rows)
    _preview(place)


@schedule_app.command()
def pause(names: Names = None, environment: Place = "local", home: Home = _HOME) -> None:
    """Pause recurring runs; a run under way goes on."""
    from pipelines import schedule

    _tell(schedule.switch(_connect(environment, home)[1], names or [], enabled=False))


@schedule_app.command()
def resume(names: Names = None, environment: Place = "local", home: Home = _HOME) -> None:
    """Resume recurring runs; what was missed meanwhile is not made up for."""
    from pipelines import schedule

    _tell(schedule.switch(_connect(environment, home)[1], names or [], enabled=True))


@schedule_app.command("delete")
def delete_(names: Names = None, environment: Place = "local", home: Home = _HOME) -> None:
    """Delete recurring runs; `apply` makes them again, paused."""
    from pipelines import schedule

    _tell(schedule.delete(_connect(environment, home)[1], names or []))


@app.command()
def runs(
    environment: Place = "local",
    pipeline: Annotated[str, typer.Option(help="Only runs of this pipeline.")] = "",
    failed: Annotated[bool, typer.Option("--failed", help="Only runs that failed.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    home: Home = _HOME,
) -> None:
    """List the runs of an environment, newest first."""
    place, kfp = _connect(environment, home)
    found = list(islice(kfp.runs(pipeline, failed), limit))
    if as_json:
        console.print_json(json.dumps([_record(run) for run in found], ensure_ascii=False))
        return
    rows = [
        (
            run.id,
            run.pipeline,
            run.schedule or "by hand",
            f"[{_STATES.get(run.state, 'yellow')}]{run.state.lower()}[/]",
            f"{run.started:%Y-%m-%d %H:%M}",
            f"{(run.finished - run.started).total_seconds() / 60:,.0f} min" if run.finished else "",
        )
        for run in found
    ]
    _table(("run", "pipeline", "started by", "state", "started (UTC)", "took"), rows)
    if not found:
        console.print(f"no {'failed ' if failed else ''}run in {place.name}; `headrace submit` starts one")


@app.command()
def logs(
    run: Annotated[str, typer.Argument(help="Id of a run, as `headrace runs` lists it.")],
    step: Annotated[str, typer.Option(help="Only this step; otherwise what failed, or everything.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep reading while it runs.")] = False,
    environment: Place = "local",
    home: Home = _HOME,
) -> None:
    """Print what the steps of a run printed."""
    from pipelines.logs import read_logs

    place, kfp = _connect(environment, home)
    for line in read_logs(kfp.run(run), place, step, follow):
        typer.echo(line)


def _connect(environment: str, home: Path) -> tuple[Environment, Any]:
    from pipelines.kubeflow import Kfp

    place = load_environment(environment, home)
    return place, Kfp(place)


def _record(run: Any) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": run.name,
        "pipeline": run.pipeline,
        "release": run.version,
        "schedule": run.schedule,
        "state": run.state,
        "decision": run.decision,
        "started": run.started.isoformat(),
        "finished": run.finished.isoformat() if run.finished else None,
        "url": run.url,
    }


def _preview(place: Environment) -> None:
    from pipelines.cron import Cron

    now = datetime.now(UTC)
    for wanted in place.schedules:
        cron = Cron(wanted.cron, f"environment {place.name}: schedules: {wanted.name}")
        _say(f"{wanted.name}: {cron.preview(now)}")


def _tell(done: list[str]) -> None:
    for line in done or ["nothing changed"]:
        _say(line)


def _say(text: str) -> None:
    console.print(escape(text), soft_wrap=True)


def _table(columns: Iterable[str], rows: Iterable[tuple[str, ...]]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    if table.row_count:
        console.print(table, soft_wrap=True)
