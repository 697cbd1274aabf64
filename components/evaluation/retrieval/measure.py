"""Measure search, answers with and without what it finds, and what tuning and search are each for."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from components.common.errors import HeadraceError
from components.common.ledger import canonical
from components.common.sealed_store import store_of
from components.common.step import Context, Outcome
from components.evaluation.benchmark.options import Benchmark
from components.evaluation.benchmark.scoring import Opened
from components.evaluation.evidence import BASE, CANDIDATE, SAMPLES, Evidence, Metric, weigh
from components.evaluation.retrieval.bottleneck import find_bottleneck
from components.evaluation.retrieval.choice import Choice, choose
from components.evaluation.retrieval.claims import faithfulness
from components.evaluation.retrieval.compare import (
    Ranked,
    find_needs,
    quantile,
    rank_all,
    search_metrics,
    weigh_retrievers,
)
from components.evaluation.retrieval.corpus import Corpus, Gold, read_corpus
from components.evaluation.retrieval.embedding import Embedder
from components.evaluation.retrieval.items import Item, LeftOut, read_items, spread
from components.evaluation.retrieval.latency import cost
from components.evaluation.retrieval.options import Retrieval
from components.evaluation.retrieval.page import report_off, write_report
from components.evaluation.retrieval.search import Search
from components.evaluation.retrieval.systems import SYSTEMS, Asked, Contexts, Given, ask
from components.evaluation.retrieval.vectors import embed_chunks
from components.model.versions import may_show_answers

FINDINGS = "findings.json"


def run(
    base: Path, candidate: Path, questions: Path, dataset: Path, evidence: Path, options: Retrieval, context: Context
) -> Outcome:
    """Measure retrievers and models.

    Args:
        base: The model before tuning.
        candidate: The model that may be released.
        questions: Documents whose messages end with the expected answer.
        dataset: The dataset version that is searched.
        evidence: `evidence.json`, `scores.json`, `samples.jsonl` and `findings.json`.
        options: How to search, ask and judge.
        context: The run.

    Raises:
        HeadraceError: None of the questions can be answered from the dataset version.
    """
    if options.mode == "off":
        Evidence(options.confidence, [], {}, {"retrieval": "evaluation.retrieval.mode is off"}).write(evidence)
        (evidence / SAMPLES).write_text("", "utf-8")
        return Outcome(counts_in=0, counts_out=0, report=report_off())
    torch.set_num_threads(options.threads or torch.get_num_threads())
    read, not_one_turn = read_items(questions)
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    asked_about = {parent for item in read for parent in item.parents}
    corpus = read_corpus(dataset, asked_about, tokenizer, options.chunk_tokens, options.chunks, options.seed)
    needs = find_needs(corpus, read)
    items = [item for item in read if item.id in needs]
    if not items:
        raise HeadraceError(
            f"none of the {len(read)} questions was made from a document of {dataset}; give the dataset version that "
            "they were curated from"
        )
    embedder = Embedder(options.embedder, options.precision)
    vectors, reused = embed_chunks(
        corpus,
        embedder,
        store_of(context.environment),
        lambda done: context.progress(done, len(corpus.chunks), "embedding chunks"),
    )
    search = Search([chunk.told for chunk in corpus.chunks], vectors, embedder, options)
    ranked = rank_all(search, items, needs, options, context.progress)
    findings: dict[str, Any] = {
        "corpus": {
            "documents": corpus.documents,
            "documents_indexed": corpus.indexed,
            "chunks": len(corpus.chunks),
            "chunks_longer_than_the_embedder_reads": embedder.cut_off([chunk.told for chunk in corpus.chunks]),
        },
        "gold": {gold: sum(found == gold for _, found in needs.values()) for gold in Gold},
        "unanswerable": len(read) - len(items),
        "retrievers": weigh_retrievers(ranked, options),
    }
    metrics = search_metrics(ranked[options.retriever], options)
    scores = {CANDIDATE: {f"retrieval.{name}": dict(one) for name, one in ranked[options.retriever].scores.items()}}
    samples: list[dict[str, Any]] = []
    asked, choices = None, []
    if options.mode == "full":
        chosen = spread(items, options.limit)
        contexts = {item.id: _contexts(item, corpus, ranked[options.retriever], options) for item in chosen}
        asked = ask({BASE: base, CANDIDATE: candidate}, chosen, contexts, options, context.progress)
        answered = _weigh_answers(asked, chosen, contexts, options)
        metrics += answered[0]
        scores = {arm: {**scores.get(arm, {}), **answered[1][arm]} for arm in (BASE, CANDIDATE)}
        choices = _choose(asked, chosen, options)
        findings |= _findings(asked, chosen, ranked[options.retriever], choices, options)
        shown = all(map(may_show_answers, (base, candidate)))
        told = {
            item.id: shown
            and all(
                corpus.chunks[number].quotable
                for number in (*ranked[options.retriever].first[item.id], *ranked[options.retriever].needed[item.id])
            )
            for item in chosen
        }
        samples = _samples(asked, chosen, answered[1], told)
    Evidence(options.confidence, metrics, scores).write(evidence)
    (evidence / FINDINGS).write_bytes(canonical(_rounded(findings)))
    lines = (json.dumps(row, ensure_ascii=False, sort_keys=True) for row in samples)
    (evidence / SAMPLES).write_text("".join(f"{line}\n" for line in lines), "utf-8")
    dropped = {LeftOut.NOT_ONE_TURN: not_one_turn, LeftOut.UNANSWERABLE: len(read) - len(items)}
    return Outcome(
        counts_in=len(read) + not_one_turn,
        counts_out=len(items),
        dropped={str(reason): count for reason, count in dropped.items() if count},
        metrics={
            "chunks": float(len(corpus.chunks)),
            "chunks_reused": float(reused),
            "asked": float(len(samples)),
            **{metric.name.removeprefix("retrieval."): metric.value for metric in metrics},
        },
        report=write_report(findings, metrics, choices, ranked, items, samples, options),
    )


def _contexts(item: Item, corpus: Corpus, ranked: Ranked, options: Retrieval) -> Contexts:
    """What is handed over: the first chunks found, and the first of those that meet the question's need."""
    gold = ranked.needed[item.id][: options.context_chunks]
    return Contexts(
        [corpus.chunks[number].told for number in ranked.first[item.id]],
        [corpus.chunks[number].told for number in gold],
    )


def _weigh_answers(
    asked: Asked, items: Sequence[Item], contexts: Mapping[str, Contexts], options: Retrieval
) -> tuple[list[Metric], dict[str, dict[str, dict[str, float]]]]:
    """Correctness of each way to ask, and faithfulness to the right context, candidate beside base."""
    asking = Benchmark(judging=options.judging, embedder=options.embedder, precision=options.precision)
    judge = Opened(asking).judge
    scores: dict[str, dict[str, dict[str, float]]] = {BASE: {}, CANDIDATE: {}}
    for arm in scores:
        for given in Given:
            scores[arm][f"retrieval.tuned_{given}"] = asked.scores(arm, given, items, options.correctness)
        scores[arm]["retrieval.faithfulness"] = {
            item.id: faithfulness(
                asked.replies[arm][Given.GOLD][item.id].text, item.question, contexts[item.id].gold, judge
            )
            for item in items
        }
    metrics = [
        weigh(name, scores[CANDIDATE][name], scores[BASE][name], options, task="answers") for name in scores[CANDIDATE]
    ]
    return metrics, scores


def _choose(asked: Asked, items: Sequence[Item], options: Retrieval) -> list[Choice]:
    """The choice for everything, then for each language and kind of fact."""
    scores = {system: asked.scores(arm, given, items, options.correctness) for system, (arm, given) in SYSTEMS.items()}
    groups: dict[str, list[Item]] = {"everything": list(items)}
    languages = sorted({item.language for item in items})
    for language in languages if len(languages) > 1 else ():
        groups[f"in {language}"] = [item for item in items if item.language == language]
    for kind in sorted({item.kind for item in items if item.kind}):
        groups[kind] = [item for item in items if item.kind == kind]
    return [
        choose(
            group,
            {system: {item.id: one[item.id] for item in some} for system, one in scores.items()},
            options,
            options.tolerance,
        )
        for group, some in groups.items()
    ]


def _findings(
    asked: Asked, items: Sequence[Item], ranked: Ranked, choices: Sequence[Choice], options: Retrieval
) -> dict[str, Any]:
    systems = {}
    for rival, (system, (arm, given)) in zip(choices[0].rivals, SYSTEMS.items(), strict=True):
        replies = [asked.replies[arm][given][item.id] for item in items]
        looked_up = given == Given.FOUND
        seconds = [
            asked.paces[arm].seconds(reply) + (ranked.seconds[item.id] if looked_up else 0.0)
            for item, reply in zip(items, replies, strict=True)
        ]
        costs = [cost(reply, took, options.price) for reply, took in zip(replies, seconds, strict=True)]
        systems[str(system)] = {
            "accuracy": rival.value,
            "interval": rival.interval,
            "seconds_p50": quantile(seconds, 0.5),
            "seconds_p95": quantile(seconds, 0.95),
            "prompt_tokens": sum(reply.prompt_tokens for reply in replies) / len(replies),
            "answer_tokens": sum(reply.answer_tokens for reply in replies) / len(replies),
            "cost_of_1000": 1000 * sum(costs) / len(costs),
        }
    bottlenecks = {
        arm: asdict(
            find_bottleneck(
                asked.scores(arm, Given.GOLD, items, options.correctness),
                asked.scores(arm, Given.FOUND, items, options.correctness),
                options,
                options.tolerance,
            )
        )
        for arm in (CANDIDATE, BASE)
    }
    return {
        "systems": systems,
        "paces": {arm: asdict(pace) for arm, pace in asked.paces.items()},
        "bottlenecks": bottlenecks,
        "choices": [{**asdict(choice), "sentence": choice.sentence} for choice in choices],
    }


def _samples(
    asked: Asked,
    items: Sequence[Item],
    scores: Mapping[str, Mapping[str, Mapping[str, float]]],
    told: Mapping[str, bool],
) -> list[dict[str, Any]]:
    """Every question with every answer; `answer` is the one with what was found.

    An answer may repeat what the model was told or trained on, so it is shown only where all of that may be (`told`).
    """
    return [
        {
            "id": item.id,
            "question": item.question,
            "expected": item.answer,
            "kind": item.kind,
            "language": item.language,
            "quotable": item.quotable and told[item.id],
            **{
                arm: {
                    "answer": asked.replies[arm][Given.FOUND][item.id].text,
                    "answers": {str(given): asked.replies[arm][given][item.id].text for given in Given},
                    **{name: scores[arm][name][item.id] for name in scores[arm]},
                }
                for arm in (BASE, CANDIDATE)
            },
        }
        for item in items
    ]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {str(name): _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value
