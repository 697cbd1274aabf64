"""Mix: survey the documents, draw, and write what was drawn in its order."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure

from components.common.documents import ROWS_PER_PART, SCHEMA, DocumentWriter, read_batches
from components.common.ledger import canonical
from components.common.report import Report
from components.common.sealed_store import store_of
from components.common.step import Context, Outcome
from components.data.decontaminate.options import DECONTAMINATION
from components.data.deduplicate.corpus import numbers
from components.data.mix.draw import Drawn, Survey, draw, spread
from components.data.mix.epochs import MIXTURE, left_out
from components.data.mix.groups import Sorter
from components.data.mix.options import Mix
from components.data.mix.tokens import Measure
from components.data.reasons import Reason
from components.data.scores import read_scores

BUCKET_BYTES = 64 * 2**20
"""Text that is ordered in memory at once."""
BUCKETS = 512
"""Most temporary files open at once; a larger corpus has larger ones."""


class Unmixed(Reason):
    """Why a document is not in the mixture."""

    NOT_IN_MIX = "group_not_in_mix", "No group takes it, or its group has no weight."
    DIET = "diet", "Its score is among the shares that the diet leaves out."
    SAMPLED_OUT = "sampled_out", "Its group has more than its weight allows."


def run(documents: Path, mixed: Path, options: Mix, context: Context) -> Outcome:
    """Sample the groups by weight and shuffle the result.

    Args:
        documents: Documents to mix.
        mixed: The mixture, with `mixture.json`.
        options: Groups, weights, size and seed.
        context: The run.

    Raises:
        UsageError: The options ask for what the documents cannot give at all.
    """
    with tempfile.TemporaryDirectory() as scratch:
        measure = Measure(options.tokenizer, store_of(context.environment), Path(scratch))
        survey = take_survey(documents, options, measure, context)
    drawn = draw(survey, options)
    order = spread(survey, drawn, options)
    written = _write(documents, mixed, order, survey.sizes, context)

    groups = [cell.group for cell in survey.cells]
    available = survey.totals(groups)
    got = survey.totals(groups, drawn.copies)
    size = sum(got.values())
    shares = {name: amount / size if size else 0.0 for name, amount in got.items()}
    gap = max((abs(shares.get(name, 0.0) - share) for name, share in drawn.plan.asked.items()), default=0.0)
    weighted = np.array([bool(drawn.plan.tokens.get(group)) for group in groups], bool)
    in_mix = weighted[survey.cell] if len(survey.cell) else np.zeros(0, bool)
    unused = drawn.copies == 0
    if (documents / DECONTAMINATION).is_file():
        shutil.copyfile(documents / DECONTAMINATION, mixed / DECONTAMINATION)
    mixture = {
        "seed": options.seed,
        "dropout": options.dropout,
        "tokens": size,
        "measure": measure.name,
        "groups": {
            name: {"asked": round(drawn.plan.asked.get(name, 0.0), 6), "got": round(shares.get(name, 0.0), 6)}
            for name in sorted({*drawn.plan.asked, *(name for name, amount in got.items() if amount)})
        },
        "notes": drawn.plan.notes,
    }
    (mixed / MIXTURE).write_bytes(canonical(mixture))
    return Outcome(
        counts_in=len(survey.cell),
        counts_out=written,
        dropped={
            Unmixed.NOT_IN_MIX: int((unused & ~drawn.starved & ~in_mix).sum()),
            Unmixed.DIET: int(drawn.starved.sum()),
            Unmixed.SAMPLED_OUT: int((unused & ~drawn.starved & in_mix).sum()),
        },
        metrics={
            "tokens": float(size),
            "largest_gap": gap,
            "repeated": float(np.maximum(drawn.copies - 1, 0).sum()),
        },
        report=_report(survey, drawn, order, available, got, options, measure.name),
    )


def take_survey(documents: Path, options: Mix, measure: Measure, context: Context) -> Survey:
    """Read what drawing needs: a few numbers of each document."""
    sorter = Sorter(options)
    names = sorted({wanted.score for wanted in options.diet})
    columns = ["id", "text", *sorter.columns, *(["metadata"] if names and "metadata" not in sorter.columns else [])]
    ids: list[np.ndarray] = []
    cells: list[np.ndarray] = []
    tokens: list[np.ndarray] = []
    sizes: list[np.ndarray] = []
    scores: dict[str, list[np.ndarray]] = {name: [] for name in names}
    done = 0
    for batch in read_batches(documents, columns):
        ids.append(np.stack([numbers(batch.column("id"), 0), numbers(batch.column("id"), 1)], axis=1))
        cells.append(np.array(sorter.sort(batch), np.int32))
        tokens.append(measure.count(batch.column("text")))
        sizes.append(pc.binary_length(batch.column("text")).to_numpy(zero_copy_only=False))
        for name in names:
            scores[name].append(read_scores(batch.column("metadata"), name))
        done += batch.num_rows
        context.progress(done, 0, "counting")
    if not done:
        empty = np.zeros(0, np.int64)
        return Survey(np.zeros((0, 2), np.uint64), [], empty, empty, empty, {name: np.zeros(0) for name in names})
    return Survey(
        np.concatenate(ids),
        sorter.cells,
        np.concatenate(cells),
        np.concatenate(tokens),
        np.concatenate(sizes).astype(np.int64),
        {name: np.concatenate(found) for name, found in scores.items()},
    )


def _write(documents: Path, mixed: Path, order: np.ndarray, sizes: np.ndarray, context: Context) -> int:
    """Write the documents in order: scatter them over buckets of places that follow each other, then order each."""
    starts = _buckets(sizes[order])
    by_row = np.argsort(order, kind="stable")
    rows = order[by_row]
    bucket_of = np.searchsorted(starts, by_row, "right") - 1
    with tempfile.TemporaryDirectory() as folder, DocumentWriter(mixed) as writer:
        files = [Path(folder) / f"{bucket}.arrow" for bucket in range(len(starts))]
        compressed = pa.ipc.IpcWriteOptions(compression="lz4")
        sinks = [pa.ipc.new_file(str(file), SCHEMA, options=compressed) for file in files]
        done = first = 0
        for batch in read_batches(documents):
            end = int(np.searchsorted(rows, done + batch.num_rows))
            table = pa.Table.from_batches([batch]).select(SCHEMA.names)
            for bucket in np.unique(bucket_of[first:end]):
                chosen = first + np.flatnonzero(bucket_of[first:end] == bucket)
                sinks[bucket].write_table(table.take(pa.array(rows[chosen] - done)).cast(SCHEMA))
            done, first = done + batch.num_rows, end
            context.progress(done, 2 * len(sizes), "scattering")
        for sink in sinks:
            sink.close()
        for bucket, file in enumerate(files):
            with pa.OSFile(str(file)) as source:
                table = pa.ipc.open_file(source).read_all()
            file.unlink()
            for ordered in _ordered(table, by_row[bucket_of == bucket]):
                writer.write(ordered)
            context.progress(len(sizes) * (1 + (bucket + 1) / len(files)), 2 * len(sizes), "writing")
    return writer.rows


def _buckets(sizes: np.ndarray) -> np.ndarray:
    """Where each bucket of places begins: by bytes of text, and no more rows than a part has."""
    ends = np.cumsum(sizes)
    most = max(BUCKET_BYTES, -(-int(ends[-1]) // BUCKETS)) if len(ends) else BUCKET_BYTES
    starts = [0]
    while starts[-1] < len(sizes):
        before = int(ends[starts[-1] - 1]) if starts[-1] else 0
        following = max(starts[-1] + 1, int(np.searchsorted(ends, before + most, "right")))
        starts.append(min(following, starts[-1] + ROWS_PER_PART))
    return np.array(starts[:-1] or [0], np.int64)


def _ordered(table: pa.Table, places: np.ndarray, rows: int = 4_096) -> Iterator[pa.Table]:
    """Take the documents of a bucket in the order of their places, some at a time; how they lay leaves no trace."""
    order = np.argsort(places, kind="stable")
    for start in range(0, len(order), rows):
        yield table.take(pa.array(order[start : start + rows])).combine_chunks()


def _report(
    survey: Survey,
    drawn: Drawn,
    order: np.ndarray,
    available: Mapping[str, int],
    got: Mapping[str, int],
    options: Mix,
    measure: str,
) -> Report:
    size = sum(got.values())
    what = "purpose" if options.groups else options.by
    asked = drawn.plan.asked
    report = Report("Mixture", f"{size:,} tokens by {what}")
    report.metrics({"tokens": size, "groups asked for": len(asked), "seed": options.seed})
    if not (options.weights or options.groups):
        policy = "No weights are set, so every group keeps the share it has."
    elif options.tokens:
        policy = (
            "The size is set, so a group that cannot fill its share gives what it has and the others make up for it."
        )
    else:
        policy = "No size is set, so the mixture is the largest one that meets the weights."
    report.text(
        f"{policy} A document appears at most {options.repeats} "
        f"{'time' if options.repeats == 1 else 'times'}. Tokens are counted as {measure}."
    )
    if drawn.plan.notes:
        report.text("\n\n".join(drawn.plan.notes))
    names = sorted({*available, *asked}, key=lambda name: (-got.get(name, 0), name))
    report.table(
        [
            {
                what: group,
                "share asked": f"{asked.get(group, 0.0):.2%}",
                "share got": f"{got.get(group, 0) / size:.2%}" if size else "0.00%",
                "tokens got": got.get(group, 0),
                "tokens there are": available.get(group, 0),
                "times each": round(got.get(group, 0) / available[group], 3) if available.get(group) else "",
            }
            for group in names
        ],
        "Asked and got",
    )
    if size:
        shown = [name for name in names if name in asked or got.get(name)][:20]
        report.figure(_asked_and_got(shown, asked, got), "Share of the tokens, asked and got")
    for part, temperature in (("language", options.language_temperature), ("domain", options.domain_temperature)):
        if temperature > 1 and size:
            report.table(_tempered(survey, drawn, part), f"{part.capitalize()}s at temperature {temperature:g}")
    if drawn.cuts:
        report.table(
            [
                {
                    "group": cut.group,
                    "language": cut.language,
                    "score": cut.score,
                    "documents": cut.documents,
                    "without the score": cut.unscored,
                    "lowest left out": cut.low,
                    "highest left out": cut.high,
                }
                for cut in drawn.cuts
            ],
            "Diet",
        )
    if options.dropout:
        report.table(_epochs(survey, drawn, order, options), "Epochs: what each leaves out, and what is left")
    return report


def _asked_and_got(names: list[str], asked: Mapping[str, float], got: Mapping[str, int]) -> Figure:
    size = sum(got.values())
    figure = Figure(figsize=(7, 0.8 + 0.42 * len(names)))
    axes = figure.add_subplot()
    places = np.arange(len(names))
    axes.barh(places - 0.2, [100 * asked.get(name, 0.0) for name in names], 0.38, label="asked")
    axes.barh(places + 0.2, [100 * got.get(name, 0) / size for name in names], 0.38, label="got")
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set(xlabel="% of the tokens")
    axes.legend(frameon=False, loc="lower right")
    return figure


def _tempered(survey: Survey, drawn: Drawn, part: str) -> list[dict[str, str | int]]:
    """Set what a temperature asked beside what there was to draw, over all groups."""
    names = [getattr(cell, part) for cell in survey.cells]
    there, got = survey.totals(names), survey.totals(names, drawn.copies)
    asked = dict.fromkeys(there, 0.0)
    for cell, amount in drawn.asked.items():
        asked[getattr(cell, part)] += amount
    whole, wanted, size = sum(there.values()) or 1, sum(asked.values()) or 1, sum(got.values())
    return [
        {
            part: name or "(none)",
            "share there is": f"{there[name] / whole:.2%}",
            "share asked": f"{asked[name] / wanted:.2%}",
            "share got": f"{got[name] / size:.2%}",
            "why not": "it has no more to give" if got[name] < 0.995 * asked[name] else "",
            "tokens got": got[name],
        }
        for name in sorted(there, key=lambda name: (-got[name], name))
    ]


def _epochs(survey: Survey, drawn: Drawn, order: np.ndarray, options: Mix) -> list[dict[str, str | int]]:
    """What the epochs of one round read, in which every document is left out once."""
    groups = [cell.group for cell in survey.cells]
    mixture = survey.totals(groups, drawn.copies)
    whole = sum(mixture.values()) or 1
    shown: list[dict[str, str | int]] = []
    for epoch in range(min(12, round(1 / options.dropout))):
        kept = order[~left_out(len(order), epoch, options.dropout)]
        got = survey.totals(groups, np.bincount(kept, minlength=len(survey.cell)))
        size = sum(got.values()) or 1
        gap = max((abs(got[name] / size - amount / whole) for name, amount in mixture.items()), default=0.0)
        shown.append(
            {
                "epoch": epoch,
                "documents": len(kept),
                "tokens": sum(got.values()),
                "largest gap to the mixture": f"{gap:.2%}",
            }
        )
    return shown
