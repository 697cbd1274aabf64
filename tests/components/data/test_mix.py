"""The mixture has the shares asked for, or says why not."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.common.documents import read_table
from components.common.environment import Environment
from components.common.errors import UsageError
from components.common.ledger import artifact_files
from components.data.mix.plan import plan
from pipelines.single import run_single

GROUPS = st.sampled_from("abcde")
AVAILABLE = st.dictionaries(GROUPS, st.integers(1, 10**6), min_size=1)
WEIGHTS = st.dictionaries(GROUPS, st.floats(0.01, 100), min_size=1)


@pytest.fixture
def corpus(document):
    """60 documents of prose with 10 tokens each, 30 of code with 20, and 10 tables with 5."""
    rows = [document(f"prose {number} " + "w " * 8, f"p{number}") for number in range(60)]
    rows += [document(f"code {number} " + "w " * 18, f"c{number}", kind="code") for number in range(30)]
    rows += [document(f"table {number} " + "w " * 3, f"t{number}", kind="table") for number in range(10)]
    return rows


def mix(corpus: Path, out: Path, environment: Environment, **options) -> tuple[dict, Counter]:
    metrics = run_single("data/mix", {"documents": corpus}, {"mixed": out}, options, environment)
    rows = read_table(out).to_pylist()
    tokens: Counter[str] = Counter()
    for row in rows:
        tokens[row["kind"]] += len(row["text"].split())
    return metrics, tokens


def test_without_weights_everything_is_kept_in_another_order(corpus, written, environment, tmp_path: Path) -> None:
    metrics, tokens = mix(written(corpus), tmp_path / "mixed", environment)
    assert tokens == {"prose": 600, "code": 600, "table": 50}
    ids = read_table(tmp_path / "mixed")["id"].to_pylist()
    given_ids = [row["id"] for row in corpus]
    assert sorted(ids) == sorted(given_ids) and ids != given_ids
    assert metrics["tokens"] == 1250


def test_weights_are_met_by_sampling_down(corpus, written, environment, tmp_path: Path) -> None:
    weights = {"prose": 2.0, "code": 1.0}
    metrics, tokens = mix(written(corpus), tmp_path / "mixed", environment, weights=weights)
    assert tokens == {"prose": 600, "code": 300}
    assert (metrics["dropped_group_not_in_mix"], metrics["dropped_sampled_out"]) == (10, 15)
    assert metrics["largest_gap"] == 0


def test_a_small_group_is_repeated_when_that_is_allowed(corpus, written, environment, tmp_path: Path) -> None:
    weights = {"prose": 1.0, "table": 1.0}
    metrics, tokens = mix(written(corpus), tmp_path / "mixed", environment, weights=weights, repeats=3)
    assert tokens == {"prose": 150, "table": 150}
    assert metrics["repeated"] == 20
    copies = Counter(row["url"] for row in read_table(tmp_path / "mixed").to_pylist() if row["kind"] == "table")
    assert set(copies.values()) == {3}


def test_a_size_that_a_group_cannot_fill_is_made_up_by_the_others_and_said(
    corpus, written, environment, tmp_path: Path
) -> None:
    weights = {"table": 1.0, "*": 1.0}
    _, tokens = mix(written(corpus), tmp_path / "mixed", environment, weights=weights, tokens=600)
    assert tokens["table"] == 50 and abs(tokens["prose"] - 275) <= 10 and abs(tokens["code"] - 275) <= 20
    assert "table: 50 of 200 tokens wanted; it has no more to give" in (tmp_path / "mixed.html").read_text("utf-8")


def test_an_absent_group_is_named_and_its_share_redistributed(corpus, written, environment, tmp_path: Path) -> None:
    weights = {"prose": 1.0, "code": 1.0, "math": 2.0}
    _, tokens = mix(written(corpus), tmp_path / "mixed", environment, weights=weights)
    assert tokens == {"prose": 600, "code": 600}
    report = (tmp_path / "mixed.html").read_text("utf-8")
    assert "math: no documents; its share of 50.0% went to the other groups" in report


def test_groups_by_metadata_and_counts_korean_by_character(document, written, environment, tmp_path: Path) -> None:
    rows = [document("가나다라 마바사", "k", metadata={"class": "in_house"}), document("one two", "e")]
    metrics, _ = mix(written(rows), tmp_path / "mixed", environment, by="metadata.class", weights={"in_house": 1.0})
    assert read_table(tmp_path / "mixed")["url"].to_pylist() == ["k"]
    assert metrics["tokens"] == 7


def test_the_sample_depends_on_seed_and_ids_only(corpus, written, environment, tmp_path: Path) -> None:
    options = {"weights": {"prose": 1.0, "code": 3.0}, "seed": 5.0}
    for name, rows in (("first", corpus), ("again", corpus), ("reversed", corpus[::-1])):
        mix(written(rows), tmp_path / name, environment, **options)
    mix(written(corpus), tmp_path / "other", environment, **{**options, "seed": 6})
    assert artifact_files(tmp_path / "first") == artifact_files(tmp_path / "again")
    assert read_table(tmp_path / "first").equals(read_table(tmp_path / "reversed"))
    first, other = (set(read_table(tmp_path / name)["id"].to_pylist()) for name in ("first", "other"))
    assert first != other


def test_a_mixture_larger_than_a_part_is_shuffled_across_parts(
    document, written, environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.data.mix.sample.ROWS_PER_PART", 16)
    rows = [document(f"text {number}", f"{number:03}") for number in range(100)]
    mix(written(rows), tmp_path / "mixed", environment)
    urls = read_table(tmp_path / "mixed")["url"].to_pylist()
    assert sorted(urls) == [f"{number:03}" for number in range(100)]
    assert len({int(url) // 25 for url in urls[:16]}) == 4, "the first bucket draws from the whole corpus"


def test_weights_that_leave_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match=r"the data has a, the weights name b"):
        plan({"a": 10}, {"b": 1.0}, 0, 1)
    with pytest.raises(UsageError, match="below 0"):
        plan({"a": 10}, {"a": -1.0}, 0, 1)


@given(AVAILABLE, WEIGHTS, st.integers(0, 10**7), st.integers(1, 4))
def test_a_plan_never_asks_for_more_than_there_is(available, weights, tokens, repeats) -> None:
    if not set(available) & set(weights):
        return
    drawn = plan(available, weights, tokens, repeats)
    assert set(drawn.tokens) == set(available) & set(weights)
    assert all(0 <= amount <= available[group] * repeats * (1 + 1e-9) for group, amount in drawn.tokens.items())
    whole = sum(drawn.tokens.values())
    room = sum(available[group] * repeats for group in drawn.tokens)
    if tokens:
        assert whole == pytest.approx(min(tokens, room))
    else:
        present = sum(weights[group] for group in drawn.tokens)
        assert all(amount / whole == pytest.approx(weights[group] / present) for group, amount in drawn.tokens.items())
        assert any(amount == pytest.approx(available[group] * repeats) for group, amount in drawn.tokens.items())
