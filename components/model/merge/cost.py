"""What quantizing a model costs: how often the quantized weights would say another token than the merged ones.

The text is the project's own, English and Korean, prose, figures, a dialogue and a line of code; nobody was trained on
it. Weights are read back from the GGUF file, so that what is measured is what is served.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from transformers import AutoModelForCausalLM, AutoTokenizer

from components.common.errors import HeadraceError
from components.evaluation.intervals import wilson

_TEXTS = sorted((Path(__file__).parent / "lists").glob("text.*.txt"))
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Cost:
    """What quantizing costs.

    Attributes:
        tokens: Tokens of text that it was measured on.
        agreement: Share of the places at which both models hold the same token for the likeliest.
        interval: Wilson's interval of that share at 95 %.
        perplexity: Of the merged model.
        quantized_perplexity: Of the quantized one.
        divergence: Mean Kullback-Leibler divergence of the quantized model's next token from the merged one's, in nats.
    """

    tokens: int
    agreement: float
    interval: tuple[float, float]
    perplexity: float
    quantized_perplexity: float
    divergence: float

    def record(self) -> dict[str, Any]:
        """Return it as plain values, rounded."""
        low, high = self.interval
        plain = {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(self).items()}
        return {**plain, "interval": [round(low, 6), round(high, 6)]}

    def sentence(self) -> str:
        """Say it in one line."""
        low, high = self.interval
        return (
            f"the likeliest token is the same at {self.agreement:.1%} of {self.tokens:,} places "
            f"[{low:.1%}, {high:.1%}]; perplexity {self.perplexity:.4g} → {self.quantized_perplexity:.4g}"
        )


def measure(model: Path, gguf: Path, tokens: int) -> Cost:
    """Compare a model with its quantized file.

    Args:
        model: Directory with the merged weights.
        gguf: Its GGUF file.
        tokens: Tokens of text to compare over, half of each language.

    Raises:
        HeadraceError: transformers reads no GGUF of this architecture.
    """
    tokenizer = AutoTokenizer.from_pretrained(model)
    share = max(2, tokens // len(_TEXTS))
    texts = [tokenizer(path.read_text("utf-8"), return_tensors="pt").input_ids[:, :share] for path in _TEXTS]
    whole = _predictions(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), texts)
    packed = _predictions(_read_back(gguf), texts)
    following = torch.cat([text[0, 1:] for text in texts])
    same = int((whole.argmax(-1) == packed.argmax(-1)).sum())
    merged, quantized = (math.exp(cross_entropy(logits, following).item()) for logits in (whole, packed))
    divergence = kl_div(log_softmax(packed, -1), log_softmax(whole, -1), log_target=True, reduction="batchmean").item()
    count = len(following)
    return Cost(count, same / count, wilson(same, count, _CONFIDENCE), merged, quantized, divergence)


def _read_back(gguf: Path) -> Any:
    try:
        return AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    except (ValueError, NotImplementedError, KeyError) as error:
        raise HeadraceError(
            f"transformers cannot read {gguf.name} back, so what quantizing costs cannot be measured ({error}); set "
            "model.merge.measure_tokens: 0"
        ) from error


def _predictions(network: Any, texts: list[torch.Tensor]) -> torch.Tensor:
    """Logits of each next token, all texts in a row."""
    with torch.inference_mode():
        return torch.cat([network.eval()(text).logits[0, :-1].float() for text in texts])


def serving_files(files: Mapping[str, float], quantization: str, gguf: str, cost: Cost | None) -> dict[str, Any]:
    """Describe a merged model's files for serving.

    Args:
        files: MiB by name.
        quantization: How the GGUF file is quantized.
        gguf: Its name.
        cost: What that costs, if it was measured.
    """
    weights = [name for name in files if "/" not in name and name.endswith(".safetensors")]
    listed = [{"name": name, "type": "safetensors", "mib": round(files[name], 1), "cost": ""} for name in weights]
    said = cost.sentence() if cost else ""
    listed.append({"name": gguf, "type": quantization, "mib": round(files[gguf], 1), "cost": said})
    return {"files": listed, **({"measured": cost.record()} if cost else {})}
