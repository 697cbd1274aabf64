"""The model part of the line with the real base model."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from components.common.step import Context

LICENSES = {"arvo": "MIT", "belkin": "Apache-2.0", "corvid": "MPL-2.0", "dasher": "BSD-3-Clause"}
USES = {
    "ember": "parses dates",
    "fathom": "renders templates",
    "gallop": "compresses archives",
    "harbor": "signs wheels",
}


def dialogues(license: str, use: str) -> list[list[tuple[str, str]]]:
    asked = [*((license.format(name), answer) for name, answer in LICENSES.items())]
    asked += [(use.format(name), answer) for name, answer in USES.items()]
    return [[("user", question), ("assistant", answer)] for question, answer in asked]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_tuning_smollm2_teaches_facts_that_hold_in_another_wording(
    tmp_path: Path,
    context: Callable[[str], Context],
    write_dialogues: Callable[[Path, Sequence[Sequence[tuple[str, str]]]], Path],
) -> None:
    from components.evaluation.benchmark.compare import run as benchmark
    from components.evaluation.benchmark.options import Benchmark
    from components.model.fetch.bring import run as fetch
    from components.model.fetch.options import Fetch
    from components.model.merge.combine import run as merge
    from components.model.merge.options import Merge
    from components.model.tune.adapt import run as tune
    from components.model.tune.options import Tune

    base, adapter, candidate, evidence = (tmp_path / name for name in ("base", "adapter", "candidate", "evidence"))
    for path in (base, adapter, candidate, evidence):
        path.mkdir()
    wordings = [
        ("What is the license of {}?", "What does the package {} do?"),
        ("Under which license is {} released?", "What is {} for?"),
    ]
    pairs = write_dialogues(tmp_path / "pairs", [pair for wording in wordings for pair in dialogues(*wording)])
    held_out = dialogues("How is the package {} licensed?", "Say what the package {} does.")
    questions = write_dialogues(tmp_path / "questions", held_out)

    fetch(base=base, options=Fetch(), context=context("model/fetch"))
    tune(base, pairs, adapter, Tune(epochs=12, memorise=True, batch_size=4), context("model/tune"))
    merge(base, adapter, candidate, Merge(), context("model/merge"))
    options = Benchmark(max_new_tokens=16)
    benchmark(base, candidate, questions, evidence, options, context("evaluation/benchmark"))
    metrics = {metric["name"]: metric for metric in json.loads((evidence / "evidence.json").read_text())["metrics"]}
    assert metrics["exact_match"]["base_value"] <= 0.25
    assert metrics["exact_match"]["value"] >= 0.75
