"""`headrace probe`: a thin call of the probe's function."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components.common.environment import load_environment
from components.common.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from pipelines.probing import Probed

probe_app = typer.Typer()

console = Console(highlight=False)


@probe_app.command()
def probe(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Recipe overrides, such as probe.seeds=5 or model.tune.epochs=4.")
    ] = None,
    present: Annotated[
        str, typer.Option(help="Dataset version in use, as NAME/HASH; 8 characters of the hash do.")
    ] = "",
    proposed: Annotated[str, typer.Option(help="Dataset version with the new data.")] = "",
    ablation: Annotated[
        bool,
        typer.Option(
            "--ablation", help="Compare model.curate.selection with a choice by lot of the same size, out of --present."
        ),
    ] = False,
    recipe: Annotated[str, typer.Option(help="A recipe file, or the name of one in pipelines/recipes.")] = "default",
    environment: Annotated[
        str, typer.Option("--environment", "-e", help="A file, or the name of one in pipelines/environments.")
    ] = "local",
    home: Annotated[Path, typer.Option(help="Folder for local state.")] = Path(".headrace"),
) -> None:
    """Say what new data is worth before a release is made of it.

    The base model is trained on both dataset versions, with the same
    settings and several seeds, and asked the same questions in wordings
    that neither was trained on. The report has loss curves, perplexity of
    facts that neither knows, correctness, hallucination and format with
    intervals, the change for each unit of probe.costs, and what to collect
    next.

    What the new documents are worth, if one of a ticket costs half an hour:

      headrace probe --present corpus/0a1b2c3d --proposed corpus/4e5f6a7b \\
        probe.unit=hour \\
        'probe.costs=[{source: "tickets/*", document: 0.5}]'

    Whether training pairs chosen by score beat as many chosen by lot:

      headrace probe --present corpus/0a1b2c3d --ablation \\
        model.curate.selection=scored

    Interrupted, it goes on with the next training when it is run again.
    One more seed trains that seed only.
    """
    from pipelines.display import Display
    from pipelines.probing import run_probe
    from pipelines.recipe import local_recipe

    if not present or bool(proposed) == ablation:
        raise UsageError(
            "give --present NAME/HASH, and either --proposed NAME/HASH or --ablation; `headrace ledger trace HASH` and "
            "the data card name versions"
        )
    compare = "selection" if ablation else "versions"
    chosen = local_recipe(recipe, [*(overrides or []), f"probe.compare={compare}"])
    try:
        with Display() as display:
            probed = run_probe(chosen, present, proposed or present, load_environment(environment, home), display)
    except KeyboardInterrupt as error:
        raise Interrupted("interrupted; finished trainings are kept, run again to go on") from error
    _print(probed)


def _print(probed: "Probed") -> None:
    summary = probed.record["summary"]
    table = Table(*map(escape, summary["columns"]))
    for row in summary["rows"]:
        table.add_row(*map(escape, row))
    console.print()
    console.print(table)
    console.print(f"[bold]{probed.record['decision']}[/]  {escape(probed.record['sentence'])}", soft_wrap=True)
    console.print(f"[bold]next[/]     {escape(probed.record['recommendation'])}", soft_wrap=True)
    console.print(f"[bold]report[/]   {escape(str(probed.report))}", soft_wrap=True)
    console.print(f"[bold]evidence[/] {escape(str(probed.evidence))}", soft_wrap=True)
