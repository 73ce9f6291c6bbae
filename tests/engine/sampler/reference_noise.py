"""The noise of `engine.sampler.noise` by its definition, token by token."""

import math

import numpy as np
import numpy.typing as npt

from engine.sampler.noise import stream_key

MASK = 2**64 - 1


def mixed(z: int) -> int:
    """SplitMix64's finalizer."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def gumbel_noise(seed: np.uint64, position: np.uint64, out: npt.NDArray[np.float64]) -> None:
    """Write the noise of the token ids 0 to len(out) - 1 at one position."""
    key = int(stream_key(seed, position))
    for token in range(len(out)):
        bits = mixed((key + token * 0x9E3779B97F4A7C15) & MASK)
        out[token] = -math.log(-math.log(((bits >> 11) + 0.5) * 2.0**-53))
