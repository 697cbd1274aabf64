"""What a person sees when a run has ended."""

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from components.common.environment import Environment
from components.common.recipes import Recipe
from pipelines.line import LineRun
from pipelines.rehearse import describe

SNIPPET = """from openai import OpenAI

client = OpenAI(base_url="{gateway}/openai/v1", api_key="unused")
question = [{{"role": "user", "content": "{question}"}}]
print(client.chat.completions.create(model="{model}", messages=question).choices[0].message.content)"""


def print_summary(console: Console, finished: LineRun, recipe: Recipe, environment: Environment) -> None:
    """Print the outcome, the observed split in every phase, and what to type next."""
    console.print()
    if finished.rehearsal:
        console.print(_split(finished))
    console.print(f"[bold green]{finished.decision}[/]: {finished.verdict}")
    console.print(
        f"{finished.rollout.stable} serves {100 - finished.rollout.observed} % of the requests to "
        f"{recipe.release.publish.name} at {environment.serving.gateway}  ({finished.seconds / 60:.1f} minutes)"
    )
    snippet = SNIPPET.format(
        gateway=environment.serving.gateway, model=recipe.release.publish.name, question=_question(recipe)
    )
    console.print(Panel(snippet, title="from any OpenAI client", expand=False))
    console.print(f"report  {finished.report}", soft_wrap=True)
    console.print("next    headrace chat · headrace rollout status · headrace ledger verify · headrace serve down")


def _question(recipe: Recipe) -> str:
    packages = any(source.location.startswith("packages:") for source in recipe.data.ingest.sources)
    return "Under which licence is pydantic released?" if packages else "What is in the documents?"


def _split(finished: LineRun) -> Table:
    rehearsal = finished.rehearsal
    assert rehearsal is not None
    table = Table(title=f"Rollout: {rehearsal.failed} of {len(rehearsal.samples)} requests failed")
    for column in ("phase", "revision", "wanted %", "observed %", "requests", "p50 s", "p95 s"):
        table.add_column(column, justify="left" if column in ("phase", "revision") else "right")
    for window in rehearsal.windows:
        for row in describe(window, rehearsal):
            table.add_row(*(str(value) for value in row.values()))
        table.add_section()
    return table
