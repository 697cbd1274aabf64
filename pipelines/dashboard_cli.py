"""`headrace dashboard`: one page over all releases."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from components.common.errors import UsageError

dashboard_app = typer.Typer()

console = Console(highlight=False)


@dashboard_app.command()
def dashboard(
    out: Annotated[Path, typer.Argument(help="HTML file to write.")] = Path("dashboard.html"),
    language: Annotated[str, typer.Option(help="en or ko.")] = "en",
    service: Annotated[str, typer.Option(help="InferenceService whose version is marked.")] = "assistant",
    environment: Annotated[
        str, typer.Option("--environment", "-e", help="A file, or the name of one in pipelines/environments.")
    ] = "local",
    home: Annotated[Path, typer.Option(help="Folder for local state.")] = Path(".headrace"),
) -> None:
    """Write one page over all releases: how often answers are wrong, malformed or refused, what they cost, and trends.

    Every value has its interval, and what was not measured says so. The
    page loads nothing from elsewhere, and reads on a phone and on paper.
    """
    from components.common.environment import load_environment
    from components.common.sealed_store import store_of
    from components.evaluation.dashboard.history import read_releases, serving_now
    from components.evaluation.dashboard.page import Builds
    from components.evaluation.dashboard.page import dashboard as lay_out
    from components.model.rebuild.results import read_rebuilds

    if language not in ("en", "ko"):
        raise UsageError(f"--language {language}: the page is written in en or ko")
    place = load_environment(environment, home)
    rebuilds = read_rebuilds(store_of(place))
    builds = Builds(rebuilds.share, rebuilds.interval, rebuilds.runs) if rebuilds.runs else None
    page = lay_out(read_releases(place), *serving_now(service, place), builds, language)  # type: ignore[arg-type]
    partial = out.with_suffix(".partial")
    partial.write_text(page.html(), "utf-8")
    partial.replace(out)
    console.print(str(out), markup=False)
