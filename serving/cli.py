"""`headrace serve`, `rollout` and `models`: thin calls of the plane's client, of the rollout and of the store."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from components.common.environment import Environment, load_environment
from serving.plane.client import Plane, plane_of

if TYPE_CHECKING:
    from components.release.rollout import Rollout, RolloutBackend

EnvironmentName = Annotated[str, typer.Option("--environment", "-e", help="Name of a file in pipelines/environments.")]
Home = Annotated[Path | None, typer.Option("--home", help="Folder for local state; .headrace if not given.")]
Service = Annotated[str, typer.Option("--service", help="InferenceService; may be left out if there is only one.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

serve_app = typer.Typer(
    help="The embedded serving plane: model servers behind Envoy on this machine.", no_args_is_help=True
)
rollout_app = typer.Typer(help="The share of the requests that a new revision gets.", no_args_is_help=True)
models_app = typer.Typer(help="Model versions in the store.", no_args_is_help=True)

console = Console()


@serve_app.command()
def up(environment: EnvironmentName = "local", home: Home = None) -> None:
    """Start the plane and resume what it served; nothing happens if it runs."""
    plane = plane_of(load_environment(environment, home))
    started = plane.start()
    console.print(f"{'started' if started else 'already running'}: {plane.gateway_url} (API on port {plane.api_port})")


@serve_app.command()
def down(environment: EnvironmentName = "local", home: Home = None) -> None:
    """Stop the plane, its gateway and every model server; what was published stays and comes back with `up`."""
    stopped = plane_of(load_environment(environment, home)).stop()
    console.print("stopped" if stopped else "was not running")


@serve_app.command("status")
def serve_status(environment: EnvironmentName = "local", home: Home = None, as_json: Json = False) -> None:
    """Show every revision: traffic, readiness, requests and latency."""
    plane = plane_of(load_environment(environment, home))
    revisions = plane.revisions()
    if as_json:
        typer.echo(json.dumps({"gateway": plane.gateway_url, "revisions": revisions}, indent=2))
    else:
        _print_revisions(plane, revisions)


@rollout_app.command("status")
def rollout_status(
    service: Service = "", environment: EnvironmentName = "local", home: Home = None, as_json: Json = False
) -> None:
    """Show the stable revision, the candidate and its share."""
    place = load_environment(environment, home)
    rollout = _rollout(place, service).status()
    if as_json:
        typer.echo(json.dumps({**dataclasses.asdict(rollout), "state": rollout.state}, indent=2))
        return
    _print_rollout(rollout)
    if place.serving.mode == "plane":
        plane = plane_of(place)
        _print_revisions(plane, [row for row in plane.revisions() if row["service"] == rollout.service])


@rollout_app.command("set")
def set_percent(
    percent: Annotated[int, typer.Argument(min=0, max=100, help="The candidate's share of the requests.")],
    service: Service = "",
    environment: EnvironmentName = "local",
    home: Home = None,
) -> None:
    """Give the candidate PERCENT of the requests and wait until that is observed."""
    _print_rollout(_rollout(load_environment(environment, home), service).set_percent(percent))


@rollout_app.command()
def promote(service: Service = "", environment: EnvironmentName = "local", home: Home = None) -> None:
    """Make the candidate the stable revision; without a candidate nothing changes."""
    _print_rollout(_rollout(load_environment(environment, home), service).promote())


@rollout_app.command()
def rollback(service: Service = "", environment: EnvironmentName = "local", home: Home = None) -> None:
    """Take all requests from the candidate at once; after a promotion, return to the revision before it."""
    _print_rollout(_rollout(load_environment(environment, home), service).rollback())


@rollout_app.command("progress")
def progress_(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Recipe overrides, such as release.progress.max_requests=5000.")
    ] = None,
    service: Service = "",
    watch: Annotated[bool, typer.Option("--watch", help="Show a line for each look.")] = False,
    recipe: Annotated[str, typer.Option(help="A recipe file, or the name of one in pipelines/recipes.")] = "default",
    environment: EnvironmentName = "local",
    home: Home = None,
) -> None:
    """Compare the candidate with the stable revision and move its share up, or to 0, until that is decided.

    It may be stopped and started again: what was seen is kept. Exits with 3 if the candidate is aborted or held.
    """
    from components.common.recipes import load_recipe
    from components.release.progress.progress import analyse_here

    options = load_recipe(recipe, overrides or []).release.progress
    place = load_environment(environment, home)
    analyse_here(place, options.model_copy(update={"service": service or options.service}), console, watch)


@models_app.command()
def encrypt(
    version: Annotated[str, typer.Argument(help="NAME/VERSION of a registered model version.")],
    keys: Annotated[Path, typer.Option(help="Folder of keys, 32 bytes in base64 each; the last by name encrypts.")],
    environment: EnvironmentName = "local",
    home: Home = None,
) -> None:
    """Store a version a second time, encrypted, and print the storageUri that serves it.

    The predictors of the environment need the same keys, as the secret headrace-model-key.
    """
    from components.common.store import open_store
    from serving.storage.sealed import read_keys
    from serving.storage.versions import encrypt as encrypt_version

    typer.echo(encrypt_version(open_store(load_environment(environment, home).store), version, read_keys(keys)))


def _rollout(environment: Environment, service: str) -> "RolloutBackend":
    from components.release.rollout import connect  # KServe's models take a second to import

    return connect(environment, service)


def _print_rollout(rollout: "Rollout") -> None:
    stable = f"{rollout.service}: {rollout.stable} {100 - rollout.observed} %"
    candidate = f", candidate {rollout.candidate} {rollout.observed} %" if rollout.candidate else ""
    console.print(f"{stable}{candidate} ({rollout.state})", highlight=False)
    if rollout.reason:
        console.print(f"  {rollout.reason}", highlight=False, markup=False)
    if rollout.previous and not rollout.candidate:
        console.print(f"  rollback returns to {rollout.previous}", highlight=False)


def _print_revisions(plane: Plane, revisions: list[dict[str, Any]]) -> None:
    table = Table(title=f"gateway {plane.gateway_url}", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("revision", no_wrap=True)
    table.add_column("role", no_wrap=True)
    for heading in ("traffic", "requests", "errors", "p50/p95 ms", "restarts"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in revisions:
        wanted, observed = row["weight"]["wanted"], row["weight"]["observed"]
        table.add_row(
            row["revision"],
            row["role"] if row["ready"] else f"{row['role']}, not ready",
            f"{observed} %" if observed == wanted else f"{observed} % of {wanted} %",
            *(str(row["requests"].get(kind, 0)) for kind in ("total", "5xx")),
            f"{row['latency_ms']['p50']:.0f}/{row['latency_ms']['p95']:.0f}",
            str(row["restarts"]),
        )
    console.print(table)
    for row in revisions:
        if row["message"]:
            console.print(f"{row['revision']}: {row['message']}", highlight=False, markup=False)
