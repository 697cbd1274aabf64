"""The model card is written from what happened, and from nothing else."""

from typing import Any

import pytest
import yaml

from components.model.register.card import Made, write_card
from components.model.register.options import Register

BASE = {"name": "Tiny", "origin": "package:tiny==1", "license": "Apache-2.0", "digest": "b" * 64}
TRAINING = {
    "base": "Tiny",
    "run": "headrace/tune-0123456789ab",
    "options": {"method": "dora", "epochs": 2, "rank": 16, "memorise": True},
    "pairs": 1200,
    "steps": 300,
    "final_loss": 0.0123,
    "losses": [3.0, 1.0],
    "validation": {"loss": 0.5, "step": 250},
    "versions": {"torch": "2.13"},
}
ALIGNMENT = {
    "method": "dpo",
    "run": "headrace/align-0123456789ab",
    "options": {"method": "dpo", "beta": 0.1},
    "trained_on": 40,
    "held_out": 10,
    "steps": 20,
    "metrics": [{"name": "preferred", "task": "held-out preferences", "n": 10, "value": 0.9, "interval": [0.6, 0.98]}],
}


def metric(name: str, value: float, gain: tuple[float, float], better: bool = True, **more: Any) -> dict[str, Any]:
    base = value - sum(gain) / 2
    return {
        "name": name,
        "task": name.partition(".")[0] if "." in name else "held_out",
        "n": 60,
        "value": value,
        "interval": [value - 0.05, value + 0.05],
        "base_value": base,
        "base_interval": [base - 0.05, base + 0.05],
        "gain": sum(gain) / 2,
        "gain_interval": list(gain),
        "higher_is_better": better,
        **more,
    }


VERDICT = {
    "decision": "release",
    "sentence": "Released: exact_match is 0.9, not below 0.6.",
    "evidence": {
        "confidence": 0.95,
        "metrics": [
            metric("exact_match", 0.9, (0.6, 0.8)),
            metric("redteam.attack_success", 0.2, (0.1, 0.2), better=False),
            metric("retrieval.recall", 0.5, (-0.1, 0.1)),
            metric("context.needle", 0.7, (0.0, 0.1), unit="share"),
        ],
        "off": {"safety_ko": "no Korean attacks in the recipe"},
    },
}
QUANTIZATION = {
    "files": [{"name": "model-q8_0.gguf", "type": "q8_0", "mib": 138.1, "cost": "99.1 % of the tokens are the same"}]
}


def sections(card: str) -> tuple[dict[str, Any], dict[str, str]]:
    _, header, text = card.split("---\n", 2)
    found = {part.partition("\n")[0]: part for part in text.split("\n## ")[1:]}
    return yaml.safe_load(header), found


def test_the_card_says_all_that_happened() -> None:
    options = Register(
        name="helper", languages=["en", "ko"], intended_use="Answering.", intended_use_ko="짧은 질문에 답하기."
    )
    made = Made(BASE, "d" * 64, TRAINING, ALIGNMENT, VERDICT, QUANTIZATION)
    header, found = sections(write_card(options, made))
    assert list(found) == [
        *("Intended use", "용도", "Training", "Alignment", "Evaluation", "Files for serving", "Limits"),
    ]
    assert "짧은 질문에 답하기." in found["용도"]
    assert header["tags"] == ["dora", "sft", "dpo"] and header["license"] == "apache-2.0"
    assert all(
        said in found["Training"]
        for said in ("1,200 question", "300 steps", "validation: loss 0.5, step 250", "epochs: 2", "headrace rebuild")
    )
    assert "dpo on 40 preferences, 20 steps; measured on 10" in found["Alignment"]
    assert (
        "| tuned | aligned | gain |" in found["Alignment"] and "run headrace/align-0123456789ab" in found["Alignment"]
    )
    assert "makes the adapter, as it was before alignment, again" in found["Training"]
    assert "| preferred | ↑ | 10 | not measured | 0.900 [0.600, 0.980] | not measured |" in found["Alignment"]
    for title in ("### Answers", "### Red team", "### Retrieval", "### Long contexts", "intervals at 95%"):
        assert title in found["Evaluation"]
    row = "| exact_match | ↑ | 60 | 0.200 [0.150, 0.250] | 0.900 [0.850, 0.950] | 0.700 [0.600, 0.800] |"
    assert row in found["Evaluation"]
    assert "safety_ko: no Korean attacks in the recipe" in found["Evaluation"]
    assert "`model-q8_0.gguf`: q8_0, 138.1 MiB; 99.1 % of the tokens are the same" in found["Files for serving"]
    assert "Worse than its base, with confidence: redteam.attack success." in found["Limits"]
    assert "know its pairs by heart" in found["Limits"]


def test_the_header_is_hugging_face_s() -> None:
    header, _ = sections(write_card(Register(name="helper"), Made(BASE, "d" * 64, TRAINING, {}, VERDICT)))
    [index] = header["model-index"]
    assert index["name"] == "helper"
    results = {result["dataset"]["type"]: result for result in index["results"]}
    assert set(results) == {"held_out", "redteam", "retrieval", "context"}
    assert results["held_out"]["task"] == {"type": "text-generation"}
    assert results["held_out"]["metrics"] == [{"type": "exact_match", "value": 0.9, "name": "exact match"}]
    card_data = pytest.importorskip("huggingface_hub").ModelCardData(**header)
    read = {result.metric_type: result.metric_value for result in card_data.eval_results or []}
    assert read["exact_match"] == 0.9 and len(read) == 4


def test_what_did_not_happen_is_not_in_it() -> None:
    header, found = sections(write_card(Register(), Made(BASE)))
    assert list(found) == ["Intended use", "Limits"]
    assert "model-index" not in header and "base_model_relation" not in header
    old = {name: TRAINING[name] for name in ("base", "options", "pairs", "steps", "final_loss")}
    _, found = sections(write_card(Register(), Made(BASE, "d" * 64, old, {}, {})))
    assert list(found) == ["Intended use", "Training", "Limits"] and "rebuild" not in found["Training"]
