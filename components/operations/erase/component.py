"""KFP interfaces of operations/erase: the erasure, and its certificate."""

from kfp import dsl

from components.common.step import step


@step("data")
def erase(
    erasure: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    request: str,
    environment: dict,
):
    """Erase a person from everything that the environment keeps.

    Args:
        erasure: Name of the case.
        metrics: Counts.
        report: What was cleared.
        request: Name of the sealed request in the store.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.operations.erase.steps import run

    execute(run, {**locals(), "options": {"request": request}})


@step("release")
def certify(
    erasure: dsl.Input[dsl.Artifact],
    certificate: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    request: str,
    environment: dict,
):
    """Mark the services of the models concerned, sign the certificate, and remove the sealed request.

    Args:
        erasure: Name of the case.
        certificate: The certificate, as JSON and as a page.
        metrics: Counts.
        report: The certificate.
        request: Name of the sealed request in the store.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.operations.erase.steps import run_certify

    execute(run_certify, {**locals(), "options": {"request": request}})
