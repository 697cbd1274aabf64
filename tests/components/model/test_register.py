import json
from pathlib import Path

import pytest
import yaml

from components.common.errors import HeadraceError
from components.common.ledger import file_digest
from components.common.step import Context
from components.evaluation.evidence import Evidence, Metric
from components.evaluation.gate.decide import run as decide
from components.evaluation.gate.options import Gate, Threshold
from components.evaluation.serving import Serving
from components.model.register.options import Register
from components.model.register.record import run, run_base
from components.model.versions import verify_version

METRIC = Metric(
    name="exact_match",
    task="held_out",
    n=60,
    value=0.9,
    interval=(0.8, 0.95),
    base_value=0.1,
    base_interval=(0.0, 0.2),
    gain=0.8,
    gain_interval=(0.6, 0.9),
)


@pytest.fixture
def verdict(tmp_path: Path, context) -> Path:
    evidence, retrieval, redteam, serving, verdict = (
        tmp_path / name for name in ("evidence", "retrieval", "redteam", "serving", "verdict")
    )
    for folder in (evidence, retrieval, redteam, serving, verdict):
        folder.mkdir()
    Evidence(0.95, [METRIC], {"candidate": {"exact_match": {"one": 1.0}}}).write(evidence)
    Evidence(0.95, [], {}, {"retrieval": "switched off"}).write(retrieval)
    Evidence(0.95, [], {}, {"redteam": "switched off"}).write(redteam)
    Serving().write(serving)
    options = Gate(thresholds=[Threshold(metric="exact_match", rule="min", value=0.5)])
    made = {"benchmark": evidence, "retrieval": retrieval, "redteam": redteam, "serving": serving, "verdict": verdict}
    decide(**made, options=options, context=context("evaluation/gate"))
    return verdict


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    path = tmp_path / "dataset"
    path.mkdir()
    (path / "manifest.json").write_text('{"name": "packages"}')
    return path


def test_a_registered_model_is_a_version_in_the_store(
    candidate: Path, dataset: Path, verdict: Path, tmp_path: Path, context
) -> None:
    surroundings = context("model/register")
    store = Path(surroundings.environment.store.removeprefix("file://"))
    model = tmp_path / "model"
    outcome = run(candidate, dataset, verdict, model, Register(name="tiny"), surroundings)
    version = verify_version(model)
    assert version == verify_version(store / version.key)
    assert outcome.head == version.key
    assert outcome.copies == {"model": f"{surroundings.environment.store}/{version.key}"}
    assert version.origins.dataset == file_digest(dataset / "manifest.json")
    assert version.evaluation["decision"] == "release"
    assert json.loads((model / "scores.json").read_text()) == {"candidate": {"exact_match": {"one": 1}}}
    again = run(candidate, dataset, verdict, tmp_path / "again", Register(name="tiny"), surroundings)
    assert again.head == outcome.head


def test_a_tracking_server_that_is_away_is_one_sentence_and_the_version_is_stored(
    candidate: Path, dataset: Path, verdict: Path, tmp_path: Path, context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    here = context("model/register")
    place = here.environment.model_copy(update={"tracking": "http://127.0.0.1:9"})
    away = Context(here.stage, place)
    with pytest.raises(HeadraceError, match=r"^models/away/\w+ is stored, but the tracking server .* run again$"):
        run(candidate, dataset, verdict, tmp_path / "model", Register(name="away"), away)
    assert any(Path(place.store.removeprefix("file://"), "models", "away").iterdir())


def test_the_recipe_of_the_plan_is_recorded_and_without_one_what_is_known(
    candidate: Path, base: Path, dataset: Path, verdict: Path, tmp_path: Path, context
) -> None:
    def recorded(name: str, recipe: str, languages: list[str]) -> tuple[str, str]:
        options = Register(recipe=recipe, languages=languages)
        tuned, plain = tmp_path / name / "tuned", tmp_path / name / "base"
        run(candidate, dataset, verdict, tuned, options, context("model/register"))
        run_base(base, plain, options, context("model/register"))
        return verify_version(tuned).origins.recipe, verify_version(plain).version

    planned, plain = recorded("planned", "ab" * 32, ["en"])
    unplanned, same = recorded("unplanned", "", ["en"])
    other, _ = recorded("other", "", ["ko"])
    assert planned == "ab" * 32
    assert len(unplanned) == 64 and len({planned, unplanned, other}) == 3
    assert plain == same, "a base model is the same version whatever recipe a run has"


def test_the_card_says_what_happened(candidate: Path, dataset: Path, verdict: Path, tmp_path: Path, context) -> None:
    run(candidate, dataset, verdict, tmp_path / "model", Register(languages=["en", "ko"]), context("model/register"))
    _, header, text = (tmp_path / "model" / "MODEL_CARD.md").read_text().split("---\n", 2)
    fields = yaml.safe_load(header)
    assert (fields["license"], fields["base_model"], fields["language"]) == ("mit", "Tiny-Llama", ["en", "ko"])
    [result] = fields["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "exact_match", "value": 0.9, "name": "exact match"}]
    assert "| exact_match | ↑ | 60 | 0.100 [0.000, 0.200] | 0.900 [0.800, 0.950] | 0.800 [0.600, 0.900] |" in text
    assert "4 question and answer pairs" in text
    assert str(tmp_path) not in text


def test_a_base_model_is_registered_without_evidence(base: Path, tmp_path: Path, context) -> None:
    run_base(base, tmp_path, Register(name="tiny"), context("model/register"))
    version = verify_version(tmp_path)
    assert version.evaluation == {}
    assert version.origins.dataset == ""
    assert version.origins.base == json.loads((base / "base.json").read_text())["digest"]
    assert "not tuned and not evaluated" in (tmp_path / "MODEL_CARD.md").read_text()
