"""What a study says: the best learning rate of each depth, the effect of each choice, whether a number came again."""

from dataclasses import dataclass

import pandas as pd
from scipy import stats

from course_utils.research.statistics import mean_interval

PAIRED = 1000  # seeds that lie this far apart pair in a comparison: a control runs the same arm with different luck


def rate_table(records):
    """One row a depth and learning rate: means over seeds of the half of the validation split that chooses."""
    keys = ["n_layers", "arm", "learning_rate"]
    rows = [
        (r.model["n_layers"], r.arm.partition(",")[0], r.train["learning_rate"], r.choosing_loss)
        for r in records
    ]
    table = pd.DataFrame(rows, columns=[*keys, "choosing_loss"])
    table = table.groupby(keys, as_index=False)["choosing_loss"].mean()
    best = table.groupby("n_layers")["choosing_loss"].transform("min")
    edges = table.groupby("n_layers")["learning_rate"].agg(["min", "max"])
    table["best"] = table["choosing_loss"] == best
    table["inside"] = [
        row.learning_rate not in set(edges.loc[row.n_layers]) for row in table.itertuples()
    ]
    return table


def best_rates(records):
    """The learning rate that suits each depth: {n_layers: rate}."""
    if not records:
        raise ValueError(
            "learning rates are chosen by a study of their own: run `course ablate rates` first"
        )
    table = rate_table(records)
    return dict(
        table[table["best"]][["n_layers", "learning_rate"]].itertuples(index=False, name=None)
    )


def losses_of(records, measure="reporting_loss"):
    """{arm: {seed: loss}}, the control's seeds brought together with their pairs."""
    found = {}
    for r in records:
        found.setdefault(r.arm, {})[r.seed % PAIRED] = getattr(r, measure)
    return found


def effects(records, reference, measure="reporting_loss", confidence=0.95):
    """What each arm changes against the reference, over paired seeds: one row an arm, the best first.

    difference, low, high: nats/character, the mean and its interval. p: of the paired t test. p_holm: the same after
    Holm's correction (1979) for as many arms as there are. clear: whether p_holm is below 1 - confidence.
    """
    losses, rows = losses_of(records, measure), []
    for arm, found in losses.items():
        seeds = sorted(found.keys() & losses[reference].keys())
        if arm == reference or not seeds:
            continue
        differences = [found[seed] - losses[reference][seed] for seed in seeds]
        low, mean, high = mean_interval(differences, confidence)
        p = stats.ttest_1samp(differences, 0).pvalue if len(seeds) > 1 else float("nan")
        rows.append(
            {"arm": arm, "seeds": len(seeds), "difference": mean, "low": low, "high": high, "p": p}
        )
    table = pd.DataFrame(rows).sort_values("difference", ignore_index=True)
    table["p_holm"] = holm(table["p"])
    table["clear"] = table["p_holm"] < 1 - confidence
    return table


def holm(p):
    """p-values corrected for their number, so that one false alarm in all of them is rare. Holm (1979)."""
    p = pd.Series(p)
    ordered = p.sort_values()
    factors = range(len(p), 0, -1)
    return (ordered * list(factors)).cummax().clip(upper=1).reindex(p.index)


@dataclass(frozen=True)
class Answer:
    """Whether a published row came again."""

    row: str
    loss: float
    low: float  # where 95 % of new seeds should fall, by the spread of the recorded ones
    high: float
    verdict: str  # reproduced | not reproduced | can't tell
    why: str

    def __str__(self):
        return f"{self.row}: {self.verdict}. {self.why}"


def compare_with_recorded(row, loss, recorded):
    """Compare a new run's loss with the recorded ones of the same row. recorded: losses, one a seed. -> Answer"""
    n = len(recorded)
    if n < 3:
        why = f"This run gave {loss:.3f}; {n} recorded seeds do not show how far seeds lie apart."
        return Answer(row, loss, float("nan"), float("nan"), "can't tell", why)
    values = pd.Series(recorded)
    mean, spread = values.mean(), values.std() * (1 + 1 / n) ** 0.5
    inner, outer = (stats.t.ppf(1 - tail, n - 1) * spread for tail in (0.025, 0.0005))
    seen = f"This run gave {loss:.3f}; {n} recorded seeds gave {mean:.3f} with a standard deviation of {values.std():.4f}"
    low, high = mean - inner, mean + inner
    if abs(loss - mean) <= inner:
        return Answer(
            row,
            loss,
            low,
            high,
            "reproduced",
            f"{seen}, so 95 % of new seeds lie from {low:.3f} to {high:.3f}.",
        )
    if abs(loss - mean) > outer:
        why = f"{seen}, so only one new seed in a thousand lies further away than {outer:.3f}."
        return Answer(row, loss, low, high, "not reproduced", why)
    why = f"{seen}: one new seed in twenty lies outside {low:.3f} to {high:.3f}. Try another seed."
    return Answer(row, loss, low, high, "can't tell", why)
