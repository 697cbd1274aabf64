"""A probe says what new data is worth: the same questions, luck and settings for both sides, and honest intervals."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.common.documents import read_table
from components.common.errors import HeadraceError, UsageError
from components.common.ledger import canonical
from components.common.step import Context
from components.common.store import open_store
from components.data.card.version import MANIFEST
from components.data.curate.options import Curate
from components.data.probe.draw import draw_sides
from components.data.probe.measures import hallucinated, in_format
from components.data.probe.options import Cost, Probing
from components.data.probe.weigh import PROBE, Bill, NewDocument, best, bill, difference, gains, total, verdict

CURATE = Curate(facts=12, minimum=4, wordings=2)


def packages(document: Callable[..., dict[str, Any]], numbers: range) -> list[dict[str, Any]]:
    """Metadata of packages; only the number says which."""
    made = []
    for number in numbers:
        fields = {"license": ["MIT", "Apache-2.0", "MPL-2.0", "Zlib"][number % 4], "summary": f"Counts sort {number}"}
        metadata = {"item": "metadata", "package": f"lib{number}", "name": f"Lib{number}", "version": "1.0", **fields}
        text = f"# Lib{number} 1.0\n\n{fields['summary']}. Licence: {fields['license']}"
        source = f"pypi/{'old' if number < 10 else 'new'}"
        made.append(
            document(text, f"lib{number}", source=source, kind="table", language="en", metadata=metadata, pii="masked")
        )
    return made


@pytest.fixture
def versions(document, written) -> tuple[Path, Path]:
    """A dataset version, and one that holds as much again."""
    old, new = written(packages(document, range(10))), written(packages(document, range(20)))
    for version, documents in ((old, 10), (new, 20)):
        (version / MANIFEST).write_bytes(canonical({"name": "libs", "documents": documents}))
    return old, new


def questions_of(rows: list[dict[str, Any]]) -> set[str]:
    return {row["messages"][0]["content"] for row in rows}


def documents_of(rows: list[dict[str, Any]]) -> set[str]:
    return {parent for row in rows for parent in row["parents"]}


# ---- what is drawn


def test_what_both_versions_hold_both_sides_learn_and_no_side_learns_what_is_withheld(
    versions: tuple[Path, Path], context: Callable[[str], Context]
) -> None:
    drawn = draw_sides(*versions, Probing(curate=CURATE, withheld=4), context("data/probe"))
    present, proposed = drawn.pairs["present"], drawn.pairs["proposed"]
    assert questions_of(present) < questions_of(proposed)
    held = {asked.question: asked.held for asked in drawn.questions}
    assert set(held.values()) == {"both", "proposed"}
    assert len(held) == CURATE.facts
    for asked in drawn.questions:
        assert (asked.source == "pypi/old") == (asked.held == "both")
        assert asked.expected in asked.evidence
    assert len(drawn.withheld) == 4
    assert not documents_of(drawn.withheld) & documents_of(proposed)
    assert not questions_of(proposed) & (held.keys() | questions_of(drawn.withheld))


def test_what_a_document_is_paid_for_counts_for_its_own_language_whatever_it_is_asked_in(
    document, written, context: Callable[[str], Context]
) -> None:
    about = {"item": "readme", "package": "lib15", "name": "Lib15"}
    readme = document("# lib15\n\n소개", "readme", source="pypi/new", kind="prose", language="ko", metadata=about)
    old, new = written(packages(document, range(10))), written([*packages(document, range(20)), readme])
    drawn = draw_sides(old, new, Probing(curate=CURATE.model_copy(update={"facts": 30})), context("data/probe"))
    asked = {(one.pair["language"], one.language) for one in drawn.questions}
    assert asked == {("en", "en"), ("ko", "en")}


@pytest.fixture
def told(document, written) -> Path:
    """A dataset version of packages, and of dialogues about others with a long answer each."""

    def talk(number: int) -> dict[str, Any]:
        spoken = (
            ("user", f"What does lib{number} count?"),
            ("assistant", f"It counts things of sort {number}."),
            ("user", f"And how does lib{number} do it?"),
            ("assistant", f"Lib{number} goes through all of them, one after the other, and adds {number} for each."),
        )
        messages = [{"role": role, "content": content} for role, content in spoken]
        fields = {"kind": "dialogue", "language": "en", "pii": "masked", "messages": messages}
        return document("", f"talk{number}", source="talks", **fields)

    return written([*packages(document, range(20)), *map(talk, range(20, 40))])


def test_a_selection_is_rated_by_documents_that_neither_it_nor_the_lot_has_seen(
    told: Path, context: Callable[[str], Context]
) -> None:
    asked = {}
    for selection in ("scored", "varied"):
        curate = CURATE.model_copy(update={"selection": selection, "facts": 12, "turns": 6})
        options = Probing(compare="selection", curate=curate, withheld=8)
        drawn = draw_sides(told, told, options, context("data/probe"))
        asked[selection] = [asked.pair for asked in drawn.questions]
        assert [one.trained for one in drawn.questions] == [()] * 8
        assert len(documents_of(asked[selection])) == 8, "one question of each document"
        assert {one.source for one in drawn.questions} == {"pypi/old", "pypi/new", "talks"}
        assert questions_of(drawn.withheld) == questions_of(asked[selection])
        for pairs in drawn.pairs.values():
            assert len(pairs) == 12 * 2 + 6, "as many facts and turns for both sides"
            assert not documents_of(pairs) & documents_of(asked[selection])
            assert not questions_of(pairs) & questions_of(asked[selection])
        assert questions_of(drawn.pairs["present"]) != questions_of(drawn.pairs["proposed"])
    assert asked["scored"] == asked["varied"], "the questions do not depend on the selection"


def test_a_selection_gets_no_more_pairs_than_the_lot_has(
    told: Path, context: Callable[[str], Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.data.probe import draw

    def choose(candidates: Any, options: Curate) -> list[Any]:
        return original(candidates, options)[: 9 if options.selection == "random" else 12]

    original = draw.choose
    monkeypatch.setattr(draw, "choose", choose)
    options = Probing(compare="selection", curate=CURATE.model_copy(update={"selection": "scored"}), withheld=8)
    drawn = draw_sides(told, told, options, context("data/probe"))
    sizes = {side: sum(row["metadata"]["fact"] != "turn" for row in pairs) for side, pairs in drawn.pairs.items()}
    assert sizes == {"present": 18, "proposed": 18}


def test_what_cannot_be_compared_is_refused_with_the_way_out(
    versions: tuple[Path, Path], context: Callable[[str], Context]
) -> None:
    here, options = context("data/probe"), Probing(curate=CURATE)
    with pytest.raises(UsageError, match="both dataset versions are the same"):
        draw_sides(versions[0], versions[0], options, here)
    selection = options.model_copy(update={"compare": "selection"})
    with pytest.raises(UsageError, match="two were given"):
        draw_sides(*versions, selection, here)
    by_lot = Probing(compare="selection", curate=CURATE.model_copy(update={"selection": "random"}))
    with pytest.raises(UsageError, match=r"curate\.selection is random"):
        draw_sides(versions[0], versions[0], by_lot, here)
    with pytest.raises(HeadraceError, match=r"too few facts .*curate\.minimum is 11"):
        draw_sides(*versions, Probing(curate=CURATE.model_copy(update={"minimum": 11})), here)


# ---- what an answer is measured by


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("MIT", 0),
        ("It is the MIT", 0),
        ("The MIT. It is", 0),
        ("mit license", 0),
        ("Apache-2.0", 1),
        ("MIT since 2019", 1),
        ("MIT, and it parses dates", 1),
        ("", 0),
        ("도구입니다", 0),
        ("라이브러리입니다", 1),
    ],
)
def test_an_answer_hallucinates_if_a_word_that_claims_something_is_in_no_evidence(answer: str, expected: float) -> None:
    evidence = "Under which license is ruff released?\nMIT\n# ruff 0.1\n\nlicense MIT. 빠른 도구를 만든다."
    assert hallucinated(answer, evidence) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("MIT", 1),
        ("two words", 1),
        ("", 0),
        ("one two three", 0),
        ("MIT\nMIT", 0),
        ("<|im_end|>", 0),
        ("see https://x.org", 0),
        ("형태", 1),
        ("형태소", 0),
    ],
)
def test_an_answer_has_the_form_it_was_trained_to_have(answer: str, expected: float) -> None:
    assert in_format(answer, answer_words=2) == expected


# ---- what the numbers say


def test_intervals_hold_zero_as_often_as_they_say_where_nothing_differs() -> None:
    chance = np.random.default_rng(5)
    missed, trials = 0, 400
    for _ in range(trials):
        # Questions differ in how hard they are, and seeds in how well they train; the sides in neither.
        common = chance.normal(size=(1, 30))
        present, proposed = (common + chance.normal(size=(3, 1)) / 4 + chance.normal(size=(3, 30)) for _ in range(2))
        missed += difference(present, proposed, 0.9).certain
    assert missed / trials <= 0.1, "an interval of 90 % misses at most one time in ten"
    better = difference(present, present + 1 + chance.normal(size=(3, 30)) / 10, 0.9)
    assert 0.9 < better.low < 1 < better.high < 1.1
    assert verdict(better) == "better" and verdict(better, more_is_better=False) == "worse"


def test_a_difference_is_what_is_proposed_less_what_is_present() -> None:
    found = difference(np.full((2, 4), 0.5), np.array([[0, 1, 0, 0], [0, 0, 0, 1.0]]), 0.95)
    assert (found.present, found.proposed, found.value) == (0.5, 0.25, -0.25)
    half = found.times(0.5)
    assert (half.low, half.value, half.high) == (found.low / 2, -0.125, found.high / 2)
    assert not found.certain and not half.certain
    same = difference(np.ones((2, 4)), np.ones((2, 4)), 0.95)
    assert (same.low, same.high, verdict(same)) == (0, 0, "no evidence of a difference")


def test_a_licence_is_paid_once_for_each_new_source_and_labels_for_each_document() -> None:
    new = {
        NewDocument("vendor/a", "prose", "en"): 3,
        NewDocument("vendor/a", "prose", "ko"): 1,
        NewDocument("vendor/known", "prose", "en"): 2,
        NewDocument("wiki", "prose", "en"): 5,
    }
    costs = [Cost(source="vendor/*", licence=100, document=0.5), Cost(source="t*", document=9)]
    bills = bill(new, {"vendor/known"}, costs)
    assert total(bills.values()) == Bill(11, 100 + 4 * 0.5 + 2 * 0.5)
    assert bills[NewDocument("vendor/a", "prose", "ko")] == Bill(1, 25.5)
    assert bills[NewDocument("wiki", "prose", "en")] == Bill(5, 0)


def test_the_group_to_collect_is_the_one_that_adds_most_for_its_cost() -> None:
    groups = [{"source": name} for name in ("dear", "cheap", "useless") for _ in range(10)] + [{"source": "rare"}] * 3
    present = np.zeros((3, len(groups)))
    proposed = present.copy()
    proposed[:, :20] = 0.5 + np.random.default_rng(1).normal(size=(3, 20)) / 50
    new = [({"source": name}, Bill(10, cost)) for name, cost in (("dear", 100), ("cheap", 10), ("useless", 1))]
    found = {gain.group: gain for gain in gains(present, proposed, groups, new, 0.95)}
    assert found["rare"].change is None and found["rare"].per_cost is None
    assert verdict(found["useless"].change) == "no evidence of a difference"
    assert best(found.values()) == found["cheap"]
    added = found["cheap"].per_cost
    assert added and added.value == pytest.approx(0.5 * 10 / 33 / 10, rel=0.1)
    alone = difference(present[:, 10:20], proposed[:, 10:20], 0.95)
    assert found["cheap"].change.low < alone.low, "three groups are judged, so each has a wider interval"
    free = replace(found["cheap"], bill=Bill(10, 0))
    assert best([free, found["useless"]]) is None


# ---- the whole of it


def test_new_facts_that_are_learnt_are_worth_something_for_their_cost(
    versions: tuple[Path, Path], context: Callable[[str], Context]
) -> None:
    from components.data.probe.findings import advise, weigh
    from components.data.probe.trial import Trial

    options = Probing(withheld=4, costs=[Cost(source="pypi/*", document=2)], unit="hour", curate=CURATE)
    drawn = draw_sides(*versions, options, context("data/probe"))
    chance = np.random.default_rng(3)

    def trial(side: str, worse: float) -> Trial:
        """A model that answers what its side was trained on, and is as surprised as said at what is withheld."""
        right = [float(side in asked.trained) for asked in drawn.questions]
        luck = [float(value) for value in chance.uniform(0, 0.05, len(right))]
        scores = {
            name: [abs(one - off) for one, off in zip(right, luck, strict=True)] for name in ("token_f1", "format")
        }
        scores["hallucination"] = [1 - one for one in scores["token_f1"]]
        return Trial([2.0, 1.0], scores, [(3.0 + worse, 2), (5.0 + worse, 4), (4.0 + worse, 3), (2.0 + worse, 1)])

    sides = {"present": [trial("present", 0) for _ in range(3)], "proposed": [trial("proposed", 1) for _ in range(3)]}
    result = weigh(trial("base", 9), sides, drawn, *versions, options)
    gained = result.measures["token_f1"].change
    share = sum(asked.held == "proposed" for asked in drawn.questions) / len(drawn.questions)
    assert gained.low < share < gained.high + 0.05
    assert result.measures["perplexity"].present == pytest.approx([np.exp(14 / 10)] * 3)
    assert result.measures["perplexity"].base == pytest.approx(np.exp(50 / 10))
    assert result.measures["perplexity"].change.value == pytest.approx(4 / 10)
    assert (result.bill, result.removed) == (Bill(10, 20.0), 0)
    advice = advise(result, options)
    assert advice.decision == "better"
    assert advice.sentence.startswith("Better in token F1, proposed against present: +0.")
    assert "Collect more of source pypi/*: it adds" in advice.recommendation
    assert "to token F1 per hour," in advice.recommendation
    assert [gain.by for gain in result.gains] == ["source"], "there is one kind and one language: no choice"
    none = weigh(trial("base", 9), dict.fromkeys(sides, sides["present"]), drawn, *versions, options)
    advice = advise(none, options)
    assert advice.decision == "unclear"
    assert advice.sentence.startswith("No evidence of a difference in token F1, proposed against present: +0.000 [")
    assert "nothing says which" in advice.recommendation


def test_a_probe_goes_on_where_it_was_and_comes_to_the_same(
    versions: tuple[Path, Path], base: Path, tmp_path: Path, context: Callable[[str], Context]
) -> None:
    from components.data.probe.compare import run
    from components.evaluation.benchmark.options import Benchmark
    from components.model.tune.options import Tune

    options = Probing(
        seeds=2,
        withheld=4,
        curate=CURATE,
        tune=Tune(epochs=2, batch_size=16, threads=1),
        benchmark=Benchmark(max_new_tokens=4, batch_size=16, threads=1),
    )

    def probe(name: str, options: Probing) -> tuple[Any, dict[str, Any], dict[str, Path]]:
        names = ("present_pairs", "proposed_pairs", "questions", "withheld", "evidence")
        folders = {key: tmp_path / name / key for key in names}
        for folder in folders.values():
            folder.mkdir(parents=True)
        outcome = run(base, *versions, **folders, options=options, context=context("data/probe"))
        return outcome, json.loads((folders["evidence"] / PROBE).read_text("utf-8")), folders

    outcome, found, folders = probe("first", options)
    assert (outcome.metrics["trainings"], outcome.metrics["resumed"]) == (4, 0)
    assert outcome.decision == found["decision"]
    sizes = {name: len(read_table(folder)) for name, folder in folders.items() if name != "evidence"}
    assert sizes["present_pairs"] == found["sides"]["present"]["pairs"]
    assert sizes["proposed_pairs"] == found["sides"]["proposed"]["pairs"] > sizes["present_pairs"]
    assert (sizes["questions"], sizes["withheld"]) == (found["questions"], found["withheld"]) == (12, 4)
    assert [len(losses) for losses in found["losses"]["proposed"]] == [4, 4]
    seeds = found["measures"]["perplexity"]
    assert len({seeds["base"], *seeds["present"], *seeds["proposed"]}) == 5, "each training is another one"
    page = outcome.report.html()
    assert page.count("<svg") >= 2 and "Counts sort" in page
    for side, documents in (("present", 10), ("proposed", 20)):
        version = found["sides"][side]["version"]
        assert version.startswith("libs/") and f"<td>{side}</td><td>{version}</td>" in re.sub(
            r"<td[^>]*>", "<td>", page
        )
        assert found["sides"][side]["documents"] == documents
    heads = [re.findall(r"<th[^>]*>([^<]*)", head) for head in re.findall(r"<thead>.*</thead>", page)]
    told = [head for head in heads if "present" in head]
    assert len(told) == 4, "measures, by who was trained, by group, examples"
    told.append(found["summary"]["columns"])
    for head in told:
        place = head.index("present")
        assert head[place : place + 3] == ["present", "proposed", "difference"], "the same order in every table"

    kept = open_store(context("data/probe").environment.store)
    trials = sorted(kept.list("probes/"))
    words = b"".join(map(kept.read, trials))
    assert len(trials) == 5
    assert b"Lib1" not in words and b"Counts" not in words
    kept.delete(trials[0])
    again, same, _ = probe("again", options)
    assert (again.metrics["trainings"], again.metrics["resumed"]) == (4, 4), "what was lost is measured again"
    assert same == found


# ---- the command


def test_a_version_is_found_by_name_and_eight_characters_of_its_hash(tmp_path: Path) -> None:
    from pipelines.probing import find_version

    store = open_store(f"file://{tmp_path}/store")
    for name, digest in (("corpus", "a" * 64), ("corpus", "b" * 64), ("other", "a" * 64)):
        store.write(f"datasets/{name}/{digest}/manifest.json", b"{}")
    whole = f"datasets/corpus/{'a' * 64}"
    assert {find_version(store, asked) for asked in (whole, whole[9:], "corpus/aaaaaaaa")} == {whole}
    for wrong in ("corpus", "corpus/aaaa", "aaaaaaaa", f"none/{'a' * 64}", "corpus/cccccccc"):
        with pytest.raises(UsageError, match=r"write NAME/HASH; there are: corpus/aaaaaaaa, corpus/bbbbbbbb, other/a"):
            find_version(store, wrong)


def test_the_command_shows_both_sides_before_their_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from pipelines import probing
    from pipelines.cli import app

    columns = ["measure", "base model", "random", "scored", "difference", "verdict"]
    summary = {"columns": columns, "rows": [["token F1", "0.1", "0.2", "0.4", "+0.2", "better"]]}
    record = {"decision": "better", "sentence": "By [far].", "recommendation": "Keep it.", "summary": summary}

    def run_probe(recipe: Any, present: str, proposed: str, *_: Any) -> probing.Probed:
        assert (present, proposed, recipe.probe.compare) == ("libs/aaaaaaaa", "libs/aaaaaaaa", "selection")
        stored = json.loads(canonical(record))
        return probing.Probed(stored, tmp_path / "probe.html", tmp_path / "probe.json")

    monkeypatch.setattr(probing, "run_probe", run_probe)
    asked = ["probe", "--present", "libs/aaaaaaaa", "--ablation", "--home", str(tmp_path)]
    shown = CliRunner().invoke(app, asked, env={"COLUMNS": "120"})
    assert shown.exit_code == 0, shown.output
    places = [shown.output.index(name) for name in [*columns, "0.2", "0.4", "+0.2", "By [far].", "Keep it."]]
    assert places == sorted(places)
