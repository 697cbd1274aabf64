"""Compiled loops over the bytes of Arrow text columns, for what would be too slow on Python strings."""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pyarrow as pa

BYTES = numba.types.Array(numba.uint8, 1, "C", readonly=True)
OFFSETS = numba.types.Array(numba.int64, 1, "C", readonly=True)


def compiled(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile for one signature at import, and cache the machine code where the folder can be written."""

    def compile_(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(signature, cache=True, nogil=True)(function)
        except RuntimeError:  # A read-only container has no place for a cache.
            return numba.njit(signature, nogil=True)(function)

    return compile_


@compiled(numba.uint64(numba.uint64))
def mix(value):  # type: ignore[no-untyped-def]
    """Spread the bits of a 64-bit value (the finalizer of splitmix64)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@compiled(numba.types.Tuple((numba.uint32, numba.int64))(BYTES, numba.int64))
def read_character(data, position):  # type: ignore[no-untyped-def]
    """Read the code point that begins at a place of valid UTF-8, and how many bytes it has."""
    first = data[position]
    if first < 0x80:
        point, width = np.uint32(first), 1
    elif first < 0xE0:
        point, width = np.uint32(first & 0x1F), 2
    elif first < 0xF0:
        point, width = np.uint32(first & 0x0F), 3
    else:
        point, width = np.uint32(first & 0x07), 4
    for further in range(1, width):
        point = (point << np.uint32(6)) | np.uint32(data[position + further] & 0x3F)
    return point, width


def content(text: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Give the UTF-8 bytes of a column of large strings, and where each text begins in them, and the end."""
    _, offsets, data = text.buffers()
    bounds = np.frombuffer(offsets, np.int64)[text.offset : text.offset + len(text) + 1]
    return np.frombuffer(data if data is not None else b"", np.uint8), bounds
