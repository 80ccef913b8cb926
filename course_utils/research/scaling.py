"""Depth as a scale: how loss falls over all depths, at what cost, and what could be seen."""

import math

import numpy as np
from scipy import optimize, stats

EXPONENTS = np.geomspace(0.05, 8, 400)  # that a power law may have
POWER = 0.8  # how often a difference that is there should be seen


def by_depth(records, measure):
    """{number of layers: {seed: loss}}, the shallowest first."""
    found = {}
    for r in sorted(records, key=lambda r: r.model["n_layers"]):
        found.setdefault(r.model["n_layers"], {})[r.seed] = getattr(r, measure)
    return found


# --- over all depths -----------------------------------------------------------------------------
def power_laws(depths, losses):
    """Fit floor + a · depth^(-exponent) by least squares, a > 0, to each column of losses.

    depths: (N,); losses: (N, S) -> exponents (S,), and the squares that are left (S,). NaN where
    none of EXPONENTS is better than those around it: then the losses bend in no such way.
    """
    depths = np.asarray(depths, dtype=float)
    worst = np.sum((losses - losses.mean(axis=0)) ** 2, axis=0)  # of a floor alone
    left = []
    for exponent in EXPONENTS:
        terms = np.stack([np.ones_like(depths), depths**-exponent], axis=1)
        fitted, *_ = np.linalg.lstsq(terms, losses, rcond=None)
        squares = np.sum((terms @ fitted - losses) ** 2, axis=0)
        left.append(np.where(fitted[1] > 0, squares, worst))
    best = np.argmin(left, axis=0)
    inside = (best > 0) & (best < len(EXPONENTS) - 1)
    return np.where(inside, EXPONENTS[best], np.nan), np.min(left, axis=0)


def depth_exponent(losses, samples=2000):
    """The exponent of depth's power law, and its 95 % interval over seeds: (low, exponent, high).

    losses: {depth: {seed: loss}}, as many seeds each, which are drawn anew with replacement (a
    bootstrap). All NaN where there is no such law: its means lie further off than seeds explain (an
    F test of the lack of fit, 5 %), or one sample in a hundred has no exponent.
    """
    values = [np.array(list(of.values())) for of in losses.values()]
    draw = np.random.default_rng(0)
    drawn = [draw.choice(of, (len(of), samples)).mean(axis=0) for of in values]
    means = np.array([[of.mean()] for of in values])
    (exponent,), (left,) = power_laws(list(losses), means)
    found, _ = power_laws(list(losses), np.array(drawn))

    seeds = np.mean([len(of) for of in values])
    spread = np.mean([of.var(ddof=1) for of in values]) / seeds  # of a mean
    more = len(values) - 3  # means than the law has numbers
    fits = stats.f.sf(left / more / spread, more, len(values) * (seeds - 1)) > 0.05
    if not fits or np.isnan(exponent) or np.isnan(found).mean() > 0.01:
        return (math.nan,) * 3
    low, high = np.nanquantile(found, [0.025, 0.975])
    return low, exponent, high


def per_doubling(losses):
    """What each doubling of depth changes, by a straight line through all runs, with 95 %.

    losses: as depth_exponent's -> (low, change, high), nats/character
    """
    runs = [(n, loss) for n, of in losses.items() for loss in of.values()]
    depths, found = zip(*runs, strict=True)
    line = stats.linregress(np.log2(depths), found)
    reach = stats.t.ppf(0.975, len(found) - 2) * line.stderr
    return line.slope - reach, line.slope, line.slope + reach


# --- what it costs -------------------------------------------------------------------------------
def training_flops(record):
    """The arithmetic of a training run: 6 a weight and character, and attention's.

    Kaplan et al. (2020), section 2.1, with the scores and sums of attention over the whole window;
    a learned position is looked up, and so no weight here.
    """
    model = record.model
    learned = model["context_length"] * model["d_model"] if model["position"] == "learned" else 0
    attention = 12 * model["n_layers"] * model["context_length"] * model["d_model"]
    a_character = 6 * (record.parameters - learned) + attention
    return a_character * record.history[-1]["characters"]


def cheapest(table, cost, loss="loss"):
    """The rows that nothing as cheap or cheaper beats, the cheapest first. table: a DataFrame"""
    rows = table.sort_values([cost, loss])
    return rows[rows[loss] < rows[loss].cummin().shift(fill_value=math.inf)]


# --- what could be seen --------------------------------------------------------------------------
def power_of(difference, spread, seeds):
    """How often a paired t test at 5 % sees a true difference. spread: of one seed's difference."""
    limit = stats.t.ppf(0.975, seeds - 1)
    shift = difference / spread * seeds**0.5
    below = stats.nct.cdf(limit, seeds - 1, shift) - stats.nct.cdf(-limit, seeds - 1, shift)
    return 1 - below


def seeds_to_see(difference, spread):
    """The fewest seeds by which the test sees it with POWER."""
    seeds = 2
    while power_of(difference, spread, seeds) < POWER:
        seeds += 1
    return seeds


def smallest_seen(spread, seeds):
    """The smallest true difference that the test sees with POWER. spread: of one seed's."""
    enough = spread
    while power_of(enough, spread, seeds) < POWER:
        enough *= 1.5
    return optimize.brentq(lambda d: power_of(d, spread, seeds) - POWER, 0, enough)


def spread_of(one, other):
    """The standard deviation of paired differences. one, other: {seed: loss} -> (sd, pairs)"""
    differences = [one[seed] - other[seed] for seed in one.keys() & other.keys()]
    return np.std(differences, ddof=1), len(differences)
