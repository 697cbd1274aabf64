"""Tink's streaming AEAD over a file; run by the Python of its own environment.

The last line printed says what sealing and opening cost, in processor and wall seconds.
"""

import json
import shutil
import sys
from pathlib import Path

import tink
from rounds import best
from tink import streaming_aead


def main(source: Path, folder: Path) -> None:
    streaming_aead.register()
    template = streaming_aead.streaming_aead_key_templates.AES256_GCM_HKDF_1MB
    primitive = tink.new_keyset_handle(template).primitive(streaming_aead.StreamingAead)
    sealed, opened = folder / "sealed", folder / "opened"

    def seal(number: int) -> None:
        with source.open("rb") as plain, primitive.new_encrypting_stream(sealed.open("wb"), b"name") as stream:
            shutil.copyfileobj(plain, stream, 2**20)

    def unseal(number: int) -> None:
        with primitive.new_decrypting_stream(sealed.open("rb"), b"name") as stream, opened.open("wb") as plain:
            shutil.copyfileobj(stream, plain, 2**20)

    costs = {"seal": best(seal)[:2], "open": best(unseal)[:2]}
    assert opened.read_bytes() == source.read_bytes()
    print(json.dumps(costs))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
