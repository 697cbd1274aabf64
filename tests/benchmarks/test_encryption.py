"""Sealing and opening a file, beside the least it can cost and Tink's streaming encryption, in one run.

The least is one call of the same cipher on the whole file in memory, which neither bounds memory nor can be read from
the middle. Tink's AES256_GCM_HKDF_1MB is the same construction; it has an environment of its own:

    python3 -m venv /tmp/tink
    /tmp/tink/bin/pip install tink==1.16.1
    HEADRACE_TINK=/tmp/tink/bin/python .venv/bin/pytest -m benchmark tests/benchmarks/test_encryption.py

From file to file, processor time, the best of three rounds (`rounds.py`). Tink is left out, and named, where its
variable is not set.
"""

import json
import os
import secrets
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from rounds import best

from components.common.vault import Vault
from components.common.wrapping import Keyset

MIB = 256
PEER = Path(__file__).parent / "peers" / "tink_streaming.py"


@pytest.mark.benchmark
@pytest.mark.timeout(900)
def test_against_peers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, sealed, opened = (tmp_path / name for name in ("plain", "sealed", "opened"))
    plain.write_bytes(secrets.token_bytes(MIB * 2**20))
    vault = Vault(Keyset(tmp_path / "keyset.json").with_primary(), seals=True)
    costs = {
        "headrace": {
            "seal": best(lambda number: vault.seal_file(plain, sealed, "name"))[:2],
            "open": best(lambda number: vault.open_file(sealed, opened, "name"))[:2],
        }
    }
    assert opened.read_bytes() == plain.read_bytes()

    cipher, nonce = AESGCM(secrets.token_bytes(32)), secrets.token_bytes(12)
    costs["one call"] = {
        "seal": best(lambda number: sealed.write_bytes(cipher.encrypt(nonce, plain.read_bytes(), None)))[:2],
        "open": best(lambda number: opened.write_bytes(cipher.decrypt(nonce, sealed.read_bytes(), None)))[:2],
    }
    left_out = ["tink: HEADRACE_TINK is not set"]
    if python := os.environ.get("HEADRACE_TINK"):
        environment = {**os.environ, "PYTHONPATH": str(PEER.parents[1])}
        command = [python, str(PEER), str(plain), str(tmp_path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        costs["tink"], left_out = json.loads(done.stdout.splitlines()[-1]), []

    with capsys.disabled():
        print(f"\n{MIB} MiB from file to file")
        for act in ("seal", "open"):
            mine = costs["headrace"][act][0]
            for name, cost in costs.items():
                cpu, wall = cost[act]
                print(
                    f"{act}  {name:9} {MIB / cpu:7,.0f} MiB per processor second, {MIB / wall:7,.0f} per second, "
                    f"{cpu / mine:5.2f} of headrace's time"
                )
        print("\n".join(left_out))
    for act in ("seal", "open"):
        assert costs["headrace"][act][0] < 2 * costs["one call"][act][0]
