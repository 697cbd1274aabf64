"""`headrace serve`, `rollout` and `models`: thin calls of the plane's client, of the rollout and of the store."""

import dataclasses
import json
from collections.abc import Callable
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
ab_app = typer.Typer(
    help="An A/B test: every user keeps the revision they once got, until the test stops.", no_args_is_help=True
)
rollout_app.add_typer(ab_app, name="ab")
models_app = typer.Typer(help="Model versions in the store.", no_args_is_help=True)

console = Console()


@serve_app.command()
def up(environment: EnvironmentName = "local", home: Home = None) -> None:
    """Start the plane and resume what it served; nothing happens if it runs."""
    plane = plane_of(load_environment(environment, home))
    started = plane.start()
    console.print(f"{'started' if started else 'already running'}: {plane.gateway_url} (API on port {plane.api_port})")
    for row in plane.revisions():
        if not row["ready"]:
            console.print(f"  {row['service']}: {row['revision']}: {row['message']}", highlight=False, markup=False)


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
    """Show the stable revision, the candidate and its share, and whether automation is paused."""
    place = load_environment(environment, home)
    rollout = _rollout(place, service).status()
    if as_json:
        computed = {"state": rollout.state, "strategy": rollout.strategy}
        typer.echo(json.dumps({**dataclasses.asdict(rollout), **computed}, indent=2, ensure_ascii=False))
        return
    _print_rollout(rollout)
    if rollout.pin:
        where = f"{rollout.pin}: {rollout.candidate}" if rollout.pin.startswith("header ") else rollout.pin
        console.print(f"  the candidate alone: {where}", highlight=False, markup=False, soft_wrap=True)
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
    _change(environment, home, service, lambda backend: backend.set_percent(percent))


@rollout_app.command()
def switch(
    back: Annotated[bool, typer.Option("--back", help="Give them back to the stable revision.")] = False,
    service: Service = "",
    environment: EnvironmentName = "local",
    home: Home = None,
) -> None:
    """Blue-green: give the candidate all requests at once. `switch --back` returns them, `promote` ends it.

    Both revisions keep running meanwhile, so neither way waits for a model server to start.
    """
    _change(environment, home, service, lambda backend: backend.set_percent(0 if back else 100))


@rollout_app.command()
def promote(service: Service = "", environment: EnvironmentName = "local", home: Home = None) -> None:
    """Make the candidate the stable revision; without a candidate nothing changes."""
    _change(environment, home, service, lambda backend: backend.promote())


@rollout_app.command()
def rollback(service: Service = "", environment: EnvironmentName = "local", home: Home = None) -> None:
    """Take all requests from the candidate at once; after a promotion, return to the revision before it."""
    _change(environment, home, service, lambda backend: backend.rollback())


@rollout_app.command()
def pause(
    reason: Annotated[str, typer.Option("--reason", help="Why; shown by `status`.")] = "by hand",
    service: Service = "",
    environment: EnvironmentName = "local",
    home: Home = None,
) -> None:
    """Keep automation from giving the candidate more requests; it may still take them away, and so may you."""
    _change(environment, home, service, lambda backend: backend.pause(reason))


@rollout_app.command()
def resume(service: Service = "", environment: EnvironmentName = "local", home: Home = None) -> None:
    """Let automation go on."""
    _change(environment, home, service, lambda backend: backend.resume())


@ab_app.command("start")
def ab_start(
    percent: Annotated[int, typer.Option("--percent", min=1, max=99, help="The candidate's share of the users.")] = 50,
    by_header: Annotated[str, typer.Option("--by-header", help="Request header that names the user.")] = "",
    by_cookie: Annotated[
        bool, typer.Option("--by-cookie", help="Tell users apart by a cookie of the gateway.")
    ] = False,
    service: Service = "",
    environment: EnvironmentName = "local",
    home: Home = None,
) -> None:
    """Give the candidate a share of the users, who keep it; `rollback` or `rollout ab stop` ends the test."""
    if bool(by_header) == by_cookie:
        raise typer.BadParameter("say how users are told apart: --by-header NAME or --by-cookie")
    assignment = "cookie" if by_cookie else f"header {by_header.lower()}"
    _change(environment, home, service, lambda backend: backend.assign(assignment, percent))


@ab_app.command("stop")
def ab_stop(service: Service = "", environment: EnvironmentName = "local", home: Home = None) -> None:
    """Split requests instead of users again; the candidate keeps its share. Then `promote` or `rollback`."""
    _change(environment, home, service, lambda backend: backend.assign("", backend.status().wanted))


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
    from components.common.sealed_store import store_of
    from serving.storage.sealed import read_keys
    from serving.storage.versions import encrypt as encrypt_version

    typer.echo(encrypt_version(store_of(load_environment(environment, home)), version, read_keys(keys)))


def _rollout(environment: Environment, service: str) -> "RolloutBackend":
    from components.release.rollout import connect  # KServe's models take a second to import

    return connect(environment, service)


def _change(environment: str, home: Path | None, service: str, change: Callable[["RolloutBackend"], "Rollout"]) -> None:
    backend = _rollout(load_environment(environment, home), service)
    before = backend.status()
    after = change(backend)
    if _wanted(before) == _wanted(after) and before.applied:
        console.print("nothing to do: ", end="", highlight=False)
    _print_rollout(after)


def _wanted(rollout: "Rollout") -> tuple[object, ...]:
    return (rollout.stable, rollout.candidate, rollout.wanted, rollout.paused, rollout.assignment)


def _print_rollout(rollout: "Rollout") -> None:
    stable = f"{rollout.service}: {rollout.stable} {100 - rollout.observed} %"
    candidate = f", candidate {rollout.candidate} {rollout.observed} %" if rollout.candidate else ""
    state = rollout.strategy if rollout.state == "canary" else rollout.state
    console.print(f"{stable}{candidate} ({state})", highlight=False, soft_wrap=True)
    lines = [rollout.reason] if rollout.reason else []
    if rollout.paused:
        lines.append(f"paused: {rollout.paused}; `headrace rollout resume` lets automation go on")
    if rollout.assignment:
        lines.append(f"A/B test: users are kept by {rollout.assignment}")
    if rollout.strays:
        lines.append(f"gets requests and should not: {', '.join(rollout.strays)}")
    if rollout.previous and not rollout.candidate:
        lines.append(f"rollback returns to {rollout.previous}")
    for line in lines:
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)


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
    # A name that is cut cannot be copied: a narrow terminal wraps the line instead.
    console.print(table, width=max(console.width, console.measure(table).maximum), soft_wrap=True)
    for row in revisions:
        if row["message"]:
            console.print(f"{row['revision']}: {row['message']}", highlight=False, markup=False)
