"""KFP interfaces of operations/notify: the end of a run, and a model that the gate holds."""

from kfp import dsl

from components.common.step import step


@step("release")
def notify(
    notice: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    status: dsl.PipelineTaskFinalStatus,
    pipeline: str,
    schedule: str,
    run: str,
    environment: dict,
):
    """Tell people how a run ended, if they do not know it already.

    Args:
        notice: What was decided, and what was told.
        metrics: Messages sent.
        report: The message.
        status: How the run ended, from Kubeflow Pipelines.
        pipeline: Name of the pipeline.
        schedule: Schedule that started the run; empty when a person did.
        run: Id of the run.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.operations.notify.tell import tell_ending

    options = {"pipeline": pipeline, "schedule": schedule, "run": run, "state": status.state}
    execute(tell_ending, {**locals(), "options": options})


@step("release")
def notify_hold(
    verdict: dsl.Input[dsl.Artifact],
    notice: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    pipeline: str,
    schedule: str,
    run: str,
    environment: dict,
):
    """Tell people that the gate holds a model, and why.

    Args:
        verdict: The gate's decision with its reasons.
        notice: What was decided, and what was told.
        metrics: Messages sent.
        report: The message.
        pipeline: Name of the pipeline.
        schedule: Schedule that started the run; empty when a person did.
        run: Id of the run.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.operations.notify.tell import tell_hold

    options = {"pipeline": pipeline, "schedule": schedule, "run": run}
    execute(tell_hold, {**locals(), "options": options})
