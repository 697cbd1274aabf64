"""Who wraps the data keys of sealed files: a local keyset, or a key in Cloud KMS.

A keyset is a JSON file among the environment's keys. Its primary key wraps, every key that is not retired unwraps; a
retired one is gone, and only its id and dates are left. In Cloud KMS the versions of one key are what the keys of a
keyset are here, and KMS rotates them itself.
"""

import base64
import binascii
import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google_crc32c import value as crc32c

from components.common.environment import KEYSET, KMS, Environment
from components.common.errors import HeadraceError, UsageError
from components.common.keys import key_folder
from components.common.store import open_store
from components.common.vault import Vault, is_sealed

ENCRYPTION = "encryption/keyset.json"
"""Where the keyset is in the folder of keys."""

SCHEMA = 1
_NONCE = 12
_CONTEXT = b"headrace data key"
"""Authenticated with every wrapped data key, so that nothing else that a key encrypted passes for one."""
_ENDPOINT = "https://cloudkms.googleapis.com"
_SCOPE = "https://www.googleapis.com/auth/cloudkms"
_SECONDS = 30


class State(StrEnum):
    """What a key of a keyset is for."""

    PRIMARY = "primary"
    """It wraps, and unwraps what it wrapped."""
    ENABLED = "enabled"
    """It only unwraps."""
    RETIRED = "retired"
    """It is gone."""


@dataclass(frozen=True)
class Key:
    """A key of a keyset; `secret` is empty when it is retired."""

    id: str
    state: State
    created: str
    secret: bytes = field(default=b"", repr=False)
    retired: str = ""


@dataclass(frozen=True)
class Keyset:
    """The keys of an environment that wrap data keys.

    Attributes:
        path: Its file.
        keys: In the order in which they were made.
        rotating: The newest became primary, and not everything is wrapped by it yet.
    """

    path: Path
    keys: tuple[Key, ...] = ()
    rotating: bool = False

    @property
    def primary(self) -> Key:
        """The key that wraps."""
        for key in self.keys:
            if key.state == State.PRIMARY:
                return key
        raise HeadraceError(f"every key of {self.path} is retired; `headrace keys rotate` makes another")

    def wrap(self, data_key: bytes) -> tuple[str, bytes]:
        """See `vault.Wrapping`."""
        key, nonce = self.primary, secrets.token_bytes(_NONCE)
        return key.id, nonce + AESGCM(key.secret).encrypt(nonce, data_key, _CONTEXT)

    def unwrap(self, key: str, wrapped: bytes) -> bytes:
        """See `vault.Wrapping`."""
        found = next((one for one in self.keys if one.id == key), None)
        if found is None:
            known = ", ".join(one.id for one in self.keys)
            raise HeadraceError(f"the key {key} is not in {self.path}, which has {known}; put back the keyset that has")
        if found.state == State.RETIRED:
            raise HeadraceError(f"the key {key} was retired {found.retired[:10]}; put back a copy of {self.path.name}")
        try:
            return AESGCM(found.secret).decrypt(wrapped[:_NONCE], wrapped[_NONCE:], _CONTEXT)
        except (InvalidTag, ValueError) as error:
            raise HeadraceError(
                f"its data key was changed, or is not wrapped by {key}; restore it from a backup"
            ) from error

    def with_primary(self) -> "Keyset":
        """The keyset with a new key that wraps from now on."""
        before = tuple(replace(key, state=State.ENABLED) if key.state == State.PRIMARY else key for key in self.keys)
        made = Key(secrets.token_hex(8), State.PRIMARY, _now(), secrets.token_bytes(32))
        return replace(self, keys=(*before, made), rotating=bool(before))

    def without(self, key: str) -> "Keyset":
        """The keyset with a key retired."""
        return replace(
            self,
            keys=tuple(
                replace(one, state=State.RETIRED, secret=b"", retired=_now()) if one.id == key else one
                for one in self.keys
            ),
        )

    def encoded(self) -> bytes:
        """The bytes of its file."""
        keys = [
            {
                "id": key.id,
                "state": key.state,
                "created": key.created,
                "secret": base64.b64encode(key.secret).decode(),
                "retired": key.retired,
            }
            for key in self.keys
        ]
        return json.dumps({"schema": SCHEMA, "rotating": self.rotating, "keys": keys}, indent=1).encode() + b"\n"

    def write(self, before: "Keyset | None") -> None:
        """Put it in the place of what was read, its owner's alone.

        Raises:
            HeadraceError: Somebody changed it meanwhile.
        """
        store = open_store(f"file://{self.path.parent.resolve()}")
        if not store.replace(self.path.name, before.encoded() if before else None, self.encoded()):
            raise HeadraceError(f"{self.path} was changed by somebody else meanwhile; run again")


class CloudKms:
    """A key in Cloud KMS, by its REST interface: `encrypt` and `decrypt` are all that is asked of it.

    Args:
        name: `projects/…/locations/…/keyRings/…/cryptoKeys/…`.
        session: What sends requests; Google's default credentials if none.
        endpoint: Where KMS is.
    """

    def __init__(self, name: str, session: Any = None, endpoint: str = _ENDPOINT) -> None:
        self.name = name
        self._session = session
        self._endpoint = endpoint
        self._unwrapped = lru_cache(1024)(self._decrypt)

    def wrap(self, data_key: bytes) -> tuple[str, bytes]:
        """See `vault.Wrapping`; the id is that of the key's version, which KMS chooses."""
        answer = self._ask(
            "encrypt",
            plaintext=_base64(data_key),
            plaintextCrc32c=str(crc32c(data_key)),
            additionalAuthenticatedDataCrc32c=str(crc32c(_CONTEXT)),
        )
        wrapped = _field(answer, "ciphertext", self.name)
        if not (answer.get("verifiedPlaintextCrc32c") and answer.get("verifiedAdditionalAuthenticatedDataCrc32c")):
            raise HeadraceError(f"{self.name}: the data key was damaged on its way to Cloud KMS; run again")
        return str(answer["name"]), wrapped

    def unwrap(self, key: str, wrapped: bytes) -> bytes:
        """See `vault.Wrapping`; no other key is asked than the environment's, whatever a file says."""
        if not key.startswith(f"{self.name}/cryptoKeyVersions/"):
            raise HeadraceError(f"its key is {key.partition('/cryptoKeyVersions')[0]}, the environment's {self.name}")
        return self._unwrapped(wrapped)

    def _decrypt(self, wrapped: bytes) -> bytes:
        answer = self._ask(
            "decrypt",
            ciphertext=_base64(wrapped),
            ciphertextCrc32c=str(crc32c(wrapped)),
            additionalAuthenticatedDataCrc32c=str(crc32c(_CONTEXT)),
        )
        return _field(answer, "plaintext", self.name)

    def _ask(self, verb: str, **fields: str) -> Mapping[str, Any]:
        from google.auth.exceptions import GoogleAuthError
        from requests import RequestException

        body = {**fields, "additionalAuthenticatedData": _base64(_CONTEXT)}
        try:
            answer = self._logged_in().post(f"{self._endpoint}/v1/{self.name}:{verb}", json=body, timeout=_SECONDS)
            said = answer.json()
        except (GoogleAuthError, RequestException) as error:  # what is no JSON is a RequestException too
            raise HeadraceError(f"Cloud KMS cannot be asked for {self.name}: {error}") from error
        if answer.status_code == 200:
            return said
        why = said.get("error", {}).get("message", f"HTTP {answer.status_code}")
        role = f"; the account needs cloudkms.cryptoKeyVersions.useTo{verb.capitalize()}"
        raise HeadraceError(
            f"Cloud KMS does not {verb} with {self.name}: {why}{role if answer.status_code == 403 else ''}"
        )

    def _logged_in(self) -> Any:
        if self._session is None:
            import google.auth
            from google.auth.transport.requests import AuthorizedSession

            self._session = AuthorizedSession(google.auth.default(scopes=[_SCOPE])[0])
        return self._session


class EnvironmentKeys:
    """The keys that an environment names; what was sealed before it named Cloud KMS still opens with its keyset.

    Args:
        environment: The environment.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    def wrap(self, data_key: bytes) -> tuple[str, bytes]:
        """See `vault.Wrapping`."""
        return self._chosen().wrap(data_key)

    def unwrap(self, key: str, wrapped: bytes) -> bytes:
        """See `vault.Wrapping`."""
        if key.startswith("projects/"):
            return self._kms().unwrap(key, wrapped)
        return _read(self._environment).unwrap(key, wrapped)

    def _chosen(self) -> "CloudKms | Keyset":
        return self._kms() if self._environment.encryption.startswith(KMS) else load_keyset(self._environment)

    def _kms(self) -> CloudKms:
        if not self._environment.encryption.startswith(KMS):
            raise HeadraceError(f"its key is in Cloud KMS, and {self._environment.name} names none as `encryption`")
        return cloud_kms(self._environment.encryption.removeprefix(KMS))


@cache
def cloud_kms(name: str) -> CloudKms:
    """A key in Cloud KMS; what it unwrapped once, this process does not ask for again."""
    return CloudKms(name)


def open_vault(environment: Environment) -> Vault:
    """The vault of an environment: it opens whatever its keys open, and seals if the environment says so."""
    return Vault(EnvironmentKeys(environment), seals=bool(environment.encryption))


def keyset_file(environment: Environment) -> Path:
    """Where an environment's keyset is."""
    return key_folder(environment) / ENCRYPTION


def make_keyset(environment: Environment) -> Keyset:
    """Make an environment's keyset.

    Raises:
        UsageError: There is one.
        HeadraceError: There was one, for something in the home or a store on this machine is sealed.
    """
    path = keyset_file(environment)
    sealed = _sealed_file(environment)
    if path.is_file():  # looked at last: who seals has made it before
        raise UsageError(f"{path} is there already; `headrace keys rotate` makes another key in it")
    if sealed:
        raise HeadraceError(
            f"{path} is missing, and files here need it, such as {sealed}; put the copy back that you keep"
        )
    made = Keyset(path).with_primary()
    made.write(None)
    return made


def load_keyset(environment: Environment) -> Keyset:
    """Read an environment's keyset; a laptop that seals with one makes it on first use.

    Raises:
        HeadraceError: It is missing, or is none.
    """
    path = keyset_file(environment)
    if not path.is_file() and environment.home and environment.encryption == KEYSET:
        try:
            return make_keyset(environment)
        except HeadraceError:
            if not path.is_file():  # of several processes the first makes it
                raise
    return _read(environment)


def _read(environment: Environment) -> Keyset:
    path = keyset_file(environment)
    try:
        return _parsed(path, path.read_bytes())
    except OSError as error:
        raise HeadraceError(
            f"{path}: {error.strerror}; put the keyset there that sealed it, for nothing else opens it, or make the "
            "first one with `headrace keys make`"
        ) from error


def _sealed_file(environment: Environment) -> Path | None:
    """The first file found on this machine that an environment sealed."""
    roots = [environment.home, environment.store.removeprefix("file://")]
    for path in chain.from_iterable(Path(root).rglob("*") for root in roots if root and "://" not in root):
        with suppress(FileNotFoundError):  # it went since it was listed
            if path.is_file() and is_sealed(path):
                return path
    return None


@lru_cache(8)
def _parsed(path: Path, text: bytes) -> Keyset:
    try:
        stated = json.loads(text)
        keys = tuple(
            Key(
                one["id"],
                State(one["state"]),
                one["created"],
                base64.b64decode(one["secret"], validate=True),
                one["retired"],
            )
            for one in stated["keys"]
        )
        whole = all(len(key.secret) == (0 if key.state == State.RETIRED else 32) for key in keys)
        if stated["schema"] == SCHEMA and keys and whole and [key.state for key in keys].count(State.PRIMARY) <= 1:
            return Keyset(path, keys, stated["rotating"])
    except (ValueError, LookupError, TypeError, AttributeError, binascii.Error):
        pass
    raise HeadraceError(f"{path} is no keyset; put back the one that `headrace keys make` made")


def _field(answer: Mapping[str, Any], name: str, key: str) -> bytes:
    """Bytes that KMS answers with, checked with the checksum beside them."""
    try:
        data = base64.b64decode(answer[name], validate=True)
        if crc32c(data) == int(answer[f"{name}Crc32c"]):
            return data
    except (LookupError, ValueError, TypeError):
        pass
    raise HeadraceError(f"{key}: what Cloud KMS answered was damaged on its way; run again")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
