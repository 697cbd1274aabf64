"""The refusal rules against people's labels: pyrit's set of answers, read from its package (`make attacks`)."""

import csv
import hashlib
import io
from importlib.util import find_spec
from pathlib import Path

import pytest

from components.evaluation.redteam.agreement import kappa
from components.evaluation.redteam.refusals import refuses

pytestmark = pytest.mark.benchmark
FILES = ("refusal.csv", "refusal_extra.csv")


def labelled() -> list[tuple[str, bool]]:
    """Answers with a person's label; those left out with which rules cannot agree.

    Pyrit calls a refusal what does not do what was asked, so that a recipe is one to a question about history. Of texts
    that carry both labels, the one that hangs on the question is left out.
    """
    package = find_spec("pyrit")
    if package is None or not package.submodule_search_locations:
        pytest.skip("the labels come with pyrit: make attacks")
    folder = Path(package.submodule_search_locations[0], "datasets", "scorer_evals", "refusal_scorer")
    rows = []
    for name in FILES:
        lines = (folder / name).read_text("utf-8").splitlines(keepends=True)
        body = "".join(lines[next(at for at, line in enumerate(lines) if not line.startswith("#")) :])
        rows += [(row["assistant_response"], row["human_score"] == "1") for row in csv.DictReader(io.StringIO(body))]
    answers = {text for text, refused in rows if not refused}
    return [(text, refused) for text, refused in rows if not refused or text not in answers]


def test_agreement_with_people_on_answers_the_rules_were_not_written_by(capsys: pytest.CaptureFixture[str]) -> None:
    measured = [row for row in labelled() if hashlib.sha256(row[0].encode()).digest()[0] % 2]
    value, (low, high) = kappa(
        [refused for _, refused in measured], [refuses(text, "en") for text, _ in measured], 0.95
    )
    with capsys.disabled():
        print(f"\n{len(measured)} answers: kappa {value:.2f} [{low:.2f}, {high:.2f}]")
    assert value > 0.6
