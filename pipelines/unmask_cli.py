"""`headrace unmask`: what masks stand for, where the recipe asked to keep it."""

import base64
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components.common.environment import load_environment

unmask_app = typer.Typer(
    help="Undo masks, where the recipe asked for it and you hold the key.\n\n"
    "A recipe with `data.mask.reversible_to` keeps the originals sealed; steps cannot open them.",
    no_args_is_help=True,
)

console = Console(highlight=False)

EnvironmentName = Annotated[
    str, typer.Option("--environment", "-e", help="A file, or the name of one in pipelines/environments.")
]
Home = Annotated[Path | None, typer.Option("--home", help="Folder for local state; .headrace if not given.")]
Private = Annotated[
    Path | None, typer.Option("--key", help="The private key, X25519 in PEM; if not given, this machine's.")
]


@unmask_app.command()
def key(private: Private = None, environment: EnvironmentName = "local", home: Home = None) -> None:
    """Give the public key for `data.mask.reversible_to`; a laptop makes the pair on first use.

    For a cluster make a pair that the cluster never sees: openssl genpkey -algorithm x25519 -out unmask.pem
    """
    from components.common.keys import unmask_key

    public = unmask_key(load_environment(environment, home), private).public_key()
    typer.echo(base64.b64encode(public.public_bytes_raw()).decode())


@unmask_app.command()
def show(
    document: Annotated[str, typer.Argument(help="The document's id, or at least its first eight characters.")],
    why: Annotated[str, typer.Option(help="The purpose, such as the number of a case; it stands in the audit log.")],
    private: Private = None,
    environment: EnvironmentName = "local",
    home: Home = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the masks as JSON.")] = False,
) -> None:
    """Say what the masks of a document stand for; that you looked, and why, is noted first."""
    from components.common.keys import unmask_key
    from components.data.mask.reveal import reveal

    place = load_environment(environment, home)
    found = reveal(place, document, unmask_key(place, private), why)
    if as_json:
        typer.echo(json.dumps([vars(one) for one in found], ensure_ascii=False))
        return
    for one in found:
        table = Table("mask", "stands for", title=escape(one.artifact), title_justify="left")
        for mask, written in one.originals.items():
            table.add_row(escape(mask), escape(" · ".join(written)))
        console.print(table)
