"""Feedback comes in several layouts and ends as dialogues whose rejected answers every data step treats as text."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.common.documents import read_table
from components.common.environment import Environment
from components.common.errors import HeadraceError
from components.data.feedback import rating
from components.data.jsonl import import_jsonl
from components.data.sources import Source
from pipelines.single import run_single

SOURCE = Source.model_validate({"id": "feedback", "location": "-", "license": "CC-BY-4.0", "owner": "Team"})
ASKED = [{"role": "user", "content": "환불은 며칠 걸리나요?"}]
ENDS = [
    ({"prompt": "Is it open?", "chosen": "Yes.", "rejected": "Go away."}, ["user", "assistant", "rejected"]),
    (
        {
            "prompt": ASKED,
            "chosen": [{"role": "assistant", "content": "사흘 걸립니다."}],
            "rejected": [{"role": "assistant", "content": "몰라요."}],
        },
        ["user", "assistant", "rejected"],
    ),
    (
        {
            "chosen": [
                {"role": "system", "content": "Be kind."},
                *ASKED,
                {"role": "assistant", "content": "사흘입니다."},
            ],
            "rejected": [{"role": "system", "content": "Be kind."}, *ASKED, {"role": "assistant", "content": "몰라."}],
        },
        ["system", "user", "assistant", "rejected"],
    ),
    ({"prompt": "Is it open?", "completion": "Yes.", "label": True}, ["user", "assistant"]),
    ({"prompt": "Is it open?", "completion": "Go away.", "label": False}, ["user", "rejected"]),
    ({"prompt": "Is it open?", "completion": "Yes.", "rating": 5}, ["user", "assistant"]),
    ({"prompt": "Is it open?", "completion": "Hm.", "rating": 3}, ["user", "assistant"]),
    ({"prompt": "Is it open?", "completion": "Go away.", "rating": 1}, ["user", "rejected"]),
]


def imported(tmp_path: Path, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    file = tmp_path / "in.jsonl"
    file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    import_jsonl(file, tmp_path / "out", SOURCE)
    return read_table(tmp_path / "out").to_pylist()


@pytest.mark.parametrize(("record", "roles"), ENDS)
def test_each_layout_becomes_a_dialogue(tmp_path: Path, record: dict[str, Any], roles: list[str]) -> None:
    [row] = imported(tmp_path, {**record, "language": "en"})
    assert [message["role"] for message in row["messages"]] == roles
    assert row["kind"] == "dialogue"
    assert all(message["content"] in row["text"] for message in row["messages"])
    for name in ("rating", "label"):
        assert dict(row["metadata"]).get(name) == (str(record[name]).lower() if name in record else None)


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"prompt": "a", "chosen": "b"}, "rejected: is missing"),
        ({"prompt": "a", "chosen": "b", "rejected": " b"}, "rejected: says the same as chosen"),
        ({"chosen": "b", "rejected": "c"}, "prompt: is missing"),
        ({"prompt": "", "chosen": "b", "rejected": "c"}, "prompt: is empty"),
        ({"prompt": "a", "chosen": [], "rejected": "c"}, "chosen: must be text or a list"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "rating": 3}, "rating: goes with prompt and completion"),
        ({"prompt": "a", "completion": "b"}, "label: is missing"),
        ({"prompt": "a", "completion": "b", "label": "yes"}, "label: is neither true nor false"),
        ({"prompt": "a", "completion": "b", "rating": 6}, "rating: is no whole number from 1 to 5"),
        ({"prompt": "a", "completion": "b", "rating": 2.5}, "rating: is no whole number"),
        ({"prompt": "a", "completion": "b", "label": True, "rating": 5}, "label: is missing"),
        ({"completion": "b", "rating": 5}, "prompt: is missing"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "score": 1}, "score: "),
        ({"prompt": [{"role": "assistant", "content": "a"}], "chosen": "b", "rejected": "c"}, "prompt: must end with"),
        (
            {"text": "a", "messages": [{"role": "rejected", "content": "b"}, {"role": "user", "content": "a"}]},
            "messages: an answer that was rejected stands last",
        ),
    ],
)
def test_what_is_wrong_is_named_by_its_field(tmp_path: Path, record: dict[str, Any], problem: str) -> None:
    with pytest.raises(HeadraceError, match=f"line 1: {problem}"):
        imported(tmp_path, record)


def test_a_rejected_answer_is_masked_filtered_and_deduplicated_like_any_text(
    tmp_path: Path, environment: Environment
) -> None:
    phone = "010-2345-6789"
    preference = {
        "prompt": "고객 센터 번호를 알려 주세요.",
        "chosen": "홈페이지의 문의 창을 이용해 주세요.",
        "rejected": f"제 개인 번호 {phone}로 전화하세요. 언제든 괜찮습니다.",
        "language": "ko",
    }
    imported(tmp_path, preference, {**preference, "url": "again"}, {"prompt": "a?", "completion": "b!", "rating": 1})
    at = tmp_path / "out"
    for stage, given, made in (
        ("data/parse", "documents", "parsed"),
        ("data/mask", "documents", "masked"),
        ("data/filter", "documents", "kept"),
        ("data/deduplicate", "documents", "unique"),
    ):
        outputs = {made: tmp_path / made, **({"originals": tmp_path / "originals"} if stage == "data/mask" else {})}
        run_single(stage, {given: at}, outputs, {"min_characters": 1} if stage == "data/filter" else {}, environment)
        at = tmp_path / made
    rows = [row for row in read_table(at).to_pylist() if len(row["messages"]) == 3]
    assert len(rows) == 1
    assert [message["role"] for message in rows[0]["messages"]] == ["user", "assistant", "rejected"]
    assert phone not in json.dumps(rows[0], default=str) and "[PHONE_1]" in rows[0]["messages"][2]["content"]


def test_parquet_files_of_feedback_are_read(tmp_path: Path, environment: Environment) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    table = {"prompt": ["열려 있나요?", "Open?"], "chosen": ["네.", "Yes."], "rejected": ["몰라요.", "No idea."]}
    pq.write_table(pa.table(table), folder / "preferences.parquet")
    source = {**SOURCE.model_dump(mode="json", by_alias=True), "location": str(folder), "kind": "auto"}
    run_single("data/ingest", {}, {"documents": tmp_path / "documents"}, {"sources": [source]}, environment)
    rows = read_table(tmp_path / "documents").to_pylist()
    assert sorted(row["messages"][2]["content"] for row in rows) == ["No idea.", "몰라요."]


def test_nothing_is_taught_that_people_rated_low(document, written, tmp_path: Path, environment: Environment) -> None:
    def dialogue(number: int, role: str, **metadata: str) -> dict[str, Any]:
        said = [("user", f"What is part {number}?"), (role, f"It is a valve of sort {number}.")]
        messages = [{"role": speaker, "content": content} for speaker, content in said]
        text = " ".join(content for _, content in said)
        return document(text, f"chat{number}", kind="dialogue", messages=messages, metadata=metadata)

    rows = [dialogue(number, "assistant") for number in range(3)]
    rows += [dialogue(3, "assistant", rating="4"), dialogue(4, "assistant", rating="3")]
    rows += [dialogue(5, "assistant", label="false"), dialogue(6, "rejected", rating="1")]
    outputs = {name: tmp_path / name for name in ("pairs", "questions", "outsiders")}
    metrics = run_single("data/curate", {"dataset": written(rows)}, outputs, {"minimum": 1}, environment)
    taught = {row["messages"][-1]["content"] for row in read_table(outputs["pairs"]).to_pylist()}
    assert taught == {f"It is a valve of sort {number}." for number in range(4)}
    assert metrics["dropped_rated_low"] == 2


@pytest.mark.parametrize(
    ("name", "stated"), [*(("rating", stated) for stated in ("2.0", " 2", "-1", "0", "10", "")), ("label", "False")]
)
def test_a_judgement_that_cannot_be_read_is_an_error_and_no_praise(document, name: str, stated: str) -> None:
    messages = [{"role": "user", "content": "Is it open?"}, {"role": "assistant", "content": "Go away."}]
    row = document("Go away.", kind="dialogue", messages=messages, metadata={name: stated})
    with pytest.raises(HeadraceError, match=f"document {row['id']} of test: metadata.{name} is .*none of .*correct it"):
        rating(row)
