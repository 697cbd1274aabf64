"""The `headrace` command."""

import dataclasses
import importlib
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from components.common.errors import HeadraceError, Interrupted, UsageError, machine_trouble

if TYPE_CHECKING:
    from components.common.environment import Environment
    from components.common.ledger import Ledger

app = typer.Typer(
    name="headrace",
    help="From documents to a language model that is served, watched and can be rolled back.",
    epilog="Exit codes: 0 done, 1 the work failed, 2 wrong usage, 3 a gate said no, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
ledger_app = typer.Typer(help="Verify and search the hash-chained record of every step.", no_args_is_help=True)
new_app = typer.Typer(help="Start something new in the project.", no_args_is_help=True)
app.add_typer(ledger_app, name="ledger")
app.add_typer(new_app, name="new")

console = Console(highlight=False)

Home = Annotated[Path, typer.Option(help="Folder for local state.")]
DEFAULT_HOME = Path(".headrace")
SOURCES = Path(__file__).parent / "recipes" / "sources.yaml"
EnvironmentName = Annotated[
    str, typer.Option("--environment", "-e", help="A file, or the name of one in pipelines/environments.")
]


def main() -> None:
    """Run the command; a person's mistake is one line, an exit code and no traceback."""
    try:
        app()
    except HeadraceError as error:
        _complain(str(error), error.exit_code)
    except OSError as error:
        trouble = machine_trouble(error)
        if not trouble:
            raise
        _complain(trouble, HeadraceError.exit_code)


def _complain(message: str, exit_code: int) -> NoReturn:
    Console(stderr=True, highlight=False).print(f"[bold red]headrace:[/] {escape(message)}", soft_wrap=True)
    sys.exit(exit_code)


@app.command()
def run(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Recipe overrides, such as model.tune.epochs=3.")
    ] = None,
    docs: Annotated[Path | None, typer.Option(help="Use the documents in this folder as the corpus.")] = None,
    recipe: Annotated[str, typer.Option(help="A recipe file, or the name of one in pipelines/recipes.")] = "default",
    environment: EnvironmentName = "local",
    home: Home = DEFAULT_HOME,
) -> None:
    """Run the whole line on this machine: documents to a served model.

    Steps that were done before with the same code, options and inputs are reused. The model stays served for
    `headrace chat` until `headrace serve down`.
    """
    from pipelines.display import Display
    from pipelines.line import run_line
    from pipelines.recipe import local_recipe
    from pipelines.summary import print_summary

    place = _load(environment, home)
    chosen = local_recipe(recipe, overrides or [], docs)
    try:
        with Display() as display:
            finished = run_line(chosen, place, display)
    except KeyboardInterrupt as error:
        raise Interrupted("interrupted; what was finished is kept, run again to go on") from error
    print_summary(console, finished, chosen, place)


@app.command()
def chat(
    prompt: Annotated[str, typer.Argument(help="Ask once and exit; without it a conversation begins.")] = "",
    service: Annotated[str, typer.Option(help="Name of the served model.")] = "",
    environment: EnvironmentName = "local",
    home: Home = DEFAULT_HOME,
) -> None:
    """Talk to the served model."""
    from components.release.rollout import connect
    from serving.chat import chat as talk

    place = _load(environment, home)
    talk(f"{place.serving.gateway}/openai/v1", connect(place, service).service, prompt)


@app.command("compile")
def compile_(
    check: Annotated[bool, typer.Option("--check", help="Fail if the committed YAML is stale.")] = False,
) -> None:
    """Compile the pipelines to pipelines/compiled/*.yaml, the same bytes on every machine."""
    from pipelines.compile import COMPILED, check_compiled, write_compiled

    if check:
        check_compiled()
        console.print(f"{COMPILED.name}: current")
        return
    changed = write_compiled()
    for path in changed:
        console.print(f"wrote {path.name}")
    if not changed:
        console.print("nothing changed")


@app.command()
def step(
    name: Annotated[str, typer.Argument(help="AREA/NAME; without it the steps are listed.")] = "",
    inputs: Annotated[list[str] | None, typer.Option("--in", help="name=DIR, once per input.")] = None,
    outputs: Annotated[list[str] | None, typer.Option("--out", help="name=DIR, once per output.")] = None,
    options: Annotated[list[str] | None, typer.Option("--set", help="key=value, once per option.")] = None,
    environment: EnvironmentName = "local",
    home: Home = DEFAULT_HOME,
) -> None:
    """Run any one step on its own; with only a name, say what it takes."""
    from pipelines import single

    if not name:
        for known in single.step_names():
            console.print(known)
    elif not inputs and not outputs:
        console.print(escape(single.describe_step(name)))
    else:
        metrics = single.run_single(
            name,
            {key: Path(value) for key, value in single.parse_pairs(inputs or [], "--in").items()},
            {key: Path(value) for key, value in single.parse_pairs(outputs or [], "--out").items()},
            single.parse_options(options or []),
            _load(environment, home),
        )
        console.print_json(json.dumps(metrics))


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="JSON Lines; each line an object with at least `text`.")],
    directory: Annotated[Path, typer.Argument(help="Where to write the documents.")],
    source: Annotated[str, typer.Option(help="Id of a declared source.")],
    sources: Annotated[
        Path, typer.Option(help="The file that declares it.", show_default="sources.yaml of the recipes")
    ] = SOURCES,
) -> None:
    """Turn JSON Lines into documents of a declared source."""
    from components.data.jsonl import import_jsonl
    from components.data.sources import load_sources

    declared = {known.id: known for known in load_sources(sources)}
    if source not in declared:
        raise UsageError(f"{sources}: no source {source!r} is declared; declared: {', '.join(declared)}")
    count = import_jsonl(file, directory, declared[source])
    console.print(f"{count:,} documents of {source} in {directory}")


@app.command()
def doctor(
    environment: EnvironmentName = "local",
    home: Home = DEFAULT_HOME,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> None:
    """Say what this machine, or an environment's cluster, lacks, and what to do about it.

    ✓ is in order, ✗ must be mended, ! could not be seen or may hurt later.
    """
    place = _load(environment, home)
    cluster = place.serving.mode != "plane"
    examiner = importlib.import_module("pipelines.cluster_doctor" if cluster else "pipelines.doctor")
    with console.status("looking …") if not as_json else nullcontext():
        findings = examiner.examine(place)
    bad = [finding for finding in findings if finding.mark == "✗"]
    if as_json:
        listed = [dataclasses.asdict(finding) for finding in findings]
        typer.echo(json.dumps({"environment": place.name, "ok": not bad, "findings": listed}, ensure_ascii=False))
        raise typer.Exit(bool(bad))
    colours = {"✓": "green", "✗": "red", "!": "yellow"}
    for finding in findings:
        advice = f"  →  {finding.fix}" if finding.fix else ""
        mark = f"[{colours[finding.mark]}]{finding.mark}[/]"
        console.print(f"{mark} {escape(finding.what + advice)}", soft_wrap=True)
    if bad:
        whose = f"the cluster of {place.name}" if cluster else "this machine"
        raise HeadraceError(f"{whose} lacks something; the lines marked ✗ say what to do")


@app.command()
def reference(
    check: Annotated[bool, typer.Option("--check", help="Fail if a generated table is stale.")] = False,
) -> None:
    """Write the recipe reference and every step's parameter table from the code."""
    from pipelines.reference import check_reference, write_reference

    if check:
        check_reference()
        console.print("reference: current")
        return
    for path in write_reference():
        console.print(f"wrote {path}")


@ledger_app.command()
def verify(environment: EnvironmentName = "local", home: Home = DEFAULT_HOME) -> None:
    """Check every entry, link, signature and every byte of every recorded artifact, and the audit log's chain."""
    from components.common import audit
    from components.common.ledger import Finding

    ledger = _ledger(environment, home)
    with console.status("hashing every recorded artifact …"):
        findings = ledger.verify() + [Finding("audit log", problem) for problem in audit.verify(ledger.store)]
        count = sum(1 for _ in ledger.entries())
    for finding in findings:
        console.print(f"[red]✗[/] {escape(f'{finding.subject}: {finding.problem}')}", soft_wrap=True)
    if findings:
        raise HeadraceError(f"the ledger does not hold: {len(findings)} finding{'s' * (len(findings) > 1)}")
    if not count:
        raise HeadraceError(f"there is no ledger in {home} yet; `headrace run` makes one")
    console.print(f"[green]✓[/] {count} entries, their links, signatures and artifacts hold")


@ledger_app.command("audit")
def audit_(
    source: Annotated[str, typer.Option(help="Only readings of records of this declared source.")] = "",
    artifact: Annotated[str, typer.Option(help="Only readings of artifacts whose address holds this.")] = "",
    who: Annotated[str, typer.Option(help="Only readings by accounts or users whose name holds this.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a record a line.")] = False,
    environment: EnvironmentName = "local",
    home: Home = DEFAULT_HOME,
) -> None:
    """Show who read confidential or restricted records, when, with what and why; exits with 1 for a broken chain."""
    from components.common import audit
    from components.common.sealed_store import store_of

    store = store_of(_load(environment, home))
    table = Table("when", "who", "with", "of", "records", "why")
    table.columns[0].no_wrap, table.columns[3].overflow = True, "fold"
    for read in audit.records(store):
        if (source and source not in read["sources"]) or artifact not in read["artifact"] or who not in read["who"]:
            continue
        if as_json:
            typer.echo(json.dumps(read, ensure_ascii=False))
            continue
        counts = "\n".join(f"{number:,} {name}" for name, number in sorted((read["grades"] | read["sources"]).items()))
        table.add_row(
            read["at"][:16].replace("T", " "),
            *(escape(read[name]) for name in ("who", "what", "artifact")),
            escape(counts),
            escape(read["why"]),
        )
    if not as_json:
        console.print(table)
    if problems := audit.verify(store):
        raise HeadraceError(f"the audit log does not hold: {problems[0]}")


@ledger_app.command("trace")
def trace_(
    subject: Annotated[str, typer.Argument(help="A document id, version, served revision or entry; 8 characters do.")],
    documents: Annotated[
        bool, typer.Option("--documents", help="Print the ids of all documents it was made from, one a line.")
    ] = False,
    environment: EnvironmentName = "local",
    home: Home = DEFAULT_HOME,
) -> None:
    """Show what something was made from, and every dataset, model and served revision it went into."""
    from components.common.trace import Link, documents_of, trace

    ledger = _ledger(environment, home)
    answer = trace(ledger, subject)
    if documents:
        typer.echo("\n".join(documents_of(ledger, answer)))
        return
    tree = Tree(f"[bold]{answer.kind}[/] {escape(subject)}")

    def grow(title: str, links: list[Link]) -> None:
        branch = tree.add(f"[bold]{title}[/]" + ("" if links else ": nothing"))
        for link in links:
            heads = f"  [green]{', '.join(map(_short, link.heads))}[/]" if link.heads else ""
            note = f"  {link.note}" if link.note else ""
            branch.add(f"{link.stage}  [dim]{link.entry[:12]}[/]{note}{heads}")

    grow("made from", answer.made_from)
    grow("found in" if answer.kind == "document" else "made by", answer.found)
    grow("went into", answer.went_into)
    console.print(tree, soft_wrap=True)
    for kind, name in (("datasets", "datasets"), ("models", "models"), ("publications", "served revisions")):
        if heads := answer.heads(kind):
            console.print(
                f"[bold]{name}[/] {', '.join(_short(head.partition('/')[2]) for head in heads)}", soft_wrap=True
            )


@ledger_app.command()
def key(
    out: Annotated[Path | None, typer.Option(help="File to write; printed if not given.")] = None,
    environment: EnvironmentName = "local",
    home: Home = DEFAULT_HOME,
) -> None:
    """Give the public key that checks what this ledger signs; hand it to whoever is to check proofs."""
    pem = _ledger(environment, home).public_key()
    if out:
        _write(out, pem)
    else:
        typer.echo(pem.decode(), nl=False)


@ledger_app.command()
def prove(
    document: Annotated[str, typer.Argument(help="Id of a document, all 64 characters.")],
    dataset: Annotated[str, typer.Option(help="datasets/NAME/HASH; 8 characters of the hash do.")],
    out: Annotated[Path, typer.Option(help="File to write the proof to.")],
    environment: EnvironmentName = "local",
    home: Home = DEFAULT_HOME,
) -> None:
    """Prove that a document was, or was not, in a dataset version; `headrace ledger check` needs no store to check it.

    The proof holds the version's signed head, its ledger entry, and the path from the document's leaf to the Merkle
    root, or of the two neighbours between which it would be.
    """
    from components.common.proof import check as check_proof
    from components.common.proof import prove as make_proof

    ledger = _ledger(environment, home)
    proof = make_proof(ledger, document, dataset)
    _write(out, proof)
    shown = check_proof(proof, ledger.verify_key())
    console.print(f"{'in' if shown.inside else 'not in'} {shown.version}; check it anywhere with:", soft_wrap=True)
    console.print(f"  headrace ledger check {escape(str(out))} --key ledger.pub", soft_wrap=True)


@ledger_app.command()
def check(
    proof: Annotated[Path, typer.Argument(help="File that `headrace ledger prove` wrote.")],
    public: Annotated[Path, typer.Option("--key", help="The ledger's public key, from `headrace ledger key`.")],
) -> None:
    """Check a proof with nothing but the file and the ledger's public key; exits with 1 if it does not hold."""
    from components.common.ledger import read_public_key
    from components.common.proof import check as check_proof
    from components.common.proof import read_proof

    shown = check_proof(read_proof(proof), read_public_key(read_proof(public), str(public)))
    word = "was in" if shown.inside else "was not in"
    console.print(
        f"[green]✓[/] document {shown.document} {word} {shown.version} ({shown.records:,} records, "
        f"signed {shown.signed_at[:10]})",
        soft_wrap=True,
    )


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(data)
    partial.rename(path)


def _short(head: str) -> str:
    """A version by the first characters of its hash, as many as a revision's name has."""
    name, _, version = head.rpartition("/")
    return f"{name}/{version[:14]}"


@new_app.command("step")
def new_step(name: Annotated[str, typer.Argument(help="AREA/NAME of the new step.")]) -> None:
    """Scaffold a step: interface, options, work, README and test."""
    from pipelines.scaffold import scaffold_step

    for path in scaffold_step(name):
        console.print(f"wrote {path}")


def _load(name: str, home: Path) -> "Environment":
    from components.common.environment import load_environment

    return load_environment(name, home)


def _ledger(name: str, home: Path) -> "Ledger":
    from components.common.ledger import open_ledger

    return open_ledger(_load(name, home))


def _mount() -> None:
    serving = importlib.import_module("serving.cli")
    app.add_typer(importlib.import_module("pipelines.gc").gc_app, name="gc")
    app.add_typer(importlib.import_module("pipelines.erase_cli").erase_app, name="erase")
    keys = importlib.import_module("pipelines.keys_cli")
    app.add_typer(keys.keys_app, name="keys")
    app.add_typer(keys.unseal_app)
    app.add_typer(importlib.import_module("pipelines.unmask_cli").unmask_app, name="unmask")
    app.add_typer(serving.serve_app, name="serve")
    app.add_typer(serving.rollout_app, name="rollout")
    app.add_typer(serving.models_app, name="models")
    app.add_typer(importlib.import_module("pipelines.release_cli").release_app)
    app.add_typer(importlib.import_module("pipelines.probe_cli").probe_app)
    app.add_typer(importlib.import_module("pipelines.evaluate_cli").evaluate_app)
    app.add_typer(importlib.import_module("pipelines.ratings_cli").ratings_app, name="ratings")
    app.add_typer(importlib.import_module("pipelines.dashboard_cli").dashboard_app)
    app.add_typer(importlib.import_module("pipelines.rebuild_cli").rebuild_app)
    app.add_typer(importlib.import_module("pipelines.cluster_cli").app)
    app.add_typer(importlib.import_module("pipelines.backup_cli").app)
    app.add_typer(importlib.import_module("pipelines.images_cli").images_app, name="images")


_mount()

if __name__ == "__main__":
    main()
