"""Probe a dataset version: train a small model on it and on the present one, and say what the new data is worth."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.common.documents import DocumentWriter
from components.common.ledger import canonical
from components.common.step import Context, Outcome
from components.data.card.version import read_name
from components.data.probe.draw import SIDES, Drawn, draw_sides
from components.data.probe.findings import Advice, Result, Side, advise, name_sides, per_cost, weigh
from components.data.probe.options import Probing
from components.data.probe.page import measure_row, page
from components.data.probe.trial import Trials
from components.data.probe.weigh import PROBE


def run(
    base: Path,
    present: Path,
    proposed: Path,
    present_pairs: Path,
    proposed_pairs: Path,
    questions: Path,
    withheld: Path,
    evidence: Path,
    options: Probing,
    context: Context,
) -> Outcome:
    """Compare two dataset versions by what a model learns from them.

    Args:
        base: The base model.
        present: The dataset version in use.
        proposed: The dataset version with the new data.
        present_pairs: What the present side was trained on.
        proposed_pairs: What the proposed side was trained on.
        questions: What both were asked.
        withheld: What neither was trained on.
        evidence: `probe.json`.
        options: How to curate, train, ask and judge.
        context: The run.
    """
    versions = {"present": read_name(present), "proposed": read_name(proposed)}
    drawn = draw_sides(present, proposed, options, context)
    written = {
        present_pairs: drawn.pairs["present"],
        proposed_pairs: drawn.pairs["proposed"],
        questions: [asked.pair for asked in drawn.questions],
        withheld: drawn.withheld,
    }
    for folder, rows in written.items():
        with DocumentWriter(folder) as writer:
            writer.write(rows)
    trials = Trials(base, drawn.questions, drawn.withheld, options, context)
    untrained = trials.base()
    seeds = [options.tune.seed + number for number in range(options.seeds)]
    # A seed's two sides one after the other: what is interrupted can be compared as far as it went.
    trained = {(side, seed): trials.train(side, drawn.pairs[side], seed) for seed in seeds for side in SIDES}
    came = {side: [trained[side, seed] for seed in seeds] for side in SIDES}
    result = weigh(untrained, came, drawn, present, proposed, options)
    sides = name_sides(versions, drawn, came, options)
    advice = advise(result, options)
    (evidence / PROBE).write_bytes(canonical(_record(result, advice, sides, drawn, options)))
    score = result.measures[options.score]
    return Outcome(
        counts_in=sum(map(len, drawn.pairs.values())),
        counts_out=len(drawn.questions),
        metrics={
            **{f"{name}_change": measure.change.value for name, measure in result.measures.items()},
            "low": score.change.low,
            "high": score.change.high,
            "cost": result.bill.total,
            "trainings": float(len(trained)),
            "resumed": float(trials.resumed),
        },
        report=page(result, advice, sides, drawn, options),
        decision=advice.decision,
    )


def _record(
    result: Result, advice: Advice, sides: Mapping[str, Side], drawn: Drawn, options: Probing
) -> dict[str, Any]:
    rows = [measure_row(name, measure, sides) for name, measure in result.measures.items()]
    return {
        **asdict(advice),
        "compare": options.compare,
        # Lists, because canonical JSON sorts keys and would put the difference before what differs.
        "summary": {"columns": list(rows[0]), "rows": [list(row.values()) for row in rows]},
        "score": options.score,
        "seeds": options.seeds,
        "confidence": options.confidence,
        "sides": {
            name: {key: value for key, value in vars(side).items() if key != "trials"} for name, side in sides.items()
        },
        "questions": len(drawn.questions),
        "withheld": len(drawn.withheld),
        "measures": {name: asdict(measure) for name, measure in result.measures.items()},
        "per_cost": {name: asdict(change) for name, change in per_cost(result).items()},
        "losses": {name: [trial.losses for trial in side.trials] for name, side in sides.items()},
        "held_by": {
            which: {"questions": number, "change": asdict(change) if change else None}
            for which, (number, change) in result.held.items()
        },
        "cost": {**asdict(result.bill), "unit": options.unit},
        "removed_documents": result.removed,
        "groups": [
            {**asdict(gain), "per_cost": asdict(gain.per_cost) if gain.per_cost else None} for gain in result.gains
        ],
    }
