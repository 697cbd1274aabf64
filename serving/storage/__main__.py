"""`python -m serving.storage`: what KServe runs before a predictor whose model is encrypted."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError

from components.common.errors import HeadraceError, UsageError, machine_trouble
from serving.storage.sealed import read_keys
from serving.storage.versions import fetch


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line: our options from the ClusterStorageContainer, then what KServe appends."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.storage",
        description="Fetch encrypted model versions, decrypt and verify them, as a KServe storage container.",
    )
    parser.add_argument("--keys", type=Path, required=True, help="folder with the keys, as the secret is mounted")
    parser.add_argument(
        "--message", type=Path, required=True, help="file for the reason of a failure: the termination message"
    )
    parser.add_argument("pairs", nargs="+", metavar="URI FOLDER", help="what to fetch and where to")
    return parser.parse_args(argv)


def main() -> None:
    """Fetch; what goes wrong is one sentence, on stderr and in the pod's status."""
    chosen = arguments()
    try:
        if len(chosen.pairs) % 2:
            raise UsageError(f"{chosen.pairs[-1]} has no folder to go to; give pairs of URI and folder")
        keys = read_keys(chosen.keys)
        for uri, folder in zip(chosen.pairs[::2], chosen.pairs[1::2], strict=True):
            print(f"{uri}: {fetch(uri, Path(folder), keys)} files decrypted and verified", flush=True)
    except HeadraceError as error:
        _fail(chosen.message, str(error), error.exit_code)
    except (GoogleAPIError, GoogleAuthError) as error:
        _fail(
            chosen.message, f"the store refuses: {error}; headrace-predictor needs to read encrypted/ in the bucket", 1
        )
    except OSError as error:
        _fail(chosen.message, machine_trouble(error) or f"the model cannot be fetched: {error}", 1)


def _fail(message: Path, reason: str, exit_code: int) -> None:
    sentence = " ".join(reason.split())
    print(sentence, file=sys.stderr)
    # Kubernetes keeps 4,096 bytes.
    message.write_bytes(sentence.encode()[:4096])
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
