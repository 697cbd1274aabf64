"""`headrace backup`, `headrace backups` and `headrace restore`."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from components.common.environment import Environment, load_environment
from components.common.errors import HeadraceError, UsageError

if TYPE_CHECKING:
    from components.operations.backup.repository import Progress as Told

app = typer.Typer()

console = Console(highlight=False)

EnvironmentName = Annotated[
    str, typer.Option("--environment", "-e", help="A file, or the name of one in pipelines/environments.")
]
Home = Annotated[Path | None, typer.Option("--home", help="Folder for local state; .headrace if not given.")]
Place = Annotated[str, typer.Argument(help="Folder or gs://bucket/prefix with the environment's backups.")]


@app.command()
def backup(
    to: Place,
    environment: EnvironmentName = "local",
    home: Home = None,
    keep: Annotated[int, typer.Option(min=0, help="Keep this many backups and remove older ones; 0 keeps all.")] = 0,
) -> None:
    """Back up what the environment keeps: store, artifacts, runs, tracking, services. Only what is new is copied.

    No key is copied: keep those of the folder `keys` elsewhere. Without `keys/ledger.pem` no backup can be restored.
    """
    from components.operations.backup.contents import Contents
    from components.operations.backup.take import back_up

    place = load_environment(environment, home)
    contents = Contents(place)
    where = _uri(to)
    if f"{where}/".startswith(f"{contents.root.uri}/"):
        raise UsageError(f"{to} lies in what is backed up; choose a place that is not lost with it")
    with _alone(place), _drawn() as told:
        taken = back_up(place, where, keep, told)
    made = taken.backup
    console.print(
        f"[green]✓[/] backup {made.number} {made.manifest[:12]}: {made.files:,} files, {_human(made.size)}; "
        f"{taken.new:,} new, {_human(taken.size)} copied",
        soft_wrap=True,
    )
    if taken.dropped:
        console.print(f"removed {_listed(taken.dropped)}")
    for missed in contents.unreached():
        console.print(f"[yellow]![/] not held: {escape(missed)}", soft_wrap=True)
    keys = ", ".join(contents.secrets())
    if keys:
        console.print(f"[yellow]![/] keys are not in it, keep them elsewhere: {escape(keys)}", soft_wrap=True)


@app.command()
def backups(
    at: Place,
    environment: EnvironmentName = "local",
    home: Home = None,
    verify: Annotated[bool, typer.Option("--verify", help="Read every file and compare its hash.")] = False,
    clear: Annotated[
        bool, typer.Option("--clear", help="Erase in them what was erased since, as `headrace erase` does.")
    ] = False,
) -> None:
    """List backups, their signatures checked; exits with 1 if one does not hold."""
    from components.operations.backup.clear import clear as clear_them
    from components.operations.backup.repository import Repository
    from components.operations.backup.restore import verify_key

    place = load_environment(environment, home)
    repository = Repository(_uri(at))
    if clear:
        with _alone(place), _drawn() as told:
            rewritten = clear_them(place, repository, told)
        console.print(f"[green]✓[/] cleared {_listed(rewritten)}" if rewritten else "[green]✓[/] all are clear")
    found = repository.backups(verify_key(place))
    if not found:
        raise HeadraceError(f"there are no backups in {at}; `headrace backup` makes one")
    manifests = {one.manifest: repository.manifest(one.manifest) for one in found}
    damaged: set[str] = set()
    if verify:
        with _drawn() as told:
            damaged = repository.damaged(manifests, told)
    table = Table("backup", "taken", "manifest", "files", "size", *(["damaged"] if verify else []))
    bad = 0
    for one in found:
        lost = [path for path, content in manifests[one.manifest].files.items() if content.sha256 in damaged]
        bad += bool(lost)
        held = [f"[red]{len(lost):,}[/], {escape(lost[0])}" if lost else "[green]none[/]"] if verify else []
        row = (str(one.number), one.taken_at, one.manifest[:12], f"{one.files:,}", _human(one.size))
        table.add_row(*row, *held)
    console.print(table)
    if bad:
        raise HeadraceError(f"{bad} of {len(found)} backups do not hold; make a new one while the environment is there")


@app.command()
def restore(
    source: Place,
    environment: EnvironmentName = "local",
    home: Home = None,
    to: Annotated[
        str, typer.Option(help="Restore to another home, or to a new gs://bucket/prefix where there is no home.")
    ] = "",
    number: Annotated[int, typer.Option("--backup", min=0, help="Which backup; 0 is the newest.")] = 0,
    replace: Annotated[bool, typer.Option("--replace", help="Put a home aside that holds something.")] = False,
    despite_findings: Annotated[
        bool, typer.Option("--despite-findings", help="Accept a ledger that did not hold when it was backed up.")
    ] = False,
) -> None:
    """Restore a backup: check it, erase in it what was erased since, verify its ledger, then put it in place.

    Put the keys into the folder `keys` of the home first. Interrupted at any point, run it again: it goes on and ends
    in the same state. Nothing is readable before it is whole.
    """
    from components.operations.backup.restore import restore as bring_back
    from serving.plane.client import plane_of

    place = load_environment(environment, home)
    if place.home and plane_of(place).pid:
        raise HeadraceError(f"a serving plane runs from {place.home}; stop it with `headrace serve down`")
    with _alone(place), _drawn() as told:
        done = bring_back(place, _uri(source), _uri(to) if to else "", number, replace, despite_findings, told)
    for finding in done.findings:
        console.print(f"[yellow]![/] {escape(finding)}", soft_wrap=True)
    if done.cases:
        console.print(f"erased again: {len(done.cases)} case{'s' * (len(done.cases) > 1)}, {', '.join(done.cases)}")
    console.print(
        f"[green]✓[/] backup {done.backup.number} of {done.backup.taken_at} is in {escape(_short(done.root))}",
        soft_wrap=True,
    )
    if done.aside:
        console.print(f"what was there is in {escape(done.aside)}; delete it when nobody misses it", soft_wrap=True)
    if not place.home:
        console.print(
            f"name it in the environment to have it read: [bold]store: {escape(done.root)}[/]", soft_wrap=True
        )


def _uri(place: str) -> str:
    return place.rstrip("/") if "://" in place else f"file://{Path(place).resolve()}"


def _short(uri: str) -> str:
    return uri.removeprefix("file://")


def _alone(place: Environment) -> AbstractContextManager[None]:
    """On a laptop, keep runs and what serves out of the home meanwhile."""
    from pipelines.line import only_run

    return only_run(Path(place.home)) if place.home else nullcontext()


@contextmanager
def _drawn() -> "Iterator[Told]":
    """A bar of bytes on a terminal; nothing elsewhere."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def told(done: int, total: int, note: str) -> None:
            bar.update(task, completed=done, total=total or None, description=escape(note))

        yield told


def _listed(numbers: list[int]) -> str:
    return f"backup{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _human(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
