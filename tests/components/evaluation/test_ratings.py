"""People's ratings: blind plans, checked sheets, known agreement, odd raters, evidence and feedback."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from components.common.errors import HeadraceError, UsageError
from components.common.sealed_store import store_of
from components.evaluation.evidence import Evidence
from components.evaluation.ratings import agreement, sheets
from components.evaluation.ratings.outcome import Rules, evidence_of, feedback_of, judge_raters, report_of
from components.evaluation.ratings.scales import NAMES
from components.evaluation.ratings.sheets import Ratings
from components.evaluation.ratings.stored import keep, read_stored
from components.evaluation.ratings.study import Made, make, plan, read_key, read_study

RULES = Rules(resamples=100)


def samples(number: int = 12, quotable: bool = True) -> list[dict[str, Any]]:
    return [
        {
            "id": f"item-{item:02}",
            "question": f"질문 {item}?" if item % 2 else f"question {item}?",
            "language": "ko" if item % 2 else "en",
            "quotable": quotable,
            "candidate": {"answer": f"good {item}", "exact_match": 1.0},
            "base": {"answer": f"=bad {item}", "exact_match": 0.0},
        }
        for item in range(number)
    ]


def laid_out(number: int = 12, raters: tuple[str, ...] = ("ada", "bora", "cho"), per_item: int = 2) -> Made:
    return plan(samples(number), raters, per_item, 0, 3, "d" * 64)


def rate_all(made: Made, **shifts: int) -> dict[str, Ratings]:
    """Ratings by people who see that the candidate is better, each moved by so many points."""
    generator = np.random.default_rng(0)
    found = {}
    for rater, order in made.study.orders.items():
        found[rater] = {
            name: {
                scale: int(
                    np.clip(
                        (4 if made.key[name].arm == "candidate" else 2)
                        + generator.integers(-1, 2)
                        + shifts.get(rater, 0),
                        1,
                        5,
                    )
                )
                for scale in NAMES
            }
            for name in order
        }
    return found


def test_a_plan_is_blind_balanced_and_the_same_for_a_seed() -> None:
    made = laid_out()
    assert made == laid_out()
    public = json.dumps(made.study.model_dump(), ensure_ascii=False)
    assert "item-" not in public and 'candidate": "' + "d" * 64 in public
    assert {len(order) for order in made.study.orders.values()} == {16}
    for name, origin in made.key.items():
        twin = next(other for other, its in made.key.items() if its.item == origin.item and other != name)
        assert sum(name in order for order in made.study.orders.values()) == 2
        assert all((name in order) == (twin in order) for order in made.study.orders.values())
    ada, bora, _ = made.study.orders.values()
    assert [name for name in ada if name in bora] != [name for name in bora if name in ada], "each in an own order"
    assert list(ada) != sorted(ada, key=lambda name: made.key[name].item)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((samples(), ["Ada"], 1, 0, 1), "'Ada' is no name for a rater"),
        ((samples(), ["ada", "ada"], 1, 0, 1), "named twice"),
        ((samples(), ["ada"], 2, 0, 1), "2 raters for each item, of 1"),
        ((samples(quotable=False), ["ada"], 1, 0, 1), "no item of the evidence may be shown"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan(*arguments)


def write_evidence(folder: Path) -> Path:
    folder.mkdir()
    rows = [*samples(), *samples(1, quotable=False)]
    (folder / "samples.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return folder


def test_a_study_never_overwrites_another_and_leaves_out_what_may_not_be_shown(tmp_path: Path) -> None:
    evidence = write_evidence(tmp_path / "evidence")
    study = make(evidence, tmp_path / "study", ["ada"], 1, 5, 1)
    assert read_study(tmp_path / "study") == study
    assert len(study.answers) == 10 and study.left_out == 8
    assert set(read_key(tmp_path / "study")) == set(study.answers)
    with pytest.raises(UsageError, match="is not empty"):
        make(evidence, tmp_path / "study", ["ada"], 1, 5, 1)
    (evidence / "samples.jsonl").write_text('{"id": "a"}\n')
    with pytest.raises(HeadraceError, match=r"samples\.jsonl: line 1 lacks id, question"):
        make(evidence, tmp_path / "other", ["ada"], 1, 5, 1)


def test_a_sheet_filled_in_is_read_back_whatever_the_spreadsheet_did(tmp_path: Path) -> None:
    made = laid_out()
    lines = sheets.blank(made.study, "ada").splitlines()
    assert "'=bad" in "".join(lines), "no spreadsheet may take an answer for a formula"
    filled = [lines[0], *(line.removesuffix(",,,,") + "4,5,3,2,1" for line in lines[1:])]
    path = tmp_path / "ada.csv"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(filled).encode())
    rated = sheets.read(path, made.study, "ada")
    assert list(rated) == made.study.orders["ada"]
    assert all(values == dict(zip(NAMES, (4, 5, 3, 2, 1), strict=True)) for values in rated.values())
    sheets.write(path, rated)
    assert sheets.read(path, made.study, "ada") == rated
    assert [file.name for file in tmp_path.iterdir()] == ["ada.csv"]


def change(line: int, **cells: str) -> Any:
    def changed(rows: list[list[str]]) -> list[list[str]]:
        for column, value in cells.items():
            rows[line - 1][rows[0].index(column)] = value
        return rows

    return changed


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change(3, tone="6"), r"line 3, column 5 \(tone\): '6' is no whole number from 1 to 5"),
        (change(3, bias=""), r"line 3, column 6 \(bias\): ''"),
        (change(4, clarity="3.5"), r"line 4, column 4 \(clarity\): '3.5'"),
        (change(2, answer="nobody"), r"line 2, column 1 \(answer\): 'nobody' is no answer that ada was to rate"),
        (lambda rows: [*rows, rows[1]], r"line 18, column 1 \(answer\): \w+ is there twice"),
        (lambda rows: rows[:-2], r"line 16: 2 answers of ada are missing, first \w+"),
        (lambda rows: [row[:-1] for row in rows], "line 1: the column bias is missing"),
        (lambda rows: [[*row, "x"] for row in rows], "line 1, column 7: 'x' is no column"),
        (lambda rows: [], "line 1: the column answer is missing"),
    ],
)
def test_a_damaged_sheet_is_refused_by_line_and_column(tmp_path: Path, damage: Any, message: str) -> None:
    made = laid_out()
    rows = [list(sheets.HEADER), *([name, "3", "3", "3", "3", "3"] for name in made.study.orders["ada"])]
    path = tmp_path / "ada.csv"
    path.write_text("\n".join(",".join(row) for row in damage(rows)) + "\n")
    with pytest.raises(UsageError, match=message):
        sheets.read(path, made.study, "ada")


def test_other_encodings_and_broken_quotes_are_refused_by_line(tmp_path: Path) -> None:
    made, path = laid_out(), tmp_path / "ada.csv"
    path.write_bytes(b"answer,usefulness\n" + "유용성".encode("cp949"))
    with pytest.raises(UsageError, match="line 2: not UTF-8"):
        sheets.read(path, made.study, "ada")
    path.write_text(",".join(sheets.HEADER) + '\n"never closed,3\n')
    with pytest.raises(UsageError, match=r"line 2: .*save it as CSV again"):
        sheets.read(path, made.study, "ada")


def test_krippendorffs_alpha_is_that_of_his_own_example() -> None:
    """Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), table E: ordinal 0.815."""
    blank = np.nan
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, blank, blank, blank],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, blank, 3],
        [blank, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, blank],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, blank],
    ]
    assert agreement.alpha(np.array(observers).T) == pytest.approx(0.815, abs=0.0005)


def test_agreement_is_one_for_the_same_and_about_zero_for_chance() -> None:
    generator = np.random.default_rng(1)
    same = np.tile(generator.integers(1, 6, (40, 1)), 3).astype(float)
    chance = generator.integers(1, 6, (400, 3)).astype(float)
    assert (agreement.alpha(same), agreement.tau(same)) == pytest.approx((1, 1))
    assert abs(agreement.alpha(chance)) < 0.1 and abs(agreement.tau(chance)) < 0.1
    assert not agreement.estimate(np.full((5, 2), 3.0), list("abcde"), agreement.alpha, 0.95, 20, 0).known


def test_ratings_become_evidence_for_the_gate_and_feedback_to_train_on() -> None:
    made = laid_out()
    ratings = rate_all(made)
    found = evidence_of(made.key, ratings, RULES)
    assert [metric.name for metric in found.metrics] == [f"ratings.{scale}" for scale in NAMES]
    useful = found.metrics[0]
    assert (useful.n, useful.unit) == (12, "of 5")
    assert useful.gain_interval and useful.gain_interval[0] > 1
    assert found.scores["candidate"]["ratings.tone"].keys() == {f"item-{item:02}" for item in range(12)}
    lines = [json.loads(line) for line in feedback_of(made.study, ratings).splitlines()]
    assert {line["rating"] for line in lines if line["completion"].startswith("good")} <= {3, 4, 5}
    assert len(lines) == 24 and all(set(line) == {"prompt", "completion", "rating"} for line in lines)


def test_what_one_model_alone_was_rated_on_is_no_comparison() -> None:
    made = laid_out()
    ratings = {
        rater: {name: values for name, values in rated.items() if made.key[name].arm == "base"}
        for rater, rated in rate_all(made).items()
    }
    assert evidence_of(made.key, ratings, RULES).off == {"ratings": "nobody has rated both answers to an item yet"}


def test_the_severe_the_drifting_and_the_careless_are_found_and_the_rest_are_not() -> None:
    made = plan(samples(40), ["ada", "bora", "cho", "dal"], 4, 0, 3)
    ratings = rate_all(made, bora=-2)
    for at, name in enumerate(made.study.orders["cho"]):
        ratings["cho"][name] = dict.fromkeys(NAMES, 5 if at > 40 else 2)
    generator = np.random.default_rng(2)
    ratings["dal"] = {
        name: {scale: int(generator.integers(1, 6)) for scale in NAMES} for name in made.study.orders["dal"]
    }
    remarks = {rater.name: rater.remarks for rater in judge_raters(made.key, ratings, RULES)}
    assert "rates lower than the others" in remarks["bora"]
    assert "drifts up" in remarks["cho"]
    assert any("agrees less" in remark for remark in remarks["dal"])
    calm = judge_raters(made.key, rate_all(made), RULES)
    assert {rater.name: rater.remarks for rater in calm} == dict.fromkeys(("ada", "bora", "cho", "dal"), ())


def test_the_report_says_what_is_not_determined() -> None:
    made = laid_out(raters=("ada",), per_item=1)
    ratings = rate_all(made)
    page = report_of(made.study, made.key, ratings, evidence_of(made.key, ratings, RULES), RULES).html()
    assert "24 of 24 answers rated by 1 people" in page
    assert "not determined" in page


def test_ratings_in_the_store_are_of_one_candidate(tmp_path: Path, environment_at: Any) -> None:
    made, store = laid_out(), store_of(environment_at(tmp_path))
    found = evidence_of(made.key, rate_all(made), RULES)
    key = keep(found, made.study.candidate, store)
    assert key == keep(found, made.study.candidate, store)
    assert read_stored(key, "d" * 64, store) == found
    with pytest.raises(HeadraceError, match="unknown"):
        read_stored(key, "", store)
    with pytest.raises(HeadraceError, match="is of another candidate"):
        read_stored(key, "e" * 64, store)
    with pytest.raises(HeadraceError, match="is not there"):
        read_stored(f"ratings/{'0' * 64}", "d" * 64, store)


def test_the_command_takes_sheets_and_reports(tmp_path: Path) -> None:
    from pipelines.ratings_cli import ratings_app

    evidence, study = write_evidence(tmp_path / "evidence"), tmp_path / "study"
    runner = CliRunner()
    call = ["make", str(evidence), str(study), "--rater", "ada", "--rater", "bora", "--limit", "4"]
    assert runner.invoke(ratings_app, call, catch_exceptions=False).exit_code == 0
    for rater in ("ada", "bora"):
        path = tmp_path / f"{rater}.csv"
        runner.invoke(ratings_app, ["sheet", str(study), rater, str(path)], catch_exceptions=False)
        path.write_text(path.read_text("utf-8-sig").replace(",,,,,", ",4,4,4,4,4"))
        runner.invoke(ratings_app, ["take", str(study), rater, str(path)], catch_exceptions=False)
    again = ["take", str(study), "ada", str(tmp_path / "ada.csv")]
    with pytest.raises(UsageError, match="--replace"):
        runner.invoke(ratings_app, again, catch_exceptions=False)
    with sheets.held(study), pytest.raises(UsageError, match="being served"):
        runner.invoke(ratings_app, [*again, "--replace"], catch_exceptions=False)
    assert runner.invoke(ratings_app, [*again, "--replace"], catch_exceptions=False).exit_code == 0
    with pytest.raises(UsageError, match="exists already"):
        runner.invoke(ratings_app, ["sheet", str(study), "ada", str(tmp_path / "ada.csv")], catch_exceptions=False)
    said = runner.invoke(ratings_app, ["report", str(study)], catch_exceptions=False)
    assert said.exit_code == 0 and "ratings.usefulness" in said.output.replace(" ", "").replace("ratings.", "ratings.")
    assert len(Evidence.read(study / "evidence").metrics) == 5
    assert len((study / "feedback.jsonl").read_text().splitlines()) == 8
    assert "Krippendorff" in (study / "report.html").read_text()
