"""What an environment's cluster lacks, and what to do about it.

`pipelines/cluster_facts.py` asks; here, pure functions from the answers to findings. They stand in the order in which
things depend on each other, and what hangs on something that is missing is left out, so that the first ✗ is the first
thing to mend.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kubernetes.utils import parse_quantity

from components.common.environment import KEYSET, Accelerated, Environment, Pool
from components.common.errors import HeadraceError
from components.common.recipes import Recipe, load_recipe
from components.release.manifest import API_VERSION
from components.release.rights import PERSON, STEPS, TRAINING, Right
from pipelines.cluster_facts import (
    CONFIGURATION,
    CONTROLLER,
    ERASURE_SECRET,
    KEYSET_SECRET,
    KSERVE,
    LEDGER_SECRET,
    MODEL_SECRET,
    NODES,
    NOTIFY_SECRET,
    STORAGE_CLASSES,
    SUBJECTS_SECRET,
    Account,
    Answer,
    Definition,
    Facts,
    Permission,
    gather,
)
from pipelines.compile import COMPILED, PIPELINES
from pipelines.doctor import Finding, Mark
from pipelines.kubeflow import VARIABLES
from pipelines.release import LOCK, RELEASES, read_lock

KUBERNETES = (1, 28)
"""Oldest Kubernetes that KServe 0.21 is tested with."""

KSERVE_CANARY = (0, 21)
"""First KServe that gives `spec.canary` its weights; 0.20 takes the field and sets none."""

SKEW_SECONDS = 60
"""Tokens are checked against the server's clock, and the times in the ledger come from this one."""

NEARLY = 0.9
"""Share of a quota from which the next pod may not fit."""

WORKLOAD_IDENTITY = "iam.gke.io/gcp-service-account"
GPU = "nvidia.com/gpu"
_ACCELERATOR = "cloud.google.com/gke-accelerator"
_ENFORCE = "pod-security.kubernetes.io/enforce"
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_ROUTES = "httproutes.gateway.networking.k8s.io"
_TRAINER = "trainer.kubeflow.org"
_TRAINJOBS = Definition(f"trainjobs.{_TRAINER}", "v1alpha1", "Kubeflow Trainer 2.0")


def examine(environment: Environment) -> list[Finding]:
    """Look at everything that an environment's cluster must have."""
    needs = own_needs(environment)
    return judge(gather(environment, paths(environment), needs, accounts(environment)))


def judge(facts: Facts) -> list[Finding]:
    """Say what the facts mean, in the order in which things depend on each other."""
    findings = list(_reached(facts))
    if facts.trouble is None:
        findings += [
            *_definitions(facts),
            *_runtime(facts),
            *_kserve(facts),
            *_gateway(facts),
            *_namespaces(facts),
            *_storage_classes(facts),
            *_nodes(facts),
            *_secrets(facts),
            *_accounts(facts),
            *_permissions(facts),
        ]
    return [*findings, *_services(facts), *_store(facts), *_release(facts), *_gateway_host(facts)]


def definitions(environment: Environment) -> list[Definition]:
    """Custom resources that an environment needs, by how it serves."""
    group, version = API_VERSION.split("/")
    standard = environment.serving.mode == "standard"
    services = Definition(f"inferenceservices.{group}", version, "KServe 0.21", ("spec.canary",) if standard else ())
    wanted = [services, Definition(f"servingruntimes.{group}", "v1alpha1", "KServe 0.21")]
    if standard:
        wanted += [Definition(_ROUTES, "v1", "Gateway API 1.0")]
    else:
        wanted += [Definition("services.serving.knative.dev", "v1", "Knative Serving 1.0", ("spec.traffic",))]
    if _scales_with_keda(environment):
        wanted += [Definition("scaledobjects.keda.sh", "v1alpha1", "KEDA 2")]
    if environment.training.nodes > 1:
        wanted += [_TRAINJOBS]
    return [*wanted, Definition("pipelineversions.pipelines.kubeflow.org", "v2beta1", "Kubeflow Pipelines 2.14")]


def own_needs(environment: Environment) -> list[Permission]:
    """What the person or the CI job at this command must be allowed: to look at rollouts and to move them."""
    return _permissions_of(PERSON, environment)


def accounts(environment: Environment) -> list[Account]:
    """Service accounts of an environment, with what the steps that run as them need."""
    kubeflow, serving = environment.kubeflow, environment.serving
    namespace = kubeflow.namespace or "kubeflow"
    roles = {name: kubeflow.service_accounts.get(name, kubeflow.service_account) for name in PIPELINES}
    roles |= {name: account for name, account in kubeflow.service_accounts.items() if name not in roles}
    found = [Account(serving.namespace, serving.service_account)] if serving.service_account else []
    for account in sorted({name for name in roles.values() if name}):
        steps = {step for pipeline, name in roles.items() if name == account for step in _steps(pipeline)}
        needs = {need for step in steps & STEPS.keys() for need in _permissions_of(STEPS[step], environment)}
        if "tune" in steps and environment.training.nodes > 1:
            where = environment.training.namespace or namespace
            needs |= {Permission(where, right.resource, verb) for right in TRAINING for verb in right.verbs}
        found.append(Account(namespace, account, tuple(sorted(needs))))
    return found


def _permissions_of(rights: Iterable[Right], environment: Environment) -> list[Permission]:
    """Say what rights mean in an environment, for the service that its recipe publishes."""
    serving = environment.serving
    names = {"service": _recipe(environment).release.publish.name, "account": serving.service_account}
    return [
        Permission(serving.namespace, right.resource, verb, right.name.format_map(names))
        for right in rights
        if serving.mode in right.modes and (serving.service_account or "{account}" not in right.name)
        for verb in right.verbs
    ]


def _steps(pipeline: str) -> set[str]:
    """Steps of a compiled pipeline, those of its sub-pipelines too."""
    path = COMPILED / f"{pipeline}.yaml"
    return set(re.findall(r"^  comp-([\w-]+?)(?:-\d+)?:$", path.read_text("utf-8"), re.M)) if path.is_file() else set()


def _scales_with_keda(environment: Environment) -> bool:
    return _recipe(environment).release.publish.scaling.autoscaler == "keda"


def _recipe(environment: Environment) -> Recipe:
    return load_recipe(environment.recipe, environment.overrides)


def _secrets_of(environment: Environment) -> dict[tuple[str, str], tuple[Mark, str]]:
    """Secrets by namespace and name, how much it matters that one is missing, and what becomes of a run without it."""
    pipelines = environment.kubeflow.namespace or "kubeflow"
    wanted = {
        (pipelines, LEDGER_SECRET): (Mark.BAD, "the ledger's heads cannot be signed"),
        (pipelines, SUBJECTS_SECRET): (Mark.BAD, "no document can be masked, for nobody can be named in it"),
        (pipelines, ERASURE_SECRET): (Mark.UNSURE, "no person can be erased"),
    }
    if environment.notify.channels:
        wanted[pipelines, NOTIFY_SECRET] = (Mark.BAD, "nobody hears of a failed run")
    if environment.encryption == KEYSET:
        wanted[pipelines, KEYSET_SECRET] = (Mark.BAD, "nothing can be sealed, and nothing sealed be read")
    wanted[environment.serving.namespace, MODEL_SECRET] = (Mark.UNSURE, "encrypted model versions cannot be served")
    return wanted


def paths(environment: Environment) -> dict[str, bool]:
    """What to read of the cluster, and whether its metadata will do."""
    wanted = dict.fromkeys([CONFIGURATION, CONTROLLER, NODES, STORAGE_CLASSES], False)
    for definition in definitions(environment):
        wanted |= {definition.path: False, definition.discovery: False}
    if parent := environment.serving.parent_gateway:
        wanted[_gateway_path(parent)] = False
    if environment.training.nodes > 1:
        wanted[_runtime_path(environment)] = False
    for namespace in _namespaces_of(environment):
        wanted |= {_namespace(namespace): False, _quotas(namespace): False}
    wanted |= {_secret(*place): True for place in _secrets_of(environment)}
    return wanted | {_account_path(account): False for account in accounts(environment)}


def _namespaces_of(environment: Environment) -> list[str]:
    return list(dict.fromkeys([environment.serving.namespace, environment.kubeflow.namespace or "kubeflow"]))


def _namespace(name: str) -> str:
    return f"/api/v1/namespaces/{name}"


def _quotas(namespace: str) -> str:
    return f"{_namespace(namespace)}/resourcequotas"


def _secret(namespace: str, name: str) -> str:
    return f"{_namespace(namespace)}/secrets/{name}"


def _account_path(account: Account) -> str:
    return f"{_namespace(account.namespace)}/serviceaccounts/{account.name}"


def _gateway_path(parent: str) -> str:
    namespace, _, name = parent.partition("/")
    return f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/gateways/{name}"


def _runtime_path(environment: Environment) -> str:
    return f"/apis/{_TRAINER}/v1alpha1/clustertrainingruntimes/{environment.training.runtime}"


def _overlay(facts: Facts) -> str:
    return f"kubectl apply -k manifests/overlays/{facts.environment.name}"


def _good(what: str) -> Finding:
    return Finding(what)


def _bad(what: str, fix: str) -> Finding:
    return Finding(what, Mark.BAD, fix)


def _unsure(what: str, fix: str) -> Finding:
    return Finding(what, Mark.UNSURE, fix)


def _unseen(what: str, permission: str, answer: Answer) -> Finding:
    """What could not be looked at: for want of a permission, or because the API had trouble."""
    if answer.status == 403:
        return _unsure(f"{what}: you may not look", f"ask for the permission to {permission}")
    return _unsure(f"{what}: the API says {answer.reason}", "run again; if it stays so, see the API server")


def _reached(facts: Facts) -> Iterator[Finding]:
    if facts.trouble:
        yield _bad(*facts.trouble)
    else:
        if facts.verified:
            yield _good(f"Kubernetes API at {facts.address}")
        else:
            fix = "give the kubeconfig the cluster's certificate-authority-data instead of insecure-skip-tls-verify"
            yield _unsure(f"Kubernetes API at {facts.address}, its certificate unchecked", fix)
        version = facts.version.get("gitVersion", "")
        if _numbers(version) < KUBERNETES:
            fix = f"KServe is tested with {_dotted(KUBERNETES)} and later; upgrade the cluster"
            yield _unsure(f"Kubernetes {version.lstrip('v')}", fix)
        else:
            yield _good(f"Kubernetes {version.lstrip('v')}")
    if abs(facts.skew) > SKEW_SECONDS:
        whose = "ahead of" if facts.skew > 0 else "behind"
        yield _bad(
            f"this machine's clock is {abs(facts.skew):.0f} s {whose} the API server's",
            "set it by NTP (timedatectl set-ntp true): tokens are refused and the ledger's times are wrong",
        )
    elif facts.trouble is None:
        yield _good(f"clocks agree within {SKEW_SECONDS} s")


def _definitions(facts: Facts) -> Iterator[Finding]:
    for definition in definitions(facts.environment):
        answer, served = facts.answers[definition.path], facts.answers[definition.discovery]
        name = f"{definition.name} {definition.version}"
        if definition.name.startswith("pipelineversions") and answer.status == 404:
            yield _unsure(f"{name} is not installed", "releases are uploaded through the KFP API, not by GitOps")
        elif answer.ok:
            yield _definition(definition, answer.body)
        elif answer.status == 404 or (answer.status == 403 and not _serves(served, definition)):
            yield _bad(f"{name} is not installed", f"install {definition.since} or later")
        elif answer.status == 403 and not definition.fields:
            yield _good(f"{name} is served")
        elif answer.status == 403:
            what = f"{name} is served; whether it has {', '.join(definition.fields)}"
            yield _unseen(what, "get customresourcedefinitions.apiextensions.k8s.io", answer)
        else:
            yield _unseen(name, "get customresourcedefinitions.apiextensions.k8s.io", answer)


def _serves(served: Answer, definition: Definition) -> bool:
    plural = definition.name.partition(".")[0]
    return served.ok and plural in {resource["name"] for resource in served.body.get("resources", [])}


def _definition(definition: Definition, body: Any) -> Finding:
    versions = {version["name"]: version for version in body["spec"]["versions"] if version["served"]}
    if definition.version not in versions:
        what = f"{definition.name} serves {', '.join(sorted(versions)) or 'nothing'}, not {definition.version}"
        return _bad(what, f"install {definition.since} or later")
    schema = versions[definition.version].get("schema", {}).get("openAPIV3Schema", {})
    missing = [path for path in definition.fields if not _has(schema, path)]
    if missing:
        what = f"{definition.name} {definition.version} has no {', '.join(missing)}"
        return _bad(what, f"it is too old: install {definition.since} or later, its definitions first")
    return _good(f"{definition.name} {definition.version}")


def _has(schema: dict[str, Any], path: str) -> bool:
    for field in path.split("."):
        if schema.get("x-kubernetes-preserve-unknown-fields") and "properties" not in schema:
            return True
        schema = schema.get("properties", {}).get(field)
        if schema is None:
            return False
    return True


def _runtime(facts: Facts) -> Iterator[Finding]:
    training = facts.environment.training
    if training.nodes == 1 or facts.answers[_TRAINJOBS.path].status == 404:
        return
    what = f"Trainer's ClusterTrainingRuntime {training.runtime}"
    if (answer := facts.answers[_runtime_path(facts.environment)]).ok:
        yield _good(what)
    elif answer.status == 404:
        yield _bad(f"{what} does not exist", "install Trainer's runtimes, or correct training.runtime")
    else:
        yield _unseen(what, f"get clustertrainingruntimes.{_TRAINER}", answer)


def _kserve(facts: Facts) -> Iterator[Finding]:
    if facts.answers[definitions(facts.environment)[0].path].status == 404:
        return
    yield from _configuration(facts)
    controller = facts.answers[CONTROLLER]
    if controller.status == 404:
        yield _bad(
            f"no KServe controller in namespace {KSERVE}", "install KServe: nothing becomes of InferenceServices"
        )
    elif not controller.ok:
        yield _unseen("KServe's controller", f"get deployments.apps in {KSERVE}", controller)
    else:
        yield from _controller(controller.body, facts.environment)


def _configuration(facts: Facts) -> Iterator[Finding]:
    answer, serving = facts.answers[CONFIGURATION], facts.environment.serving
    where = f"ConfigMap {KSERVE}/inferenceservice-config"
    if answer.status == 404:
        yield _bad(f"{where} does not exist", "install KServe's configuration: its controller does not start without")
        return
    if not answer.ok:
        yield _unseen(where, f"get configmaps in {KSERVE}", answer)
        return
    try:
        data = answer.body.get("data") or {}
        deploy, ingress = (json.loads(data.get(part) or "{}") for part in ("deploy", "ingress"))
    except ValueError as error:
        yield _bad(f"{where}: {error}", "its parts are JSON; see KServe's own for the version you run")
        return
    mode = {"RawDeployment": "Standard", "Serverless": "Knative"}.get(
        found := deploy.get("defaultDeploymentMode", "Knative"), found
    )
    if mode.lower() != serving.mode:
        yield _unsure(
            f"KServe's default mode is {mode}, this environment's {serving.mode}",
            "Headrace's own services say their mode; set deploy.defaultDeploymentMode for everybody else's",
        )
    else:
        yield _good(f"KServe's default mode is {mode}")
    if serving.mode != "standard":
        return
    if not ingress.get("enableGatewayApi"):
        yield _bad(
            "KServe does not use the Gateway API, so a canary's share of the requests has no effect",
            f"set ingress.enableGatewayApi: true in {where} and restart its controller",
        )
    elif serving.parent_gateway and ingress.get("kserveIngressGateway") != serving.parent_gateway:
        yield _bad(
            f"KServe's routes hang from {ingress.get('kserveIngressGateway') or 'no gateway'}, "
            f"serving.parent_gateway is {serving.parent_gateway}",
            f"make ingress.kserveIngressGateway in {where} and the environment the same",
        )
    else:
        yield _good(f"KServe's routes hang from {ingress.get('kserveIngressGateway')}")


def _controller(deployment: Any, environment: Environment) -> Iterator[Finding]:
    images = [container["image"] for container in deployment["spec"]["template"]["spec"]["containers"]]
    image = next((image for image in images if "kserve-controller" in image), images[0])
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    wanted = KSERVE_CANARY if environment.serving.mode == "standard" else (0, 0)
    if not _numbers(tag):
        yield _unsure(f"KServe's controller is {image}", f"its tag says no version; see that it is {_dotted(wanted)}")
    elif _numbers(tag) < wanted:
        yield _bad(f"KServe {tag.lstrip('v')} sets no canary weights", f"install KServe {_dotted(wanted)} or later")
    else:
        yield _good(f"KServe {tag.lstrip('v')}")
    available = (deployment.get("status") or {}).get("availableReplicas", 0)
    if not available:
        yield _bad("KServe's controller is not available", f"kubectl -n {KSERVE} describe deployment")
    else:
        yield _good("KServe's controller is available")


def _gateway(facts: Facts) -> Iterator[Finding]:
    serving = facts.environment.serving
    if serving.mode != "standard" or not serving.parent_gateway:
        return
    answer, what = facts.answers[_gateway_path(serving.parent_gateway)], f"Gateway {serving.parent_gateway}"
    if answer.status == 404:
        yield _bad(f"{what} does not exist", "create it, or correct serving.parent_gateway of the environment")
        return
    if not answer.ok:
        namespace = serving.parent_gateway.partition("/")[0]
        yield _unseen(what, f"get gateways.gateway.networking.k8s.io in {namespace}", answer)
        return
    spec, status = answer.body["spec"], answer.body.get("status") or {}
    ready = [listener["name"] for listener in status.get("listeners", []) if _is_true(listener, "Programmed", "Ready")]
    if not ready:
        why = "; ".join(
            condition.get("message", "")
            for holder in [status, *status.get("listeners", [])]
            for condition in holder.get("conditions", [])
            if condition["status"] != "True" and condition.get("message")
        )
        yield _bad(f"{what} has no ready listener{f': {why}' if why else ''}", "see the gateway's controller")
        return
    open_ones = [
        listener["name"]
        for listener in spec.get("listeners", [])
        if listener["name"] in ready and _lets_in(listener, serving.namespace, serving.parent_gateway.partition("/")[0])
    ]
    if open_ones:
        yield _good(f"{what} listens: {', '.join(open_ones)}")
    else:
        fix = f"set allowedRoutes.namespaces of a listener so that it takes routes from {serving.namespace}"
        yield _bad(f"{what}: no ready listener takes routes from namespace {serving.namespace}", fix)


def _is_true(holder: Any, *types: str) -> bool:
    return any(
        condition["type"] in types and condition["status"] == "True" for condition in holder.get("conditions", [])
    )


def _lets_in(listener: Any, namespace: str, own: str) -> bool:
    """Whether a listener takes routes of a namespace; a selector is given the benefit of the doubt."""
    source = listener.get("allowedRoutes", {}).get("namespaces", {}).get("from", "Same")
    return source in ("All", "Selector") or namespace == own


def _namespaces(facts: Facts) -> Iterator[Finding]:
    for namespace in _namespaces_of(facts.environment):
        answer = facts.answers[_namespace(namespace)]
        if answer.status == 404:
            yield _bad(f"namespace {namespace} does not exist", _overlay(facts))
        elif not answer.ok:
            yield _unseen(f"namespace {namespace}", f"get namespaces/{namespace}", answer)
        elif answer.body.get("status", {}).get("phase") == "Terminating":
            yield _bad(f"namespace {namespace} is being deleted", "wait until it is gone, and make it again")
        else:
            level = (answer.body["metadata"].get("labels") or {}).get(_ENFORCE, "")
            if level in ("baseline", "restricted"):
                yield _good(f"namespace {namespace}, pod security {level}")
            else:
                yield _unsure(
                    f"namespace {namespace} lets privileged pods in",
                    f"kubectl label namespace {namespace} {_ENFORCE}=baseline",
                )
            yield from _quota(namespace, facts.answers[_quotas(namespace)])


def _quota(namespace: str, answer: Answer) -> Iterator[Finding]:
    if not answer.ok:
        yield _unseen(f"quotas of {namespace}", f"list resourcequotas in {namespace}", answer)
        return
    for quota in answer.body["items"]:
        status = quota.get("status") or {}
        used = {
            name: float(parse_quantity(status.get("used", {}).get(name, "0")) / (parse_quantity(hard) or 1))
            for name, hard in (status.get("hard") or quota["spec"].get("hard") or {}).items()
        }
        full = {name: share for name, share in used.items() if share >= NEARLY}
        what = f"quota {namespace}/{quota['metadata']['name']}"
        if full:
            worst = ", ".join(f"{name} {share:.0%}" for name, share in sorted(full.items()))
            mark = Mark.BAD if max(full.values()) >= 1 else Mark.UNSURE
            yield Finding(f"{what} is used: {worst}", mark, "raise it, or remove what is not needed: pods stay pending")
        else:
            yield _good(f"{what} has room")


def _storage_classes(facts: Facts) -> Iterator[Finding]:
    answer = facts.answers[STORAGE_CLASSES]
    if not answer.ok:
        yield _unseen("storage classes", "list storageclasses.storage.k8s.io", answer)
        return
    classes = answer.body["items"]
    default = [
        item["metadata"]["name"]
        for item in classes
        if (item["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true"
    ]
    if default:
        yield _good(f"default storage class {', '.join(default)}")
    else:
        known = ", ".join(item["metadata"]["name"] for item in classes) or "there are none"
        yield _bad(
            f"no default storage class ({known})",
            f"annotate one with {_DEFAULT_CLASS}=true: volumes that name none stay pending",
        )


def _nodes(facts: Facts) -> Iterator[Finding]:
    answer = facts.answers[NODES]
    if not answer.ok:
        yield _unseen("nodes and their pools", "list nodes", answer)
        return
    nodes = answer.body["items"]
    for name, pool in facts.environment.pools:
        yield _pool(name, pool, nodes)
    offering = [node for node in nodes if _gpus(node)]
    silent = [node for node in nodes if _ACCELERATOR in _labels(node) and not _gpus(node)]
    if silent:
        names = ", ".join(node["metadata"]["name"] for node in silent)
        yield _bad(f"{names}: labelled with a GPU and offers no {GPU}", "see the NVIDIA device plugin and driver there")
    elif offering:
        yield _good(f"{sum(map(_gpus, offering))} GPUs on {len(offering)} nodes")
    else:
        sizes = facts.environment.sizes
        asking = [name for name, size in sizes if isinstance(size, Accelerated) and size.accelerators]
        without = "models are tuned and served on CPU"
        if asking:
            without = f"sizes gives {' and '.join(asking)} some: it stays pending"
        yield _unsure(f"no node offers {GPU} now", f"{without}, unless a pool scales from zero")


def _pool(name: str, pool: Pool, nodes: Sequence[Any]) -> Finding:
    labels = ",".join(f"{key}={value}" for key, value in pool.node_selector.items())
    if not labels:
        return _good(f"pool {name}: any node")
    chosen = [node for node in nodes if pool.node_selector.items() <= _labels(node).items()]
    if not chosen:
        what = f"pool {name}: no node has {labels}"
        if name == "online":
            return _bad(what, f"label the pool's nodes, or correct pools.{name}.node_selector")
        return _unsure(what, "in order only if the pool scales from zero; else label its nodes")
    refusals = {node["metadata"]["name"]: _refusal(node, pool) for node in chosen}
    usable = [node for node, refusal in refusals.items() if not refusal]
    if usable:
        return _good(f"pool {name}: {len(usable)} of {len(chosen)} nodes with {labels} take its pods")
    why = "; ".join(dict.fromkeys(f"{node} {refusal}" for node, refusal in sorted(refusals.items())))
    return _bad(f"pool {name}: no node takes its pods: {why}", f"add the toleration to pools.{name}, or mend the node")


def _refusal(node: Any, pool: Pool) -> str:
    """Why a node takes no pod of a pool, as the scheduler sees it; empty if it does."""
    for taint in node["spec"].get("taints") or []:
        # Kubernetes itself adds this toleration to pods that ask for a GPU.
        if taint["effect"] == "PreferNoSchedule" or taint["key"] == GPU:
            continue
        if not any(_tolerates(toleration, taint) for toleration in pool.tolerations):
            return f"is tainted {taint['key']}={taint.get('value', '')}:{taint['effect']}"
    if node["spec"].get("unschedulable"):
        return "is cordoned"
    conditions = node.get("status", {}).get("conditions") or []
    if any(condition["type"] == "Ready" and condition["status"] != "True" for condition in conditions):
        return "is not ready"
    return ""


def _tolerates(toleration: Any, taint: Any) -> bool:
    if toleration.effect and toleration.effect != taint["effect"]:
        return False
    if toleration.operator == "Exists":
        return toleration.key in ("", taint["key"])
    return toleration.key == taint["key"] and toleration.value == taint.get("value", "")


def _labels(node: Any) -> dict[str, str]:
    return node["metadata"].get("labels") or {}


def _gpus(node: Any) -> int:
    return int((node.get("status", {}).get("allocatable") or {}).get(GPU, "0"))


def _missing(facts: Facts, namespace: str) -> bool:
    return facts.answers[_namespace(namespace)].status == 404


def _secrets(facts: Facts) -> Iterator[Finding]:
    for (namespace, name), (mark, harm) in _secrets_of(facts.environment).items():
        if _missing(facts, namespace):
            continue
        answer, what = facts.answers[_secret(namespace, name)], f"secret {namespace}/{name}"
        if answer.ok:
            yield _good(f"{what} exists")
        elif answer.status == 404:
            yield Finding(f"{what} does not exist", mark, f"make it as manifests/README.md says: without it {harm}")
        else:
            yield _unseen(what, f"get secrets/{name} in {namespace}", answer)


def _accounts(facts: Facts) -> Iterator[Finding]:
    for account in accounts(facts.environment):
        if _missing(facts, account.namespace):
            continue
        answer, what = facts.answers[_account_path(account)], f"service account {account.namespace}/{account.name}"
        if answer.status == 404:
            yield _bad(f"{what} does not exist", _overlay(facts))
        elif not answer.ok:
            yield _unseen(what, f"get serviceaccounts in {account.namespace}", answer)
        elif facts.environment.store.startswith("gs://"):
            identity = (answer.body["metadata"].get("annotations") or {}).get(WORKLOAD_IDENTITY)
            if identity:
                yield _good(f"{what} is {identity}")
            else:
                fix = f"annotate it with {WORKLOAD_IDENTITY}: its pods cannot read {facts.environment.store}"
                yield _bad(f"{what} has no Workload Identity", fix)
        else:
            yield _good(f"{what} exists")


def _permissions(facts: Facts) -> Iterator[Finding]:
    holders: dict[str, list[Permission]] = {}
    for holder, need in facts.allowed:
        holders.setdefault(holder, []).append(need)
    for holder, needs in holders.items():
        who = f"service account {holder}" if holder else "you"
        verdicts = {need: facts.allowed[holder, need] for need in needs if not _missing(facts, need.namespace)}
        refused = [need for need, verdict in verdicts.items() if verdict is False]
        if refused:
            fix = f"bind the role of manifests/: {_overlay(facts)}" if holder else "ask for them; a viewer only looks"
            yield Finding(f"{who} may not: {_listed(refused)}", Mark.BAD if holder else Mark.UNSURE, fix)
        elif None in verdicts.values():
            fix = "ask for the permission to create subjectaccessreviews.authorization.k8s.io, or to impersonate it"
            yield _unsure(f"what {who} may do cannot be seen", fix)
        elif verdicts:
            yield _good(f"{who} may do what {'its steps need' if holder else 'a rollout needs'}")


def _listed(needs: Iterable[Permission]) -> str:
    verbs: dict[str, list[str]] = {}
    for need in needs:
        verbs.setdefault(need.object, []).append(need.verb)
    return ", ".join(f"{'/'.join(words)} {thing}" for thing, words in verbs.items())


def _services(facts: Facts) -> Iterator[Finding]:
    kubeflow, answer = facts.environment.kubeflow, facts.kubeflow
    if answer is None:
        yield _unsure("no KFP API is configured", "set kubeflow.host of the environment to submit runs")
    elif answer.ok:
        yield _good(f"KFP API at {kubeflow.host}")
    elif not answer.status:
        yield _bad(f"KFP API: {answer.reason}", "see kubeflow.host and kubeflow.auth, the VPN, and Kubeflow's ingress")
    elif answer.status == 401:
        variable = VARIABLES.get(kubeflow.auth)
        fix = f"put a new {kubeflow.auth} into {variable}" if variable else "set kubeflow.auth to token or cookie"
        yield _bad(f"the KFP API at {kubeflow.host} does not know you ({answer.reason})", fix)
    elif answer.status == 403:
        fix = f"ask for access to the profile {kubeflow.namespace or 'of your team'}"
        yield _bad(f"the KFP API at {kubeflow.host} knows you and says no", fix)
    else:
        yield _bad(f"KFP API at {kubeflow.host}: {answer.reason}", "see that it runs, and kubeflow.host")
    for field, served in facts.services.items():
        url = getattr(facts.environment, field)
        if served.ok:
            yield _good(f"{field} at {url}")
        elif served.status == 403:
            yield _unsure(f"{field} at {url}: you may not look", "ask for the permission to get services/proxy there")
        else:
            yield _bad(f"{field} at {url}: {served.reason}", f"see that it runs, and {field} of the environment")


def _store(facts: Facts) -> Iterator[Finding]:
    if facts.store:
        why = facts.store.removeprefix(f"{facts.environment.store}: ")
        yield _bad(f"store {facts.environment.store}: {why}", "log in to the cloud, or see the bucket and its rights")
    else:
        yield _good(f"store {facts.environment.store}")


def _release(facts: Facts) -> Iterator[Finding]:
    environment = facts.environment
    if not environment.release:
        yield _unsure("no release runs here yet", "headrace cut, then promote it")
        return
    folder = RELEASES / environment.release
    if not folder.is_dir():
        yield _bad(f"release {environment.release} is not in pipelines/releases", "pull, or correct the pointer")
        return
    try:
        images = read_lock(folder / LOCK)
    except HeadraceError as error:
        yield _bad(f"release {environment.release}: {error}", "cut it again from an image lock with digests")
        return
    allowed = environment.policy.registries
    foreign = [image for image in images.values() if allowed and not image.startswith(tuple(allowed))]
    if foreign:
        fix = f"policy.registries allows {', '.join(allowed)}; mirror the images there and cut again"
        yield _bad(f"release {environment.release} uses {', '.join(foreign)}", fix)
    else:
        yield _good(f"release {environment.release}, its {len(images)} images pinned by digest")


def _gateway_host(facts: Facts) -> Iterator[Finding]:
    gateway = facts.environment.serving.gateway
    if facts.unresolved:
        fix = "add the DNS record; clients of a private zone may still resolve it"
        yield _unsure(f"gateway {gateway or '(none)'}: {facts.unresolved}", fix)
    else:
        yield _good(f"gateway {gateway} has an address")


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"v?(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else ()


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
