"""Seeds and streams of random numbers: each is a function of numbers that are written down, never of what ran before."""

from __future__ import annotations

import zlib

import numpy as np


def derive_seed(*parts: int) -> int:
    """A seed below 2**63 from several numbers, such as (run seed, fold, epoch, batch), well mixed."""
    # The length in front: SeedSequence takes trailing zeros for nothing.
    entropy = [len(parts), *(part & 0xFFFFFFFFFFFFFFFF for part in parts)]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)


def generator(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """An independent stream of random numbers for each purpose and, say, epoch and step."""
    return np.random.default_rng([seed % 2**64, zlib.crc32(purpose.encode()), *indices])
