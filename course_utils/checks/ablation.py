"""Checks of lesson 5: how sure a mean is, paired intervals, p-values, many arms, honest choices."""

import math

import torch
from scipy import stats

from course_utils.checks import agree, exercise, generator, sizes
from course_utils.messages import N_, _


def drawn(count, salt, digits=3):
    """Losses as a study might report them."""
    return [
        round(1.5 + 0.01 * x, digits)
        for x in torch.randn(count, generator=generator(salt)).tolist()
    ]


# What somebody wrote under a study, and what is wrong with it: nothing, or that it says too much.
SENTENCES = {
    N_("Four layers predict better than two, by this recipe."): "",
    N_("Between six layers and four, these six seeds see no difference."): "",
    N_("Six layers are exactly as good as four."): (
        N_("that no difference was seen does not make them equal: -0.022 is still possible")
    ),
    N_("The true gap of 4 against 2 lies between -0.057 and -0.026, with a probability of 95 %."): (
        N_("the 95 % belong to the rule that makes intervals, not to this one")
    ),
    N_("Four layers lead two because they can look further back."): N_(
        "nothing here tests a cause"
    ),
    N_("With a longer budget six layers would lead four."): N_("this study has one budget"),
}


def shuffled(draw):
    """letter -> sentence, in an order of the variant's own."""
    left = list(SENTENCES)
    return {letter: _(left.pop(draw(0, len(left) - 1))) for letter in "abcdef"}


@exercise("5.1", "Which sentence says too much?", level="warm-up", minutes=10, sizes=shuffled)
def check_5_1(attempt):
    """A set of letters, sentence by sentence."""
    named = {str(letter).strip().lower() for letter in attempt}
    given = sizes("5.1")
    wrongs = {_(sentence): _(wrong) if wrong else "" for sentence, wrong in SENTENCES.items()}
    agree(named <= given.keys(), True, _("letters from a to {last}", last=max(given)))
    for letter, sentence in given.items():
        why = wrongs[sentence] or _("that is what the interval says, and no more")
        says_too_much = bool(wrongs[sentence])
        mistake = {why: not says_too_much}
        agree(letter in named, says_too_much, f"({letter}) {sentence}", mistake, secret=True)
    return _("a sentence may say what the interval says, about this recipe, and no more")


@exercise("5.2", "Equal within a bound", level="core", minutes=15)
def check_5_2(attempt):
    """Against two one-sided t tests (Schuirmann, 1987) by scipy."""
    luck = drawn(6, 521)
    middle, spread = sum(luck) / 6, deviation(luck)
    near = [0.002 * (x - middle) / spread for x in luck]  # around 0, with a spread of 0.002
    cases = [
        (near, 0.02, _("all of the interval lies within")),
        ([x + 0.01 for x in near], 0.02, _("sure of a sign, and still within: is 0 asked for?")),
        ([8 * x for x in near], 0.008, _("the mean lies within, the interval does not")),
        ([x + 0.019 for x in near], 0.02, _("the mean lies within, the upper end does not")),
        ([x - 0.019 for x in near], 0.02, _("the mean lies within, the lower end does not")),
        (near, deviation(near), _("within one spread: is the root of n left out?")),
    ]
    for differences, bound, why in cases:
        n = len(differences)
        above = stats.ttest_1samp(differences, -bound, alternative="greater").pvalue
        below = stats.ttest_1samp(differences, bound, alternative="less").pvalue
        t = float(stats.t.ppf(0.95, n - 1))
        expected = max(above, below) < 0.05
        shown = [round(d, 5) for d in differences]
        given = f"differences = {shown}, bound = {bound:.4g}, t = {t:.3f}"
        agree(bool(attempt(differences, bound, t)), bool(expected), given, {why: not expected})
    return _("two arms are called equal only within a bound that was named before")


@exercise("5.3", "A paired interval by hand", level="core", minutes=15)
def check_5_3(attempt):
    """Six paired seeds, in another order in each arm; against scipy-free arithmetic."""
    for salt, t in ((53, 2.571), (54, 4.032)):
        luck = drawn(6, salt)
        noise = drawn(6, salt + 100, digits=4)
        losses = {
            seed: round(luck[seed] - 0.02 + (noise[seed] - 1.5) / 10, 4)
            for seed in (3, 1, 5, 0, 4, 2)
        }
        others = {seed: luck[seed] for seed in range(6)}
        by_seed = [losses[seed] - others[seed] for seed in range(6)]
        as_listed = [a - b for a, b in zip(losses.values(), others.values(), strict=True)]
        apart = math.sqrt(deviation(list(losses.values())) ** 2 + deviation(luck) ** 2)
        middle = sum(by_seed) / 6
        one = deviation(by_seed)
        half = t * one / 6**0.5
        low, high = middle - half, middle + half
        mistakes = {
            _(
                "are losses paired as they are listed? The dicts list the seeds in different orders"
            ): around(middle, t * deviation(as_listed) / 6**0.5),
            _("are the arms' own scatters used? A paired interval is of the six differences"): (
                around(middle, t * apart / 6**0.5)
            ),
            _("is the deviation divided by n? The root of n is asked for"): around(
                middle, t * one / 6
            ),
            _("is that where one difference lies, not their mean?"): around(middle, t * one),
            _("losses minus others: is it the other way round?"): around(-middle, half),
            _("are they in another order? Asked for are the lower end, the mean, the upper end"): (
                (middle, low, high)
            ),
            _("is t left out?"): around(middle, one / 6**0.5),
            _("does the deviation divide by n?"): around(middle, half * (5 / 6) ** 0.5),
        }
        given = f"losses = {losses}, others = {others}, t = {t}"
        agree(attempt(losses, others, t), (low, middle, high), given, mistakes, tolerance=1e-7)
    return _(
        "pairing takes out the luck that arms share: here much, in the lesson's runs hardly any"
    )


def deviation(values):
    mean = sum(values) / len(values)
    return math.sqrt(sum((x - mean) ** 2 for x in values) / (len(values) - 1))


def around(middle, half):
    return (middle - half, middle, middle + half)


@exercise("5.4", "Many arms: Holm's correction", level="core", minutes=20)
def check_5_4(attempt):
    """Against the definition: the largest of the factors times p of all that are as small."""
    uniform = [round(x**3, 4) for x in torch.rand(7, generator=generator(55)).tolist()]
    for p_values in (
        [0.01, 0.04, 0.03],
        [0.04, 0.001, 0.045, 0.02],
        [0.6, 0.9, 0.02],
        [0.03],
        uniform,
    ):
        m = len(p_values)
        rising = sorted(p_values)
        raw = {}  # p -> its factor times p; of equal ones the first has the largest factor
        for rank, p in enumerate(rising):
            raw.setdefault(p, (m - rank) * p)
        running = {p: max(raw[q] for q in rising if q <= p) for p in rising}
        expected = [min(1.0, running[p]) for p in p_values]
        turned = {p: max((rising.index(q) + 1) * q for q in rising if q <= p) for p in rising}
        mistakes = {
            _("is every p multiplied by m? That is Bonferroni; Holm's fall"): (
                [min(1, m * p) for p in p_values]
            ),
            _("are they sorted? Asked for is the order in which they came"): sorted(expected),
            _("does a larger p come out below a smaller one?"): [min(1, raw[p]) for p in p_values],
            _("do ranks begin at 1? The smallest p is multiplied by m"): (
                [min(1, max(raw[q] - q for q in rising if q <= p)) for p in p_values]
            ),
            _("does one come out above 1?"): [running[p] for p in p_values],
            _("does the largest p get the largest factor? The smallest should"): (
                [min(1.0, turned[p]) for p in p_values]
            ),
            _("is that Hochberg's, from the largest p down? It asks for more than Holm"): (
                [min(min(1.0, raw[q]) for q in rising if q >= p) for p in p_values]
            ),
        }
        agree(attempt(p_values), expected, f"p_values = {p_values}", mistakes, tolerance=1e-9)
    return _("the smallest of m is judged m times as strictly, the next m - 1 times")


@exercise("5.5", "The best of twenty", level="stretch", minutes=30)
def check_5_5(attempt):
    """Small cases one by one; then the expected maximum of k normal numbers, by an integral."""
    for salt, shape in ((56, (2, 3, 5)), (57, (3, 5, 2)), (58, (1, 7, 1))):
        losses = 1.5 + torch.randn(shape, generator=generator(salt), dtype=torch.float64)
        trials = [(trial.mean() - min(arm.mean() for arm in trial)).item() for trial in losses]
        arms = losses.mean(2)  # (trials, arms)
        middle = losses.mean().item()
        gain = sum(trials) / len(trials)
        mistakes = {
            _("is it the best single run? Asked for is the arm with the best mean"): (
                middle - losses.amin((1, 2)).mean().item()
            ),
            _("is it the lowest number of all? Asked for is the best arm of each trial"): (
                middle - losses.min().item()
            ),
            _("is one arm best in all trials? Each has its own"): (
                middle - arms.mean(0).min().item()
            ),
            _("is it the highest loss? The lowest is the best"): (
                arms.amax(1).mean().item() - middle
            ),
            _("is one minimum taken over all trials? Each has its own"): middle - arms.min().item(),
            _("is the sign turned? Asked for is how much lower"): -gain,
            _("is it the luckiest trial? Asked for is the mean over trials"): max(trials),
            _("is that the best loss itself? Asked for is how far below the others it lies"): (
                arms.amin(1).mean().item()
            ),
        }
        given = _("losses of shape {shape} (trials, arms, seeds)", shape=shape)
        agree(attempt(losses.clone()), gain, given, mistakes)
    one, six = (float(attempt(torch.randn(4000, 20, n, generator=generator(59)))) for n in (1, 6))
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    density = 20 * torch.exp(-x * x / 2) / math.sqrt(2 * math.pi) * torch.special.ndtr(x) ** 19
    agree(
        one,
        torch.trapezoid(x * density, x).item(),
        _("4,000 studies of 20 equal arms, one seed each"),
        tolerance=0.03,
    )
    return _(
        "the best of 20 equal arms seems {one:.2f} seed deviations better with one seed, "
        "{six:.2f} with six",
        one=one,
        six=six,
    )


@exercise("5.6", "Choose on one half, report on the other", level="stretch", minutes=120)
def check_5_6(attempt):
    """By hand on tables where the two halves disagree."""
    halves = torch.rand(2, 2, 3, generator=generator(60)).tolist()
    rates = (0.001, 0.003, 0.01)
    arms = ("2 layers", "6 layers")
    tables = [
        {arm: dict(zip(rates, row, strict=True)) for arm, row in zip(arms, half, strict=True)}
        for half in halves
    ]
    small = {
        "2 layers": {0.001: 1.9, 0.003: 1.8, 0.01: 1.7},
        "6 layers": {0.001: 1.6, 0.003: 1.65, 0.01: 1.8},
    }
    other = {
        "2 layers": {0.001: 1.85, 0.003: 1.75, 0.01: 1.95},
        "6 layers": {0.001: 1.75, 0.003: 1.65, 0.01: 1.55},
    }
    for choosing, reporting in ((small, other), (other, small), tables):
        best, peeked = (
            {arm: min(row, key=row.get) for arm, row in half.items()}
            for half in (choosing, reporting)
        )
        rates = next(iter(choosing.values()))
        shared = min(rates, key=lambda rate: sum(row[rate] for row in choosing.values()))
        smallest = {arm: min(row) for arm, row in choosing.items()}
        highest = {arm: max(row, key=row.get) for arm, row in choosing.items()}
        lowest = {arm: (rate, min(reporting[arm].values())) for arm, rate in best.items()}
        mistakes = {
            _("is the loss reported on the half that chose? The other half chose nothing"): (
                taken(choosing, best)
            ),
            _("is the rate chosen on the half that reports? Then nothing is held out"): (
                taken(reporting, peeked)
            ),
            _("is that the reporting half's best loss? Asked for is its loss at the rate chosen"): (
                lowest
            ),
            _("is it the smallest rate? Asked for is the one with the lowest loss"): (
                taken(reporting, smallest)
            ),
            _("is it one rate for all arms? Each has its own best"): (
                taken(reporting, dict.fromkeys(choosing, shared))
            ),
            _("is it the highest loss? The lowest is the best"): taken(reporting, highest),
        }
        given = f"choosing: {choosing}, reporting: {reporting}"
        agree(attempt(choosing, reporting), taken(reporting, best), given, mistakes)
    return _("what was chosen on one half is judged on the other, arm by arm")


def taken(table, rates):
    """Each arm's rate and its loss in this table."""
    return {arm: (rate, table[arm][rate]) for arm, rate in rates.items()}
