"""`headrace gc`: what is needed stays, what is not goes, and the ledger holds before, after and half-way."""

import fcntl
import io
import json
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import dsl
from kubernetes import client
from rich.console import Console
from typer.testing import CliRunner

from components.common.environment import Environment, Serving, load_environment
from components.common.errors import HeadraceError, UsageError
from components.common.ledger import Ledger, canonical, make_entry, sha256
from components.common.store import Store, open_store, upload_tree
from components.common.trace import trace
from components.data.ingest.component import ingest
from components.data.parse.component import parse
from components.model.versions import EVALUATION, PROVENANCE, Origins, seal
from components.release.manifest import render, render_predictor
from components.release.notes import PREVIOUS, NotedServices
from components.release.services import InferenceServices
from pipelines import sweep as sweeping
from pipelines.cli import app
from pipelines.display import Display
from pipelines.garbage import Fate, Hold, Item, Kind, Model, judge, mentions, needs
from pipelines.local_run import run_pipeline
from pipelines.sweep import Sweep

NAMESPACE = "gc-serving"
LATER = datetime.now(UTC) + timedelta(days=40)
"""When everything that the tests sign is older than the rollback window."""


class Shop:
    """A store with versions in it, and an environment that serves some of them."""

    def __init__(self, environment: Environment, folder: Path) -> None:
        self.environment = environment
        self.store = open_store(environment.store)
        self.ledger = Ledger(self.store, Path(environment.signing_key))
        self.folder = folder

    def _record(self, folder: Path, stage: str, output: str, key: str, last: str, made_from: list[str]) -> str:
        inputs = {
            f"i{number}": {"entry": entry, "digest": self._digest(entry)} for number, entry in enumerate(made_from)
        }
        entry = make_entry(stage, inputs, {output: folder}, {}, "code", {"in": 1, "out": 1, "dropped": {}})
        uri = upload_tree(self.store, folder, key, last)
        self.store.write(f"{key}/ledger.json", entry)
        name = self.ledger.record(entry, {output: [uri]})
        self.ledger.sign_head(key, name)
        return name

    def _digest(self, entry: str) -> str:
        [output] = dict(self.ledger.entries())[entry]["outputs"].values()
        return output["digest"]

    def dataset(self, text: str) -> tuple[str, str]:
        """Make a dataset version; its key and its entry."""
        folder = self.folder / sha256(text.encode())[:8]
        folder.mkdir(parents=True)
        (folder / "part").write_text(text)
        (folder / "manifest.json").write_bytes(canonical({"part": text}))
        key = f"datasets/d/{sha256((folder / 'manifest.json').read_bytes())}"
        return key, self._record(folder, "data/card", "dataset", key, "manifest.json", [])

    def model(self, text: str, dataset: tuple[str, str] | None = None, base: str = "b") -> str:
        """Make a model version; its key."""
        folder = self.folder / sha256(text.encode())[:8]
        folder.mkdir(parents=True)
        (folder / "weights").write_text(text * 100)
        (folder / EVALUATION).write_text("{}")
        origin = dataset[0].rpartition("/")[2] if dataset else ""
        version = seal(folder, "m", Origins(sha256(base.encode()), origin, "r", "c", ""))
        parents = [dataset[1]] if dataset else []
        self._record(folder, "model/register", "model", version.key, PROVENANCE, parents)
        return version.key

    def sweep(self, keep_days: int = 30, now: datetime = LATER) -> Sweep:
        return Sweep(self.environment, keep_days, now)

    def fates(self, **options: Any) -> dict[str, tuple[Fate, str]]:
        return {one.item.name: (one.fate, one.why) for one in self.sweep(**options).plan().verdicts}

    def versions(self) -> set[str]:
        """Versions that look whole."""
        return {key.rpartition("/")[0] for key in self.store.list() if key.endswith((PROVENANCE, "manifest.json"))}


def predictor(key: str, store: str) -> dict[str, Any]:
    annotations = {"headrace.dev/model": key.removeprefix("models/")}
    made = render_predictor(f"r{key[-64:-56]}", f"{store}/{key}", 1, {"cpu": "1"}, [], annotations)
    made["model"]["name"] = "kserve-container"  # the resource definition of the tests' API server requires it
    return made


def service(environment: Environment, stable: str, candidate: str = "", previous: str = "") -> dict[str, Any]:
    store = environment.store
    manifest = render("assistant", environment.serving.namespace, predictor(stable, store))
    if candidate:
        manifest["spec"]["canary"] = [{"trafficPercent": 10, "predictor": predictor(candidate, store)}]
    if previous:
        manifest["metadata"]["annotations"][PREVIOUS] = json.dumps(predictor(previous, store))
    return manifest


@pytest.fixture(params=["file", "gs"])
def shop(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A laptop's store and a bucket; what is served is written where a plane keeps it."""
    home = tmp_path / "home"
    store = f"file://{home}/store"
    if request.param == "gs":
        store = f"{request.getfixturevalue('cloud')}/{tmp_path.name}"
    (tmp_path / "environments").mkdir()
    monkeypatch.setattr(sweeping, "ENVIRONMENTS", tmp_path / "environments")
    return Shop(plane(home, store), tmp_path / "made")


def plane(home: Path, store: str, name: str = "laptop") -> Environment:
    key = str(home / "key.pem")
    serving = Serving(mode="plane", api="http://127.0.0.1:1", gateway="http://127.0.0.1:2")
    return Environment(name=name, home=str(home), store=store, tracking="", signing_key=key, serving=serving)


def serve(shop: Shop, *versions: str) -> None:
    folder = Path(shop.environment.home) / "plane" / "services"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "default.assistant.json").write_text(json.dumps(service(shop.environment, *versions)))


def test_what_is_served_and_what_it_was_made_from_stays_and_the_rest_goes(shop: Shop) -> None:
    used, unused = shop.dataset("used"), shop.dataset("unused")
    base, other_base = shop.model("base"), shop.model("other base", base="o")
    stable, candidate, previous = (shop.model(name, used) for name in ("stable", "candidate", "previous"))
    old = shop.model("old", unused)
    serve(shop, stable, candidate, previous)
    fates = shop.fates()
    assert fates[stable] == (Fate.KEEP, "stable revision of assistant in laptop")
    assert fates[candidate] == (Fate.KEEP, "candidate revision of assistant in laptop")
    assert fates[previous] == (Fate.KEEP, "previous revision of assistant in laptop")
    assert fates[used[0]][1].startswith("went into ")
    assert fates[base][1].startswith("base of ")
    assert {name for name, (fate, _) in fates.items() if fate == Fate.GO} == {old, unused[0], other_base}
    assert shop.ledger.verify() == []

    sweep = shop.sweep()
    assert sweep.remove(sweep.plan()) == []
    assert shop.versions() == {used[0], base, stable, candidate, previous}
    assert not [key for key in shop.store.list("models/") if old in key]
    assert shop.ledger.verify() == []
    [link] = trace(shop.ledger, old).found
    assert link.note.startswith("removed ")
    assert "nothing needs it" in link.note
    again = shop.sweep()
    assert again.plan().going == []


def test_what_is_younger_than_the_window_stays(shop: Shop) -> None:
    dataset = shop.dataset("young")
    model = shop.model("young model", dataset)
    assert {fate for fate, _ in shop.fates(now=datetime.now(UTC)).values()} == {Fate.KEEP}
    assert {fate for fate, _ in shop.fates(keep_days=50).values()} == {Fate.KEEP}
    assert shop.fates(keep_days=0, now=datetime.now(UTC) + timedelta(hours=1))[model][0] == Fate.GO


def test_a_silent_removal_and_a_forged_record_are_found(shop: Shop) -> None:
    gone, kept = shop.model("gone"), shop.model("kept", base="k")
    serve(shop, kept)
    sweep = shop.sweep()
    sweep.remove(sweep.plan())
    assert shop.ledger.verify() == []
    [record] = list(shop.store.list("ledger/removals/"))
    whole = shop.store.read(record)
    shop.store.write(record, whole.replace(b"nothing needs it", b"nothing needed it"))
    assert any("its signature does not fit" in finding.problem for finding in shop.ledger.verify())
    shop.store.write(record, b"{}")
    assert any("not a signed removal" in finding.problem for finding in shop.ledger.verify())
    shop.store.delete(record)
    assert any(f"{gone} does not exist" in finding.problem for finding in shop.ledger.verify())
    shop.store.write(record, whole)
    shop.store.write(record.replace(record.split("/")[2], "0" * 64), whole)
    assert any("is not stored in the place" in finding.problem for finding in shop.ledger.verify())
    shop.store.delete(record.replace(record.split("/")[2], "0" * 64))
    assert shop.ledger.verify() == []
    shop.store.delete(f"{kept}/weights")
    assert any("weights is missing" in finding.problem for finding in shop.ledger.verify())
    assert gone not in shop.versions()


def test_what_is_made_again_is_verified_again(shop: Shop) -> None:
    model = shop.model("made twice")
    sweep = shop.sweep()
    sweep.remove(sweep.plan())
    again = Shop(shop.environment, shop.folder / "again")
    assert again.model("made twice") == model
    assert list(shop.ledger.removals()) == []
    assert shop.ledger.verify() == []
    shop.store.delete(f"{model}/weights")
    assert shop.ledger.verify()


class Killed(BaseException):
    """The process is gone."""


class Mortal:
    """A store whose user is killed before its nth change."""

    def __init__(self, store: Store, changes: int) -> None:
        self._store = store
        self.left = changes

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in ("write", "delete"):
            return method

        def change(*arguments: Any, **options: Any) -> Any:
            if not self.left:
                raise Killed
            self.left -= 1
            return method(*arguments, **options)

        return change


def test_killed_at_any_moment_nothing_half_looks_whole_and_the_next_sweep_ends_it(shop: Shop) -> None:
    kept = shop.model("kept")
    serve(shop, kept)
    for changes in range(20):
        goes = shop.model(f"goes {changes}", base="g")
        files = set(shop.store.list(f"{goes}/"))
        sweep = shop.sweep()
        plan = sweep.plan()
        sweep.store = mortal = Mortal(sweep.store, changes)  # type: ignore[assignment]
        sweep.ledger.store = mortal  # type: ignore[assignment]
        try:
            sweep.remove(plan)
            ended = True
        except Killed:
            ended = False
            if goes in shop.versions():
                assert set(shop.store.list(f"{goes}/")) == files
            for finding in shop.ledger.verify():
                assert "its removal was begun and not finished" in finding.problem
            following = shop.sweep()
            following.remove(following.plan())
        assert shop.ledger.verify() == []
        assert shop.versions() == {kept}
        if ended:
            break
    assert changes == 5  # the signature, the file that makes it whole, and three others
    assert ended


def test_killed_before_the_first_file_and_needed_again_it_is_as_if_nothing_had_been(shop: Shop) -> None:
    model = shop.model("model")
    sweep = shop.sweep()
    plan = sweep.plan()
    sweep.store = mortal = Mortal(sweep.store, 1)  # type: ignore[assignment]
    sweep.ledger.store = mortal  # type: ignore[assignment]
    with pytest.raises(Killed):
        sweep.remove(plan)
    assert "its removal was begun" in shop.ledger.verify()[0].problem
    serve(shop, model)
    following = shop.sweep()
    following.remove(following.plan())
    assert shop.ledger.verify() == []
    assert shop.versions() == {model}


def test_what_comes_to_be_served_before_its_removal_is_kept(shop: Shop) -> None:
    dataset = shop.dataset("data")
    model = shop.model("late", dataset)
    sweep = shop.sweep()
    plan = sweep.plan()
    assert {one.item.name for one in plan.going} == {model, dataset[0]}
    serve(shop, model)
    kept = sweep.remove(plan)
    assert {one.item.name for one in kept} == {model, dataset[0]}
    assert shop.versions() == {model, dataset[0]}
    assert shop.ledger.verify() == []


def test_what_comes_to_be_served_while_it_is_removed_is_put_back(shop: Shop) -> None:
    model = shop.model("very late")
    sweep = shop.sweep()
    plan = sweep.plan()

    class Publisher(Mortal):
        def __getattr__(self, name: str) -> Any:
            method = super().__getattr__(name)
            if name != "delete":
                return method

            def delete(key: str) -> None:
                if key == f"{model}/{PROVENANCE}":
                    serve(shop, model)
                method(key)

            return delete

    sweep.store = Publisher(sweep.store, 100)  # type: ignore[assignment]
    [kept] = sweep.remove(plan)
    assert kept.why == "stable revision of assistant in laptop"
    assert shop.versions() == {model}
    assert shop.ledger.verify() == []


def test_other_environments_with_the_same_store_are_asked(shop: Shop, tmp_path: Path) -> None:
    theirs, nobodys = shop.model("theirs"), shop.model("nobody's", base="n")
    neighbour = plane(tmp_path / "neighbour", shop.environment.store, "neighbour")
    stranger = plane(tmp_path / "stranger", f"{shop.environment.store}-2", "stranger")
    for environment, model in ((neighbour, theirs), (stranger, nobodys)):
        path = tmp_path / "environments" / f"{environment.name}.yaml"
        path.write_text(yaml.safe_dump(environment.model_dump(mode="json")))
        folder = Path(environment.home) / "plane" / "services"
        folder.mkdir(parents=True)
        (folder / "default.assistant.json").write_text(json.dumps(service(environment, model)))
    sweep = shop.sweep()
    loaded = {environment.name for environment in sweeping.sharing(shop.environment)}
    assert loaded == {"laptop", "neighbour"}
    fates = {one.item.name: (one.fate, one.why) for one in sweep.plan().verdicts}
    assert fates[theirs] == (Fate.KEEP, "stable revision of assistant in neighbour")
    assert fates[nobodys][0] == Fate.GO


def test_a_hold_keeps_a_subject_and_what_it_was_made_from(shop: Shop) -> None:
    dataset = shop.dataset("evidence")
    model = shop.model("accused", dataset)
    other = shop.model("other", base="o")
    sweep = shop.sweep()
    version = model.rpartition("/")[2]
    until = LATER.date() + timedelta(days=1)
    sweep.hold("case-7", Hold(subject=version, reason="litigation", who="legal", until=until))
    fates = shop.fates()
    assert fates[model] == (Fate.KEEP, f"held by case-7 until {until}: litigation (legal)")
    assert fates[dataset[0]][0] == Fate.KEEP
    assert fates[other][0] == Fate.GO
    assert shop.fates(now=LATER + timedelta(days=5))[model][0] == Fate.GO
    with pytest.raises(UsageError, match="there is a hold case-7 already"):
        sweep.hold("case-7", Hold(subject=version, reason="litigation", who="legal"))
    with pytest.raises(UsageError, match="no document, version, revision or entry"):
        sweep.hold("case-8", Hold(subject="0" * 64, reason="litigation", who="legal"))
    shop.store.write("holds/case-9.json", b'{"subject": "x"}')
    with pytest.raises(HeadraceError, match=r"case-9\.json: .*nothing is removed until it is mended"):
        sweep.plan()
    shop.store.delete("holds/case-9.json")
    sweep.release("case-7")
    assert shop.fates()[model][0] == Fate.GO
    with pytest.raises(UsageError, match="there is no hold case-7"):
        sweep.release("case-7")


def test_encrypted_versions_and_conversions_follow(shop: Shop) -> None:
    served, old = shop.model("served"), shop.model("old", base="o")
    for model in (served, old):
        shop.store.write(f"encrypted/{model}/weights", b"x")
        shop.store.write(f"encrypted/{model}/{PROVENANCE}", b"x")
    shop.store.write(f"base-models/{'0' * 64}/weights", b"x")
    serve(shop, served)
    going = {one.item.name for one in shop.sweep().plan().going}
    assert going == {old, f"encrypted/{old}", f"base-models/{'0' * 64}"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (f"probes/{'0' * 64}.json", Kind.TRIAL),
        (f"checkpoints/{'0' * 64}/00000050/optimizer.pt", Kind.CHECKPOINT),
    ],
)
def test_what_a_training_left_goes_when_it_is_old(shop: Shop, name: str, kind: Kind) -> None:
    shop.store.write(name, b"{}")
    assert shop.fates(now=datetime.now(UTC))[name][0] == Fate.KEEP
    sweep = shop.sweep()
    plan = sweep.plan()
    assert [(one.item.name, one.item.kind) for one in plan.going] == [(name, kind)]
    assert sweep.remove(plan) == []
    assert not shop.store.exists(name)


# ---- on a cluster


@pytest.fixture
def staging(cluster: client.ApiClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A store whose models are served by the API server of the tests."""
    core = client.CoreV1Api(cluster)
    if NAMESPACE not in {item.metadata.name for item in core.list_namespace().items}:
        core.create_namespace({"metadata": {"name": NAMESPACE}})
    (tmp_path / "environments").mkdir()
    monkeypatch.setattr(sweeping, "ENVIRONMENTS", tmp_path / "environments")
    serving = Serving(mode="standard", namespace=NAMESPACE)
    key, store = str(tmp_path / "key.pem"), f"file://{tmp_path}/store"
    yield Shop(
        Environment(name="staging", store=store, tracking="", signing_key=key, serving=serving), tmp_path / "made"
    )
    api = client.CustomObjectsApi(cluster)
    api.delete_collection_namespaced_custom_object("serving.kserve.io", "v1beta1", NAMESPACE, "inferenceservices")


def create(environment: Environment, manifest: dict[str, Any]) -> None:
    """Write a service as a rollout does: what it remembers goes beside it, not into its annotations."""
    services = NotedServices(InferenceServices(environment.serving))
    services.change(manifest["metadata"]["name"], lambda seen: manifest)


def test_a_cluster_is_asked_what_it_serves_and_what_a_rollout_may_go_back_to(staging: Shop) -> None:
    stable, candidate, previous, old = (staging.model(name, base=name) for name in ("s", "c", "p", "o"))
    sweep = staging.sweep()
    before = sweep.plan()
    assert len(before.going) == 4
    create(staging.environment, service(staging.environment, stable, candidate, previous))
    kept = sweep.remove(before)
    assert {one.item.name for one in kept} == {stable, candidate, previous}
    assert staging.versions() == {stable, candidate, previous}
    assert old not in staging.versions()
    assert staging.ledger.verify() == []


@pytest.mark.parametrize(
    ("update", "config", "sentence"),
    [
        ({}, "/nonexistent", "no Kubernetes API"),
        ({"context": "other"}, "", "other"),
        ({"namespace": "gc-nowhere"}, "", 'namespaces "gc-nowhere" not found'),
        ({"api": "https://127.0.0.1:9"}, "", "refuses the connection"),
    ],
)
def test_nothing_is_known_to_be_unused_where_a_cluster_cannot_be_seen(
    staging: Shop, monkeypatch: pytest.MonkeyPatch, update: dict[str, str], config: str, sentence: str
) -> None:
    model = staging.model("model")
    if config:
        monkeypatch.setenv("KUBECONFIG", config)
    serving = staging.environment.serving.model_copy(update=update)
    sweep = Sweep(staging.environment.model_copy(update={"serving": serving}), 30, LATER)
    with pytest.raises(HeadraceError, match="what staging serves cannot be seen") as caught:
        sweep.plan()
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert staging.versions() == {model}


def test_on_a_cluster_the_window_is_a_day_at_least(staging: Shop) -> None:
    with pytest.raises(UsageError, match="a run may be about to publish"):
        staging.sweep(keep_days=0)


# ---- on a laptop


@dsl.pipeline(name="two-steps")
def two_steps(reading: dict, parsing: dict, environment: dict) -> dsl.Dataset:
    ingested = ingest(options=reading, environment=environment)
    return parse(documents=ingested.outputs["documents"], options=parsing, environment=environment).outputs["parsed"]


class Laptop:
    """A home in which pipelines run as `headrace run` runs them."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.environment = load_environment("local", self.home)
        (folder / "corpus").mkdir()
        (folder / "corpus" / "hammer.md").write_text("# Hammer\n\nA hammer drives nails into wood.\n" * 20, "utf-8")
        location = str(folder / "corpus")
        self.source = {"id": "d", "class": "in_house", "location": location, "license": "MIT", "owner": "me"}

    def run(self, name: str, rows: int, *, ended: bool = True) -> list[str]:
        folder = self.home / "runs" / name
        folder.mkdir(parents=True)
        place = self.environment.model_dump(mode="json")
        arguments = {"reading": {"sources": [self.source]}, "parsing": {"table_rows": rows}, "environment": place}
        with (folder / "run.log").open("w") as log, Display(Console(file=io.StringIO())) as display:
            finished = run_pipeline(two_steps, arguments, self.home, log, display)
        if ended:
            (folder / "report.html").write_text("<html>")
        return [step.state for step in finished.steps]

    def gc(self, *arguments: str) -> str:
        ended = CliRunner().invoke(app, ["gc", "--home", str(self.home), *arguments])
        if ended.exception and not isinstance(ended.exception, SystemExit):
            raise ended.exception
        return " ".join(ended.output.split())

    def ledger(self) -> Ledger:
        return Ledger(open_store(self.environment.store), Path(self.environment.signing_key))


@pytest.fixture
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Laptop:
    monkeypatch.setattr("pipelines.gc.console", Console(width=300, highlight=False))
    return Laptop(tmp_path)


def test_on_a_laptop_the_newest_run_s_artifacts_stay(laptop: Laptop) -> None:
    assert "nothing can go" in laptop.gc()
    assert laptop.run("2026-01-01", 7, ended=False) == ["done", "done"]
    assert "it is gone on with from here" in laptop.gc()
    assert laptop.run("2026-01-02", 8) == ["cached", "done"]
    damaged = next(laptop.home.glob("artifacts/*/ingest/documents")).with_name("documents.damaged")
    damaged.mkdir()
    (damaged / "part").write_text("x" * 5000)
    before = sorted(laptop.home.rglob("*"))
    said = laptop.gc()
    assert "no served revision and not the newest run uses it" in said
    assert "`headrace gc --delete` removes it" in said
    assert sorted(laptop.home.rglob("*")) == before

    said = laptop.gc("--delete", "--yes")
    assert "removed 3 items" in said  # the older parse, its cache entry, the damaged artifact
    assert len(list(laptop.home.glob("artifacts/*/*"))) == 2
    assert not damaged.exists()
    assert laptop.ledger().verify() == []
    assert laptop.run("2026-01-03", 8) == ["cached", "cached"]
    assert laptop.run("2026-01-04", 7) == ["cached", "done"]
    assert laptop.ledger().verify() == []


def test_what_a_failed_run_finished_after_the_last_good_one_stays(laptop: Laptop) -> None:
    laptop.run("2026-01-02", 8)
    laptop.run("2026-01-03", 9, ended=False)
    laptop.gc("--delete", "--yes")
    assert laptop.run("2026-01-04", 9) == ["cached", "cached"]


def test_a_sweep_that_was_killed_in_the_middle_of_an_artifact_is_ended(laptop: Laptop) -> None:
    laptop.run("2026-01-01", 7)
    laptop.run("2026-01-02", 8)
    ledger = laptop.ledger()
    sweep = Sweep(laptop.environment, 30, datetime.now(UTC))
    [going] = [one for one in sweep.plan().going if one.item.kind == Kind.ARTIFACT]
    for place in [place for places in sweep._places().values() for place in places if going.item.name in place[2]]:
        ledger.remove(*place, "test")
    Path(going.item.name).rename(Path(going.item.name).with_name(".removed-parse"))
    assert ledger.verify() == []  # nothing is left where it was
    laptop.gc("--delete", "--yes")
    assert ledger.verify() == []
    assert not list(laptop.home.rglob(".removed-*"))


def test_it_asks_stays_away_from_a_run_and_keeps_what_is_held(laptop: Laptop) -> None:
    laptop.run("2026-01-01", 7)
    laptop.run("2026-01-02", 8)
    home = ["--home", str(laptop.home)]
    run = CliRunner().invoke
    with pytest.raises(HeadraceError, match="nothing was removed"):
        run(app, ["gc", *home, "--delete"], input="n\n", catch_exceptions=False)
    with (laptop.home / "run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(HeadraceError, match="another run is under way"):
            laptop.gc("--delete", "--yes")
        assert "can go" in laptop.gc()
    assert len(list(laptop.home.glob("artifacts/*/parse"))) == 2

    both = [name for name, entry in laptop.ledger().entries() if entry["stage"] == "data/parse"]
    words = ["--reason", "audit of 2026", "--who", "auditor"]
    for number, entry in enumerate(both):
        assert f"case-{number} keeps" in run(app, ["gc", "hold", "add", f"case-{number}", entry, *words, *home]).output
    assert "auditor" in run(app, ["gc", "hold", "list", *home]).output
    said = laptop.gc()
    assert "audit of 2026 (auditor)" in said
    assert "nothing can go" in said
    for number in range(len(both)):
        assert "is removed" in run(app, ["gc", "hold", "remove", f"case-{number}", *home]).output
    assert "nothing is held" in run(app, ["gc", "hold", "list", *home]).output
    assert "can go" in laptop.gc()
    for arguments, sentence in (
        (["--until", "soon", *words], "write a day as YYYY-MM-DD"),
        (["--reason", "", "--who", ""], "a hold says why"),
    ):
        with pytest.raises(UsageError, match=sentence):
            run(app, ["gc", "hold", "add", "x", both[0], *arguments, *home], catch_exceptions=False)


def test_runs_and_temporary_files_by_age(laptop: Laptop) -> None:
    for name in ("2026-01-01", "2026-01-02", "2026-01-03"):
        folder = laptop.home / "runs" / name
        folder.mkdir(parents=True)
        for file in ("run.log", "report.html"):
            (folder / file).touch()
    os.utime(laptop.home / "runs" / "2026-01-01", (0, 0))
    (laptop.home / "store").mkdir()
    stale, fresh = (laptop.home / "store" / f".partial-{name}" for name in ("stale", "fresh"))
    for path in (stale, fresh):
        path.write_text("x")
    os.utime(stale, (0, 0))
    laptop.gc("--delete", "--yes")
    assert sorted(path.name for path in (laptop.home / "runs").iterdir()) == ["2026-01-02", "2026-01-03"]
    assert fresh.exists()
    assert not stale.exists()


def test_releases_and_images_are_only_listed(laptop: Laptop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "RELEASES", tmp_path / "releases")
    monkeypatch.setattr(sweeping, "ENVIRONMENTS", tmp_path / "environments")
    (tmp_path / "environments").mkdir()
    elsewhere = {"store": "gs://x", "tracking": "", "signing_key": "k", "release": "2024.01.02-b"}
    (tmp_path / "environments" / "prod.yaml").write_text(yaml.safe_dump(elsewhere))
    images = {name: f"r/{name}@sha256:{digit * 64}" for name, digit in zip(("data", "model"), "ab", strict=True)}
    for release, digit in (("2024.01.01-a", "c"), ("2024.01.02-b", "d"), (f"{date.today():%Y.%m.%d}-c", "e")):
        folder = tmp_path / "releases" / release
        folder.mkdir(parents=True)
        lock = {**images, "release": f"r/release@sha256:{digit * 64}"}
        (folder / "images.lock.yaml").write_text(yaml.safe_dump(lock))
    laptop.home.mkdir()
    plan = Sweep(laptop.environment, 30, datetime.now(UTC)).plan()
    fates = {Path(one.item.name).name: (one.fate, one.why) for one in plan.verdicts}
    assert fates["2024.01.01-a"][0] == Fate.LIST
    assert fates["2024.01.02-b"] == (Fate.KEEP, "runs in prod")
    assert fates[f"{date.today():%Y.%m.%d}-c"][0] == Fate.KEEP
    assert fates[f"data@sha256:{'a' * 64}"] == (Fate.KEEP, "runs in prod")
    assert fates[f"release@sha256:{'c' * 64}"][0] == Fate.LIST
    assert plan.going == []
    laptop.gc("--delete", "--yes")
    assert len(list((tmp_path / "releases").iterdir())) == 3


# ---- judgement alone


def test_a_digest_is_found_wherever_a_service_mentions_it() -> None:
    digests = [digit * 64 for digit in "abcd"]
    manifest = {
        "metadata": {"name": "s", "annotations": {PREVIOUS: json.dumps({"x": digests[2]}), "blue": f"m/{digests[3]}"}},
        "spec": {"predictor": {"uri": f"gs://x/models/m/{digests[0]}"}, "canary": [{"predictor": digests[1]}]},
        "status": {"seen": "e" * 64},
    }
    found = mentions([manifest], "prod")
    roles = ["stable", "candidate", "previous", "mentioned"]
    assert found == {digest: f"{role} revision of s in prod" for digest, role in zip(digests, roles, strict=True)}


def test_needs_go_backwards_and_never_forwards() -> None:
    def entry(*parents: str) -> dict[str, Any]:
        return {"inputs": {parent: {"entry": parent} for parent in parents}}

    entries = {"raw": entry(), "data": entry("raw"), "model": entry("data"), "next": entry("model"), "aside": entry()}
    old = "2020-01-01T00:00:00+00:00"
    heads = [{"head": f"models/m/{name * 8}", "entry": name, "signed_at": old} for name in ("model", "next")]
    now = datetime(2026, 1, 1, tzinfo=UTC)
    models = [Model("model" * 8, "", "x"), Model("next" * 8, "", "y")]
    needed = needs(entries, heads, {"model" * 8: "served"}, {}, models, now, now)
    assert needed.entries == {"model": "served", "data": "went into served", "raw": "went into served"}
    assert set(needed.digests) == {"model" * 8}
    assert needs(entries, heads, {}, {}, models, now, None).entries == {}
    assert set(needs(entries, heads, {}, {}, models, now, datetime(2019, 1, 1, tzinfo=UTC)).entries) == set(entries) - {
        "aside"
    }
    hold = Hold(subject="raw", entries=["raw"], reason="why", who="who", until=date(2026, 1, 1))
    assert set(needs(entries, heads, {}, {"h": hold}, models, now, now).entries) == {"raw"}
    assert needs(entries, heads, {}, {"h": hold}, models, now + timedelta(days=1), now).entries == {}


def test_a_version_half_removed_that_is_needed_says_so() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    item = Item(Kind.MODEL, "models/m/x", "", 1, digest="x", since=now, begun=True)
    needed = needs({}, [], {"x": "served"}, {}, [], now, now)
    assert judge(item, needed, needed, now).why == "served; half removed: run again to make it whole"
    nobody = needs({}, [], {}, {}, [], now, now)
    assert judge(item, nobody, nobody, now).fate == Fate.GO
