"""Gumbel noise keyed by (seed, position, token id), and the compiled passes over a row of logits for sampling.

A token is drawn as the argmax of logit / temperature + Gumbel noise (Maddison et al., "A* Sampling", section 2). The
generator is counter-based, so noise depends on its key only: SplitMix64's finalizer (Steele et al., "Fast Splittable
Pseudorandom Number Generators", section 4) over a stream key derived from seed and position.
"""

import math

import numpy as np
import numpy.typing as npt

from engine.kernels.jit import jit
from engine.kernels.simd import extremes_16, leading_zeros

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_STREAM = np.uint64(0xD1342543DE82EF95)
_BLOCK = 256
_DRAWN = 64
"""Tokens per block in `draw`; a block is skipped if no bound in it exceeds the maximum so far."""
_INFINITY = np.int32(0x7F800000)
_LOW_BITS = np.int32(0x7FFFFFFF)
_LN2 = math.log(2.0)


@jit
def _mix(z: np.uint64) -> np.uint64:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@jit
def stream_key(seed: np.uint64, position: np.uint64) -> np.uint64:
    """The noise key of one position."""
    return _mix(_mix(seed + _GOLDEN) ^ (position * _STREAM + _GOLDEN))


@jit
def _gumbel(bits: np.uint64) -> float:
    return -math.log(-math.log((np.float64(bits >> np.uint64(11)) + 0.5) * 2.0**-53))


@jit
def _bound(logit: np.float32, inverse_temperature: float, bits: np.uint64) -> float:
    """An upper bound of logit / temperature + noise that needs no logarithm.

    -log(-log u) <= -log(1 - u) <= (leading zeros of 1 - u, plus 1) · ln 2.
    """
    return np.float64(logit) * inverse_temperature + (np.float64(leading_zeros(~bits)) + 1.0) * _LN2


@jit
def _any_beyond(  # noqa: PLR0917
    logits: npt.NDArray[np.float32], start: int, end: int, inverse_temperature: float, key: np.uint64, best: float
) -> bool:
    """Whether a token in start : end has a bound above `best`. Branch-free, so that the compiler vectorizes it."""
    beyond = 0
    for token in range(start, end):
        bits = _mix(key + np.uint64(token) * _GOLDEN)
        beyond |= int(_bound(logits[token], inverse_temperature, bits) > best)
    return beyond != 0


@jit
def draw(
    logits: npt.NDArray[np.float32], inverse_temperature: float, cut: float, seed: np.uint64, position: np.uint64
) -> int:
    """Draw a token from a row [vocab] among those with logit >= `cut`; -1 if there is none."""
    key = stream_key(seed, position)
    chosen, best = -1, -np.inf
    for start in range(0, logits.shape[0], _DRAWN):
        end = min(start + _DRAWN, logits.shape[0])
        if not _any_beyond(logits, start, end, inverse_temperature, key, best):
            continue
        for token in range(start, end):
            logit = logits[token]
            if logit < cut:
                continue
            bits = _mix(key + np.uint64(token) * _GOLDEN)
            # Skips most tokens; the result is bit-identical.
            if _bound(logit, inverse_temperature, bits) <= best:
                continue
            value = np.float64(logit) * inverse_temperature + _gumbel(bits)
            if value > best:
                chosen, best = token, value
    return chosen


@jit
def _ordered(bits: np.int32) -> np.int32:
    """Map float bits to integers with the same order."""
    return np.int32(bits ^ ((bits >> np.int32(31)) & _LOW_BITS))


@jit
def scan(
    bits: npt.NDArray[np.int32],
    best_ids: npt.NDArray[np.int64],
    second_ids: npt.NDArray[np.int64],
) -> int:
    """Find the best and second best token of each row [rows, vocab] of float32 logits, given as int32 bits.

    Ties go to the lower id. Returns the first row that holds NaN or infinity, or -1.
    """
    vocab = bits.shape[1]
    extremes = np.empty(2, np.int32)
    for row in range(bits.shape[0]):
        line = bits[row]
        best = second = np.int32(-0x80000000)
        best_id, second_id = 0, 0
        for start in range(0, vocab, _BLOCK):
            end = min(start + _BLOCK, vocab)
            whole = (end - start) // 16
            extremes_16(line.ctypes.data + 4 * start, whole, extremes.ctypes.data)
            high, low = extremes[0], extremes[1]
            for token in range(start + 16 * whole, end):
                value = _ordered(line[token])
                high, low = max(high, value), min(low, value)
            if high >= _INFINITY or low <= ~_INFINITY:
                return row
            if high <= second:
                continue
            for token in range(start, end):
                value = _ordered(line[token])
                if value > best:
                    second, second_id = best, best_id
                    best, best_id = value, token
                elif value > second:
                    second, second_id = value, token
        best_ids[row] = best_id
        second_ids[row] = second_id
    return -1
