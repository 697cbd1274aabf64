"""What the loop of model/tune costs over trl's SFTTrainer called by hand, what a checkpoint costs, and the methods.

.venv/bin/pytest -m benchmark tests/benchmarks/test_tune.py

The model is SmolLM2 cut to four of its thirty layers, on one thread: its steps are short, so whatever a loop adds to
them weighs more than it would on the whole model. All sides of the comparison train it in this process on the same
pairs with the same adapter, a round of each in turn. A step is timed from one report of a loss to the next, so that all
that happens between two steps is in it.
"""

import multiprocessing
import resource
import shutil
import statistics
import time
from collections.abc import Callable
from importlib.metadata import distributions
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import components.model  # noqa: F401  settings that torch reads when it is imported
from components.common.documents import DocumentWriter, new_document
from components.common.environment import Environment
from components.common.step import Context

LAYERS, BATCH, STEPS, ROUNDS, RATE = 4, 8, 6, 3, 2e-3
METHODS: list[dict[str, Any]] = [
    {"method": "lora", "precision": "bf16"},
    {"method": "qlora", "quantization": "nf4"},
    {"method": "qlora", "quantization": "int8"},
    {"method": "dora", "precision": "bf16"},
    {"method": "full", "learning_rate": 3e-4},
]
MOST_OVERHEAD = 0.03
CHECKPOINT_EVERY = 50


class Clock(Context):
    """Notes the processor and wall seconds of each step of our loop."""

    marks: list[tuple[float, float]] = []  # noqa: RUF012  a frozen dataclass has no other place

    def progress(self, done: float, total: float, note: str = "") -> None:
        """A step was reported."""
        self.marks.append((time.process_time(), time.perf_counter()))


def questions() -> list[tuple[str, str]]:
    """What the installed packages say that they do."""
    said = {one.name: " ".join((one.metadata.get("Summary") or "").split()) for one in distributions()}
    known = [(f"What does the package {name} do?", what) for name, what in sorted(said.items()) if 20 < len(what) < 90]
    return known[: BATCH * STEPS]


def cut(whole: Path, to: Path) -> Path:
    """A base model with its first layers only."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(whole, dtype=torch.bfloat16)
    model.model.layers = model.model.layers[:LAYERS]
    model.config.num_hidden_layers = LAYERS
    model.save_pretrained(to)
    for file in whole.iterdir():
        if file.suffix in (".json", ".jinja") and not (to / file.name).exists():
            shutil.copyfile(file, to / file.name)
    return to


def written(pairs: list[tuple[str, str]], folder: Path) -> Path:
    from datetime import UTC, datetime

    when = datetime(2026, 1, 1, tzinfo=UTC)
    with DocumentWriter(folder) as writer:
        writer.write(
            new_document(
                source="packages",
                url=asked,
                text=f"{asked}\n{told}",
                retrieved_at=when,
                kind="dialogue",
                messages=[{"role": "user", "content": asked}, {"role": "assistant", "content": told}],
            )
            for asked, told in pairs
        )
    return folder


def by_hand(kind: type, base: Path, pairs: list[tuple[str, str]], scratch: Path) -> list[tuple[float, float]]:
    """The call of trl's documentation, with the same settings."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
    from trl import SFTConfig

    marks: list[tuple[float, float]] = []

    class Marks(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in logs:
                marks.append((time.process_time(), time.perf_counter()))

    rows = [
        {"prompt": [{"role": "user", "content": asked}], "completion": [{"role": "assistant", "content": told}]}
        for asked, told in pairs
    ]
    trainer = kind(
        model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, attn_implementation="eager"),
        processing_class=AutoTokenizer.from_pretrained(base),
        train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        args=SFTConfig(
            output_dir=str(scratch),
            num_train_epochs=1,
            per_device_train_batch_size=BATCH,
            learning_rate=RATE,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            optim="adamw_torch_fused",
            train_sampling_strategy="group_by_length",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        callbacks=[Marks()],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return marks


def ours(base: Path, pairs: Path, folder: Path, **chosen: Any) -> list[tuple[float, float]]:
    """The step's own call, with tracking."""
    from components.model.tune.adapt import run
    from components.model.tune.options import Tune

    place = Environment(
        name="benchmark",
        store=f"file://{folder}/store",
        tracking=f"sqlite:///{folder}/mlflow.db",
        signing_key=str(folder / "ledger.pem"),
    )
    clock = Clock("model/tune", place)
    clock.marks.clear()
    adapter = folder / "adapter"
    adapter.mkdir(parents=True, exist_ok=True)
    options = {
        "epochs": 1,
        "batch_size": BATCH,
        "learning_rate": RATE,
        "validation": 0,
        "checkpoint_every": 0,
        "threads": 1,
    }
    run(base, pairs, adapter, Tune.model_validate(options | chosen), clock)
    return list(clock.marks)


def between(marks: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(after[0] - before[0], after[1] - before[1]) for before, after in pairwise(marks)]


def compare(base: Path, folder: Path) -> dict[str, tuple[float, float]]:
    """Median processor and wall seconds of a step on each side, and what a checkpoint adds to one."""
    from trl import SFTTrainer

    from components.model.tune.loss import CompletionTrainer

    pairs = questions()
    documents = written(pairs, folder / "pairs")
    sides: dict[str, Callable[[], list[tuple[float, float]]]] = {
        "model/tune": lambda: ours(base, documents, folder / "ours"),
        "trl by hand": lambda: by_hand(SFTTrainer, base, pairs, folder / "theirs"),
        "trl by hand, our loss": lambda: by_hand(CompletionTrainer, base, pairs, folder / "theirs"),
    }
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, train in sides.items():
            spent[name] += between(train())
    found = {name: _medians(steps) for name, steps in spent.items()}
    checkpointed = _medians(between(ours(base, documents, folder / "kept", checkpoint_every=1)))
    found["checkpoint"] = tuple(
        with_one - alone for with_one, alone in zip(checkpointed, found["model/tune"], strict=True)
    )
    return found


def _medians(steps: list[tuple[float, float]]) -> tuple[float, float]:
    cpu, wall = zip(*steps, strict=True)
    return statistics.median(cpu), statistics.median(wall)


def show(found: dict[str, tuple[float, float]]) -> float:
    """Print the ratios; returns how much longer a step takes than trl's with the same loss, of processor time."""
    cpu, _ = found["model/tune"]
    print(f"\nSmolLM2, {LAYERS} layers, batches of {BATCH} pairs, LoRA 16, bf16, one thread; a step: {cpu:.2f} CPU s")
    for name, (theirs, _) in found.items():
        if name.startswith("trl"):
            print(f"  model/tune to {name}: {cpu / theirs:.3f}")
    extra = found["checkpoint"][0]
    print(f"  a checkpoint: {extra:.2f} CPU s; every {CHECKPOINT_EVERY} steps {extra / CHECKPOINT_EVERY / cpu:.2%}")
    return cpu / found["trl by hand, our loss"][0] - 1


def try_method(base: Path, pairs: Path, folder: Path, chosen: dict[str, Any], told: Any) -> None:
    """Train with a method in a process of its own, and say how it went."""
    from components.model.versions import TRAINING, read_json

    marks = ours(base, pairs, folder, epochs=3, **chosen)
    losses = read_json(folder / "adapter" / TRAINING)["losses"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told.put((_medians(between(marks))[0], peak, losses))


def show_methods(base: Path, folder: Path) -> list[list[float]]:
    """Print seconds, memory and loss of each method; returns the losses of each step."""
    import trl  # noqa: F401  once, for all that are forked

    import components.model.tune.adapt  # noqa: F401

    documents = written(questions(), folder / "pairs")
    context, found = multiprocessing.get_context("fork"), []
    for number, chosen in enumerate(METHODS):
        told = context.Queue()
        child = context.Process(target=try_method, args=(base, documents, folder / str(number), chosen, told))
        child.start()
        seconds, peak, losses = told.get()
        child.join()
        every = " ".join(f"{loss:.2f}" for loss in losses[:: max(1, len(losses) // 6)])
        print(f"  {' '.join(map(str, chosen.values()))}: {seconds:.2f} CPU s a step, {peak:,.0f} MiB, loss {every}")
        found.append(losses)
    return found


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from components.model.fetch.bring import run as fetch
    from components.model.fetch.options import Fetch

    folder = tmp_path_factory.mktemp("base")
    whole = folder / "whole"
    whole.mkdir()
    place = Environment(name="benchmark", store=f"file://{folder}/store", tracking="", signing_key="")
    fetch(base=whole, options=Fetch(), context=Context("model/fetch", place))
    return cut(whole, folder / "cut")


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_every_method_learns_on_a_cpu(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print()
        for losses in show_methods(base, tmp_path):
            assert losses[-1] < losses[0]


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_the_loop_costs_next_to_nothing_over_trl_by_hand(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        overhead = show(compare(base, tmp_path))
    assert overhead < MOST_OVERHEAD
