"""Needles in haystacks: whether a model finds a fact again in a long text, by length and by depth.

The texts are the documents that are trained on. A fact that stands nowhere else is put into each, then asked for; the
model has found it when the tokens of its answer are the most probable ones, which is what greedy decoding would write,
in one pass. After Kamradt's "Needle In A Haystack" (2023).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from components.common.documents import read_batches
from components.common.errors import HeadraceError
from components.evaluation.intervals import wilson
from components.model.context.options import Needles
from components.model.precision import weight_type
from components.model.tune.chunks import borders

_ENOUGH = 2**20
"""Characters of documents, of a language, that haystacks are taken from."""

_SYLLABLES = {"en": ("vel", "mor", "dar", "kin", "tas", "rul", "bex", "nom"), "ko": tuple("벨모달킨타룰벡놈")}


@dataclass(frozen=True)
class Wording:
    """How a fact is told, asked for and answered in a language."""

    fact: str
    question: str
    answer: str


WORDINGS = {
    "en": Wording(
        "The access code of the {name} depot is {code}.",
        "What is the access code of the {name} depot?",
        "The access code of the {name} depot is ",
    ),
    "ko": Wording(
        "{name} 창고의 출입 번호는 {code}입니다.",
        "{name} 창고의 출입 번호는 무엇입니까?",
        "{name} 창고의 출입 번호는 ",
    ),
}


@dataclass(frozen=True)
class Cell:
    """What was found at a length and a depth, in a language.

    Attributes:
        language: `en` or `ko`.
        length: Tokens of the text, question and chat template included.
        depth: Share of the text before the fact.
        found: Facts that were found.
        asked: Facts that were asked for.
    """

    language: str
    length: int
    depth: float
    found: int
    asked: int


def needle(
    model: Path,
    documents: Path,
    lengths: Sequence[int],
    options: Needles,
    precision: str = "auto",
    tell: Callable[[int], None] = lambda _: None,
) -> list[Cell]:
    """Ask a model directory for facts in long texts.

    Args:
        model: Model directory with tokenizer and chat template.
        documents: Where the texts are taken from; Korean and English ones.
        lengths: Tokens of the texts.
        options: Depths, repeats and seed.
        precision: Precision of the weights: `auto`, `bf16` or `fp32`.
        tell: Called with the number of facts asked for.

    Raises:
        HeadraceError: No document is Korean or English, or a length has no room for a text.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype=weight_type(precision), attn_implementation="sdpa")
    tokenizer = AutoTokenizer.from_pretrained(model)
    return find(loaded.to(device), tokenizer, haystacks(documents), lengths, options, tell)


def find(
    network: Any,
    tokenizer: PreTrainedTokenizerBase,
    texts: Mapping[str, str],
    lengths: Sequence[int],
    options: Needles,
    tell: Callable[[int], None] = lambda _: None,
) -> list[Cell]:
    """Ask a loaded model; see `needle`.

    Args:
        network: The model; left as it was.
        tokenizer: Its tokenizer.
        texts: Text of documents by language.
        lengths: Tokens of the texts.
        options: Depths, repeats and seed.
        tell: Called with the number of facts asked for.
    """
    trained, cells, asked = network.training, [], 0
    network.eval()
    for language, length, depth in places(texts, lengths, options):
        found = 0
        for repeat in range(options.repeats):
            # Every model is asked the same.
            generator = np.random.default_rng([options.seed, length, round(1000 * depth), repeat, language == "ko"])
            tokens, code = bury(tokenizer, texts[language], WORDINGS[language], language, length, depth, generator)
            found += _is_found(network, tokens, code)
            asked += 1
            tell(asked)
        cells.append(Cell(language, length, depth, found, options.repeats))
    network.train(trained)
    return cells


def places(texts: Mapping[str, str], lengths: Sequence[int], options: Needles) -> Iterator[tuple[str, int, float]]:
    """Language, length and depth of every cell."""
    for language in sorted(texts):
        for length in sorted(set(lengths)):
            yield from ((language, length, depth) for depth in options.depths)


def haystacks(documents: Path) -> dict[str, str]:
    """Take text from the Korean and the English documents, in their order.

    Raises:
        HeadraceError: There are none.
    """
    texts = dict.fromkeys(WORDINGS, "")
    for batch in read_batches(documents, ["text", "messages", "language"]):
        for document in batch.to_pylist():
            language = document["language"].split("-")[0]
            if language in texts and len(texts[language]) < _ENOUGH:
                said = "\n".join(message["content"] for message in document["messages"])
                texts[language] += (said or document["text"]) + "\n\n"
    texts = {language: text for language, text in texts.items() if text.strip()}
    if not texts:
        raise HeadraceError(
            "none of the documents is Korean or English, so there is no text to look for facts in; set "
            "model.tune.context.needles.on to false"
        )
    return texts


def bury(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    wording: Wording,
    language: str,
    length: int,
    depth: float,
    generator: np.random.Generator,
) -> tuple[list[int], list[int]]:
    """Put a fact into a text and ask for it.

    Args:
        tokenizer: Tokenizer with a chat template.
        text: Text of documents, begun anew where it ends.
        wording: How the fact is told.
        language: Its language, for the name.
        length: Most tokens of the whole, and about as many.
        depth: Share of the text before the fact.
        generator: Draws the fact and where the text begins.

    Returns:
        The tokens, answer included, and the positions of the answer's code among them.

    Raises:
        HeadraceError: There is no room for a text.
    """
    drawn = generator.choice(_SYLLABLES[language], 3, replace=False)
    name, code = "".join(drawn).capitalize(), str(generator.integers(10_000, 100_000))
    fact = wording.fact.format(name=name, code=code)

    def whole(hay: str, at: int) -> str:
        asked = f"{hay[:at]} {fact} {hay[at:]}\n\n{wording.question.format(name=name)}"
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": asked}], add_generation_prompt=True, tokenize=False
        )
        return f"{prompt}{wording.answer.format(name=name)}{code}"

    room = length - len(_encode(tokenizer, whole("", 0))[0])
    if room < 16:
        raise HeadraceError(
            f"a text of {length} tokens has no room for a fact and its question; raise model.tune.max_length or "
            "model.tune.context.needles.lengths"
        )
    # A character is at most a few tokens and a token at least one character: this is long enough, and not too long.
    begin = int(generator.integers(len(text)))
    turned = " ".join((text[begin:] + text[:begin]).split(" "))
    hay = (turned * (1 + 16 * room // len(turned)))[: 16 * room]
    starts = [start for start, _ in _encode(tokenizer, hay)[1]]
    while True:
        within = hay[: starts[room]] if room < len(starts) else hay
        tokens, offsets = _encode(tokenizer, whole(within, _border(within, starts, round(depth * room))))
        if len(tokens) <= length:
            break
        room -= len(tokens) - length  # words run together otherwise beside the fact
    behind = offsets[-1][1] - len(code)
    return tokens, [number for number, (_, end) in enumerate(offsets) if end > behind]


def rows(cells: Sequence[Cell], by: str, confidence: float) -> list[dict[str, Any]]:
    """Share found, with its Wilson interval, by `length`, `depth` or `language`."""
    table = []
    for value in sorted({getattr(cell, by) for cell in cells}):
        found, asked = tally(cell for cell in cells if getattr(cell, by) == value)
        low, high = wilson(found, asked, confidence)
        table.append({by: value, "found": found / asked, "low": low, "high": high, "asked": asked})
    return table


def tally(cells: Iterator[Cell]) -> tuple[int, int]:
    """How many facts were found, and asked for."""
    counts = [(cell.found, cell.asked) for cell in cells]
    return sum(found for found, _ in counts), sum(asked for _, asked in counts)


def as_values(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """The cells as plain values, for `training.json`."""
    return [asdict(cell) for cell in cells]


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return encoded["input_ids"], encoded["offset_mapping"]


def _border(text: str, starts: Sequence[int], token: int) -> int:
    """Character of the border of sentences nearest to a token; the token's own where there is none."""
    within = [start for start in starts if start < len(text)]
    if token <= 0 or not within:
        return 0
    if token >= len(within):
        return len(text)
    found = np.flatnonzero(borders(text, within))
    return within[int(found[np.argmin(np.abs(found - token))]) if len(found) else token]


def _is_found(network: Any, tokens: Sequence[int], code: Sequence[int]) -> bool:
    device = next(network.parameters()).device
    before = torch.tensor([position - 1 for position in code], device=device)
    with torch.inference_mode():
        inputs = torch.tensor([tokens], device=device)
        logits = network(input_ids=inputs, use_cache=False, logits_to_keep=before).logits[0]
    return bool((logits.argmax(dim=-1) == inputs[0, before + 1]).all())
