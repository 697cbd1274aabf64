"""Decides what may be used: by licence, confidentiality and class of source.

The decision is a pure function of three declared values, so it is taken once for each combination that occurs.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from components.common.documents import CONFIDENTIALITY, SCHEMA, DocumentWriter, count_documents, read_batches
from components.common.report import Report
from components.common.step import Context, Outcome
from components.data.licenses import AMBIGUOUS_BSD, LICENSING, objection, terms_of, to_spdx
from components.data.mask.options import Mask
from components.data.mask.personal import Masker
from components.data.reasons import Reason
from components.data.screen.options import Screen


class Excluded(Reason):
    """Why a document may not be used."""

    CLASS = "class", "Its class of source is not among those the recipe uses."
    CONFIDENTIALITY = "confidentiality", "It is more confidential than the recipe's ceiling."
    LICENSE_UNKNOWN = "license_unknown", "No licence is stated, or the statement does not say which one."
    LICENSE_REFUSED = "license_refused", "Its licence is not on the recipe's list, or forbids what the recipe needs."


@dataclass(frozen=True)
class Claim:
    """What is declared about a document."""

    source_class: str
    confidentiality: str
    license: str
    license_stated: str


def run(documents: Path, allowed: Path, options: Screen, context: Context) -> Outcome:
    """Keep the documents that may be used, with their licence as an SPDX expression.

    Args:
        documents: Parsed documents.
        allowed: Folder for what may be used.
        options: The policy.
        context: Where the run takes place.

    Returns:
        What was excluded, by reason.
    """
    total = count_documents(documents)
    claims: Counter[tuple[Claim, str]] = Counter()
    bases: defaultdict[Basis, _Shares] = defaultdict(_Shares)
    robots: Counter[str] = Counter()
    verdicts: dict[Claim, tuple[str, Excluded | None]] = {}
    done = 0
    with DocumentWriter(allowed) as writer:
        for batch in read_batches(documents):
            rows = zip(*(batch[name].to_pylist() for name in _COLUMNS), strict=True)
            licenses: list[str] = []
            keep: list[bool] = []
            for confidentiality, license_, pairs, source in rows:
                tags = dict(pairs)
                # A document that does not say where the right to it comes from is treated as somebody else's.
                claim = Claim(
                    tags.get("source_class", "third_party"), confidentiality, license_, tags.get("license_stated", "")
                )
                if claim not in verdicts:
                    verdicts[claim] = judge(claim, options)
                expression, reason = verdicts[claim]
                claims[claim, source] += 1
                bases[basis_of(tags)].count(source, reason is None)
                robots[tags.get("robots", "unknown")] += 1
                licenses.append(expression)
                keep.append(reason is None)
            table = pa.Table.from_batches([batch])
            index = table.schema.get_field_index("license")
            table = table.set_column(index, SCHEMA.field("license"), pa.array(licenses, pa.string()))
            writer.write(table.filter(pa.array(keep, pa.bool_())))
            done += len(keep)
            context.progress(done, total, f"{writer.rows:,} allowed")
    dropped: Counter[Excluded] = Counter()
    for (claim, _), count in claims.items():
        reason = verdicts[claim][1]
        if reason is not None:
            dropped[reason] += count
    return Outcome(
        counts_in=total,
        counts_out=writer.rows,
        dropped={reason.value: count for reason, count in sorted(dropped.items())},
        metrics={"licenses": len({expression for expression, reason in verdicts.values() if reason is None})},
        report=_report(total, writer.rows, claims, verdicts, bases, robots, options),
    )


_WORDS = {True: "yes", False: "no", None: "not known"}
_COLUMNS = ("confidentiality", "license", "metadata", "source")


def judge(claim: Claim, options: Screen) -> tuple[str, Excluded | None]:
    """Decide about one combination of declared values.

    Args:
        claim: What is declared.
        options: The policy.

    Returns:
        The licence as an SPDX expression ('' if it cannot be told), and why the document may not be used, or None.
    """
    expression = to_spdx(claim.license) or to_spdx(claim.license_stated)
    if AMBIGUOUS_BSD in expression.split():
        expression = ""
    if claim.source_class not in options.classes:
        return expression, Excluded.CLASS
    if CONFIDENTIALITY.index(claim.confidentiality) > CONFIDENTIALITY.index(options.max_confidentiality):
        return expression, Excluded.CONFIDENTIALITY
    if not expression:
        return expression, Excluded.LICENSE_UNKNOWN
    if objection(expression, options.licenses, options.needs, options.share_alike):
        return expression, Excluded.LICENSE_REFUSED
    return expression, None


def ground(claim: Claim, options: Screen) -> str:
    """Say on what ground a document may not be used; '' if it may."""
    expression, reason = judge(claim, options)
    if reason is Excluded.CLASS:
        return f"{claim.source_class} is not among {', '.join(options.classes)}"
    if reason is Excluded.CONFIDENTIALITY:
        return f"{claim.confidentiality} is above {options.max_confidentiality}"
    if reason is Excluded.LICENSE_UNKNOWN:
        stated = claim.license or claim.license_stated
        return "the statement does not say which licence it means" if stated else "no licence is stated"
    return objection(expression, options.licenses, options.needs, options.share_alike) if reason else ""


class Basis(NamedTuple):
    """On what a document's use rests beside its licence, as `data/ingest` has found it; '' where there is nothing."""

    terms: str = ""
    terms_sha256: str = ""
    terms_changed: str = ""
    robots_sha256: str = ""
    reservations_sha256: str = ""


def basis_of(metadata: Mapping[str, str]) -> Basis:
    """Read the basis from a document's metadata."""
    return Basis(*(metadata.get(name, "") for name in Basis._fields))


@dataclass
class _Shares:
    """Which sources rest on a basis, and how many of their documents may be used."""

    sources: set[str] = field(default_factory=set)
    allowed: int = 0
    excluded: int = 0

    def count(self, source: str, allowed: bool) -> None:
        self.sources.add(source)
        self.allowed += allowed
        self.excluded += not allowed

    def named(self) -> str:
        first = min(self.sources)
        return first if len(self.sources) == 1 else f"{first} and {len(self.sources) - 1:,} more"


def _kept(sha256: str) -> str:
    return f"evidence/{sha256}" if sha256 else ""


def _report(
    total: int,
    kept: int,
    claims: Counter[tuple[Claim, str]],
    verdicts: dict[Claim, tuple[str, Excluded | None]],
    bases: Mapping[Basis, "_Shares"],
    robots: Counter[str],
    options: Screen,
) -> Report:
    """Show the policy at work: by licence, by reason, by source, on what grounds and evidence; never a text."""
    report = Report("Screen", f"{kept:,} of {total:,} documents may be used.")
    sources = {source for _, source in claims}
    refused: Counter[tuple[str, str, Excluded, str]] = Counter()
    reasons: Counter[str] = Counter()
    licenses: Counter[str] = Counter()
    for (claim, source), count in claims.items():
        expression, reason = verdicts[claim]
        if reason is None:
            licenses[expression] += count
        else:
            reasons[f"{reason.value}: {reason.sentence}"] += count
            wording = expression or claim.license_stated or claim.license
            refused[source, wording, reason, ground(claim, options)] += count
    report.metrics(
        {
            "documents": total,
            "allowed": kept,
            "excluded": total - kept,
            "sources": len(sources),
            "sources excluded": len({source for source, *_ in refused}),
        }
    )
    if reasons:
        report.bars(dict(reasons.most_common()), "Excluded, by reason")
    report.bars(dict(sorted(licenses.items(), key=_by_count)[:15]), "Allowed, by licence")
    if licenses:
        named = Counter[str]()
        for expression, count in licenses.items():
            named.update(dict.fromkeys(LICENSING.license_keys(expression), count))
        report.table(
            [
                {
                    "licence": key,
                    "documents": count,
                    **{field: _WORDS[value] for field, value in terms_of(key)._asdict().items()},
                }
                for key, count in sorted(named.items(), key=_by_count)
            ],
            "Terms of the licences that occur in what is allowed",
        )
    if refused:
        masker = Masker(Mask().kinds)
        report.table(
            [
                {
                    "source": source,
                    "licence": masker.mask(wording)[:120] or "nothing stated",
                    "reason": reason.value,
                    "ground": why,
                    "documents": count,
                }
                for (source, wording, reason, why), count in sorted(refused.items(), key=_by_count)
            ],
            "Every exclusion and its ground",
            limit=len(refused),
        )
    for basis, shares in bases.items():
        if basis.terms_changed:
            report.text(
                f"{shares.named()}: the terms are others since {basis.terms_changed} than before; read them before the "
                "documents are used."
            )
    if any(bases):
        report.table(
            [
                {
                    "sources": shares.named(),
                    "terms": basis.terms or "none declared",
                    "terms as they were": _kept(basis.terms_sha256) or ("not kept" if basis.terms else ""),
                    "changed": basis.terms_changed,
                    "robots.txt as it was": _kept(basis.robots_sha256),
                    "reservations as they were": _kept(basis.reservations_sha256),
                    "allowed": shares.allowed,
                    "excluded": shares.excluded,
                }
                for basis, shares in sorted(bases.items(), key=lambda entry: entry[1].named())
            ],
            "Terms and their evidence: where it lies in the store",
            limit=len(bases),
        )
    report.text(
        f"Licences that may be used: {', '.join(options.licenses)}. What they must not forbid: "
        f"{', '.join(options.needs) or 'nothing'}. Share-alike: {'accepted' if options.share_alike else 'refused'}. "
        f"Highest confidentiality: {options.max_confidentiality}. Classes: {', '.join(options.classes)}."
    )
    report.text(
        "robots.txt: " + "; ".join(f"{answer} for {count:,} documents" for answer, count in sorted(robots.items()))
    )
    return report


def _by_count(entry: tuple[object, int]) -> tuple[int, str]:
    return -entry[1], str(entry[0])
