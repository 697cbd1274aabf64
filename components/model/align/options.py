"""Options of model/align."""

from typing import Literal, Self

from pydantic import Field, model_validator

from components.common.options import Options
from components.model.precision import Precision

LEARNING_RATES = {"dpo": 5e-5, "orpo": 2e-4, "kto": 5e-5, "grpo": 1e-4, "rlhf": 1e-4}
"""Peak learning rate of each method on a low-rank adapter. ORPO has no reference model to stay near and learns its
answers by cross-entropy, as tuning does: at 5e-5 it hardly moves."""

UNUSED: dict[str, tuple[str, ...]] = {
    "none": (),
    "dpo": ("reward_model",),
    "orpo": ("anchor", "reward_model"),
    "kto": ("anchor", "reward_model"),
    "grpo": ("epochs", "beta", "anchor", "batch_size", "reward_model"),
    "rlhf": ("epochs", "beta", "anchor"),
}
"""Options that a method has no use for; to set them is an error."""


class Rewards(Options):
    """What `grpo` rewards, by weight; an answer that violates the format it was asked in gets nothing at all."""

    exact: float = Field(
        1.0, description="The right answer, compared as in evaluation; JSON and calls are compared by value.", ge=0
    )
    overlap: float = Field(0.0, description="Share of the right words: F1 over words with the right answer.", ge=0)
    format: float = Field(0.5, description="The format asked for is kept.", ge=0)
    schema_: float = Field(0.0, description="JSON that meets the schema asked for.", alias="schema", ge=0)
    citation: float = Field(
        0.0, description="Cites in the form [1], and nothing that the question does not hold.", ge=0
    )

    model_config = Options.model_config | {"populate_by_name": True, "serialize_by_alias": True}

    @model_validator(mode="after")
    def _something_counts(self) -> Self:
        if not any(self.weights().values()):
            raise ValueError("all rewards have the weight 0; give one of them a weight")
        return self

    def weights(self) -> dict[str, float]:
        """The weight of each reward by its name."""
        return self.model_dump(by_alias=True)


class Reinforcement(Options):
    """How `grpo` and `rlhf` learn from answers that the model gives itself."""

    steps: int = Field(60, description="Optimizer steps.", ge=1)
    prompts: int = Field(2, description="Questions asked in each step.", ge=1)
    answers: int = Field(4, description="Answers drawn to each question, and compared with one another.", ge=2)
    max_new_tokens: int = Field(48, description="Longest answer in tokens.", ge=1)
    temperature: float = Field(1.0, description="Temperature of the draw.", gt=0)
    kl: float = Field(
        0.04,
        description="Weight of the divergence from the tuned model; `rlhf` needs some: rewards can be gamed.",
        ge=0,
    )
    rewards: Rewards = Field(default=Rewards(), description="What is rewarded in `grpo`.")


class RewardModel(Options):
    """How the reward model of `rlhf` is trained: on preferences, a head on the tuned model."""

    epochs: int = Field(2, description="Passes over the preferences.", ge=1)
    learning_rate: float = Field(2e-4, description="Peak learning rate.", gt=0)
    rank: int = Field(8, description="Rank of its adapter.", ge=1)
    require_above_chance: bool = Field(
        True,
        description="Stop when it does not tell chosen from rejected held-out answers better than by chance: when the "
        "interval of its accuracy reaches down to one half.",
    )


class Align(Options):
    """How the tuned model is aligned with preferences."""

    method: Literal["none", "dpo", "orpo", "kto", "grpo", "rlhf"] = Field(
        "none",
        description="`none` hands the tuned model on. From preferences: DPO; ORPO, which needs no reference model; "
        "KTO, which needs no pairs. From its own answers: GRPO with computed rewards; `rlhf` with a reward model.",
    )
    epochs: int = Field(1, description="Passes over the preferences in `dpo`, `orpo` and `kto`.", ge=1)
    learning_rate: float = Field(
        0.0,
        description="Peak learning rate; 0 takes the method's own: "
        + ", ".join(f"{name} {rate:g}" for name, rate in LEARNING_RATES.items())
        + ".",
        ge=0,
    )
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="Decay after the warm-up.")
    warmup: float = Field(0.1, description="Share of the steps over which the learning rate rises.", ge=0, lt=1)
    beta: float = Field(
        0.1,
        description="How near the tuned model `dpo` and `kto` stay (more is nearer), and the weight of the odds ratio "
        "in `orpo`.",
        gt=0,
    )
    anchor: float = Field(
        0.0,
        description="Weight of the cross-entropy of the chosen answers beside the loss of `dpo`; some keeps them from "
        "becoming less likely together with the rejected ones.",
        ge=0,
    )
    batch_size: int = Field(4, description="Preferences per optimizer step; `kto` needs two.", ge=1)
    max_length: int = Field(
        256, description="Longest question with answer in tokens; longer ones are left out and counted.", ge=16
    )
    reinforcement: Reinforcement = Field(default=Reinforcement(), description="Of `grpo` and `rlhf`.")
    reward_model: RewardModel = Field(default=RewardModel(), description="Of `rlhf`.")
    held_out: float = Field(
        0.25, description="Share of the questions that are not trained on, to measure before and after.", gt=0, lt=1
    )
    asked: int = Field(40, description="Most held-out questions that are answered before and after.", ge=1)
    precision: Precision = Field(
        "auto", description="Precision of weights that do not learn: bf16 where the machine computes in it, if `auto`."
    )
    confidence: float = Field(0.95, description="Level of the intervals.", gt=0.5, lt=1)
    resamples: int = Field(2000, description="Bootstrap resamples behind the intervals of means.", ge=100)
    examples: int = Field(12, description="Held-out questions shown in the report.", ge=0)
    checkpoint_every: int = Field(
        50, description="Steps between checkpoints; 0: only when the process is asked to end.", ge=0
    )
    keep_checkpoints: int = Field(2, description="Newest checkpoints that are kept.", ge=1)
    seed: int = Field(17, description="Seed of the split, the order and the draws.", ge=0)
    threads: int = Field(0, description="CPU threads; 0 uses all.", ge=0)
    experiment: str = Field("headrace", description="MLflow experiment that records the run.", min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.method == "rlhf" and not self.reinforcement.kl:
            raise ValueError("rlhf without reinforcement.kl games its reward model; give it a weight, such as 0.04")
        if self.method == "kto" and self.batch_size < 2:
            raise ValueError("kto compares the answers of a batch; set batch_size to 2 or more")
        for name in UNUSED[self.method]:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{self.method} has no use for {name}; leave it out, or take another method")
        return self

    def rate(self) -> float:
        """The peak learning rate."""
        return self.learning_rate or LEARNING_RATES[self.method]
