"""datatrove's four MinHash stages on a folder of Parquet; run by the Python of its own environment.

The last line printed says what they cost and the number of the cluster of each document.
"""

import json
import struct
import sys
from pathlib import Path

from datatrove.pipeline.dedup import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter
from datatrove.utils.logging import logger
from datatrove.utils.word_tokenizers import WordTokenizer
from rounds import ROUNDS, best


class Spaces(WordTokenizer):
    """The fastest that a user could pass in: words by white space, instead of spaCy, its default for English."""

    def word_tokenize(self, text):
        return text.split()

    def sent_tokenize(self, text):
        return [text]

    def span_tokenize(self, text):
        return [(0, len(text))]


def main(documents: str, out: Path, bands: int, rows: int, shingle: int, words: str) -> None:
    logger.remove()
    config = MinhashConfig(n_grams=shingle, num_buckets=bands, hashes_per_bucket=rows)
    signers = [
        MinhashDedupSignature(str(out / str(number) / "signatures"), config, Spaces() if words == "spaces" else "eng")
        for number in range(ROUNDS + 1)
    ]
    for signer in signers:
        signer.word_tokenizer.word_tokenize("Load what the tokenizer needs.")

    def read():
        return ParquetReader(documents, text_key="contents", id_key="id").run()

    def work(number: int) -> Path:
        folder = out / str(number)
        signatures, buckets, removed = (str(folder / name) for name in ("signatures", "buckets", "removed"))
        signers[number].run(read())
        for band in range(bands):
            MinhashDedupBuckets(signatures, buckets, config=config).run(rank=band, world_size=bands)
        MinhashDedupCluster(buckets, removed, config=config, save_cluster_id=True).run()
        for _ in ParquetWriter(str(folder / "unique")).run(MinhashDedupFilter(removed).run(read())):
            pass
        return folder / "removed"

    cpu, wall, removed = best(work)
    found = struct.iter_unpack("<II", (removed / "000000.clusters").read_bytes())
    print(json.dumps({"cpu": cpu, "wall": wall, "clusters": {str(document): cluster for document, cluster in found}}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:6]), sys.argv[6])
