"""`headrace erase`: carry out a person's request to be erased, and show that it was."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components.common.environment import Environment, load_environment
from components.common.errors import HeadraceError, UsageError

if TYPE_CHECKING:
    from components.operations.erase.find import Found
    from components.operations.erase.work import Erasure

erase_app = typer.Typer(
    help="Erase a person's data everywhere, prove it, and keep it out.\n\n"
    "A request is a YAML file with reference, identifiers and documents. `seal` encrypts it; only then it travels.",
    no_args_is_help=True,
)

console = Console(highlight=False)

EnvironmentName = Annotated[
    str, typer.Option("--environment", "-e", help="A file, or the name of one in pipelines/environments.")
]
Home = Annotated[Path | None, typer.Option("--home", help="Folder for local state; .headrace if not given.")]
Sealed = Annotated[Path, typer.Argument(help="The sealed request, as `headrace erase seal` writes it.")]


@erase_app.command()
def key(
    out: Annotated[Path | None, typer.Option(help="File to write; printed if not given.")] = None,
    environment: EnvironmentName = "local",
    home: Home = None,
) -> None:
    """Give the public key that requests are sealed with; hand it to whoever receives them."""
    from components.common.keys import erasure_key
    from components.operations.erase.request import public_key

    pem = public_key(erasure_key(load_environment(environment, home)))
    if out:
        out.write_bytes(pem)
    else:
        typer.echo(pem.decode(), nl=False)


@erase_app.command()
def seal(
    request: Annotated[Path, typer.Argument(help="YAML with reference, identifiers and documents.")],
    out: Annotated[Path, typer.Option(help="File to write the sealed request to.")],
    public: Annotated[
        Path | None,
        typer.Option("--key", help="What `headrace erase key` printed; if not given, the environment's."),
    ] = None,
    environment: EnvironmentName = "local",
    home: Home = None,
) -> None:
    """Encrypt a request, so that only the environment can open it. Delete the YAML afterwards.

    \b
    reference: DSR-2026-0114          # your file number; it names nobody
    identifiers:                      # everything by which the person may be found
      - kim.cheolsu@example.org
      - 010-1234-5678
      - 김철수
    documents: []                     # ids of documents that are to go whatever they hold
    """
    from components.common.keys import erasure_key
    from components.operations.erase.request import read_public_key, read_request
    from components.operations.erase.request import seal as encrypt

    wanted = read_request(request)
    place = load_environment(environment, home)
    sealing = read_public_key(public) if public else erasure_key(place).public_key()
    partial = out.with_name(f"{out.name}.partial")
    partial.write_bytes(encrypt(wanted, sealing))
    partial.rename(out)
    said = f"{len(wanted.identifiers)} identifiers and {len(wanted.documents)} documents"
    console.print(f"sealed {said} in {escape(str(out))}; delete {escape(str(request))} now", soft_wrap=True)


@erase_app.command()
def scan(sealed: Sealed, environment: EnvironmentName = "local", home: Home = None) -> None:
    """Say where the person is found, and change nothing; exits with 1 if anywhere.

    Run it before an erasure to see what would go, and after it to see that nothing is left.
    """
    from components.operations.erase.work import describe, look, note_reads

    erasure = _open(sealed, load_environment(environment, home))
    with console.status("searching …") as status:
        found = look(erasure, lambda note: status.update(note))
    note_reads(erasure, found, "headrace erase scan")
    if found.places:
        _show(erasure, found)
        raise HeadraceError(f"{describe(found)}; `headrace erase run` erases it")
    for missed in erasure.ground.unreached():
        console.print(f"[yellow]![/] not searched: {escape(missed)}", soft_wrap=True)
    console.print(f"[green]✓[/] case {erasure.name}: found nowhere")


@erase_app.command()
def run(
    sealed: Sealed,
    environment: EnvironmentName = "local",
    home: Home = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before erasing.")] = False,
) -> None:
    """Erase the person on this machine: find, delete, rewrite, look again, mark services, certify.

    Interrupted at any point, run it again: it goes on and ends in the same state. On a cluster use `submit`.
    """
    from components.operations.backup.clear import clear_backups
    from components.operations.backup.take import noted
    from components.operations.erase.certificate import certify, save
    from components.operations.erase.mark import make_sure_of_services, mark
    from components.operations.erase.work import describe, erase, look, note_reads
    from pipelines.line import only_run

    place = load_environment(environment, home)
    if not place.home:
        raise UsageError(f"{place.name} is a cluster; `headrace erase submit` runs the erasure there")
    erasure = _open(sealed, place)
    make_sure_of_services(place)
    with only_run(Path(place.home)), console.status("searching …") as status:
        if not yes:
            found = look(erasure, lambda note: status.update(note))
            note_reads(erasure, found, "headrace erase run")
            status.stop()
            _show(erasure, found)
            if found.places and not typer.confirm(f"{describe(found)}. Erase it? It cannot be undone"):
                raise HeadraceError("nothing was erased")
            status.start()
        erase(erasure, lambda note: status.update(escape(note)))
        cleared = clear_backups(place, lambda done, total, note: status.update(f"backups: {escape(note)}"))
        services = mark(place, erasure.name)
        written, stated = certify(place, erasure.name, services)
        saved = save(erasure.ground.store, written, Path(place.home) / "certificates" / erasure.name)
    console.print(f"[green]✓[/] case {erasure.name}: {stated['records']:,} records erased, nothing is found any more")
    for dataset in stated["datasets"]:
        was, now = _short(dataset["version"]), _short(dataset["successor"]) or "nothing is left"
        console.print(f"  {was} → {now}, {dataset['erased']:,} of {dataset['of']:,} records", soft_wrap=True)
    for where in noted(erasure.ground.store):
        said = f"{len(cleared[where])} rewritten" if where in cleared else "not found; `headrace backups --clear` later"
        console.print(f"  backups at {escape(where)}: {said}", soft_wrap=True)
    for model in stated["models"]:
        console.print(f"  [yellow]![/] {_short(model)} was trained on them", soft_wrap=True)
    for service in stated["services"]:
        console.print(f"  [yellow]![/] service {service['service']} is marked", soft_wrap=True)
    console.print(f"  certificate {escape(' '.join(map(str, saved)))}", soft_wrap=True)


@erase_app.command()
def submit(sealed: Sealed, environment: EnvironmentName = "local", home: Home = None) -> None:
    """Leave a sealed request in the environment's store, and say how the run that carries it out is started."""
    from components.common.sealed_store import store_of
    from components.operations.erase.steps import leave_request

    place = load_environment(environment, home)
    name = leave_request(store_of(place), _read(sealed))
    console.print(f"headrace submit erase_subject request={name} -e {escape(environment)} --wait", soft_wrap=True)


@erase_app.command()
def replay(environment: EnvironmentName = "local", home: Home = None) -> None:
    """Erase again what was ever erased: after a store was brought back by other means than `headrace restore`.

    What may not come back is known by keyed hashes of ids, texts, addresses and numbers, and by where it was.
    """
    from components.operations.erase.work import replay as erase_again

    place = load_environment(environment, home)
    with console.status("searching …") as status:
        cases = erase_again(place, lambda note: status.update(escape(note)))
    console.print(f"[green]✓[/] {len(cases)} cases replayed, nothing of them is found")


@erase_app.command()
def check(
    certificate: Annotated[Path, typer.Argument(help="The certificate's JSON file.")],
    public: Annotated[Path, typer.Option("--key", help="The ledger's public key, from `headrace ledger key`.")],
) -> None:
    """Check a certificate with nothing but the ledger's public key; exits with 1 if it does not hold."""
    from components.operations.erase.certificate import check as check_certificate

    stated = check_certificate(_read(certificate), _read(public), str(public))
    console.print(
        f"[green]✓[/] request {stated['reference']}, case {stated['case']}: {stated['records']:,} records erased from "
        f"{stated['environment']}, closed {stated['closed_at'][:10]}",
        soft_wrap=True,
    )


def _open(sealed: Path, place: Environment) -> "Erasure":
    from components.operations.erase.work import open_request

    return open_request(place, _read(sealed))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error


def _show(erasure: "Erasure", found: "Found") -> None:
    """Say where, without the name of a file that tells of the person."""
    if not found.places:
        return
    matcher = erasure.matcher()
    table = Table("what", "where", "records")
    table.columns[1].overflow = "fold"
    table.columns[2].justify = "right"
    for place, records in sorted(found.places.items(), key=lambda item: (item[0].kind, item[0].uri)):
        table.add_row(
            place.kind,
            "(named)" if matcher.is_in(place.uri) else escape("/".join(place.uri.rsplit("/", 3)[1:])),
            f"{records:,}" if records else "",
        )
    console.print(table)
    for model in found.models:
        console.print(f"[yellow]![/] {_short(model)} was trained on them; it is listed, not deleted", soft_wrap=True)


def _short(head: str) -> str:
    name, _, version = head.rpartition("/")
    return f"{name}/{version[:12]}" if head else ""
