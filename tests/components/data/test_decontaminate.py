"""What evaluation sets ask is not trained on; what documents say themselves is."""

import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.common.documents import part_files, read_table, text_revision
from components.common.errors import UsageError
from components.common.step import Context
from components.data.compiled import content
from components.data.decontaminate.clean import cut, run, run_pairs
from components.data.decontaminate.items import Item, Questions
from components.data.decontaminate.kernel import windows
from components.data.decontaminate.options import Decontaminate, EvaluationSet
from components.data.decontaminate.patterns import Patterns
from pipelines.single import run_single

PROBLEM = (
    "A merchant from the north loads forty barrels of grain onto two boats so that the second carries six more than "
    "the first; how many barrels are on each of them?"
)
KOREAN = "북쪽에서 온 상인이 곡식 마흔 통을 배 두 척에 나누어 싣는데 둘째 배가 여섯 통을 더 싣는다면 각각 몇 통인가?"
SHORT = "Which river runs through the old town of Brugg?"
FILLER = (
    "The harbour of the town has been in use ever since. Ships are loaded there in spring, and a narrow canal leads to "
    "the mill, whose owner keeps the sluice in order. When the water is high, everybody has to wait for a day or two. "
    "Fishermen mend their nets on the quay and sell what they have caught. Nobody remembers a winter without ice."
)
FILLER_KOREAN = (
    "이 항구는 지금도 쓰이고 있다. 봄이 되면 배가 떠난다. 좁은 수로가 방앗간까지 이어진다. 주인은 수문을 손본다. " * 4
)


@pytest.fixture
def sets(tmp_path):
    """An evaluation set of three questions as JSON Lines."""
    file = tmp_path / "exam.jsonl"
    rows = [
        {"question": PROBLEM, "answer": "17 and 23"},
        {"question": KOREAN, "answer": "17통과 23통"},
        {"question": SHORT, "answer": ["Aare", "the Aare"]},
        {"question": "Who?", "answer": "Nobody"},
    ]
    file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    return [EvaluationSet(name="exam", location=str(file), answer="answer")]


@pytest.fixture
def cleaned(document, written, tmp_path, environment, sets):
    def clean(rows, **options):
        documents = [document(text, str(number), pii="none", **fields) for number, (text, fields) in enumerate(rows)]
        wanted = Decontaminate(**{"sets": sets, **options})
        outcome = run(written(documents), tmp_path / "out", wanted, Context("data/decontaminate", environment))
        return outcome, {row["url"]: row for row in read_table(tmp_path / "out").to_pylist()}

    return clean


def around(passage, filler=FILLER):
    return f"{filler}\n\n{passage}\n\n{filler}"


@pytest.mark.parametrize(
    ("passage", "fields", "reason"),
    [
        (PROBLEM, {"kind": "code"}, "ngram"),
        (" ".join(PROBLEM.split()[3:17]).upper().replace(" ", " – "), {"kind": "code"}, "ngram"),
        (" ".join(PROBLEM.split()[3:14]), {"kind": "code"}, None),
        (f"{PROBLEM}\n\nAnswer: 17 and 23.", {"kind": "table"}, "pair"),
        (f"Q: {PROBLEM} A: 20 and 20", {"kind": "table"}, "ngram"),
        (KOREAN, {"kind": "code", "language": "ko"}, "ngram"),
        (KOREAN[:30], {"kind": "code", "language": "ko"}, None),
        (f"{KOREAN} 답변: 17통과 23통입니다", {"kind": "code", "language": "ko"}, "pair"),
        (SHORT, {"kind": "code"}, "question"),
        (f"{SHORT} Aare", {"kind": "code"}, "pair"),
        (f"{SHORT} It is, as everybody knows, the Aare", {"kind": "code"}, "pair"),
        (f"{SHORT[:-1]} and what is it called?", {"kind": "code"}, "question"),
        ("Which river runs through the old town?", {"kind": "code"}, None),
        ("Who? Nobody", {"kind": "code"}, None),
        (SHORT, {"messages": [{"role": "user", "content": SHORT}]}, "question"),
    ],
)
def test_a_document_is_found_by_what_it_says(cleaned, passage, fields, reason):
    outcome, kept = cleaned([(around(passage), fields), (FILLER, {})])
    assert {name: count for name, count in outcome.dropped.items() if count} == ({reason: 1} if reason else {})
    assert set(kept) == ({"1"} if reason else {"0", "1"})


@pytest.mark.parametrize(("question", "filler"), [(PROBLEM, FILLER), (KOREAN, FILLER_KOREAN)])
def test_a_passage_goes_and_the_rest_stays(cleaned, question, filler):
    outcome, kept = cleaned([(around(question, filler), {}), (filler, {})], window=40)
    text = kept["0"]["text"]
    assert question[:20] not in text and question[-20:] not in text
    assert filler[:60] in text and filler.rstrip()[-60:] in text
    assert kept["0"]["revision"] == text_revision(text) and kept["1"]["text"] == filler
    assert outcome.metrics["documents_cut"] == 1 and outcome.metrics["passages"] == 1
    assert not outcome.dropped and outcome.counts_out == 2


def test_what_is_left_must_be_worth_keeping_and_not_full_of_holes(cleaned, sets):
    rows = [(f"{PROBLEM} {FILLER[:100]}", {}), ("\n\n".join([FILLER, PROBLEM] * 4 + [FILLER]), {})]
    outcome, kept = cleaned(rows, max_passages=3, window=20)
    assert outcome.dropped == {"passages": 1} and FILLER[:100].endswith(kept["0"]["text"])
    outcome, kept = cleaned(rows, max_passages=3)
    assert outcome.dropped == {"passages": 1, "remainder": 1} and not kept
    outcome, kept = cleaned([(around(PROBLEM), {})], remove="document")
    assert outcome.dropped == {"ngram": 1} and not kept


def test_a_common_phrase_stays_but_never_a_question_with_its_answer(cleaned):
    rows = [(f"{PROBLEM} {FILLER} {number}", {"kind": "code"}) for number in range(4)]
    outcome, kept = cleaned(rows, max_documents=3)
    assert not outcome.dropped and len(kept) == 4
    assert outcome.metrics["common_phrases"] > 10
    assert "merchant from the north" in outcome.report.html()
    outcome, kept = cleaned(rows, max_documents=4)
    assert outcome.dropped == {"ngram": 4}
    answered = [(f"{PROBLEM} 17 and 23. {FILLER} {number}", {"kind": "code"}) for number in range(4)]
    assert cleaned(answered, max_documents=3)[0].dropped == {"pair": 4}


def test_report_and_summary_say_what_was_found(cleaned, tmp_path):
    rows = [
        (around(PROBLEM, FILLER * 2), {}),
        (around(SHORT), {"kind": "code"}),
        (around(KOREAN), {"kind": "code", "confidentiality": "confidential"}),
    ]
    outcome, _ = cleaned(rows)
    told = json.loads((tmp_path / "out" / "decontamination.json").read_text())
    [one] = told["sets"]
    assert {**one, "sha256": len(one["sha256"])} == {
        "name": "exam",
        "sha256": 64,
        "items": 4,
        "found": 3,
        "too_short": 1,
        "documents_dropped": 2,
        "documents_cut": 1,
    }
    assert (told["documents_dropped"], told["documents_cut"], told["passages"]) == (2, 1, 1)
    page = outcome.report.html()
    assert SHORT[:-1] in page and "북쪽에서 온" not in page
    assert outcome.metrics["items_found"] == 3 and outcome.metrics["items_too_short"] == 1


def test_without_sets_documents_pass_byte_for_byte(document, written, tmp_path, environment):
    folder = written([document(PROBLEM, "a")])
    (tmp_path / "out").mkdir()
    outcome = run(folder, tmp_path / "out", Decontaminate(), Context("data/decontaminate", environment))
    assert part_files(tmp_path / "out")[0].read_bytes() == part_files(folder)[0].read_bytes()
    assert outcome.counts_out == 1 and "names no evaluation set" in outcome.report.html()


def test_held_out_questions_do_not_take_the_documents_that_they_were_made_from(
    document, written, tmp_path, environment
):
    """A question that was made from a document is given away by others that answer it, not by that document."""
    faq = f"# Brugg\n\n## {SHORT}\n\nAare.\n\n{FILLER}"
    source = document(faq, "faq")
    leak = document(f"Our exam, with solutions.\n\n{SHORT}\n\nAare.\n\n{FILLER}", "leak", kind="code")
    same_fact = document(f"The Aare runs through the old town of Brugg. {FILLER}", "fact")
    same_question = document(f"{SHORT} Nobody here could tell me. {FILLER}", "asked")
    question = document(
        f"{SHORT}\n\nAare",
        kind="dialogue",
        parents=[source["id"]],
        messages=[{"role": "user", "content": SHORT}, {"role": "assistant", "content": "Aare"}],
    )
    held_out = written([question])
    corpus = written([source, leak, same_fact, same_question])
    options = Decontaminate(sets=[EvaluationSet(name="last-exam", location=str(held_out))])
    outcome = run(corpus, tmp_path / "out", options, Context("data/decontaminate", environment))
    assert outcome.dropped == {"pair": 1}
    assert read_table(tmp_path / "out")["url"].to_pylist() == ["faq", "fact", "asked"]


def test_training_pairs_must_not_say_a_held_out_question_with_its_answer(document, written, tmp_path, environment):
    def pair(question, answer, url, parents=("a" * 64,)):
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        text = f"{question}\n\n{answer}"
        return document(text, url, kind="dialogue", messages=messages, parents=list(parents))

    long_answer = "the river Aare, which comes from the Bernese Alps and joins the Rhine at Koblenz in the Aargau"
    other_wording = "Name the river that runs through the old town of Brugg, please."
    korean = "브루크의 구시가지를 지나는 강의 이름은 무엇인가요?"
    questions = written([pair(SHORT, long_answer, "q"), pair(korean, "아레강", "k")])
    pairs = written(
        [
            pair(other_wording, long_answer, "same-fact"),
            pair(SHORT, long_answer, "leak"),
            pair(f"Hello! {SHORT}", f"Of course: {long_answer}.", "dressed-leak"),
            pair(SHORT, "I do not know.", "no-answer"),
            pair(korean, "아레강", "korean-leak"),
            pair("브루크의 강은?", "아레강", "korean-fact"),
        ]
    )
    context = Context("data/decontaminate", environment)
    outcome = run_pairs(pairs, questions, tmp_path / "out", Decontaminate(), context)
    assert read_table(tmp_path / "out")["url"].to_pylist() == ["same-fact", "no-answer", "korean-fact"]
    assert outcome.dropped == {"pair": 3}
    assert json.loads((tmp_path / "out" / "decontamination.json").read_text())["sets"][0]["name"] == "held-out"


@pytest.mark.parametrize(
    ("name", "data", "fields", "said"),
    [
        ("gone.jsonl", None, {}, r"exam: there is no file .*gone\.jsonl"),
        ("exam.txt", b"x", {}, r"exam: .*exam\.txt is none of \.jsonl"),
        ("e.jsonl", b'{"question": "a"}\n{"quest', {}, r"e\.jsonl, line 2: is not JSON in UTF-8"),
        ("e.jsonl", b'{"question": "\xff"}', {}, r"line 1: is not JSON in UTF-8"),
        ("e.jsonl", b"[1]", {}, r"line 1: is list, not an object"),
        ("e.jsonl", b"\n", {}, r"holds no questions"),
        ("e.jsonl", b'{"prompt": "a"}', {}, r"line 1: has no field question; its fields are prompt"),
        ("e.jsonl", b'{"q": {"text": "a"}}', {"question": "q.words"}, r"line 1: has no field q\.words"),
        ("e.jsonl", b'{"question": {"a": 1}}', {}, r"line 1: question holds dict, not text"),
        ("e.jsonl", b'{"question": ["a", "b"]}', {}, r"line 1: question holds 2 texts; a question is one"),
        ("e.jsonl", b'{"question": "a"}', {"answer": "answers"}, r"name one of them as answer"),
        ("e.jsonl", b'{"messages": [{"role": "assistant"}]}', {}, r"line 1: messages has no message with role user"),
        ("e.parquet", b"PAR1 is not enough", {}, r"e\.parquet: is not readable Parquet; write it again"),
    ],
)
def test_a_set_that_cannot_be_read_is_a_clear_error(cleaned, tmp_path, name, data, fields, said):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=said):
        cleaned([(FILLER, {})], sets=[EvaluationSet(name="exam", location=str(tmp_path / name), **fields)])


def test_sets_are_read_from_folders_and_parquet_with_nested_fields(cleaned, tmp_path):
    folder = tmp_path / "exam"
    folder.mkdir()
    nested = [{"task": {"text": SHORT}, "answers": {"text": ["Rhine", "Aare"]}}]
    pq.write_table(pa.Table.from_pylist(nested), folder / "a.parquet")
    wanted = EvaluationSet(name="nested", location=f"file://{folder}", question="task.text", answer="answers.text")
    outcome, _ = cleaned([(around(f"{SHORT} Aare"), {"kind": "code"})], sets=[wanted])
    assert outcome.dropped == {"pair": 1}


def test_the_card_of_the_dataset_says_what_was_looked_for(document, written, tmp_path, environment, sets):
    steps = [
        ("decontaminate", "documents", "clean", {"sets": [one.model_dump() for one in sets]}),
        ("mix", "clean", "mixed", {"by": "kind", "weights": {}}),
        ("card", "mixed", "dataset", {"name": "corpus"}),
    ]
    (tmp_path / "work").mkdir()
    rows = [document(around(PROBLEM, FILLER * 2), "a"), document(around(SHORT), "b", kind="code")]
    written(rows).rename(tmp_path / "work" / "documents")
    for name, taken, made, options in steps:
        work = tmp_path / "work"
        run_single(f"data/{name}", {"documents": work / taken}, {made: work / made}, options, environment)
    card = (tmp_path / "work" / "dataset" / "card.md").read_text()
    assert "## Evaluation sets" in card and "13 words. 1 documents were left out; 1 passages were cut out" in card
    assert re.search(r"\| exam \| [0-9a-f]{12} \| 4 \| 2 \| 1 \| 1 \| 1 \|", card)
    assert "| data/decontaminate | 2 | question | 1 |" in card


def test_two_sets_need_two_names(sets):
    with pytest.raises(ValueError, match="two sets are called exam"):
        Decontaminate(sets=sets * 2)


WORD = st.sampled_from(["bear", "Öl", "x_1", "곰", "나", "漢", "7", "river", "ÉTÉ", "a", "𠀀"])
SPACE = st.sampled_from([" ", "\n", ", ", " – ", "… "])
TEXT = st.lists(st.tuples(WORD, SPACE), max_size=40).map(lambda parts: "".join(map("".join, parts)))


def words_of(text):
    """The words of a text and the halves that each counts, by Python's own means."""
    parts = re.findall(r"[가-힣一-鿿\U00020000-\U0002ffff]|(?:(?![가-힣一-鿿\U00020000-\U0002ffff])\w)+", text)
    return [(part.lower(), 1 if re.match(r"[가-힣一-鿿\U00020000-\U0002ffff]", part) else 2) for part in parts]


def runs_of(text, halves):
    words = words_of(text)
    runs = []
    for first in range(len(words)):
        size, end = 0, first
        while end < len(words) and size < halves:
            size += words[end][1]
            end += 1
        if size >= halves:
            runs.append(tuple(word for word, _ in words[first:end]))
    return runs


@given(st.lists(TEXT, min_size=1, max_size=3), TEXT, st.integers(5, 8))
def test_runs_of_words_are_found_exactly_where_they_stand(questions, text, ngram):
    runs = {run for question in questions for run in runs_of(question, 2 * ngram)}
    wanted = [run for run in runs_of(text, 2 * ngram) if run in runs]
    _, lengths, _ = windows(*content(pa.array([text], pa.large_string())), ngram)
    assert lengths.tolist() == [len(run) for run in runs_of(text, 2 * ngram)]
    patterns = Patterns(
        [Questions("exam", "", [Item(question) for question in questions])], Decontaminate(ngram=ngram, min_words=3)
    )
    hits = patterns.find(pa.array(["bear", text], pa.large_string()), ["0", "1"])
    data = text.encode()
    found = [
        data[first:end].decode()
        for row, run, first, end in zip(hits.rows, hits.runs, hits.first, hits.end, strict=True)
        if patterns.ways[run] == 1 and row == 1
    ]
    assert sorted(tuple(word for word, _ in words_of(passage)) for passage in found) == sorted(wanted)


@given(TEXT, st.integers(0, 60), st.integers(0, 60), st.integers(0, 20))
def test_what_is_cut_is_the_passage_and_what_is_near(text, first, size, window):
    first = min(first, len(text))
    span = (len(text[:first].encode()), len(text[: first + size].encode()))
    left = cut(text, [span], window)
    before, after = text[: max(0, first - window)], text[first + size + window :]
    assert all(piece in before or piece in after for piece in left.split("\n\n") if piece)
    assert len(left) <= len(before) + len(after) + 2
