"""Encrypted model versions: where they are, how they get there, how a predictor gets them back."""

import tempfile
from pathlib import Path

from components.common.errors import HeadraceError, UsageError
from components.common.store import Store, open_store, upload_tree
from components.model.versions import PROVENANCE, verify_version
from serving.storage.sealed import Keys, seal, unseal

SCHEME = "+enc://"
"""What stands between the store's scheme and the place of an encrypted version: `gs+enc://bucket/…`."""

PREFIX = "encrypted"
"""Below it, encrypted versions lie under the keys that they have unencrypted."""


def encrypt(store: Store, version: str, keys: Keys) -> str:
    """Store a registered version a second time, encrypted.

    Doing it again changes nothing; after the key was changed it encrypts the version with the new one.

    Args:
        store: Where versions are.
        version: `NAME/VERSION`.
        keys: The last one encrypts.

    Returns:
        The `storageUri` of the encrypted version.

    Raises:
        HeadraceError: There is no such version, or it is damaged.
    """
    key = f"models/{version}"
    names = [name.removeprefix(f"{key}/") for name in store.list(f"{key}/")]
    if PROVENANCE not in names:
        raise HeadraceError(f"{store.uri}/{key} is no registered model version; `headrace ledger trace` finds them")
    with tempfile.TemporaryDirectory() as folder:
        plain, sealed = Path(folder, "plain"), Path(folder, "sealed")
        for name in names:
            store.download(f"{key}/{name}", plain / name)
        verify_version(plain)
        for name in names:
            (sealed / name).parent.mkdir(parents=True, exist_ok=True)
            seal(plain / name, sealed / name, name, list(keys.values())[-1])
        upload_tree(store, sealed, f"{PREFIX}/{key}", last=PROVENANCE)
    return encrypted_uri(store.uri, key)


def encrypted_uri(store: str, key: str) -> str:
    """Return the `storageUri` of the encrypted copy of a version.

    Args:
        store: URI of the store.
        key: The version's key in it, `models/NAME/VERSION`.
    """
    return f"{store.replace('://', SCHEME, 1)}/{PREFIX}/{key}"


def fetch(uri: str, folder: Path, keys: Keys) -> int:
    """Fetch an encrypted version, decrypt it and check that it is the one that the URI names.

    Args:
        uri: `gs+enc://bucket/…/NAME/VERSION`.
        folder: Where to write it.
        keys: What may have encrypted it.

    Returns:
        The number of files.

    Raises:
        HeadraceError: It is not there, no key fits, or it is not what was registered.
    """
    scheme, found, place = uri.partition(SCHEME)
    if not found:
        raise UsageError(f"{uri!r} is no encrypted model version; its URI begins with gs{SCHEME}")
    store = open_store(f"{scheme}://{place.rstrip('/')}")
    names = list(store.list())
    if PROVENANCE not in names:
        raise HeadraceError(f"{uri} is not there or not complete; store it with `headrace models encrypt`")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".encrypted-", dir=folder) as partial:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            store.download(name, Path(partial, "file"))
            unseal(Path(partial, "file"), folder / name, name, keys)
    version = verify_version(folder)
    if place.rstrip("/").rpartition("/")[2] != version.version:
        raise HeadraceError(f"{uri} holds the version {version.version}; encrypt the one that the URI names again")
    return len(names)
