"""Training runs in MLflow."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import mlflow

from components.common.environment import Environment


class Log(Protocol):
    """Records what a training step measured."""

    def __call__(self, metrics: dict[str, float], step: int) -> object:
        """Record metrics by name."""


@contextmanager
def track(
    environment: Environment, experiment: str, name: str, settings: Mapping[str, Any], tags: Mapping[str, str]
) -> Iterator[Log]:
    """Record a training run; it ends as failed when the body raises.

    Args:
        environment: Where the tracking server or file is.
        experiment: Name of the experiment; made when it does not exist.
        name: Name of the run, derived from what goes into it, so that a report can name it beforehand.
        settings: Parameters of the run.
        tags: What it was made from; each is recorded as `headrace.<name>`.
    """
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    mlflow.set_tracking_uri(environment.tracking)
    if mlflow.get_experiment_by_name(experiment) is None:
        mlflow.create_experiment(experiment, artifact_location=f"{environment.store}/tracking/{experiment}")
    mlflow.set_experiment(experiment)
    with mlflow.start_run(run_name=name, tags={f"headrace.{tag}": value for tag, value in tags.items()}):
        mlflow.log_params(dict(settings))
        yield lambda metrics, step: mlflow.log_metrics(metrics, step=step)
