"""`headrace rebuild`: a thin call of the rebuild's function."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from components.common.environment import load_environment
from components.common.errors import Interrupted

rebuild_app = typer.Typer()

console = Console(highlight=False)

EXIT = {"reproduced": 0, "cannot": 1, "differs": 3}
"""Exit code by result."""


@rebuild_app.command()
def rebuild(
    run: Annotated[
        str,
        typer.Argument(help="Id or name of a training run, or models/NAME/HASH; without it, how earlier ones went."),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    environment: Annotated[
        str, typer.Option("--environment", "-e", help="A file, or the name of one in pipelines/environments.")
    ] = "local",
    home: Annotated[Path, typer.Option(help="Folder for local state.")] = Path(".headrace"),
) -> None:
    """Train again from a run's record and compare the bytes that come out.

    What went in is taken from the store by the digests that the run
    recorded, whatever became of the folders it lay in. Code, libraries and
    machine are compared with those of then, and what differs is said
    before the bytes are. The signed result is kept below rebuilds/ in the
    store.

    By the name that the report of model/tune and the model card give:

      headrace rebuild tune-4f0c9f6a1b2c

    By the version that was made of it:

      headrace rebuild models/assistant/3f9d...

    How many of all rebuilt runs gave the same bytes:

      headrace rebuild

    Exit codes: 0 the same bytes, 1 it cannot be made again, 3 other bytes.
    """
    place = load_environment(environment, home)
    if not run:
        _summary(as_json, environment, home)
        return
    import json
    from dataclasses import asdict

    from components.model.rebuild.again import rebuild as again

    try:
        rebuilt, key = again(place, run, (lambda line: None) if as_json else _say)
    except KeyboardInterrupt as error:
        raise Interrupted("interrupted; nothing was recorded") from error
    if as_json:
        typer.echo(json.dumps({**asdict(rebuilt), "key": key}, ensure_ascii=False))
    else:
        for difference in rebuilt.differences:
            _say(f"not as then: {difference}")
        for reason in rebuilt.reasons:
            _say(reason)
        if rebuilt.largest_difference > 0:
            _say(f"largest difference of a weight: {rebuilt.largest_difference:.3g}")
        colour = {"reproduced": "green", "cannot": "red", "differs": "yellow"}[rebuilt.result]
        console.print(f"[{colour}]{rebuilt.result}[/] {escape(rebuilt.name)}  {escape(key)}", soft_wrap=True)
    raise typer.Exit(EXIT[rebuilt.result])


def _summary(as_json: bool, environment: str, home: Path) -> None:
    import json

    from components.common.sealed_store import store_of
    from components.model.rebuild.results import read_rebuilds

    found = read_rebuilds(store_of(load_environment(environment, home)))
    if as_json:
        counts = {str(result): count for result, count in found.counts.items()}
        typer.echo(json.dumps({"runs": found.runs, **counts, "share": found.share, "interval": list(found.interval)}))
        return
    if not found.runs:
        _say("no run was rebuilt yet; `headrace rebuild RUN` does it")
        return
    low, high = found.interval
    counted = ", ".join(f"{count} {result}" for result, count in found.counts.items())
    _say(f"{found.runs} runs rebuilt: {counted}; {found.share:.0%} the same bytes [{low:.0%}, {high:.0%}]")
    for result in found.newest:
        _say(f"{result['signed_at'][:16]}  {result['result']:<10}  {result['name']}")


def _say(text: str) -> None:
    console.print(escape(text), soft_wrap=True)
