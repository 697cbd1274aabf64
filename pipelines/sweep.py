"""Find what takes space, ask who needs it, remove what nobody does. Judgement is in `pipelines/garbage.py`.

A version is removed in an order in which being killed is harmless: the removal is signed, the file that makes the
version whole goes first, needs are asked for once more, then the other files go. Whoever publishes checks that the
version is still whole after asking for it to be served, so of two who act at the same time one always sees the other.
The ledger is only added to, so an account that may not delete from it can sweep.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from components.common.environment import ENVIRONMENTS, Environment, load_environment
from components.common.errors import HeadraceError, UsageError
from components.common.ledger import SIDECAR, is_gone, open_ledger, sha256
from components.common.options import describe_validation
from components.common.sealed_store import store_of
from components.common.store import Stored
from components.common.trace import trace
from components.data.card.version import MANIFEST
from components.model.versions import PROVENANCE
from components.release.manifest import API_VERSION, Manifest
from components.release.notes import NotedServices
from components.release.services import InferenceServices
from pipelines.cluster_facts import Api
from pipelines.garbage import HALF, Fate, Hold, Item, Kind, Model, Needs, Verdict, horizon, judge, mentions, needs
from pipelines.local_run import folders_used, task_folders
from pipelines.release import LOCK, RELEASES, read_lock

HOLDS = "holds/"
_VERSIONS = {
    "datasets": (Kind.DATASET, MANIFEST),
    "models": (Kind.MODEL, PROVENANCE),
    "encrypted/models": (Kind.ENCRYPTED, PROVENANCE),
}
"""Where versions are in the store, and the file that makes one whole."""

_BASES = "base-models"
_TRIALS = "probes"
_CHECKPOINTS = "checkpoints"
_VECTORS = "embeddings"
_REMOVED = ".removed-"
_TEMPORARY_DAYS = 1
"""A temporary file of the store that is older was left by a writer that died."""


Place = tuple[str, str, str]
"""A copy of an artifact: the entry that made it, which of its outputs, its URI."""


@dataclass(frozen=True)
class Surroundings:
    """What may change while things are removed: what is served, held, and signed."""

    mentioned: dict[str, str]
    holds: dict[str, Hold]
    heads: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """A verdict on everything that was found, and what was so when it was made."""

    verdicts: list[Verdict]
    surroundings: Surroundings

    @property
    def going(self) -> list[Verdict]:
        """What is removed: cache entries before the artifacts they lead to."""
        order = [Kind.CACHE, Kind.ENCRYPTED, *Kind]
        going = [verdict for verdict in self.verdicts if verdict.fate == Fate.GO]
        return sorted(going, key=lambda verdict: order.index(verdict.item.kind))


class Sweep:
    """One environment's store and, on a laptop, its folder of local state."""

    def __init__(self, environment: Environment, keep_days: int, now: datetime) -> None:
        """Look for the environments that share the store.

        Args:
            environment: Whose store it is.
            keep_days: Length of the rollback window.
            now: The present.

        Raises:
            UsageError: An environment is malformed, or the window is shorter than a run on a cluster takes.
        """
        if keep_days < 1 and environment.serving.mode != "plane":
            raise UsageError("--keep-days 0: on a cluster a run may be about to publish what is younger than a day")
        self.environment = environment
        self.store = store_of(environment)
        self.ledger = open_ledger(environment)
        self._now = now
        self._window = horizon(now, keep_days)
        self._home = Path(environment.home).resolve() if environment.home else None
        self._sharing = sharing(environment)

    def plan(self) -> Plan:
        """Say what can go.

        Raises:
            HeadraceError: What an environment serves cannot be seen, or a hold cannot be read: nothing is known to be
                unused then.
        """
        surroundings = self._look()
        entries, heads = dict(self.ledger.entries()), list(self.ledger.heads())
        models = list(self._models())
        needed, served = (
            needs(entries, heads, surroundings.mentioned, surroundings.holds, models, self._now, window)
            for window in (self._window, None)
        )
        found = [*self._versions(heads), *self._bases(), *self._kept(), *self._local(), *self._releases()]
        verdicts = [judge(item, needed, served, self._window) for item in found]
        return Plan([*verdicts, *self._caches(verdicts, needed, served)], surroundings)

    def remove(self, plan: Plan, progress: Callable[[Verdict], None] = lambda verdict: None) -> list[Verdict]:
        """Remove what a plan lets go, unless it came to be needed meanwhile.

        Args:
            plan: What `plan` returned.
            progress: Called after each.

        Returns:
            What was kept after all, and why.
        """
        kept = []
        fresh = plan
        places = self._places()
        for verdict in plan.going:
            item = verdict.item
            fresh = self._again(fresh)
            if why := _needed(fresh, item):
                kept.append(replace(verdict, fate=Fate.KEEP, why=why))
            elif item.kind in (Kind.DATASET, Kind.MODEL, Kind.ENCRYPTED, Kind.BASE):
                if why := self._remove_version(verdict, fresh, places):
                    kept.append(replace(verdict, fate=Fate.KEEP, why=why))
            elif item.kind in (Kind.TRIAL, Kind.CHECKPOINT, Kind.VECTORS):
                self.store.delete(item.name)
            else:
                self._remove_local(verdict, places)
            progress(verdict)
        self._finish()
        return kept

    def holds(self) -> dict[str, Hold]:
        """Every hold by name.

        Raises:
            HeadraceError: One cannot be read.
        """
        found = {}
        for key in self.store.list(HOLDS):
            name = key.removeprefix(HOLDS).removesuffix(".json")
            try:
                found[name] = Hold.model_validate_json(self.store.read(key))
            except ValidationError as error:
                where = f"{self.store.uri}/{key}"
                raise HeadraceError(
                    f"{where}: {describe_validation(error)}; nothing is removed until it is mended"
                ) from error
        return found

    def hold(self, name: str, hold: Hold) -> Hold:
        """Keep a subject from now on.

        Raises:
            UsageError: The ledger does not know the subject, or the name is taken.
        """
        known = trace(self.ledger, hold.subject)
        placed = hold.model_copy(update={"entries": [link.entry for link in known.found]})
        if not self.store.write(f"{HOLDS}{name}.json", placed.model_dump_json(indent=1).encode(), if_absent=True):
            raise UsageError(f"there is a hold {name} already; remove it, or choose another name")
        return placed

    def release(self, name: str) -> None:
        """Remove a hold.

        Raises:
            UsageError: There is none of that name.
        """
        if name not in (known := self.holds()):
            raise UsageError(f"there is no hold {name}; known: {', '.join(known) or 'none'}")
        self.store.delete(f"{HOLDS}{name}.json")

    def _look(self) -> Surroundings:
        mentioned: dict[str, str] = {}
        for environment in self._sharing:
            for digest, why in mentions(services_of(environment), environment.name).items():
                mentioned.setdefault(digest, why)
        return Surroundings(mentioned, self.holds(), tuple(self.store.list("ledger/heads/")))

    def _again(self, plan: Plan) -> Plan:
        """The plan as it would be made now; the same one while nothing has changed around it."""
        return plan if self._look() == plan.surroundings else self.plan()

    def _models(self) -> Iterator[Model]:
        for key in self.store.list("models/"):
            if key.endswith(f"/{PROVENANCE}") and key.count("/") == 3:
                try:
                    made = json.loads(self.store.read(key))
                    yield Model(made["version"], made.get("dataset", ""), made.get("base", ""))
                except (ValueError, KeyError) as error:
                    raise HeadraceError(
                        f"{self.store.uri}/{key} says nothing of the model's origins ({error}); register it again"
                    ) from error

    def _versions(self, heads: Iterable[dict[str, str]]) -> Iterator[Item]:
        signed = {head["head"]: head for head in heads}
        begun = {removal["uri"] for removal in self.ledger.removals()}
        for folder, (kind, whole) in _VERSIONS.items():
            for key, objects in self._below(folder, 2).items():
                head = signed.get(key.removeprefix("encrypted/"))
                times = [stored.written for stored in objects]
                if head:
                    times.append(datetime.fromisoformat(head["signed_at"]))
                half = f"{self.store.uri}/{key}" in begun and f"{key}/{whole}" not in {one.key for one in objects}
                yield Item(
                    kind,
                    key,
                    key,
                    sum(stored.size for stored in objects),
                    digest=key.rpartition("/")[2],
                    entries=frozenset([head["entry"]] if head else []),
                    since=max(times),
                    begun=half,
                )

    def _bases(self) -> Iterator[Item]:
        for key, objects in self._below(_BASES, 1).items():
            size, since = sum(stored.size for stored in objects), max(stored.written for stored in objects)
            yield Item(Kind.BASE, key, key, size, since=since)

    def _kept(self) -> Iterator[Item]:
        """What probes found of models they did not keep, what interrupted trainings left, and vectors of chunks."""
        folders = {_TRIALS: Kind.TRIAL, _CHECKPOINTS: Kind.CHECKPOINT, _VECTORS: Kind.VECTORS}
        for folder, kind in folders.items():
            for stored in self.store.describe(f"{folder}/"):
                yield Item(kind, stored.key, folder, stored.size, since=stored.written)

    def _below(self, folder: str, depth: int) -> dict[str, list[Stored]]:
        """The objects of a folder by the version they belong to, which is `depth` levels below it."""
        grouped: dict[str, list[Stored]] = {}
        for stored in self.store.describe(f"{folder}/"):
            parts = stored.key.removeprefix(f"{folder}/").split("/")
            if len(parts) > depth:
                grouped.setdefault("/".join([folder, *parts[:depth]]), []).append(stored)
        return grouped

    def _local(self) -> Iterator[Item]:
        if self._home is None:
            return
        used, runs = self._used()
        for folder in sorted(self._home.glob("artifacts/*/*")):
            if folder.name.startswith(_REMOVED):
                yield self._leftover(folder)
                continue
            damaged = [path for path in folder.rglob("*") if path.suffix in (".damaged", ".partial")]
            for path in damaged:
                yield self._leftover(path)
            size = _size(folder) - sum(map(_size, damaged))
            made = frozenset(sha256(sidecar.read_bytes()) for sidecar in folder.glob(f"*/{SIDECAR}"))
            yield Item(Kind.ARTIFACT, str(folder), self._short(folder.parent), size, entries=made, used=used(folder))
        for folder in sorted(self._home.glob("runs/*")):
            since = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
            kept = "the newest run that ended well, or a later one" if folder in runs else ""
            yield Item(Kind.RUN, str(folder), self._short(folder), _size(folder), since=since, used=kept)
        if self.store.uri.startswith("file://"):
            yield from self._temporary(Path(self.store.uri.removeprefix("file://")))

    def _used(self) -> tuple[Callable[[Path], str], set[Path]]:
        """Say of an artifact's folder why a run uses it; and which runs are looked at."""
        assert self._home is not None
        runs = sorted(path for path in self._home.glob("runs/*") if (path / "run.log").is_file())
        ended = [path for path in runs if (path / "report.html").is_file()]
        if not ended:
            return lambda folder: "no run has ended well yet; it is gone on with from here", set(runs)
        newest = [path for path in runs if path >= ended[-1]]
        used = {folder for path in newest for folder in folders_used(path / "run.log", self._home, self.store.vault)}
        return lambda folder: "the newest run that ended well uses it" if folder in used else "", set(newest)

    def _leftover(self, path: Path) -> Item:
        return Item(Kind.LEFTOVER, str(path), f"{self._short(path.parent)}/*{path.suffix}", _size(path))

    def _short(self, path: Path) -> str:
        assert self._home is not None
        return path.relative_to(self._home).as_posix()

    def _temporary(self, root: Path) -> Iterator[Item]:
        limit = horizon(self._now, _TEMPORARY_DAYS).timestamp()
        for path in sorted(root.rglob(".partial-*")):
            if path.is_file() and path.suffix != ".lock" and path.stat().st_mtime < limit:
                why = "left by a writer of the store that died"
                yield Item(Kind.LEFTOVER, str(path), f"{path.parent}/.partial-*", path.stat().st_size, used=why)

    def _caches(self, verdicts: Iterable[Verdict], needed: Needs, served: Needs) -> Iterator[Verdict]:
        """KFP's cache entries, which go before the artifacts they lead to."""
        if self._home is None:
            return
        kept = {Path(one.item.name) for one in verdicts if one.item.kind == Kind.ARTIFACT and one.fate == Fate.KEEP}
        for path in sorted(self._home.glob("cache/*.json")):
            folders = task_folders(path)
            why = "what it leads to is kept" if folders and folders <= kept else ""
            item = Item(Kind.CACHE, str(path), "cache", path.stat().st_size, used=why)
            yield judge(item, needed, served, self._window)

    def _releases(self) -> Iterator[Item]:
        """Releases and the images they pin; both are only listed."""
        pointers: dict[str, list[str]] = {}
        for environment in _environments():
            if environment.release:
                pointers.setdefault(environment.release, []).append(environment.name)
        images: dict[str, tuple[str, datetime | None]] = {}
        for folder in sorted(path for path in RELEASES.glob("*") if (path / LOCK).is_file()):
            where = pointers.get(folder.name, [])
            since = _cut(folder.name)
            used = f"runs in {', '.join(where)}" if where else ""
            yield Item(Kind.RELEASE, str(folder), folder.name, _size(folder), since=since, used=used)
            for image in read_lock(folder / LOCK).values():
                seen, latest = images.get(image, ("", None))
                images[image] = (seen or used, max(filter(None, (latest, since)), default=None))
        for image, (used, since) in sorted(images.items()):
            yield Item(Kind.IMAGE, image, image, 0, since=since, used=used)

    def _remove_version(self, verdict: Verdict, plan: Plan, noted: dict[str, list[Place]]) -> str:
        """Remove a version; returns why it was kept, if it came to be needed at the last moment."""
        key = verdict.item.name
        uri = f"{self.store.uri}/{key}"
        whole = f"{key}/{_marker(key)}"
        places = noted.get(uri, [])
        for place in places:
            self.ledger.remove(*place, verdict.why)
        marker = self.store.read(whole) if self.store.exists(whole) else b""
        self.store.delete(whole)
        if marker and (why := _needed(self._again(plan), verdict.item)):
            self.store.write(whole, marker)
            for place in places:
                self.ledger.restore(*place)
            return why.removesuffix(HALF)
        for name in list(self.store.list(f"{key}/")):
            self.store.delete(name)
        _prune(uri)
        return ""

    def _remove_local(self, verdict: Verdict, noted: dict[str, list[Place]]) -> None:
        path = Path(verdict.item.name)
        if verdict.item.kind != Kind.ARTIFACT:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            return
        places = [place for output in path.iterdir() for place in noted.get(f"file://{output}", [])]
        for place in places:
            self.ledger.remove(*place, verdict.why)
        gone = path.with_name(f"{_REMOVED}{path.name}")
        path.rename(gone)
        shutil.rmtree(gone)
        with suppress(OSError):  # other steps of the run are kept
            path.parent.rmdir()

    def _places(self) -> dict[str, list[Place]]:
        """The ledger's notes of where copies are, by URI."""
        found: dict[str, list[Place]] = {}
        for key in self.store.list("ledger/locations/"):
            place = json.loads(self.store.read(key))
            found.setdefault(place["uri"], []).append((key.split("/")[2], place["output"], place["uri"]))
        return found

    def _finish(self) -> None:
        """Take removals back that an earlier sweep signed before it was killed, and whose copies are kept and whole."""
        for removal in self.ledger.removals():
            uri = removal["uri"]
            key = uri.removeprefix(f"{self.store.uri}/")
            whole = self.store.exists(f"{key}/{_marker(key)}") if key != uri else not is_gone(uri)
            if whole:
                self.ledger.restore(removal["entry"], removal["output"], uri)


def sharing(environment: Environment) -> list[Environment]:
    """The environments whose models and datasets are in the same store, the one that is asked for first.

    Raises:
        UsageError: An environment is malformed, so that nobody knows what it needs.
    """
    others = [other for other in _environments(environment) if other != environment]
    return [environment, *(other for other in others if other.store.rstrip("/") == environment.store.rstrip("/"))]


def services_of(environment: Environment) -> list[Manifest]:
    """Every InferenceService of an environment with its rollout's notes, and the Knative revisions it may go back to.

    Raises:
        HeadraceError: They cannot be seen.
    """
    serving = environment.serving
    if serving.mode == "plane":
        return _services_of_plane(Path(environment.home) / "plane" / "services")
    blind = f"what {environment.name} serves cannot be seen, so nothing is known to be unused and nothing is removed"
    try:
        api = Api(serving)
    except HeadraceError as error:
        raise HeadraceError(f"{blind}: {error}") from error
    answer, _ = api.ask(f"/apis/{API_VERSION}/namespaces/{serving.namespace}/inferenceservices")
    if trouble := None if answer.ok else api.trouble(api.ask("/version")[0]):
        raise HeadraceError(f"{blind}: {trouble[0]}; {trouble[1]}")
    if not answer.ok:
        raise HeadraceError(f"{blind}: {answer.reason}; see serving.context, and `headrace doctor`")
    noted = NotedServices(InferenceServices(serving))
    try:
        found = [seen for item in answer.body["items"] if (seen := noted.get(item["metadata"]["name"]))]
    except HeadraceError as error:
        raise HeadraceError(f"{blind}: {error}") from error
    if not found:
        namespace, _ = api.ask(f"/api/v1/namespaces/{serving.namespace}")
        if not namespace.ok:
            raise HeadraceError(f"{blind}: {namespace.reason}; see serving.context, and `headrace doctor`")
    if serving.mode == "knative":
        revisions, _ = api.ask(f"/apis/serving.knative.dev/v1/namespaces/{serving.namespace}/revisions")
        if not revisions.ok and revisions.status != 404:
            raise HeadraceError(f"{blind}: {revisions.reason}")
        found += revisions.body["items"] if revisions.ok else []
    return found


def _services_of_plane(folder: Path) -> list[Manifest]:
    """What a plane serves, or will serve when it is started again: its files say so whether it runs or not."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(json.loads(path.read_text("utf-8")))
        except ValueError as error:
            raise HeadraceError(f"{path} is damaged ({error}), so nothing is known to be unused") from error
    return found


def _environments(like: Environment | None = None) -> Iterator[Environment]:
    home = Path(like.home) if like and like.home else None
    for path in sorted(ENVIRONMENTS.glob("*.yaml")):
        yield load_environment(str(path), home)


def _needed(plan: Plan, item: Item) -> str:
    """Why a plan keeps an item; empty if it lets it go."""
    return next((one.why for one in plan.verdicts if one.item.name == item.name and one.fate == Fate.KEEP), "")


def _marker(key: str) -> str:
    return next((whole for folder, (_, whole) in _VERSIONS.items() if key.startswith(f"{folder}/")), MANIFEST)


def _cut(release: str) -> datetime | None:
    with suppress(ValueError):
        return datetime.strptime(release.partition("-")[0], "%Y.%m.%d").replace(tzinfo=UTC)
    return None


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.lstat().st_size for file in path.rglob("*") if file.is_file())


def _prune(uri: str) -> None:
    """Remove the empty folders that a version leaves behind in a local store."""
    if uri.startswith("file://"):
        root = Path(uri.removeprefix("file://"))
        for folder in [*sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True), root]:
            with suppress(OSError):  # somebody is writing it anew
                folder.rmdir()
