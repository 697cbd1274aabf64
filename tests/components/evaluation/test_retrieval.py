"""evaluation/retrieval as a whole on tiny models, and its judgements."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from components.common.documents import DocumentWriter, new_document, read_table
from components.common.errors import HeadraceError
from components.common.sealed_store import store_of
from components.evaluation.evidence import Evidence
from components.evaluation.retrieval.bottleneck import Cause, find_bottleneck
from components.evaluation.retrieval.choice import Advice, System, choose
from components.evaluation.retrieval.measure import run
from components.evaluation.retrieval.options import Retrieval
from components.operations.erase.ground import WEIGHTS

ANSWERS = {
    "Under which licence is arvo released?": "# arvo\n\n## Licence\n\narvo is released under the MIT licence.",
    "What does belkin do?": "# belkin\n\nbelkin renders templates. " + "It has been doing so for years. " * 12,
    "Which Python does corvid need?": "# corvid\n\ncorvid needs Python >=3.10 at least.",
    "dasher 패키지의 용도는 무엇인가요?": "# dasher\n\ndasher 패키지는 형태소 분석을 위해 만들었습니다.",
}
SECRET = "swordfish"

Made = tuple[Path, Path]
Here = Callable[..., Any]


@pytest.fixture(scope="module")
def embedder(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT with the language model's tokenizer: like texts have like vectors, and no more."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    path = tmp_path_factory.mktemp("embedder")
    tokenizer = AutoTokenizer.from_pretrained(base)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=128, **sizes)).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def made(facts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dataset version that answers the facts, and the questions, one of which it does not answer."""
    path = tmp_path_factory.mktemp("retrieval")
    when = datetime(2026, 1, 1, tzinfo=UTC)
    common = {"source": "test", "retrieved_at": when, "pii": "none"}
    documents = [
        new_document(url=question, text=text, language="ko" if "패키지" in question else "en", **common)
        for question, text in ANSWERS.items()
    ]
    secret = {"confidentiality": "confidential", "language": "en"}
    hidden = new_document(url="hidden", text=f"# egret\n\nThe word of egret is {SECRET}.", **common, **secret)
    parents = {document["url"]: document["id"] for document in (*documents, hidden)}
    rows = [
        {**row, "metadata": dict(row["metadata"]), "parents": [parents[row["messages"][0]["content"]]]}
        for row in read_table(facts).to_pylist()
    ]
    more = [("hidden", "What is the word of egret?", SECRET, [parents["hidden"]], secret)]
    more += [("gone", "Where is fulmar?", "at sea", ["0" * 64], {"language": "en"})]
    rows += [
        new_document(
            url=url,
            text=question,
            kind="dialogue",
            messages=[{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
            parents=parents_of,
            metadata={"fact": "purpose"},
            **common,
            **fields,
        )
        for url, question, answer, parents_of, fields in more
    ]
    for name, content in (("dataset", [*documents, hidden]), ("questions", rows)):
        with DocumentWriter(path / name) as writer:
            writer.write(content)
    return path / "dataset", path / "questions"


@pytest.fixture
def options(embedder: Path) -> Retrieval:
    return Retrieval(
        embedder=str(embedder),
        limit=0,
        chunk_tokens=24,
        cutoffs=[1, 5],
        max_new_tokens=16,
        resamples=200,
        precision="fp32",
        threads=1,
    )


def test_search_and_models_are_measured_and_a_second_run_says_the_same_from_kept_vectors(
    base: Path,
    candidate: Path,
    made: tuple[Path, Path],
    options: Retrieval,
    tmp_path: Path,
    context: Callable[..., Any],
) -> None:
    dataset, questions = made
    here = context("evaluation/retrieval")
    outcomes = []
    for name in ("first", "again"):
        (tmp_path / name).mkdir()
        outcomes.append(run(base, candidate, questions, dataset, tmp_path / name, options, here))
    first, again = outcomes
    for file in ("evidence.json", "scores.json", "samples.jsonl"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()
    assert first.metrics["chunks_reused"] == 0
    assert again.metrics["chunks_reused"] == again.metrics["chunks"] > 5
    assert first.counts_in == 6 and first.counts_out == 5 and first.dropped == {"unanswerable": 1}

    evidence = Evidence.read(tmp_path / "first")
    metrics = {metric.name: metric for metric in evidence.metrics}
    assert set(metrics) == {
        *(f"retrieval.{name}" for name in ("recall_at_1", "recall_at_5", "mrr", "ndcg_at_5", "faithfulness")),
        *(f"retrieval.tuned_{name}" for name in ("without_context", "with_context", "with_gold")),
    }
    assert metrics["retrieval.recall_at_5"].value == 1 and metrics["retrieval.recall_at_5"].base_value is None
    learned = metrics["retrieval.tuned_without_context"]
    assert (learned.n, learned.value, learned.base_value) == (5, 0.8, 0)
    assert evidence.scores["candidate"].keys() == metrics.keys()

    findings = json.loads((tmp_path / "first" / "findings.json").read_text())
    assert findings["gold"] == {"answer": 5, "document": 0} and findings["unanswerable"] == 1
    assert set(findings["systems"]) == {"base", "tuned", "base + retrieval", "tuned + retrieval"}
    assert findings["systems"]["tuned"]["accuracy"] == 0.8
    for system in findings["systems"].values():
        assert 0 < system["seconds_p50"] <= system["seconds_p95"]
        assert system["cost_of_1000"] > 0
    assert findings["systems"]["base + retrieval"]["prompt_tokens"] > findings["systems"]["base"]["prompt_tokens"] + 20
    assert findings["choices"][0]["advice"] == Advice.TUNE
    samples = [json.loads(line) for line in (tmp_path / "first" / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 5 and {"id", "question", "quotable", "candidate", "base"} <= samples[0].keys()

    page = first.report.html()
    assert "형태소 분석" in page and SECRET not in page
    assert "searched by words alone" in page.replace("\n", " ")
    assert "전체: 미세 조정으로 가르치는 것이 좋습니다: 질문 5개의 정답률은 기본 모델 0%, 미세 조정 모델 80%" in page
    assert "한국어 질문: " in page and str(options.embedder) not in page
    assert "<svg" in page and "bottleneck" in page

    store = store_of(here.environment)
    kept = list(store.list("embeddings/"))
    named = {document for key in kept for document in json.loads(store.read(key).partition(b"\n")[0])["documents"]}
    assert named == set(read_table(dataset, ["id"])["id"].to_pylist())
    assert not any(key.endswith(tuple(WEIGHTS)) for key in kept)  # erasure looks into what is no weight


def test_what_a_model_that_learned_secrets_says_is_not_shown(
    base: Path, candidate: Path, made: Made, options: Retrieval, tmp_path: Path, context: Here
) -> None:
    dataset, questions = made
    learned = shutil.copytree(candidate, tmp_path / "candidate")
    record = learned / "adapter" / "training.json"
    said = json.loads(record.read_text())
    assert said.pop("quotable") is True
    record.write_text(json.dumps(said))
    (tmp_path / "out").mkdir()
    outcome = run(base, learned, questions, dataset, tmp_path / "out", options, context("evaluation/retrieval"))
    samples = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 5 and not any(sample["quotable"] for sample in samples)
    assert "형태소 분석" not in outcome.report.html()


def test_search_alone_needs_no_candidate(
    base: Path, made: Made, options: Retrieval, tmp_path: Path, context: Here
) -> None:
    dataset, questions = made
    alone = options.model_copy(update={"mode": "retrievers"})
    outcome = run(base, tmp_path / "none", questions, dataset, tmp_path, alone, context("evaluation/retrieval"))
    assert all(metric.base_value is None for metric in Evidence.read(tmp_path).metrics)
    assert outcome.metrics["asked"] == 0
    assert "Search alone" in outcome.report.html()


def test_switched_off_it_hands_on_evidence_that_says_so(tmp_path: Path, context: Callable[..., Any]) -> None:
    nowhere = tmp_path / "none"
    off = Retrieval(mode="off")
    outcome = run(nowhere, nowhere, nowhere, nowhere, tmp_path, off, context("evaluation/retrieval"))
    evidence = Evidence.read(tmp_path)
    assert not evidence.metrics and evidence.off == {"retrieval": "evaluation.retrieval.mode is off"}
    assert "Switched off" in outcome.report.html()


def test_questions_of_another_dataset_are_refused(
    base: Path, facts: Path, made: Made, options: Retrieval, tmp_path: Path, context: Here
) -> None:
    with pytest.raises(HeadraceError, match="none of the 4 questions was made from a document"):
        run(base, base, facts, made[0], tmp_path, options, context("evaluation/retrieval"))


def scored(*rights: int) -> dict[str, float]:
    return {f"{number:03}": float(right) for number, right in enumerate(rights)}


def systems(base: int, tuned: int, looked_up: int, both: int, of: int) -> dict[System, dict[str, float]]:
    """Each system right on the first so many questions."""
    counts = dict(zip(System, (base, tuned, looked_up, both), strict=True))
    return {system: scored(*(number < count for number in range(of))) for system, count in counts.items()}


@pytest.mark.parametrize(
    ("rights", "advice", "certain"),
    [
        ((5, 95, 40, 97), Advice.TUNE, True),
        ((5, 40, 95, 96), Advice.RETRIEVE, True),
        ((5, 50, 60, 95), Advice.BOTH, True),
        ((94, 95, 95, 96), Advice.LEAVE, True),
        ((2, 4, 6, 8), Advice.NEITHER, True),
    ],
)
def test_the_least_effort_that_is_as_good_is_recommended(
    rights: tuple[int, int, int, int], advice: Advice, certain: bool
) -> None:
    choice = choose("licence", systems(*rights, of=100), Retrieval(resamples=200), 0.1)
    assert (choice.advice, choice.certain) == (advice, certain), choice.sentence
    assert choice.sentence.startswith(f"licence: {advice}")


def test_few_questions_make_a_leaning_not_a_finding() -> None:
    choice = choose("licence", systems(0, 3, 2, 3, of=4), Retrieval(resamples=200), 0.1)
    assert choice.advice == Advice.TUNE and not choice.certain
    assert "a leaning, not a finding" in choice.sentence


@pytest.mark.parametrize(
    ("gold", "found", "of", "cause"),
    [
        (95, 40, 100, Cause.RETRIEVER),
        (40, 38, 100, Cause.GENERATOR),
        (60, 20, 100, Cause.BOTH),
        (298, 297, 300, Cause.NEITHER),
        (3, 2, 4, Cause.UNDECIDED),
    ],
)
def test_the_bottleneck_is_named_only_when_intervals_say_so(gold: int, found: int, of: int, cause: Cause) -> None:
    scores = [scored(*(number < right for number in range(of))) for right in (gold, found)]
    bottleneck = find_bottleneck(*scores, Retrieval(resamples=200), 0.1)
    assert bottleneck.cause == cause, bottleneck.sentence
    assert bottleneck.search.interval[0] <= bottleneck.search.value <= bottleneck.search.interval[1]


def test_pace_is_recovered_from_timed_requests_and_prices_follow_it() -> None:
    from components.evaluation.retrieval.latency import cost, measure_pace
    from components.evaluation.retrieval.options import Price
    from components.model.answering import Reply

    replies = [Reply("", prompt, answer) for prompt, answer in ((40, 5), (300, 6), (42, 30), (310, 28))]
    pace = measure_pace([(reply, 0.2 + 0.002 * reply.prompt_tokens + 0.05 * reply.answer_tokens) for reply in replies])
    assert pace.seconds(Reply("", 100, 10)) == pytest.approx(0.9)
    assert pace.error < 1e-6
    reply = Reply("", 1000, 100)
    assert cost(reply, 7.2, Price(by="time", hour=1)) == pytest.approx(0.002)
    assert cost(reply, 7.2, Price(by="tokens", prompt=1, answer=2)) == pytest.approx(0.0012)


def test_braces_in_documents_and_questions_are_no_places() -> None:
    from components.evaluation.retrieval.items import Item
    from components.evaluation.retrieval.systems import prompt_for

    item = Item("1", "What is {context}?", "x", "ko", "", (), True)
    prompts = {"en": "{context} | {question}", "ko": "{question} | {context}"}
    assert prompt_for(item, ["a {question}", "b"], prompts) == "What is {context}? | a {question}\n\nb"
    assert prompt_for(item, [], prompts) == item.question


@pytest.mark.parametrize("wrong", [{"prompts": {"ko": "{context}{question}"}}, {"prompts": {"en": "{question}"}}])
def test_prompts_that_cannot_be_used_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"en|\{context\}"):
        Retrieval(**wrong)
