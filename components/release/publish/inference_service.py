"""From a model version to an InferenceService that is seen to serve it."""

import contextlib
import json
from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError

from components.common.environment import Environment
from components.common.errors import HeadraceError, UsageError
from components.common.ledger import DamagedArtifact, artifact_files, canonical, entry_of, sha256
from components.common.options import describe_validation
from components.common.report import Report
from components.common.sealed_store import store_of
from components.common.step import Context, Outcome
from components.release.companions import accompany, check_account, check_callers
from components.release.manifest import PREFIX, Manifest, inherited, render, render_predictor, violations
from components.release.notes import NotedServices
from components.release.publish.cluster import furnished
from components.release.publish.options import Publish
from components.release.rollout import Rollout, connect
from components.release.services import InferenceServices
from components.release.standard import resettled, same_model
from serving.storage.versions import PREFIX as ENCRYPTED
from serving.storage.versions import encrypted_uri


class Provenance(BaseModel):
    """What `provenance.json` of a model version must say; it may say more."""

    model: str
    version: str
    dataset: str = ""
    recipe: str = ""
    base: str = ""
    ledger: str = ""


def run(model: Path, publication: Path, options: Publish, context: Context) -> Outcome:
    """Publish a model version.

    Args:
        model: The version's folder.
        publication: Where to write the manifest and what was observed.
        options: Name, share, resources.
        context: The environment says where models are stored and served.

    Raises:
        HeadraceError: The version is not what it should be, or it is not seen to serve within the deadline.
    """
    provenance, environment = read_provenance(model), context.environment
    check_stored(model, provenance, environment)
    entry = entry_of(model)
    manifest = wanted_manifest(provenance, entry, options, environment)
    if environment.serving.mode != "plane":
        check_callers(options, environment)
        check_account(environment)
    if environment.serving.mode == "standard" and (stable := stable_of(options.name, environment)):
        if same_model(stable, manifest["spec"]["predictor"]):
            manifest = wanted_manifest(provenance, entry, options, environment, name=stable["name"])
            services = NotedServices(InferenceServices(environment.serving))
            services.change(options.name, lambda seen: resettled(seen, manifest))
        else:
            check_whole(stable, manifest)
    revision = manifest["spec"]["predictor"]["name"]
    (publication / "inferenceservice.yaml").write_text(
        yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True), "utf-8"
    )
    context.progress(0, 1, f"waiting until {revision} is seen to serve")
    service = connect(environment, options.name, options.deadline_seconds)
    try:
        rollout = service.introduce(manifest, options.canary_percent)
    except HeadraceError:
        # A service that was made and is not ready yet is to be as well protected as one that is.
        with contextlib.suppress(HeadraceError):
            accompany(environment, options)
        raise
    accompany(environment, options)
    check_stored(model, provenance, environment)  # nobody has removed it before it was asked for
    context.progress(1, 1, f"{revision} serves {share_of(rollout, revision)} %")
    record = {
        "service": options.name,
        "namespace": context.environment.serving.namespace,
        "revision": revision,
        "percent": share_of(rollout, revision),
        "stable": rollout.stable,
        "candidate": rollout.candidate,
        "gateway": context.environment.serving.gateway,
        "provenance": provenance.model_dump(),
    }
    (publication / "publication.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return Outcome(
        counts_in=1,
        counts_out=1,
        metrics={"percent": float(record["percent"])},
        report=_report(rollout, revision, manifest),
        head=f"publications/{options.name}/{revision}",
    )


def read_provenance(model: Path) -> Provenance:
    """Read where a model version came from.

    Raises:
        HeadraceError: The file is missing, unreadable or lacks what a publication must name.
    """
    path = model / "provenance.json"
    try:
        return Provenance.model_validate_json(path.read_bytes())
    except OSError as error:
        raise HeadraceError(f"{path}: {error.strerror}; it must be a version made by model/register") from error
    except ValidationError as error:
        raise HeadraceError(f"{path}: {describe_validation(error)}; register the model again") from error


def check_stored(model: Path, provenance: Provenance, environment: Environment) -> None:
    """Check that what will be served, the store's copy, is the version that was registered.

    Raises:
        DamagedArtifact: It is not; registering the model again mends the store.
    """
    store, key = store_of(environment), f"models/{provenance.model}/{provenance.version}"
    for name in artifact_files(model):
        if not store.holds(model / name, f"{key}/{name}"):
            raise DamagedArtifact(model, f"{store.uri}/{key}/{name} is not the file that was registered")


def wanted_manifest(
    provenance: Provenance, entry: str, options: Publish, environment: Environment, name: str = ""
) -> Manifest:
    """Render and check the InferenceService for a model version.

    The revision is named by the digests of the version and of everything else in its predictor, so the same model with
    other resources or arguments is another revision, and publishing the same one again is none.

    Args:
        provenance: Which version, made from what.
        entry: Ledger entry that made the version.
        options: Name, share, resources.
        environment: Where models are stored and served.
        name: Name of the revision, where it has one already.

    Raises:
        HeadraceError: The store does not hold the version, or the manifest breaks a rule.
    """
    key = f"models/{provenance.model}/{provenance.version}"
    if not store_of(environment).exists(f"{key}/provenance.json"):
        raise HeadraceError(f"{environment.store}/{key}: no such model version in the store; register the model again")
    origin = {
        "model": f"{provenance.model}/{provenance.version}",
        "dataset": provenance.dataset,
        "base": provenance.base,
        "recipe": provenance.recipe,
        "ledger": entry or provenance.ledger,
    }
    resources = {"cpu": options.cpu, "memory": options.memory}
    predictor = render_predictor(
        name="",
        storage_uri=_encrypted(key, environment) if options.encrypted else f"{environment.store}/{key}",
        replicas=options.replicas,
        resources={**resources, "nvidia.com/gpu": str(options.gpus)} if options.gpus else resources,
        arguments=options.arguments,
        annotations={f"{PREFIX}/{field}": value for field, value in origin.items() if value},
    )
    on_cluster = environment.serving.mode != "plane"
    unnamed = furnished(predictor, options, environment) if on_cluster else predictor
    how = {field: value for field, value in unnamed.items() if field != "annotations"}
    predictor["name"] = name or f"r{provenance.version[:8]}-{sha256(canonical(how))[:4]}"
    if on_cluster:
        predictor = furnished(predictor, options, environment)
    mode = "Knative" if environment.serving.mode == "knative" else "Standard"
    manifest = render(options.name, environment.serving.namespace, predictor, mode)
    if faults := violations(manifest):
        raise HeadraceError(f"the InferenceService for {origin['model']} is invalid: {'; '.join(faults)}")
    return manifest


def _encrypted(key: str, environment: Environment) -> str:
    if environment.serving.mode == "plane":
        raise UsageError("publish.encrypted: the plane serves versions as they are; only a cluster decrypts them")
    if not store_of(environment).exists(f"{ENCRYPTED}/{key}/provenance.json"):
        version = key.partition("/")[2]
        raise HeadraceError(
            f"{environment.store}/{ENCRYPTED}/{key}: there is no encrypted copy of the version; make it with "
            f"`headrace models encrypt {version} --keys FOLDER -e {environment.name}`"
        )
    return encrypted_uri(environment.store, key)


def stable_of(service: str, environment: Environment) -> Manifest | None:
    """Return the stable revision of a service, None if there is no such service."""
    seen = InferenceServices(environment.serving).get(service)
    return seen["spec"]["predictor"] if seen else None


def check_whole(stable: Manifest, manifest: Manifest) -> None:
    """Check that KServe will run a canary as it is written.

    Raises:
        HeadraceError: It leaves something empty that the stable revision has, and would be given that.
    """
    new = manifest["spec"]["predictor"]
    if lacking := inherited(stable, new):
        raise HeadraceError(
            f"{manifest['metadata']['name']}: {new['name']} leaves {', '.join(lacking)} empty, and KServe would "
            "give it what "
            f"the stable revision {stable.get('name')} has; give the options behind them values, or publish under "
            "another "
            "name"
        )


def share_of(rollout: Rollout, revision: str) -> int:
    """Return a revision's observed share of the requests in percent."""
    return rollout.observed if revision == rollout.candidate else 100 - rollout.observed


def _report(rollout: Rollout, revision: str, manifest: Manifest) -> Report:
    predictor = manifest["spec"]["predictor"]
    report = Report("Publish", f"{rollout.service}: {revision} serves {share_of(rollout, revision)} % of the requests")
    report.metrics({"State": str(rollout.state), "Stable": rollout.stable, "Candidate": rollout.candidate or "none"})
    report.bars(
        {
            rollout.stable: 100 - rollout.observed,
            **({rollout.candidate: rollout.observed} if rollout.candidate else {}),
        },
        "Share of the requests in percent, as the gateway applies it",
    )
    report.table(
        [{"annotation": key, "value": value} for key, value in predictor["annotations"].items()], "Where it came from"
    )
    report.code(yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True), "InferenceService")
    return report
