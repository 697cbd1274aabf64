"""`headrace gc`: say what nobody needs any more, and remove it when told to."""

from contextlib import nullcontext
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table

from components.common.environment import Environment, load_environment
from components.common.errors import HeadraceError, UsageError

if TYPE_CHECKING:
    from pipelines.garbage import Verdict
    from pipelines.sweep import Plan, Sweep

gc_app = typer.Typer(
    help="Versions, artifacts, caches and runs that no environment, rollback or legal hold needs.",
    invoke_without_command=True,
)
hold_app = typer.Typer(help="Keep something whatever else would let it go: an audit, a case.", no_args_is_help=True)
gc_app.add_typer(hold_app, name="hold")

console = Console(highlight=False)

EnvironmentName = Annotated[
    str, typer.Option("--environment", "-e", help="A file, or the name of one in pipelines/environments.")
]
Home = Annotated[Path | None, typer.Option("--home", help="Folder for local state; .headrace if not given.")]


@gc_app.callback()
def gc(
    context: typer.Context,
    environment: EnvironmentName = "local",
    home: Home = None,
    keep_days: Annotated[int, typer.Option(min=0, help="Rollback window: versions signed since then stay.")] = 30,
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; without this it is only listed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before removing.")] = False,
) -> None:
    """List what nobody needs any more, and remove it with --delete.

    Needed is what an environment with the same store serves or may go back to, what that was made from, what was signed
    within the rollback window, and what is held; on a laptop also the artifacts of the newest run that ended well.
    Every removed copy leaves a signed record in the ledger.
    """
    if context.invoked_subcommand:
        return
    place = load_environment(environment, home)
    sweep = _sweep(place, keep_days)
    with _alone(place) if delete else nullcontext():
        with console.status("looking who needs what …"):
            plan = sweep.plan()
        _print(plan)
        going = plan.going
        if delete and going:
            size = _human(sum(one.item.size for one in going))
            if not yes and not typer.confirm(f"Remove {len(going):,} items, {size}?"):
                raise HeadraceError("nothing was removed")
        if delete:
            _remove(sweep, plan)


@hold_app.command()
def add(
    name: Annotated[str, typer.Argument(help="Name of the hold.")],
    subject: Annotated[str, typer.Argument(help="A document id, version, served revision or ledger entry.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    who: Annotated[str, typer.Option(help="Who ordered it.")],
    until: Annotated[str, typer.Option(help="Last day, YYYY-MM-DD; without one, until it is removed.")] = "",
    environment: EnvironmentName = "local",
    home: Home = None,
) -> None:
    """Keep a subject, and what it was made from, from now on."""
    from pipelines.garbage import Hold

    if not name.replace("-", "").isalnum() or not name.isascii():
        raise UsageError(f"{name!r}: name a hold with letters, digits and '-'")
    try:
        last = date.fromisoformat(until) if until else None
    except ValueError as error:
        raise UsageError(f"--until {until!r}: write a day as YYYY-MM-DD") from error
    if len(reason) < 3 or not who:
        raise UsageError("a hold says why (--reason) and who ordered it (--who)")
    sweep = _sweep(load_environment(environment, home), 30)
    placed = sweep.hold(name, Hold(subject=subject, reason=reason, who=who, until=last))
    console.print(
        f"{name} keeps {escape(subject)} ({len(placed.entries)} ledger entries, and what they were made from)"
    )


@hold_app.command("list")
def list_(environment: EnvironmentName = "local", home: Home = None) -> None:
    """Show every hold."""
    holds = _sweep(load_environment(environment, home), 30).holds()
    table = Table("hold", "keeps", "until", "who", "why")
    for name, hold in holds.items():
        table.add_row(name, escape(hold.subject), str(hold.until or "removed"), escape(hold.who), escape(hold.reason))
    console.print(table if holds else "nothing is held")


@hold_app.command()
def remove(
    name: Annotated[str, typer.Argument(help="Name of the hold.")],
    environment: EnvironmentName = "local",
    home: Home = None,
) -> None:
    """Remove a hold; what it kept goes with the next `headrace gc --delete` if nothing else needs it."""
    _sweep(load_environment(environment, home), 30).release(name)
    console.print(f"{name} is removed")


def _sweep(environment: Environment, keep_days: int) -> "Sweep":
    from pipelines.sweep import Sweep

    return Sweep(environment, keep_days, datetime.now(UTC))


def _alone(environment: Environment) -> "nullcontext[None]":
    """On a laptop, keep runs out of the home while things are removed from it."""
    from pipelines.line import only_run

    return only_run(Path(environment.home)) if environment.home else nullcontext()  # type: ignore[return-value]


def _print(plan: "Plan") -> None:
    from pipelines.garbage import Fate, totals

    table = Table("", "what", "n", "size", "why")
    table.columns[1].overflow = "fold"
    table.columns[2].justify = table.columns[3].justify = "right"
    marks = {Fate.GO: "[red]go[/]", Fate.KEEP: "[green]keep[/]", Fate.LIST: "[yellow]list[/]"}
    for fate in (Fate.KEEP, Fate.LIST, Fate.GO):
        for line, count in totals(one for one in plan.verdicts if one.fate == fate):
            number = f"{count:,}" if count > 1 else ""
            what = f"{line.item.kind} {_short(line)}"
            table.add_row(marks[fate], escape(what), number, _human(line.item.size), escape(line.why))
    console.print(table)
    size = {fate: sum(one.item.size for one in plan.verdicts if one.fate == fate) for fate in Fate}
    freed = f"{_human(size[Fate.GO])} of {_human(sum(size.values()))} can go"
    console.print(f"{freed}; `headrace gc --delete` removes it" if plan.going else "nothing can go", soft_wrap=True)


def _short(line: "Verdict") -> str:
    """A version by the first characters of its hash; everything else by its name."""
    name, _, last = line.item.name.rpartition("/")
    return f"{name}/{last[:12]}" if len(last) == 64 else line.item.name


def _remove(sweep: "Sweep", plan: "Plan") -> None:
    total = sum(one.item.size for one in plan.going)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("removing", total=total)
        kept = sweep.remove(plan, lambda verdict: bar.advance(task, verdict.item.size))
    for verdict in kept:
        console.print(f"kept {escape(verdict.item.name)}: {escape(verdict.why)} meanwhile", soft_wrap=True)
    freed = total - sum(verdict.item.size for verdict in kept)
    console.print(f"removed {len(plan.going) - len(kept):,} items, {_human(freed)}")


def _human(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
