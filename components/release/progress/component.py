"""KFP interface of release/progress."""

from kfp import dsl

from components.common.step import step


@step("release")
def progress(
    rollout: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
) -> str:
    """Watch a candidate and move its traffic step by step, to a promotion or back to 0.

    Args:
        rollout: How it ended and what was seen of each signal.
        metrics: The candidate's share and requests, and the seconds from the decision to its effect.
        report: What was seen, when which bound was crossed, and the plot.
        options: The `release.progress` part of the recipe.
        environment: Where the run takes place.

    Returns:
        `promoted`, `aborted`, `held`, `overtaken` or `nothing`.
    """
    from components.common.step import execute
    from components.release.progress.progress import run

    return execute(run, locals())
