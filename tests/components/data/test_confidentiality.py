"""What is above the ceiling goes no further than its source."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from components.common.environment import Environment
from components.common.errors import UsageError
from components.common.recipes import check_recipe, parts
from pipelines.single import run_single

CANARY = "carmine-otter-{}"
STEPS = [
    ("parse", "documents", "parsed"),
    ("screen", "parsed", "allowed"),
    ("mask", "allowed", "masked"),
    ("filter", "masked", "kept"),
    ("deduplicate", "kept", "unique"),
    ("mix", "unique", "mixed"),
    ("card", "mixed", "dataset"),
]


@pytest.fixture
def holds(tmp_path: Path) -> Callable[[Path, str], bool]:
    """Tell whether any file below a folder, Parquet decoded, holds some words."""
    import pyarrow.parquet as pq

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
    ]
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
        run_single(f"data/{step}", {"documents": work / taken}, {made: work / made}, options[step], environment)
    printed = "".join(capfd.readouterr())
    assert holds(work / "dataset", CANARY.format("seen"))
    for what in ("name", "restricted", "field", "row", "url", "kind", "time"):
        canary = CANARY.format(what)
        assert not holds(work, canary), canary
        assert not holds(Path(environment.store.removeprefix("file://")), canary), canary
        assert canary not in printed, canary
    page = (work / "documents.html").read_text()
    assert "More confidential than internal" in page
    assert "plans" in page


def test_the_ceiling_is_one_and_steps_may_only_be_stricter():
    options = parts(check_recipe({"data": {"max_confidentiality": "confidential"}}, "recipe"))
    assert {options[step]["max_confidentiality"] for step in ("ingest", "screen")} == {"confidential"}
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
