"""Options of data/deduplicate."""

from pydantic import Field

from components.common.options import Options


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
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of the hash functions.")
