"""Which arm is better, and how sure is that? Paired differences, intervals, verdicts in words."""

import itertools
import math
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from course_utils.messages import N_, _, reader, speaker
from course_utils.messages.names import translated

REFERENCE = "unchanged"  # the arm that others are measured against, where a study has one
CONTROL = f"{REFERENCE}, other seeds"  # the same arm with different luck: no effect to be found
PAIRED = 1000  # a seed of the control is paired with the reference's seed that lies this far below


def t_test(values, confidence=0.95):
    """Student's t test against zero: (low, mean, high, p); from a single value only the mean.

    low, high: the interval of the mean. What can't be told is NaN.
    """
    with warnings.catch_warnings():  # equal values, or only one: NaN says it
        warnings.simplefilter("ignore", RuntimeWarning)
        test = stats.ttest_1samp(values, 0)
        interval = test.confidence_interval(confidence)
    return interval.low, sum(values) / len(values), interval.high, test.pvalue


def mean_interval(values, confidence=0.95):
    """The mean and its t interval: (low, mean, high); from a single value only the mean."""
    low, mean, high = t_test(list(values), confidence)[:3]
    return low, mean, high


def bootstrap_interval(values, samples=10_000):
    """The mean and its 95 % interval, had others been drawn: (low, mean, high). Efron (1979)."""
    values = np.asarray(values)
    drawn = np.random.default_rng(0).integers(0, len(values), (samples, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return low, values.mean(), high


@dataclass(frozen=True)
class Comparison:
    """How much lower (negative) or higher the loss of `arm` is than that of `other`."""

    arm: str
    other: str
    pairs: int  # seeds that both have
    low: float  # the 95 % interval of the mean difference, nats/character
    difference: float
    high: float
    p: float  # of the paired t test

    @property
    def verdict(self):
        """What the interval allows to be said, as one sentence."""
        return self.verdict_in(reader())

    def verdict_in(self, language):
        """The same in "english" or "chinese"."""
        _ = speaker(language)
        arms = {name: translated(getattr(self, name), language) for name in ("arm", "other")}
        if not self.pairs:
            return _("{arm} and {other} share no seed, so they can't be compared.", **arms)
        seen = _("{difference:+z.3f} nats/character", difference=self.difference)
        if self.pairs == 1:
            return _(
                "{arm} against {other}: {seen} from one seed, so no verdict.", **arms, seen=seen
            )
        seen += _(
            " (95 % interval {low:+z.3f} to {high:+z.3f}, {n} paired seeds)",
            low=self.low,
            high=self.high,
            n=self.pairs,
        )
        if self.high < 0:
            return _("{arm} predict better than {other}: {seen}.", **arms, seen=seen)
        if self.low > 0:
            return _("{arm} predict worse than {other}: {seen}.", **arms, seen=seen)
        return _("No difference seen between {arm} and {other}: {seen}.", **arms, seen=seen)

    def enough_seeds(self, most=12):
        """How many pairs would leave 0 outside the interval, were all to lie as far apart as these.

        None: more than `most`, or too few to say.
        """
        if self.pairs < 2:
            return None
        reach = (self.high - self.low) / 2
        spread = reach * self.pairs**0.5 / stats.t.ppf(0.975, self.pairs - 1)
        for n in range(self.pairs + 1, most + 1):
            if stats.t.ppf(0.975, n - 1) * spread / n**0.5 < abs(self.difference):
                return n
        return None


def compare(arm, losses, other, other_losses):
    """Compare two arms seed by seed. losses, other_losses: dict seed -> nats/character."""
    seeds = sorted(losses.keys() & other_losses.keys())
    if not seeds:
        return Comparison(arm, other, 0, math.nan, math.nan, math.nan, math.nan)
    low, mean, high, p = t_test([losses[seed] - other_losses[seed] for seed in seeds])
    return Comparison(arm, other, len(seeds), low, mean, high, p)


def losses_of(records, measure="reporting_loss"):
    """{arm: {seed: loss}}, the control's seeds brought together with their pairs.

    ValueError where an arm has two runs of one seed: which of them should count?
    """
    losses = {}
    for r in records:
        seed = r.seed - PAIRED if r.arm == CONTROL else r.seed
        of_arm = losses.setdefault(r.arm, {})
        if seed in of_arm:
            words = _(
                "{arm} has two runs of seed {seed}, so no comparison can use it",
                arm=translated(r.arm),
                seed=r.seed,
            )
            raise ValueError(words)
        of_arm[seed] = getattr(r, measure)
    return losses


def adjacent(records, measure="validation_loss"):
    """Each arm against the one before it. -> list of Comparison"""
    losses = losses_of(records, measure)
    return [
        compare(arm, losses[arm], before, losses[before])
        for before, arm in itertools.pairwise(losses)
    ]


def in_frames(frames):
    """Each arm against the one before it, in several studies of one question.

    frames: {name: records, in the order of their arms}. -> a row a comparison: frame, arm, other,
    and name, all three in short; seeds; difference, low, high, p on the half that reports; the same
    as whole, whole_low, … on the whole split, and where all runs have read the untouched plays, as
    untouched, untouched_low, … on those (nats/character); r, the correlation of the two arms'
    losses over the seeds, which pairing lives on; p_holm, whole_p_holm, …, p after Holm's
    correction for all rows; clear, p_holm < 0.05.
    """
    texts = {"": "reporting_loss", "whole": "validation_loss"}
    if all(r.untouched for records in frames.values() for r in records):
        texts["untouched"] = "untouched_loss"
    rows = []
    for frame, records in frames.items():
        losses = {text: losses_of(records, measure) for text, measure in texts.items()}
        half = losses[""]
        for other, arm in itertools.pairwise(half):
            short = [name.partition(",")[0] for name in (arm, other)]  # "4 layers, width 312"
            name = f"{frame}: {' - '.join(short)}"
            row = {"frame": frame, "arm": arm, "other": other, "name": name}
            for text, of in losses.items():
                row |= in_columns(compare(arm, of[arm], other, of[other]), text)
            row["r"] = pd.Series(half[arm]).corr(pd.Series(half[other]))
            rows.append(row)
    table = pd.DataFrame(rows)
    for text in texts:
        table[column(text, "p_holm")] = holm(table[column(text, "p")])
    table["clear"] = table["p_holm"] < 0.05
    return table


def pairing(losses, other_losses):
    """What it gains to pair two arms by their seeds. losses, other_losses: dict seed -> loss.

    -> r, the correlation of the pairs; half the width of the paired interval of their difference,
    and of the unpaired one, which lets each arm have its own spread (Welch, 1947); at_zero, what
    theory gives for the first over the second to so many pairs of one spread, were r zero
    """
    table = pd.DataFrame({"one": losses, "other": other_losses}).dropna()
    low, _, high, _ = t_test(list(table["one"] - table["other"]))
    unpaired = stats.ttest_ind(table["one"], table["other"], equal_var=False)
    apart = unpaired.confidence_interval()
    n = len(table)
    return {
        "r": table["one"].corr(table["other"]),
        "paired": (high - low) / 2,
        "unpaired": (apart.high - apart.low) / 2,
        "at_zero": stats.t.ppf(0.975, n - 1) / stats.t.ppf(0.975, 2 * n - 2),
    }


def centred(pairs):
    """Both values of each pair, from their group's means. pairs: rows with group, one and other"""
    values = pairs[["one", "other"]]
    return values - values.groupby(pairs["group"]).transform("mean")


def pooled_correlation(pairs):
    """The correlation within groups, with its 95 % interval (Fisher, 1915): (low, r, high).

    pairs: as `centred` takes them
    """
    apart = centred(pairs)
    r = apart["one"].corr(apart["other"])
    degrees = len(pairs) - pairs["group"].nunique() - 2  # of freedom, as n - 3 for a single group
    reach = stats.norm.ppf(0.975) / math.sqrt(degrees)
    low, high = np.tanh([np.arctanh(r) - reach, np.arctanh(r) + reach])
    return low, r, high


def in_columns(one, text=""):
    """A Comparison as a part of a row; text: what stands in its columns' names, if anything."""
    return {
        "seeds": one.pairs,
        text or "difference": one.difference,
        **{column(text, name): getattr(one, name) for name in ("low", "high", "p")},
    }


def column(text, name):
    return f"{text}_{name}" if text else name


def over_plays(one, other):
    """The interval of a mean difference, had other seeds been drawn *and* other plays.

    one, other: {seed: {play: loss}}. The variances of the means over seeds and over plays add up,
    so that what belongs to single runs and plays counts twice, on the safe side (as in Owen, 2007);
    Student's t has degrees of freedom for both (Satterthwaite, 1946). -> (low, high), 95 %
    """
    seeds = sorted(one.keys() & other.keys())
    table = pd.DataFrame({s: pd.Series(one[s]) - pd.Series(other[s]) for s in seeds})
    variances, more = [], []
    for means in (table.mean(axis=0), table.mean(axis=1)):
        variances.append(means.var() / len(means))
        more.append(len(means) - 1)
    both = sum(variances)
    degrees = both**2 / sum(v**2 / n for v, n in zip(variances, more, strict=True)) if both else 1
    reach = stats.t.ppf(0.975, degrees) * both**0.5
    return table.values.mean() - reach, table.values.mean() + reach


def against(records, reference=REFERENCE, measure="reporting_loss"):
    """What each arm changes against the reference: a table of one row an arm, the best first.

    difference, low, high, p: as in Comparison. p_holm: p after Holm's correction for as many arms
    as there are. clear: whether p_holm is below 0.05.
    """
    losses = losses_of(records, measure)
    rows = []
    for arm in losses:
        one = compare(arm, losses[arm], reference, losses[reference])
        if arm != reference and one.pairs:
            rows.append({"arm": arm, **in_columns(one)})
    columns = ["arm", "seeds", "difference", "low", "high", "p"]
    table = pd.DataFrame(rows, columns=columns).sort_values("difference", ignore_index=True)
    table["p_holm"] = holm(table["p"])
    table["clear"] = table["p_holm"] < 0.05
    return table


def other_task(table):
    """Whether each row's arm has another context, and so another task."""
    return table["arm"].str.startswith("context")


def tasks_marked(table):
    """The same rows; an arm of another task is named as what it is."""
    own = ~other_task(table)
    return table.assign(arm=table["arm"].where(own, table["arm"] + " (another task)"))


def holm(p):
    """p-values corrected for their number: one false alarm in all of them is rare. Holm (1979)."""
    p = pd.Series(p)
    ordered = p.sort_values()
    factors = range(len(p), 0, -1)
    return (ordered * list(factors)).cummax().clip(upper=1).reindex(p.index)


@dataclass(frozen=True)
class Answer:
    """Whether a published row came again."""

    row: str
    verdict: str  # of VERDICTS
    why: str

    def __str__(self):
        return _("{row}: {verdict}. {why}", row=self.row, verdict=_(self.verdict), why=self.why)


VERDICTS = N_("reproduced"), N_("not reproduced"), N_("can't tell")


# What has to be alike, besides the regime, for an exact run to give the same bits again.
ALIKE = ("device", "torch", "code")


def compare_bits(row, record, recorded):
    """Compare a new run's weights with those of the recorded run of its seed.

    -> Answer, or None where they can't decide: no such run has its sha256, or other bits come of
    another device, other versions, or a regime that is not exact, as no CPU's is called (CPUs of
    several kinds add in several orders).
    """
    twin = next((r for r in recorded if r.seed == record.seed and r.weights_sha256), None)
    if twin is None:
        return None
    if record.weights_sha256 == twin.weights_sha256:
        why = _(
            "The same bits as the recorded seed {seed}: sha256 {sha256}.",
            seed=record.seed,
            sha256=twin.weights_sha256,
        )
        return Answer(row, "reproduced", why)

    alike = all(record.environment.get(name) == twin.environment.get(name) for name in ALIKE)
    if alike and record.regime == twin.regime and "exact" in record.regime.split(", "):
        why = _(
            "Other bits than the recorded seed {seed}, on the same device, by the same versions, "
            "where they should be the same.",
            seed=record.seed,
        )
        return Answer(row, "not reproduced", why)
    return None


def compare_with_recorded(row, loss, recorded):
    """Compare a new run's loss with the recorded ones of the same row, one a seed. -> Answer"""
    n = len(recorded)
    if n < 3:
        why = _(
            "This run gave {loss:.3f}; {n} recorded seeds do not show how far seeds lie apart.",
            loss=loss,
            n=n,
        )
        return Answer(row, "can't tell", why)

    values = pd.Series(recorded)
    mean = values.mean()
    spread = values.std() * (1 + 1 / n) ** 0.5  # of one new value around the mean of n
    usual = stats.t.ppf(0.975, n - 1) * spread  # 95 % of new seeds fall within it
    rare = stats.t.ppf(0.9995, n - 1) * spread

    seen = _(
        "This run gave {loss:.3f}; {n} recorded seeds gave {mean:.3f} with a standard deviation "
        "of {std:.4f}",
        loss=loss,
        n=n,
        mean=mean,
        std=values.std(),
    )
    ends = {"seen": seen, "low": mean - usual, "high": mean + usual}
    if abs(loss - mean) <= usual:
        why = _("{seen}, so 95 % of new seeds lie from {low:.3f} to {high:.3f}.", **ends)
        return Answer(row, "reproduced", why)
    if abs(loss - mean) > rare:
        why = _(
            "{seen}, so only one new seed in a thousand lies further away than {rare:.3f}.",
            seen=seen,
            rare=rare,
        )
        return Answer(row, "not reproduced", why)
    why = _(
        "{seen}: one new seed in twenty lies outside {low:.3f} to {high:.3f}. Try another seed.",
        **ends,
    )
    return Answer(row, "can't tell", why)
