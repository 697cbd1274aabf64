"""Training that is interrupted, damaged or has to stop: what is left, and what comes of the next attempt."""

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from components.common.documents import read_table
from components.common.errors import HeadraceError
from components.common.ledger import artifact_files
from components.common.merkle import audit_path, leaf_hash, merkle_root, root_from_path
from components.common.sealed_store import store_of
from components.common.step import Context
from components.model.tune.checkpoints import MARKER, Checkpoints
from components.model.tune.examples import read_examples
from components.model.tune.inputs import Chunks
from components.model.tune.options import Tune
from components.model.tune.validation import draw, judge

OPTIONS = {
    "epochs": 6,
    "memorise": True,
    "batch_size": 2,
    "learning_rate": 3e-3,
    "dropout": 0.1,
    "validation": 0.2,
    "checkpoint_every": 5,
    "threads": 1,
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory, write_dialogues: Callable[..., Path]) -> Path:
    names = ["arvo", "belkin", "corvid", "dasher", "ember", "fathom", "gallop", "harbor", "indigo", "jasper", "kelp"]
    asked = [[("user", f"What does {name} do?"), ("assistant", f"it {name}s the {name}")] for name in names]
    return write_dialogues(tmp_path_factory.mktemp("interrupted") / "pairs", asked)


def test_a_training_killed_twice_ends_with_the_bytes_of_one_left_alone(
    base: Path, pairs: Path, tmp_path: Path, environment_at
) -> None:
    from components.model.tune.adapt import run

    @dataclass(frozen=True)
    class Struck(Context):
        """Surroundings in which the process sends itself a signal when a step was reported."""

        step: int
        signal: int

        def progress(self, done: float, total: float, note: str = "") -> None:
            if done == self.step:
                os.kill(os.getpid(), self.signal)

    def attempt(name: str, step: int = 0, signal: int = 0) -> int:
        """Train in a process of its own; returns how it ended, as `subprocess` says it."""
        if child := os.fork():
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        code = 1
        try:
            here = Struck("model/tune", environment_at(tmp_path / name), step, signal)
            outcome = run(base, pairs, tmp_path / name / "adapter", Tune.model_validate(OPTIONS), here)
            (tmp_path / name / "metrics.json").write_text(json.dumps(outcome.metrics))
            code = 0
        except SystemExit as error:
            code = error.code
        finally:
            os._exit(code)

    def checkpoints() -> set[int]:
        markers = (tmp_path / "struck" / "store" / "checkpoints").glob(f"*/*/{MARKER}")
        return {int(marker.parent.name) for marker in markers}

    for name in ("left-alone", "struck"):
        (tmp_path / name / "adapter").mkdir(parents=True)
    assert attempt("left-alone") == 0
    assert attempt("struck", 7, signal.SIGTERM) == 75
    assert 8 in checkpoints(), "the step under way was finished"
    assert attempt("struck", 18, signal.SIGKILL) == -signal.SIGKILL
    assert 15 in checkpoints() and 18 not in checkpoints()
    assert attempt("struck") == 0
    assert json.loads((tmp_path / "struck" / "metrics.json").read_text())["resumed_at_step"] == 15
    assert artifact_files(tmp_path / "struck" / "adapter") == artifact_files(tmp_path / "left-alone" / "adapter")
    assert not list((tmp_path / "struck" / "store" / "checkpoints").rglob("*.*")), "what ended well needs none"


def test_being_asked_to_end_has_an_exit_code_of_its_own() -> None:
    raised = "from components.common.errors import Preempted; raise Preempted('asked to end')"
    assert subprocess.run([sys.executable, "-c", raised], check=False).returncode == 75


class Stop(Exception):
    """The machine went away."""


@pytest.fixture
def interrupted(base: Path, pairs: Path, tmp_path: Path, context) -> tuple[Checkpoints, Callable[..., dict]]:
    """Checkpoints of a training that was broken off after step 13, and how to try again."""
    from components.model.tune.adapt import run

    here = context("model/tune")

    class Broken(Context):
        def progress(self, done: float, total: float, note: str = "") -> None:
            if done == 13:
                raise Stop

    options = Tune.model_validate({**OPTIONS, "validation": 0, "seed": 99})
    with pytest.raises(Stop):
        run(base, pairs, tmp_path, options, Broken(here.stage, here.environment))
    store = store_of(here.environment)
    [training] = {key.split("/")[1] for key in store.list("checkpoints/")}

    def again(**changed: object) -> dict:
        return run(base, pairs, tmp_path, options.model_copy(update=changed), here).metrics

    yield Checkpoints(store, training, 2), again
    for key in list(store.list("checkpoints/")):
        store.delete(key)


def test_a_checkpoint_belongs_to_one_recipe_and_holds_no_pickle_that_could_act(interrupted, tmp_path: Path) -> None:
    import torch
    from transformers.trainer_pt_utils import safe_globals

    checkpoints, again = interrupted
    assert checkpoints.steps() == [5, 10]
    assert checkpoints.bring_last(tmp_path / "last") == 10
    for file in (tmp_path / "last").rglob("*"):
        assert file.suffix in {".safetensors", ".json", ".jinja", ".pt", ".pth"}, file
        if file.suffix in {".pt", ".pth"}:
            with safe_globals():
                torch.load(file, weights_only=True)
    assert again(learning_rate=2e-3)["resumed_at_step"] == 0
    assert checkpoints.steps() == [5, 10], "another recipe's are left alone"
    assert again(keep_checkpoints=1)["resumed_at_step"] == 10
    assert checkpoints.steps() == []


def test_a_damaged_or_half_written_checkpoint_is_removed_and_a_malicious_one_refused(
    interrupted, tmp_path: Path
) -> None:
    checkpoints, again = interrupted
    store, folder = checkpoints._store, checkpoints._folder
    store.delete(f"{folder}/00000010/{MARKER}")
    assert checkpoints.steps() == [5]
    store.write(f"{folder}/00000010/{MARKER}", store.read(f"{folder}/00000005/{MARKER}"))
    assert checkpoints.bring_last(tmp_path / "last") == 5
    assert checkpoints.damaged == [10]
    assert checkpoints.steps() == [5], "else it would count as newer than what is stored next"

    class Evil:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "owned",)

    (tmp_path / "last" / "optimizer.pt").write_bytes(pickle.dumps(Evil()))
    checkpoints.publish(tmp_path / "last", 5)
    with pytest.raises(HeadraceError, match=r"step 5 .* not safe to load; delete it"):
        again()
    assert not (tmp_path / "owned").exists()


def test_a_store_that_does_not_answer_is_no_damage(tmp_path: Path, context, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(context("model/tune").environment)
    checkpoints = Checkpoints(store, "a" * 64, 2)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "weights.safetensors").write_bytes(b"x")
    checkpoints.publish(tmp_path / "saved", 7)

    def away(key: str, target: Path) -> None:
        raise HeadraceError("the store does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(store, "download", away)
        with pytest.raises(HeadraceError, match="does not answer"):
            checkpoints.bring_last(tmp_path / "last")
    assert checkpoints.bring_last(tmp_path / "last") == 7
    assert checkpoints.damaged == []
    checkpoints.forget()


def test_what_is_damaged_for_one_process_is_for_all(tmp_path: Path, context, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(store_of(context("model/tune").environment), "b" * 64, 2)
    for step in (1, 2):
        (tmp_path / "saved").mkdir()
        (tmp_path / "saved" / "weights.safetensors").write_bytes(b"x")
        checkpoints.publish(tmp_path / "saved", step)
    other = iter([True, False])  # whether another process finds it damaged
    monkeypatch.setattr("components.model.tune.ranks.anyone", lambda is_so: is_so or next(other))
    assert checkpoints.bring_last(tmp_path / "last") == 1
    assert checkpoints.damaged == [2]
    checkpoints.forget()


def test_only_the_newest_and_the_best_checkpoints_stay(tmp_path: Path, context) -> None:
    checkpoints = Checkpoints(store_of(context("model/tune").environment), "t" * 64, 2)
    for step in (1, 2, 3, 4):
        (tmp_path / "saved").mkdir()
        (tmp_path / "saved" / "weights.safetensors").write_bytes(b"x")
        (tmp_path / "saved" / "training_args.bin").write_bytes(b"a pickle")
        checkpoints.publish(tmp_path / "saved", step, best=1)
    assert checkpoints.steps() == [1, 3, 4]
    checkpoints.bring(4, tmp_path / "back")
    assert [file.name for file in (tmp_path / "back").iterdir()] == ["weights.safetensors"]
    checkpoints.forget()
    assert checkpoints.steps() == []


def test_training_stops_when_it_overfits_and_keeps_the_best_weights(
    base: Path, tmp_path: Path, context, write_dialogues
) -> None:
    from transformers import AutoTokenizer

    from components.model.answering import Answerer
    from components.model.merge.combine import add_up
    from components.model.tune.adapt import run

    # Answers that have nothing to do with their questions: what is learned of some is wrong of the others.
    answers = ["red", "seven", "in May", "salt", "north", "no", "twice", "brass", "a fox", "later", "Oslo", "thin"]
    asked = [[("user", f"Question {number}?"), ("assistant", answer)] for number, answer in enumerate(answers * 2)]
    pairs = write_dialogues(tmp_path / "pairs", asked)
    chosen = {"epochs": 30, "memorise": True, "batch_size": 8, "learning_rate": 1e-2, "validation": 0.25, "threads": 1}
    (tmp_path / "adapter").mkdir()
    outcome = run(base, pairs, tmp_path / "adapter", Tune.model_validate(chosen), context("model/tune"))
    training = json.loads((tmp_path / "adapter" / "training.json").read_text())
    losses = dict(training["validation"]["losses"])
    assert training["stopped"] and len(training["losses"]) < 30 * 3
    assert training["steps"] == min(losses, key=losses.__getitem__) == outcome.metrics["steps"]
    assert len([step for step in losses if step > training["steps"]]) == 2
    assert "It overfitted" in outcome.report.html()

    read = read_examples(pairs, AutoTokenizer.from_pretrained(base), 256, Chunks())
    held_out = draw(read.records, 0.25, 32)
    documents = read_table(pairs, ["id", "messages"]).to_pylist()
    dialogues = [document["messages"] for document in documents if document["id"] in held_out]
    assert 1 < len(dialogues) <= 8, "one batch, whose loss is that of the set"
    (tmp_path / "model").mkdir()
    add_up(base, tmp_path / "adapter", tmp_path / "model", "fp32")
    likelihoods = np.concatenate(Answerer.load(tmp_path / "model", "fp32", 1).likelihoods(dialogues, 8))
    assert -likelihoods.mean() == pytest.approx(losses[training["steps"]], rel=0.02)


def test_it_can_be_proven_which_records_an_epoch_saw(base: Path, pairs: Path, tmp_path: Path, context) -> None:
    from transformers import AutoTokenizer

    from components.model.tune.adapt import run

    run(base, pairs, tmp_path, Tune.model_validate({**OPTIONS, "epochs": 2}), context("model/tune"))
    training = json.loads((tmp_path / "training.json").read_text())
    records = read_examples(pairs, AutoTokenizer.from_pretrained(base), 256, Chunks()).records
    held_out = draw(records, OPTIONS["validation"], 32)
    assert 0 < len(held_out) < len(records)
    assert training["validation"]["merkle_root"] == merkle_root(held_out)
    trained = sorted(set(records) - held_out)
    leaves = [leaf_hash(record) for record in trained]
    for epoch in training["epochs"]:
        assert epoch["records"] == len(trained)
        for index, leaf in enumerate(leaves):
            path = audit_path(leaves, index)
            assert root_from_path(leaf, index, len(leaves), path) == epoch["merkle_root"]


def test_a_larger_data_set_keeps_the_validation_records_it_had() -> None:
    records = [f"record {number}" for number in range(1_000)]
    few, many = draw(records[:500], 0.1, 1_000), draw(records, 0.1, 1_000)
    assert few == many & set(records[:500])
    assert 70 < len(many) < 130
    assert len(draw(records, 0.1, 5)) == 5 and draw(records, 0.1, 5) <= many
    assert draw(records[:1], 0.999, 9) == set(), "something is trained on"
    assert draw(records, 0.0, 9) == set()


def test_patience_is_counted_from_the_best() -> None:
    falling = [(1, 3.0), (2, 2.0), (3, 1.0)]
    assert (judge(falling, 2).best, judge(falling, 2).stop) == (3, False)
    assert (judge([*falling, (4, 1.5)], 2).best, judge([*falling, (4, 1.5)], 2).stop) == (3, False)
    assert judge([*falling, (4, 1.5), (5, 1.2)], 2).stop
    assert not judge([*falling, (4, 1.5), (5, 1.2)], 0).stop
    assert not judge([], 2).stop
