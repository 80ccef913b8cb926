# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
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
#
# **You will be able to** design a paired comparison · say what an interval means · weigh loss against parameters, time and
# memory · add an arm to a study without writing new code.
#
# **You need** [lesson 4](04_train.ipynb), a mean and a standard deviation. **Time:** 40 minutes of reading; seconds of
# computing if the runs are there (yours from `course run`, or the published ones), else up to ten minutes.

# %% tags=["setup"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("course_utils") is None:  # on Colab: add the course, replace nothing that is there
    address = "git+https://github.com/shakespeare-layer-by-layer/course"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", address], check=True)

# %% tags=["export"]
import itertools

import torch

# %%
import pandas as pd

from course_utils import corpus, experiment, figures, profiles, runs, statistics, studies

# %%
text, profile, device = corpus.load(), profiles.current(), profiles.device()
print(text.describe())

# %% [markdown]
# ## The question, written down first
#
# A **study** is data: a question, and *arms* that change a few settings of one recipe. Here the arms have 2, 4 and 6
# layers; everything else is equal, the number of steps too. Each **seed** fixes the batches for all three arms alike, so
# that a lucky batch helps everyone: the runs are *paired*.

# %%
study = studies.STUDIES["depth"]
specs = study.specs(profile.recipe, range(profile.seeds), text)
print(study.question, study.arms)
print(f"{len(specs)} runs of {specs[0].train.steps} steps, recipe {profile.recipe}")

# %% [markdown]
# ## The runs
#
# Your own runs are taken if they are there, then the published ones; what is missing is trained now. Before you look: by
# how much will 6 layers beat 2, and will 4 lie halfway?

# %%
records = [runs.find_or_train(spec, text, device) for spec in specs]

# %%
baselines = experiment.baseline_losses(text)
figures.training_curves(studies.curves(records), baselines, note=text.note)

# %% [markdown]
# Dashed lines are training losses. The laptop's recipe measures the validation loss once, at the end: large marks are
# means, small ones single seeds. Look how close the seeds of one depth lie, compared with the distance between depths:
# that comparison is the whole lesson.
#
# ## A table an arm

# %%
final = studies.final_table(records)
arms = studies.arm_table(final)
arms.set_index("arm").drop(columns="corpus").round(3).astype(object).T

# %%
figures.ablation_bars(arms, final, baselines, note=text.note)

# %% [markdown]
# Each pair of layers buys less than the one before, and costs as much again in parameters and time. (Memory hardly
# moves: at this size it is nearly all PyTorch itself.) Now guess how perplexity bends when it is drawn against parameters.

# %%
figures.parameters_vs_perplexity(arms, final, note=text.note, baselines=baselines)

# %% [markdown]
# ## How sure are we?
#
# We have the difference between two arms once per seed. If depth did nothing, each difference would be as likely to be
# positive as negative. So flip their signs in all possible ways and count how often the mean comes out as extreme as the
# real one. That share is the p-value of the **sign-flip test** (Fisher, 1935); it assumes nothing about shapes.


# %% tags=["export"]
def sign_flip_p(differences):
    """Two-sided p-value of paired differences: the share of sign flips at least as extreme as what was seen.

    differences: n numbers, one a seed; all 2**n flips are counted. Fisher (1935), The Design of Experiments.
    """
    d = torch.tensor(differences, dtype=torch.float64)
    signs = torch.tensor(list(itertools.product((1.0, -1.0), repeat=len(d))), dtype=torch.float64)
    return ((signs @ d).abs() >= d.sum().abs() - 1e-12).double().mean().item()


# %% tags=["nbval-check-output"]
for n in (2, 4, 5, 6):
    print(f"{n} seeds, all pointing the same way: p = {sign_flip_p([0.05] * n):.3f}")

# %% [markdown]
# With two seeds, even perfect agreement gives p = 0.5: the test can't speak. From six on it can reach the usual 0.05, so
# a study that wants to be believed has six or more (`course run --seeds 6`). Fewer seeds need an assumption. If differences
# scatter like a bell curve, Student's t turns even two of them into an interval, though a wide one.

# %%
for comparison in studies.comparisons(records):
    print(comparison.verdict)

# %%
losses = {arm: group.set_index("seed")["validation_loss"] for arm, group in final.groupby("arm", sort=False)}
for deeper, shallower in (("4 layers", "2 layers"), ("6 layers", "4 layers")):
    differences = (losses[deeper] - losses[shallower]).tolist()
    low, mean, high = statistics.mean_interval(differences)
    print(f"{deeper} - {shallower}: {[round(d, 3) for d in differences]}, p = {sign_flip_p(differences):.2f}")
    assert low <= mean <= high

# %% [markdown]
# An interval that excludes 0 says that the difference would show again with other seeds *of this recipe, at this budget*. It
# says nothing about longer training, another width, or other texts.
#
# ## More arms, no new code
#
# Every other choice of lesson 3 is a study too: a dictionary of settings.

# %%
for name, one in studies.STUDIES.items():
    print(f"{name:10} {one.question} {', '.join(one.arms)}")

# %% [markdown]
# What does position buy? The shortest honest run: the same recipe at the shallowest depth, few steps. Predict the order
# of the four before you look. (`course ablate position` runs it in full, with seeds and intervals.)

# %%
arms_short = {
    kind: {"position": kind, "n_layers": 2, "steps": profile.demo_steps, "evaluate_every": 0, "decay": 0.0}
    for kind in ("none", "learned", "sinusoidal", "rope")
}
short = studies.Study("position-short", "Which position, after a few steps?", arms_short)
position = [runs.find_or_train(spec, text, device) for spec in short.specs(profile.recipe, [0], text)]
pd.Series({r.arm: round(r.validation_loss, 3) for r in position}, name="nats/character, one seed").sort_values()

# %% [markdown]
# One seed and few steps: a hint, not a finding, and the table says so. To make it a finding, give it seeds.
#
# ## What you built
#
# A study that says what it asks before it knows the answer, pairs its runs, and reports a difference with its uncertainty.
#
# ## Questions
#
# 1. Why is an interval on the difference narrower than the two intervals of the arms suggest?
# 2. All arms had the same number of steps. Who would gain if they had the same number of *seconds* instead?
# 3. Somebody tries 20 arms with one seed each and reports the best. What is wrong?
#
# **Next:** [6 · Sampling](06_sampling.ipynb), where the models speak.
