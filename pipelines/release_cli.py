"""`headrace cut` and `diff`: thin calls of the releases' functions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from pipelines.release import Release

release_app = typer.Typer()

console = Console(highlight=False)


@release_app.command()
def cut(
    images: Annotated[Path, typer.Option(help="Image lock: every image of the project as NAME@sha256:DIGEST.")],
) -> None:
    """Freeze the compiled pipelines as a release, with images pinned by digest."""
    from pipelines.release import cut_release

    console.print(str(cut_release(images)), soft_wrap=True)


@release_app.command()
def diff(
    old: Annotated[str, typer.Argument(help="A release.")],
    new: Annotated[str, typer.Argument(help="Another one, or `compiled` for the current source.")] = "compiled",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Say in words what changed between two releases; what is breaking says so and is no error."""
    from pipelines.diff import as_json as to_json
    from pipelines.diff import describe
    from pipelines.release import changes_between

    changes = changes_between(_release(old), _release(new))
    typer.echo(to_json(changes) if as_json else describe(changes) or "nothing changed")


def _release(name: str) -> "Release":
    from pipelines.release import compiled_release, read_release

    return compiled_release() if name == "compiled" else read_release(name)
