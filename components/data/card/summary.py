"""What a card says, as plain values: the one summary that the Markdown, the page and `card.json` are written from."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from components.data.card.facts import NGRAM, SCORES, Facts, SourceFacts
from components.data.card.history import Passed
from components.data.card.sketch import SIZE, Ngrams, Sketch

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def summarise(
    facts: Facts,
    steps: Sequence[Passed],
    mixture: Mapping[str, Any],
    decontamination: Mapping[str, Any],
    previous: str,
    earlier: Sketch | None,
) -> dict[str, Any]:
    """Put together what a card says.

    Args:
        facts: What was counted.
        steps: What the steps before did.
        mixture: What data/mix wrote down; empty where it did not run.
        decontamination: What data/decontaminate wrote down; empty where it did not run.
        previous: Version that the card compares with; '' for none.
        earlier: The n-grams of that version; None if they cannot be had.
    """
    return {
        "documents": facts.documents,
        "text_bytes": facts.size,
        "tokens": facts.tokens,
        "retrieved": [_day(facts.oldest), _day(facts.newest)],
        "sources": [_source(source) for source in facts.sources],
        "steps": [
            {
                "stage": step.stage,
                "in": step.documents_in,
                "out": step.documents_out,
                "dropped": {reason: number for reason, number in step.dropped.most_common() if number},
            }
            for step in steps
        ],
        "shares": {
            name: {value: asdict(amount) for value, amount in values.items()}
            for name, values in facts.counts.items()
            if name != "source"
        },
        "decontamination": dict(decontamination),
        "mixture": dict(mixture),
        "lengths": {"quantiles": _quantiles(facts.lengths), "histogram": _doubling(facts.lengths)},
        "scores": {name: _score(name, facts) for name in SCORES},
        "personal_data": {
            "documents": {state: amount.documents for state, amount in facts.counts.get("pii", {}).items()},
            "masks": {
                label: {"documents": found.documents, "masks": found.tokens} for label, found in facts.masks.items()
            },
        },
        "words": {"all": facts.words.total, "different": facts.words.sketch.distinct(), "exact": _exact(facts.words)},
        "ngrams": {
            "words": NGRAM,
            "all": facts.ngrams.total,
            "different": facts.ngrams.sketch.distinct(),
            "exact": _exact(facts.ngrams),
        },
        "novelty": _novelty(facts.ngrams.sketch, previous, earlier),
    }


def _exact(ngrams: Ngrams) -> bool:
    return len(ngrams.sketch.values) < SIZE


def _novelty(sketch: Sketch, previous: str, earlier: Sketch | None) -> dict[str, Any]:
    if not previous:
        return {}
    if earlier is None:
        return {"previous": previous}
    share = sketch.not_in(earlier)
    return {
        "previous": previous,
        "new": round(share.value, 6),
        "interval": [round(share.low, 6), round(share.high, 6)],
        "sample": share.sample,
    }


def _source(source: SourceFacts) -> dict[str, Any]:
    declared = source.declared
    return {
        "id": source.name,
        "class": declared.class_ if declared else "/".join(sorted(source.classes)),
        "owner": declared.owner if declared else "",
        "cadence": declared.cadence if declared else "",
        "declared_license": declared.license if declared else "",
        "licenses": dict(_most(source.licenses)),
        "terms": sorted({declared.terms} - {""} if declared else source.terms),
        "terms_sha256": sorted(source.evidence),
        "terms_changed": sorted(source.changed),
        "parts": len(source.parts),
        **asdict(source.amount),
    }


def _most(counter: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))


def _score(name: str, facts: Facts) -> dict[str, Any]:
    """Describe a score: how many documents have it, quantiles, and a histogram; empty where none was measured."""
    values = facts.scores.get(name, np.zeros(0))
    if not len(values):
        return {}
    return {
        "documents": len(values),
        "quantiles": _quantiles(values),
        "histogram": _tenths(values) if name == "quality" else _doubling(values),
    }


def _quantiles(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {}
    found = np.quantile(values, QUANTILES, method="inverted_cdf")
    return {f"{100 * share:g} %": round(float(value), 4) for share, value in zip(QUANTILES, found, strict=True)}


def _doubling(values: np.ndarray) -> dict[str, int]:
    """Count values between powers of two, by the lower bound."""
    if not len(values):
        return {}
    exponents = np.floor(np.log2(np.maximum(values, 0.5))).astype(int)
    bounds = range(int(exponents.min()), int(exponents.max()) + 1)
    return {f"{2.0**bound:g}" if bound >= 0 else "0": int((exponents == bound).sum()) for bound in bounds}


def _tenths(values: np.ndarray) -> dict[str, int]:
    """Count values between tenths, by the lower bound; those outside go to the ends."""
    tenths = np.clip(np.floor(10 * values), 0, 9).astype(int)
    return {f"{number / 10:g}": int((tenths == number).sum()) for number in range(10)}


def _day(when: Any) -> str:
    return when.date().isoformat() if when else ""


def share_of(amounts: Mapping[str, Mapping[str, int]]) -> dict[str, float]:
    """Share of the tokens by value."""
    whole = sum(amount["tokens"] for amount in amounts.values()) or 1
    return {value: amount["tokens"] / whole for value, amount in amounts.items()}
