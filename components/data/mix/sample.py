"""Draw the mixture: a seeded sample of each group, written in a seeded order."""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.common.documents import ROWS_PER_PART, SCHEMA, DocumentWriter, read_batches
from components.common.report import Report
from components.common.step import Context, Outcome
from components.data.mix.options import Mix
from components.data.mix.plan import Plan, plan
from components.data.reasons import Reason
from components.data.scatter import scatter

TOKENS = r"[\p{Han}\p{Hangul}\p{Hiragana}\p{Katakana}]|[^\s\p{Han}\p{Hangul}\p{Hiragana}\p{Katakana}]+"
"""What counts as a token: a run without white space; a Chinese, Japanese or Korean character is one of its own."""


class Unmixed(Reason):
    """Why a document is not in the mixture."""

    NOT_IN_MIX = "group_not_in_mix", "Its group has no weight."
    SAMPLED_OUT = "sampled_out", "Its group has more than its weight allows."


def run(documents: Path, mixed: Path, options: Mix, context: Context) -> Outcome:
    """Sample the groups by weight and shuffle the result.

    Args:
        documents: Documents to mix.
        mixed: The mixture.
        options: Weights, size and seed.
        context: The run.
    """
    ids, names, codes, tokens = _survey(documents, options.by, context)
    available = {name: int(tokens[codes == code].sum()) for code, name in enumerate(names)}
    drawn = plan(available, options.weights, options.tokens, options.repeats)
    order = _random_keys(ids, options.seed)
    copies = np.zeros(len(ids), np.int64)
    for code, name in enumerate(names):
        members = np.flatnonzero(codes == code)
        members = members[np.argsort(order[members], kind="stable")]
        copies[members] = _draw(tokens[members], drawn.tokens.get(name, 0.0))
    written = _write(documents, mixed, copies, order, context)

    got = {name: int((tokens * copies)[codes == code].sum()) for code, name in enumerate(names)}
    in_mix = np.isin(codes, [code for code, name in enumerate(names) if drawn.tokens.get(name)])
    unused = copies == 0
    size = sum(got.values())
    shares = {name: amount / size if size else 0.0 for name, amount in got.items()}
    gap = max((abs(shares.get(name, 0.0) - share) for name, share in drawn.asked.items()), default=0.0)
    return Outcome(
        counts_in=len(ids),
        counts_out=written,
        dropped={
            Unmixed.NOT_IN_MIX: int((unused & ~in_mix).sum()),
            Unmixed.SAMPLED_OUT: int((unused & in_mix).sum()),
        },
        metrics={
            "tokens": float(size),
            "largest_gap": gap,
            "repeated": float(np.maximum(copies - 1, 0).sum()),
        },
        report=_report(drawn, available, got, options),
    )


def _survey(documents: Path, by: str, context: Context) -> tuple[list[str], list[str], np.ndarray, np.ndarray]:
    """Read what the plan needs: the ids, the names of the groups, and each document's group and tokens."""
    column, _, key = by.partition(".")
    ids: list[str] = []
    groups = []
    tokens = []
    for batch in read_batches(documents, ["id", "text", column]):
        values = batch.column(column)
        if key:
            values = pc.map_lookup(values, key, "first")
        groups.append(pc.fill_null(values, "").cast(pa.string()))
        tokens.append(pc.count_substring_regex(batch.column("text"), TOKENS).to_numpy())
        ids += batch.column("id").to_pylist()
        context.progress(len(ids), 0, "counting")
    if not ids:
        return [], [], np.zeros(0, np.int64), np.zeros(0, np.int64)
    encoded = pa.chunked_array(groups).combine_chunks().dictionary_encode()
    names = [name or "(none)" for name in encoded.dictionary.to_pylist()]
    return ids, names, encoded.indices.to_numpy(zero_copy_only=False), np.concatenate(tokens).astype(np.int64)


def _random_keys(ids: list[str], seed: int) -> np.ndarray:
    """A random number for each document that depends on its id and the seed alone, so a sample outlives additions."""
    drawn = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    return scatter(np.fromiter((int(name[:16], 16) for name in ids), np.uint64, len(ids)) ^ drawn)


def _draw(tokens: np.ndarray, target: float) -> np.ndarray:
    """How often each document of a group appears: in full passes, then a prefix that comes nearest to the target."""
    total = int(tokens.sum())
    if not total or target <= 0:
        return np.zeros(len(tokens), np.int64)
    passes, rest = divmod(target, total)
    reached = np.concatenate([[0], np.cumsum(tokens)])
    last = int(np.abs(reached - rest).argmin())
    copies = np.full(len(tokens), int(passes), np.int64)
    copies[:last] += 1
    return copies


def _write(documents: Path, mixed: Path, copies: np.ndarray, order: np.ndarray, context: Context) -> int:
    """Write the documents in random order: scatter them over buckets by place, then order each bucket."""
    total = int(copies.sum())
    rows = np.repeat(np.arange(len(copies)), copies)
    repeat = np.arange(total) - np.repeat(np.cumsum(copies) - copies, copies)
    keys = scatter(order[rows] + (repeat.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))
    place = np.empty(total, np.int64)
    place[np.lexsort((repeat, rows, keys))] = np.arange(total)
    buckets = max(1, -(-total // ROWS_PER_PART))
    with tempfile.TemporaryDirectory() as folder, DocumentWriter(mixed) as writer:
        files = [Path(folder) / f"{bucket}.arrow" for bucket in range(buckets)]
        sinks = [pa.ipc.new_file(str(file), SCHEMA) for file in files]
        done = first = 0
        for batch in read_batches(documents):
            end = first + int(copies[done : done + batch.num_rows].sum())
            for bucket in np.unique(place[first:end] // ROWS_PER_PART):
                chosen = np.flatnonzero(place[first:end] // ROWS_PER_PART == bucket)
                taken = (
                    pa.Table.from_batches([batch]).select(SCHEMA.names).take(pa.array(rows[first:end][chosen] - done))
                )
                sinks[bucket].write_table(taken.cast(SCHEMA))
            done, first = done + batch.num_rows, end
            context.progress(done, 2 * len(copies), "scattering")
        for sink in sinks:
            sink.close()
        places = [place[place // ROWS_PER_PART == bucket] for bucket in range(buckets)]
        for file, bucket_places in zip(files, places, strict=True):
            with pa.memory_map(str(file)) as source:
                table = pa.ipc.open_file(source).read_all()
                writer.write(table.take(pa.array(np.argsort(bucket_places, kind="stable"))))
            context.progress(len(copies) + writer.rows, len(copies) + total, "writing")
    return writer.rows


def _report(drawn: Plan, available: dict[str, int], got: dict[str, int], options: Mix) -> Report:
    size = sum(got.values())
    report = Report("Mixture", f"{size:,} tokens by {options.by}")
    report.metrics({"tokens": size, "groups asked for": len(drawn.asked), "seed": options.seed})
    if not options.weights:
        policy = "No weights are set, so every group keeps the share it has."
    elif options.tokens:
        policy = (
            "The size is set, so a group that cannot fill its share gives what it has and the others make up for it."
        )
    else:
        policy = "No size is set, so the mixture is the largest one that meets the weights."
    report.text(
        f"{policy} A document appears at most {options.repeats} "
        f"{'time' if options.repeats == 1 else 'times'}. A token is a run without white space; a Chinese, Japanese or "
        "Korean character is one of its own."
    )
    if drawn.notes:
        report.text("\n\n".join(drawn.notes))
    report.table(
        [
            {
                options.by: group,
                "share asked": f"{drawn.asked.get(group, 0.0):.1%}",
                "share got": f"{got.get(group, 0) / size:.1%}" if size else "0.0%",
                "tokens got": got.get(group, 0),
                "tokens there are": available.get(group, 0),
            }
            for group in sorted({*available, *drawn.asked}, key=lambda name: (-got.get(name, 0), name))
        ],
        "Asked and got",
    )
    report.bars({group: got[group] for group in sorted(got, key=lambda name: (-got[name], name))}, "Tokens by group")
    return report
