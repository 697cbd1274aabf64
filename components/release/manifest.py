"""InferenceService manifests: rendered with KServe's own models, and checked before anybody is asked to run them.

The API server prunes unknown fields without a word and KServe's models accept values of any type, so both are checked
here, as are the rules of KServe's admission webhook that concern a canary in Standard mode.
"""

import copy
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kserve import models
from kubernetes import client

Manifest = dict[str, Any]

API_VERSION = "serving.kserve.io/v1beta1"
KIND = "InferenceService"
DEPLOYMENT_MODE = "serving.kserve.io/deploymentMode"
PREFIX = "headrace.dev"
"""Prefix of the annotations and labels that are ours."""
AUTOSCALER = "serving.kserve.io/autoscalerClass"
"""KServe's annotation: who sets the number of replicas; none means minReplicas does."""
SCALING = f"{PREFIX}/scaling"
"""Annotation of a canary: how it scales once it is stable, because KServe allows a canary no autoscaling."""

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_NAME_LIMIT = 63
# The resource definition requires the field in a canary, and the webhook refuses a name in a stable predictor.
_CONTAINER = ""
_AUTOSCALED_BY = ("maxReplicas", "scaleTarget", "scaleMetric", "autoScaling")
_NOT_IN_A_CANARY = (*_AUTOSCALED_BY, "workerSpec")
_SCALARS: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "datetime": (str,),
    "object": (object,),
    "ResourceQuantity": (str, int, float),
}


def render_predictor(
    name: str,
    storage_uri: str,
    replicas: int,
    resources: Mapping[str, str],
    arguments: list[str],
    annotations: dict[str, str],
) -> Manifest:
    """Render the part of an InferenceService that describes one revision.

    Args:
        name: Name of the revision.
        storage_uri: The model version, named by its digest.
        replicas: Replicas at least; a canary that has no traffic keeps them too.
        resources: Requested, and at the same time the limit.
        arguments: Command-line arguments of the model server.
        annotations: Where the model came from.
    """
    model = models.V1beta1ModelSpec(
        name=_CONTAINER,
        model_format=models.V1beta1ModelFormat(name="huggingface"),
        storage_uri=storage_uri,
        args=arguments or None,
        resources=client.V1ResourceRequirements(requests=dict(resources), limits=dict(resources)),
    )
    predictor = models.V1beta1PredictorSpec(name=name, min_replicas=replicas, annotations=annotations, model=model)
    return client.ApiClient().sanitize_for_serialization(predictor)


def render(name: str, namespace: str, predictor: Manifest) -> Manifest:
    """Render an InferenceService in Standard mode with one revision that serves everything.

    Args:
        name: Name of the service.
        namespace: Its namespace.
        predictor: The revision, as `render_predictor` makes it.
    """
    metadata = client.V1ObjectMeta(
        name=name,
        namespace=namespace,
        annotations={DEPLOYMENT_MODE: "Standard"},
        labels={"app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "headrace"},
    )
    service = models.V1beta1InferenceService(api_version=API_VERSION, kind=KIND, metadata=metadata)
    return {**client.ApiClient().sanitize_for_serialization(service), "spec": {"predictor": predictor}}


def as_canary(predictor: Manifest) -> Manifest:
    """Return a revision as `spec.canary` may hold it: how it scales is set aside in an annotation.

    KServe gives a canary `minReplicas` replicas and refuses every other field about scaling. Without such fields, and
    repeated, nothing changes.
    """
    annotations = predictor.get("annotations") or {}
    aside = {field: predictor[field] for field in _AUTOSCALED_BY if predictor.get(field) is not None}
    if not aside:
        return predictor
    canary = {field: copy.deepcopy(value) for field, value in predictor.items() if field not in aside}
    if "minReplicas" in predictor:
        aside["minReplicas"] = predictor["minReplicas"]
    if AUTOSCALER in annotations:
        aside[AUTOSCALER] = annotations[AUTOSCALER]
    scaling = json.dumps(aside, sort_keys=True, ensure_ascii=False)
    # KEDA refuses to scale by no metric at all, so KServe could not realise a canary of its class.
    canary["annotations"] = {**annotations, AUTOSCALER: "none", SCALING: scaling}
    return canary


def as_stable(predictor: Manifest) -> Manifest:
    """Return a revision as `spec.predictor` holds it: it scales again as it was published to.

    The number of replicas it has grown to as a canary is left to the autoscaler; without one it stays. Repeated,
    nothing changes.
    """
    annotations = dict(predictor.get("annotations") or {})
    if SCALING not in annotations:
        return predictor
    scaling = json.loads(annotations.pop(SCALING))
    annotations.pop(AUTOSCALER, None)
    if AUTOSCALER in scaling:
        annotations[AUTOSCALER] = scaling.pop(AUTOSCALER)
    stable = {
        field: copy.deepcopy(value) for field, value in predictor.items() if field not in ("annotations", *scaling)
    }
    return {**stable, **scaling, **({"annotations": annotations} if annotations else {})}


def violations(manifest: Manifest) -> list[str]:
    """Check a manifest strictly.

    Returns:
        One sentence per fault, each beginning with the field's path; empty for a good manifest.
    """
    faults = list(_type_faults(manifest, "V1beta1InferenceService", ""))
    return faults or list(_rule_faults(manifest))


def _type_faults(value: Any, kind: str, path: str) -> Iterator[str]:
    if value is None:
        return
    if listed := re.fullmatch(r"list\[(.*)\]", kind):
        yield from _list_faults(value, listed[1], path)
    elif mapped := re.fullmatch(r"dict\(str, (.*)\)", kind):
        if isinstance(value, dict):
            for key, item in value.items():
                yield from _type_faults(item, mapped[1], f"{path}[{key}]")
        else:
            yield f"{path}: must be a mapping, not {_name_of(value)}"
    elif kind in _SCALARS:
        if not isinstance(value, _SCALARS[kind]) or (isinstance(value, bool) and kind not in ("bool", "object")):
            yield f"{path}: must be {kind}, not {_name_of(value)} {value!r}"
    elif model := _model(kind):
        yield from _object_faults(value, model, path)


def _list_faults(value: Any, kind: str, path: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{path}: must be a list, not {_name_of(value)}"
        return
    for position, item in enumerate(value):
        yield from _type_faults(item, kind, f"{path}[{position}]")


def _object_faults(value: Any, model: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path or 'manifest'}: must be an object, not {_name_of(value)}"
        return
    fields = {json_name: attribute for attribute, json_name in model.attribute_map.items()}
    for field, item in value.items():
        where = f"{path}.{field}" if path else field
        if field in fields:
            yield from _type_faults(item, model.openapi_types[fields[field]], where)
        else:
            yield f"{where}: there is no such field"


def _model(kind: str) -> Any:
    # KServe's models name Kubernetes' own types by package (K8sIoApiAppsV1…); a URL or quantity has no model at all.
    short = re.sub(r"^K8sIoApi(Apps|Autoscaling)(?=V\d)", "", kind)
    return getattr(models, kind, None) or getattr(client, short, None)


def _name_of(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "str", bool: "bool", int: "int", float: "float"}[type(value)]


def _rule_faults(manifest: Manifest) -> Iterator[str]:
    metadata, spec = manifest.get("metadata") or {}, manifest.get("spec") or {}
    for field, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        if manifest.get(field) != wanted:
            yield f"{field}: must be {wanted}, not {manifest.get(field)!r}"
    name = metadata.get("name") or ""
    if not _NAME.fullmatch(name):
        yield f"metadata.name: {name!r} must be lower-case letters, digits and '-', and begin with a letter"
    if not spec.get("predictor"):
        yield "spec.predictor: required"
        return
    stable, canaries = spec["predictor"], spec.get("canary") or []
    yield from _predictor_faults(stable, "spec.predictor", name)
    mode = (metadata.get("annotations") or {}).get(DEPLOYMENT_MODE)
    if canaries and mode not in ("Standard", "RawDeployment"):
        yield f"metadata.annotations[{DEPLOYMENT_MODE}]: spec.canary needs Standard, not {mode!r}"
    if mode == "Standard" and stable.get("canaryTrafficPercent") is not None:
        yield "spec.predictor.canaryTrafficPercent: has no effect in Standard mode; use spec.canary"
    names = [stable.get("name") or ""]
    for position, canary in enumerate(canaries):
        where = f"spec.canary[{position}]"
        yield from _canary_faults(canary, stable, where, name)
        names.append((canary.get("predictor") or {}).get("name") or "")
        if names[-1] in names[:-1]:
            yield f"{where}.predictor.name: {names[-1]!r} is taken; every revision needs its own"
    if sum(canary.get("trafficPercent") or 0 for canary in canaries) > 100:
        yield "spec.canary: the percentages add up to more than 100"


def _canary_faults(canary: Manifest, stable: Manifest, where: str, service: str) -> Iterator[str]:
    percent, predictor = canary.get("trafficPercent"), canary.get("predictor")
    if percent is None or not 0 <= percent <= 100:
        yield f"{where}.trafficPercent: must be from 0 to 100, not {percent!r}"
    if not predictor:
        yield f"{where}.predictor: required"
        return
    yield from _predictor_faults(predictor, f"{where}.predictor", service)
    if not predictor.get("name"):
        yield f"{where}.predictor.name: required"
    for field in _NOT_IN_A_CANARY:
        if predictor.get(field) is not None:
            yield f"{where}.predictor.{field}: not allowed in a canary"
    replicas = predictor.get("minReplicas")
    if percent == 0 and replicas is None:
        yield f"{where}.predictor.minReplicas: required with trafficPercent 0"
    if replicas is not None and replicas > (stable.get("minReplicas") or 1):
        yield f"{where}.predictor.minReplicas: {replicas} is more than the stable predictor has"


def _predictor_faults(predictor: Manifest, where: str, service: str) -> Iterator[str]:
    name = predictor.get("name")
    if name and not _NAME.fullmatch(name):
        yield f"{where}.name: {name!r} must be lower-case letters, digits and '-', and begin with a letter"
    if len(deployment := f"{service}-{name}-predictor") > _NAME_LIMIT:
        yield f"{where}.name: {deployment} is longer than {_NAME_LIMIT} characters"
    model = predictor.get("model")
    if not model and not predictor.get("containers"):
        yield f"{where}.model: required"
    if model and not (model.get("modelFormat") or {}).get("name"):
        yield f"{where}.model.modelFormat.name: required"
