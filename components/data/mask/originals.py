"""What the masks of a document stand for, sealed: who masks can write it and not read it.

One row for each document in which something was masked. Each is encrypted on its own (HPKE, RFC 9180: X25519,
HKDF-SHA-256, AES-256-GCM) and bound to its document, so that none can take another's place. Id and `subjects` stand
beside it in the clear, by which erasure finds whose it is. Sealing is randomised: were it not, whoever has the public
key could test guesses.
"""

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from components.common.errors import HeadraceError
from components.common.ledger import canonical

FILE = "part-00000.parquet"
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("subjects", pa.list_(pa.string()), nullable=False),
        pa.field("sealed", pa.binary(), nullable=False),
    ]
)
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_PURPOSE = b"headrace originals 1\n"
"""Authenticated with every row, and the document's id behind it."""
_ROWS = 500
"""Rows read at once, so that memory does not grow with the corpus."""

Originals = Mapping[str, Iterable[str]]
"""By mask, how what it stands for was written."""
Row = tuple[str, list[str], Originals]
"""Of a document: its id, whom it names, what its masks stand for."""


@contextmanager
def sealing(folder: Path, public: str) -> Iterator[Callable[[Iterable[Row]], None]]:
    """Give what seals the originals of documents into a folder; nothing is written if there is no key to seal to.

    Args:
        folder: Where to.
        public: X25519 public key in base64, or ''.
    """
    if not public:
        yield lambda rows: None
        return
    key = X25519PublicKey.from_public_bytes(base64.b64decode(public))
    with pq.ParquetWriter(folder / FILE, SCHEMA, compression="none") as writer:

        def write(rows: Iterable[Row]) -> None:
            sealed = [
                {"id": name, "subjects": people, "sealed": _seal(key, name, originals)}
                for name, people, originals in rows
                if originals
            ]
            writer.write_table(pa.Table.from_pylist(sealed, SCHEMA))

        yield write


def sealed_of(folder: Path, start: str) -> dict[str, bytes]:
    """The sealed originals of the documents whose ids begin so."""
    found: dict[str, bytes] = {}
    with pq.ParquetFile(folder / FILE) as originals:
        for batch in originals.iter_batches(_ROWS, columns=["id", "sealed"]):
            there = batch.filter(pc.starts_with(batch["id"], start))
            found |= zip(there["id"].to_pylist(), there["sealed"].to_pylist(), strict=True)
    return found


def unseal(sealed: bytes, name: str, key: X25519PrivateKey) -> dict[str, list[str]]:
    """Open the originals of a document.

    Raises:
        HeadraceError: They were sealed to another key or for another document, or changed.
    """
    try:
        return json.loads(_SUITE.decrypt(sealed, key, info=_purpose(name)))
    except (InvalidTag, ValueError) as error:
        raise HeadraceError(
            f"the originals of {name[:12]} were sealed to another key than this one, or were changed; give the private "
            "key that belongs to `data.mask.reversible_to` of the recipe"
        ) from error


def _seal(key: X25519PublicKey, name: str, originals: Originals) -> bytes:
    plain = canonical({mask: list(written) for mask, written in originals.items()})
    return _SUITE.encrypt(plain, key, info=_purpose(name))


def _purpose(name: str) -> bytes:
    return _PURPOSE + name.encode()
