"""`probe_data`: two dataset versions in, what a model learns from each and what to collect next out."""

from kfp import dsl

from components.data.probe.component import probe
from components.model.fetch.component import fetch
from components.planning.plan.component import plan
from pipelines.pods import furnish, watched


@dsl.pipeline(name="train-and-compare", display_name="Train and compare")
def train_and_compare(
    present: dsl.Input[dsl.Dataset], proposed: dsl.Input[dsl.Dataset], recipe: dict, environment: dict
) -> None:
    """Train the base model on both dataset versions with several seeds, and compare what it learned.

    Args:
        present: The dataset version in use.
        proposed: The dataset version with the new data.
        recipe: What to do.
        environment: Where the run takes place.
    """
    parts = plan(options=recipe, environment=environment).outputs
    here = parts["workplace"]
    base = fetch(options=parts["fetch"], environment=here).outputs["base"]
    probe(base=base, present=present, proposed=proposed, options=parts["probe"], environment=here)
    furnish(parts)


@dsl.pipeline(name="probe-data", display_name="Probe a dataset version")
def probe_data(present: str, proposed: str, recipe: dict, environment: dict, schedule: str = "") -> None:
    """Say what a dataset version is worth: train the base model on it and on the present one, and compare.

    Args:
        present: URI of the dataset version in use, as `prepare_data` stored it.
        proposed: URI of the dataset version with the new data; the same one where selections are compared.
        recipe: What to do, as `headrace` reads it from a recipe file.
        environment: Where the run takes place, from `pipelines/environments`.
        schedule: Schedule that starts the run; empty when a person does.
    """
    with watched("probe_data", environment, schedule):
        versions = [
            dsl.importer(artifact_uri=uri, artifact_class=dsl.Dataset).set_display_name(name).output
            for name, uri in (("present version", present), ("proposed version", proposed))
        ]
        train_and_compare(present=versions[0], proposed=versions[1], recipe=recipe, environment=environment)
