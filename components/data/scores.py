"""Scores of documents, as steps leave them for later ones in the metadata."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def read_scores(metadata: pa.Array, name: str) -> np.ndarray:
    """Read a score of each document; where it has none, or what stands there is no number, not a number."""
    written = pc.map_lookup(metadata, name, "first")
    values = pc.if_else(pc.match_substring_regex(written, _NUMBER), written, None).cast(pa.float64())
    return values.to_numpy(zero_copy_only=False).astype(float)
