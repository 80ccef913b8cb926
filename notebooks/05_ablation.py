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
# turn the order round. This lesson asks the question so that the answer holds: several seeds, an interval on the
# *difference*, and a sentence that says no more than the numbers do. The first answer will turn out to lean on its protocol, and on the text that is asked.

# %% [markdown]
# **You will be able to** design a paired comparison · compute an interval and say what it means · choose a learning rate fairly ·
# read where and when depth pays · rank many arms without fooling yourself · add an arm to a study without writing new code.
#
# **You need** [lesson 4](04_train.ipynb), [PyTorch in twenty lines](../book/pytorch.md), a mean and a standard deviation.
# **Time:** 50 minutes of reading; half a minute of
# computing if the runs are there (yours from `course run`, or the published ones), else up to fifteen minutes.

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
# A **study** is data: a question, and *arms* that change a few settings of one recipe. Here the arms have 2, 4 and 6
# layers; everything else is equal, the number of steps too. Each **seed** fixes the batches for all three arms alike, so the
# runs are *paired*: luck with the batches may help all of them. Whether pairing gains anything, we shall measure.

# %%
study = studies.STUDIES["depth"]
print(study.question, study.arms)

# %% [markdown]
# ## The runs
#
# Your own runs are taken if they are there, then the published ones; what is missing is trained now.
#
# > **Predict.** By how much will 6 layers beat 2, and will 4 lie halfway?

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
# Each line is one seed. What we want to know is not how low they lie but how steep they are: the *differences*.
# And what they cost stands beside them:

# %% tags=["nbval-ignore-output"]
arms = tables.arm_table(final)
costs = ["parameters", "elapsed_s", "training_loss", "validation_loss", "perplexity"]
arms.set_index("arm")[costs].round(3).astype(object).T

# %% [markdown]
# `elapsed_s` is a run's time in seconds. Each further pair of layers costs as much as the first, in parameters and time.
#
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


# %%
for n in (2, 3, 5, 6, 8):
    print(f"{n} seeds, all pointing the same way: p = {sign_flip_p([0.05] * n):.3f}")

# %% [markdown]
# With three seeds even perfect agreement gives p = 0.25: too few to tell. From six on it reaches the usual 0.05 for *one*
# question. (Where all n point one way, only two of the 2ⁿ flips are as extreme: p = 2/2ⁿ. Thirteen questions at once, as below, will ask for a
# p below 0.05/13, so for ten seeds; why, *Holm's correction* will say.) So studies of few seeds use a test that assumes more:
# if differences scatter like a bell curve, **Student's t** makes an interval of them. Take the mean of n differences, subtract the true mean, and divide by
# the standard error, their spread ÷ √n: this number is *t*. How it scatters is known for each n; for n = 3, 95 % of all t lie between −4.3
# and 4.3. So in 95 of 100 studies the true mean lies within 4.3 standard errors of the one that was found: the interval. That is what every
# verdict from here on uses, and it is six lines:


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
# > **Predict.** Two of the three seeds first, then all three. How much narrower will the interval be?

# %% tags=["nbval-ignore-output"]
for seeds in (2, 3):
    for deeper, shallower in (("4 layers", "2 layers"), ("6 layers", "4 layers")):
        differences = (by_arm[deeper] - by_arm[shallower]).head(seeds)
        low, mean, high = interval(differences.tolist())
        print(f"{seeds} seeds, {deeper} - {shallower}: {mean:+.3f} ({low:+.3f} to {high:+.3f})")

# %% [markdown]
# Look at the widths with two seeds: one is more than twice the other, as luck alone can make it. The **spread** (the standard deviation, with
# $n - 1$ below the squares) of two values is itself noise, and t makes up for that. Here is how much:

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
# Two seeds may show a sixteenth of the true spread, or twice the true one, so t is 12.7; a third seed narrows the interval, on average, to
# less than a third. The rule behind the number: intervals made so catch the true mean difference in 95 of 100 studies; whether this study is
# one of them, nobody knows. Where the interval excludes 0, a difference of that sign is well supported, for new seeds *of this
# recipe, at this budget*; about longer training, another width or other texts it is silent.
#
# ## With six seeds and a GPU
#
# The package carries a **recorded study**: the baseline of lesson 3 with 2, 4 and 6 layers, six seeds each, by a plain protocol: a constant
# rate of 1e-4 (after lesson 4 you may find that low; so do we, and come back to it), and the end after five evaluations without
# improvement. The *first* half of the validation split chose which step to keep, and a score used for selection is optimistic; so
# verdicts are about the *second* half. (It is the harder text, by a tenth of a nat and more: compare within one half.)
#
# > **Predict.** Which gap will be clear of zero, and which model stops first?

# %%
depth = recorded.load("depth")
note = text.note and depth[0].corpus["name"]
second_half = "reporting_loss"  # of the validation split
for comparison in comparisons.adjacent(depth, second_half):
    print(comparison.verdict)
columns = ["best_step", "training_loss", "validation_loss"]
tables.final_table(depth).groupby("arm", sort=False)[columns].mean().round(3)

# %% [markdown]
# The second pair of layers lowers the loss (whether it is worth its price, the frame of equal time will ask); of the third, six seeds see
# nothing. Four and six layers have crossed lesson 1's line (Kneser–Ney, 1.517), two here not; your nine short runs neither. (`validation_loss` is of the whole split, so differences in the table are not the verdicts' to the last digit.) The table also shows
# that the arms stopped at very different steps. Look along the way instead of at the end (a name and its number stand at the last step that all six seeds reached):

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
# **Depth is speed per step.** After the same number of steps six layers lead four, clearly in all rows but the last, and from 2,440 on the lead shrinks. What the
# verdict above compares is the place where early stopping ended each run: other steps for each depth, and no lead that six seeds can see.
#
# ## Where in the text
#
# Each record also holds the loss by place in the window: the first, guessed from one character, the second, then the 3rd and 4th,
# the 5th to 8th, and so on in doubling ranges.
#
# > **Predict.** Will two more layers help more near the beginning of a window, or far inside?

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
# The bands are the 95 % intervals over six seeds. Over the first four characters of a window the second pair of layers gains less than a third of
# what it gains later; from the fifth on, where lesson 1's counters began to run out of examples, it has most of its worth. So, in this protocol,
# the answers to *what do the layers buy?* are: **more learned per step**; and at the run's end, by the second pair, **lower losses where at least five characters stand before**. (Of the third pair no such gain is seen.)
#
# ## Is one learning rate fair?
#
# All depths had the same rate, which nobody had chosen for any of them. Which would each have liked best? This sweep has
# another protocol: a fixed number of steps, a warm-up, a rate that falls to the end, and nothing that stops early.
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
# Neither, on this grid of doublings: from 2 layers to 12 the best is 0.0024 (2.4 on the axis), far above the first study's 0.0001. But see what a
# fixed rate would have said about depth: too low a rate flatters the deep models, too high a rate ruins them. A "study of depth" at one
# rate for all, far from the best, is a study of rates.
#
# A fair study has two stages: choose the rate for each arm with seeds that report nothing (here two), then compare with fresh ones. Each such
# way of comparing is a **frame**. Five of them were recorded: the plain protocol; a fair rate, 1,200 steps for all; the plain
# protocol's early stopping at a fair rate; equal parameters (a shallow model is made wider); equal time on one GPU (a shallow model makes more steps).
#
# > **Predict.** In which frames will six layers lead four?

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
# *p* is now the t test's: 1 − the greatest confidence at which the interval still excludes 0. Filled marks survive **Holm's correction**: with 13 questions on one page, some look good by luck, so the smallest p is multiplied by 13,
# the next by 12, and so on (exercise 5.4). Two texts are asked: the second half alone, and the whole
# split, which is twice the text. Which to trust? In the two frames that stop early, *plain* and *early stopping*, the first half chose the step of these
# very runs: trust the second half. In the other three it chose nothing in these runs (rates, but with other seeds): the whole is the
# sharper measure. (In *early stopping* the rate of six layers, 0.0024, was 0.006 nats ahead of 0.0012 with two seeds; with the other the row might look
# different. And this rule was made after both texts had been seen; the plan was the second half.) By p < 0.05 after Holm:
#
# * **Four layers beat two** by the plain protocol, at a fair rate and with equal parameters, on either text. Stopped early at a fair rate it is not settled
#   (the whole split alone says so); in equal time on neither. (One layer was tried at a fair rate: two beat it.)
# * **Six against four** is clear on the whole split in two frames, and they disagree: at a fair rate six are better, in equal time *worse*. The second
#   half sees neither.
# * So **the verdict depends on the frame, and on the text that is asked**.
#
# And how far was each model trained? (The last line compares arms of two frames, which share no plan: *Welch's* interval takes the two groups' own
# spreads and compares the means. Negative is good for 2 layers.)

# %%
for frame, runs in of_depth.items():
    means = tables.final_table(runs).groupby("n_layers")[["validation_loss", "best_step"]].mean()
    row = [f"{n}: {m.validation_loss:.3f} at {m.best_step:,.0f}" for n, m in means.iterrows()]
    print(f"{frame:17} {' · '.join(row)}")
two = comparisons.losses_of(of_depth["equal time"], "validation_loss")["2 layers, 3020 steps"]
six = comparisons.losses_of(of_depth["fair rate"], "validation_loss")["6 layers"]
apart = stats.ttest_ind([*two.values()], [*six.values()], equal_var=False).confidence_interval()
print(f"2 layers, 3,020 steps, against 6 layers, 1,200: {apart.low:+.3f} to {apart.high:+.3f}")

# %% [markdown]
# On the whole split two layers that train longer do better than six after 1,200 steps. (On the second half no difference is seen, and on new plays, below, two with 2,400 are behind.) So the honest summary is: *after 1,200 steps and some thousands more, depth buys speed
# per step, and pays for it in seconds; whether it buys a lower floor, these frames can't say.* None has both, a falling rate and a long budget, for every depth.
#
# So that was the study to run next: 600, 1,200 and 2,400 steps (and 300, added after a first look) that end in a falling rate, which is chosen for each depth and length, and
# eight seeds that report. They report on new ground, **eight whole plays that no rate in this course was chosen by**, from *Hamlet* to
# *Twelfth Night*.
#
# > **Predict.** A line a length, loss against depth. Which lines fall, which rise, which do both?

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
# So depth alone has no answer; **depth for a length of training** has a narrower one. In 300 steps no difference is seen between one layer and two, and four and six are
# worse. In 1,200 the mean falls to the deepest, by ever less (the last step, from eight to twelve, is not clear). In 2,400, twenty times through the text, no difference is seen between four layers and six, and eight and
# twelve, at the higher rate that was chosen for them, are worse, while twelve have the lowest loss on the training text. The marks at 600 lie too close to name a best. (The page of [results](../book/results.md) tests each step.)
#
# ## Did pairing help?
#
# Pairs help if the luck that a seed brings is shared: then the losses of two arms go up and down together over the seeds, and the
# difference is surer than the two means. How far they do is a correlation, *r*.
#
# > **Predict.** Nearer to 0 or nearer to 1?

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
# Near 0: pairing bought nothing here, and cost a little. Six pairs leave five degrees of freedom, two groups of six up to ten. (Why so little is
# shared, we can only guess: after a few hundred steps each model has gone its own way.) We keep the paired verdicts, since they were planned so. A next study
# need not pair, where a seed brings no more than batches and weights; where it draws the *text* too, pairs narrow the interval by two fifths ([results](../book/results.md)).
#
# **What could we have seen?** Take six pairs whose differences spread as these do, and pretend a true difference. How often is it found?

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
# So a true 0.02 may well be missed, and after Holm more often still. *No difference seen* never means "none": each row's own interval says
# what it can't exclude. To say that two arms *are* equal, name a bound first and show that the whole interval lies within it (exercise 5.2).
#
# ## An arm of your own
#
# The shortest honest run: the same recipe at the shallowest depth, few steps (a minute on two cores). Which kind of position will be ahead?
#
# > **Predict.** The order of the four.

# %% tags=["nbval-ignore-output"]
short = {"n_layers": 2, "steps": max(1, steps // 12), "evaluate_every": 0, "decay": 0.0}
kinds = ("none", "learned", "sinusoidal", "rope")
arms = {kind: {"position": kind, **short} for kind in kinds}
question = "Which position, after a few steps?"
own = studies.records(studies.Study("position-short", question, arms), text, seeds=1)
losses = {r.arm: r.validation_loss for r in own}
pd.Series(losses, name="nats/character, one seed").sort_values().round(3)

# %% [markdown]
# One seed and few steps: a hint, not a finding. To make it a finding, give it seeds. `course ablate position` runs the
# whole of it; each choice of lesson 3 is a study of its own:

# %%
for one in studies.CHOICES:
    print(f"{one.name:10} {one.question} {', '.join(one.arms)}")

# %% [markdown]
# ## Every other choice
#
# One change at a time, from the modern recipe (rotary positions, QK-norm, Muon; 6 layers, 4 heads, width 256, context 1,024, dropout 0.2) at a short
# budget (800 steps), six seeds an arm. All arms read
# the same number of characters, so *batch x 2* makes half as many steps.
#
# > **Predict.** Put these four in order: no residuals, AdamW in place of Muon, ReLU in place of GELU, no positions.

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
# In this recipe nothing counts like the residuals; then comes having no positions, or learned ones; then overdoing something: dropping half of
# everything, a quarter of the steps with batches four times as large, sixteen heads. AdamW in place of Muon costs
# about as much as a constant rate, a twentieth of a nat. On the winning side stand less dropout, and more steps with smaller batches.
# One arm, *unchanged, other seeds*, has the reference's settings, but other batches: its interval shows how far apart equal arms may lie.
#
# Four warnings that the picture does not give. Only the reference's rates were tuned: AdamW took over the matrices at the baseline's
# rate (asked again with one of its own, it costs a little less; [results](../book/results.md)). The arms of other *contexts* do another task (lesson 4), and don't belong on one axis with the rest. And these are
# one recipe's effects: from the baseline's model, *no positions* costs a small part of what it costs here.
# Last, this recipe and `laptop` were chosen in trials on this very validation split, both halves ([log](../book/log.md)): their losses flatter.

# %% [markdown]
# The book's page of [results](../book/results.md) has every number of the study; its records come with the package, and all of the
# above was computed from them. So can you: take one sentence of that page and try to refute it.
#
# ## What you built
#
# A study that says what it asks before it knows the answer, reports a difference with its uncertainty, and knows what it can't see.
#
# ## Questions
#
# **1.** When is the interval on a difference narrower than the two arms' own intervals suggest, and when is it not?
#
# <details><summary>Answer</summary>
#
# When the arms' losses go up and down together over the seeds (r near 1). With r near 0 it is even a little wider, since n pairs leave fewer degrees of
# freedom than two groups of n. </details>
#
# **2.** In your own study all arms had the same number of steps. Who would gain if they had the same number of *seconds* instead?
#
# <details><summary>Answer</summary>
#
# The shallow ones, which make more steps a second: in the frame of equal time six layers lose their lead. </details>
#
# **3.** Somebody tries 20 arms with one seed each and reports the best. What is wrong?
#
# <details><summary>Answer</summary>
#
# The best of twenty is partly the luckiest: its loss flatters (exercise 5.5 says by how much). New seeds for it and for the reference would tell. </details>

# %% [markdown]
# ## Exercises
#
# Write the body of each stub and run its cell; the answer says what is not right yet. Solutions are folded below.

# %% [markdown]
# ### Exercise 5.1 · warm-up · 10 min
#
# An invented study of six paired seeds, one recipe, one budget: 4 layers against 2 gave −0.042 nats/character (95 % interval −0.057 to −0.026),
# 6 against 4 gave −0.007 (−0.022 to +0.008). Somebody wrote six sentences about it. Which say too much?
#
# <details><summary>Hint 1</summary>
#
# Two of the six say what the intervals say. Of the others, ask: which cell or number would have tested that? </details>
#
# <details><summary>Hint 2</summary>
#
# Four kinds of overclaim: equality from no difference, a probability for one interval, a cause, another budget. </details>

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
# *No difference seen* is not *equal*. To say that two arms are equal within a `bound`, named before the study, the whole interval of the mean
# difference must lie within −`bound` and +`bound` (Schuirmann's two one-sided tests, 1987, each at 5 %: so the interval is the 90 % one, whose `t` is given).
# Return whether it does. Then ask it of *plain: 6 layers against 4* with a bound of 0.02 (`comparisons.losses_of(depth)` gives
# `{arm: {seed: loss}}` on the second half): practice, and no claim, for here you have seen the numbers first.
#
# <details><summary>Hint 1</summary>
#
# `interval` from above has all you need, but for its `t`. </details>
#
# <details><summary>Hint 2</summary>
#
# It doesn't matter whether 0 lies inside: a difference may be sure *and* too small to care about. </details>


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
# A paired $t$ interval by hand. Two arms, six seeds each; `t` is the number from Student's table. Give low, mean and high of
# the difference, `losses` minus `others`. The two dicts needn't list the seeds in the same order.
#
# <details><summary>Hint 1</summary>
#
# Six differences first, each of one seed. From then on the arms no longer matter. </details>
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
# The evening: a study of 2 and 6 layers at four values of `learning_rate` each (`studies.Study` with `recipe="fair"`, where AdamW alone trains; few steps), and `evaluate` of lesson 4 on each
# half (`checkpoints.load_model(record.checkpoint)` of `course_utils.training` gives a run's model and its tokenizer). On the reporting half, how far above that half's own lowest loss does each arm's chosen rate lie? That gap is what
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
# ## Test yourself
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
# (a) results can be repeated · (b) luck that the arms share drops out of the difference · (c) fewer runs are needed for a mean
#
# <details><summary>Answer</summary>
#
# **(b)**, if there is such luck: here there was hardly any, as the correlations say. (a) holds for any fixed seeds.
# (c) no: a mean is as uncertain as before. </details>

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
