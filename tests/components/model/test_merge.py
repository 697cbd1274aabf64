import json
import shutil
from pathlib import Path

import pytest

from components.common.errors import HeadraceError
from components.common.ledger import artifact_files
from components.model.merge.combine import run
from components.model.merge.options import Merge


def test_the_merged_model_answers_like_base_and_adapter_together(base: Path, adapter: Path, candidate: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    apart = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
    merged = AutoModelForCausalLM.from_pretrained(candidate, dtype=torch.float32)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tokens = torch.arange(100, 140)[None]
    with torch.no_grad():
        wanted, got, before = (model(tokens).logits.softmax(-1) for model in (apart, merged, plain))
    assert (wanted - got).abs().mean() < (wanted - before).abs().mean() / 10


def test_the_candidate_is_complete(base: Path, adapter: Path, candidate: Path) -> None:
    files = artifact_files(candidate)
    assert set(artifact_files(base)) <= set(files)
    assert files["adapter/adapter_model.safetensors"] == artifact_files(adapter)["adapter_model.safetensors"]
    assert files["tokenizer.json"] == artifact_files(base)["tokenizer.json"]
    for changed in ("model.safetensors", "model-q8_0.gguf"):
        assert files[changed] != artifact_files(base)[changed]


def test_an_adapter_of_another_base_is_refused(base: Path, adapter: Path, tmp_path: Path, context) -> None:
    other = tmp_path / "adapter"
    shutil.copytree(adapter, other)
    training = json.loads((adapter / "training.json").read_text())
    (other / "training.json").write_text(json.dumps({**training, "base": "Another"}))
    with pytest.raises(HeadraceError, match="trained on Another, not on Tiny-Llama"):
        run(base=base, adapter=other, candidate=tmp_path, options=Merge(), context=context("model/merge"))
