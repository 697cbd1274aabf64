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
from kubernetes.utils.quantity import parse_quantity

Manifest = dict[str, Any]

API_VERSION = "serving.kserve.io/v1beta1"
KIND = "InferenceService"
DEPLOYMENT_MODE = "serving.kserve.io/deploymentMode"
PREFIX = "headrace.dev"
"""Prefix of the annotations and labels that are ours."""
REVISION = f"{PREFIX}/revision"
"""Label and annotation of a predictor on a cluster, and so of its pods: the revision's name."""
AUTOSCALER = "serving.kserve.io/autoscalerClass"
"""KServe's annotation: who sets the number of replicas; none means minReplicas does."""
SCALING = f"{PREFIX}/scaling"
"""Annotation of a canary: how it scales once it is stable, because KServe allows a canary no autoscaling."""

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_NAME_LIMIT = 63
# The resource definition requires a canary's model to name its container, and the webhook refuses the name in a stable
# predictor; this is what KServe's runtimes call it anyway.
_CONTAINER = "kserve-container"
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
        model_format=models.V1beta1ModelFormat(name="huggingface"),
        storage_uri=storage_uri,
        args=arguments or None,
        resources=client.V1ResourceRequirements(requests=dict(resources), limits=dict(resources)),
    )
    predictor = models.V1beta1PredictorSpec(name=name, min_replicas=replicas, annotations=annotations, model=model)
    rendered = client.ApiClient().sanitize_for_serialization(predictor)
    # The SDK gives the container an empty name.
    rendered["model"].pop("name", None)
    return rendered


def render(name: str, namespace: str, predictor: Manifest, mode: str = "Standard") -> Manifest:
    """Render an InferenceService with one revision that serves everything.

    Args:
        name: Name of the service.
        namespace: Its namespace.
        predictor: The revision, as `render_predictor` makes it.
        mode: KServe's deployment mode, Standard or Knative.
    """
    metadata = client.V1ObjectMeta(
        name=name,
        namespace=namespace,
        annotations={DEPLOYMENT_MODE: mode},
        labels={"app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "headrace"},
    )
    service = models.V1beta1InferenceService(api_version=API_VERSION, kind=KIND, metadata=metadata)
    return {**client.ApiClient().sanitize_for_serialization(service), "spec": {"predictor": predictor}}


def as_canary(predictor: Manifest) -> Manifest:
    """Return a revision as `spec.canary` may hold it: how it scales is set aside in an annotation.

    KServe gives a canary `minReplicas` replicas and refuses every other field about scaling. Repeated, nothing changes.
    """
    canary = {field: copy.deepcopy(value) for field, value in predictor.items() if field not in _AUTOSCALED_BY}
    if canary.get("model"):
        canary["model"]["name"] = _CONTAINER
    aside = {field: predictor[field] for field in _AUTOSCALED_BY if predictor.get(field) is not None}
    if not aside:
        return canary
    annotations = predictor.get("annotations") or {}
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
    stable = copy.deepcopy(predictor)
    if (stable.get("model") or {}).get("name") == _CONTAINER:
        del stable["model"]["name"]
    annotations = stable.get("annotations") or {}
    if SCALING not in annotations:
        return stable
    scaling = json.loads(annotations.pop(SCALING))
    annotations.pop(AUTOSCALER, None)
    if AUTOSCALER in scaling:
        annotations[AUTOSCALER] = scaling.pop(AUTOSCALER)
    if not annotations:
        del stable["annotations"]
    return {**stable, **scaling}


def inherited(stable: Manifest, candidate: Manifest) -> list[str]:
    """Name the fields that KServe would fill in from the stable revision, because a canary leaves them empty.

    In Standard mode KServe lays a canary over a copy of the stable predictor, and what is empty (no arguments, false,
    0) does not cover what lies below.
    """
    return list(_uncovered(stable, candidate, ""))


def _uncovered(below: Manifest, above: Manifest, path: str) -> Iterator[str]:
    for field, value in below.items():
        where = f"{path}.{field}" if path else field
        if not value or where in ("minReplicas", "annotations", "labels", "name", *_AUTOSCALED_BY):
            continue
        if not above.get(field):
            yield where
        elif isinstance(value, dict) and isinstance(above[field], dict):
            yield from _uncovered(value, above[field], where)


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
    share = stable.get("canaryTrafficPercent")
    if mode in ("Knative", "Serverless") and share is not None and not 0 <= share <= 100:
        yield f"spec.predictor.canaryTrafficPercent: must be from 0 to 100, not {share!r}"
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
    for container, path in ((model or {}, f"{where}.model"), *_listed(predictor, "containers", where)):
        yield from _resource_faults(container.get("resources") or {}, f"{path}.resources")
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if container.get(probe) is not None:
                yield from _probe_faults(container[probe], f"{path}.{probe}", probe == "readinessProbe")
    least, most = predictor.get("minReplicas"), predictor.get("maxReplicas")
    if most and most < (1 if least is None else least):
        yield f"{where}.maxReplicas: {most} is less than minReplicas"
    yield from _scaling_faults(predictor, where)
    for constraint, path in _listed(predictor, "topologySpreadConstraints", where):
        if constraint.get("whenUnsatisfiable") not in ("ScheduleAnyway", "DoNotSchedule"):
            yield f"{path}.whenUnsatisfiable: must be ScheduleAnyway or DoNotSchedule"
        if (constraint.get("maxSkew") or 0) < 1:
            yield f"{path}.maxSkew: must be at least 1"
    for toleration, path in _listed(predictor, "tolerations", where):
        if toleration.get("operator") == "Exists" and toleration.get("value"):
            yield f"{path}.value: must be empty with operator Exists"
        if toleration.get("operator", "Equal") == "Equal" and not toleration.get("key"):
            yield f"{path}.key: required with operator Equal"


def _listed(holder: Manifest, field: str, where: str) -> Iterator[tuple[Manifest, str]]:
    for position, item in enumerate(holder.get(field) or []):
        yield item, f"{where}.{field}[{position}]"


def _resource_faults(resources: Manifest, where: str) -> Iterator[str]:
    parsed: dict[tuple[str, str], Any] = {}
    for kind in ("requests", "limits"):
        for name, value in (resources.get(kind) or {}).items():
            try:
                parsed[kind, name] = parse_quantity(value)
            except (ValueError, ArithmeticError):
                yield f"{where}.{kind}[{name}]: not a quantity: {value!r}"
                continue
            if parsed[kind, name] < 0:
                yield f"{where}.{kind}[{name}]: {value!r} is less than nothing"
            elif "/" in name and parsed[kind, name] % 1:
                yield f"{where}.{kind}[{name}]: {value!r} must be a whole number"
    for (kind, name), wanted in parsed.items():
        if kind == "requests" and wanted > parsed.get(("limits", name), wanted):
            yield f"{where}.requests[{name}]: more than the limit"


def _probe_faults(probe: Manifest, where: str, may_repeat: bool) -> Iterator[str]:
    handlers = [handler for handler in ("httpGet", "tcpSocket", "grpc", "exec") if probe.get(handler)]
    if len(handlers) != 1:
        yield f"{where}: must have one of httpGet, tcpSocket, grpc and exec, not {', '.join(handlers) or 'none'}"
    for field in ("periodSeconds", "timeoutSeconds", "failureThreshold", "successThreshold"):
        if (probe.get(field) or 1) < 1:
            yield f"{where}.{field}: must be at least 1"
    if not may_repeat and (probe.get("successThreshold") or 1) != 1:
        yield f"{where}.successThreshold: must be 1"


def _scaling_faults(predictor: Manifest, where: str) -> Iterator[str]:
    kind = (predictor.get("annotations") or {}).get(AUTOSCALER, "hpa")
    if kind not in ("hpa", "keda", "none", "external"):
        yield f"{where}.annotations[{AUTOSCALER}]: must be hpa, keda, none or external, not {kind!r}"
    if kind == "keda" and predictor.get("scaleMetric"):
        yield f"{where}.scaleMetric: KEDA takes autoScaling.metrics"
    metrics = predictor.get("autoScaling") or {}
    for metric, path in _listed(metrics, "metrics", f"{where}.autoScaling"):
        source = metric.get("resource" if metric.get("type") == "Resource" else "external") or {}
        target = source.get("target") or {}
        if metric.get("type") == "Resource":
            if target.get("type") == "Utilization" and not 1 <= (target.get("averageUtilization") or 0) <= 100:
                yield f"{path}.resource.target.averageUtilization: must be from 1 to 100"
        elif metric.get("type") == "External":
            if kind != "keda":
                yield f"{path}.type: External needs annotation {AUTOSCALER}: keda"
            if not (source.get("metric") or {}).get("query"):
                yield f"{path}.external.metric.query: required"
            if not target.get("value"):
                yield f"{path}.external.target.value: required"
