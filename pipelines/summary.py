"""What a person sees when a run has ended."""

import json

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components.common.environment import Environment
from components.common.recipes import Recipe
from pipelines.line import LineRun
from pipelines.rehearse import Rehearsal, describe

SNIPPET = """from openai import OpenAI

client = OpenAI(base_url="{gateway}/openai/v1", api_key="unused")
question = {{"role": "user", "content": {question}}}
answer = client.chat.completions.create(model="{model}", messages=[question])
print(answer.choices[0].message.content)"""
NEXT = "headrace chat · headrace rollout status · headrace ledger verify · headrace serve down"


def print_summary(console: Console, finished: LineRun, recipe: Recipe, environment: Environment) -> None:
    """Print the outcome, the observed split in every phase, and what to type next."""
    console.print()
    if finished.rehearsal:
        console.print(_split(finished.rehearsal))
    console.print(f"[bold green]{finished.decision}[/]  {escape(finished.verdict)}", soft_wrap=True)
    stable, share = finished.rollout.stable, 100 - finished.rollout.observed
    gateway, service = environment.serving.gateway, recipe.release.publish.name
    console.print(
        f"[bold]served[/]   {service}: {stable} answers {share} % of the requests, at {gateway}", soft_wrap=True
    )
    console.print(f"[bold]took[/]     {_duration(finished.seconds)}")
    snippet = SNIPPET.format(gateway=gateway, model=service, question=json.dumps(finished.question, ensure_ascii=False))
    # Neither framed nor wrapped: it is there to be copied.
    console.print(f"[bold]from any OpenAI client[/]\n\n{escape(snippet)}\n", soft_wrap=True)
    sealed = f"; `headrace unseal {finished.report} report.html --why …`" if environment.encryption else ""
    console.print(f"[bold]report[/]   {escape(f'{finished.report}{sealed}')}", soft_wrap=True)
    console.print(f"[bold]next[/]     {NEXT}", soft_wrap=True)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} minutes"


def _split(rehearsal: Rehearsal) -> Table:
    failed = f"{rehearsal.failed} of {len(rehearsal.samples)} requests failed"
    table = Table(title=f"Rollout of {rehearsal.candidate}: {failed}")
    table.add_column("phase", no_wrap=True)
    for column in ("requests", "canary % wanted", "observed", "p50 s stable", "canary"):
        table.add_column(column, justify="right")
    for window in rehearsal.windows:
        stable, canary = describe(window, rehearsal)
        cells = [len(window.samples), canary["wanted %"], canary["observed %"], stable["p50 s"], canary["p50 s"]]
        table.add_row(window.name, *(str(cell) for cell in cells))
    return table
