"""Deduplication against its peers, on the same documents in the same run; and its cost by the number of documents.

datasketch is among the project's development dependencies. data-prep-kit and datatrove have environments of their own,
because their dependencies are not the project's:

    python3 -m venv /tmp/fdedup
    /tmp/fdedup/bin/pip install 'data-prep-toolkit-transforms[fdedup]==1.1.8' pyarrow==21.0.0
    python3 -m venv /tmp/datatrove
    /tmp/datatrove/bin/pip install 'datatrove[processing]==0.10.1' pyarrow spacy==3.8.18
    HEADRACE_FDEDUP=/tmp/fdedup/bin/python HEADRACE_DATATROVE=/tmp/datatrove/bin/python \
        .venv/bin/pytest -m benchmark tests/benchmarks/test_deduplicate.py

The documents are made of what is installed (`real_documents.py`). A peer whose variable is not set is left out, and
named. What counts is processor time, user and system; a busy machine does not change it much. Every side does all of
its work once unmeasured and then three times in the same process, and the best of the three counts (`rounds.py`). The
peers are told to use one thread, and get the same bands, rows and shingles. They split words at spaces, so theirs are
set around each Chinese, Japanese and Korean character before the clock starts.
"""

import json
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from datasketch import MinHash, MinHashLSH
from real_documents import real_documents, write_documents
from rounds import best

from components.common.environment import Environment
from components.common.step import Context
from components.data.deduplicate.minhash import cluster, run
from components.data.deduplicate.options import Deduplicate
from components.data.deduplicate.stages import bands_and_rows

DOCUMENTS = 2_000
OPTIONS = Deduplicate()
BANDS, ROWS = bands_and_rows(OPTIONS)
PEERS = Path(__file__).parent / "peers"
IDEOGRAPH = r"\u1100-\u11ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u31ff\u3400-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"
WORD = re.compile(rf"[{IDEOGRAPH}]|[^\W{IDEOGRAPH}]+")


@dataclass(frozen=True)
class Found:
    """What a search for duplicates cost, and the cluster of each document; the same number is the same cluster."""

    cpu: float
    wall: float
    clusters: Sequence[Hashable]


def shingles(text: str) -> set[str]:
    words = WORD.findall(text.lower())
    size = OPTIONS.shingle
    return {" ".join(words[at : at + size]) for at in range(max(1, len(words) - size + 1))} if words else set()


def clusters_of(pairs: Iterable[tuple[int, int]], size: int) -> list[int]:
    parents = list(range(size))

    def root(node: int) -> int:
        while parents[node] != node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node

    for left, right in pairs:
        parents[max(root(left), root(right))] = min(root(left), root(right))
    return [root(node) for node in range(size)]


def similar_pairs(texts: Sequence[str], threshold: float) -> list[tuple[int, int]]:
    """Exact join: no pair of true Jaccard similarity is left out.

    Two sets so alike share one of their rarest shingles, so only pairs that do are compared (Bayardo 2007, "Scaling up
    all pairs similarity search").
    """
    sets = [shingles(text) for text in texts]
    frequency = Counter(shingle for members in sets for shingle in members)
    holders: defaultdict[str, list[int]] = defaultdict(list)
    pairs = []
    for number, members in enumerate(sets):
        rarest = sorted(members, key=lambda shingle: (frequency[shingle], shingle))
        rarest = rarest[: len(members) - ceil(threshold * len(members) - 1e-9) + 1]
        for other in {other for shingle in rarest for other in holders[shingle]}:
            shared = len(members & sets[other])
            if shared >= threshold * (len(members) + len(sets[other]) - shared) - 1e-9:
                pairs.append((other, number))
        for shingle in rarest:
            holders[shingle].append(number)
    return pairs


def here(work: Callable[[int], Sequence[Hashable]]) -> Found:
    """Measure work in this process."""
    return Found(*best(work))


def datasketch_clusters(texts: Sequence[str]) -> list[int]:
    """Clusters as datasketch's users find them: bulk signatures, an LSH index, a query for each."""
    shingled = [{shingle.encode() for shingle in shingles(text)} for text in texts]
    signatures = MinHash.bulk(shingled, num_perm=BANDS * ROWS, hashfunc=xxhash.xxh32_intdigest)
    index = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    for number, signature in enumerate(signatures):
        index.insert(number, signature)
    alike = ((number, other) for number, signature in enumerate(signatures) for other in index.query(signature))
    return clusters_of(alike, len(texts))


def of_peer(python: str, script: str, documents: Path, out: Path, told: str) -> Found:
    """Measure a peer in a process of its own environment, on one thread."""
    alone = dict.fromkeys(("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    numbers = map(str, (BANDS, ROWS, OPTIONS.shingle))
    command = [python, str(PEERS / script), str(documents), str(out / told), *numbers, told]
    environment = {**os.environ, **alone, "PYTHONPATH": str(PEERS.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    clusters = [answer["clusters"].get(str(number), f"alone {number}") for number in range(DOCUMENTS)]
    return Found(answer["cpu"], answer["wall"], clusters)


def recall(found: Found, pairs: Sequence[tuple[int, int]]) -> float:
    return sum(found.clusters[left] == found.clusters[right] for left, right in pairs) / len(pairs)


def falsely_merged(found: Found, truth: Sequence[int]) -> int:
    """Clusters of the truth that were joined to another one, which no chain of similar pairs connects to them."""
    members = defaultdict(set)
    for label, true in zip(found.clusters, truth, strict=True):
        members[label].add(true)
    return sum(len(apart) - 1 for apart in members.values())


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
def test_against_peers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = list(real_documents(DOCUMENTS))
    write_documents(DOCUMENTS, tmp_path / "documents")
    (tmp_path / "spaced").mkdir()
    spaced = [re.sub(f"([{IDEOGRAPH}])", r" \1 ", text) for text in texts]
    columns = {"int_id_column": range(DOCUMENTS), "id": map(str, range(DOCUMENTS)), "contents": spaced}
    table = pa.table({name: pa.array(list(values)) for name, values in columns.items()})
    pq.write_table(table, tmp_path / "spaced" / "part.parquet", compression="zstd")
    pairs = similar_pairs(texts, OPTIONS.threshold)
    truth = clusters_of(pairs, len(texts))

    environment = Environment(name="benchmark", store=f"file://{tmp_path}", tracking="", signing_key="")
    context = Context("data/deduplicate", environment)
    documents, unique = tmp_path / "documents", tmp_path / "unique"
    search = here(lambda _: cluster(documents, OPTIONS, context).kept.tolist())
    step = here(lambda _: [run(documents, unique, OPTIONS, context)])
    found = {
        "headrace, clusters": (search, search),
        "headrace, the whole step": (Found(step.cpu, step.wall, search.clusters), step),
        "datasketch, bulk": (here(lambda _: datasketch_clusters(texts)), search),
    }
    without = []
    if python := os.environ.get("HEADRACE_FDEDUP"):
        peer = of_peer(python, "fdedup.py", tmp_path / "spaced", tmp_path, str(OPTIONS.threshold))
        found["data-prep-kit, fdedup"] = (peer, step)
    else:
        without.append("HEADRACE_FDEDUP")
    if python := os.environ.get("HEADRACE_DATATROVE"):
        for words, name in {"spacy": "its words (spaCy)", "spaces": "words at spaces"}.items():
            peer = of_peer(python, "datatrove_minhash.py", tmp_path / "spaced", tmp_path, words)
            found[f"datatrove, {name}"] = (peer, step)
    else:
        without.append("HEADRACE_DATATROVE")

    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    with capsys.disabled():
        print(f"\n{DOCUMENTS:,} documents, {megabytes:.1f} MB, {len(pairs):,} pairs at {OPTIONS.threshold} or above;")
        print(f"{BANDS} bands of {ROWS}, shingles of {OPTIONS.shingle} words; one core")
        print(f"{'':28}{'CPU s':>8}{'wall s':>8}{'docs/CPU s':>12}{'ours is':>9}{'recall':>9}{'merged falsely':>16}")
        for name, (peer, ours) in found.items():
            rate, times = f"{DOCUMENTS / peer.cpu:,.0f}", f"{peer.cpu / ours.cpu:.1f}×" if peer is not ours else ""
            right = f"{recall(peer, pairs):>9.4f}{falsely_merged(peer, truth):>16,}"
            print(f"{name:28}{peer.cpu:>8.2f}{peer.wall:>8.2f}{rate:>12}{times:>9}{right}")
        for variable in without:
            print(f"left out: {variable} names no Python; this file's first lines say how to make one")
    assert recall(search, pairs) >= 0.98
    assert falsely_merged(search, truth) == 0
    assert all(peer.cpu >= ours.cpu for peer, ours in found.values())


ALONE = """
import json, sys, time
from pathlib import Path
from components.common.environment import Environment
from components.common.step import Context
from components.data.deduplicate.minhash import run
from components.data.deduplicate.options import Deduplicate
store = f"file://{Path(sys.argv[2]).parent}"
context = Context("data/deduplicate", Environment(name="benchmark", store=store, tracking="", signing_key=""))
cpu = time.process_time()
done = run(Path(sys.argv[1]), Path(sys.argv[2]), Deduplicate(), context)
print(json.dumps({"cpu": time.process_time() - cpu, "in": done.counts_in, "out": done.counts_out}))
"""


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", [10_000, 100_000, 1_000_000])
def test_rate_and_memory_by_size(tmp_path: Path, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    write_documents(number, tmp_path / "documents")
    command = [sys.executable, "-c", ALONE, str(tmp_path / "documents"), str(tmp_path / "unique")]
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen(command, stdout=log)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        answer = json.loads(log.readlines()[-1])
    assert process.returncode == 0
    size = sum(file.stat().st_size for file in (tmp_path / "documents").iterdir()) / 1e6
    with capsys.disabled():
        print(
            f"\n{number:,} documents ({size:,.0f} MB of Parquet): {answer['out']:,} stay, "
            f"{answer['cpu']:.1f} CPU-seconds, {number / answer['cpu']:,.0f} documents per CPU-second, "
            f"peak memory {used.ru_maxrss / 1024:,.0f} MiB"
        )
    assert used.ru_maxrss * 1024 < 2e9
