"""The mixture has the shares asked for, or says why not."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.trainers import BpeTrainer

from components.common.documents import DocumentWriter, read_table
from components.common.environment import Environment
from components.common.errors import HeadraceError, UsageError
from components.common.ledger import artifact_files
from components.data.mix.draw import Survey, draw, spread
from components.data.mix.epochs import read_epoch
from components.data.mix.groups import Cell
from components.data.mix.options import Mix
from components.data.mix.plan import plan
from components.data.mix.tokens import count_words
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


PURPOSES = [
    {"name": "in-house Q&A", "weight": 30, "class": ["in_house"], "kind": ["dialogue", "ticket"]},
    {"name": "technical documents", "weight": 25, "class": ["in_house", "third_party"]},
    {"name": "code", "weight": 15, "kind": ["code"]},
    {"name": "dialogue", "weight": 10, "kind": ["dialogue"]},
    {"name": "public encyclopedia", "weight": 20, "source": ["wiki*"], "language": ["en*", "ko"]},
]


@pytest.fixture(scope="module")
def purposes(document):
    """Documents for each of five purposes, some in Korean, and a few that serve none."""
    shapes = [
        ("tickets", "in_house", "ticket", "en", 400),
        ("chats", "in_house", "dialogue", "ko", 400),
        ("manuals", "in_house", "prose", "en", 700),
        ("standards", "third_party", "prose", "ko", 300),
        ("repository", "public", "code", "zxx", 500),
        ("forum", "public", "dialogue", "en", 500),
        ("wikipedia", "public", "prose", "en-US", 700),
        ("wikipedia-ko", "public", "prose", "ko", 300),
        ("news", "public", "prose", "en", 100),
    ]
    return [
        document(
            f"{source} {number} " + ("말 " if language == "ko" else "word ") * (number * 37 % 60),
            f"{source}/{number}",
            source=source,
            kind=kind,
            language=language,
            domain=("food", "law", "law", "law")[number % 4],
            metadata={"source_class": source_class, "quality": str(number % 100 / 100)},
        )
        for source, source_class, kind, language, count in shapes
        for number in range(count)
    ]


def test_weights_by_purpose_are_met_within_half_a_percent(purposes, written, environment, tmp_path: Path) -> None:
    metrics = run_single(
        "data/mix", {"documents": written(purposes)}, {"mixed": tmp_path / "mixed"}, {"groups": PURPOSES}, environment
    )
    tokens: Counter[str] = Counter()
    owner = {"tickets": 0, "chats": 0, "manuals": 1, "standards": 1, "repository": 2, "forum": 3, "wikipedia": 4}
    for row in read_table(tmp_path / "mixed").to_pylist():
        count = int(count_words(pa.array([row["text"]]))[0])
        tokens[PURPOSES[owner[row["source"].removesuffix("-ko")]]["name"]] += count
    whole = sum(tokens.values())
    for purpose in PURPOSES:
        assert tokens[purpose["name"]] / whole == pytest.approx(purpose["weight"] / 100, abs=0.005)
    assert metrics["largest_gap"] < 0.005 and metrics["dropped_group_not_in_mix"] == 100
    report = (tmp_path / "mixed.html").read_text("utf-8")
    assert "in-house Q&amp;A" in report and "30.00%" in report and "<svg" in report
    mixture = json.loads((tmp_path / "mixed" / "mixture.json").read_bytes())
    assert mixture["tokens"] == whole and mixture["groups"]["code"]["asked"] == 0.15


@given(
    st.lists(st.tuples(st.floats(1, 20), st.integers(1, 400)), min_size=2, max_size=5),
    st.integers(0, 2**31 - 1),
    st.integers(1, 3),
)
def test_weights_are_met_whatever_the_lengths_when_there_is_enough(groups, seed, repeats) -> None:
    """Each group has 500 documents, the longest of up to a four-hundredth of what the smallest share needs."""
    random = np.random.default_rng(seed)
    lengths = [random.integers(1, longest + 1, 500) for _, longest in groups]
    cells = [Cell(f"g{number}", "en", "") for number in range(len(groups))]
    survey = Survey(
        random.integers(0, 2**63, (500 * len(groups), 2)).astype(np.uint64),
        cells,
        np.repeat(np.arange(len(groups)), 500),
        np.concatenate(lengths),
        np.zeros(500 * len(groups), np.int64),
    )
    weights = {cell.group: weight for cell, (weight, _) in zip(cells, groups, strict=True)}
    drawn = draw(survey, Mix(weights=weights, repeats=repeats, seed=seed))
    got = survey.totals([cell.group for cell in cells], drawn.copies)
    size, whole = sum(got.values()), sum(weights.values())
    assert drawn.plan.notes == [] and drawn.copies.max() <= repeats
    for name, weight in weights.items():
        assert abs(got[name] / size - weight / whole) <= 0.005
    order = spread(survey, drawn, Mix(weights=weights, repeats=repeats, seed=seed))
    assert (np.bincount(order, minlength=len(survey.cell)) == drawn.copies).all()


def test_every_stretch_of_the_mixture_has_its_shares() -> None:
    random = np.random.default_rng(1)
    cells = [Cell("common", "en", ""), Cell("rare", "ko", "")]
    cell = np.repeat([0, 1], [9_000, 400])
    tokens = random.integers(1, 100, 9_400)
    survey = Survey(random.integers(0, 2**63, (9_400, 2)).astype(np.uint64), cells, cell, tokens, tokens)
    options = Mix(weights={"common": 9.0, "rare": 1.0}, repeats=2, seed=3)
    drawn = draw(survey, options)
    order = spread(survey, drawn, options)
    for stretch in np.array_split(order, 10):
        got = survey.totals(["common", "rare"], np.bincount(stretch, minlength=len(cell)))
        assert got["rare"] / sum(got.values()) == pytest.approx(0.1, abs=0.005)
    first = {row: place for place, row in reversed(list(enumerate(order)))}
    last = {row: place for place, row in enumerate(order)}
    twice = [last[row] - first[row] for row in first if last[row] > first[row]]
    assert twice and np.median(twice) > len(order) / 4, "the copies of a document stand far apart"


def test_a_temperature_brings_languages_and_domains_towards_equal_shares(
    purposes, written, environment, tmp_path: Path
) -> None:
    corpus = [row for row in purposes if row["source"].startswith("wikipedia")]
    shares = {}
    for name, options in {
        "as they are": {},
        "languages": {"language_temperature": 100.0},
        "domains": {"domain_temperature": 100.0},
    }.items():
        chosen = {"groups": PURPOSES[4:], "tokens": 4000.0, **options}
        run_single("data/mix", {"documents": written(corpus)}, {"mixed": tmp_path / name}, chosen, environment)
        table = read_table(tmp_path / name)
        tokens = count_words(table["text"].combine_chunks())
        korean = tokens[np.array(table["language"].to_pylist()) == "ko"].sum() / tokens.sum()
        food = tokens[np.array(table["domain"].to_pylist()) == "food"].sum() / tokens.sum()
        shares[name] = (korean, food)
        assert tokens.sum() == pytest.approx(4000, abs=10)
    assert shares["languages"][0] == pytest.approx(0.5, abs=0.005) and shares["as they are"][0] < 0.4
    assert shares["domains"][1] == pytest.approx(0.5, abs=0.01) and shares["as they are"][1] < 0.3
    assert "Languages at temperature 100" in (tmp_path / "languages.html").read_text("utf-8")


def test_a_diet_leaves_out_shares_by_score_in_each_group_and_language(
    purposes, written, environment, tmp_path: Path
) -> None:
    corpus = written([row for row in purposes if row["source"].startswith("wikipedia")])
    diet = [{"score": "quality", "lowest": 0.25, "highest": 0.1}]
    metrics = run_single("data/mix", {"documents": corpus}, {"mixed": tmp_path / "mixed"}, {"diet": diet}, environment)
    kept = [float(dict(row["metadata"])["quality"]) for row in read_table(tmp_path / "mixed").to_pylist()]
    assert min(kept) == 0.25 and max(kept) == 0.89
    assert metrics["dropped_diet"] == 350 and metrics["records_out"] == 650
    with pytest.raises(UsageError, match=r"no document has metadata\.perplexity; let data/filter measure it"):
        absent = {"diet": [{"score": "perplexity", "lowest": 0.1}]}
        run_single("data/mix", {"documents": corpus}, {"mixed": tmp_path / "absent"}, absent, environment)


def test_tokens_are_the_tokenizers_where_the_recipe_names_one(corpus, written, environment, tmp_path: Path) -> None:
    learned = Tokenizer(BPE(unk_token="?"))
    learned.pre_tokenizer = Whitespace()
    learned.train_from_iterator([row["text"] for row in corpus], BpeTrainer(vocab_size=60, special_tokens=["?"]))
    (tmp_path / "model").mkdir()
    learned.save(str(tmp_path / "model" / "tokenizer.json"))
    weights = {"prose": 1.0, "code": 1.0}
    options = {"weights": weights, "tokenizer": str(tmp_path / "model")}
    metrics, _ = mix(written(corpus), tmp_path / "mixed", environment, **options)
    counted: Counter[str] = Counter()
    for row in read_table(tmp_path / "mixed").to_pylist():
        counted[row["kind"]] += len(learned.encode(row["text"]).ids)
    assert metrics["tokens"] == sum(counted.values()) != metrics["records_out"] * 10
    assert counted["prose"] / sum(counted.values()) == pytest.approx(0.5, abs=0.005)
    with pytest.raises(UsageError, match=r"mix\.tokenizer: .*nowhere does not exist"):
        mix(written(corpus), tmp_path / "none", environment, tokenizer=str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=r"has no models/tiny/v1/tokenizer\.json"):
        mix(written(corpus), tmp_path / "none", environment, tokenizer="models/tiny/v1")


def test_the_layout_of_the_input_leaves_no_trace(purposes, environment, tmp_path: Path) -> None:
    """The same documents in other parts, in another order, give the same bytes."""
    options = {"groups": PURPOSES, "repeats": 2.0, "language_temperature": 3.0, "dropout": 0.1}
    made = {}
    for name, rows, size in (("one", purposes, 50_000), ("many", purposes[::-1], 700)):
        with DocumentWriter(tmp_path / name, rows_per_part=size) as writer:
            writer.write(rows)
        run_single(
            "data/mix", {"documents": tmp_path / name}, {"mixed": tmp_path / f"{name}-mixed"}, options, environment
        )
        made[name] = artifact_files(tmp_path / f"{name}-mixed")
    assert made["one"] == made["many"]


def test_an_epoch_has_an_order_of_its_own_and_leaves_out_its_share(
    purposes, written, environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.common.documents.BATCH_ROWS", 100)
    monkeypatch.setattr("components.data.mix.epochs.WINDOW_ROWS", 300)
    options = {"groups": PURPOSES, "dropout": 0.25, "seed": 9.0}
    mixed = tmp_path / "mixed"
    run_single("data/mix", {"documents": written(purposes)}, {"mixed": mixed}, options, environment)
    everything = read_table(mixed)["id"].to_pylist()

    def epoch(number: int) -> list[str]:
        return [name for batch in read_epoch(mixed, number, ["id"]) for name in batch.column("id").to_pylist()]

    epochs = [epoch(number) for number in range(4)]
    left = [set(everything) - set(read) for read in epochs]
    assert set().union(*left) == set(everything), "in four epochs every document is left out"
    assert sum(map(len, left)) == len(everything), "once"
    assert all(abs(len(one) - len(everything) / 4) <= 1 for one in left)
    shared = [name for name in epochs[0] if name in set(epochs[1])]
    assert shared != [name for name in epochs[1] if name in set(epochs[0])]
    assert epoch(2) == epochs[2]
    kept = {row["id"]: row for row in read_table(mixed).to_pylist()}
    for read in epochs:
        code = sum(len(kept[name]["text"].split()) for name in read if kept[name]["kind"] == "code")
        words = count_words(pa.array([kept[name]["text"] for name in read]))
        assert code / words.sum() == pytest.approx(0.15, abs=0.005), "the weights hold in each epoch"


def test_only_a_mixture_has_epochs(corpus, written) -> None:
    with pytest.raises(HeadraceError, match=r"has no mixture\.json"):
        list(read_epoch(written(corpus), 0))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"groups": PURPOSES, "weights": {"prose": 1.0}}, "keep one of them"),
        ({"groups": [PURPOSES[0], PURPOSES[0]]}, "two groups have the same name"),
        ({"language_temperature": 2.0}, "set tokens, weights or groups"),
        ({"diet": [{"score": "quality", "lowest": 0.5, "highest": 0.5}]}, "leave nothing"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, problem) -> None:
    with pytest.raises(ValidationError, match=problem):
        Mix.model_validate(options)
