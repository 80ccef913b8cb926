# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5 · Ablation: what do the layers buy?
#
# Is a deeper model better? Train one of each, and one will win; another seed might turn the order round. So take
# several seeds, and say no more than their differences do. The answer will lean on its protocol and on its test text.

# %% [markdown]
# **You will be able to** tell a difference from luck · choose a learning rate fairly · rank many arms without fooling
# yourself.
#
# **You need** [lesson 4](04_train.ipynb), [PyTorch in twenty lines](../book/pytorch.md), a mean and a standard
# deviation.
# **Time:** 25 minutes of reading; a minute of computing if the runs are there, else about twenty-five.

# %% tags=["setup"]
import importlib.util
import subprocess
import sys

# On Colab: add the course, replace nothing that is there.
if importlib.util.find_spec("course_utils") is None:
    address = "git+https://github.com/shakespeare-layer-by-layer/course"
    wanted = "anywidget", "psygnal"  # for lesson 6's widget
    light = [name for name in wanted if importlib.util.find_spec(name) is None]
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*install, address, *light], check=True)

# %% tags=["export"]
import itertools

import torch

# %%
import pandas as pd
from scipy import stats

from course_utils import checks, corpus, figures
from course_utils.research import comparisons, recorded, studies, tables

# %% [markdown]
# The text:

# %% tags=["nbval-ignore-output"]
text = corpus.load()
print(text.describe())

# %% [markdown]
# ## The question, written down first
#
# A **study** is a question, and *arms* that change a setting: here depth alone. A **seed** fixes the batches for all
# arms, so the runs are *paired*: luck with the batches may help all.

# %%
study = studies.STUDIES["depth"]
print(study.question, study.arms)

# %% [markdown]
# ## The runs
#
# Missing runs are trained now.
#
# > **Predict.** By how much will 6 layers beat 2? Will 4 lie halfway?

# %% tags=["nbval-ignore-output"]
records = studies.records(study, text, seeds=3)
steps = records[0].train["steps"]
print(f"{len(records)} runs of {steps} steps, recipe {records[0].recipe}")

# %% tags=["nbval-ignore-output"]
final = tables.final_table(records)
by_arm = final.pivot(index="seed", columns="arm", values="validation_loss")
by_arm.round(3)

# %% tags=["nbval-ignore-output"]
depths = [2, 4, 6]
by_seed = {f"seed {seed}": row.tolist() for seed, row in by_arm.iterrows()}
title = "One line a seed"
labels = ("layers", "validation loss (nats/character)")
figures.lines(depths, by_seed, *labels, title=title, note=text.note)

# %% [markdown]
# What counts is how steep they are: the *differences*. And the price:

# %% tags=["nbval-ignore-output"]
arms = tables.arm_table(final)
costs = ["parameters", "elapsed_s", "training_loss", "validation_loss", "perplexity"]
arms.set_index("arm")[costs].round(3).astype(object).T

# %% [markdown]
# ## How sure are we?
#
# If depth did nothing, a seed's difference $+d$ could as well be $-d$. So flip the signs in all possible ways: the
# share of means at least as extreme as the real one is the p-value of the **sign-flip test** (Fisher, 1935).


# %% tags=["export"]
def sign_flip_p(differences):
    """Two-sided p-value of paired differences, one a seed: Fisher (1935).

    The share of all 2**n flips of signs that are at least as extreme as what was seen.
    """
    d = torch.tensor(differences, dtype=torch.float64)
    flips = list(itertools.product((1.0, -1.0), repeat=len(d)))
    sums = torch.tensor(flips, dtype=torch.float64) @ d
    return (sums.abs() >= d.sum().abs() - 1e-12).double().mean().item()


# %%
for n in (2, 3, 5, 6, 8):
    print(f"{n} seeds, all pointing the same way: p = {sign_flip_p([0.05] * n):.3f}")

# %% [markdown]
# Three seeds that agree give p = 0.25 (two of eight flips): too few to tell. Six reach the usual 0.05, for *one*
# question. Fewer seeds, or more questions, need an assumption: that differences scatter like a bell curve. With $s$ the
# standard deviation of $n$ of them, $s / \sqrt n$ is the **standard error**. **Student's t** counts these between the
# mean found and the true one: for $n = 3$ at most 4.3, either way, in 95 of 100 studies. As often, the mean ± 4.3
# standard errors catches the true one. That interval serves all verdicts to come:


# %%
def interval(differences, confidence=0.95):
    """The mean of n differences and its t interval: (low, mean, high)."""
    d = torch.tensor(differences, dtype=torch.float64)
    n = len(d)
    # What 97.5 % of all such t lie below (for 95 %), with n - 1 degrees of freedom: n numbers,
    # less the one mean that is taken from them
    t = stats.t.ppf((1 + confidence) / 2, n - 1)
    half = t * d.std().item() / n**0.5
    return d.mean().item() - half, d.mean().item(), d.mean().item() + half


# %% [markdown]
# > **Predict.** How much will a third seed narrow the interval?

# %% tags=["nbval-ignore-output"]
for seeds in (2, 3):
    for deeper, shallower in (("4 layers", "2 layers"), ("6 layers", "4 layers")):
        differences = (by_arm[deeper] - by_arm[shallower]).head(seeds)
        low, mean, high = interval(differences.tolist())
        print(f"{seeds} seeds, {deeper} - {shallower}: {mean:+.3f} ({low:+.3f} to {high:+.3f})")

# %% [markdown]
# A third seed narrows both, to about a third or less. With two, one is over twice as wide as the other, as luck alone
# can make it: the **spread** (standard deviation) of two values is itself noise, and t makes up for that:

# %%
draws = torch.randn(100_000, 8, generator=torch.Generator().manual_seed(0))
rows = {}
for n in (2, 3, 6, 8):
    low, high = draws[:, :n].std(1).quantile(torch.tensor([0.05, 0.95])).tolist()
    t = stats.t.ppf(0.975, n - 1)
    rows[n] = {"t": t, "half width in spreads": t / n**0.5}
    rows[n]["nine of ten spreads seen"] = f"{low:.2f} … {high:.2f} of the true one"
pd.DataFrame(rows).T.rename_axis("seeds").infer_objects().round(2)

# %% [markdown]
# Two seeds may show a sixteenth of the true spread, or twice it, so t is 12.7. Such
# intervals catch the true mean difference in 95 of 100 studies; whether in this one, nobody knows. One that excludes 0
# supports a difference of that sign, *for this recipe, budget and text* only.
#
# ## With six seeds and a GPU
#
# The **recorded study** trains lesson 3's baseline, six seeds a depth, by a plain protocol: a constant rate of 1e-4
# (low, we'll see), and the end after five evaluations without improvement. The *first* half of the validation split
# chose the step to keep, so it flatters; verdicts are about the *second*, the table about both.
#
# > **Predict.** Which gap will be clear of zero?

# %%
depth = recorded.load("depth")
note = text.note and depth[0].corpus["name"]
second_half = "reporting_loss"  # of the validation split
for comparison in comparisons.adjacent(depth, second_half):
    print(comparison.verdict)
columns = ["best_step", "training_loss", "validation_loss"]
tables.final_table(depth).groupby("arm", sort=False)[columns].mean().round(3)

# %% [markdown]
# The second pair of layers lowers the loss, past lesson 1's Kneser–Ney (1.517); of the third, six seeds see nothing.
# But the arms stopped at different steps. Look along the way (a name marks the last step that all seeds reached):

# %%
figures.training_curves(tables.curves(depth), None, note=note)

# %%
losses = tables.curves(depth).pivot(index="step", columns=["arm", "seed"], values=second_half)
rows = {}
for step in (1220, 2440, 4880, 7320, 9150):
    at = losses.loc[step].unstack("arm")
    for deeper, shallower in (("4 layers", "2 layers"), ("6 layers", "4 layers")):
        low, mean, high = interval((at[deeper] - at[shallower]).tolist())
        gap = f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"
        rows.setdefault(step, {})[f"{deeper} - {shallower}"] = gap
pd.DataFrame(rows).T.rename_axis("after steps")

# %% [markdown]
# **Here depth is speed per step.** After equally many steps six layers lead four, clearly in all rows but the last;
# from 2,440 on the lead shrinks. The verdict compares them at their own best steps: it leans on that protocol.
#
# ## Where in the text
#
# Records also hold the loss by place in the window, in doubling ranges; the first is guessed from one character.
#
# > **Predict.** Will more layers help more near a window's beginning, or far inside?

# %%
places = 2 ** torch.arange(len(depth[0].position_losses))  # each range ends here
by_place = {}
for record in depth:
    losses = torch.tensor(record.position_losses, dtype=torch.float64)
    by_place.setdefault(record.arm, []).append(losses)
by_place = {arm: torch.stack(runs) for arm, runs in by_place.items()}  # (seeds, ranges)

# %%
pairs = [("4 layers", "2 layers"), ("6 layers", "4 layers")]
gaps = {f"{a} - {b}": (by_place[a] - by_place[b]).T for a, b in pairs}
series, bands = {}, {}
for name, of_seeds in gaps.items():
    low, mean, high = zip(*map(interval, of_seeds.tolist()), strict=True)
    series[name], bands[name] = mean, (low, high)
labels = ("characters of the window up to here", "difference of the loss (nats/char.)")
title = "The second pair of layers pays most from the fifth character on"
figures.lines(places, series, *labels, log_x=True, bands=bands, title=title, note=note)

# %% [markdown]
# Over the first four characters the second pair gains less than a third of what it gains later.
# So, by this protocol, layers buy **more learned per step**; and the second pair, at the end, **lower losses where at
# least five characters stand before**.
#
# ## Is one learning rate fair?
#
# That rate was chosen for no depth. Here is a sweep (two seeds), with fixed steps and a falling rate.
#
# > **Predict.** Do deeper models want higher rates or lower ones?

# %%
rates = tables.rate_table(recorded.load("rates"))
figures.rate_sweep(rates, note=note)

# %%
by_rate = rates.pivot(index="learning_rate", columns="n_layers", values="choosing_loss")
for rate in (0.0003, 0.0024, 0.0096):
    print(f"at {rate}: 12 layers - 4 layers = {by_rate.loc[rate, 12] - by_rate.loc[rate, 4]:+.3f}")

# %% [markdown]
# Neither, on this grid of doublings: from 2 layers to 12 the best is 0.0024, far above the plain 0.0001. But too low a
# rate flatters deep models, too high a rate ruins them: a "study of depth" at one rate, far from the best, is a study
# of rates.
#
# A fair study chooses each arm's rate with some seeds, then compares with fresh ones. A way of comparing is a
# **frame**: plain; fair rate; early stopping at a fair rate; equal parameters (shallow models are wider); equal time
# (they make more steps). Six seeds each.
#
# > **Predict.** In which will six layers lead four?

# %%
frames = {"plain": "depth", "fair rate": "depth-fair", "early stopping": "depth-stopping"}
frames |= {"equal parameters": "depth-parameters", "equal time": "depth-time"}
of_depth = {
    frame: sorted(recorded.load(name), key=lambda r: r.model["n_layers"])
    for frame, name in frames.items()
}
verdicts = comparisons.in_frames(of_depth)
title = "What more layers change, frame by frame (second half)"
figures.effect_ranking(verdicts.assign(arm=verdicts["name"]), title=title, note=note)


# %%
def intervals(low, high):
    return [f"{a:+.3f} to {b:+.3f}" for a, b in zip(low, high, strict=True)]


both = pd.DataFrame(index=pd.Index(verdicts["name"], name="comparison"))
both["second half"] = intervals(verdicts["low"], verdicts["high"])
both["p, Holm"] = verdicts["p_holm"].map("{:.2g}".format).values
both["whole split"] = intervals(verdicts["whole_low"], verdicts["whole_high"])
both["p, Holm, whole"] = verdicts["whole_p_holm"].map("{:.2g}".format).values
both

# %% [markdown]
# Filled marks survive **Holm's correction**: of 13 questions some may look good by luck, so the smallest p (the t
# test's: 1 − the confidence at which the interval touches 0) is multiplied by 13, the next by 12, and so on. After
# correction (p < 0.05):
#
# * **Four layers beat two** in three frames on the second half, in four on the whole split.
# * **Six against four** is clear on the whole split in two: at a fair rate six are better, in equal time *worse*. The
#   second half, the planned text, sees neither.
# * So **the verdict depends on the frame, and on the text** ([results](../book/results.md)).
#
# (Last lines: two frames, so unpaired: *Welch's* interval.)

# %%
for frame, runs in of_depth.items():
    means = tables.final_table(runs).groupby("n_layers")[["validation_loss", "best_step"]].mean()
    row = [f"{n}: {m.validation_loss:.3f} at {m.best_step:,.0f}" for n, m in means.iterrows()]
    print(f"{frame:17} {' · '.join(row)}")
for asked, loss in (("whole split", "validation_loss"), ("second half", "reporting_loss")):
    two = comparisons.losses_of(of_depth["equal time"], loss)["2 layers, 3020 steps"].values()
    six = comparisons.losses_of(of_depth["fair rate"], loss)["6 layers"].values()
    apart = stats.ttest_ind([*two], [*six], equal_var=False).confidence_interval()
    gap = f"{apart.low:+.3f} to {apart.high:+.3f}"
    print(f"2 layers, 3,020 steps - 6 layers, 1,200, {asked}: {gap}")

# %% [markdown]
# On the whole split, not on the second half, two layers that train longer beat six after 1,200 steps. In the plain
# study depth bought speed per step, and cost seconds. Would deeper models end lower too, trained for ever? These
# frames can't say.
#
# The next study goes to 2,400 steps, with a falling rate chosen for each depth and length; eight other seeds report
# on **eight whole plays that no rate in this course was chosen by**.
#
# > **Predict.** A line a length: which fall with depth, which rise, which do both?

# %%
rows = []
for steps in (300, 600, 1200, 2400):
    learned = []
    for n_layers in (1, 2, 4, 6, 8, 12):
        runs = [r for r in recorded.load(f"depth-{steps}") if r.model["n_layers"] == n_layers]
        low, mean, high = interval([r.untouched_loss for r in runs])
        rows.append((f"{steps:,} steps", n_layers, mean, low, high))
        learned.append(f"{interval([r.training_loss for r in runs])[1]:.2f}")
by_length = pd.DataFrame(rows, columns=["frame", "n_layers", "loss", "low", "high"])
title = "Loss on new plays, by depth and length of training"
print(f"training loss at 2,400 steps: {', '.join(learned)} (1 to 12 layers)")
label = "loss on the untouched plays (nats/char.)"
figures.depth_in_frames(by_length, title=title, loss=label, note=note)

# %% [markdown]
# Depth alone has no single answer; **depth for a length of training** has a narrower one. In 300 steps four layers
# are worse than two (unlike in the plain study; why, we can't say); in 600 no depth is seen to beat two. In
# 1,200 the mean falls to the deepest. In 2,400 no difference is seen between four and six; eight and twelve are
# worse, though twelve have the lowest training loss (both had twice the others' rate, chosen anew).
#
# ## Did pairing help?
#
# If arms share a seed's luck, their losses rise and fall together (a correlation, *r*), and the difference is surer
# than the two means.
#
# > **Predict.** Is r nearer 0 or 1?

# %%
widths = []
for rs in of_depth.values():
    losses = {arm: [*of.values()] for arm, of in comparisons.losses_of(rs).items()}
    for one, two in itertools.pairwise(losses.values()):
        apart = stats.ttest_ind(two, one, equal_var=False).confidence_interval()  # Welch's
        low, _, high = interval([b - a for a, b in zip(one, two, strict=True)])
        widths.append((high - low) / (apart.high - apart.low))
r = verdicts["r"]
print(f"r: {r.min():.2f} to {r.max():.2f}, mean {r.mean():.2f} over {len(r)} comparisons")
wider = sum(width > 1 for width in widths)
print(f"the paired interval is wider in {wider}, on average {sum(widths) / len(widths):.2f} times")

# %% [markdown]
# Near 0 on average: pairing bought nothing here, and cost a little. It paid where a seed drew the *training text* too
# ([results](../book/results.md)).
#
# **What could we have seen?** Give six pairs that spread like these a true difference. How often is it found?

# %%
half_width = (verdicts["high"] - verdicts["low"]).median() / 2
t = stats.t.ppf(0.975, 5)
spread = half_width * 6**0.5 / t
print(f"the differences of a pair spread by {spread:.3f}")
for true in (0.01, 0.02, 0.03):
    pretended = true + spread * draws[:, :6]
    scores = pretended.mean(1) / (pretended.std(1) / 6**0.5)
    print(f"a true {true} is found in {(scores.abs() > t).float().mean():.0%} of studies")

# %% [markdown]
# A true 0.02 may well be missed: *no difference seen* never means "none".
#
# ## An arm of your own
#
# The shortest honest run: two layers, few steps (a minute on two cores).
#
# > **Predict.** Four kinds of position: in which order?

# %% tags=["nbval-ignore-output"]
short = {"n_layers": 2, "steps": max(1, steps // 12), "evaluate_every": 0, "decay": 0.0}
kinds = ("none", "learned", "sinusoidal", "rope")
arms = {kind: {"position": kind, **short} for kind in kinds}
question = "Which position, after a few steps?"
own = studies.records(studies.Study("position-short", question, arms), text, seeds=1)
losses = {r.arm: r.validation_loss for r in own}
pd.Series(losses, name="nats/character, one seed").sort_values().round(3)

# %% [markdown]
# One seed, few steps: a hint. Each choice of lesson 3 is a study; `course ablate position` runs one:

# %%
for one in studies.CHOICES:
    print(f"{one.name:10} {one.question} {', '.join(one.arms)}")

# %% [markdown]
# ## Every other choice
#
# One change at a time, six seeds, 800 steps, from the modern recipe (rotary positions, QK-norm, Muon, dropout 0.2, 4
# heads, context 1,024). All read equally many characters: *batch x 2* makes half the steps.
#
# > **Predict.** Order these: no residuals, AdamW for Muon, ReLU for GELU, no positions.

# %%
modern = recorded.whole(recorded.load("choices-modern"), seeds=6)
ranked = comparisons.against(modern)
figures.effect_ranking(comparisons.tasks_marked(ranked), note=note)

# %%
# p is that of the paired t test: with six seeds sign flips can't go below 2 / 2**6
control = ranked.set_index("arm").loc["unchanged, other seeds"]
assert control["low"] < 0 < control["high"], "the same arm twice: 0 lies inside, as it should"
small, clear = (ranked["p"] < 0.05).sum(), ranked["clear"].sum()
print(f"{len(ranked)} arms; p < 0.05 for {small}, after correction for {clear}")

# %%
fair = comparisons.against(recorded.whole(recorded.load("choices-fair"), seeds=6))
for recipe, table in (("modern", ranked), ("baseline, fair rate", fair)):
    row = table.set_index("arm").loc["no positions"]
    cost = f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
    print(f"no positions, from the recipe {recipe}: {cost}")

# %% [markdown]
# Nothing counts like the residuals here; then comes having no positions, or learned ones; then overdoing something:
# half of everything dropped, batches four times as large. On the winning side stand less dropout, and more steps with
# smaller batches. (*Another task*: losses at other contexts don't compare.)
#
# Only the reference's rates were tuned, and from the baseline's model *no positions* costs far less
# ([results](../book/results.md)). And this recipe and `laptop` were chosen on this very split: their losses flatter.

# %% [markdown]
# Try to refute a sentence of the [results](../book/results.md): the records come with the package.
#
# ## What you built
#
# A study that asks first, reports a difference with its uncertainty, and knows what it can't see.
#
# ## Questions
#
# **1.** When is the interval on a difference narrower than the two arms' own suggest?
#
# <details><summary>Answer</summary>
#
# When their losses go up and down together over the seeds (r well above 0). With r near 0 it is even a little wider:
# n pairs leave fewer degrees of freedom than two groups of n. </details>
#
# **2.** In your study all arms made equally many steps. Who would gain from equal *seconds*?
#
# <details><summary>Answer</summary>
#
# The shallow ones, which make more steps a second: in equal time six layers lose their lead. </details>
#
# **3.** Somebody tries 20 arms, one seed each, and reports the best. What is wrong?
#
# <details><summary>Answer</summary>
#
# The best is partly the luckiest. New seeds would tell. </details>

# %% [markdown]
# ## Exercises
#
# Fill each stub and run its cell; solutions are folded.

# %% [markdown]
# ### Exercise 5.1 · warm-up · 10 min
#
# An invented study, six paired seeds, one recipe, one budget: 4 layers against 2 gave −0.042 (95 % interval −0.057 to
# −0.026), 6 against 4 gave −0.007 (−0.022 to +0.008). Which of six sentences say too much?
#
# <details><summary>Hint 1</summary>
#
# Two say what the intervals say. </details>
#
# <details><summary>Hint 2</summary>
#
# Equality from no difference, a probability for one interval, a cause, another budget. </details>

# %%
for letter, sentence in checks.sizes("5.1").items():
    print(f"({letter}) {sentence}")

# %% tags=["exercise"]
too_much = None  # such as {"a", "b"}

checks.check("5.1", too_much)

# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
fine = ("predict better", "see no difference")
too_much = {
    letter
    for letter, sentence in checks.sizes("5.1").items()
    if not any(words in sentence for words in fine)
}

checks.check("5.1", too_much, quiet=True)

# %% [markdown]
# ### Exercise 5.2 · core · 15 min
#
# *No difference seen* is not *equal*. For that, the whole 90 % interval of the mean difference must lie within
# ±`bound`, named before the study (Schuirmann, 1987). Return whether it does; `t` is given. Then, for practice, ask it
# of *plain: 6 layers against 4* with 0.02 (`comparisons.losses_of(depth)` gives `{arm: {seed: loss}}`).
#
# <details><summary>Hint 1</summary>
#
# `interval` has all you need, but for its `t`. </details>
#
# <details><summary>Hint 2</summary>
#
# Whether 0 lies inside doesn't matter: a difference may be sure *and* too small to care about. </details>


# %% tags=["exercise"]
def equal_within(differences, bound, t):
    """differences: n >= 2 numbers, one a seed -> bool"""
    ...


checks.check("5.2", equal_within)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def equal_within(differences, bound, t):
    d = torch.tensor(differences, dtype=torch.float64)
    half = t * d.std() / len(d) ** 0.5
    return bool(-bound < d.mean() - half and d.mean() + half < bound)


checks.check("5.2", equal_within, quiet=True)

# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
losses = comparisons.losses_of(depth)
gaps = [losses["6 layers"][seed] - losses["4 layers"][seed] for seed in range(6)]
print(equal_within(gaps, 0.02, stats.t.ppf(0.95, 5)))

# %% [markdown]
# ### Exercise 5.3 · core · 15 min
#
# A paired $t$ interval, `t` given: return low, mean and high of the difference, `losses` minus `others`. The seeds may
# stand in different orders.
#
# <details><summary>Hint 1</summary>
#
# Six differences first, each of one seed. </details>
#
# <details><summary>Hint 2</summary>
#
# Mean ± $t$ × the spread of the differences (with $n - 1$) ÷ $\sqrt n$. </details>


# %% tags=["exercise"]
def paired_interval(losses, others, t):
    """losses, others: dicts, seed -> nats/character -> (low, mean, high)"""
    ...


checks.check("5.3", paired_interval)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def paired_interval(losses, others, t):
    pairs = [losses[seed] - others[seed] for seed in losses]
    differences = torch.tensor(pairs, dtype=torch.float64)
    mean, spread = differences.mean().item(), differences.std().item()
    half = t * spread / len(pairs) ** 0.5
    return mean - half, mean, mean + half


checks.check("5.3", paired_interval, quiet=True)

# %% [markdown]
# ### Exercise 5.4 · core · 20 min
#
# Of seven arms one may reach $p < 0.05$ by luck. Holm (1979): multiply the smallest of $m$ p-values by $m$, the next by
# $m - 1$, and so on; none may come out below the one before, nor above 1. Return them in the order given.
#
# <details><summary>Hint 1</summary>
#
# Work along the sorted p-values with a running maximum. </details>
#
# <details><summary>Hint 2</summary>
#
# `sorted(range(m), key=p_values.__getitem__)` gives places: write each result where it belongs. </details>


# %% tags=["exercise"]
def holm(p_values):
    """m p-values -> m adjusted ones; those up to 0.05 may be called differences"""
    ...


checks.check("5.4", holm)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def holm(p_values):
    m, largest, adjusted = len(p_values), 0.0, [0.0] * len(p_values)
    for rank, i in enumerate(sorted(range(m), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (m - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


checks.check("5.4", holm, quiet=True)

# %% [markdown]
# ### Exercise 5.5 · stretch · 30 min
#
# Of twenty equal arms the best looks good: by how much? Given the losses of many pretended studies, return how far the
# best arm's mean over its seeds lies below the mean over all arms, averaged over studies.
#
# <details><summary>Hint 1</summary>
#
# In turn: the mean over seeds; in each study the lowest; the mean over studies. </details>
#
# <details><summary>Hint 2</summary>
#
# `means = losses.mean(2)` has shape (trials, arms). Which axis does `min` take? </details>


# %% tags=["exercise"]
def seeming_gain(losses):
    """losses: (trials, arms, seeds) -> float, nats/character"""
    ...


checks.check("5.5", seeming_gain)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def seeming_gain(losses):
    means = losses.mean(2)
    return (means.mean(1) - means.min(1).values).mean().item()


checks.check("5.5", seeming_gain, quiet=True)

# %% [markdown]
# ### Exercise 5.6 · stretch · 120 min
#
# A rate's loss on the text that chose it flatters. Choose each arm's rate on one half of the held-out text, report its
# loss on the other (20 minutes).
#
# The evening: train 2 and 6 layers at four rates each (`studies.Study`, `recipe="fair"`), and lesson 4's `evaluate`
# on either half (`checkpoints.load_model(record.checkpoint)` of `course_utils.training` gives model and tokenizer).
# How far above the reporting half's own lowest loss do the chosen rates lie?

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `min(row, key=row.get)` is the rate with the lowest loss. </details>
#
# <details><summary>Hint 2</summary>
#
# Cut the text by position; compare arms within one half. </details>


# %% tags=["exercise"]
def honest_losses(choosing, reporting):
    """Both: arm -> {learning rate: loss}, one a half -> arm -> (learning rate, loss)"""
    ...


checks.check("5.6", honest_losses)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def honest_losses(choosing, reporting):
    best = {arm: min(row, key=row.get) for arm, row in choosing.items()}
    return {arm: (rate, reporting[arm][rate]) for arm, rate in best.items()}


checks.check("5.6", honest_losses, quiet=True)

# %% [markdown]
# ## Test yourself
#
# **1. Three paired differences: +5, +3, −1. The sign-flip p-value is …**
# (a) 1/8 · (b) 1/4 · (c) 1/2
#
# <details><summary>Answer</summary>
#
# **(c)** Of the eight flips, ±(5 + 3 − 1) and ±(5 + 3 + 1) are as extreme: four. (a) counts only what was seen; (b)
# forgets ±9. </details>

# %% [markdown]
# **2. A 95 % interval of the difference is −0.02 to +0.01. So …**
# (a) the arms are equal · (b) no difference was seen · (c) the first arm is better, with probability 95 %
#
# <details><summary>Answer</summary>
#
# **(b)** (a): −0.02 is still possible. (c): the 95 % belong to the rule that makes intervals, not to this arm.
# </details>

# %% [markdown]
# **3. With many seeds, what halves the interval?**
# (a) twice as many · (b) four times as many · (c) no number of seeds
#
# <details><summary>Answer</summary>
#
# **(b)** The error falls with $\sqrt n$. (a) would need a fall with $n$.
# </details>

# %% [markdown]
# **4. Why the same seeds in all arms?**
# (a) results can be repeated · (b) shared luck drops out of the difference · (c) a mean needs fewer runs
#
# <details><summary>Answer</summary>
#
# **(b)**, if there is such luck: here there was hardly any. (a) holds for any fixed seeds. </details>

# %% [markdown]
# **5. Twenty arms, one seed each; the best is 0.02 below the baseline. What next?**
# (a) publish · (b) run both again with new seeds · (c) run all again and keep the best
#
# <details><summary>Answer</summary>
#
# **(b)** New seeds know nothing of the choice. (a) reports luck. (c) chooses by luck once more. </details>

# %% [markdown]
# **Next:** [6 · Sampling](06_sampling.ipynb), where the models speak.
