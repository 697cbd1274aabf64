"""Preferences come from feedback and from right answers made wrong, the same ones every time."""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from components.common.documents import DocumentWriter, read_table
from components.common.environment import Environment
from components.common.ledger import artifact_files
from components.common.recipes import Recipe, parts
from components.data.prefer.options import Prefer
from components.model.formats import violation
from pipelines.single import run_single

SCHEMA = '{"type": "object", "required": ["days"], "properties": {"days": {"type": "integer"}}}'
Row = dict[str, Any]


@pytest.fixture
def dialogue(document):
    def make(url: str, *said: tuple[str, str], **fields: Any) -> Row:
        messages = [{"role": role, "content": content} for role, content in said]
        text = "\n\n".join(content for _, content in said)
        return document(text, url, kind="dialogue", messages=messages, **fields)

    return make


@pytest.fixture
def gathered(tmp_path: Path, environment: Environment):
    """Gather from rows of a dataset, of pairs and of questions."""

    def run(
        dataset: Sequence[Row], pairs: Sequence[Row] = (), questions: Sequence[Row] = (), **options: Any
    ) -> tuple[dict, list[Row]]:
        inputs = {}
        for name, rows in (("dataset", dataset), ("pairs", pairs), ("questions", questions)):
            inputs[name] = tmp_path / name
            with DocumentWriter(inputs[name]) as writer:
                writer.write(rows)
        outputs = {"preferences": tmp_path / "preferences"}
        shutil.rmtree(outputs["preferences"], ignore_errors=True)
        metrics = run_single("data/prefer", inputs, outputs, options, environment)
        return metrics, read_table(outputs["preferences"]).to_pylist()

    return run


def ends(row: Row) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in row["messages"]]


def test_preferences_of_a_dataset_are_taken_as_they_are(dialogue, gathered) -> None:
    said = [("system", "Be kind."), ("user", "열려 있나요?"), ("assistant", "네."), ("rejected", "몰라요.")]
    row = dialogue("a", *said, language="ko", subjects=["hmac"], metadata={"weight": "2", "page": "3"})
    metrics, [preference] = gathered([row, dialogue("b", ("user", "Hi"), ("assistant", "Hello."))])
    assert ends(preference) == said
    assert preference["parents"] == [row["id"]] and preference["subjects"] == ["hmac"]
    metadata = dict(preference["metadata"])
    assert metadata["origin"] == "feedback" and metadata["weight"] == "2" and "page" not in metadata
    assert (metrics["feedback"], metrics["made"]) == (1, 0)


def test_answers_to_one_question_are_paired_by_their_ratings(dialogue, gathered) -> None:
    asked = ("user", "How long does a refund take?")
    rows = [
        dialogue("5", asked, ("assistant", "Three days."), metadata={"rating": "5"}, pii="none"),
        dialogue("3", asked, ("assistant", "Some days."), metadata={"rating": "3"}, confidentiality="internal"),
        dialogue("1", asked, ("rejected", "No."), metadata={"rating": "1"}, pii="masked"),
        dialogue("same", asked, ("rejected", "Three days. "), metadata={"rating": "1"}, pii="masked"),
    ]
    _, preferences = gathered(rows)
    assert {tuple(ends(row)[1:]) for row in preferences} == {
        (("assistant", "Three days."), ("rejected", "Some days.")),
        (("assistant", "Three days."), ("rejected", "No.")),
        (("rejected", "Three days. "),),
    }
    worst = next(row for row in preferences if ends(row)[-1][1] == "Some days.")
    assert worst["confidentiality"] == "internal" and len(worst["parents"]) == 2
    assert next(row for row in preferences if ends(row)[-1][1] == "No.")["pii"] == "masked"
    _, apart = gathered(rows[:2], rating_gap=3)
    assert [ends(row)[-1] for row in apart] == [("assistant", "Three days.")], "2 apart is not 3, and 3 says neither"


def test_the_best_of_bad_answers_is_not_chosen(dialogue, gathered) -> None:
    rows = [dialogue(said, ("user", "Is it open?"), ("rejected", said), metadata={"rating": said}) for said in "21"]
    _, preferences = gathered(rows)
    assert sorted(ends(row)[1:] for row in preferences) == [[("rejected", "1")], [("rejected", "2")]]


def test_feedback_that_is_not_used_is_counted(dialogue, gathered) -> None:
    pair = (("assistant", "Yes."), ("rejected", "No."))
    rows = [
        dialogue("a", ("user", "Is it secret?"), *pair, confidentiality="restricted"),
        dialogue("b", ("user", "Is it  HELD out?"), *pair),
        dialogue("n", *pair),
        dialogue("l", ("rejected", "No.")),
        dialogue("c", ("user", "So so?"), ("assistant", "Hm."), metadata={"rating": "3"}),
        *(dialogue(f"d{number}", ("user", f"{number}?"), *pair) for number in range(5)),
    ]
    questions = [dialogue("q", ("user", "Is it held out?"), ("assistant", "Yes."))]
    metrics, preferences = gathered(rows, questions=questions, most=3)
    assert len(preferences) == 3 and metrics["records_in"] == 10
    reasons = {name.removeprefix("dropped_"): count for name, count in metrics.items() if name.startswith("dropped_")}
    assert reasons == {"confidential": 1, "no_prompt": 2, "held_out": 1, "undecided": 1, "beyond_most": 2}


def test_feedback_is_decontaminated_as_pairs_are(dialogue, gathered, tmp_path: Path) -> None:
    asked, answer = "How many days may a refund of a broken valve take?", "No more than twelve days."
    exam = "Which of the seven wardens of the northern harbour keeps the key to the old sluice gate in winter?"
    (tmp_path / "exam.jsonl").write_text(json.dumps({"question": exam}), "utf-8")
    rows = [
        dialogue("told", ("user", f"Tell me, please: {asked}"), ("assistant", answer), ("rejected", "Never.")),
        dialogue("exam", ("user", exam), ("assistant", "The fourth."), ("rejected", "None.")),
        dialogue("free", ("user", "How long is a refund?"), ("assistant", answer), ("rejected", "Never.")),
    ]
    questions = [{**dialogue("q", ("user", asked), ("assistant", answer)), "parents": ["manual"]}]
    sets = [{"name": "exam", "location": str(tmp_path / "exam.jsonl")}]
    metrics, [preference] = gathered(rows, questions=questions, decontaminate={"sets": sets})
    assert preference["parents"] == [rows[2]["id"]]
    assert (metrics["dropped_pair"], metrics["dropped_ngram"]) == (1, 1)
    recipe = Recipe.model_validate({"data": {"decontaminate": {"sets": sets}}})
    assert parts(recipe)["prefer"]["decontaminate"] == parts(recipe)["decontaminate"]


def facts(dialogue, number: int, language: str = "en") -> list[Row]:
    wordings = {"en": ("What is {}?", "Tell me what {} is."), "ko": ("{}는 무엇인가요?", "{}를 알려 주세요.")}[language]
    names = {"en": "a valve of sort", "ko": "밸브 종류"}
    return [
        {
            **dialogue(
                f"{language}{fact}{wording}",
                ("user", wording.format(f"part {fact}")),
                ("assistant", f"{names[language]} {fact}"),
                language=language,
                metadata={"fact": "purpose", "subject": f"part {fact}", "split": "train"},
            ),
            "parents": [f"{language}{fact}"],
        }
        for fact in range(number)
        for wording in wordings
    ]


@pytest.mark.parametrize("language", ["en", "ko"])
def test_right_answers_are_paired_with_wrong_ones_and_broken_ones(dialogue, gathered, language: str) -> None:
    pairs = facts(dialogue, 6, language)
    right = {row["parents"][0]: row["messages"][1]["content"] for row in pairs}
    metrics, preferences = gathered([], pairs, formats=["json", "table"])
    origins = Counter(dict(row["metadata"])["origin"].split(":")[0] for row in preferences)
    assert origins == {"wrong answer": 6, "json": 6, "table": 6} and metrics["made"] == 18
    for row in preferences:
        (_, asked), (_, good), (_, bad) = ends(row)
        metadata = dict(row["metadata"])
        if metadata["origin"] == "wrong answer":
            assert good == right[row["parents"][0]] and bad in set(right.values()) - {good}
            continue
        form, schema = metadata["answer_format"], metadata.get("schema", "")
        assert violation(good, form, schema) == "" != violation(bad, form, schema)
        assert right[row["parents"][0]] in good
        assert asked.split("\n")[0] in {one["messages"][0]["content"] for one in pairs}
        assert ("한" in asked.split("\n")[1] or "객체" in asked) == (language == "ko")
    groups = {row["parents"][0]: set() for row in preferences}
    for row in preferences:
        groups[row["parents"][0]].add(dict(row["metadata"])["group"])
    assert all(len(found) == 1 for found in groups.values()) and len({*map(str, groups.values())}) == 6


def test_a_wrong_answer_brings_along_where_it_comes_from(dialogue, gathered) -> None:
    public, secret, foreign = facts(dialogue, 3)[::2]
    public |= {"subjects": ["s1"], "pii": "none"}
    secret |= {"subjects": ["s2"], "confidentiality": "confidential", "pii": "masked"}
    foreign |= {"license": "GPL-3.0-only"}
    _, preferences = gathered([], [public, secret, foreign], formats=[], max_confidentiality="confidential")
    assert {tuple(row["parents"]) for row in preferences} == {("en0", "en1"), ("en1", "en0")}, "one licence only"
    for row in preferences:
        assert row["subjects"] == ["s1", "s2"]
        assert (row["confidentiality"], row["pii"]) == ("confidential", "masked")


def test_an_answer_with_a_format_of_its_own_is_broken_in_it(dialogue, gathered) -> None:
    answers = {
        "json": ('{"days": 3}', {"schema": SCHEMA}),
        "latex": (r"It is $\frac{1}{2}$.", {}),
        "table": ("| a | b |\n| --- | --- |\n| 1 | 2 |", {}),
        "python": ("```python\nprint('안녕')\n```", {}),
        "call": (
            '{"name": "refund", "arguments": {"days": 3}}',
            {"tools": f'[{{"name": "refund", "parameters": {SCHEMA}}}]'},
        ),
    }
    pairs = [
        dialogue(name, ("user", f"{name}?"), ("assistant", answer), metadata={"fact": "turn", **metadata})
        for name, (answer, metadata) in answers.items()
    ]
    _, preferences = gathered([], pairs, wrong_answers=False)
    broken = {dict(row["metadata"])["answer_format"]: row for row in preferences}
    assert set(broken) == set(answers)
    for form, row in broken.items():
        metadata = dict(row["metadata"])
        schema = metadata.get("tools" if form == "call" else "schema", "")
        good, bad = (content for _, content in ends(row)[1:])
        assert good == answers[form][0] and violation(bad, form, schema)


def test_the_same_pairs_give_the_same_bytes_and_another_seed_does_not(dialogue, gathered, tmp_path: Path) -> None:
    pairs = facts(dialogue, 8)
    digests = []
    for rows, seed in ((pairs, 0), (pairs[::-1], 0), (pairs, 1)):
        gathered([], rows, seed=seed)
        digests.append(artifact_files(tmp_path / "preferences"))
    assert digests[0] == digests[1] != digests[2]


def test_nothing_to_prefer_is_no_error(gathered) -> None:
    metrics, preferences = gathered([])
    assert preferences == [] and metrics["records_out"] == 0


def test_the_budget_goes_to_feedback_first(dialogue, gathered) -> None:
    rows = [
        dialogue(str(number), ("user", f"{number}?"), ("assistant", "Yes."), ("rejected", "No.")) for number in range(3)
    ]
    metrics, _ = gathered(rows, facts(dialogue, 8), most=5)
    assert (metrics["feedback"], metrics["made"]) == (3, 2)
    assert (metrics["records_in"], metrics["dropped_made_beyond_most"]) == (3 + 16, 14)
    assert Prefer().most > 5
