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
# # 4 · Training: from noise to verse
#
# The model of lesson 3 knows nothing. Here you write the loop that teaches it, try what each of its knobs does, and watch
# the loss come down past the unigram, the bigram, the trigram, until your own model beats the best counter of lesson 1.
# Then you look inside it.

# %% [markdown]
# **You will be able to** write a training loop from memory · choose an optimiser and a learning rate · read a loss curve
# · measure a loss exactly · stop in time · say what a head of your model does.
#
# **You need** [lesson 3](03_model.ipynb). **Time:** an hour of reading, one to four minutes of computing on
# a laptop, less on a GPU.

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
import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

# %%
import copy
from dataclasses import replace

import pandas as pd

from course_utils import corpus, figures, profiles, widgets
from course_utils.lessons.attention import attention_weights
from course_utils.lessons.data import CharTokenizer, WittenBell, baseline_losses, get_batch, split
from course_utils.lessons.model import GPT, GPTConfig, count_parameters, positions_at
from course_utils.training import runs, trainer

# %% [markdown]
# The text, cut as in lesson 1, on the fastest device at hand.

# %%
text, profile, device = corpus.load(), profiles.current(), profiles.device()
print(text.describe(), f"\nprofile {profile.name}, on {device.type}")
tokenizer = CharTokenizer(text.text)
ids = torch.tensor(tokenizer.encode(text.text), device=device)
train_ids, validation_ids = split(ids)

# %% [markdown]
# ## The losses to beat
#
# The course's loss log so far: what each of lesson 1's models loses on the validation split. None of them has learned
# anything by gradient.

# %%
baselines = baseline_losses(text.text)
pd.Series(baselines, name="nats/character").round(3).to_frame()

# %% [markdown]
# ## Training, in ten lines
#
# Before any refinement, the thing itself. A small model, an optimiser, and a loop that does five things: take a batch,
# predict, measure the loss, ask for its gradient, move.

# %%
small_config = GPTConfig(
    tokenizer.vocab_size, context_length=32, n_layers=2, n_heads=4, d_model=64, d_ff=256
)
torch.manual_seed(0)
model = GPT(small_config).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
draw = torch.Generator().manual_seed(0)
for step in range(profile.demo_steps):
    tokens, targets = get_batch(train_ids, 16, 32, draw)
    logits = model(tokens)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % max(1, profile.demo_steps // 5) == 0:
        print(f"step {step:3}: loss {loss.item():.2f} nats/character")

# %%
shapes = {"tokens": tuple(tokens.shape), "logits": tuple(logits.shape)}
figures.training_step(shapes, title="One training step")

# %% [markdown]
# It works: the loss falls from about ln 65 = 4.17, a guess among all characters, towards the bigram. Everything below makes
# this loop better, one line at a time, and measures what each line is worth.

# %% [markdown]
# ## The settings of a run
#
# As with the model, everything that decides a run's result is written down in one place. The defaults are the
# plain protocol, `baseline`; two cores get a tuned recipe, which you will print below.


# %% tags=["export"]
@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained. The defaults are the `baseline` protocol."""

    steps: int = 20_000  # at most; early stopping may end it before
    batch_size: int = 32  # B, windows a step
    optimizer: str = "adamw"  # adamw | muon, for the blocks' matrices
    learning_rate: float = 1e-4  # the peak, of AdamW
    muon_learning_rate: float = 0.02  # the peak, of Muon
    muon_momentum: float = 0.95  # the share of its last direction that Muon keeps
    muon_iterations: int = 5  # 1 … 5: fewer are faster, and make its steps less equal
    weight_decay: float = 0.01  # of matrices
    warmup_steps: int = 0  # over which the rate climbs to its peak
    decay: float = 0.0  # the last share of the steps, over which the rate falls to 0
    clip_norm: float = 1.0  # the longest gradient that is let through
    evaluate_every: int = 0  # steps; 0 is once an epoch, all text once
    patience: int = 5  # evaluations without a new best before it stops; 0 never
    seed: int = 0  # of weights, batches and dropout

    def __post_init__(self):
        if self.optimizer not in ("adamw", "muon"):
            raise ValueError(f"optimizer must be adamw or muon, not {self.optimizer!r}")
        if min(self.learning_rate, self.muon_learning_rate, self.clip_norm) <= 0:
            raise ValueError("learning rates and clip_norm must be above 0")
        if not 0 <= self.decay <= 1 or not 0 <= self.muon_momentum < 1:
            raise ValueError("decay must lie in [0, 1], muon_momentum in [0, 1)")
        if min(self.steps, self.batch_size) < 1 or self.muon_iterations not in range(1, 6):
            raise ValueError("steps, batch_size: at least 1; muon_iterations: 1 … 5")
        if min(self.weight_decay, self.warmup_steps, self.evaluate_every, self.patience) < 0:
            raise ValueError("weight_decay, warmup, evaluate_every, patience: 0 or more")


# %% [markdown]
# ## One step
#
# Predict, measure, differentiate, clip, move. The loss is cross-entropy, the mean token loss of lesson 1.


# %% tags=["export"]
def next_character_loss(model, tokens, targets):
    """The mean token loss, in nats/character. tokens, targets: (B, T) int64 -> ()."""
    return F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())


# %% [markdown]
# And the step, verb by verb. `micro_batches` is for batches that don't fit into memory; on a first reading, take it for 1.


# %% tags=["export"]
def training_step(
    model, optimizers, tokens, targets, rate, clip_norm=1.0, loss_of=None, micro_batches=1
):
    """Predict, measure, differentiate, clip, move. -> the batch's loss before the move

    rate: the share of the peak rates, a number or a tensor of shape (). loss_of: where it
    is not next_character_loss. micro_batches: read the batch in so many pieces, where the
    whole does not fit in memory; their gradients add up to the same.
    """
    loss_of, losses = loss_of or next_character_loss, []
    pieces = zip(tokens.chunk(micro_batches), targets.chunk(micro_batches), strict=True)
    for some, theirs in pieces:
        loss = loss_of(model, some, theirs) * (len(some) / len(tokens))
        loss.backward()
        losses.append(loss.detach())
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        optimizer.step()
        optimizer.zero_grad()
    return sum(losses)


# %% [markdown]
# Two of its lines are easy to forget, and two can change places. Without `zero_grad` the gradients of all steps add up:
# clipping keeps the step short, but it follows the past, and the loss sticks early. Without the factor
# `len(some) / len(tokens)` a batch read in four parts reports four times its loss. And clipping after `step` clips nothing.

# %% [markdown]
# ## Which way to move
#
# Plain **SGD** follows the gradient: one rate for all weights. **Momentum** steps along a fading sum of the gradients
# (in PyTorch, at 0.9, up to ten times as long as one of them; Muon below takes a mean): what changes sign from batch to batch
# cancels, what stays adds up. But gradients of different weights differ in size, and a rate that suits one is wrong for another.
# **AdamW** gives each weight its own step size: the mean of its recent gradients over the root of their mean square (Kingma
# and Ba, 2015). Weight decay pulls matrices gently towards 0, apart from the gradient (Loshchilov and Hutter, 2019).

# %% [markdown]
# **Muon** looks at a whole matrix. It takes its momentum and makes it *orthogonal*: all directions that the gradient
# points to get the same step, however weak they are.

# %% [markdown]
# A matrix stretches each of its directions by a factor, a *singular value* $x$. To bring them all to 1, no decomposition is
# needed. A polynomial $a x + b x^3 + c x^5$ can be computed with matrix products alone, and it changes each $x$ by itself.
# Five of them, one after the other, bring every value that begins between 0.003 and 1 close to 1; each is the best
# possible for the range that the one before leaves.


# %% tags=["export"]
POLYNOMIALS = (  # a, b, c of each iteration: Amsel et al. (2025), Polar Express
    (8.3837, -24.7659, 18.3571),
    (4.0434, -3.0114, 0.5695),
    (3.5056, -2.6267, 0.5257),
    (2.4901, -1.8343, 0.4368),
    (1.9178, -1.2968, 0.3797),
)

# %% [markdown]
# First divide by the norm, so that no singular value is above 1; then iterate. A tall matrix is turned on its side, where the
# products are smaller.


# %% tags=["export"]
def orthogonalise(updates, iterations=5):
    """Push every singular value of each matrix towards 1: (N, R, C) -> (N, R, C).

    Jordan et al. (2024), Muon, with the first `iterations` of POLYNOMIALS.
    """
    x = updates.bfloat16() if updates.is_cuda else updates
    x = x / (1.01 * x.norm(dim=(-2, -1), keepdim=True) + 1e-7)  # below 1
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for a, b, c in POLYNOMIALS[:iterations]:
        square = x @ x.mT
        mixed = torch.baddbmm(square, square, square, beta=b, alpha=c)  # b s + c s²
        x = torch.baddbmm(x, mixed, x, beta=a)  # a x + (b s + c s²) x
    return (x.mT if tall else x).to(updates.dtype)


# %% [markdown]
# All 64 singular values of a random matrix, before and after. **Predict:** which ones are hardest to bring to 1?

# %%
random = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(0))
before = torch.linalg.svdvals(random[0])
rows = {"before": before / before.max()}
for n in (3, 5):
    values = torch.linalg.svdvals(orthogonalise(random, n)[0])
    rows[f"{n} iterations"] = values.sort(descending=True).values
off = (rows["5 iterations"][:60] - 1).abs()
assert off.max() < 0.05, "after five, all but the weakest directions are equally strong"
labels = ("rank of the direction", "singular value")
figures.lines(range(1, 65), rows, *labels, title="Muon makes all directions count")

# %% [markdown]
# Before, the strengths fall from 1 to almost nothing; after five iterations all but the very weakest are 1, and strong
# and weak directions get the same step. In the trial below this learns more from each batch. Three iterations are rougher and cost less; on two cores that pays.


# %% tags=["export"]
class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal: all directions move alike. Jordan et al. (2024)."""

    def __init__(self, matrices, lr, weight_decay=0.0, momentum=0.95, iterations=5):
        shapes = {}
        for matrix in matrices:
            shapes.setdefault(matrix.shape, []).append(matrix)
        groups = [{"params": same} for same in shapes.values()]
        settings = dict(lr=lr, weight_decay=weight_decay, momentum=momentum)
        super().__init__(groups, settings | {"iterations": iterations})
        self.orthogonalise = orthogonalise  # a faster twin may take its place
        # The matrices of one shape become slices of one tensor, to be treated at once.
        self.weights = [torch.stack([p.data for p in same]) for same in shapes.values()]
        for group, weights in zip(self.param_groups, self.weights, strict=True):
            for p, weight in zip(group["params"], weights, strict=True):
                p.data = weight

    @torch.no_grad()
    def step(self):
        for group, weights in zip(self.param_groups, self.weights, strict=True):
            gradients = torch.stack([p.grad for p in group["params"]])
            state = self.state[group["params"][0]]
            velocity = state.setdefault("momentum_buffer", torch.zeros_like(gradients))
            velocity.lerp_(gradients, 1 - group["momentum"])
            ahead = gradients.lerp(velocity, group["momentum"])  # Nesterov's
            update = self.orthogonalise(ahead, group["iterations"])
            rows, columns = update.shape[1:]
            weights.mul_(1 - group["lr"] * group["weight_decay"])
            weights.sub_(update * (group["lr"] * max(1.0, rows / columns) ** 0.5))


# %% [markdown]
# Who moves what: Muon takes the matrices inside the blocks, AdamW the embedding, the head and the gains.


# %% tags=["export"]
def make_optimizers(model, config):
    """AdamW for everything, or Muon for the blocks' matrices and AdamW for the rest.

    Only matrices decay. Each group remembers its peak rate as group["peak"]. -> a list
    """
    by_muon = []
    if config.optimizer == "muon":
        by_muon = [p for p in model.blocks.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if not any(p is q for q in by_muon)]
    matrices, gains = [p for p in rest if p.ndim == 2], [p for p in rest if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": gains, "weight_decay": 0.0},
    ]
    device = next(model.parameters()).device.type
    kernel = {"fused": device in ("cpu", "cuda"), "capturable": device == "cuda"}
    rate, betas = config.learning_rate, (0.9, 0.95)
    optimizers = [torch.optim.AdamW(groups, lr=rate, betas=betas, **kernel)]
    if by_muon:
        settings = (config.weight_decay, config.muon_momentum, config.muon_iterations)
        optimizers.append(Muon(by_muon, config.muon_learning_rate, *settings))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


# %% [markdown]
# **Why do only matrices decay?** A gain of a norm has its natural place at 1; pulling it to 0 would switch its channel off.
#
# ## How fast to learn
#
# A fresh model's first gradients are wild, so the rate climbs over a few steps; towards the end small steps settle what
# the large ones began. In between, flat. The function gives the *share* of the peak.


# %% tags=["export"]
def learning_rate_at(step, config):
    """The share of the peak rate at a step: up in a line, flat, down in a line.

    step: 0 … config.steps - 1 -> a number in (0, 1].
    """
    up = (step + 1) / max(1, config.warmup_steps)
    down = (config.steps - step) / max(1, config.decay * config.steps)
    return min(1.0, up, down)


# %% [markdown]
# The recipe for this machine, and the schedule that it makes:

# %%
recipe = runs.depth_spec(2, text).train
print(recipe)
steps = range(recipe.steps)
rates = {"share of the peak rate": [learning_rate_at(step, recipe) for step in steps]}
figures.lines(steps, rates, "step", "share", title="The schedule")

# %% [markdown]
# ## Try the knobs
#
# A tiny model trains in a second or two, so you can see what each knob does. One function for all trials; the same weights and the
# same batches each time, so that only the knob differs.


# %%
V, T = tokenizer.vocab_size, 32
sizes = {"n_layers": 2, "n_heads": 4, "d_model": 64, "d_ff": 256, "dropout": 0.0}
small = GPTConfig(V, T, **sizes, position="rope")
held_out = get_batch(validation_ids, 512, T, torch.Generator().manual_seed(1))
steps = 2 * profile.demo_steps
trial = TrainConfig(steps=steps, batch_size=16, learning_rate=3e-3, warmup_steps=10)


def held_out_loss(model):
    with torch.no_grad():
        return next_character_loss(model, *held_out).item()


# %% [markdown]
# And the loop of all trials: make a model, draw, step, and measure ten times on the way.


# %%
def attempt(config, make=make_optimizers, ids=None):
    """Train a tiny model. -> its loss at each step, and on held-out text ten times"""
    ids = train_ids if ids is None else ids
    torch.manual_seed(config.seed)
    model = GPT(small).to(device)
    draw = torch.Generator().manual_seed(config.seed)
    optimizers, losses, held = make(model, config), [], []
    for step in range(config.steps):
        batch = get_batch(ids, config.batch_size, T, draw)
        rate = learning_rate_at(step, config)
        loss = training_step(model, optimizers, *batch, rate, config.clip_norm)
        losses.append(loss.item())
        if (step + 1) % max(1, config.steps // 10) == 0:
            held.append(held_out_loss(model))
    return losses, held


# %% [markdown]
# **SGD, AdamW, Muon.** SGD gets momentum and the best of three rates, so that nobody can say it was not given a chance.
# **Predict:** who wins, and does the gap look like one that patience would close?


# %%
def sgd(model, config):
    rate = config.learning_rate
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    optimizer.param_groups[0]["peak"] = rate
    return [optimizer]


# %%
rates = (0.1, 0.3, 1.0)
by_sgd = [attempt(replace(trial, learning_rate=rate), sgd)[1] for rate in rates]
contest = {"SGD": min(by_sgd, key=lambda held: held[-1])}
contest["AdamW"] = attempt(trial)[1]
contest["Muon"] = attempt(replace(trial, optimizer="muon"))[1]

# %%
tenths = [trial.steps // 10 * (i + 1) for i in range(10)]
labels = ("step", "loss on held-out text (nats/character)")
title = "Three ways to move"
figures.lines(tenths, contest, *labels, baselines, title=title, note=text.note)

# %% [markdown]
# Patience would close it: SGD is not stuck, it is slow, and with several times the steps it comes where AdamW is here.
# One rate for all weights must be small enough for the loudest of them. AdamW turns every weight up to the same volume,
# Muon every direction of a matrix.
#
# **The rate.** The most important number of all. **Predict** the shape of the curve for a rate thirty times too small, and thirty times
# too large.

# %%
smooth = {}
for rate in (1e-4, 3e-3, 1e-1):
    losses, _ = attempt(replace(trial, learning_rate=rate))
    smooth[f"rate {rate:g}"] = pd.Series(losses).ewm(span=10).mean()
x, labels = range(1, trial.steps + 1), ("step", "training loss (nats/character)")
title = "Too low, about right, too high"
figures.lines(x, smooth, *labels, baselines, title=title, note=text.note)

# %% [markdown]
# Too low is a smooth curve that is still falling when you stop: patient and late. Too high falls at once and then
# *hovers*, here between the unigram and the bigram: each step leaps over what the last one reached. If you see a plateau, try
# a third of the rate before you try anything else.
#
# **Warm-up and decay.** The same peak, a little higher than is comfortable, with four schedules:

# %%
hurried = replace(trial, learning_rate=1e-2)
for warmup, decay in ((0, 0.0), (10, 0.0), (10, 0.5), (10, 1.0)):
    config = replace(hurried, warmup_steps=warmup, decay=decay)
    losses = [attempt(replace(config, seed=seed))[1][-1] for seed in range(3)]
    schedule = f"warm-up {warmup:2} steps, decay over the last {decay:4.0%}"
    print(f"{schedule}: {sum(losses) / len(losses):.3f} nats/character")

# %% [markdown]
# Each number is the mean of three seeds, since one seed moves as much as the schedule does (lesson 5). Without warm-up AdamW
# strides off at full rate while its mean squares rest on one or two gradients. A decay gains a little more; whether over
# half the steps or all is too close to call. And a run can't be judged in its middle: a model at full rate looks worse
# than it is.
#
# ## One strange batch
#
# **Clipping** shortens a gradient that is longer than 1. To see why, let a model that has learned a little meet a batch of
# nonsense: the right answer is always the rarest character of the alphabet.

# %%
torch.manual_seed(trial.seed)
model = GPT(small).to(device)
optimizers = sgd(model, replace(trial, learning_rate=0.3))
draw = torch.Generator().manual_seed(0)
for _ in range(trial.steps):
    training_step(model, optimizers, *get_batch(train_ids, 16, T, draw), rate=1.0)
tokens, targets = get_batch(train_ids, 16, T, draw)
rarest = train_ids.bincount(minlength=V).argmin().item()
strange = torch.full_like(targets, rarest)

# %% [markdown]
# Two copies take the strange step, one of them unclipped. **Predict** by how much each one's loss rises.

# %%
before = held_out_loss(model)
for clip_norm in (math.inf, 1.0):
    twin = copy.deepcopy(model)
    optimizers = sgd(twin, replace(trial, learning_rate=0.3))
    training_step(twin, optimizers, tokens, strange, rate=1.0, clip_norm=clip_norm)
    after = held_out_loss(twin)
    print(f"clip at {clip_norm}: held-out loss {before:.2f}", end=" ")
    print(f"before the strange batch, {after:.2f} after")

# %% [markdown]
# Unclipped, one batch costs the model a part of what it had learned in all the steps before; clipped, it passes almost
# unnoticed. That was SGD. AdamW and Muon divide by the gradient's size, so the first step of a fresh one does not feel
# the clip:

# %% tags=["nbval-check-output"]
for size in (1, 100):
    weight = torch.nn.Parameter(torch.zeros(3))
    weight.grad = size * torch.tensor([1.0, -2.0, 3.0])
    torch.optim.AdamW([weight], lr=0.1).step()
    print(f"gradient x {size:3}: step {weight.data.tolist()}")

# %% [markdown]
# What clipping protects in them is their memory: one huge gradient would stay in the running means for many steps.
#
# ## An exact measure
#
# Many tutorials estimate the validation loss from a few random batches, and then argue about differences smaller than
# that noise. The whole split is only a hundred thousand predictions, so we make them all: windows side by side, each
# character but the first predicted exactly once, dropout off. First the loss of each, then their mean:


# %% tags=["export"]
@torch.no_grad()
def token_losses(model, ids):
    """The loss at each token but the first: (N,) int64 -> (N - 1,) float64, CPU, nats.

    Dropout is off. Read in windows of the context length that don't overlap; the last may
    be shorter. A few at a time stay in a CPU's cache; a GPU wants many.
    """
    if len(ids) < 2:
        raise ValueError("evaluation needs at least 2 tokens: to read and to predict")
    T, N, was_training = model.config.context_length, len(ids) - 1, model.training
    at_once = max(1, (2**16 if ids.is_cuda else 2**10) // T)
    model.eval()
    losses, start = [], 0
    while start < N:
        left = N - start
        windows = min(at_once, left // T)  # whole ones first
        stop = start + (windows * T or left)
        logits = model(ids[start:stop].view(-1, min(T, left))).flatten(0, 1)
        targets = ids[start + 1 : stop + 1]
        losses.append(F.cross_entropy(logits, targets, reduction="none"))
        start = stop
    model.train(was_training)
    return torch.cat(losses).cpu().double()


# %% tags=["export"]
def evaluate(model, ids):
    """The exact loss over all of ids: the mean token loss, in nats/character."""
    return token_losses(model, ids).mean().item()


# %% [markdown]
# ## Why validation turns up again
#
# Give a model little text and many steps. **Predict** both curves: the loss on the text that it trains on, and on text that
# it has never seen.

# %%
few = train_ids[:10_000]
losses, held = attempt(replace(trial, steps=3 * trial.steps), ids=few)
tenth = len(losses) // 10
x = range(tenth, 10 * tenth + 1, tenth)
seen = [sum(losses[i - tenth : i]) / tenth for i in x]
curves = {"trained on": seen, "held out": held}
labels = ("step", "loss (nats/character)")
title = "One chapter, read again and again"
figures.lines(x, curves, *labels, baselines, title=title, note=text.note)

# %% [markdown]
# First both fall: what the model learns is true of all such text. Then it begins to learn *this* text by heart, and what it
# learns there is false elsewhere; it grows surer of it, and surer and wrong is what cross-entropy punishes. The place where the
# held-out curve turns is the best model that this run will ever be.
#
# **Early stopping** waits for a few evaluations without a new best and then goes back to the best weights.


# %% tags=["export"]
class EarlyStopping:
    """Stop after `patience` evaluations in a row without a new best loss; 0 never stops."""

    def __init__(self, patience):
        self.patience, self.best, self.waited = patience, math.inf, 0

    def update(self, loss):
        """Take in one evaluation. -> whether it is the best so far"""
        improved = loss < self.best
        self.best = min(self.best, loss)
        self.waited = 0 if improved else self.waited + 1
        return improved

    @property
    def should_stop(self):
        return 0 < self.patience <= self.waited


# %% [markdown]
# Seven evaluations, a patience of two. **Predict** the last line that is printed.

# %% tags=["nbval-check-output"]
stopping = EarlyStopping(patience=2)
for loss in (3.0, 2.5, 2.6, 2.4, 2.4, 2.5, 2.3):
    said = "best so far" if stopping.update(loss) else ""
    print(loss, said, "stop" if stopping.should_stop else "")
    if stopping.should_stop:
        break

# %% [markdown]
# Note the second 2.4: equal is not better. And note 2.3, which would have come: patience is a bet.
#
# ## The loop, from scratch
#
# All parts are there. The loop draws, steps, now and then evaluates, and draws its curve while it runs. We use the
# smallest model of the study, 2 layers.

# %%
spec = runs.depth_spec(2, text)
every = max(1, profile.loop_steps // 5)
config = replace(spec.train, steps=profile.loop_steps, evaluate_every=every)

# %% [markdown]
# So that you can watch noise become verse, a function that writes: draw a character by the model's probabilities, append it,
# and ask again. (Lesson 6 is about doing this well.)


# %%
@torch.no_grad()
def write(model, prompt, n_new=80):
    """The prompt and n_new drawn characters; dropout off, the same luck each time."""
    ids, was_training = tokenizer.encode(prompt), model.training
    luck = torch.Generator().manual_seed(0)
    model.eval()
    for _ in range(n_new):
        recent = torch.tensor([ids[-model.config.context_length :]], device=device)
        probabilities = model(recent)[0, -1].softmax(-1).cpu()
        ids.append(torch.multinomial(probabilities, 1, generator=luck).item())
    model.train(was_training)
    return tokenizer.decode(ids)


# %% [markdown]
# Read it once from top to bottom. `live` redraws one figure in its place; all the rest you have met.

# %%
torch.manual_seed(config.seed)
model = GPT(spec.model).to(device)
optimizers, context = make_optimizers(model, config), spec.model.context_length
draw = torch.Generator().manual_seed(config.seed)
torch.manual_seed(config.seed + 1)  # dropout
stopping, best = EarlyStopping(config.patience), None
losses, rows, live = [], [], widgets.Live()
samples = {0: write(model, text.fitting_prompt())}
for step in range(config.steps):
    tokens, targets = get_batch(train_ids, config.batch_size, context, draw)
    rate = learning_rate_at(step, config)
    loss = training_step(model, optimizers, tokens, targets, rate, config.clip_norm)
    losses.append(loss.item())
    if (step + 1) % config.evaluate_every == 0:
        measured = evaluate(model, validation_ids)
        lately = sum(losses[-20:]) / len(losses[-20:])
        row = {"training_loss": lately, "validation_loss": measured}
        rows.append({"arm": "2 layers", "seed": 0, "step": step + 1} | row)
        curve = pd.DataFrame(rows)
        live.show(figures.training_curves(curve, baselines, note=text.note))
        samples[step + 1] = write(model, text.fitting_prompt())
        if stopping.update(measured):
            best = copy.deepcopy(model.state_dict())
        if stopping.should_stop:
            break
model.load_state_dict(best)
print(f"best validation loss {stopping.best:.3f} nats/character,", end=" ")
print(f"perplexity {math.exp(stopping.best):.2f}")

# %% [markdown]
# Each step is small, and yet within a minute the model has passed the unigram and the bigram. The dashed training loss
# is a mean over the steps before, so it lags at first; later it lies lower. One guess: the validation split comes from other
# plays than most of the training split.

# %% [markdown]
# And what does it *write*? The same prompt and the same luck, at each of the five evaluations:

# %%
for step, written in samples.items():
    print(f"--- step {step}\n{written}\n")

# %% [markdown]
# ## The same, from the package
#
# `trainer.train` is this loop with the practical side added: progress, costs, and checks. It also stops, and keeps the best
# weights, by the first half of the validation split alone, so that the other half has chosen nothing (lesson 5). It must
# give the *same losses* from the same seed, or one of the two is wrong. On a CPU they agree to the last digit. On a GPU its engine rounds to 16
# bits and replays a whole step as one recording, which is several times as fast, and agrees as far as 16 bits can.

# %%
torch.manual_seed(config.seed)
twin = GPT(spec.model).to(device)
history = trainer.train(twin, train_ids, validation_ids, config).history
ours = [row["validation_loss"] for row in rows]
theirs = [row["validation_loss"] for row in history if "validation_loss" in row]
near = 1e-4 if device.type == "cpu" else 0.05  # a GPU rounds to bfloat16
assert torch.allclose(torch.tensor(ours), torch.tensor(theirs), atol=near)
print("loop   ", [f"{loss:.4f}" for loss in ours])
print("package", [f"{loss:.4f}" for loss in theirs])

# %% [markdown]
# ## The full run
#
# Now all the steps of the recipe. If you have trained this very run before, or the course has, it is taken from disk and
# the output says so; otherwise it takes about a minute on a laptop. **Predict:** will two layers beat the 5-gram?

# %%
model, record = runs.small_model(text, device)
curve = pd.DataFrame(record.history).assign(arm=record.arm, seed=record.seed)
figures.training_curves(curve, baselines, note=text.note)

# %% [markdown]
# This recipe measures the validation loss once, at the end: hence a single mark. It lies above the training loss, as in
# your own loop; a model that has read the text little more than once has not learned it by heart. In perplexity, the
# number of equally likely next characters:

# %%
perplexity = {"training": curve["training_loss"].map(math.exp)}
labels = ("step", "perplexity (characters)")
title = "Training perplexity of 2 layers"
figures.lines(curve["step"], perplexity, *labels, title=title, note=text.note)

# %% [markdown]
# The loss of the weights that were kept, exactly, as the last line of the log:

# %%
loss = evaluate(model, validation_ids)
assert abs(loss - record.validation_loss) < 2e-3, "the weights on disk are the best"
log = pd.DataFrame({"nats/character": baselines | {"2 layers, this lesson": loss}})
log["perplexity"] = log["nats/character"].map(math.exp)
log.round(3)

# %% [markdown]
# Against lesson 1's best counter, and what either had to store for it:

# %%
margin = min(baselines.values()) - loss
verdict = "better" if margin > 0 else "worse"
print(f"2 layers: {loss:.3f} nats/character,", end=" ")
print(f"{abs(margin):.3f} {verdict} than the best n-gram")
order = 5 if "5-gram" in baselines else 2  # five are too many for a very large alphabet
counts = sum(len(grams) for grams, *_ in WittenBell(train_ids.cpu(), order, V).tables)
print(f"The {order}-gram model keeps {counts:,} counts,", end=" ")
print(f"yours {count_parameters(model):,} weights.")

# %% [markdown]
# That is the last line of the log so far. Where the n-gram model has not counted a context, it asks a shorter one (lesson 1).
# Yours keeps no table of contexts: a new one gets its guess from the same weights as all others.
#
# ## Look inside
#
# A trained model is an object that you can study. **How far back does it look?** Ask for the loss at each place of the context
# apart. **Predict:** at the first place it has read one character. Which model of lesson 1 is it then?

# %%
losses = token_losses(model, validation_ids)
whole = len(losses) // context * context
by_place = losses[:whole].view(-1, context).mean(0)
title = "What each character more is worth"
figures.loss_by_position(by_place, baselines, title=title, note=text.note)

# %% [markdown]
# With one character it can't beat the bigram, and is even a little worse: few of the places that it was trained on are first
# ones. Within about ten it has reached the 5-gram. Beyond a few dozen it gains almost nothing: two layers make words and
# lines, not plots. And the mean depends on the window: each one begins with places that are hard to guess, so losses
# over different contexts do not compare.
#
# **Where do the heads look?** The weights of lesson 2, taken from each layer as it works, on a line that the model has not seen.


# %%
@torch.no_grad()
def weights_of(model, tokens):
    """Each head's attention while the model reads: tokens (1, T) -> (L, H, T, T)."""
    added, angles = positions_at(model, 0, tokens.shape[1])
    x, maps = model.embedding(tokens) * model.scale + added, []
    for block in model.blocks:
        q, k, _ = block.attention.queries_keys_values(block.norm_1(x), angles)
        maps.append(attention_weights(q, k)[0])
        x = block(x, angles)
    return torch.stack(maps)


# %% [markdown]
# Every head of both layers, over one line:

# %%
line = validation_ids[11:29]
weights = weights_of(model, line[None]).cpu()
assert weights.triu(1).abs().max() == 0, "masked in every layer"
title = "Where each head looks"
figures.attention_maps(weights, tokenizer.decode(line), title=title, note=text.note)

# %% [markdown]
# The hatched half is the future, in every layer. Below it, each map has its habit: bright next to the diagonal is "the
# character or two before", a bright column is a place that many later characters return to. The number in each title is how
# far back the head looks on average.
#
# **Maps tell where a head looks, not whether it matters.** For that, switch it off: set to 0 what its channels write to the stream,
# and measure. **Predict** which part the model misses most.


# %%
def without(model, layer, part):
    """A copy whose head number `part`, or whose "feed-forward", writes nothing."""
    twin, D = copy.deepcopy(model), model.config.d_model // model.config.n_heads
    block = twin.blocks[layer]
    with torch.no_grad():
        if part == "feed-forward":
            block.feed_forward.out.weight.zero_()
        else:
            block.attention.out.weight[:, part * D : (part + 1) * D] = 0
    return twin


# %% [markdown]
# One part after the other, each time the loss over 20,000 characters:

# %%
sample, removed = validation_ids[:20_000], {}
for layer in range(spec.model.n_layers):
    for part in (*range(spec.model.n_heads), "feed-forward"):
        name = part if part == "feed-forward" else f"head {part + 1}"
        loss = evaluate(without(model, layer, part), sample)
        removed[f"layer {layer + 1} · {name}"] = loss
whole = evaluate(model, sample)
title = "What the model loses without each part"
figures.parts_removed(removed, whole, title=title, note=text.note)

# %% [markdown]
# The first layer's feed-forward network is missed most by far: what comes later is built on it. Of the heads, which are smaller, the
# first layer's first counts about as much as the second layer's whole feed-forward network. Mind the height: without that
# first network the loss is worse than uniform guessing. The rest was not only missing something, it was *misled* by an input
# that it never met in training; setting a part to its mean instead of 0 would be milder. And this measures a part *in this model*. Trained without it from the start, the others would have
# learned to do some of its work; lesson 5 asks that question.

# %% [markdown]
# ## What you built
#
# A training loop with a schedule, two optimisers, clipping, exact evaluation and early stopping; losses
# that are the package's, step by step; a model that beats the 5-gram; and three instruments to look into it.
#
# ## Questions
#
# **1.** The first loss is about $\ln V$. Where does the number come from, and what would 6 have told you?
#
# <details><summary>Answer</summary>
#
# Even guesses give each of V characters 1/V. A first loss of 6 would be a model that is sure and wrong: weights too large at the start. </details>
#
# **2.** Why do gains and biases not decay?
#
# <details><summary>Answer</summary>
#
# Decay pulls towards 0. For a matrix that is a mild wish for small weights; for a gain, 0 means that the channel is switched off. </details>
#
# **3.** Early stopping looks at the validation split many times. Why is the loss it reports then a little too good?
#
# <details><summary>Answer</summary>
#
# It is the smallest of many, and a part of being smallest is luck on this split. </details>
#
# **4.** Two runs at the same step, one still at its peak rate, one half-way through its decay. Which one looks better, and is it?
#
# <details><summary>Answer</summary>
#
# The one in decay: smaller steps settle. The other may be ahead once it decays too, so compare ends, not middles. </details>

# %% [markdown]
# ## Exercises
#
# `check` tells you *not attempted yet*, *not yet* with a hint, or *right*.

# %%
from course_utils import checks

# %% [markdown]
# ### Exercise 4.1 · warm-up · 5 min
#
# A text was measured in pieces: `losses[i]` is the mean loss of piece $i$, which has `counts[i]` characters. What is the perplexity of the
# whole text?
#
# <details><summary>Hint 1</summary>
#
# Every *character* counts once, so the pieces don't count alike. </details>
#
# <details><summary>Hint 2</summary>
#
# First the mean loss of the whole, then one exponential. </details>


# %% tags=["exercise"]
def perplexity(losses, counts):
    """losses: floats in nats/character, counts: ints -> float."""
    ...


checks.check("4.1", perplexity)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def perplexity(losses, counts):
    total = sum(loss * count for loss, count in zip(losses, counts, strict=True))
    return math.exp(total / sum(counts))


checks.check("4.1", perplexity, quiet=True)

# %% [markdown]
# ### Exercise 4.2 · core · 10 min
#
# Given all evaluations that a run *would* make, when does early stopping end it, and whose weights are kept? Count evaluations from 1. A
# run that never stops ends with its last evaluation.
#
# <details><summary>Hint 1</summary>
#
# Remember the best loss and when it was; an equal one is not better. </details>
#
# <details><summary>Hint 2</summary>
#
# Stop at evaluation $i$ once $i$ minus the best one's number reaches `patience`. Later losses are never seen. </details>


# %% tags=["exercise"]
def stops(losses, patience):
    """-> (number of the last evaluation, number of the best one)"""
    ...


checks.check("4.2", stops)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def stops(losses, patience):
    best = 1
    for i in range(1, len(losses) + 1):
        if losses[i - 1] < losses[best - 1]:
            best = i
        if i - best >= patience:
            break
    return i, best


checks.check("4.2", stops, quiet=True)

# %% [markdown]
# ### Exercise 4.3 · core · 15 min
#
# Write the other famous schedule. Warm-up as in the lesson: step 0 has the share $1/w$, step $w-1$ has 1. Then half a cosine wave: from 1 at step
# $w$ down to `floor` at the last step, which is `steps - 1`.
#
# <details><summary>Hint 1</summary>
#
# How far along is the fall? A number that is 0 at step $w$ and 1 at step `steps - 1`. </details>
#
# <details><summary>Hint 2</summary>
#
# $(1 + \cos \pi x)/2$ falls from 1 to 0. Stretch it to the room between `floor` and 1. </details>


# %% tags=["exercise"]
def cosine(step, steps, warmup_steps, floor):
    """step: 0 … steps - 1 -> the share of the peak rate."""
    ...


checks.check("4.3", cosine)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def cosine(step, steps, warmup_steps, floor):
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    along = (step - warmup_steps) / (steps - 1 - warmup_steps)
    return floor + (1 - floor) * (1 + math.cos(math.pi * along)) / 2


checks.check("4.3", cosine, quiet=True)

# %% [markdown]
# ### Exercise 4.4 · core · 10 min
#
# Which parameters of a model should weight decay pull at? Return the names (as in `named_parameters`) of those that decay: the matrices, and
# neither gains nor biases.
#
# <details><summary>Hint 1</summary>
#
# A name won't tell: the gain of a norm is called `weight` too. </details>
#
# <details><summary>Hint 2</summary>
#
# Count the axes: `parameter.ndim`. </details>


# %% tags=["exercise"]
def decaying(model):
    """-> a set of names"""
    ...


checks.check("4.4", decaying)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def decaying(model):
    return {name for name, parameter in model.named_parameters() if parameter.ndim == 2}


checks.check("4.4", decaying, quiet=True)

# %% [markdown]
# ### Exercise 4.5 · core · 15 min
#
# A batch is too large for the memory, so it comes in parts, `[(tokens, targets), …]`, some with more lines than others. Leave in the model
# the very gradients that the whole batch would have given, and return the whole batch's loss. Don't step.
#
# <details><summary>Hint 1</summary>
#
# `backward` *adds* to what is there, so call it once a part. `next_character_loss` gives a mean. </details>
#
# <details><summary>Hint 2</summary>
#
# A part with three of eight lines counts for three eighths. </details>


# %% tags=["exercise"]
def in_parts(model, parts):
    """parts: a list of (tokens, targets), each (B_i, T) -> the loss, a float."""
    ...


checks.check("4.5", in_parts)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def in_parts(model, parts):
    lines, total = sum(len(tokens) for tokens, _ in parts), 0.0
    for tokens, targets in parts:
        loss = next_character_loss(model, tokens, targets) * len(tokens) / lines
        loss.backward()
        total += loss.item()
    return total


checks.check("4.5", in_parts, quiet=True)

# %% [markdown]
# ### Exercise 4.6 · core · 10 min
#
# Measure a model in the middle of anything: dropout off, no gradients recorded, and the model afterwards in the mode in which you found
# it, training or evaluation. Forgetting the first costs loss, the second memory, and the third is found out days later.
#
# <details><summary>Hint 1</summary>
#
# `model.training` tells the mode before you touch it. </details>
#
# <details><summary>Hint 2</summary>
#
# `model.train(mode)` sets either mode; `torch.no_grad()` works as a decorator or in a `with`. </details>


# %% tags=["exercise"]
def measure(model, tokens, targets):
    """tokens, targets: (B, T) -> the mean loss, a float."""
    ...


checks.check("4.6", measure)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
@torch.no_grad()
def measure(model, tokens, targets):
    mode = model.training
    model.eval()
    loss = next_character_loss(model, tokens, targets).item()
    model.train(mode)
    return loss


checks.check("4.6", measure, quiet=True)

# %% [markdown]
# ### Exercise 4.7 · stretch · 60 min
#
# For an evening: AdamW, as the library does it. Keep a mean of gradients (share $\beta_1$ of the old one) and of their squares
# ($\beta_2$), both beginning at 0; divide them by $1 - \beta^t$ in step $t = 1, 2, \dots$, since they begin too small. Each step first
# shrinks the weight by the share `rate` × `weight_decay`, then moves it by `rate` × mean / (√mean square + `eps`).
#
# For a longer evening: make it a `torch.optim.Optimizer`, as `Muon` above is one, with mean, mean square and $t$ in
# `self.state[p]`; give `attempt` a `make` that returns `[yours]`, and take out one line at a time.

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Start with one step: after the correction the mean is the gradient and the root of the mean square its size. </details>
#
# <details><summary>Hint 2</summary>
#
# The decay never meets the gradient. That is the W. </details>
#
# <details><summary>Hint 3</summary>
#
# `eps` is added after the root. </details>


# %% tags=["exercise"]
def adamw(weight, gradients, rate, betas, eps, weight_decay):
    """weight: a tensor, gradients: a list of such, one a step -> the last weight."""
    ...


checks.check("4.7", adamw)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def adamw(weight, gradients, rate, betas, eps, weight_decay):
    mean, mean_square = torch.zeros_like(weight), torch.zeros_like(weight)
    for t, gradient in enumerate(gradients, start=1):
        mean = mean.lerp(gradient, 1 - betas[0])
        mean_square = mean_square.lerp(gradient.square(), 1 - betas[1])
        size = (mean_square / (1 - betas[1] ** t)).sqrt() + eps
        update = mean / (1 - betas[0] ** t) / size
        weight = weight * (1 - rate * weight_decay) - rate * update
    return weight


checks.check("4.7", adamw, quiet=True)

# %% [markdown]
# ## Test yourself
#
# Choose before you unfold.
#
# **1.** The training loss falls, the validation loss has risen for five evaluations. You …
# (a) train longer · (b) take the weights of the lowest validation loss · (c) raise the rate.
#
# <details><summary>Answer</summary>
#
# (b). (a) it learns the text by heart. (c) moves faster to the same place. More text or more dropout would help as well. </details>

# %% [markdown]
# **2.** The loss drops at once, then hovers above the bigram. First suspect …
# (a) the rate is too high · (b) the model is too small · (c) too few steps.
#
# <details><summary>Answer</summary>
#
# (a). (b) even an embedding and a head reach the bigram. (c) a rate that is too low gives a smooth curve, still falling. </details>

# %% [markdown]
# **3.** Dropout was on during evaluation. The reported loss is …
# (a) too low · (b) too high, and different each time · (c) right on average.
#
# <details><summary>Answer</summary>
#
# (b). A part of the model is missing in each pass. (a) nothing is leaked. (c) the damage doesn't average out: a loss is not a linear
# function of the activations. </details>

# %% [markdown]
# **4.** The validation loss over windows of 64 characters is higher than over windows of 128, with the same weights. Because …
# (a) of noise · (b) more places have little to go by · (c) the model was trained at 128.
#
# <details><summary>Answer</summary>
#
# (b). You drew it: loss by position. (a) the measure is exact. (c) shorter contexts occur in every training window. </details>

# %% [markdown]
# **5.** You switch off one head and the loss hardly moves. That shows …
# (a) the head is useless · (b) the others can do without it now · (c) the model has too many heads.
#
# <details><summary>Answer</summary>
#
# (b). (a) another text may need it, or another head may do the same. (c) needs models *trained* with fewer: lesson 5. </details>
#
# **Next:** [5 · Ablation](05_ablation.ipynb): is deeper better, and how would you know?
