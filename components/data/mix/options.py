"""Options of data/mix."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from components.common.options import Files, Options


class Group(Options):
    """A purpose: which documents serve it, and its weight.

    A document belongs to the first group that takes it. Every criterion given must hold; a criterion lists patterns of
    which one must fit (`*` and `?` as in file names). A group without criteria takes all that is left.
    """

    name: str = Field(pattern=r"^[^*]+$", description="What the report calls it.")
    weight: float = Field(ge=0, description="Its weight among the groups; they need not sum to 1 or 100.")
    source: list[str] = Field([], description="Patterns of source ids.")
    source_class: list[Literal["public", "in_house", "third_party"]] = Field(
        [], alias="class", description="Classes of source."
    )
    kind: list[Literal["prose", "code", "table", "math", "dialogue", "ticket", "log"]] = Field(
        [], description="Kinds of document."
    )
    domain: list[str] = Field([], description="Patterns of domains.")
    language: list[str] = Field([], description="Patterns of language tags: `ko`, `en*`.")

    model_config = Options.model_config | {"populate_by_name": True, "serialize_by_alias": True}


class Diet(Options):
    """A share of the documents to leave out by a score, in each group and language by itself."""

    score: Literal["quality", "perplexity"] = Field(description="Which score: `metadata.quality`, `.perplexity`.")
    lowest: float = Field(
        0, ge=0, lt=1, description="Share with the lowest score: the noisiest by quality, the easiest by perplexity."
    )
    highest: float = Field(0, ge=0, lt=1, description="Share with the highest score: the noisiest by perplexity.")

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        if self.lowest + self.highest >= 1:
            raise ValueError("lowest and highest together leave nothing")
        return self


class Mix(Options):
    """What share of the tokens each group of documents gets."""

    groups: list[Group] = Field(
        [],
        description="Groups by purpose: `name`, `weight`, and any of `source`, `class`, `kind`, `domain`, `language`, "
        "each a list of patterns. The first that fits takes a document. They take the place of `by` and `weights`.",
    )
    by: str = Field(
        "kind",
        pattern=r"^(kind|domain|source|language|license|confidentiality|metadata\.[\w.-]+)$",
        description="What groups documents: a column, or a key of the metadata as `metadata.<key>`.",
    )
    weights: dict[str, float] = Field(
        {},
        description="Weight of each group; `*` is the weight of each group not named. Without weights all is kept.",
    )
    tokens: int = Field(
        0, ge=0, description="Size of the mixture; 0 makes the largest one that meets the weights exactly."
    )
    repeats: int = Field(1, ge=1, le=10, description="Most times one document may appear, to fill a small group.")
    tokenizer: Annotated[str, Files(or_version=True)] = Field(
        "",
        description="Whose tokens are counted: a `tokenizer.json` or a folder that holds one, or a version of the "
        "store (`models/<name>/<hash>`). Empty: runs without white space, Chinese, Japanese and Korean characters.",
    )
    language_temperature: float = Field(
        1,
        ge=1,
        description="Languages of a group are drawn in proportion to tokens^(1/temperature): 1 as they are, more "
        "towards equal shares.",
    )
    domain_temperature: float = Field(1, ge=1, description="The same for the domains of each language.")
    diet: list[Diet] = Field(
        [],
        description="What to leave out by score: `score` (quality, perplexity), `lowest` and `highest` share of the "
        "documents of each group and language. A document without the score stays.",
    )
    dropout: float = Field(
        0,
        ge=0,
        le=0.9,
        description="Share of the mixture that each epoch of a training leaves out, another one each epoch.",
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of the sample, of the order and of every epoch's order.")
    observed: str = Field(
        "", description="State of the tokenizer when `headrace run` began, so that a cached step notices a change."
    )

    @model_validator(mode="after")
    def _say_it_once(self) -> Self:
        if self.groups and self.weights:
            raise ValueError("groups and weights both say what share a group gets; keep one of them")
        names = [group.name for group in self.groups]
        if len(set(names)) < len(names):
            raise ValueError("two groups have the same name; give each its own")
        tempered = self.language_temperature > 1 or self.domain_temperature > 1
        if tempered and not (self.groups or self.weights or self.tokens):
            raise ValueError("a temperature changes what is drawn, and all is kept; set tokens, weights or groups")
        return self
