"""What a revision is given on a cluster, and the plane does not need: scaling, nodes, probes, a narrow account."""

import math
from typing import Any

from kserve import models
from kubernetes import client

from components.common.environment import Environment, Pool
from components.common.errors import UsageError
from components.release.manifest import AUTOSCALER, REVISION, Manifest
from components.release.publish.options import Placement, Probes, Publish, Scaling

_PROBE_SECONDS = 5
_PROGRESS_DEADLINE = "serving.knative.dev/progress-deadline"
_ACTIVE = "http_server_active_requests"
_TOKENS = "gen_ai_client_token_usage_sum"
_ANSWERED = "gen_ai_server_request_duration_seconds_count"
"""Names of the predictor's metrics; serving/predictor/metrics.py exports them."""


def furnished(predictor: Manifest, options: Publish, environment: Environment) -> Manifest:
    """Give a revision what it needs on a cluster.

    Args:
        predictor: The revision, as `render_predictor` makes it.
        options: Scaling, nodes, probes, security.
        environment: Pools, service account, Prometheus and the mode of serving.

    Raises:
        UsageError: The environment cannot do what the options ask for.
    """
    revision, knative = predictor["name"], environment.serving.mode == "knative"
    scaled, notes = _scaling(options, environment, f"{options.name}-{revision}-predictor")
    spec = models.V1beta1PredictorSpec(
        **scaled,
        **_placement(options.placement, getattr(environment.pools, options.placement.pool), revision),
        service_account_name=environment.serving.service_account or None,
        automount_service_account_token=False,
        security_context=client.V1PodSecurityContext(
            run_as_non_root=True, seccomp_profile=client.V1SeccompProfile(type="RuntimeDefault")
        ),
        volumes=[client.V1Volume(name="tmp", empty_dir=client.V1EmptyDirVolumeSource())],
        labels={REVISION: revision},
    )
    model = models.V1beta1ModelSpec(
        model_format=models.V1beta1ModelFormat(name=predictor["model"]["modelFormat"]["name"]),
        runtime=options.runtime or None,
        **_probes(options.probes, knative),
        security_context=client.V1SecurityContext(
            run_as_non_root=True,
            allow_privilege_escalation=False,
            read_only_root_filesystem=options.read_only_root,
            capabilities=client.V1Capabilities(drop=["ALL"]),
        ),
        volume_mounts=[client.V1VolumeMount(name="tmp", mount_path="/tmp")],
        env=[client.V1EnvVar(name="HOME", value="/tmp")],
    )
    if knative:
        # Knative has no startup probe; without this a revision that loads for long is given up.
        notes[_PROGRESS_DEADLINE] = f"{options.probes.start_seconds}s"
    written = client.ApiClient().sanitize_for_serialization(spec)
    annotations = {**predictor.get("annotations", {}), REVISION: revision, **notes}
    added = client.ApiClient().sanitize_for_serialization(model)
    added.pop("name", None)  # The SDK gives the container an empty name.
    return {**predictor, **written, "annotations": annotations, "model": {**added, **predictor["model"]}}


def _scaling(options: Publish, environment: Environment, deployment: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the predictor's fields and annotations."""
    scaling, mode = options.scaling, environment.serving.mode
    if mode == "knative":
        if scaling.autoscaler in ("hpa", "keda"):
            raise UsageError(
                f"publish.scaling.autoscaler: {scaling.autoscaler} needs Standard mode; use knative or none"
            )
        if scaling.autoscaler == "none":
            return {"max_replicas": options.replicas}, {}
        return {
            "max_replicas": scaling.max_replicas,
            "scale_metric": "concurrency",
            "scale_target": scaling.target,
        }, {}
    if scaling.autoscaler == "knative":
        raise UsageError("publish.scaling.autoscaler: knative needs Knative mode; use hpa, keda or none")
    if scaling.autoscaler == "none":
        return {}, {AUTOSCALER: "none"}
    metric = _usage(scaling) if scaling.autoscaler == "hpa" else _prometheus(scaling, environment, deployment)
    return {
        "max_replicas": scaling.max_replicas,
        "auto_scaling": models.V1beta1AutoScalingSpec(metrics=[metric]),
    }, {AUTOSCALER: scaling.autoscaler}


def _usage(scaling: Scaling) -> Any:
    target = models.V1beta1MetricTarget(type="Utilization", average_utilization=scaling.target)
    source = models.V1beta1ResourceMetricSource(name=scaling.signal, target=target)
    return models.V1beta1MetricsSpec(type="Resource", resource=source)


def _prometheus(scaling: Scaling, environment: Environment, deployment: str) -> Any:
    if not environment.prometheus:
        raise UsageError(
            f"environment {environment.name}: prometheus is empty, and publish.scaling.autoscaler keda asks it; "
            "set it, or "
            "use hpa"
        )
    metric = models.V1beta1ExternalMetrics(
        backend="prometheus",
        server_address=environment.prometheus,
        query=query(scaling.signal, environment.serving.namespace, deployment),
    )
    target = models.V1beta1MetricTarget(type="Value", value=str(scaling.target))
    return models.V1beta1MetricsSpec(
        type="External", external=models.V1beta1ExternalMetricSource(metric=metric, target=target)
    )


def query(signal: str, namespace: str, deployment: str) -> str:
    """Write the PromQL for a signal over all pods of a Deployment; KEDA divides it by the target.

    Requests are counted from arrival to the last byte, so those that wait for a slot count too. Their tokens are not
    known before they end: they are taken to be as long as the requests of the last five minutes were.
    """
    pods = f'{{namespace="{namespace}",pod=~"{deployment}-.*"}}'
    requests = f"sum({_ACTIVE}{pods})"
    if signal == "requests":
        return requests
    length = f"sum(rate({_TOKENS}{pods}[5m])) / sum(rate({_ANSWERED}{pods}[5m]))"
    # Without a finished request the length is 0/0, and `> 0` leaves nothing for the product.
    return f"({requests} * ({length} > 0)) or vector(0)"


def _placement(placement: Placement, pool: Pool, revision: str) -> dict[str, Any]:
    selector = client.V1LabelSelector(match_labels={REVISION: revision})
    unsatisfied = {"prefer": "ScheduleAnyway", "require": "DoNotSchedule"}
    keys = {"kubernetes.io/hostname": "ScheduleAnyway"}
    if placement.zones != "any":
        keys = {"topology.kubernetes.io/zone": unsatisfied[placement.zones], **keys}
    return {
        "node_selector": pool.node_selector or None,
        "tolerations": [
            client.V1Toleration(**{field: value for field, value in toleration.model_dump().items() if value})
            for toleration in pool.tolerations
        ]
        or None,
        "topology_spread_constraints": [
            client.V1TopologySpreadConstraint(
                max_skew=1, topology_key=key, when_unsatisfiable=what, label_selector=selector
            )
            for key, what in keys.items()
        ],
        "priority_class_name": placement.priority_class or None,
    }


def _probes(probes: Probes, knative: bool) -> dict[str, client.V1Probe]:
    def probe(path: str, **timing: int) -> client.V1Probe:
        action = client.V1HTTPGetAction(path=path, port=probes.port)
        return client.V1Probe(http_get=action, period_seconds=_PROBE_SECONDS, timeout_seconds=_PROBE_SECONDS, **timing)

    # A server that is busy generating answers late: a minute of silence is death, fifteen seconds are a pause.
    ready, alive = probe(probes.ready_path, failure_threshold=3), probe(probes.live_path, failure_threshold=12)
    if knative:
        alive.initial_delay_seconds = probes.start_seconds
        return {"readiness_probe": ready, "liveness_probe": alive}
    attempts = math.ceil(probes.start_seconds / _PROBE_SECONDS)
    return {
        "startup_probe": probe(probes.ready_path, failure_threshold=attempts),
        "readiness_probe": ready,
        "liveness_probe": alive,
    }
