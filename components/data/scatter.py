"""Pseudo-random numbers that depend on what they are drawn for, so that they outlive additions and reordering."""

import numpy as np


def scatter(values: np.ndarray) -> np.ndarray:
    """Spread the bits of unsigned 64-bit values (the finalizer of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
