"""`headrace cut`, `diff` and `promote`: thin calls of the releases' functions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from components.common.errors import UsageError

if TYPE_CHECKING:
    from pipelines.promote import Check, Place
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


@release_app.command()
def promote(
    to: Annotated[str, typer.Option(help="The environment to change.")],
    source: Annotated[
        str, typer.Option("--from", help="Where the release ran; if not given, what the target's policy.after says.")
    ] = "",
    release: Annotated[
        str,
        typer.Option(help="The release; if not given, the one that --from points to. With --undo: what to take back."),
    ] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Go back to the release that ran there before.")] = False,
    branch: Annotated[str, typer.Option(help="Commit on this new branch, for review, and stop there.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Make the checks, show the commit, change nothing.")
    ] = False,
) -> None:
    """Promote a release to an environment, or take a promotion back; one commit changes the environment's file.

    The release must be intact, be what ran in the environment before this one, have passed its gate there, keep the
    policy, and fit the environment's recipe and schedules.
    """
    from pipelines.promote import carry_out, check_promotion, check_return

    target = _place(to)
    if undo:
        if source:
            raise UsageError("--undo goes back within one environment; leave --from out")
        promotion = check_return(target, _report, release)
    else:
        came_from = source or target.environment.policy.after
        promotion = check_promotion(release, target, _place(came_from) if came_from else None, _report)
    if dry_run:
        console.print(f"\n{escape(promotion.message)}\n\nnothing was changed (--dry-run)", soft_wrap=True)
        return
    carry_out(promotion, _report, branch)


def _report(check: "Check") -> None:
    mark = "[green]✓[/]" if check.ok else "[red]✗[/]"
    advice = f"  →  {check.fix}" if check.fix else ""
    console.print(f"{mark} {escape(check.what + advice)}", soft_wrap=True)


def _release(name: str) -> "Release":
    from pipelines.release import compiled_release, read_release

    return compiled_release() if name == "compiled" else read_release(name)


def _place(name: str) -> "Place":
    from components.common.environment import environment_file, load_environment
    from pipelines.kubeflow import Kfp
    from pipelines.promote import Place

    environment = load_environment(name)
    return Place(environment, environment_file(name), Kfp(environment))
