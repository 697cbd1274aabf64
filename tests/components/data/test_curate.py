"""Facts become questions whose answers the documents give, and evaluation never asks what training asked."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.common.documents import read_table
from components.common.environment import Environment
from components.common.errors import HeadraceError
from components.common.ledger import artifact_files
from components.data.curate.facts import find_facts, sections
from components.data.curate.wordings import Fact, Kind
from pipelines.single import run_single

MANUAL = """# Pump manual

Some words about the pump that nobody asks about.

## Opening hours

The office opens at nine. Come early.

## How often must the filter be changed?

Every three months. More in dust.

## 1.2. Torque

| bolt | torque | note |
| ---- | -----: | ---- |
| M8 | 25 Nm | dry |
| M10 | 49 Nm | |

## Parts

- not a sentence, a list

## Code

```
# Not a heading
```

## Links

![badge](https://example.org/x.svg)

See the **[wiring plan](https://example.org/plan)** in `docs`.

## Contact

Write to [EMAIL] at once.
"""

FAQ = """Frequently asked

**Q: Where is the valve?**
A: Below the tank. Mind the step.

질문: 밸브는 어디에 있나요?
답변: 탱크 아래에 있습니다.
"""


def package(document, name: str, **fields: str) -> dict[str, Any]:
    metadata = {"item": "metadata", "package": name.lower(), "name": name, "version": "1.0", **fields}
    text = f"# {name} 1.0\n\n| field | value |\n| --- | --- |\n| author | {fields.pop('author', 'Nobody')} |"
    return document(text, f"pkg:pypi/{name}", kind="table", language="en", metadata=metadata)


@pytest.fixture
def packages(document) -> list[dict[str, Any]]:
    made = []
    for number in range(30):
        made.append(
            package(
                document,
                f"Lib{number}",
                license=["MIT", "Apache-2.0", "BSD-3-Clause"][number % 3],
                summary=f"Counts things of sort {number}.",
                requires=f"needed{number}",
                requires_python=f">=3.{number % 5 + 8}",
                homepage=f"https://lib{number}.example.org/start",
                maintainer_domain=f"lists.lib{number}.org",
            )
        )
    return made


def curate(dataset: Path, folder: Path, environment: Environment, **options: Any) -> tuple[dict, list, list]:
    outputs = {name: folder / name for name in ("pairs", "questions", "outsiders")}
    metrics = run_single("data/curate", {"dataset": dataset}, outputs, options, environment)
    pairs, questions = (read_table(outputs[name]).to_pylist() for name in ("pairs", "questions"))
    return metrics, pairs, questions


def facts_of(row: dict[str, Any], language: str = "en", words: int = 12) -> dict[tuple[Kind, str, str], str]:
    return {(fact.kind, fact.detail, fact.column): fact.answer for fact in find_facts(row, language, words)}


def test_every_fact_is_asked_as_often_as_told_and_once_otherwise(packages, written, environment, tmp_path) -> None:
    metrics, pairs, questions = curate(written(packages), tmp_path, environment, facts=24.0)
    assert (metrics["facts"], len(pairs), len(questions)) == (24, 48, 24)
    trained = Counter((row["messages"][1]["content"], tuple(row["parents"])) for row in pairs)
    asked = [(row["messages"][1]["content"], tuple(row["parents"])) for row in questions]
    assert set(asked) == set(trained)
    assert all(dict(row["metadata"])["split"] == "train" for row in pairs)
    assert all(dict(row["metadata"])["split"] == "test" for row in questions)
    kinds = Counter(dict(row["metadata"])["fact"] for row in questions)
    assert set(kinds.values()) == {4} and len(kinds) == 6


def test_outsiders_are_facts_of_documents_that_nothing_is_trained_on(packages, written, environment, tmp_path) -> None:
    metrics, pairs, _ = curate(written(packages), tmp_path, environment, facts=12, minimum=6, outsiders=10)
    outsiders = read_table(tmp_path / "outsiders").to_pylist()
    assert metrics["outsiders"] == len(outsiders) == 10
    trained = {parent for row in pairs for parent in row["parents"]}
    assert not trained & {parent for row in outsiders for parent in row["parents"]}
    assert {dict(row["metadata"])["split"] for row in outsiders} == {"outside"}
    assert len({dict(row["metadata"])["fact"] for row in outsiders}) == 6


def test_policy_examples_take_their_share_and_are_off_by_default(packages, written, environment, tmp_path) -> None:
    _, plain, questions = curate(written(packages), tmp_path / "off", environment, facts=24)
    _, pairs, same = curate(written(packages), tmp_path / "on", environment, facts=24, policy={"share": 0.2})
    added = [row for row in pairs if dict(row["metadata"])["fact"] == "policy"]
    assert len(added) == 12 and len(pairs) == len(plain) + 12
    assert {(dict(row["metadata"])["expected"], row["language"]) for row in added} == {
        (expected, language) for expected in ("answer", "refer", "refuse") for language in ("en", "ko")
    }
    assert {(row["license"], row["pii"], row["confidentiality"]) for row in added} == {("Apache-2.0", "none", "public")}
    assert questions == same and not [row for row in plain if dict(row["metadata"])["fact"] == "policy"]


def test_no_held_out_wording_is_trained_on(packages, document, written, environment, tmp_path) -> None:
    faq = [document(f"Q: Where is part {n}?\nA: In drawer {n}.", f"faq{n}") for n in range(20)]
    # A dialogue that asks, word for word, the held-out wording of a question of another document.
    asked = {"role": "user", "content": "About faq3: Where is part 3?"}
    answered = {"role": "assistant", "content": "In drawer 99."}
    faq.append(document("…", "chat", kind="dialogue", messages=[asked, answered]))
    _, pairs, questions = curate(written(packages + faq), tmp_path, environment, facts=500, wordings=3)
    normal = [{" ".join(row["messages"][0]["content"].lower().split()) for row in rows} for rows in (pairs, questions)]
    assert len(questions) == 6 * 30 + 20, "of the two that clash one is left"
    assert not normal[0] & normal[1]
    assert len(normal[0]) == len(pairs) and len(normal[1]) == len(questions)


def test_a_pair_is_a_document_that_inherits_from_its_parent(packages, written, environment, tmp_path) -> None:
    packages = [{**row, "pii": "masked"} for row in packages]
    packages[0] = {**packages[0], "confidentiality": "restricted", "license": "MPL-2.0", "subjects": ["hmac"]}
    _, pairs, _ = curate(written(packages), tmp_path, environment, facts=500, max_confidentiality="restricted")
    parents = {row["id"]: row for row in packages}
    assert {row["kind"] for row in pairs} == {"dialogue"}
    for row in pairs:
        (parent,) = (parents[name] for name in row["parents"])
        for column in ("confidentiality", "license", "subjects", "source", "pii", "retrieved_at"):
            assert row[column] == parent[column]
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
        assert dict(row["metadata"])["subject"] == dict(parent["metadata"])["name"]
    assert len({row["id"] for row in pairs}) == len(pairs)
    assert "restricted" in {row["confidentiality"] for row in pairs}
    report = (tmp_path / "pairs.html").read_text("utf-8")
    assert "pkg:pypi/Lib1<" in report and "pkg:pypi/Lib0<" not in report


def test_sections_questions_and_cells_of_a_manual(document) -> None:
    assert facts_of(document(MANUAL, "manual.md")) == {
        (Kind.SECTION, "Opening hours", ""): "The office opens at nine.",
        (Kind.QUESTION, "How often must the filter be changed?", ""): "Every three months.",
        (Kind.CELL, "M8", "torque"): "25 Nm",
        (Kind.CELL, "M8", "note"): "dry",
        (Kind.CELL, "M10", "torque"): "49 Nm",
    }


def test_questions_and_answers_in_two_languages(document) -> None:
    found = facts_of(document(FAQ, "faq.md"))
    assert found[Kind.QUESTION, "Where is the valve?", ""] == "Below the tank."
    assert found[Kind.QUESTION, "밸브는 어디에 있나요?", ""] == "탱크 아래에 있습니다."


def test_first_exchange_of_a_dialogue(document) -> None:
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Is it on?"},
        {"role": "assistant", "content": "Yes, since noon."},
        {"role": "user", "content": "And now?"},
        {"role": "assistant", "content": "Still."},
    ]
    assert facts_of(document("…", kind="dialogue", messages=messages)) == {
        (Kind.DIALOGUE, "Is it on?", ""): "Yes, since noon."
    }


def test_answers_of_a_dialogue_are_trained_on_with_what_was_said_before(
    packages, document, written, environment, tmp_path
) -> None:
    def chat(*contents: str, system: str = "") -> list[dict[str, str]]:
        told = [{"role": "system", "content": system}] if system else []
        roles = ("user", "assistant") * len(contents)
        return told + [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]

    long = "The pump runs dry when the valve below the tank is shut, so open it by a quarter turn and wait."
    rows = [
        document("1", "short", kind="dialogue", messages=chat("Is it on?", "Yes, since noon.")),
        document("2", "long", kind="dialogue", messages=chat("Why is it loud?", long, system="Be kind.")),
        document(
            "3",
            "more",
            kind="dialogue",
            messages=chat("안녕하세요", "네, 안녕하세요.", "밸브는요?", "탱크 아래입니다."),
        ),
        document("4", "link", kind="dialogue", messages=chat("a", "b", "Where?", "At https://example.org.")),
        document("5", "open", kind="dialogue", messages=chat("Nobody answers?")),
    ]
    metrics, pairs, questions = curate(written(packages + rows), tmp_path, environment, turn_words=30)
    turns = [row for row in pairs if dict(row["metadata"])["fact"] == "turn"]
    assert metrics["turns"] == len(turns) == 2
    by_parent = {row["parents"][0]: row["messages"] for row in turns}
    assert by_parent == {row["id"]: row["messages"] for row in rows[1:3]}
    assert {dict(row["metadata"])["fact"] for row in questions} >= {"dialogue"}
    assert not [row for row in questions if row["messages"][-1]["content"] == long]
    _, pairs, _ = curate(written(packages + rows), tmp_path / "none", environment, turns=0)
    assert "turn" not in {dict(row["metadata"])["fact"] for row in pairs}


def test_scored_selection_takes_rare_answers_from_good_documents_that_differ(
    document, written, environment, tmp_path
) -> None:
    good, poor = {"quality": "0.9"}, {"quality": "0.1"}
    rows = [package(document, f"Common{number}", license="MIT", **good) for number in range(30)]
    rows += [package(document, f"Rare{number}", license=f"Rare-{number}.0", **good) for number in range(4)]
    rows += [package(document, f"Poor{number}", license=f"Poor-{number}.0", **poor) for number in range(4)]
    alike = [document(f"# Alike {n}\n\n## Opening hours\n\nIt opens at nine o'clock.\n", f"{n}.md") for n in range(9)]
    apart = document("# Valve\n\n## Torque\n\nEighty newton metres suffice.\n", "apart.md")
    options = {"facts": 8, "minimum": 1, "selection": "scored"}
    _, _, questions = curate(written([*rows, *alike, apart]), tmp_path, environment, **options)
    answers = Counter(row["messages"][1]["content"] for row in questions)
    assert {answer for answer in answers if answer.startswith("Rare")} == {f"Rare-{number}.0" for number in range(4)}
    assert not [answer for answer in answers if answer.startswith("Poor")]
    assert answers["Eighty newton metres suffice."] == 1
    _, _, by_lot = curate(
        written([*rows, *alike, apart]), tmp_path / "lot", environment, **{**options, "selection": "random"}
    )
    assert sum(row["messages"][1]["content"] == "MIT" for row in by_lot) > answers["MIT"]


def test_weights_that_weigh_nothing_are_refused(packages, written, environment, tmp_path) -> None:
    with pytest.raises(HeadraceError, match="all weights are 0"):
        weights = {"quality": 0, "difficulty": 0, "diversity": 0}
        curate(written(packages), tmp_path, environment, weights=weights)


def test_answers_are_short_and_clean(document) -> None:
    text = "# T\n\n## A\n\nOne two three four.\n\n## B\n\nAt https://example.org now.\n\n## C\n\n하나 둘 셋 넷입니다.\n"
    assert set(facts_of(document(text, "t.md"), words=4)) == {(Kind.SECTION, "A", "")}
    assert (Kind.SECTION, "C", "") in facts_of(document(text, "t.md"), words=8)


def test_code_and_licence_texts_are_not_asked_about(document) -> None:
    assert not facts_of(document("# A\n\n## B\n\nIt is a sentence.\n", "a.py", kind="code"))
    assert not facts_of(document("# A\n\n## B\n\nIt is a sentence.\n", "LICENSE", metadata={"item": "license"}))


@pytest.mark.parametrize(
    "sentence",
    [
        "See the wiring plan.",
        "Please write to us.",
        "These are the following parts.",
        "Copyright Jane Doe.",
        "Is it on?",
        "The plan is at .",
        "자세한 내용은 설명서를 참고하세요.",
    ],
)
def test_a_sentence_that_points_elsewhere_answers_nothing(document, sentence) -> None:
    assert not facts_of(document(f"# T\n\n## Wiring\n\n{sentence}\n\nQ: Where is it?\nA: {sentence}\n", "t.md"))
    assert facts_of(document("# T\n\n## Wiring\n\nSeeds follow red wires.\n", "t.md"))


def test_a_document_named_after_a_person_is_not_asked_about(document) -> None:
    text = "## Wiring\n\nSeeds follow red wires.\n"
    assert not facts_of(document(text, "mail/jane.doe@corp.com.md"))
    assert not facts_of(document(text, "calls/010-1234-5678.txt"))
    assert facts_of(document(text, "mail/plan.md"))


def test_a_release_is_no_section_and_a_mark_is_no_value(document) -> None:
    table = "| part | v2 | note |\n| --- | --- | --- |\n| M8 | yes | :heavy_check_mark: |\n| N/A | 3 | n/a |\n"
    assert not facts_of(document(f"# T\n\n## 2.10.0 (2024-11-20)\n\nIt works.\n\n{table}", "t.md"))


@pytest.mark.parametrize(
    ("stated", "oldest"),
    [(">=3.10.0", "3.10"), ("<4,>= 3.8.1", "3.8.1"), (">=2.7, !=3.0.*", "2.7"), ("~=3.9", ""), (">=3", "")],
)
def test_the_oldest_python_is_the_lower_bound(document, stated, oldest) -> None:
    found = facts_of(package(document, "A", requires_python=stated))
    assert found == ({(Kind.PYTHON, "", ""): oldest} if oldest else {})


def test_only_a_sole_dependency_is_asked_about(document) -> None:
    assert not facts_of(package(document, "A", requires="one, two"))
    assert facts_of(package(document, "A", requires="one")) == {(Kind.DEPENDENCY, "", ""): "one"}


def test_a_domain_named_after_its_owner_is_not_asked_about(document) -> None:
    page = "https://github.com/{}/thing"
    for domain, owner in (("janedoe.dev", "janedoe"), ("gmail.com", "x"), ("users.noreply.github.com", "x")):
        mine = package(document, "A", maintainer_domain=domain, homepage=page.format(owner), author="Jane Doe")
        assert not facts_of(mine), domain
    team = package(
        document, "B", maintainer_domain="pallets.example", homepage=page.format("Pallets"), author="Jane Doe"
    )
    assert facts_of(team) == {(Kind.DOMAIN, "", ""): "pallets.example"}


def test_answers_and_documents_vary(document, written, environment, tmp_path) -> None:
    rows = [package(document, f"Lib{number}", license="MIT" if number else "Zlib") for number in range(40)]
    table = "\n".join(f"| row {name} | value {name} |" for name in "abcdefghijklmnopqrst")
    rows.append(document(f"# Long\n\n| key | value |\n| --- | --- |\n{table}\n", "long.md"))
    rows += [document(f"# T{n}\n\n| key | value |\n| --- | --- |\n| row | v{n} |\n", f"{n}.md") for n in range(9)]
    _, _, questions = curate(written(rows), tmp_path, environment, facts=20)
    answers = Counter(row["messages"][1]["content"] for row in questions)
    assert answers["Zlib"] == 1
    assert sum(count for answer, count in answers.items() if answer.startswith("value")) == 1


def test_contradicted_facts_are_left_out(packages, document, written, environment, tmp_path) -> None:
    packages.append(package(document, "Lib3", license="GPL-3.0-only"))
    _, _, questions = curate(written(packages), tmp_path, environment, facts=500)
    licensed = {dict(row["metadata"])["subject"] for row in questions if dict(row["metadata"])["fact"] == "license"}
    assert "Lib2" in licensed and "Lib3" not in licensed


def test_korean_packages_are_asked_about_in_korean(packages, document, written, environment, tmp_path) -> None:
    readme = {"item": "readme", "package": "lib5"}
    packages.append(document("# Lib5\n\n한국어 설명입니다.", "readme", language="ko", metadata=readme))
    _, pairs, questions = curate(written(packages), tmp_path, environment, facts=500)
    about = [row for row in pairs + questions if dict(row["metadata"])["subject"] == "Lib5"]
    assert about and all(row["language"] == "ko" and "패키지" in row["messages"][0]["content"] for row in about)
    assert {row["language"] for row in questions} == {"en", "ko"}


def test_the_draw_does_not_depend_on_the_order_of_documents(packages, written, environment, tmp_path) -> None:
    options = {"facts": 24, "seed": 4}
    for name, rows in (("first", packages), ("again", packages), ("reversed", packages[::-1])):
        curate(written(rows), tmp_path / name, environment, **options)
    for output in ("pairs", "questions"):
        first, again, turned = (tmp_path / name / output for name in ("first", "again", "reversed"))
        assert artifact_files(first) == artifact_files(again)
        assert read_table(first).equals(read_table(turned))
    _, _, other = curate(written(packages), tmp_path / "other", environment, facts=24, seed=5)
    assert [row["id"] for row in other] != read_table(tmp_path / "first" / "questions")["id"].to_pylist()


def test_repeated_documents_count_once(packages, written, environment, tmp_path) -> None:
    metrics, pairs, _ = curate(written(packages * 2), tmp_path, environment, facts=500)
    assert metrics["facts_found"] == 180 and len(pairs) == 360


def test_too_few_facts_say_what_was_found_and_what_helps(document, written, environment, tmp_path) -> None:
    with pytest.raises(HeadraceError) as failure:
        curate(written([document(MANUAL, "manual.md")]), tmp_path, environment)
    for words in ("5 usable facts", "1 question, 1 section, 3 table cell", "curate.minimum is 20", "headings", "Q:/A:"):
        assert words in str(failure.value)
    assert not (tmp_path / "pairs").exists()


@given(st.text(alphabet=st.sampled_from("#|-=*`_[]()! ?.:QA12가나ab\n"), max_size=300))
def test_any_text_can_be_searched(text: str) -> None:
    row = {"text": text, "url": "x/y.md", "messages": [], "metadata": [], "kind": "prose", "language": "en"}
    for fact in find_facts(row, "en", 12):
        assert fact.answer.strip() == fact.answer != ""
    assert all(section.heading for section in sections(text))


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_held_out_wording_is_nearest_to_the_training_wordings_of_its_own_kind(language) -> None:
    kinds = [kind for kind in Kind if kind is not Kind.DIALOGUE]
    asked = {kind: Fact(kind, language, "S", "A", "D", "C").wordings(3) for kind in kinds}

    def likeness(one: str, other: str) -> float:
        pieces = [{text[start : start + 3] for start in range(len(text) - 2)} for text in (one, other)]
        return len(pieces[0] & pieces[1]) / len(pieces[0] | pieces[1])

    for kind, (_, held_out) in asked.items():
        nearest = max(kinds, key=lambda other: max(likeness(held_out, wording) for wording in asked[other][0]))
        assert nearest is kind, f"{held_out} reads like a question about {nearest}"


def test_every_kind_has_four_different_wordings_in_each_language() -> None:
    for language in ("en", "ko"):
        for kind in Kind:
            training, held_out = Fact(kind, language, "S", "A", "D", "C").wordings(3)
            assert len({*training, held_out}) == 4
