import json
import shutil
from pathlib import Path

import pytest

from components.common.errors import HeadraceError
from components.common.ledger import artifact_files
from components.model.merge.combine import add_up, run
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


def test_a_gguf_that_cannot_be_read_back_is_one_sentence_with_the_setting(candidate: Path, tmp_path: Path) -> None:
    from gguf import GGUFWriter

    from components.model.merge.cost import measure

    writer = GGUFWriter(tmp_path / "model.gguf", "unheard-of")
    writer.add_token_list(["a"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(HeadraceError, match=r"cannot read model\.gguf back.*set model\.merge\.measure_tokens: 0$"):
        measure(candidate, tmp_path / "model.gguf", 8)


def test_an_adapter_of_another_base_is_refused(base: Path, adapter: Path, tmp_path: Path, context) -> None:
    other = tmp_path / "adapter"
    shutil.copytree(adapter, other)
    training = json.loads((adapter / "training.json").read_text())
    (other / "training.json").write_text(json.dumps({**training, "base": "Another"}))
    with pytest.raises(HeadraceError, match="trained on Another, not on Tiny-Llama"):
        run(base=base, adapter=other, candidate=tmp_path, options=Merge(), context=context("model/merge"))


@pytest.mark.parametrize("kind", [{}, {"use_rslora": True}, {"use_dora": True}], ids=["lora", "rslora", "dora"])
def test_every_kind_of_adapter_adds_up_to_what_was_trained(base: Path, tmp_path: Path, kind: dict) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    trained = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", init_lora_weights=False, **kind),
    )
    trained.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    candidate = tmp_path / "candidate"
    candidate.mkdir()
    add_up(base, tmp_path / "adapter", candidate, "fp32")
    merged = AutoModelForCausalLM.from_pretrained(candidate, dtype=torch.float32)
    tokens = torch.arange(100, 140)[None]
    with torch.no_grad():
        assert torch.allclose(merged(tokens).logits, trained.eval()(tokens).logits, atol=1e-3)


def test_whole_weights_pass_through_and_are_there_once(base: Path, tmp_path: Path, context) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    tuned = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    with torch.no_grad():
        tuned.lm_head.weight.mul_(2)
    tuned.config.rope_parameters = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    tuned.save_pretrained(tmp_path / "whole")
    (tmp_path / "whole" / "training.json").write_text('{"base": "Tiny-Llama"}')
    candidate = tmp_path / "candidate"
    candidate.mkdir()
    run(base=base, adapter=tmp_path / "whole", candidate=candidate, options=Merge(), context=context("model/merge"))
    merged = AutoModelForCausalLM.from_pretrained(candidate, dtype=torch.bfloat16)
    assert merged.config.rope_parameters["factor"] == 2.0, "a configuration for longer contexts is kept"
    assert all(torch.equal(value, tuned.state_dict()[name]) for name, value in merged.state_dict().items())
    assert set(artifact_files(candidate / "adapter")) <= {"training.json", "generation_config.json"}
    assert (candidate / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()


def test_weights_that_only_a_pickle_holds_are_refused(base: Path, adapter: Path, tmp_path: Path, context) -> None:
    other = tmp_path / "adapter"
    shutil.copytree(adapter, other)
    (other / "adapter_model.safetensors").rename(other / "adapter_model.bin")
    with pytest.raises(HeadraceError, match="only safetensors are read"):
        run(base=base, adapter=other, candidate=tmp_path, options=Merge(), context=context("model/merge"))


def test_weights_that_are_no_numbers_are_refused(base: Path, adapter: Path, tmp_path: Path, context) -> None:
    from safetensors.torch import load_file, save_file

    other = tmp_path / "adapter"
    shutil.copytree(adapter, other)
    weights = load_file(other / "adapter_model.safetensors")
    next(iter(weights.values())).fill_(float("nan"))
    save_file(weights, other / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(HeadraceError, match="holds no numbers; lower learning_rate"):
        run(base=base, adapter=other, candidate=tmp_path, options=Merge(), context=context("model/merge"))
