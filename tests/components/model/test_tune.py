import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from components.common.documents import DocumentWriter, new_document
from components.common.errors import HeadraceError, UsageError
from components.common.ledger import artifact_files
from components.model.context.options import Context as Stretched
from components.model.context.options import Needles
from components.model.tune.adapt import run
from components.model.tune.inputs import Chunks, Loss
from components.model.tune.options import Tune


def test_training_lowers_the_loss_and_leaves_only_the_adapter(adapter: Path) -> None:
    training = json.loads((adapter / "training.json").read_text())
    assert training["steps"] == len(training["losses"]) == 40
    assert training["final_loss"] < training["losses"][0] / 10
    assert set(artifact_files(adapter)) == {"adapter_config.json", "adapter_model.safetensors", "training.json"}
    described = json.loads((adapter / "adapter_config.json").read_text())
    assert described["base_model_name_or_path"] == "Tiny-Llama"
    assert described["target_modules"] == sorted(described["target_modules"])


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(
    base: Path, facts: Path, tmp_path: Path, context
) -> None:
    made = {}
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        made[name] = tmp_path / name
        made[name].mkdir()
        options = Tune(epochs=2, batch_size=2, seed=seed, threads=1)
        run(base=base, pairs=facts, adapter=made[name], options=options, context=context("model/tune"))
    assert artifact_files(made["first"]) == artifact_files(made["again"])
    weights = "adapter_model.safetensors"
    assert artifact_files(made["first"])[weights] != artifact_files(made["other"])[weights]


def test_what_cannot_be_trained_on_is_counted_by_reason(base: Path, tmp_path: Path, context, write_dialogues) -> None:
    pairs = write_dialogues(
        tmp_path / "pairs",
        [
            [("user", "What does arvo do?"), ("assistant", "parses dates")],
            [("user", "What does belkin do?"), ("assistant", "renders " * 100)],
            [("user", "What does corvid do?")],
            [("user", "What does dasher do?"), ("assistant", "  ")],
        ],
    )
    (tmp_path / "adapter").mkdir()
    outcome = run(
        base=base,
        pairs=pairs,
        adapter=tmp_path / "adapter",
        options=Tune(epochs=1, max_length=64, threads=1),
        context=context("model/tune"),
    )
    assert (outcome.counts_in, outcome.counts_out) == (4, 1)
    assert outcome.dropped == {"no_answer": 2, "too_long": 1}


def test_no_pairs_is_an_error_that_says_why(base: Path, tmp_path: Path, context, write_dialogues) -> None:
    pairs = write_dialogues(tmp_path / "pairs", [[("user", "What does corvid do?")]])
    with pytest.raises(HeadraceError, match="no_answer: 1"):
        run(base=base, pairs=pairs, adapter=tmp_path, options=Tune(), context=context("model/tune"))


def test_a_loss_that_is_no_number_stops_the_run_and_marks_it_failed(
    base: Path, facts: Path, tmp_path: Path, context
) -> None:
    from mlflow import MlflowClient

    options = Tune(epochs=5, memorise=True, batch_size=2, learning_rate=1e30, experiment="diverging", threads=1)
    with pytest.raises(HeadraceError, match=r"the records [0-9a-f]{12}.* lower learning_rate.* checkpoint is kept"):
        run(base=base, pairs=facts, adapter=tmp_path, options=options, context=context("model/tune"))
    client = MlflowClient(context("model/tune").environment.tracking)
    experiment = client.get_experiment_by_name("diverging")
    assert experiment is not None
    assert [tracked.info.status for tracked in client.search_runs([experiment.experiment_id])] == ["FAILED"]


def test_the_run_is_in_mlflow_with_every_loss(adapter: Path, base: Path, facts: Path, context) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(context("model/tune").environment.tracking)
    experiment = client.get_experiment_by_name("headrace")
    assert experiment is not None
    [tracked] = client.search_runs([experiment.experiment_id], "params.epochs = '40'")
    losses = json.loads((adapter / "training.json").read_text())["losses"]
    recorded = client.get_metric_history(tracked.info.run_id, "loss")
    assert [metric.value for metric in sorted(recorded, key=lambda metric: metric.step)] == pytest.approx(
        losses, abs=1e-6
    )
    assert tracked.info.status == "FINISHED"
    assert {"headrace.base", "headrace.pairs", "headrace.code"} <= tracked.data.tags.keys()


@pytest.mark.parametrize(
    "chosen",
    [
        {"method": "dora"},
        {"method": "rslora"},
        {"method": "qlora", "quantization": "nf4"},
        {"method": "qlora", "quantization": "int8"},
        {"method": "full", "learning_rate": 3e-3},
        {"method": "lora", "gradient_checkpointing": True, "accumulation": 2, "mixed_precision": "bf16"},
    ],
    ids=lambda chosen: "-".join(map(str, chosen.values())),
)
def test_every_method_learns_the_facts(base: Path, facts: Path, tmp_path: Path, context, chosen: dict) -> None:
    options = Tune.model_validate(
        {"epochs": 12, "memorise": True, "batch_size": 2, "learning_rate": 1e-2, "threads": 1, **chosen}
    )
    outcome = run(base=base, pairs=facts, adapter=tmp_path, options=options, context=context("model/tune"))
    training = json.loads((tmp_path / "training.json").read_text())
    assert training["final_loss"] < training["losses"][0] / 3
    assert training["steps"] == 12 * 2 // options.accumulation == outcome.metrics["steps"]
    if options.method == "full":
        assert training["weights"]["trained"] == training["weights"]["all"]
        assert training["precision"] == "fp32", "what learns is held in 32 bits"
        assert (tmp_path / "model.safetensors").is_file()
        assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float32"
    else:
        described = json.loads((tmp_path / "adapter_config.json").read_text())
        assert (described["use_dora"], described["use_rslora"]) == (
            options.method == "dora",
            options.method == "rslora",
        )
        assert training["weights"]["trained"] < training["weights"]["all"]
    assert ("bitsandbytes" in training["versions"]) == (options.method == "qlora")


def test_more_than_three_epochs_are_asked_for_by_name() -> None:
    with pytest.raises(ValidationError, match="set epochs to 3 at most, or memorise to true"):
        Tune(epochs=4)
    assert Tune(epochs=4, memorise=True).epochs == 4


def copy_of(base: Path, to: Path, **settings: object) -> Path:
    """The base model with other settings of its tokenizer; None removes one."""
    shutil.copytree(base, to)
    changed = {**json.loads((to / "tokenizer_config.json").read_text()), **settings}
    if "chat_template" in settings:
        (to / "chat_template.jinja").unlink()
    kept = {name: value for name, value in changed.items() if value is not None}
    (to / "tokenizer_config.json").write_text(json.dumps(kept))
    return to


def test_what_cannot_be_trained_is_refused_with_the_fix(base: Path, facts: Path, tmp_path: Path, context) -> None:
    here = context("model/tune")
    with pytest.raises(HeadraceError, match=r"no chat template.*chat_template.jinja"):
        run(copy_of(base, tmp_path / "bare", chat_template=None), facts, tmp_path, Tune(), here)
    with pytest.raises(HeadraceError, match=r"no end-of-sequence token.*eos_token"):
        run(copy_of(base, tmp_path / "endless", eos_token=None), facts, tmp_path, Tune(), here)
    with pytest.raises(UsageError, match="max_length is 4,096, and Tiny-Llama has a context of 256 tokens; set max_le"):
        run(base, facts, tmp_path, Tune(max_length=4096), here)
    with pytest.raises(UsageError, match=r"fp16, which needs a GPU.*set it to bf16 or none"):
        run(base, facts, tmp_path, Tune(mixed_precision="fp16"), here)


def test_without_a_pad_token_the_end_of_an_answer_is_still_learned(
    base: Path, facts: Path, tmp_path: Path, context
) -> None:
    from transformers import AutoTokenizer

    from components.model.tune.loss import CompletionTrainer

    unpadded = copy_of(base, tmp_path / "unpadded", pad_token=None, unk_token=None)
    assert AutoTokenizer.from_pretrained(unpadded).pad_token is None
    scored = set()

    def look(trainer: CompletionTrainer, model: object, inputs: dict, *args: object, **named: object) -> object:
        scored.update(inputs["labels"][inputs["labels"] != -100].tolist())
        return compute(trainer, model, inputs, *args, **named)

    compute = CompletionTrainer.compute_loss
    (tmp_path / "adapter").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CompletionTrainer, "compute_loss", look)
        run(unpadded, facts, tmp_path / "adapter", Tune(epochs=1, batch_size=4, threads=1), context("model/tune"))
    assert AutoTokenizer.from_pretrained(base).eos_token_id in scored


def test_full_memory_says_which_setting_to_change(base: Path, facts: Path, tmp_path: Path, context) -> None:
    import torch

    from components.model.tune.faults import out_of_memory
    from components.model.tune.loss import CompletionTrainer

    def swallow(*_: object, **__: object) -> torch.Tensor:
        return torch.empty(1 << 60)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CompletionTrainer, "compute_loss", swallow)
        with pytest.raises(
            HeadraceError,
            match=r"out of memory in step 1, with method lora, .* batch_size 8, .*; set batch_size to 4 and accum.* 2",
        ):
            run(base, facts, tmp_path, Tune(threads=1), context("model/tune"))
    alone = {"batch_size": 1, "gradient_checkpointing": True}
    assert "set gradient_checkpointing to true" in str(out_of_memory(Tune(batch_size=1), 1))
    assert "set method to qlora" in str(out_of_memory(Tune.model_validate(alone), 1))
    assert "lower max_length" in str(out_of_memory(Tune.model_validate({**alone, "method": "qlora"}), 1))


def test_short_pairs_share_rows_and_long_texts_are_learnt_in_chunks(base: Path, tmp_path: Path, context) -> None:
    rows = [
        {"text": "Corvid parses dates. " * 30},
        *({"messages": [("user", f"What is {name}?"), ("assistant", f"{name} it is")]} for name in ("arvo", "belkin")),
        {"messages": [("user", "dasher?"), ("assistant", "형태소 분석")], "metadata": {"weight": "2"}},
    ]
    pairs, adapter = tmp_path / "pairs", tmp_path / "adapter"
    with DocumentWriter(pairs) as writer:
        writer.write(
            new_document(
                source="test",
                url=str(number),
                text=row.get("text", ""),
                retrieved_at=datetime(2026, 1, 1, tzinfo=UTC),
                messages=[{"role": role, "content": content} for role, content in row.get("messages", [])],
                metadata=row.get("metadata", {}),
            )
            for number, row in enumerate(rows)
        )
    adapter.mkdir()
    options = Tune(
        epochs=1,
        batch_size=1,
        max_length=96,
        packing=True,
        chunks=Chunks(on=True, overlap=8),
        order="short_first",
        validation=0,
        loss=Loss(length_weight=0.5, label_smoothing=0.1),
        threads=1,
    )
    outcome = run(base=base, pairs=pairs, adapter=adapter, options=options, context=context("model/tune"))
    training = json.loads((adapter / "training.json").read_text())
    examples = training["examples"]
    assert (examples["dialogues"], examples["texts"], examples["split"], outcome.counts_out) == (3, 1, 1, 4)
    assert examples["sequences"] > examples["rows"] == training["steps"]
    assert 0.5 < examples["fill"] <= 1


def test_a_stretched_context_survives_merging_and_reaches_llama_cpp(
    base: Path, facts: Path, tmp_path: Path, context
) -> None:
    from gguf import GGUFReader

    from components.model.align.trainers import load_tuned
    from components.model.merge.combine import run as merge
    from components.model.merge.options import Merge

    adapter, candidate = tmp_path / "adapter", tmp_path / "candidate"
    adapter.mkdir()
    candidate.mkdir()
    needles = Needles(lengths=[1.0], depths=[0.5])
    options = Tune(
        epochs=1, max_length=512, context=Stretched(method="yarn", factor=4.0, needles=needles), threads=1, validation=0
    )
    outcome = run(base=base, pairs=facts, adapter=adapter, options=options, context=context("model/tune"))
    found = json.loads((adapter / "training.json").read_text())["needles"]
    assert [(cell["language"], cell["length"], cell["asked"]) for cell in found["after"]] == [
        ("en", 512, 1),
        ("ko", 512, 1),
    ]
    assert "Facts in long texts" in outcome.report.html()
    assert load_tuned(base, adapter, "fp32").config.max_position_embeddings == 1024
    merge(base=base, adapter=adapter, candidate=candidate, options=Merge(), context=context("model/merge"))
    config = json.loads((candidate / "config.json").read_text())
    assert config["max_position_embeddings"] == 1024
    assert (config["rope_parameters"]["rope_type"], config["rope_parameters"]["factor"]) == ("yarn", 4.0)
    fields = GGUFReader(candidate / "model-q8_0.gguf").fields
    assert fields["llama.rope.scaling.type"].contents() == "yarn"
    assert fields["llama.rope.scaling.factor"].contents() == 4.0
    assert fields["llama.rope.scaling.original_context_length"].contents() == 256
    assert fields["llama.context_length"].contents() == 1024
