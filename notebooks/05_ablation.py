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
# Is a deeper model better? Train one of each, and one of them will win; that is not yet an answer. Another seed might
# turn the order round. This lesson asks the question so that the answer holds: same seeds, same batches, an interval on
# the *difference*, and a sentence that says no more than the numbers do.

# %% [markdown]
# **You will be able to** design a paired comparison · say what an interval means · choose a learning rate fairly · rank many
# arms without fooling yourself · add an arm to a study without writing new code.
#
# **You need** [lesson 4](04_train.ipynb), a mean and a standard deviation. **Time:** 40 minutes of reading; half a minute of
# computing if the runs are there (yours from `course run`, or the published ones), else up to ten minutes.

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

from course_utils import checks, corpus, figures
from course_utils.lessons.data import baseline_losses
from course_utils.research import comparisons, recorded, studies, tables

# %% [markdown]
# The text:

# %%
text = corpus.load()
print(text.describe())

# %% [markdown]
# ## The question, written down first
#
# A **study** is data: a question, and *arms* that change a few settings of one recipe. Here the arms have 2, 4 and 6
# layers; everything else is equal, the number of steps too. Each **seed** fixes the batches for all three arms alike, so
# that a lucky batch may help everyone: the runs are *paired*. Whether pairing gains anything, the spread of the
# differences shows.

# %%
study = studies.STUDIES["depth"]
print(study.question, study.arms)

# %% [markdown]
# ## The runs
#
# Your own runs are taken if they are there, then the published ones; what is missing is trained now. Before you look: by
# how much will 6 layers beat 2, and will 4 lie halfway?

# %%
records = studies.records(study, text)
steps = records[0].train["steps"]
print(f"{len(records)} runs of {steps} steps, recipe {records[0].recipe}")

# %%
baselines = baseline_losses(text.text)
figures.training_curves(tables.curves(records), baselines, note=text.note)

# %% [markdown]
# Dashed lines are training losses. The laptop's recipe measures the validation loss once, at the end: large marks are
# means, small ones single seeds. Look how close the seeds of one depth lie, compared with the distance between depths:
# that comparison is the whole lesson.
#
# ## The arms side by side

# %%
final = tables.final_table(records)
arms = tables.arm_table(final)
arms.set_index("arm").drop(columns="corpus").round(3).astype(object).T

# %% [markdown]
# `validation_loss` is the mean over the seeds, in nats/character; between `loss_low` and `loss_high` lies its 95 % interval, which
# two seeds leave wide. `elapsed_s` is a run's time in seconds.

# %%
figures.ablation_bars(arms, final, baselines, note=text.note)

# %% [markdown]
# Here each pair of layers buys less than the one before, and costs as much again in parameters and time. (Memory hardly
# moves: at this size it is nearly all PyTorch itself.) Now guess how perplexity bends when it is drawn against parameters.

# %%
figures.parameters_vs_perplexity(arms, final, note=text.note, baselines=baselines)

# %% [markdown]
# ## How sure are we?
#
# We have the difference between two arms once per seed. If depth did nothing, the two arms could change names: a difference
# of $+d$ would be as likely as $-d$. So flip the signs in all possible ways and count how often the mean comes out as
# extreme as the real one. That share is the p-value of the **sign-flip test** (Fisher, 1935); it assumes no bell curve.


# %% tags=["export"]
def sign_flip_p(differences):
    """Two-sided p-value of paired differences, one a seed: Fisher (1935).

    The share of all 2**n flips of signs that are at least as extreme as what was seen.
    """
    d = torch.tensor(differences, dtype=torch.float64)
    flips = list(itertools.product((1.0, -1.0), repeat=len(d)))
    sums = torch.tensor(flips, dtype=torch.float64) @ d
    return (sums.abs() >= d.sum().abs() - 1e-12).double().mean().item()


# %% tags=["nbval-check-output"]
for n in (2, 4, 5, 6):
    print(f"{n} seeds, all pointing the same way: p = {sign_flip_p([0.05] * n):.3f}")

# %% [markdown]
# With two seeds, even perfect agreement gives p = 0.5: the test can't speak. From six on it can reach the usual 0.05, so
# a study that wants to be believed has six or more (`course run --seeds 6`). Fewer seeds need an assumption. If differences
# scatter like a bell curve, Student's t turns even two of them into an interval, though a wide one.

# %%
for comparison in comparisons.adjacent(records):
    print(comparison.verdict)

# %%
by_arm = final.pivot(index="seed", columns="arm", values="validation_loss")
for deeper, shallower in (("4 layers", "2 layers"), ("6 layers", "4 layers")):
    differences = (by_arm[deeper] - by_arm[shallower]).tolist()
    low, mean, high = comparisons.mean_interval(differences)
    print(f"{deeper} - {shallower}: {[round(d, 3) for d in differences]},", end=" ")
    print(f"mean {mean:+.3f} ({low:+.3f} to {high:+.3f}),", end=" ")
    print(f"p = {sign_flip_p(differences):.2f}")

# %% [markdown]
# In the published runs both seeds say that deeper is better, and still the verdict is *no difference seen*: an interval from two
# pairs is so wide that zero lies inside. That says how little two seeds can tell, and nothing about depth. A 95 % interval is made
# by a rule that catches the true mean difference in 95 of 100 studies; whether this study is one of them, nobody knows.
# Where it excludes 0, a difference of that sign is well supported, for new seeds *of this recipe, at this budget*; about
# longer training, another width or other texts it is silent.

# %% [markdown]
# ## With six seeds and a GPU
#
# The package carries a **recorded study**: the baseline of lesson 3 by its plain protocol (a constant rate of 1e-4, the
# end after five evaluations without improvement), 2, 4 and 6 layers, six seeds each. Write down two predictions: which
# gap will be clear of zero, and which model stops first?

# %%
depth = recorded.load("depth")
full = tables.final_table(depth)
note = text.note and depth[0].corpus["name"]
figures.ablation_bars(tables.arm_table(full), full, baselines, note=note)

# %%
second_half = "reporting_loss"  # of the validation split
for comparison in comparisons.adjacent(depth, second_half):
    print(comparison.verdict)
columns = ["best_step", "training_loss", "validation_loss"]
full.groupby("arm", sort=False)[columns].mean().round(3)

# %% [markdown]
# The second pair of layers is worth its price; the third can't be told from nothing. The table says why: six layers stop
# first. They learn the text by heart sooner, and early stopping ends them there. More layers were not refused by the
# data; they were refused by *this protocol*.
#
# Note which half spoke. The validation split's first half chose where to stop; a number that has chosen is a little too
# good. The second half chose nothing, so it reports.

# %% [markdown]
# ## Is one learning rate fair?
#
# All depths had the same rate, which nobody had chosen for any of them. Which would each have liked best? This sweep has
# another protocol: a fixed number of steps, a warm-up, a rate that falls to the end, and nothing that stops early.
# Predict: do deeper models want higher rates or lower ones?

# %%
rates = tables.rate_table(recorded.load("rates"))
figures.rate_sweep(rates, note=note)

# %% [markdown]
# Neither: from 2 layers to 12 the same rate is best, far above the first study's 1e-4, which lies off this picture to the
# left. But the deeper the model, the sharper the bend: had somebody fixed a rate further right, the "study of depth"
# would have been a study of rates. A fair study has two stages: choose the rate for each arm on seeds and text that
# report nothing, then compare on fresh ones. Six layers had no clear lead over four before. Will they now?

# %%
fair = sorted(recorded.load("depth-fair"), key=lambda r: r.model["n_layers"])
for comparison in comparisons.adjacent(fair, second_half):
    print(comparison.verdict)

# %% [markdown]
# They do, each step up buys less than the last, and beyond 6 layers no more is seen. But two things have changed: the rate,
# and the protocol around it. So ask for the rate alone, with the early stopping of the first study kept:

# %%
stopping = sorted(recorded.load("depth-stopping"), key=lambda r: r.model["n_layers"])
for comparison in comparisons.adjacent(stopping, second_half):
    print(comparison.verdict)

# %% [markdown]
# With early stopping kept and only the rate made fair, six layers do *not* lead four. Depth pays where the rate falls to the
# end of a fixed budget. Each verdict is about its protocol.
#
# ## Every other choice
#
# Each choice of lesson 3 is a study too, a dictionary of settings; `course ablate position` runs one of them.

# %%
for one in studies.CHOICES:
    print(f"{one.name:10} {one.question} {', '.join(one.arms)}")

# %% [markdown]
# Here they all are, one change at a time from the modern recipe (rotary positions, QK-norm, Muon) at a short budget, six
# seeds an arm. All arms read as many characters, so a larger batch makes fewer steps; the rates are the reference's. Before you look, put these four in order: no residuals, AdamW in place of Muon, ReLU in place of GELU, no positions.

# %%
modern = recorded.whole(recorded.load("choices-modern"), seeds=6)
ranked = comparisons.against(modern)
figures.effect_ranking(ranked, note=note)

# %%
# p is that of the paired t test: with six seeds sign flips can't go below 2 / 2**6
control = ranked.set_index("arm").loc["unchanged, other seeds"]
assert control["low"] < 0 < control["high"], "no effect: its interval covers 0"
small, clear = (ranked["p"] < 0.05).sum(), ranked["clear"].sum()
print(f"{len(ranked)} arms; p < 0.05 for {small}, after correction for {clear}")

# %% [markdown]
# No residuals and no positions: these are not choices, they are the model. The *kind* of position counts too. Next come
# things overdone: half of everything dropped, batches four times as large, sixteen heads. AdamW in place of Muon costs
# about as much as a constant rate, a twentieth of a nat. On the winning side stand less dropout and smaller batches.
#
# With so many arms some look good by luck, so the filled marks are those that survive **Holm's correction**: the smallest
# p is multiplied by the number of arms, the next by one less, and so on (exercise 5.4). And one arm, *unchanged, other
# seeds*, is the reference under another name: its interval shows how wide nothing looks.

# %% [markdown]
# ## An arm of your own
#
# The shortest honest run: the same recipe at the shallowest depth, few steps. Predict the order of the four.

# %%
short = {"n_layers": 2, "steps": max(1, steps // 12), "evaluate_every": 0, "decay": 0.0}
kinds = ("none", "learned", "sinusoidal", "rope")
arms = {kind: {"position": kind, **short} for kind in kinds}
question = "Which position, after a few steps?"
own = studies.records(studies.Study("position-short", question, arms), text, seeds=1)
losses = {r.arm: r.validation_loss for r in own}
pd.Series(losses, name="nats/character, one seed").sort_values().round(3)

# %% [markdown]
# One seed and few steps: a hint, not a finding, and the table says so. To make it a finding, give it seeds. The book's
# page of [results](../book/results.md) has the whole study: equal parameters, equal time, less text.

# %% [markdown]
# ## What you built
#
# A study that says what it asks before it knows the answer, pairs its runs, and reports a difference with its uncertainty.
#
# ## Questions
#
# 1. When is the interval on a difference narrower than the two arms' own intervals suggest, and when is it not?
# 2. All arms had the same number of steps. Who would gain if they had the same number of *seconds* instead?
# 3. Somebody tries 20 arms with one seed each and reports the best. What is wrong?

# %% [markdown]
# ## Exercises
#
# Write the body of each stub and run its cell; the answer says what is not right yet. Solutions are folded below.

# %% [markdown]
# ### Exercise 5.1 · warm-up · 5 min
#
# The standard error of a mean: by how much would it move with other seeds?
#
# <details><summary>Hint 1</summary>
#
# First the standard deviation of the values, with $n - 1$ below the sum of squares. </details>
#
# <details><summary>Hint 2</summary>
#
# The mean of $n$ values is surer than one value by $\sqrt n$, not by $n$. </details>


# %% tags=["exercise"]
def standard_error(values):
    """values: n >= 2 numbers -> float"""
    ...


checks.check("5.1", standard_error)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def standard_error(values):
    mean = sum(values) / len(values)
    variance = sum((x - mean) ** 2 for x in values) / (len(values) - 1)
    return (variance / len(values)) ** 0.5


checks.check("5.1", standard_error, quiet=True)

# %% [markdown]
# ### Exercise 5.2 · warm-up · 10 min
#
# All differences of a study point the same way. How many pairs must it have, at least, for `sign_flip_p` to be `alpha` or
# less?
#
# <details><summary>Hint 1</summary>
#
# Of $2^n$ flips, which are as extreme as all pluses? There is more than one. </details>
#
# <details><summary>Hint 2</summary>
#
# The smallest $n$ with $2 / 2^n \le \alpha$. A loop is fine. </details>


# %% tags=["exercise"]
def pairs_needed(alpha):
    """alpha in (0, 1) -> int"""
    ...


checks.check("5.2", pairs_needed)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def pairs_needed(alpha):
    n = 1
    while 2 / 2**n > alpha:
        n += 1
    return n


checks.check("5.2", pairs_needed, quiet=True)

# %% [markdown]
# ### Exercise 5.3 · core · 15 min
#
# A paired $t$ interval by hand. Two arms, six seeds each; `t` is the number from Student's table. Give low, mean and high of
# the difference, `losses` minus `others`. The two dicts needn't list the seeds in the same order.
#
# <details><summary>Hint 1</summary>
#
# Six differences first, each of one seed. From then on the arms no longer matter. </details>
#
# <details><summary>Hint 2</summary>
#
# Mean ± $t$ × the standard error of 5.1. </details>


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
# Compare seven arms with the baseline, and by luck alone one of them may reach $p < 0.05$. Holm (1979): multiply the
# smallest of $m$ p-values by $m$, the next by $m - 1$, and so on, and let none come out below the one before it, nor above 1.
# Return them in the order in which they came.
#
# <details><summary>Hint 1</summary>
#
# Work along the sorted p-values with a running maximum. </details>
#
# <details><summary>Hint 2</summary>
#
# `sorted(range(m), key=p_values.__getitem__)` gives places, so that you can write each result where it belongs. </details>


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
# Twenty arms that are all the same, and the best of them looks good: by how much? Given the losses of many pretended
# studies, return how far the best arm's mean over its seeds lies below the mean over all arms, on average over the studies.
# The check then runs yours on 4,000 studies of 20 arms, with one seed and with six, and says what came out.
#
# <details><summary>Hint 1</summary>
#
# Three axes, three questions in turn: the mean over seeds; in each study the lowest; the mean over studies. </details>
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
# Report the best rate's loss on the text that chose the rate, and it flatters. Choose each arm's rate on one half of the
# held-out text, and report the loss at that rate on the other. This function, the part that is checked, takes 20 minutes.
#
# The evening: a study of 2 and 6 layers at four rates each (`studies.Study`, few steps), and `evaluate` of lesson 4 on each
# half. On the reporting half, how far above that half's own lowest loss does each arm's chosen rate lie? That gap is what
# choosing and reporting on one half would have hidden.

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `min(row, key=row.get)` is the rate with the lowest loss. </details>
#
# <details><summary>Hint 2</summary>
#
# Cut the held-out text by position. The halves differ in difficulty, so compare arms only within one half. </details>


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
# ## Self-test
#
# Choose, then open the answer.
#
# **1. Three paired differences: +5, +3, −1. The sign-flip p-value is …**
# (a) 1/8 · (b) 1/4 · (c) 1/2
#
# <details><summary>Answer</summary>
#
# **(c)** The sum is 7. Of the eight flips, ±(5 + 3 − 1) and ±(5 + 3 + 1) are as extreme: four. (a) counts only what was
# seen itself; (b) forgets that +9 is more extreme than +7. </details>

# %% [markdown]
# **2. A 95 % interval of the difference is −0.02 to +0.01. So …**
# (a) the arms are equal · (b) no difference was seen · (c) the first arm is better with a probability of 95 %
#
# <details><summary>Answer</summary>
#
# **(b)** (a) says too much: −0.02 is still possible. (c) is not what it says: the 95 %
# belong to the rule that makes intervals, not to this arm. </details>

# %% [markdown]
# **3. You have many seeds and want the interval half as wide. How many does that take?**
# (a) twice as many · (b) four times as many · (c) it can't be had with seeds
#
# <details><summary>Answer</summary>
#
# **(b)** The error falls with $\sqrt n$. (a) would be right if it fell with $n$. (c) is true of errors that all seeds
# share, such as a flaw in the data; those, no interval shows. </details>

# %% [markdown]
# **4. Why the same seeds in all arms?**
# (a) results can be repeated · (b) shared luck drops out of the difference · (c) fewer runs are needed for a mean
#
# <details><summary>Answer</summary>
#
# **(b)** Where a kind order of batches helps every arm, the difference doesn't see it. (a) holds for any fixed seeds.
# (c) no: a mean is as uncertain as before; its *difference* is surer. </details>

# %% [markdown]
# **5. Twenty arms, one seed each; the best is 0.02 lower than the baseline. What next?**
# (a) publish · (b) run the best one again, with new seeds, against the baseline · (c) run all twenty once more and take the
# best of both
#
# <details><summary>Answer</summary>
#
# **(b)** New seeds know nothing of the choice. (a) reports luck (5.5 says how much). (c) chooses once more by luck. </details>

# %% [markdown]
# **Next:** [6 · Sampling](06_sampling.ipynb), where the models speak.
