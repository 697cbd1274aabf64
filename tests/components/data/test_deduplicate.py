"""Duplicates are found, and nothing else is."""

import random
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.common.documents import part_files, read_table
from components.common.environment import Environment
from components.common.errors import HeadraceError, UsageError
from components.common.ledger import artifact_files
from components.common.step import Context
from components.common.store import open_store, upload_tree
from components.data.deduplicate import kernel, stages
from components.data.deduplicate.corpus import Corpus
from components.data.deduplicate.minhash import cluster
from components.data.deduplicate.options import Deduplicate
from components.data.deduplicate.stages import Job, bands_and_rows
from pipelines.single import run_single

WORD = re.compile(
    r"[\u1100-\u11ff\u3040-\u31ff\u3400-\u9fff\uac00-\ud7ff]|[^\W\u1100-\u11ff\u3040-\u31ff\u3400-\ud7ff]+"
)
STORY = " ".join(f"word{number} goes{number % 7} here" for number in range(200))


def shingles(text: str, size: int = 5) -> set[tuple[str, ...]]:
    words = WORD.findall(text.lower())
    return {tuple(words[start : start + size]) for start in range(max(1, len(words) - size + 1))} if words else set()


def jaccard(left: set, right: set) -> float:
    return len(left & right) / len(left | right) if left or right else 0.0


def similar_pairs(texts: list[str], threshold: float) -> Iterator[tuple[int, int]]:
    """Exact join: every pair that shares a shingle is counted."""
    sets = [shingles(text) for text in texts]
    holders = defaultdict(list)
    for number, members in enumerate(sets):
        for shingle in members:
            holders[shingle].append(number)
    shared: Counter[tuple[int, int]] = Counter()
    for numbers in holders.values():
        shared.update(combinations(numbers, 2))
    for (left, right), count in shared.items():
        if count / (len(sets[left]) + len(sets[right]) - count) >= threshold:
            yield left, right


def components(pairs: list[tuple[int, int]], size: int) -> list[int]:
    parent = list(range(size))

    def root(node: int) -> int:
        while parent[node] != node:
            node = parent[node]
        return node

    for left, right in pairs:
        parent[max(root(left), root(right))] = min(root(left), root(right))
    return [root(node) for node in range(size)]


def real_texts(number: int) -> list[str]:
    """Sources and descriptions of installed packages, in a fixed order, short enough to join exactly."""
    folder = Path(np.__file__).parents[1]
    found = sorted([*folder.glob("*.dist-info/METADATA"), *folder.glob("[a-p]*/*.py"), *folder.glob("[a-p]*/*/*.py")])
    texts = []
    for path in random.Random(3).sample(found, len(found)):
        text = path.read_text("utf-8", errors="ignore")
        if 300 < len(text) < 8_000 and text.isascii():
            texts.append(text)
        if len(texts) == number:
            break
    assert len(texts) == number
    return texts


def edited(text: str, share: float, draw: random.Random) -> str:
    words = re.split(r"(\s+)", text)
    return "".join(f"changed{draw.randrange(99)}" if word.strip() and draw.random() < share else word for word in words)


def test_keeps_the_longest_of_each_cluster(written, document, environment: Environment, tmp_path: Path) -> None:
    longest = STORY + " and some more words at the very end"
    rows = [
        document(STORY, "a"),
        document(STORY, "b"),
        document(longest, "c", pii="masked"),
        document(STORY.upper().replace(" ", "\n"), "d"),
        document("Something else entirely, of which there is one.", "e"),
    ]
    metrics = run_single(
        "data/deduplicate", {"documents": written(rows)}, {"unique": tmp_path / "unique"}, {}, environment
    )
    assert read_table(tmp_path / "unique")["url"].to_pylist() == ["c", "e"]
    assert (metrics["records_in"], metrics["records_out"]) == (5, 2)
    assert (metrics["dropped_exact_duplicate"], metrics["dropped_near_duplicate"]) == (1, 2)
    report = (tmp_path / "unique.html").read_text("utf-8")
    assert "biggest clusters" in report and "kept" in report
    assert STORY[:40] in report


def test_the_report_quotes_only_what_it_may(written, document, environment: Environment, tmp_path: Path) -> None:
    for name, fields in (("secret", {"confidentiality": "confidential"}), ("unmasked", {"pii": "present"})):
        rows = [document(STORY, url, **fields) for url in "ab"]
        outputs = {"unique": tmp_path / name}
        run_single("data/deduplicate", {"documents": written(rows)}, outputs, {}, environment)
        report = (tmp_path / f"{name}.html").read_text("utf-8")
        assert "(not shown)" in report and STORY[:40] not in report


def test_identical_texts_keep_the_smallest_id_whatever_their_order(written, document, environment: Environment) -> None:
    rows = [document(STORY, str(number)) for number in range(6)]
    smallest = min(row["id"] for row in rows)
    for order in (rows, rows[::-1], rows[3:] + rows[:3]):
        found = cluster(written(order), Deduplicate(), Context("data/deduplicate", environment))
        assert {order[kept]["id"] for kept in found.kept} == {smallest}


def test_agrees_with_an_exact_join_on_real_documents(written, document, environment: Environment) -> None:
    draw = random.Random(7)
    texts = real_texts(1500)
    texts += [edited(text, share, draw) for text in texts[:300] for share in (0.005, 0.02, 0.05)]
    pairs = list(similar_pairs(texts, 0.8))
    assert len(pairs) > 400, "the corpus must have something to find"
    truth = components(pairs, len(texts))
    options = Deduplicate()
    rows = [document(text, str(number)) for number, text in enumerate(texts)]
    found = cluster(written(rows), options, Context("data/deduplicate", environment)).kept

    together = [found[left] == found[right] for left, right in pairs]
    assert sum(together) / len(pairs) > 0.995
    members = defaultdict(set)
    for number, kept in enumerate(found):
        members[kept].add(truth[number])
    assert all(len(roots) == 1 for roots in members.values()), "documents were joined that no chain of pairs connects"


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9, 1.0])
def test_bands_find_pairs_at_the_threshold(threshold: float) -> None:
    options = Deduplicate(threshold=threshold)
    bands, rows = bands_and_rows(options)
    assert bands * rows <= options.signature
    assert 1 - (1 - threshold**rows) ** bands >= options.recall


TEXTS = st.text(alphabet=st.sampled_from("ab Zé_ 9.,-\n가나漢字🙂𠀀"), max_size=60)


@given(TEXTS, TEXTS, st.integers(1, 6))
def test_kernel_sees_the_words_that_python_sees(left: str, right: str, size: int) -> None:
    encoded = [text.encode() for text in (left, right)]
    offsets = np.cumsum([0, *map(len, encoded)]).astype(np.int64)
    hashes, counts = kernel.shingle_sets(np.frombuffer(b"".join(encoded), np.uint8), offsets, size, seed=1)
    mine = set(hashes[: counts[0]].tolist()), set(hashes[counts[0] :].tolist())
    # 🙂 and 𠀀 lie beyond the plane that the reference pattern knows: a letter, and an ideograph.
    theirs = [shingles(text.replace("🙂", "q").replace("𠀀", "丂"), size) for text in (left, right)]
    assert list(counts) == [len(found) for found in theirs]
    assert len(mine[0] & mine[1]) == len(theirs[0] & theirs[1])


def test_texts_without_words_are_no_near_duplicates(written, document, environment: Environment) -> None:
    rows = [document(text, str(number)) for number, text in enumerate(["", "...", "!!!", "  ", "---"])]
    found = cluster(written(rows), Deduplicate(), Context("data/deduplicate", environment))
    assert list(found.kept) == list(range(5))


def test_one_huge_cluster_is_joined(written, document, environment: Environment) -> None:
    rows = [document(f"{STORY} variant{number}", str(number)) for number in range(1200)]
    found = cluster(written(rows), Deduplicate(), Context("data/deduplicate", environment))
    assert len(set(found.kept)) == 1
    assert found.comparisons < 20_000


def test_what_does_not_fit_in_memory_is_compared_piece_by_piece(
    written, document, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [document(f"{STORY} variant{number} and{number % 9}", str(number)) for number in range(700)]
    documents = written(rows + bilingual(document, random.Random(5), 120))
    context = Context("data/deduplicate", environment)
    whole = cluster(documents, Deduplicate(), context)
    sizes = []
    read = stages._read_sets
    monkeypatch.setattr(stages, "SHINGLES", 20_000)
    monkeypatch.setattr(stages, "_read_sets", lambda *told: sizes.append(len(found := read(*told))) or found)
    pieces = cluster(documents, Deduplicate(), context)
    most = 20_000 + (stages.WINDOW + 1) * 620
    assert len(sizes) > 10 and max(sizes) < most < 700 * 600
    assert pieces.comparisons == whole.comparisons
    assert (pieces.kept == whole.kept).all() and (pieces.exact == whole.exact).all()


def test_same_input_gives_the_same_bytes(written, document, environment: Environment, tmp_path: Path) -> None:
    draw = random.Random(1)
    rows = [document(edited(STORY, 0.01 * number, draw), str(number)) for number in range(40)]
    documents = written(rows)
    for name in ("first", "second"):
        run_single("data/deduplicate", {"documents": documents}, {"unique": tmp_path / name}, {}, environment)
    assert artifact_files(tmp_path / "first") == artifact_files(tmp_path / "second")
    assert part_files(tmp_path / "first")


def test_kernel_compiles_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "kernel.py").write_text(Path(kernel.__file__).read_text("utf-8"), "utf-8")
    (tmp_path / "__pycache__").write_text("a file where numba wants a folder")
    sealed = {"HOME": "/dev/null", "NUMBA_CACHE_DIR": "", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(tmp_path)}
    code = (
        "import kernel, numpy as np; print(kernel.shingle_sets(np.zeros(1, np.uint8) + 65, np.array([0, 1]), 5, 0)[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=sealed, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[1]", done.stderr


def test_an_empty_corpus_stays_empty(written, environment: Environment, tmp_path: Path) -> None:
    metrics = run_single(
        "data/deduplicate", {"documents": written([])}, {"unique": tmp_path / "unique"}, {}, environment
    )
    assert metrics["records_out"] == 0 and read_table(tmp_path / "unique").num_rows == 0


def in_shards(documents: Path, options: Deduplicate, environment: Environment, folder: Path, shards: int) -> list[str]:
    """Each stage shard by shard through `headrace step`, as a cluster would spread them; the urls that stay."""

    def each(outputs: str, inputs: dict[str, Path], count: int) -> Path:
        for shard in range(count):
            told = {**options.model_dump(mode="json"), "shard": shard, "shards": count}
            run_single("data/deduplicate", inputs, {outputs: folder / outputs / f"{shard:02}"}, told, environment)
        return folder / outputs

    signatures = each("signatures", {"documents": documents}, shards)
    buckets = each("buckets", {"signatures": signatures}, max(1, shards - 1))
    clusters = each("clusters", {"documents": documents, "signatures": signatures, "buckets": buckets}, shards)
    unique = each("unique", {"documents": documents, "clusters": clusters}, shards)
    return read_table(unique)["url"].to_pylist()


def bilingual(document, draw: random.Random, number: int) -> list[dict]:
    """Documents with exact and near duplicates among them, licences and qualities that differ."""
    korean = "이 펌프는 매년 점검해야 하며 밸브를 먼저 잠그고 전원을 끈 다음 필터를 교체합니다 "
    rows = []
    for at in range(number):
        base = draw.randrange(number // 3)
        text = " ".join(f"word{base}of{place} text" for place in range(60)) if base % 2 else f"{korean}{base} " * 4
        text = edited(text, draw.choice([0, 0, 0.01, 0.03]), draw)
        fields = {
            "license": draw.choice(["MIT", "CC0-1.0", "GPL-3.0-only", ""]),
            "metadata": {"quality": draw.choice(["0.2", "0.9", "1.0"])},
        }
        rows.append(document(text, str(at), **fields))
    return rows


@pytest.mark.parametrize("seed", [1, 2])
def test_the_number_of_shards_changes_nothing(
    written, document, environment: Environment, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.data.deduplicate.stages.PARTITION_BYTES", 2_000)
    documents = written(bilingual(document, random.Random(seed), 150))
    options = Deduplicate(seed=seed)
    run_single(
        "data/deduplicate", {"documents": documents}, {"unique": tmp_path / "whole"}, {"seed": seed}, environment
    )
    whole = read_table(tmp_path / "whole")["url"].to_pylist()
    assert 20 < len(whole) < 120
    for shards in (1, 2, 7):
        assert in_shards(documents, options, environment, tmp_path / str(shards), shards) == whole


def test_a_shard_that_is_there_is_not_made_again_and_a_missing_one_is_named(
    written, document, environment: Environment, tmp_path: Path
) -> None:
    documents = written(bilingual(document, random.Random(3), 30))
    corpus = Corpus.of(documents, [], open_store(environment.store), tmp_path)
    job = Job(corpus, Deduplicate(), Context("data/deduplicate", environment))
    stages.sign(job, tmp_path / "work", 0, 2)
    file = next((tmp_path / "work").iterdir())
    made = file.stat()
    stages.sign(job, tmp_path / "work", 0, 2)
    assert file.stat().st_ino == made.st_ino
    with pytest.raises(HeadraceError, match="shard 1 of 2 is missing from signatures"):
        stages.bucket([tmp_path / "work"], tmp_path / "work")
    other = Job(corpus, Deduplicate(shingle=3), job.context)
    stages.sign(other, tmp_path / "work", 1, 2)
    with pytest.raises(HeadraceError, match="different documents or options"):
        stages.bucket([tmp_path / "work"], tmp_path / "work")


@pytest.mark.parametrize(
    ("prefer", "kept"),
    [(["license", "quality", "length"], "free"), (["quality", "license"], "good"), (["length"], "long")],
)
def test_the_recipe_says_which_document_of_a_cluster_stays(
    written, document, environment: Environment, tmp_path: Path, prefer: list[str], kept: str
) -> None:
    rows = [
        document(STORY + " a", "free", license="CC0-1.0", metadata={"quality": "0.3"}),
        document(STORY + " bb", "good", license="MIT", metadata={"quality": "0.9"}),
        document(STORY + " and a longer end", "long", license="GPL-3.0-only", metadata={"quality": "0.3"}),
    ]
    options = {"prefer": prefer}
    run_single("data/deduplicate", {"documents": written(rows)}, {"unique": tmp_path / "out"}, options, environment)
    assert read_table(tmp_path / "out")["url"].to_pylist() == [kept]


def test_what_an_earlier_version_has_is_dropped_or_marked(
    written, document, environment: Environment, tmp_path: Path
) -> None:
    old = [document(STORY, "old"), document("One page that has not changed since, all ten words.", "same")]
    version = f"datasets/pumps/{'a' * 64}"
    upload_tree(open_store(environment.store), written(old), version, last="part-00000.parquet")
    new = [
        document("One page that has not changed since, all ten words.", "again"),
        document(STORY + " with an end", "edited"),
        document(STORY + " with an end.", "twin"),
        document("A page that nobody has seen before today, in any version.", "new"),
    ]
    documents = written(new)
    kept = {}
    for seen in ("drop", "mark"):
        out, options = tmp_path / seen, {"earlier": [version], "seen": seen}
        metrics = run_single("data/deduplicate", {"documents": documents}, {"unique": out}, options, environment)
        kept[seen] = {row["url"]: dict(row["metadata"]) for row in read_table(out).to_pylist()}
        assert metrics["records_in"] == 4 and metrics["records_out"] == len(kept[seen])
        assert metrics["dropped_seen_before"] == (3 if seen == "drop" else 0)
    assert kept["drop"] == {"new": {}}
    assert kept["mark"] == {"again": {"seen_in": version}, "twin": {"seen_in": version}, "new": {}}
    assert "seen before" in (tmp_path / "drop.html").read_text("utf-8")
    with pytest.raises(UsageError, match=r"has no datasets/pumps/b"):
        cluster(
            documents, Deduplicate(earlier=[f"datasets/pumps/{'b' * 64}"]), Context("data/deduplicate", environment)
        )
