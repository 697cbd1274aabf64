from pathlib import Path
from typing import Any

import pytest

from components.common.errors import HeadraceError, UsageError
from components.model.context.needle import WORDINGS, Cell, bury, find, haystacks, needle, rows
from components.model.context.options import Context, Needles
from components.model.context.stretch import context_length, require_length, stretch


def configuration(kind: str, **fields: Any) -> Any:
    from transformers import AutoConfig

    return AutoConfig.for_model(kind, **fields)


@pytest.mark.parametrize(("method", "named"), [("linear", 256), ("dynamic", 256), ("yarn", 1024)])
def test_rotary_positions_are_stretched_in_the_configuration(base: Path, tmp_path: Path, method, named: int) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(base)
    stretched = stretch(config, Context(method=method, factor=4.0))
    assert (context_length(config), config.rope_parameters["rope_type"]) == (256, "default")
    stretched.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert (again.rope_parameters["rope_type"], again.rope_parameters["factor"]) == (method, 4.0)
    assert (context_length(again), again.max_position_embeddings) == (1024, named)
    model: Any = AutoModelForCausalLM.from_pretrained(base, config=again, dtype=torch.float32)
    plain: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tokens = torch.arange(100, 500)[None]
    with torch.no_grad():
        changed = (model(tokens, logits_to_keep=1).logits - plain(tokens, logits_to_keep=1).logits).abs().max()
    assert changed > 1e-3


@pytest.mark.parametrize(
    ("config", "known", "longer"),
    [
        (("bloom", {}), 0, 0),
        (("mpt", {"max_seq_len": 2048}), 2048, 4096),
        (("falcon", {"alibi": True, "max_position_embeddings": 2048}), 2048, 4096),
    ],
)
def test_alibi_is_lengthened_where_the_architecture_has_it(config, known: int, longer: int) -> None:
    kind, fields = config
    base = configuration(kind, **fields)
    assert context_length(base) == known
    assert context_length(stretch(base, Context(method="alibi"))) == longer
    with pytest.raises(UsageError, match=f"{kind} has no rotary positions; choose alibi"):
        stretch(base, Context(method="yarn"))


@pytest.mark.parametrize(
    ("config", "method", "problem"),
    [
        (("llama", {}), "alibi", "llama has rotary positions; choose linear, dynamic or yarn"),
        (("falcon", {"alibi": False}), "alibi", "falcon has rotary positions"),
        (("gpt2", {}), "alibi", "gpt2 has absolute positions; its context cannot be stretched"),
        (("gpt2", {}), "linear", "gpt2 has no rotary positions; its context cannot be stretched"),
        (
            ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}),
            "yarn",
            "stretched already, by linear",
        ),
        (("gemma3_text", {}), "linear", "other positions in each kind of layer"),
    ],
)
def test_what_an_architecture_cannot_do_is_refused(config, method, problem: str) -> None:
    kind, fields = config
    with pytest.raises(UsageError, match=problem):
        stretch(configuration(kind, **fields), Context(method=method))


def test_sequences_beyond_the_context_are_refused() -> None:
    config = configuration("llama", max_position_embeddings=256)
    require_length(config, 256, "Tiny")
    with pytest.raises(
        UsageError,
        match="max_length is 300, and Tiny has a context of 256 tokens; set max_length to 256 at most, or stretch",
    ):
        require_length(config, 300, "Tiny")
    require_length(stretch(config, Context(method="linear", factor=1.5)), 300, "Tiny")
    require_length(configuration("bloom"), 10**6, "Tiny")


@pytest.fixture(scope="module")
def texts(facts: Path) -> dict[str, str]:
    return haystacks(facts)


def test_haystacks_are_the_documents_of_each_language(texts: dict[str, str]) -> None:
    assert "Under which licence is arvo released?\nMIT" in texts["en"]
    assert "형태소 분석" in texts["ko"]
    assert "arvo" not in texts["ko"]


@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("depth", [0.0, 0.5, 1.0])
def test_a_fact_lies_as_deep_as_asked_in_a_text_of_that_length(base: Path, texts, language: str, depth: float) -> None:
    import numpy as np
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    generator = np.random.default_rng(0)
    tokens, code = bury(tokenizer, texts[language], WORDINGS[language], language, 400, depth, generator)
    whole = tokenizer.decode(tokens)
    said = tokenizer.decode([tokens[position] for position in code]).strip()
    assert 390 <= len(tokens) <= 400
    assert len(said) == 5
    assert whole.count(said) == 2  # told once, answered once
    assert whole.endswith(said)
    hay = whole.split("user\n")[1].split("<|im_end|>")[0].rsplit("\n\n", 1)[0]
    assert hay.index(said) / len(hay) == pytest.approx(depth, abs=0.3)


def test_a_model_that_knows_the_facts_finds_them_and_another_does_not(base: Path, texts, facts: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    class Copies(torch.nn.Module):
        """Answers with what it will be told next."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, input_ids: Any, logits_to_keep: Any, **_: Any) -> Any:
            logits = torch.nn.functional.one_hot(input_ids[:, logits_to_keep + 1], 60_000).float()
            return type("Output", (), {"logits": logits})

    tokenizer = AutoTokenizer.from_pretrained(base)
    options = Needles(depths=[0.0, 1.0], repeats=2)
    known = find(Copies(), tokenizer, texts, [200, 256], options)
    assert [(cell.language, cell.length, cell.depth) for cell in known] == [
        (language, length, depth) for language in ("en", "ko") for length in (200, 256) for depth in (0.0, 1.0)
    ]
    assert all((cell.found, cell.asked) == (2, 2) for cell in known)
    network = AutoModelForCausalLM.from_pretrained(base).train()
    assert not any(cell.found for cell in find(network, tokenizer, texts, [200], options))
    assert network.training
    assert needle(base, facts, [200], options) == needle(base, facts, [200], options)


def test_shares_have_intervals_by_length_and_by_depth() -> None:
    cells = [
        Cell("en", 100, 0.0, 2, 2),
        Cell("en", 100, 1.0, 1, 2),
        Cell("en", 200, 0.0, 0, 2),
        Cell("ko", 200, 1, 0, 2),
    ]
    assert [(row["length"], row["found"], row["asked"]) for row in rows(cells, "length", 0.95)] == [
        (100, 0.75, 4),
        (200, 0.0, 4),
    ]
    [first, last] = rows(cells, "depth", 0.95)
    assert (first["depth"], first["found"], last["found"]) == (0.0, 0.5, 0.25)
    assert first["low"] < 0.5 < first["high"]


def test_a_text_without_room_for_a_fact_and_no_text_at_all_are_errors(
    base: Path, texts, tmp_path: Path, write_dialogues
):
    import numpy as np
    from transformers import AutoTokenizer

    with pytest.raises(HeadraceError, match="32 tokens has no room"):
        bury(AutoTokenizer.from_pretrained(base), texts["en"], WORDINGS["en"], "en", 32, 0.5, np.random.default_rng(0))
    with pytest.raises(HeadraceError, match="none of the documents is Korean or English"):
        haystacks(write_dialogues(tmp_path, []))


def test_the_predictor_serves_a_stretched_context(base: Path, tmp_path: Path) -> None:
    from transformers import AutoConfig

    from serving.predictor.engine import context_length as served

    config = AutoConfig.from_pretrained(base)
    for method, length in (("linear", 1024), ("yarn", 1024), ("dynamic", 256)):
        stretch(config, Context(method=method, factor=4.0)).save_pretrained(tmp_path)
        assert served(tmp_path, 0) == length
