"""Alignment changes the tuned model as its method says, from it and not from the bare base, or leaves it as it is."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from components.common.documents import DocumentWriter, new_document
from components.common.errors import HeadraceError, Preempted, UsageError
from components.common.ledger import artifact_files
from components.common.sealed_store import store_of
from components.common.step import Context
from components.data.prefer.wordings import ask_in
from components.model.align.hand_on import run
from components.model.align.options import UNUSED, Align

Said = Sequence[tuple[str, str]]
FACTS = {
    "Under which licence is arvo released?": "MIT",
    "What does belkin do?": "renders templates",
    "Which Python does corvid need?": ">=3.10",
    "dasher 패키지의 용도는 무엇인가요?": "형태소 분석",
}
QUICK: dict[str, Any] = {
    "threads": 1,
    "asked": 4,
    "resamples": 100,
    "batch_size": 2,
    "reinforcement": {"max_new_tokens": 6},
}


def quick(method: str) -> dict[str, Any]:
    """Options of a short alignment, without those that the method has no use for."""
    return {name: value for name, value in QUICK.items() if name not in UNUSED[method]}


def write(path: Path, dialogues: Sequence[tuple[Said, dict[str, str]]], **fields: Any) -> Path:
    with DocumentWriter(path) as writer:
        writer.write(
            new_document(
                source="test",
                url=str(number),
                text="\n".join(content for _, content in said),
                retrieved_at=datetime(2026, 1, 1, tzinfo=UTC),
                kind="dialogue",
                messages=[{"role": role, "content": content} for role, content in said],
                metadata=metadata,
                **{"pii": "none", **fields},
            )
            for number, (said, metadata) in enumerate(dialogues)
        )
    return path


@pytest.fixture(scope="session")
def preferences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every fact with another's answer as the rejected one, and in JSON with a broken one."""
    dialogues: list[tuple[Said, dict[str, str]]] = []
    answers = list(FACTS.values())
    for number, (question, answer) in enumerate(FACTS.items()):
        other = answers[(number + 1) % len(answers)]
        group = {"group": f"fact {number}"}
        dialogues.append(([("user", question), ("assistant", answer), ("rejected", other)], group))
        language = "ko" if "패키지" in question else "en"
        asked = ask_in("json", language, question, answer, "")
        said = [("user", asked.question), ("assistant", asked.answer), ("rejected", asked.answer[:-2])]
        dialogues.append((said, {**group, "answer_format": "json", "schema": asked.schema}))
    return write(tmp_path_factory.mktemp("preferences"), dialogues)


@pytest.fixture
def aligned(
    base: Path, adapter: Path, preferences: Path, tmp_path: Path, context: Callable[[str], Context]
) -> Callable[..., tuple[Path, dict[str, Any]]]:
    """Align the tuned tiny model; gives the folder and what `alignment.json` says."""

    def align(name: str = "aligned", given: Path = preferences, **options: Any) -> tuple[Path, dict[str, Any]]:
        outputs = {"aligned": tmp_path / name, "reward": tmp_path / f"{name}-reward"}
        for path in outputs.values():
            path.mkdir()
        chosen = Align.model_validate({**quick(options.get("method", "none")), **options})
        run(base, adapter, given, **outputs, options=chosen, context=context("model/align"))
        return outputs["aligned"], json.loads((outputs["aligned"] / "alignment.json").read_text())

    return align


def test_none_hands_the_adapter_on_byte_by_byte_and_loads_nothing_heavy(
    base: Path, adapter: Path, preferences: Path, tmp_path: Path
) -> None:
    program = f"""
import sys
from pathlib import Path
from components.common.environment import Environment
from components.common.sealed_store import store_of
from components.common.step import Context
from components.model.align.hand_on import run
from components.model.align.options import Align
at = Path({str(tmp_path)!r})
(at / "reward").mkdir()
place = Environment(name="test", store=f"file://{{at}}", tracking="", signing_key="")
run(Path({str(base)!r}), Path({str(adapter)!r}), Path({str(preferences)!r}), at / "aligned", at / "reward",
    Align(), Context("model/align", place))
heavy = {{"torch", "transformers", "trl", "peft", "mlflow", "datasets"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert artifact_files(tmp_path / "aligned") == artifact_files(adapter)
    assert not list((tmp_path / "reward").iterdir())


@pytest.mark.parametrize("method", ["orpo", *(pytest.param(one, marks=pytest.mark.slow) for one in ("dpo", "kto"))])
def test_preferences_make_chosen_answers_likelier_than_rejected_ones(aligned, adapter: Path, method: str) -> None:
    path, record = aligned(method=method, epochs=6, learning_rate=5e-3)
    weights = "adapter_model.safetensors"
    assert set(artifact_files(path)) == {*artifact_files(adapter), "alignment.json"}, "no reference copy is left"
    assert artifact_files(path)[weights] != artifact_files(adapter)[weights]
    assert artifact_files(path)["training.json"] == artifact_files(adapter)["training.json"]
    curve = record["curves"]
    assert record["run"].startswith("headrace/align-")
    assert record["steps"] == len(curve["loss"]) and record["trained_on"] == 6 and record["held_out"] == 2
    assert curve["loss"][-1] < curve["loss"][0]
    if method != "kto":
        assert curve["accuracy"][-1] == 1 and curve["margin"][-1] > curve["margin"][0]
    for metric in record["metrics"]:
        assert metric["interval"][0] <= metric["value"] <= metric["interval"][1]
        assert metric["base_interval"][0] <= metric["base_value"] <= metric["base_interval"][1]
    assert {metric["name"] for metric in record["metrics"]} == {"preferred", "exact", "kept_format", "reward"}


@pytest.mark.parametrize("method", ["dpo", "kto", "grpo"])
def test_the_reference_is_the_tuned_model_and_not_the_bare_base(
    base: Path, adapter: Path, preferences: Path, tmp_path: Path, method: str
) -> None:
    import torch
    from transformers import AutoTokenizer
    from trl.trainer.utils import use_adapter

    from components.model.align.preferences import read_preferences
    from components.model.align.trainers import REFERENCE, load_tuned, make_trainer

    options = Align.model_validate({**quick(method), "method": method})
    tokenizer = AutoTokenizer.from_pretrained(base)
    training = read_preferences(preferences, tokenizer, options).training
    network = load_tuned(base, adapter, "fp32")
    ids = torch.tensor([tokenizer("Under which licence is arvo released?")["input_ids"]])
    with torch.inference_mode():
        tuned = network(ids).logits
        with network.disable_adapter():
            bare = network(ids).logits
    trainer = make_trainer(network, tokenizer, training, options, None, tmp_path)
    assert trainer.ref_model is None, "trl then takes the adapter of this name"
    with torch.inference_mode(), use_adapter(trainer.model, adapter_name=REFERENCE):
        reference = trainer.model(ids).logits
    assert torch.equal(reference, tuned) and not torch.allclose(reference, bare)
    learns = [name for name, weights in trainer.model.named_parameters() if weights.requires_grad]
    assert learns and not [name for name in learns if f".{REFERENCE}." in name]


def test_whole_weights_are_aligned_against_themselves_and_stay_whole(
    base: Path, adapter: Path, preferences: Path, tmp_path: Path, context
) -> None:
    from components.model.align.trainers import load_tuned

    whole = tmp_path / "whole"
    load_tuned(base, adapter, "fp32", learns=False).merge_and_unload().save_pretrained(whole)
    (whole / "training.json").write_bytes((adapter / "training.json").read_bytes())
    outputs = {"aligned": tmp_path / "aligned", "reward": tmp_path / "reward"}
    options = Align.model_validate({**QUICK, "method": "dpo", "learning_rate": 1e-3, "epochs": 3})
    run(base, whole, preferences, **outputs, options=options, context=context("model/align"))
    record = json.loads((outputs["aligned"] / "alignment.json").read_text())
    assert record["curves"]["loss"][0] == pytest.approx(0.693147, abs=1e-4), "it begins at its own reference"
    assert record["curves"]["loss"][-1] < 0.5
    before, after = artifact_files(whole), artifact_files(outputs["aligned"])
    assert set(after) == {*before, "alignment.json"} and before["model.safetensors"] != after["model.safetensors"]


def test_the_same_seed_gives_the_same_bytes(aligned) -> None:
    first, _ = aligned("first", method="dpo")
    again, _ = aligned("again", method="dpo")
    other, _ = aligned("other", method="dpo", seed=5)
    assert artifact_files(first) == artifact_files(again)
    assert artifact_files(first)["adapter_model.safetensors"] != artifact_files(other)["adapter_model.safetensors"]


@pytest.mark.parametrize(("method", "damaged"), [("dpo", True), ("grpo", False)])
def test_an_interrupted_alignment_ends_with_the_bytes_of_one_that_was_not(
    aligned, base: Path, adapter: Path, preferences: Path, tmp_path: Path, context, method: str, damaged: bool
) -> None:
    wanted = {"steps": 6, "answers": 2, "prompts": 1, "max_new_tokens": 4}
    epochs = {"epochs": 2} if method == "dpo" else {}
    options = {"method": method, **epochs, "reinforcement": wanted, "learning_rate": 1e-3, "checkpoint_every": 2}
    whole, _ = aligned("whole", **options)

    class Struck(Context):
        def progress(self, done: float, total: float, note: str = "") -> None:
            if note.startswith(method) and done == 3:
                os.kill(os.getpid(), signal.SIGTERM)

    place = context("model/align").environment
    outputs = {"aligned": tmp_path / "aligned", "reward": tmp_path / "reward"}
    given = (base, adapter, preferences, *outputs.values(), Align.model_validate({**quick(method), **options}))
    with pytest.raises(Preempted, match=f"asked to end after step 4 of .* \\({method}\\)"):
        run(*given, Struck("model/align", place))
    assert not outputs["aligned"].exists(), "nothing half done is handed on"
    if damaged:
        [key] = [key for key in store_of(place).list("checkpoints/") if key.endswith("/00000004/optimizer.pt")]
        store_of(place).delete(key)
    outcome = run(*given, Context("model/align", place))
    assert outcome.metrics["resumed_at_step"] == (2 if damaged else 4)
    removed = f"The checkpoint of step 4 ({method}) was damaged and has been removed."
    assert (removed in outcome.report.html()) == damaged
    assert artifact_files(outputs["aligned"]) == artifact_files(whole)
    assert not list(store_of(place).list("checkpoints/")), "what has ended well leaves no checkpoints"


def test_grpo_follows_its_rewards_and_reports_the_divergence(aligned) -> None:
    wanted = {
        "steps": 3,
        "answers": 4,
        "prompts": 1,
        "max_new_tokens": 6,
        "rewards": {"exact": 1, "overlap": 1, "format": 0},
    }
    _, record = aligned(method="grpo", reinforcement=wanted, learning_rate=1e-3)
    curves = record["curves"]
    assert record["steps"] == 3
    assert {"loss", "reward", "reward_exact", "reward_overlap", "kl"} <= set(curves)
    assert "reward_format" not in curves, "what has no weight is not computed"
    assert curves["kl"][0] == pytest.approx(0, abs=1e-4) and all(0 <= value <= 2 for value in curves["reward"])


def test_a_reward_model_is_trained_measured_saved_and_followed(
    aligned, base: Path, adapter: Path, preferences: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    from components.model.align.preferences import read_preferences
    from components.model.align.reward_model import load_model, weigh_model

    options = {
        "method": "rlhf",
        "reinforcement": {"steps": 2, "answers": 2, "prompts": 1, "max_new_tokens": 6},
        "reward_model": {"require_above_chance": False, "epochs": 8, "learning_rate": 5e-3},
    }
    _, record = aligned(**options)
    found = record["reward_model"]
    assert found["interval"][0] <= found["accuracy"] <= found["interval"][1] and found["held_out"] == 2
    assert found["curves"]["accuracy"][-1] == 1 and "kl" in record["curves"]
    reward = tmp_path / "aligned-reward"
    assert set(artifact_files(reward)) == {"adapter_config.json", "adapter_model.safetensors", "reward.json"}
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = load_model(base, adapter, reward, tokenizer)
    chosen = Align.model_validate({**QUICK, **options})
    read = read_preferences(preferences, tokenizer, chosen)
    assert weigh_model(model, read.held_out, chosen)["accuracy"] == found["accuracy"]
    for one in read.training:
        answers = [[*one.prompt, {"role": "assistant", "content": text}] for text in (one.chosen, one.rejected)]
        good, bad = model.judge(answers)
        assert 0 < bad < good < 1


def test_a_reward_model_that_may_be_guessing_stops_the_run(aligned) -> None:
    with pytest.raises(HeadraceError, match="of 2 held-out pairs, which may be chance"):
        aligned(method="rlhf", reward_model={"epochs": 1})


@pytest.mark.parametrize(
    ("said", "method", "problem"),
    [
        ([], "dpo", "none of the 0 preferences can be used by dpo"),
        ([("assistant", "Yes.")], "dpo", "unpaired: 3"),
        ([("assistant", "Yes."), ("rejected", "Yes. ")], "orpo", "same_answers: 3"),
        ([("assistant", " ")], "kto", "no_answer: 3"),
        ([("assistant", "Yes.")], "kto", "every answer that kto would train on is good"),
        ([("rejected", "No.")], "kto", "every answer that kto would train on is bad"),
        ([("rejected", "No.")], "grpo", "no_right_answer: 3"),
        ([("assistant", "Yes."), ("rejected", "No.<|im_end|>")], "dpo", "special_token: 3"),
        ([("assistant", "Yes."), ("rejected", " ")], "dpo", "unpaired: 3"),
        ([("assistant", "Yes " * 300), ("rejected", "No.")], "dpo", "too_long: 3"),
    ],
)
def test_preferences_that_teach_nothing_are_an_error_that_says_why(
    aligned, tmp_path: Path, said: Said, method: str, problem: str
) -> None:
    given = write(tmp_path / "given", [([("user", f"{n}?"), *said], {}) for n in range(3 if said else 0)])
    with pytest.raises(HeadraceError, match=problem):
        aligned(given=given, method=method)


def test_tools_and_schemas_are_told_as_in_tuning_where_the_words_do_not_tell_them(base: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from components.model.align.preferences import read_preferences
    from components.model.tune.render import Renderer

    schema, tools = '{"type": "object"}', '[{"type": "function", "function": {"name": "open"}}]'
    said = [("assistant", "{}"), ("rejected", "[]")]
    asked = [
        (f"JSON of {schema}?", {"schema": schema}),
        ("JSON?", {"schema": schema}),
        ("Open it.", {"tools": tools}),
    ]
    given = write(tmp_path / "given", [([("user", one), *said], stated) for one, stated in asked])
    options = Align.model_validate({**QUICK, "method": "dpo"})
    tokenizer = AutoTokenizer.from_pretrained(base)
    read = read_preferences(given, tokenizer, options)
    assert not read.dropped
    prompts = {one.prompt[-1]["content"]: one.prompt for one in (*read.training, *read.held_out)}
    assert len(prompts[asked[0][0]]) == 1, "what its words say is not said twice"
    for question, stated in asked[1:]:
        dialogue = [{"role": "user", "content": question}, {"role": "assistant", "content": "{}"}]
        [tuned] = Renderer(tokenizer).render([dialogue], [stated.get("tools", "")], [stated.get("schema", "")])
        aligned = tokenizer.apply_chat_template(prompts[question], add_generation_prompt=True, return_dict=False)
        assert tuned.tokens[: tuned.answer] == list(aligned)
    tokenizer.chat_template = "{% if tools %}{{ tools }}{% endif %}" + tokenizer.chat_template
    read = read_preferences(given, tokenizer, options)
    assert read.dropped == {"untold": 1} and len(read.training) == len(read.held_out) == 1
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system message') }}{% endif %}"
    tokenizer.chat_template = refusing + AutoTokenizer.from_pretrained(base).chat_template
    with pytest.raises(HeadraceError, match="untold: 2"):
        read_preferences(given, tokenizer, options)


def test_one_question_is_too_few(aligned, tmp_path: Path) -> None:
    said = [("user", "Open?"), ("assistant", "Yes."), ("rejected", "No.")]
    with pytest.raises(HeadraceError, match="too few to hold some out"):
        aligned(given=write(tmp_path / "given", [(said, {})]), method="dpo")


def test_a_training_that_diverges_stops(aligned) -> None:
    with pytest.raises(HeadraceError, match="lower learning_rate"):
        aligned(method="orpo", learning_rate=1e30, epochs=5)


def test_an_adapter_of_another_base_is_refused(
    aligned, adapter: Path, base: Path, preferences: Path, tmp_path: Path, context
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in adapter.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    (other / "training.json").write_text('{"base": "Another"}')
    with pytest.raises(HeadraceError, match="trained on Another, not on Tiny-Llama"):
        run(base, other, preferences, tmp_path / "a", tmp_path / "r", Align(method="dpo"), context("model/align"))


@pytest.mark.parametrize(
    ("training", "gpus", "problem"),
    [
        ({"base": "Tiny", "options": {"method": "qlora"}}, 0, "set model.tune.method to lora"),
        (
            {"base": "Tiny", "options": {"method": "lora"}},
            2,
            "sees 2, .*sizes.align.accelerators of the environment to 1",
        ),
    ],
)
def test_what_cannot_be_aligned_is_refused(training: dict[str, Any], gpus: int, problem: str) -> None:
    from components.model.align.train import refuse_impossible

    with pytest.raises(UsageError, match=problem):
        refuse_impossible(training, "Tiny", gpus)
    refuse_impossible({"base": "Tiny", "options": {"method": "lora"}}, "Tiny", 1)


def test_more_questions_in_a_step_than_there_are_is_an_error(aligned) -> None:
    with pytest.raises(HeadraceError, match=r"reinforcement\.prompts is 7, and there are 6 questions.*set it to 6"):
        aligned(method="grpo", reinforcement={"prompts": 7, "steps": 1})


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"method": "dpo"}, r"step 1 \(dpo\); lower batch_size \(4\) or max_length \(256\), or take a smaller base"),
        ({"method": "kto", "batch_size": 2}, r"\(kto\); lower max_length \(256\), or"),
        (
            {"method": "grpo", "reinforcement": {"prompts": 1}},
            r"lower reinforcement.answers \(4\) or reinforcement.max_new_tokens \(48\), or",
        ),
    ],
)
def test_full_memory_names_what_takes_less(options: dict[str, Any], problem: str) -> None:
    from components.model.align.fit import out_of_memory

    chosen = Align.model_validate(options)
    with pytest.raises(HeadraceError, match=problem):
        raise out_of_memory(chosen, chosen.method, 1)


def test_full_memory_and_gradients_that_are_no_numbers_end_in_a_sentence(
    aligned, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from trl import DPOTrainer

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError

    with monkeypatch.context() as patched, pytest.raises(HeadraceError, match="out of memory in step 1"):
        patched.setattr(DPOTrainer, "compute_loss", full)
        aligned("full", method="dpo")
    infinite = torch.tensor(float("inf"))
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_, **__: infinite)
    with pytest.raises(HeadraceError, match="gradient's length is inf in step 1; lower learning_rate"):
        aligned("steep", method="dpo")


def test_questions_that_are_the_same_in_other_letters_are_on_one_side(base: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from components.model.align.preferences import read_preferences

    def asked(question: str, group: str) -> tuple[Said, dict[str, str]]:
        return [("user", question), ("assistant", "Yes."), ("rejected", "No.")], {"group": group}

    dialogues = []
    for n in range(6):
        dialogues += [
            asked(f"Is  {n} open?", f"a{n}"),
            asked(f"is {n} OPEN?", f"b{n}"),
            asked(f"Closed, {n}?", f"b{n}"),
        ]
    options = Align.model_validate({**QUICK, "method": "dpo", "held_out": 0.5})
    read = read_preferences(write(tmp_path / "given", dialogues), AutoTokenizer.from_pretrained(base), options)
    numbers = [{one.asked.prompt.strip("?").split()[1] for one in side} for side in (read.training, read.held_out)]
    assert len(read.training) == len(read.held_out) == 9 and numbers[0].isdisjoint(numbers[1])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"method": "rlhf", "reinforcement": {"kl": 0}}, "games its reward model"),
        ({"method": "kto", "batch_size": 1}, "set batch_size to 2"),
        ({"method": "grpo", "beta": 0.2}, "grpo has no use for beta; leave it out"),
        ({"method": "kto", "anchor": 0.5}, "kto has no use for anchor"),
        ({"reinforcement": {"rewards": {"exact": 0, "format": 0}}}, "give one of them a weight"),
        ({"reinforcement": {"rewards": {"exactness": 1}}}, "exactness"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Align.model_validate(options)


def test_questions_are_split_whole_and_the_report_quotes_only_what_it_may(
    base: Path, adapter: Path, tmp_path: Path, context
) -> None:
    from transformers import AutoTokenizer

    from components.model.align.preferences import read_preferences

    said = [([("user", f"Secret {n // 2}?"), ("assistant", f"Yes {n}."), ("rejected", "No.")], {}) for n in range(12)]
    given = write(tmp_path / "given", said, confidentiality="confidential")
    options = Align.model_validate({**QUICK, "method": "dpo", "held_out": 0.5})
    read = read_preferences(given, AutoTokenizer.from_pretrained(base), options)
    assert {one.group for one in read.training}.isdisjoint({one.group for one in read.held_out})
    assert len(read.training) == len(read.held_out) == 6
    outcome = run(base, adapter, given, tmp_path / "a", tmp_path / "r", options, context("model/align"))
    assert "Secret" not in outcome.report.html() and "Yes" not in outcome.report.html()
    assert "not known that all that the model was trained on may be quoted" in outcome.report.html()
    assert json.loads((tmp_path / "a" / "alignment.json").read_text())["quotable"] is False


def test_the_run_is_in_mlflow_with_its_curves(aligned, context) -> None:
    from mlflow import MlflowClient

    from components.model.tracking import read_file

    _, record = aligned(method="dpo", experiment="aligning")
    client = MlflowClient(context("model/align").environment.tracking)
    experiment = client.get_experiment_by_name("aligning")
    assert experiment is not None
    [tracked] = client.search_runs([experiment.experiment_id])
    assert record["run"] == f"aligning/{tracked.info.run_name}"
    assert read_file(context("model/align").environment, tracked, "recipe.yaml") == {
        "model": {"align": record["options"]}
    }
    assert tracked.data.params["method"] == "dpo" and tracked.data.params["reinforcement.kl"] == "0.04"
    recorded = client.get_metric_history(tracked.info.run_id, "margin")
    assert [one.value for one in sorted(recorded, key=lambda one: one.step)] == pytest.approx(
        record["curves"]["margin"], abs=1e-6
    )
