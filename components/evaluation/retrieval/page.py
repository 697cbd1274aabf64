"""The report of evaluation/retrieval."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from components.common.report import Report
from components.evaluation.evidence import BASE, CANDIDATE, Metric, with_interval
from components.evaluation.retrieval.choice import Choice
from components.evaluation.retrieval.compare import Ranked
from components.evaluation.retrieval.items import Item
from components.evaluation.retrieval.options import Retrieval, Retriever

_GIVEN = {
    "without_context": "nothing",
    "with_context": "what was found",
    "with_gold": "the right context",
}

_IN_KOREAN = {"everything": "전체:", "in ko": "한국어 질문:"}
"""Groups whose choice a report that has Korean questions also says in Korean."""


def report_off() -> Report:
    """Say that nothing was measured."""
    return Report("Retrieval", "Switched off: evaluation.retrieval.mode is off. The evidence says so.")


def write_report(
    findings: Mapping[str, Any],
    metrics: Sequence[Metric],
    choices: Sequence[Choice],
    ranked: Mapping[Retriever, Ranked],
    items: Sequence[Item],
    samples: Sequence[Mapping[str, Any]],
    options: Retrieval,
) -> Report:
    """Show what was found.

    Args:
        findings: What `findings.json` says.
        metrics: The evidence.
        choices: Tune or look up, for everything and by kind of fact; empty if no model was asked.
        ranked: What each retriever came to.
        items: The questions that were searched for.
        samples: The questions that the models were asked.
        options: The options.
    """
    recall = fmean(ranked[options.retriever].scores[f"recall_at_{options.cutoffs[-1]}"].values())
    found = f"The first {options.cutoffs[-1]} chunks of {options.retriever} hold {recall:.0%} of what is needed."
    report = Report("Retrieval", _capital(choices[0].sentence) if choices else found)
    if choices:
        _tell_choice(report, findings, choices, options)
        _tell_bottleneck(report, findings, metrics, options)
    _tell_search(report, findings, ranked, items, options)
    _tell_corpus(report, findings, items, options)
    if quoted := [sample for sample in samples if sample["quotable"]][: options.examples]:
        report.table([_example(sample) for sample in quoted], "Examples")
    elif samples:
        report.text("No answer is shown: questions, documents or what a model was trained on may not be quoted.")
    return report


def _tell_choice(report: Report, findings: Mapping[str, Any], choices: Sequence[Choice], options: Retrieval) -> None:
    report.heading("What to tune in, what to look up")
    report.text("\n\n".join(_capital(choice.sentence) for choice in choices))
    if any(choice.group == "in ko" for choice in choices):
        told = [f"{_IN_KOREAN[choice.group]} {choice.korean}" for choice in choices if choice.group in _IN_KOREAN]
        report.text("\n\n".join(told))
    report.figure(_plot(findings["systems"]), "Right answers against time to answer; intervals, and p50 to p95")
    cost = f"{options.price.currency} for 1,000"
    report.table(
        [
            {
                "system": name,
                "right": with_interval(one["accuracy"], one["interval"]),
                "behind the best": with_interval(rival.behind, rival.behind_interval),
                "seconds p50": round(one["seconds_p50"], 2),
                "p95": round(one["seconds_p95"], 2),
                "prompt tokens": round(one["prompt_tokens"]),
                "answer tokens": round(one["answer_tokens"]),
                cost: round(one["cost_of_1000"], 4),
            }
            for rival, (name, one) in zip(choices[0].rivals, findings["systems"].items(), strict=True)
        ],
        f"The four systems on the same {choices[0].questions} questions",
    )
    report.table(
        [
            {
                "questions about": choice.group,
                "how many": choice.questions,
                "advice": choice.advice,
                "sure": choice.certain,
                **{rival.system: rival.value for rival in choice.rivals},
            }
            for choice in choices
        ],
        "By language and kind of fact, share of right answers",
    )
    paces = findings["paces"]
    timed = ", ".join(f"{arm} {pace['timed']} (off by {pace['error']:.0%})" for arm, pace in paces.items())
    report.text(
        f"An answer is right by {options.correctness}. Differences are paired over the questions; one of at most "
        f"{options.tolerance:.0%} is not worth another system. Seconds are those of a request that is answered alone "
        f"on this machine: estimated from its tokens with what requests timed alone took — {timed} — and, with "
        f"retrieval, the time of its search. Cost is by {options.price.by}; your prices go into "
        "evaluation.retrieval.price."
    )


def _tell_bottleneck(
    report: Report, findings: Mapping[str, Any], metrics: Sequence[Metric], options: Retrieval
) -> None:
    report.heading("Where right answers are lost")
    report.text(findings["bottlenecks"][CANDIDATE]["sentence"])
    report.text(f"For the base model: {findings['bottlenecks'][BASE]['sentence']}")
    by_name = {metric.name: metric for metric in metrics}
    rows = []
    for name, given in _GIVEN.items():
        row = by_name[f"retrieval.tuned_{name}"].row()
        rows.append({"given": given, "measured": options.correctness, **{key: row[key] for key in list(row)[1:]}})
    faithful = by_name["retrieval.faithfulness"].row()
    rows.append(
        {"given": "the right context", "measured": "faithful", **{key: faithful[key] for key in list(faithful)[1:]}}
    )
    report.table(rows, "Answers by what the model is given")
    report.text(
        f"Faithful is the share of an answer's clauses that the context supports, judged by {options.judging.judge}; "
        "how far that agrees with people is in the benchmark's report."
    )


def _tell_search(
    report: Report,
    findings: Mapping[str, Any],
    ranked: Mapping[Retriever, Ranked],
    items: Sequence[Item],
    options: Retrieval,
) -> None:
    report.heading("Search alone")
    rows = findings["retrievers"]
    shown = dict.fromkeys(row["measure"] for row in rows)
    report.table(
        [
            {
                "retriever": name,
                **{
                    measure.replace("_", " "): with_interval(row["value"], row["interval"])
                    for row in rows
                    for measure in [row["measure"]]
                    if row["retriever"] == name and measure in shown
                },
            }
            for name in ranked
        ],
        f"Over {len(items)} questions, {options.confidence:.0%} intervals",
    )
    report.table(
        [
            {
                "measure": measure.replace("_", " "),
                "best": next(row["best"] for row in rows if row["measure"] == measure),
                **{
                    row["retriever"]: "" if row["retriever"] == row["best"] else _behind(row)
                    for row in rows
                    if row["measure"] == measure
                },
            }
            for measure in shown
        ],
        "How far behind the best, paired over the questions",
    )
    for group in ("language", "kind"):
        values = sorted({getattr(item, group) for item in items})
        if len(values) > 1:
            report.table(_by(group, values, ranked, items, options), f"By {group}: {_recall(options)}")
    report.text(_note_on_languages(items, options))


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _behind(row: Mapping[str, Any]) -> str:
    return with_interval(row["behind"], row["behind_interval"])


def _recall(options: Retrieval) -> str:
    """The cutoff that tables of groups show: 5, or the one nearest to it."""
    return f"recall_at_{min(options.cutoffs, key=lambda cutoff: abs(cutoff - 5))}"


def _by(
    group: str, values: Sequence[str], ranked: Mapping[Retriever, Ranked], items: Sequence[Item], options: Retrieval
) -> list[dict[str, Any]]:
    rows = []
    for value in values:
        some = [item.id for item in items if getattr(item, group) == value]
        recalls = {
            name: round(fmean(one.scores[_recall(options)][item] for item in some), 3) for name, one in ranked.items()
        }
        row: dict[str, Any] = {group: value or "(none)", "questions": len(some)}
        rows.append(row | recalls)
    return rows


def _note_on_languages(items: Sequence[Item], options: Retrieval) -> str:
    foreign = sorted({item.language for item in items} - set(options.embedder_languages))
    known = ", ".join(options.embedder_languages)
    if not foreign:
        return f"All questions are in languages that the embedder was trained on ({known})."
    return (
        f"The embedder {Path(options.embedder).name} was trained on {known}. Questions in {', '.join(foreign)} are "
        "searched by words alone in hybrid, mmr and reranked; dense shows what it makes of them. For such documents "
        "give a multilingual embedder and name its languages in evaluation.retrieval.embedder_languages."
    )


def _tell_corpus(report: Report, findings: Mapping[str, Any], items: Sequence[Item], options: Retrieval) -> None:
    corpus, gold = findings["corpus"], findings["gold"]
    report.heading("What was searched")
    report.metrics(
        {
            "documents": corpus["documents"],
            "with chunks searched": corpus["documents_indexed"],
            "chunks": corpus["chunks"],
            "questions": len(items),
            "unanswerable": findings["unanswerable"],
        }
    )
    part = (
        "Every chunk of the dataset version is searched."
        if not options.chunks or corpus["documents_indexed"] == corpus["documents"]
        else "The questions' documents are searched whole, the others by a draw: in all of the dataset version the "
        "right chunk is harder to find than here. evaluation.retrieval.chunks sets how many."
    )
    report.text(
        f"{part} A chunk has at most {options.chunk_tokens} tokens, cut where the document's structure allows it, and "
        "is indexed below its title and headings. "
        f"For {gold['answer']} questions a chunk is right if it belongs to the question's document and holds the "
        f"expected answer; for {gold['document']}, whose answer stands nowhere word for word, if it belongs to the "
        "document. Other documents that happen to say the same count as wrong. Unanswerable are questions none of "
        "whose documents is in the dataset version; they are in no figure."
    )
    if cut := corpus["chunks_longer_than_the_embedder_reads"]:
        report.text(f"{cut} chunks are longer than the embedder reads; dense search does not see their ends.")


def _example(sample: Mapping[str, Any]) -> dict[str, str]:
    return {
        "question": sample["question"],
        "expected": sample["expected"],
        **{
            f"{arm}, given {given}": sample[arm]["answers"][name]
            for arm in (BASE, CANDIDATE)
            for name, given in _GIVEN.items()
        },
    }


def _plot(systems: Mapping[str, Mapping[str, Any]]) -> Figure:
    figure = Figure(figsize=(7, 3.4))
    axes = figure.add_subplot()
    for name, one in systems.items():
        value, (low, high) = one["accuracy"], one["interval"]
        right, late = one["seconds_p50"], one["seconds_p95"]
        axes.errorbar(
            [right], [value], yerr=[[value - low], [high - value]], xerr=[[0], [late - right]], marker="o", capsize=3
        )
        axes.annotate(name, (right, value), xytext=(6, 6), textcoords="offset points")
    axes.set(xlabel="seconds to answer", ylabel="right answers", xlim=(0, None), ylim=(-0.03, 1.03))
    return figure
