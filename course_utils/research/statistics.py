"""Is one arm better than another? Paired differences, their confidence intervals, and the verdict in words."""

from dataclasses import dataclass

import numpy as np
from scipy import stats


def mean_interval(values, confidence=0.95):
    """The mean and its t interval: (low, mean, high); no interval (NaN) from fewer than two values."""
    values = np.asarray(values, dtype=float)
    mean = values.mean()
    if len(values) < 2:
        return np.nan, mean, np.nan
    half = (
        stats.t.ppf((1 + confidence) / 2, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    )
    return mean - half, mean, mean + half


@dataclass(frozen=True)
class Comparison:
    """How much lower (negative) or higher the loss of `arm` is than that of `other`, over paired seeds."""

    arm: str
    other: str
    pairs: int
    low: float  # the 95 % interval of the mean difference, nats/character
    difference: float
    high: float

    @property
    def verdict(self):
        """What the interval allows to be said, as one sentence."""
        if self.pairs < 2:
            return f"{self.arm} against {self.other}: {self.difference:+z.3f} nats/character from one seed, so no verdict."
        interval = f"95 % interval {self.low:+z.3f} to {self.high:+z.3f}, {self.pairs} paired seeds"
        seen = f"{self.difference:+z.3f} nats/character ({interval})"
        if self.high < 0:
            return f"{self.arm} predict better than {self.other}: {seen}."
        if self.low > 0:
            return f"{self.arm} predict worse than {self.other}: {seen}."
        return f"No difference seen between {self.arm} and {self.other}: {seen}."


def compare(arm, losses, other, other_losses):
    """Compare two arms seed by seed. losses, other_losses: dict seed -> nats/character."""
    seeds = sorted(losses.keys() & other_losses.keys())
    if not seeds:
        raise ValueError(f"{arm} and {other} share no seed, so they can't be paired")
    low, mean, high = mean_interval([losses[seed] - other_losses[seed] for seed in seeds])
    return Comparison(arm, other, len(seeds), low, mean, high)
