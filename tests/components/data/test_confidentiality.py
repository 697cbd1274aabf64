"""What is above the ceiling goes no further than its source."""

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.common.environment import Environment
from components.common.errors import UsageError
from components.common.recipes import check_recipe, parts
from components.evaluation.benchmark.items import read_questions
from pipelines.single import run_single

CANARY = "carmine-otter-{}"
STEPS = [
    ("parse", "documents", "parsed"),
    ("screen", "parsed", "allowed"),
    ("mask", "allowed", "masked originals"),
    ("filter", "masked", "kept"),
    ("deduplicate", "kept", "unique"),
    ("mix", "unique", "mixed"),
    ("card", "mixed", "dataset"),
]


@pytest.fixture
def holds(tmp_path: Path) -> Callable[[Path, str], bool]:
    """Tell whether any file below a folder, Parquet decoded, holds some words."""

    def look(folder: Path, words: str) -> bool:
        for file in folder.rglob("*"):
            if not file.is_file():
                continue
            content = file.read_bytes()
            if file.suffix == ".parquet":
                content += repr(pq.read_table(file).to_pylist()).encode()
            if words.encode() in content or words in file.as_posix():
                return True
        return False

    return look


def test_no_record_above_the_ceiling_reaches_an_artifact_a_report_or_a_log(tmp_path, environment, holds, capfd):
    secret, mixed = tmp_path / "secret", tmp_path / "mixed"
    secret.mkdir()
    mixed.mkdir()
    (secret / f"{CANARY.format('name')}.md").write_text(f"# {CANARY.format('restricted')}\n\n" + "Plans. " * 40)
    (secret / "broken.jsonl").write_text(f'{{"{CANARY.format("field")}": 1}}\n')
    words = "Water leaves the river at the weir and runs along the head race to the wheel of the mill, which it turns. "
    words += "Whoever looks after the gate decides how much of it may pass, and writes the height down every morning."
    rows = [
        {"text": f"{words} {CANARY.format('seen')}", "url": "https://a.example/1"},
        {"text": f"{words} {CANARY.format('row')}", "url": CANARY.format("url"), "confidentiality": "confidential"},
        {"text": "x", "confidentiality": "restricted", "kind": CANARY.format("kind")},
        {"text": "x", "confidentiality": "restricted", "retrieved_at": CANARY.format("time")},
        {"text": "x", "confidentiality": "restricted", CANARY.format("own-field"): "x"},
    ]
    row = {"text": ["x"], "url": [CANARY.format("parquet")], "confidentiality": ["restricted"], "license": [1]}
    pq.write_table(pa.table(row), mixed / "rows.parquet")
    (mixed / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    common = {"owner": "me", "license": "LicenseRef-in-house", "class": "in_house", "pii": "none"}
    recipe = check_recipe(
        {
            "data": {
                "max_confidentiality": "internal",
                "ingest": {
                    "max_quarantined_share": 0.9,
                    "sources": [
                        common | {"id": "plans", "location": str(secret), "confidentiality": "restricted"},
                        common | {"id": "mixed", "location": str(mixed)},
                    ],
                },
                "filter": {"min_characters": 1},
                "mix": {"weights": {}},
            }
        },
        "recipe",
    )
    options = parts(recipe)
    work = tmp_path / "work"
    run_single("data/ingest", {}, {"documents": work / "documents"}, options["ingest"], environment)
    for step, taken, made in STEPS:
        run_single(
            f"data/{step}",
            {"documents": work / taken},
            {name: work / name for name in made.split()},
            options[step],
            environment,
        )
    printed = "".join(capfd.readouterr())
    assert holds(work / "dataset", CANARY.format("seen"))
    for what in ("name", "restricted", "field", "row", "url", "kind", "time", "own-field", "parquet"):
        canary = CANARY.format(what)
        assert not holds(work, canary), canary
        assert not holds(Path(environment.store.removeprefix("file://")), canary), canary
        assert canary not in printed, canary
    assert not (work / "documents" / "quarantine.jsonl").read_text()  # nor where it is, nor what is wrong with it
    page = (work / "documents.html").read_text()
    assert "More confidential than internal" in page
    assert "plans" in page


def test_what_a_recipe_admits_but_must_not_show_is_in_no_report_and_no_log(tmp_path, environment, holds, capfd):
    words = "Water leaves the river at the weir and runs along the head race to the wheel of the mill, which it turns. "
    shown, secret = CANARY.format("shown"), CANARY.format("admitted")
    woods = "oak elm ash beech larch pine cedar yew birch maple walnut chestnut alder".split()  # noqa: SIM905

    places = count()

    def asked(name: str, number: int) -> str:
        return f"Who minds gate {name} {number} when the water of the river is high in the {woods[number]} mill race?"

    facts = [
        {
            "text": f"# Gate {name} {number}\n\n{name} {number} is lifted by hand.\n\nQ: {asked(name, number)}\n"
            f"A: Miller {name} {number}.\n\n{words}It was built in {1800 + 7 * number} of {woods[number]}, and the "
            f"{woods[-number]} stairs beside it lead down to the {woods[number // 2]} landing where boats are tied up.",
            "url": f"{level}-{next(places)}",
            "confidentiality": level,
            "pii": "none",
            "metadata": {"format": "markdown"},
            "messages": [
                {"role": "user", "content": f"What does gate {name} {number} hold back?"},
                {"role": "assistant", "content": f"Gate {name} {number} holds back the {name} water of the river."},
            ],
        }
        for level, name in (("internal", shown), ("confidential", secret))
        for number in [*range(12), 0]
    ]
    lines = tmp_path / "docs"
    lines.mkdir()
    (lines / "rows.jsonl").write_text("\n".join(json.dumps(fact) for fact in facts))
    source = {
        "id": "mine",
        "location": str(lines),
        "owner": "me",
        "license": "LicenseRef-in-house",
        "class": "in_house",
    }
    sets = [{"name": "kept", "location": str(tmp_path / "kept.jsonl")}]
    held_out = [{"question": asked(name, 3), "answer": f"Miller {name} 3."} for name in (shown, secret)]
    (tmp_path / "kept.jsonl").write_text("\n".join(map(json.dumps, held_out)))
    recipe = {
        "data": {
            "max_confidentiality": "confidential",
            "ingest": {"sources": [source]},
            "filter": {
                "min_characters": 1,
                "repetition": {"max_top_ngrams": [1, 1, 1], "max_duplicate_ngrams": [1] * 6},
            },
            "deduplicate": {"threshold": 0.95},
            "decontaminate": {"sets": sets},
            "mix": {"weights": {}},
        },
        "model": {"curate": {"minimum": 1}},
    }
    options = parts(check_recipe(recipe, "recipe"))
    work = tmp_path / "work"
    run_single("data/ingest", {}, {"documents": work / "documents"}, options["ingest"], environment)
    chain = [*STEPS[:-2], ("decontaminate", "unique", "clean"), ("mix", "clean", "mixed"), STEPS[-1]]
    for step, taken, made in chain:
        run_single(
            f"data/{step}",
            {"documents": work / taken},
            {name: work / name for name in made.split()},
            options[step],
            environment,
        )
    made = {name: work / name for name in ("pairs", "questions", "outsiders")}
    run_single("data/curate", {"dataset": work / "dataset"}, made, options["curate"], environment)
    assert holds(work / "pairs", secret)
    pages = sorted(work.glob("*.html"))
    assert len(pages) == len(chain) + 2
    assert [page.name for page in pages if secret in page.read_text()] == []
    assert any(shown in page.read_text() for page in pages)
    assert not any(secret in path.read_text() for path in (work / "dataset").glob("card.*"))
    found = read_questions(work / "questions").questions
    assert {secret in question.question for question in found if not question.quotable} == {True}
    assert {secret in question.question for question in found if question.quotable} == {False}
    assert secret not in "".join(capfd.readouterr())

    laxer = parts(check_recipe({"model": {"curate": {"minimum": 1}}}, "recipe"))["curate"]
    again = {name: work / f"{name}-again" for name in made}
    metrics = run_single("data/curate", {"dataset": work / "dataset"}, again, laxer, environment)
    assert metrics["dropped_confidential"] > 0
    assert holds(again["pairs"], shown)
    assert not holds(again["pairs"], secret)


def test_the_ceiling_is_one_and_steps_may_only_be_stricter():
    options = parts(check_recipe({"data": {"max_confidentiality": "confidential"}}, "recipe"))
    assert {options[step]["max_confidentiality"] for step in ("ingest", "screen", "curate")} == {"confidential"}
    stricter = {"data": {"max_confidentiality": "confidential", "screen": {"max_confidentiality": "public"}}}
    assert parts(check_recipe(stricter, "recipe"))["screen"]["max_confidentiality"] == "public"
    again = check_recipe(check_recipe(stricter, "recipe").parameter(), "recipe")
    assert again == check_recipe(stricter, "recipe")
    laxer = {"data": {"screen": {"max_confidentiality": "restricted"}}}
    with pytest.raises(UsageError, match=r"screen\.max_confidentiality is restricted, above the ceiling internal"):
        check_recipe(laxer, "recipe")


def test_a_source_above_the_ceiling_is_not_even_opened(environment: Environment, tmp_path: Path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# Open")
    common = {"owner": "me", "license": "MIT"}
    sources = [
        common | {"id": "gone", "location": str(tmp_path / "not there"), "confidentiality": "confidential"},
        common | {"id": "docs", "location": str(tmp_path / "docs")},
    ]
    metrics = run_single("data/ingest", {}, {"documents": tmp_path / "out"}, {"sources": sources}, environment)
    assert (metrics["records_out"], metrics["dropped_confidential"]) == (1, 1)
