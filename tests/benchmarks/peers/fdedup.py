"""data-prep-kit's fuzzy deduplication on a folder of Parquet; run by the Python of its own environment.

The last line printed says what it cost and the number of the cluster of each document.
"""

import json
import logging
import sys
from pathlib import Path

import polars
from disjoint_set import DisjointSet
from dpk_fdedup.transform_python import Fdedup
from rounds import best


def main(documents: str, out: Path, bands: int, rows: int, shingle: int, threshold: float) -> None:
    logging.disable(logging.INFO)

    def work(number: int) -> Path:
        folder = out / str(number)
        status = Fdedup(
            input_folder=documents,
            output_folder=str(folder),
            operation_mode="filter_duplicates",
            num_permutations=bands * rows,
            num_bands=bands,
            num_minhashes_per_band=rows,
            word_shingle_size=shingle,
            jaccard_similarity_threshold=threshold,
        ).transform()
        if status:
            sys.exit(status)
        return folder / "docs_to_remove"

    cpu, wall, removed = best(work)
    found = DisjointSet()
    for file in removed.glob("*.parquet"):
        for first, other in polars.read_parquet(file).select("first_doc", "docs_to_remove").iter_rows():
            found.union(first, other)
    clusters = {str(document): found.find(document) for document, _ in found}
    print(json.dumps({"cpu": cpu, "wall": wall, "clusters": clusters}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:6]), float(sys.argv[6]))
