"""`headrace keys`: thin calls of what makes, shows and changes the keys that seal."""

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from components.common.environment import KEYSET, load_environment

if TYPE_CHECKING:
    from components.common.environment import Environment
    from components.operations.backup.repository import Progress as Told

keys_app = typer.Typer(help="The keys that seal what is derived from documents.", no_args_is_help=True)

unseal_app = typer.Typer()

console = Console(highlight=False)

EnvironmentName = Annotated[
    str, typer.Option("--environment", "-e", help="A file, or the name of one in pipelines/environments.")
]
Home = Annotated[Path | None, typer.Option(help="Folder for local state.", show_default=".headrace")]


@keys_app.command()
def make(environment: EnvironmentName = "local", home: Home = None) -> None:
    """Make the environment's keyset; a laptop that seals makes it by itself.

    Keep a copy of the file where keys are kept: what it sealed is lost with it.
    """
    from components.common.wrapping import make_keyset

    made = make_keyset(load_environment(environment, home))
    console.print(f"{escape(str(made.path))}: {made.primary.id}; keep a copy, what it seals is lost with it")


@keys_app.command()
def show(environment: EnvironmentName = "local", home: Home = None) -> None:
    """Show every key, and how many files need it; nothing of a key itself is shown."""
    from components.common.wrapping import keyset_file, load_keyset
    from components.operations.sealing.keys import survey

    place = load_environment(environment, home)
    with _drawn() as told:
        found = survey(place, told)
    known = load_keyset(place).keys if keyset_file(place).is_file() or place.encryption == KEYSET else ()
    table = Table("key", "state", "made", "files", "in backups", title=f"encryption: {place.encryption or 'off'}")
    for key in known:
        table.add_row(key.id, key.state, key.created[:10], *_counts(found.needed[key.id], found.backups, key.id))
    for name in sorted(({*found.needed}.union(*found.backups.values())) - {key.id for key in known}):
        where = "in Cloud KMS" if name.startswith("projects/") else "not here"
        table.add_row(escape(name), where, "", *_counts(found.needed[name], found.backups, name))
    console.print(table)
    for where in found.unseen:
        console.print(f"[yellow]![/] backups at {escape(where)} are not found", soft_wrap=True)
    if found.plain and place.encryption:
        console.print(f"[yellow]![/] {found.plain:,} files are plain; `headrace keys seal` seals them", soft_wrap=True)


@keys_app.command()
def rotate(environment: EnvironmentName = "local", home: Home = None) -> None:
    """Have a new key wrap from now on, and wrap the data key of every file with it; contents are not touched.

    Interrupted, run it again: it goes on. With Cloud KMS the key's primary version is taken.
    """
    from components.operations.sealing.keys import rotate as wrap_anew

    place = load_environment(environment, home)
    with _alone(place), _drawn() as told:
        primary, changed = wrap_anew(place, told)
    console.print(f"[green]✓[/] {escape(primary)} wraps; {changed:,} files changed", soft_wrap=True)


@keys_app.command()
def seal(environment: EnvironmentName = "local", home: Home = None) -> None:
    """Seal what was written before the environment named a key. Interrupted, run it again."""
    from components.operations.sealing.keys import seal_plain

    place = load_environment(environment, home)
    with _alone(place), _drawn() as told:
        changed = seal_plain(place, told)
    console.print(f"[green]✓[/] {changed:,} files sealed")


@keys_app.command()
def retire(
    key: Annotated[str, typer.Argument(help="Id of the key, as `headrace keys show` shows it.")],
    environment: EnvironmentName = "local",
    home: Home = None,
) -> None:
    """Remove a key for good; refused while a file or a backup needs it."""
    from components.operations.sealing.keys import retire as remove

    place = load_environment(environment, home)
    with _alone(place), _drawn() as told:
        remove(place, key, told)
    console.print(f"[green]✓[/] {escape(key)} is retired; delete it from the copies of the keyset too")


@unseal_app.command()
def unseal(
    source: Annotated[str, typer.Argument(help="A sealed file or folder: an artifact, a report, a log; path or URI.")],
    out: Annotated[Path, typer.Argument(help="File or folder to write in plain.")],
    why: Annotated[str, typer.Option(help="The purpose; it is kept in the audit log.")],
    environment: EnvironmentName = "local",
    home: Home = None,
) -> None:
    """Write something sealed in plain; who did so and why is noted first, and shown by `headrace ledger audit`."""
    from components.operations.sealing.extract import unseal as bring_out

    count = bring_out(load_environment(environment, home), source, out, why)
    console.print(f"[green]✓[/] {count:,} files in {escape(str(out))}; delete them when you are done", soft_wrap=True)


def _counts(files: int, backups: dict[str, Counter[str]], key: str) -> tuple[str, str]:
    kept = sum(counted[key] for counted in backups.values())
    return f"{files:,}", f"{kept:,}" if backups else ""


def _alone(place: "Environment") -> AbstractContextManager[None]:
    """On a laptop, keep runs out of the home meanwhile."""
    from pipelines.line import only_run

    return only_run(Path(place.home)) if place.home else nullcontext()


@contextmanager
def _drawn() -> "Iterator[Told]":
    """A bar of files on a terminal; nothing elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def told(done: int, total: int, note: str) -> None:
            bar.update(task, completed=done, total=total, description=escape(note))

        yield told
