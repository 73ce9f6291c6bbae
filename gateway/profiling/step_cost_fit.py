"""Fits step costs to measured steps: non-negative least squares on relative errors.

The parts of `StepCost` are times, so none may be negative; a plain least-squares fit of correlated
parts makes some of them negative, and extrapolates badly.
"""

import numpy as np
import numpy.typing as npt

from gateway.profiling.profile import FitError, ServiceTimes, StepCost, StepShape

_KNOTS = (0, 2, 8, 32, 128, 512)
_ROUNDS = 5000
_SPREAD = 41
_PAUSES = 97
_TRIMS = 3
_DISTURBED = 1.5
"""Factor over the fitted time."""

Floats = npt.NDArray[np.float64]


def fit(shapes: list[StepShape], seconds: list[float]) -> StepCost:
    """The costs with the least squared error relative to each step."""
    max_tokens = max(shape.tokens for shape in shapes)
    knots = tuple(knot for knot in _KNOTS if knot < max_tokens)
    times = np.array(seconds)
    rows = np.array([_parts(shape, knots) for shape in shapes]) / times[:, None]
    costs = non_negative(rows, np.ones(len(times)))
    for _ in range(_TRIMS):
        # Disturbances make steps longer: outliers are left to the spread.
        kept = rows @ costs > 1 / _DISTURBED
        costs = non_negative(rows[kept], np.ones(int(kept.sum())))
    fixed, sequence, sample, context, attention, *slopes = map(float, costs)
    return StepCost(
        fixed=fixed,
        per_sequence=sequence,
        per_sample=sample,
        per_context_token=context,
        per_attention=attention,
        knots=knots,
        slopes=tuple(slopes),
    )


def service_of(cost: StepCost, shapes: list[StepShape], seconds: list[float]) -> ServiceTimes:
    """Fit the times in service of steps whose own time is `cost`, so that the means agree for short and long steps.

    No outliers are left out here: delays in service are what is measured.
    """
    own = np.array([cost.seconds(shape) for shape in shapes])
    samples = np.array([shape.samples for shape in shapes], dtype=float)
    took = np.array(seconds)
    prefills = np.array([shape.tokens > shape.sequences for shape in shapes])
    # Prefills are few among decodes, and the only information on long steps.
    weight = np.where(prefills, 1 / max(prefills.sum(), 1), 1 / max((~prefills).sum(), 1)) ** 0.5 / own
    parts = np.stack([own, samples, np.ones(len(own))], axis=1)
    factor, per_sample, _ = non_negative(parts * weight[:, None], took * weight)
    left = np.sort(np.maximum(took - factor * own - per_sample * samples, 0.0))
    pauses = [float(part.mean()) for part in np.array_split(left, min(_PAUSES, len(left)))]
    return ServiceTimes(
        factor=_shown(factor), per_sample=_shown(per_sample), pauses=tuple([float(f"{pause:.3g}") for pause in pauses])
    )


def non_negative(rows: Floats, target_values: Floats) -> Floats:
    """The x >= 0 that minimises |rows x - target_values|², by coordinate descent on the normal equations."""
    scale = np.sqrt((rows**2).sum(axis=0))
    scale[scale == 0] = 1.0
    scaled = rows / scale
    gram, target = scaled.T @ scaled, scaled.T @ target_values
    x = np.zeros(rows.shape[1])
    for _ in range(_ROUNDS):
        before = x.copy()
        for column in range(len(x)):
            if gram[column, column] > 0:
                x[column] = max(0.0, x[column] - (gram[column] @ x - target[column]) / gram[column, column])
        if np.abs(x - before).max() < 1e-12:
            break
    solution: Floats = x / scale
    return solution


def error_of(cost: StepCost, shapes: list[StepShape], seconds: list[float]) -> FitError:
    """The error of a fit on these steps."""
    off = np.array([abs(cost.seconds(shape) / took - 1) for shape, took in zip(shapes, seconds, strict=True)])
    return FitError(median=_shown(np.quantile(off, 0.5)), p90=_shown(np.quantile(off, 0.9)), worst=_shown(off.max()))


def spread_of(cost: StepCost, shapes: list[StepShape], seconds: list[float]) -> tuple[float, ...]:
    """Measured over fitted time, at evenly spaced quantiles."""
    ratios = np.array([took / cost.seconds(shape) for shape, took in zip(shapes, seconds, strict=True)])
    return tuple([_shown(np.quantile(ratios, (place + 0.5) / _SPREAD)) for place in range(_SPREAD)])


def _parts(shape: StepShape, knots: tuple[int, ...]) -> list[float]:
    ends = (*knots[1:], shape.tokens)
    pieces = [max(min(shape.tokens, end) - begin, 0) for begin, end in zip(knots, ends, strict=True)]
    return [1.0, shape.sequences, shape.samples, shape.context, shape.attention, *pieces]


def _shown(value: float) -> float:
    return float(f"{value:.4g}")
