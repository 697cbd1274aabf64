"""What publishing, rollouts and trainings on several nodes ask of a cluster: the one list of it.

`headrace doctor` asks Kubernetes whether those who need it may do it, and the tests see that the Roles of `manifests/`
grant this and no more.
"""

from dataclasses import dataclass

_SERVICES = "inferenceservices.serving.kserve.io"
_ROUTES = "httproutes.gateway.networking.k8s.io"
_BUDGETS = "poddisruptionbudgets.policy"
_POLICIES = "networkpolicies.networking.k8s.io"
_STANDARD, _KNATIVE = ("standard",), ("knative",)


@dataclass(frozen=True)
class Right:
    """Something that may be done to objects of a kind.

    Attributes:
        resource: Plural, and its group after a dot.
        verbs: As Kubernetes names them.
        name: Of the one object; `{service}` and `{account}` stand for the environment's. Empty: of any, because what
            is listed or created cannot be bound to a name.
        modes: The modes of serving that need it.
    """

    resource: str
    verbs: tuple[str, ...]
    name: str = ""
    modes: tuple[str, ...] = ("standard", "knative")


_ROLLOUT = (
    Right(_SERVICES, ("get", "update"), "{service}"),
    Right("configmaps", ("create",)),
    Right("configmaps", ("get", "update"), "{service}-rollout"),
    Right(_ROUTES, ("get",), "{service}", _STANDARD),
    Right(_ROUTES, ("create",), modes=_STANDARD),
    Right(_ROUTES, ("get", "update", "delete"), "{service}-pins", _STANDARD),
    Right("revisions.serving.knative.dev", ("list",), modes=_KNATIVE),
    Right("deployments.apps", ("list",)),
    Right("pods", ("list",)),
    Right("events", ("list",)),
    Right("pods/log", ("get",)),
)
"""Reading and changing a service with its notes and its pins, and saying why it does not become ready."""

TRAINING = (
    Right("trainjobs.trainer.kubeflow.org", ("create", "delete", "get")),
    Right("pods", ("get", "list")),
    Right("pods/log", ("get",)),
)
"""What tuning over several nodes needs, in the namespace of its TrainJob."""

STEPS: dict[str, tuple[Right, ...]] = {
    "progress": _ROLLOUT,
    "publish": (
        *_ROLLOUT,
        Right(_SERVICES, ("create",)),
        Right(_BUDGETS, ("create",)),
        Right(_BUDGETS, ("patch",), "{service}-predictor"),
        Right(_POLICIES, ("create",)),
        Right(_POLICIES, ("patch",), "{service}-predictor"),
        Right("serviceaccounts", ("get",), "{account}"),
    ),
}
"""What a pipeline's step needs in the namespace of serving."""

PERSON = (*_ROLLOUT, Right(_SERVICES, ("list",)))
"""What `headrace rollout` needs, which looks for the service itself where it is the only one."""
