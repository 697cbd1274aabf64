"""Which model version a service serves as stable, in every mode."""

from components.common.environment import Environment
from components.common.errors import HeadraceError
from components.release import knative, standard
from components.release.manifest import PREFIX
from components.release.notes import open_services

MODEL = f"{PREFIX}/model"
"""Annotation of a revision: `name/version` of its model."""


def stable_model(service: str, environment: Environment) -> str:
    """Return `name/version` of the stable revision's model; '' when there is no such service.

    Raises:
        HeadraceError: The API does not answer, or the revision does not say which version it serves.
    """
    seen = open_services(environment.serving).get(service)
    if seen is None:
        return ""
    stable = (knative if environment.serving.mode == "knative" else standard).stable_predictor(seen)
    model = (stable.get("annotations") or {}).get(MODEL, "")
    if not model:
        raise HeadraceError(
            f"InferenceService {service}: its stable revision has no annotation {MODEL}, so it is not known which "
            "model serves; publish under another name (release.publish.name), or promote a version that Headrace "
            "published"
        )
    return str(model)
