"""Options of data/mask."""

import base64
import binascii
from typing import Literal, get_args

from pydantic import Field, field_validator

from components.common.options import Options

Kind = Literal[
    "email",
    "resident_number",
    "business_number",
    "driving_licence",
    "passport",
    "bank_account",
    "card",
    "phone",
    "ip",
    "address",
    "secret",
    "person",
    "place",
]

IDENTIFYING: frozenset[Kind] = frozenset(
    {"email", "resident_number", "driving_licence", "passport", "bank_account", "card", "phone"}
)
"""Kinds that belong to one person, who is named by them in `subjects`.

A network address is a machine's, an address a household's in one of many spellings, a business number a company's; of
a secret not even a keyed hash is kept.
"""


NAMES: tuple[Kind, ...] = ("person", "place")
"""Kinds that models and lists find, not rules: slower, less sure, and with packages of their own."""
RULES: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind not in NAMES)


class Mask(Options):
    """Which personal data is masked."""

    kinds: list[Kind] = Field(
        list(RULES),
        description="Kinds of personal data to mask; `person` and `place` need the packages of the extra `names`.",
    )
    keep_examples: bool = Field(
        True,
        description="Leave addresses that belong to nobody: mail at reserved example domains (RFC 2606), loopback and "
        "documentation networks (RFC 5737, RFC 3849).",
    )
    reversible_to: str = Field(
        "",
        description="Public key to which originals are sealed beside the masked documents, as `headrace unmask key` "
        "prints it; empty: nobody can undo a mask.",
    )

    @field_validator("reversible_to")
    @classmethod
    def _is_key(cls, value: str) -> str:
        try:
            size = len(base64.b64decode(value, validate=True))
        except binascii.Error:
            size = -1
        if size not in (0, 32):
            raise ValueError("is no X25519 public key in base64; `headrace unmask key` prints one")
        return value
