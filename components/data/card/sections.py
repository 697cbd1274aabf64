"""What a card says, section by section: the Markdown and the page are two renderings of these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.common.report import display
from components.data.card.options import Card

_SHARES = {
    "language": "Languages",
    "domain": "Domains",
    "kind": "Kinds",
    "license": "Licences",
    "confidentiality": "Confidentiality",
}


@dataclass(frozen=True)
class Section:
    """A part of the card: a title, then what there is of text, table and bars."""

    title: str
    text: str = ""
    rows: Sequence[Mapping[str, Any]] = ()
    bars: Mapping[str, int] = field(default_factory=dict)


def sections(options: Card, summary: Mapping[str, Any]) -> list[Section]:
    """Write the sections of a card.

    Args:
        options: What people say about the dataset.
        summary: What was counted.
    """
    oldest, newest = summary["retrieved"]
    numbers = (
        f"{summary['documents']:,} documents, {summary['tokens']:,} tokens, {summary['text_bytes'] / 1e6:,.1f} MB of "
        f"text, retrieved from {oldest} to {newest}. Owner: {options.owner}. A token is a run without white space; a "
        "Chinese, Japanese or Korean character is one of its own."
    )
    return [
        Section("", numbers),
        Section("Purpose", options.purpose),
        Section("Limits", options.limits),
        _sources(summary),
        _exclusions(summary),
        *_decontamination(summary),
        *_mixture(summary),
        *(
            Section(title, _SHARES_TEXT.get(column, ""), _shares(column, summary["shares"][column]))
            for column, title in _SHARES.items()
        ),
        *_scores(summary),
        Section(
            "Length",
            f"Tokens of a document: {_spread(summary['lengths']['quantiles'])}. Documents by tokens, from:",
            bars=summary["lengths"]["histogram"],
        ),
        _personal(summary),
        _new(summary),
    ]


_SHARES_TEXT = {"license": "Every document keeps its own licence, in the column `license`."}


def _shares(column: str, amounts: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    whole = sum(amount["tokens"] for amount in amounts.values()) or 1
    ordered = sorted(amounts.items(), key=lambda item: (-item[1]["tokens"], item[0]))
    return [
        {
            column: value or "(none)",
            "documents": amount["documents"],
            "tokens": amount["tokens"],
            "share of tokens": f"{amount['tokens'] / whole:.2%}",
        }
        for value, amount in ordered
    ]


def _sources(summary: Mapping[str, Any]) -> Section:
    rows = [
        {
            "source": source["id"] + (f" ({source['parts']:,} parts)" if source["parts"] > 1 else ""),
            "class": source["class"] or "not declared",
            "owner": source["owner"] or "not declared",
            "licence": _licenses(source),
            "cadence": source["cadence"] or "not declared",
            "terms": " ".join(source["terms"]) or "none named",
            "terms kept as": " ".join(one[:12] for one in source["terms_sha256"]) or "not kept",
            "documents": source["documents"],
            "tokens": source["tokens"],
        }
        for source in summary["sources"]
    ]
    return Section("Sources", cadence_of(summary) + _changed(summary), rows)


def _licenses(source: Mapping[str, Any]) -> str:
    found = list(source["licenses"])
    shown = ", ".join(license_ or "unknown" for license_ in found[:3])
    return shown + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def cadence_of(summary: Mapping[str, Any]) -> str:
    """Say how often the sources change."""
    cadences: dict[str, list[str]] = {}
    for source in summary["sources"]:
        cadences.setdefault(source["cadence"] or "as nobody declared", []).append(source["id"])
    told = {"once": "never", "on_change": "on no schedule"}
    return " ".join(
        f"{len(names):,} source{'s' if len(names) > 1 else ''} change{'s' if len(names) == 1 else ''} "
        f"{told.get(cadence, cadence)}."
        for cadence, names in sorted(cadences.items())
    )


def _changed(summary: Mapping[str, Any]) -> str:
    changed = [f"{source['id']} ({', '.join(source['terms_changed'])})" for source in summary["sources"]]
    named = [one for one, source in zip(changed, summary["sources"], strict=True) if source["terms_changed"]]
    return f" Terms that changed since a source was first read: {'; '.join(named)}." if named else ""


def _exclusions(summary: Mapping[str, Any]) -> Section:
    if not summary["steps"]:
        return Section("What was left out", "Not known: no step of the ledger made these documents.")
    rows = [
        {"step": step["stage"], "read": step["in"], "reason": reason, "left out": number}
        for step in summary["steps"]
        for reason, number in (step["dropped"] or {"(nothing)": 0}).items()
    ]
    return Section("What was left out", "By step and reason, as the ledger recorded it.", rows)


def _decontamination(summary: Mapping[str, Any]) -> list[Section]:
    told = summary["decontamination"]
    if not told:
        return []
    if not told["sets"]:
        return [Section("Evaluation sets", "None was named, so nothing was looked for in these documents.")]
    text = (
        f"Looked for in the documents: questions with their answers, and runs of {told['ngram']} words. "
        f"{told['documents_dropped']:,} documents were left out; {told['passages']:,} passages were cut out of "
        f"{told['documents_cut']:,} others. {told['common_phrases']:,} runs are common phrases and stay."
    )
    rows = [
        {
            "set": one["name"],
            "sha256": one["sha256"][:12],
            "questions": one["items"],
            "found": one["found"],
            "too short to look for": one["too_short"],
            "documents left out": one["documents_dropped"],
            "documents cut": one["documents_cut"],
        }
        for one in told["sets"]
    ]
    return [Section("Evaluation sets", text, rows)]


def _mixture(summary: Mapping[str, Any]) -> list[Section]:
    mixture = summary["mixture"]
    if not mixture:
        return []
    rows = [
        {
            "group": name,
            "share asked": f"{share['asked']:.2%}",
            "share got": f"{share['got']:.2%}",
        }
        for name, share in sorted(mixture["groups"].items(), key=lambda item: (-item[1]["got"], item[0]))
    ]
    text = f"{mixture['tokens']:,} tokens, counted as {mixture['measure']}. Seed {mixture['seed']}"
    text += f"; each epoch leaves out {mixture['dropout']:.0%}." if mixture["dropout"] else "."
    return [Section("Mixture", " ".join([text, *mixture["notes"]]), rows)]


def _scores(summary: Mapping[str, Any]) -> list[Section]:
    found = []
    for name, score in summary["scores"].items():
        title = name.capitalize()
        if not score:
            found.append(Section(title, f"Not measured: no document has a {name} score."))
            continue
        without = summary["documents"] - score["documents"]
        text = f"Of {score['documents']:,} documents: {_spread(score['quantiles'])}."
        text += f" {without:,} documents were not measured." if without else ""
        found.append(Section(title, f"{text} Documents by {name}, from:", bars=score["histogram"]))
    return found


def _spread(quantiles: Mapping[str, float]) -> str:
    return ", ".join(f"{share} at most {display(value)}" for share, value in quantiles.items())


def personal_of(summary: Mapping[str, Any]) -> str:
    """Say what is known of personal data."""
    told = {
        "none": "nothing that was looked for was found in",
        "masked": "something was masked in",
        "present": "it may stand in",
    }
    states = summary["personal_data"]["documents"]
    return "Personal data: " + ", ".join(
        f"{told[state]} {states[state]:,} documents" for state in told if states.get(state)
    )


def _personal(summary: Mapping[str, Any]) -> Section:
    masks = summary["personal_data"]["masks"]
    rows = [
        {"mask": f"[{label}_…]", "documents": one["documents"], "masks": one["masks"]} for label, one in masks.items()
    ]
    text = f"{personal_of(summary)}." + (" Masks that stand in the texts, by type:" if rows else "")
    return Section("Personal data", text, rows)


def _new(summary: Mapping[str, Any]) -> Section:
    words, ngrams = summary["words"], summary["ngrams"]
    rows = [
        {
            "what": what,
            "all": counted["all"],
            "different": counted["different"],
            "share": f"{counted['different'] / max(1, counted['all']):.2%}",
            "error": "exact" if counted["exact"] else "±1.6 % of it",
        }
        for what, counted in (("words", words), (f"runs of {ngrams['words']} words", ngrams))
    ]
    text = (
        "Different words among all, and different runs of words; case and punctuation aside, a Chinese, Japanese or "
        f"Korean character is a word. {novelty_of(summary['novelty'], ngrams['words'])}"
    )
    return Section("Unique and new", text, rows)


def novelty_of(novelty: Mapping[str, Any], words: int) -> str:
    """Say what share of the n-grams an earlier version did not have."""
    if not novelty:
        return "No earlier version was named to compare with."
    if "new" not in novelty:
        return f"The n-grams of {novelty['previous']} are not in the store any more."
    low, high = novelty["interval"]
    error = "counted among" if low == high else f"95 % interval {low:.2%} to {high:.2%}, from a sample of"
    return (
        f"{novelty['new']:.2%} of the different runs of {words} words are not in {novelty['previous']} ({error} "
        f"{novelty['sample']:,})."
    )
