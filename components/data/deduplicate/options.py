"""Options of data/deduplicate."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from components.common.options import Options

Version = Annotated[str, Field(pattern=r"^datasets/[a-z0-9][a-z0-9-]{0,62}/[0-9a-f]{64}$")]


class Deduplicate(Options):
    """How alike two documents must be to count as one."""

    threshold: float = Field(0.8, gt=0, le=1, description="Jaccard similarity of word shingles that makes duplicates.")
    shingle: int = Field(
        5, ge=1, le=50, description="Words in a shingle; a Chinese, Japanese or Korean character is one."
    )
    signature: int = Field(120, ge=16, le=1024, description="Hash values in a document's signature.")
    recall: float = Field(
        0.99, gt=0, lt=1, description="Least chance that a pair exactly at the threshold becomes a candidate."
    )
    prefer: list[Literal["license", "quality", "length"]] = Field(
        ["license", "quality", "length"],
        description="Which document of a cluster stays, first criterion first: the fewest licence conditions, the "
        "higher quality that data/filter wrote down (to a tenth), the longer text. The smallest id decides between "
        "equals.",
    )
    earlier: list[Version] = Field(
        [], description="Dataset versions whose documents count as seen: `datasets/<name>/<hash>` in the store."
    )
    seen: Literal["drop", "mark"] = Field(
        "drop",
        description="What happens to a document that an earlier version has: it goes, or gets `metadata.seen_in`.",
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of the hash functions.")


class Shard(Deduplicate):
    """One shard's part of a stage. All stages of a run are told the same options, and may differ in their shards."""

    shard: int = Field(0, ge=0, description="Number of this shard, from 0.")
    shards: int = Field(1, ge=1, le=10_000, description="How many shards the stage has.")

    @model_validator(mode="after")
    def _is_one_of_them(self) -> "Shard":
        if self.shard >= self.shards:
            raise ValueError(f"shard {self.shard} is none of {self.shards}; they count from 0")
        return self
