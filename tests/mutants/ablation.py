"""Wrong and unusual answers to the exercises of lesson 5."""

import math
import statistics

import torch
from scipy import stats

from course_utils import checks
from course_utils.checks.ablation import SENTENCES
from course_utils.research.comparisons import mean_interval
from tests.mutants import Case, late


def interval(differences, t, error):
    middle = statistics.mean(differences)
    half = t * error(differences)
    return middle - half, middle, middle + half


def root_n(differences):
    return statistics.stdev(differences) / len(differences) ** 0.5


def inside(differences, bound, t, error=None):
    """Whether the lower end lies above -bound, and the upper one below bound."""
    low, _, high = interval(differences, t, error or root_n)
    return low > -bound, high < bound


def covers_0(differences, t):
    low, _, high = interval(differences, t, root_n)
    return low < 0 < high


def too_much(judged_so):
    return {letter for letter, text in checks.sizes("5.1").items() if judged_so(text)}


def claims(judged_so):
    return late(lambda: too_much(judged_so))


def wrong_but(words):
    """Judges each sentence rightly, but for one that holds these words."""
    return lambda sentence: bool(SENTENCES[sentence]) and words not in sentence


def paired(losses, others):
    return [losses[seed] - others[seed] for seed in losses]


def as_listed(losses, others):
    return [a - b for a, b in zip(losses.values(), others.values(), strict=True)]


def two_arms(losses, others, t):
    """The interval of two independent samples."""
    apart = math.sqrt(statistics.variance(losses.values()) + statistics.variance(others.values()))
    return interval(paired(losses, others), t, lambda d: apart / len(d) ** 0.5)


def by_course(losses, others, t):
    """With the course's own t interval, at the confidence that this t belongs to."""
    return mean_interval(paired(losses, others), 2 * stats.t.cdf(t, len(losses) - 1) - 1)


def holm(p_values, factor=lambda m, rank: m - rank, keep=max, cap=1.0, back=True):
    m, order = len(p_values), sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * m
    running = 0.0
    for rank, i in enumerate(order):
        running = keep(running, factor(m, rank) * p_values[i])
        adjusted[i if back else rank] = min(cap, running)
    return adjusted


def hochberg(p_values):
    m, order = len(p_values), sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * m
    running = 1.0
    for rank in reversed(range(m)):
        running = min(running, (m - rank) * p_values[order[rank]])
        adjusted[order[rank]] = running
    return adjusted


def holm_of_tensors(p_values):
    rising, order = torch.tensor(p_values, dtype=torch.float64).sort()
    adjusted = (rising * torch.arange(len(p_values), 0, -1)).cummax(0).values.clamp(max=1)
    return adjusted[order.argsort()]


def gain(losses, best=lambda means: means.min(1).values):
    means = losses.mean(2)
    return (means.mean(1) - best(means)).mean().item()


def gain_by_loops(losses):
    gains = []
    for trial in losses.tolist():
        means = [sum(arm) / len(arm) for arm in trial]
        gains.append(sum(means) / len(means) - min(means))
    return sum(gains) / len(gains)


def choose(choosing, reporting, chosen_on=0, reported_on=1, pick=min):
    tables = choosing, reporting
    rates = {arm: pick(row, key=row.get) for arm, row in tables[chosen_on].items()}
    return {arm: (rate, tables[reported_on][arm][rate]) for arm, rate in rates.items()}


def one_rate_for_all(choosing, reporting):
    rates = next(iter(choosing.values()))
    best = min(rates, key=lambda rate: sum(row[rate] for row in choosing.values()))
    return {arm: (best, row[best]) for arm, row in reporting.items()}


def best_of_the_reporting(choosing, reporting):
    rates = {arm: min(row, key=row.get) for arm, row in choosing.items()}
    return {arm: (rate, min(reporting[arm].values())) for arm, rate in rates.items()}


def by_sorting(choosing, reporting):
    found = {}
    for arm in reporting:
        (_, rate), *_ = sorted((loss, rate) for rate, loss in choosing[arm].items())
        found[arm] = [rate, reporting[arm][rate]]
    return found


EXERCISES = {
    "5.1": Case(
        mutants=[
            (claims(lambda text: bool(SENTENCES[text]) or "see no difference" in text), "no more"),
            (claims(lambda sentence: True), "no more"),
            (claims(wrong_but("exactly as good")), "equal"),
            (claims(wrong_but("with a probability")), "rule that makes intervals"),
            (claims(wrong_but("because")), "a cause"),
            (claims(wrong_but("longer budget")), "one budget"),
            (late(lambda: {"a", "x"}), "letters"),
        ],
        unusual=[
            claims(wrong_but("nothing of the kind")),
            late(lambda: [letter.upper() for letter in too_much(wrong_but("nothing"))]),
            late(lambda: "".join(too_much(wrong_but("nothing")))),
        ],
    ),
    "5.2": Case(
        mutants=[
            (lambda d, bound, t: abs(statistics.mean(d)) < bound, "the interval does not"),
            (lambda d, bound, t: inside(d, bound, t)[0], "upper end"),
            (lambda d, bound, t: inside(d, bound, t)[1], "lower end"),
            (
                lambda d, bound, t: all(inside(d, bound, t)) and covers_0(d, t),
                "is 0 asked for",
            ),
            (lambda d, bound, t: covers_0(d, t), "is 0 asked for"),
            (
                lambda d, bound, t: all(inside(d, bound, t, error=statistics.stdev)),
                "root of n",
            ),
        ],
        unusual=[
            lambda d, bound, t: all(inside(d, bound, t)),
            lambda d, bound, t: (
                max(
                    stats.ttest_1samp(d, -bound, alternative="greater").pvalue,
                    stats.ttest_1samp(d, bound, alternative="less").pvalue,
                )
                < 0.05
            ),
            lambda d, bound, t: torch.tensor(all(inside(d, bound, t))),
        ],
    ),
    "5.3": Case(
        mutants=[
            (lambda losses, others, t: interval(as_listed(losses, others), t, root_n), "paired"),
            (two_arms, "six differences"),
            (
                lambda a, b, t: interval(paired(a, b), t, lambda d: statistics.stdev(d) / len(d)),
                "root of n",
            ),
            (lambda a, b, t: interval(paired(a, b), t, statistics.stdev), "not their mean"),
            (lambda a, b, t: interval(paired(b, a), t, root_n), "other way round"),
            (lambda a, b, t: interval(paired(a, b), 1, root_n), "is t left out"),
            (
                lambda a, b, t: [interval(paired(a, b), t, root_n)[i] for i in (1, 0, 2)],
                "another order",
            ),
            (
                lambda a, b, t: interval(
                    paired(a, b), t, lambda d: statistics.pstdev(d) / len(d) ** 0.5
                ),
                "divide by n",
            ),
        ],
        unusual=[
            by_course,
            lambda losses, others, t: list(interval(paired(losses, others), t, root_n)),
        ],
    ),
    "5.4": Case(
        mutants=[
            (lambda p_values: [min(1, len(p_values) * p) for p in p_values], "Bonferroni"),
            (lambda p_values: holm(p_values, keep=lambda running, new: new), "below a smaller one"),
            (lambda p_values: holm(p_values, cap=9), "above 1"),
            (lambda p_values: holm(p_values, back=False), "are they sorted"),
            (lambda p_values: holm(p_values, factor=lambda m, rank: rank + 1), "largest factor"),
            (
                lambda p_values: holm(p_values, factor=lambda m, rank: m - rank - 1),
                "ranks begin at 1",
            ),
            (hochberg, "Hochberg"),
        ],
        unusual=[holm_of_tensors, lambda p_values: tuple(holm(p_values))],
    ),
    "5.5": Case(
        mutants=[
            (
                lambda losses: (losses.mean((1, 2)) - losses.amin((1, 2))).mean().item(),
                "single run",
            ),
            (
                lambda losses: (losses.mean() - losses.mean((0, 2)).min()).item(),
                "best in all trials",
            ),
            (lambda losses: gain(losses, lambda means: means.max(1).values) * -1, "the highest"),
            (lambda losses: (losses.mean() - losses.min()).item(), "lowest number of all"),
            (lambda losses: -gain(losses), "sign"),
            (lambda losses: gain(losses, torch.min), "over all trials"),
            (lambda losses: losses.mean(2).min(1).values.mean().item(), "best loss itself"),
        ],
        unusual=[gain_by_loops, lambda losses: torch.tensor(gain(losses))],
    ),
    "5.6": Case(
        mutants=[
            (lambda choosing, reporting: choose(choosing, reporting, 0, 0), "chose nothing"),
            (lambda choosing, reporting: choose(choosing, reporting, 1, 1), "held out"),
            (one_rate_for_all, "its own best"),
            (best_of_the_reporting, "its loss at the rate chosen"),
            (
                lambda choosing, reporting: choose(
                    choosing, reporting, pick=lambda row, key: min(row)
                ),
                "smallest rate",
            ),
            (lambda choosing, reporting: choose(choosing, reporting, pick=max), "the highest"),
        ],
        unusual=[by_sorting],
    ),
}
