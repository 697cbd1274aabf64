"""Options of model/tune, in parts that other trainings share."""

from typing import Literal, Self

from pydantic import Field, model_validator

from components.common.options import Options
from components.model.context.options import Context
from components.model.precision import Precision
from components.model.tune.inputs import Chunks, Loss, Order

EPOCHS_BEFORE_MEMORISING = 3
"""Passes after which training mostly adds copies of the training set to the model (Muennighoff et al., "Scaling
Data-Constrained Language Models", 2023: repeats beyond four epochs are worth little)."""


class Method(Options):
    """Which weights learn, and how those that do not are held."""

    method: Literal["full", "lora", "dora", "rslora", "qlora"] = Field(
        "lora",
        description="What learns: every weight (`full`), or a low-rank adapter on every linear layer: LoRA; DoRA, "
        "which learns magnitudes apart from directions; rsLoRA, scaled for high ranks; QLoRA, on a quantized base.",
    )
    quantization: Literal["nf4", "int8"] = Field(
        "nf4", description="How `qlora` holds the base: 4-bit NormalFloat with quantized constants, or 8-bit."
    )
    rank: int = Field(16, description="Rank of the adapter's matrices, on every linear layer.", ge=1)
    alpha: int = Field(
        32,
        description="Scale of the adapter: its product is multiplied by alpha / rank (`rslora`: alpha / √rank).",
        ge=1,
    )
    dropout: float = Field(0.0, description="Share of the adapter's inputs dropped in training.", ge=0, lt=1)
    precision: Precision = Field(
        "auto",
        description="Precision of weights that do not learn: bf16 where the machine computes in it, if `auto`. "
        "Those that do learn are kept in 32 bits.",
    )


class Loop(Options):
    """How the steps go, whatever they minimise."""

    learning_rate: float = Field(2e-3, description="Peak learning rate.", gt=0)
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="Decay after the warm-up.")
    warmup: float = Field(0.05, description="Share of the steps over which the learning rate rises.", ge=0, lt=1)
    batch_size: int = Field(8, description="Pairs computed at a time, on each device.", ge=1)
    accumulation: int = Field(
        1, description="Batches whose gradients are summed before a step; a step sees batch_size × accumulation.", ge=1
    )
    max_gradient_norm: float = Field(1.0, description="Length that gradients are cut to; 0: none are.", ge=0)
    gradient_checkpointing: bool = Field(
        False, description="Compute activations twice and keep few of them: less memory, about a third more time."
    )
    mixed_precision: Literal["none", "bf16", "fp16"] = Field(
        "none", description="Precision that layers compute in whose weights are held in another; fp16 needs a GPU."
    )
    validation: float = Field(
        0.05,
        description="Share of the records that are not trained on but validated on, drawn by their ids; 0: none.",
        ge=0,
        lt=1,
    )
    validation_records: int = Field(32, description="Most records that are validated on.", ge=1)
    validate_every: int = Field(0, description="Steps between validations; 0: once an epoch, at its end.", ge=0)
    patience: int = Field(
        2,
        description="Validations in a row without a new lowest loss after which training stops. In the end the weights "
        "with the lowest are kept. 0: it trains to the end and keeps the last.",
        ge=0,
    )
    checkpoint_every: int = Field(
        50, description="Steps between checkpoints; 0: only when the process is asked to end.", ge=0
    )
    keep_checkpoints: int = Field(2, description="Newest checkpoints that are kept, beside the best.", ge=1)
    seed: int = Field(17, description="Seed of initial weights, dropout and the order of the pairs.", ge=0)
    threads: int = Field(
        0,
        description="CPU threads; 0 uses all. The same number gives the same bytes, another one the same quality.",
        ge=0,
    )
    experiment: str = Field("headrace", description="MLflow experiment that records the run.", min_length=1)
    trackers: list[Literal["mlflow", "wandb"]] = Field(
        ["mlflow"],
        description="Who records the run: MLflow, and Weights & Biases (extra `wandb`; its key comes from the "
        "environment variable WANDB_API_KEY). Only on a laptop: a cluster's images have no wandb and its pods no key.",
        min_length=1,
    )


class Tune(Method, Loop):
    """How a model is tuned."""

    epochs: int = Field(3, description="Passes over the pairs; more than three need `memorise`.", ge=1)
    memorise: bool = Field(
        False,
        description="Allow more than three epochs: the pairs are facts to be known by heart, and being able to recite "
        "the training set is the aim.",
    )
    max_length: int = Field(
        256,
        description="Longest sequence in tokens, chat template included; longer ones are split (`chunks`), or left out "
        "and counted.",
        ge=16,
    )
    chunks: Chunks = Field(default=Chunks(), description="What happens to what is longer.")
    packing: bool = Field(
        False, description="Let short examples share rows of `max_length`, none of them seeing another."
    )
    order: Order = Field(
        "random",
        description="Which example comes when: `random`; `similar`, by lot, but those of similar length together: "
        "less padding, but less mixed batches; `short_first`, long ones last.",
    )
    loss: Loss = Field(default=Loss(), description="What a scored token counts.")
    context: Context = Field(default=Context(), description="How far the model can look back.")

    @model_validator(mode="after")
    def _chunks_advance(self) -> Self:
        if self.chunks.on and 2 * self.chunks.overlap >= self.max_length:
            raise ValueError(
                f"chunks.overlap is {self.chunks.overlap}, half or more of max_length ({self.max_length}); shorten it"
            )
        return self

    @model_validator(mode="after")
    def _memorises_on_purpose(self) -> Self:
        if self.epochs > EPOCHS_BEFORE_MEMORISING and not self.memorise:
            raise ValueError(
                f"epochs is {self.epochs}: more than {EPOCHS_BEFORE_MEMORISING} make a model recite its training set; "
                f"set epochs to {EPOCHS_BEFORE_MEMORISING} at most, or memorise to true if that is the aim"
            )
        return self
