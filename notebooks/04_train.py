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
# Lesson 3 lent you a training loop. Here you write it, measure what its choices are worth, and watch noise become
# verse, until your model leaves the 5-gram behind. Then you look inside.

# %% [markdown]
# **You will be able to** write a training loop from memory · find a learning rate · name a bug by its curve · tell a
# difference from luck · measure a loss exactly, and stop in time · say what a head does.
#
# **You need** [lesson 3](03_model.ipynb) and [PyTorch in twenty lines](../book/pytorch.md). **Time:** 65 minutes of
# reading, four minutes of computing on a laptop, two hours for the exercises up to core.

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
import time

import pandas as pd
from tqdm import tqdm

from course_utils import checks, corpus, figures, profiles, widgets
from course_utils.lessons.attention import attention_weights
from course_utils.lessons.data import (
    CharTokenizer,
    WittenBell,
    baseline_losses,
    get_batch,
    split,
)
from course_utils.lessons.model import GPT, GPTConfig, count_parameters, positions_at
from course_utils.training import runs

# %% [markdown]
# ## The losses to beat
#
# The text, cut as in lesson 1, and the loss log, begun with lesson 1's counters on the validation split.

# %% tags=["nbval-ignore-output"]
text, profile, device = corpus.load(), profiles.current(), profiles.device()
print(text.describe(), f"\nprofile {profile.name}, on {device.type}")
tokenizer = CharTokenizer(text.text)
ids = torch.tensor(tokenizer.encode(text.text), device=device)
train_ids, validation_ids = split(ids)
baselines = baseline_losses(text.text)
pd.Series(baselines, name="nats/character").round(3).to_frame()

# %% [markdown]
# ## Training, in ten lines
#
# A small model, an optimiser, and a loop of five verbs: draw a batch, predict, measure the loss, ask for its
# gradient, move.

# %% tags=["nbval-ignore-output"]
sizes = {"n_layers": 2, "n_heads": 4, "d_model": 64, "d_ff": 256, "dropout": 0.0}
small = GPTConfig(tokenizer.vocab_size, context_length=32, position="rope", **sizes)
torch.manual_seed(0)
model = GPT(small).to(device)
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
shapes = {"tokens": tuple(tokens.shape), "logits": tuple(logits.shape)}
figures.training_step(shapes, title="One training step")

# %% [markdown]
# The loss falls from about ln 65 = 4.17, an even guess, towards the bigram. `backward` *adds* to the gradients that
# are there, so `zero_grad` comes first. (*Clip* comes below.) Such lines go wrong without an error ([exercise
# 4.1](#exercise-4-1-warm-up-10-min) shows four ways). To write them is this lesson's main exercise,
# [4.2](#exercise-4-2-core-40-min).
#
# ## How far to step, and how much is luck
#
# The learning rate matters most. To try it, the ten lines become a function. A seed decides first weights and
# batches, so two trials of one seed differ only in what you change. (`share`, for now 1, scales the rate.)

# %%
steps = 2 * profile.demo_steps
seeds = range(3)
windows = get_batch(validation_ids, profile.demo_windows, 32, torch.Generator().manual_seed(1))


def steady(step):
    return 1.0


def with_adamw(model, rate):
    return torch.optim.AdamW(model.parameters(), lr=rate)


@torch.no_grad()
def held_out_loss(model):
    """The loss on the same windows of held-out text each time."""
    tokens, targets = windows
    return F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten()).item()


# %%
def attempt(rate, seed=0, make=with_adamw, share=steady, ids=train_ids, steps=steps):
    """Train a small model. -> it, the loss of each step, ten losses on held-out text"""
    torch.manual_seed(seed)
    model = GPT(small).to(device)
    draw = torch.Generator().manual_seed(seed)
    optimizer, losses, held = make(model, rate), [], []
    for step in range(steps):
        for group in optimizer.param_groups:  # sets of weights with settings in common
            group["lr"] = rate * share(step)
        tokens, targets = get_batch(ids, 16, 32, draw)
        loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % max(1, steps // 10) == 0:
            held.append(held_out_loss(model))
    return model, losses, held


# %% [markdown]
# Seven rates, three seeds each (a minute and a quarter on two cores).
#
# > **Predict.** Draw the final loss against the rate. How far apart do three seeds of one rate lie?

# %% tags=["nbval-ignore-output"]
rates = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
bar = tqdm(rates, "rates", leave=False)
trials = {rate: [attempt(rate, seed) for seed in seeds] for rate in bar}
final = {rate: [held[-1] for _, _, held in three] for rate, three in trials.items()}

# %% tags=["nbval-ignore-output"]
by_seed = {f"seed {seed}": [final[rate][seed] for rate in rates] for seed in seeds}
labels = ("learning rate (log scale)", "loss on held-out text (nats/character)")
title = "The loss after training, against the rate"
figures.lines(rates, by_seed, *labels, baselines, log_x=True, title=title, note=text.note)

# %% [markdown]
# A bowl, steep on both sides. Luck has a size. From here on *one standard* decides whether a difference counts.
# Compare trials seed by seed: with three seeds, the mean difference ± 2.5 standard deviations of the differences is a
# 95 % interval (4.3/√3; lesson 5). Where it contains 0, look for no reason.


# %%
def compared(losses):
    """losses: name -> a loss a seed. Each row against the first, seed by seed."""
    table = pd.DataFrame(losses, index=[f"seed {seed}" for seed in seeds]).T
    differences = table.sub(table.iloc[0])
    mean, margin = differences.mean(axis=1), 2.5 * differences.std(axis=1)
    table["difference"], table["± (95 %)"] = mean, margin
    table["counts"] = (mean.abs() > margin).map({True: "yes", False: "no"})
    table.loc[table.index[0], "counts"] = "–"
    return table.round(3)


# %% tags=["nbval-ignore-output"]
best = min(rates, key=lambda rate: sum(final[rate]))
near = sorted(rates, key=lambda rate: sum(final[rate]))[:4]
compared({f"rate {rate:g}": final[rate] for rate in near})

# %% tags=["nbval-ignore-output"]
noisy = {f"rate {rate:g}": trials[rate][0][1] for rate in (1e-4, best, 1e-1)}
smooth = pd.DataFrame(noisy).ewm(span=10).mean()  # recent ones weigh most
labels = ("step", "training loss (nats/character)")
title = "Too low, about right, too high (smoothed over ten steps)"
figures.lines(range(1, steps + 1), smooth, *labels, baselines, title=title, note=text.note)

# %% [markdown]
# The best rate's seeds lie within 0.03 nats, those of three times that rate within 0.12: noise has no one size. Both
# neighbours are worse, and both differences count. Too low is still falling at the end. Too high jumps above the
# uniform loss, then *hovers* far above the best.
#
# ## Which way to step
#
# Plain **SGD** follows the gradient, one rate for all weights. **Momentum** follows a fading sum of gradients (in
# PyTorch $v \leftarrow 0.9 v + g$): what changes sign from batch to batch cancels. **AdamW** gives each weight its
# own step: the mean of its recent gradients over the root of their mean square (Kingma and Ba, 2015). Its **weight
# decay** pulls weights towards 0, apart from the gradient (Loshchilov and Hutter, 2019). SGD gets momentum and three
# rates to try (half a minute on two cores).


# %% tags=["nbval-ignore-output"]
def sgd(model, rate):
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)


by_sgd = [[attempt(r, s, sgd)[2][-1] for s in seeds] for r in tqdm((0.03, 0.1, 0.3), leave=False)]
compared({"AdamW": final[best], "SGD, momentum": min(by_sgd, key=sum)})

# %% [markdown]
# A clear difference after 200 steps, with SGD at the best of three rates, AdamW of seven. One reason, tested by
# others: gradient descent leaves rare words behind (Kunstner et al., 2024).
#
# **What to watch.** The gradient's length: a leap means trouble. And a step's length, as a share of the weights':
# about a thousandth, says a rule of thumb (Karpathy, 2015).


# %%
def length(tensors):
    """Of all numbers in all tensors, as one long vector."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors]).norm().item()


# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
model = GPT(small).to(device)
optimizer, draw, watched = with_adamw(model, best), torch.Generator().manual_seed(0), []
for _ in range(steps):
    tokens, targets = get_batch(train_ids, 16, 32, draw)
    loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
    optimizer.zero_grad()
    loss.backward()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.step()
    moved = length([p - b for p, b in zip(model.parameters(), before, strict=True)])
    norm = length([p.grad for p in model.parameters()])
    watched.append({"gradient": norm, "update / weights": moved / length(before)})
shown = sorted({0, 1, 2, steps // 20, steps // 4, steps // 2, steps - 1})
table = pd.DataFrame(watched, index=range(1, steps + 1)).rename_axis("step")
table.iloc[shown].round(4)

# %% [markdown]
# The share begins at some per cent and ends below one per cent: above the rule, in a short run that stays at its peak
# rate.
#
# ## One strange batch
#
# **Clipping** shortens a gradient that is longer than a limit (Pascanu et al., 2013). Does it matter with AdamW,
# which divides by the gradient's size anyway? The model you just watched meets a batch whose answer is always the
# rarest character, then good ones again.
#
# > **Predict.** What does that batch cost, unclipped and clipped, at once and twenty steps later? (First comes a copy
# > that never meets it.)

# %% tags=["nbval-ignore-output"]
rarest = train_ids.bincount(minlength=tokenizer.vocab_size).argmin().item()
strange = torch.full((16, 32), rarest, device=device)
print(f"before the strange batch: {held_out_loss(model):.3f}")
for meets_it, limit in ((False, math.inf), (True, math.inf), (True, 1.0), (True, 0.1)):
    # Together, so that the copied optimiser moves the copied model
    copied, its_optimizer, its_draw = copy.deepcopy((model, optimizer, draw))
    for i in range(21):
        tokens, targets = get_batch(train_ids, 16, 32, its_draw)
        wanted = strange if meets_it and i == 0 else targets
        loss = F.cross_entropy(copied(tokens).flatten(0, 1), wanted.flatten())
        its_optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(copied.parameters(), limit)
        its_optimizer.step()
        if i in (0, 20):
            print(f"{'strange' if meets_it else 'good'} batch, clip at {limit}:", end=" ")
            print(f"gradient {norm:.2f}, {i} steps later {held_out_loss(copied):.3f}")

# %% [markdown]
# Unclipped, one batch costs nearly a tenth of a nat at once, and twenty steps later that copy still lags; clipped at
# 1, it has caught up. (One seed; gradients are printed unclipped. At 0.1 good batches are clipped too, and lose,
# perhaps since older, larger squares still divide.) A fresh AdamW feels no clip in its first step: mean over root
# mean square is $g/|g|$, a sign. Later a huge gradient would stay in both running means, and clipping keeps it out.
#
# ## The settings of a run
#
# Here is all that decides a run's result. The defaults are the plain protocol, `baseline`; what is new comes below.


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
# ## When to step how far
#
# A fresh AdamW has means of one or two gradients only, so the rate climbs over a few steps, the **warm-up** (Goyal et
# al., 2017), stays, and falls at the end. (Or along a cosine: Loshchilov and Hutter, 2017, and [exercise
# 4.3](#exercise-4-3-core-15-min).)
#
# Four schedules, at a peak a little too high for comfort (three quarters of a minute on two cores):


# %% tags=["export"]
def learning_rate_at(step, config):
    """The share of the peak rate at a step: up in a line, flat, down in a line.

    step: 0 … config.steps - 1 -> a number in (0, 1].
    """
    up = (step + 1) / max(1, config.warmup_steps)
    down = (config.steps - step) / max(1, config.decay * config.steps)
    return min(1.0, up, down)


# %% tags=["nbval-ignore-output"]
schedules, shapes = {}, {}
for warmup, decay in tqdm([(0, 0.0), (10, 0.0), (10, 0.5), (10, 1.0)], leave=False):
    config = TrainConfig(steps=steps, warmup_steps=warmup, decay=decay)
    name = f"warm-up {warmup}, decay {decay:.0%}"
    shapes[name] = [learning_rate_at(step, config) for step in range(steps)]
    schedules[name] = [attempt(1e-2, s, share=shapes[name].__getitem__)[2][-1] for s in seeds]

# %% tags=["nbval-ignore-output"]
print(compared(schedules))
labels, title = ("step", "share of the peak"), "Four schedules"
figures.lines(range(1, steps + 1), shapes, *labels, title=title)

# %% [markdown]
# Not one row counts. With seed 1 alone this lesson could praise warm-up, with seed 2 warn of decay. That does not
# prove schedules useless: those who recommend them measured far longer runs.
#
# ## An exact measure
#
# So far we measured on 512 windows. The whole split is only a hundred thousand predictions: make them all, windows
# side by side.


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
        stop = start + (windows * T or left)  # no whole one left: the short rest
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


# %% tags=["nbval-ignore-output"]
each = token_losses(model, validation_ids)
by_window = each[: len(each) // 32 * 32].view(-1, 32).mean(1)
print(f"all {len(each):,} predictions: {evaluate(model, validation_ids):.3f}")
for name, n in {"one batch of 16": 16, "512": 512, "200 batches of 64": 12_800}.items():
    error = by_window.std() / math.sqrt(n)
    print(f"{name:>17} windows: ± {error:.4f} (standard error)")

# %% [markdown]
# One batch is typically off by several hundredths, our 512 windows by one;
# [nanoGPT](https://github.com/karpathy/nanoGPT)'s 200 batches of 64 read more than the whole split. *Exact* means
# exact for this tenth, cut this way; the tenth is a sample.
#
# ## Why validation turns up again
#
# > **Predict.** Little text, many steps: how will its loss run, and that of text never seen?

# %%
few = train_ids[:10_000]
_, losses, held = attempt(best, ids=few, steps=3 * steps)
tenth = len(losses) // 10
x = range(tenth, 10 * tenth + 1, tenth)
seen = [sum(losses[i - tenth : i]) / tenth for i in x]

# %% tags=["nbval-ignore-output"]
curves = {"trained on": seen, "held out": held}
labels = ("step", "loss (nats/character)")
title = "One chapter, read again and again"
figures.lines(x, curves, *labels, baselines, title=title, note=text.note)

# %% [markdown]
# First both fall: what the model learns is true of all such text. Then it learns *this* text by heart,
# **overfitting**: false elsewhere, and cross-entropy charges most for being sure and wrong. Dropout (Srivastava et
# al., 2014; lesson 3) and more text put it off.
#
# **Early stopping** (Prechelt, 1998) waits a few evaluations (its **patience**) for a new best, then goes back to the
# best weights. With a patience of two, which line is printed last?


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


# %%
stopping = EarlyStopping(patience=2)
for loss in (3.0, 2.5, 2.6, 2.4, 2.4, 2.5, 2.3):
    said = "best so far" if stopping.update(loss) else ""
    print(loss, said, "stop" if stopping.should_stop else "")
    if stopping.should_stop:
        break

# %% [markdown]
# Equal is not better (the second 2.4), and 2.3 would have come: patience is a bet. (A validation loss can even fall
# twice: Nakkiran et al., 2020.)
#
# ## The loop, whole
#
# With two more parts you are ready for [exercise 4.2](#exercise-4-2-core-40-min). A batch too large for the memory is
# read in pieces: each loss times its share of the rows, and `backward` adds up the gradients. Where a model has
# dropout, `model.train()` goes before a step, `model.eval()` before a measurement. The model is the smallest of
# lesson 5's study:

# %% tags=["nbval-ignore-output"]
spec = runs.depth_spec(2, text)
every = max(1, profile.loop_steps // 5)
config = TrainConfig(
    steps=profile.loop_steps,
    batch_size=spec.train.batch_size,
    learning_rate=best,
    warmup_steps=10,
    decay=0.5,
    evaluate_every=every,
)
print(spec.model)

# %% [markdown]
# At an evaluation, `report` takes both losses exactly, and `write` draws a sample (lesson 6). The loop takes half a
# minute on two cores.


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


# %%
def report(model, step):
    """Add to what the next cell begins: rows, samples, curve. -> validation loss"""
    measured = {
        "training_loss": evaluate(model, train_ids[:20_000]),
        "validation_loss": evaluate(model, validation_ids),
    }
    rows.append({"arm": "2 layers", "seed": 0, "step": step} | measured)
    live.show(figures.training_curves(pd.DataFrame(rows), baselines, note=text.note))
    samples[step] = write(model, text.fitting_prompt())
    return measured["validation_loss"]


# %% tags=["nbval-ignore-output"]
torch.manual_seed(config.seed)
model, context = GPT(spec.model).to(device), spec.model.context_length
optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
draw = torch.Generator().manual_seed(config.seed)
stopping, rows, live, seconds = EarlyStopping(config.patience), [], widgets.Live(), 0.0
samples = {0: write(model, text.fitting_prompt())}
for step in tqdm(range(config.steps), "steps", leave=False):
    begin = time.perf_counter()
    tokens, targets = get_batch(train_ids, config.batch_size, context, draw)
    loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * learning_rate_at(step, config)
    optimizer.step()
    seconds += time.perf_counter() - begin
    if (step + 1) % config.evaluate_every == 0:
        if stopping.update(report(model, step + 1)):
            kept = copy.deepcopy(model.state_dict())
        if stopping.should_stop:
            break
gradient = model.blocks[0].attention.out.weight.grad.cpu()  # the last one, for Muon below
model.load_state_dict(kept)  # back to the best
speed = (step + 1) * tokens.numel() / seconds
print(f"best validation loss {stopping.best:.3f} nats/character", end=", ")
print(f"{speed:,.0f} characters/s in {tokens.device.type} float32")

# %% [markdown]
# The dashed loss, of the training split's first 20,000 characters, is so far mostly above the validation loss: the
# texts differ. And what does it *write*?

# %% tags=["nbval-ignore-output"]
for step, written in samples.items():
    print(f"--- step {step}\n{written}\n")

# %% [markdown]
# Noise has become the shapes of words; verse waits for the full run.
#
# ## Muon, for one matrix
#
# The `laptop` recipe has one more trick. A matrix stretches each of its directions by a factor, a **singular value**.
# **Muon** makes each block matrix's momentum *orthogonal*, all singular values 1: every direction moves alike. Why
# that helps, its authors guess: rare directions, small in the update, matter for learning (Jordan et al., 2024).
#
# $1.5 x - 0.5 x^3$ brings any $x$ between 0 and 1 closer to 1, and $1.5 X - 0.5 X X^\top X$ does so to each singular
# value of a matrix, without knowing any. (Every matrix is a turn, a stretch and another turn: $X = U S V^\top$, the
# singular values on the diagonal of $S$. A turn undone is nothing, so in $X X^\top X$ the middle ones cancel:
# $U S^3 V^\top$ is left.) Repeated, this is the **Newton–Schulz iteration**. Five polynomials $a x + b x^3 + c x^5$
# are faster, each the best for what the one before leaves (Amsel et al., 2025):


# %% tags=["export"]
POLYNOMIALS = (  # a, b, c of each iteration: Amsel et al. (2025), Polar Express
    (8.3837, -24.7659, 18.3571),
    (4.0434, -3.0114, 0.5695),
    (3.5056, -2.6267, 0.5257),
    (2.4901, -1.8343, 0.4368),
    (1.9178, -1.2968, 0.3797),
)


# %%
def orthogonal(matrix, iterations=5):
    """Push every singular value of one matrix towards 1."""
    x = matrix / (1.01 * matrix.norm())  # now none is above 1
    for a, b, c in POLYNOMIALS[:iterations]:
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x


# %% [markdown]
# Here is the last gradient of one matrix in your loop.
#
# > **Predict.** Which singular values are hardest to bring to 1?

# %% tags=["nbval-ignore-output"]
ways = {"before": gradient / torch.linalg.matrix_norm(gradient, 2)}
ways |= {f"{n} iterations": orthogonal(gradient, n) for n in (3, 5)}
values = {}
for name, matrix in ways.items():
    values[name] = torch.linalg.svdvals(matrix)
    half = values[name][: len(gradient) // 2]
    print(f"{name:>12}, the stronger half: {half.min():.2f} … {half.max():.2f}")
labels = ("rank of the direction", "singular value")
x, title = range(1, len(gradient) + 1), "A gradient's directions, before and after"
figures.lines(x, values, *labels, title=title)

# %% [markdown]
# The smallest: an iteration multiplies a small value by its `a` and no more. The first overshoot, so that small ones
# rise fast; the last settle. Even after five (`laptop` stops at three) the weakest stay near 0: more equal, not
# equal.
#
# Last, the size. A square orthogonal update keeps the length of what goes in. A tall one spreads it over more
# outputs, so each moves less. A wide one keeps a part, for fewer outputs, so each moves as in a square one:

# %%
for rows, columns in ((64, 64), (256, 64), (64, 256)):
    draw = torch.Generator().manual_seed(1)
    update = orthogonal(torch.randn(rows, columns, generator=draw))
    moved = update @ torch.randn(columns, 1000, generator=draw)
    factor = max(1.0, rows / columns) ** 0.5
    print(f"{rows:3} x {columns:3}: each output moves by {moved.std():.2f}", end=", ")
    print(f"times the factor {factor:.0f}: {moved.std() * factor:.2f}")

# %% [markdown]
# With the factor √(rows / columns) for tall matrices, one rate moves the outputs of all three alike.
#
# ## The general form
#
# The package does all matrices of one shape at once. Skim it. (`baddbmm` is a sum and a batched product in one.)


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
        self.orthogonalise = orthogonalise  # a faster one may take its place
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
            velocity.lerp_(gradients, 1 - group["momentum"])  # a share of the way
            ahead = gradients.lerp(velocity, group["momentum"])  # Nesterov's: one step ahead
            update = self.orthogonalise(ahead, group["iterations"])
            rows, columns = update.shape[1:]
            weights.mul_(1 - group["lr"] * group["weight_decay"])
            weights.sub_(update * (group["lr"] * max(1.0, rows / columns) ** 0.5))


# %% [markdown]
# Muon moves the blocks' matrices, AdamW the rest. Only matrices decay: a gain belongs at 1; at 0 its channel would be
# off.


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
    rate, betas = config.learning_rate, (0.9, 0.95)  # how slowly the two means fade
    optimizers = [torch.optim.AdamW(groups, lr=rate, betas=betas, **kernel)]
    if by_muon:
        settings = (config.weight_decay, config.muon_momentum, config.muon_iterations)
        optimizers.append(Muon(by_muon, config.muon_learning_rate, *settings))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


# %% [markdown]
# The loop's step, with two additions: `rate` is a share of each optimiser's own peak, and a batch may be read in
# `micro_batches`. At its defaults it is the plain step (third cell).


# %% tags=["export"]
def next_character_loss(model, tokens, targets):
    """The mean token loss, in nats/character. tokens, targets: (B, T) int64 -> ()."""
    return F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())


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


# %%
tokens, targets = get_batch(train_ids, 16, 32, torch.Generator().manual_seed(0))
after = []
for micro_batches in (None, 1, 4):
    torch.manual_seed(0)
    fresh = GPT(small).to(device)
    optimizer = with_adamw(fresh, best)
    if micro_batches is None:
        F.cross_entropy(fresh(tokens).flatten(0, 1), targets.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(fresh.parameters(), 1.0)
        optimizer.step()
    else:
        optimizer.param_groups[0]["peak"] = best
        training_step(fresh, [optimizer], tokens, targets, 1.0, 1.0, None, micro_batches)
    after.append(next_character_loss(fresh, tokens, targets).item())
assert max(after) - min(after) < 1e-4, "one step, whichever way it is written"
same = torch.allclose(orthogonalise(gradient[None])[0], orthogonal(gradient), atol=1e-3)
assert same, "all matrices at once, or one"

# %% [markdown]
# And is Muon better here? Both at a constant rate (a quarter of a minute):


# %% tags=["nbval-ignore-output"]
def by(kind, seed):
    config = TrainConfig(optimizer=kind, learning_rate=best, seed=seed)
    torch.manual_seed(seed)
    model, draw = GPT(small).to(device), torch.Generator().manual_seed(seed)
    optimizers = make_optimizers(model, config)
    for _ in range(steps):
        training_step(model, optimizers, *get_batch(train_ids, 16, 32, draw), rate=1.0)
    return held_out_loss(model)


kinds = tqdm(("adamw", "muon"), "optimisers", leave=False)
compared({kind: [by(kind, seed) for seed in seeds] for kind in kinds})

# %% [markdown]
# Better, by this lesson's standard, in loss per step. (*adamw* is not quite the first table's: other *betas*, no
# decay of gains, clipping.)
#
# ## The full run
#
# The recipe for this machine. Its odd numbers did best in trials on the validation split ([log](../book/log.md)). If
# you or the course have trained this very run, it comes from disk; else it takes a few minutes on a laptop. (The
# [playground](../book/playground.md) trains it in your browser.)

# %% tags=["nbval-ignore-output"]
print(spec.train)
model, record = runs.small_model(text, device)
curve = pd.DataFrame(record.history).assign(arm=record.arm, seed=record.seed)
figures.training_curves(curve, baselines, note=text.note)

# %% [markdown]
# Here the dashed line is the mean loss of recent batches, which costs nothing and lags behind; validation is measured
# once, the one mark. (The package's trainer is your loop, with a clock and another early stopping: lesson 5.) Both
# splits, by one measure:

# %% tags=["nbval-ignore-output"]
reached = evaluate(model, validation_ids)
assert abs(reached - record.validation_loss) < 2e-3, "the weights on disk are the best"
begin = evaluate(model, train_ids[: len(validation_ids)])
print(f"training split, its first tenth: {begin:.3f} nats/character")
print(f"validation split: {reached:.3f} nats/character")
print(write(model, text.fitting_prompt(), 200))
for name in ("5-gram", "Kneser–Ney"):
    if name in baselines:
        print(f"{name}: {baselines[name]:.3f}, the model {reached - baselines[name]:+.3f}")
order = 5 if "5-gram" in baselines else 2  # five are too many for a very large alphabet
tables = WittenBell(train_ids.cpu(), order, tokenizer.vocab_size).tables
counts = sum(len(grams) for grams, *_ in tables)
print(f"The {order}-gram model keeps {counts:,} counts,", end=" ")
print(f"yours {count_parameters(model):,} weights.")

# %% [markdown]
# **Did it learn by heart?** Its loss on the training text is lower, but that text may be easier. A counter can tell:
# leave out each tenth in turn, count the other nine, and see what it costs.

# %%
tenths = ids.cpu().chunk(10)
costs = []
for i, left_out in enumerate(tenths):
    rest = torch.cat([*tenths[:i], *tenths[i + 1 :]])
    counter = WittenBell(rest, order, tokenizer.vocab_size)
    costs.append(counter.loss(left_out))

# %% tags=["nbval-ignore-output"]
labels = ("tenth of the text, left out", "its loss (nats/character)")
title = "How hard is each tenth for a counter?"
print(f"last tenth above the first: counter {costs[-1] - costs[0]:.2f}", end=", ")
print(f"your model {reached - begin:.2f} nats/character")
figures.lines(range(1, 11), {"counter": costs}, *labels, title=title, note=text.note)

# %% [markdown]
# No counter has read its tenth, and the last, our validation split, is the hardest. Most of your model's gap is there
# for the counter too: likely the text's, not learning by heart.
#
# ## The loss log
#
# *Ten lines* is the best rate's 200 steps, on 512 windows; all else is exact. The best counter is ahead until
# lesson 5.

# %% tags=["nbval-ignore-output"]
lines = {"ten lines": final[best][0], "your loop": stopping.best, "2 layers": reached}
log = pd.DataFrame({"nats/character": baselines | lines})
read = {"ten lines": small.context_length, "your loop": context, "2 layers": context}
log["context"] = pd.Series(read, dtype="Int64")
log["perplexity"] = log["nats/character"].map(math.exp)
log.round(3)

# %% tags=["nbval-ignore-output"]
figures.loss_bars(log["nats/character"].to_dict(), note=text.note)

# %% [markdown]
# ## Look inside
#
# **How far back does it look?** Split the loss by place in the context.
#
# > **Predict.** At the first place it has read one character. Which model of lesson 1 is it then?

# %% tags=["nbval-ignore-output"]
losses = token_losses(model, validation_ids)
by_place = losses[: len(losses) // context * context].view(-1, context)
means, errors = by_place.mean(0), by_place.std(0) / math.sqrt(len(by_place))
print(f"first place: {means[0]:.2f} ± {2 * errors[0]:.2f}, bigram {baselines['bigram']:.2f}")
title = "What each extra character is worth"
figures.loss_by_position(means, baselines, errors, title=title, note=text.note)

# %% [markdown]
# At the first place it is worse than a bigram, by more than the band. (A guess: it trained on few first places.)
# Within about ten it has reached the 5-gram; beyond a few dozen the band hides the gain. Each window begins with hard
# places, so losses over different contexts don't compare.
#
# **Where do the heads look?** Lesson 2's weights, layer by layer, on a line that the model has not seen:


# %%
@torch.no_grad()
def weights_of(model, tokens):
    """Each head's attention while the model reads: tokens (B, T) -> (L, B, H, T, T)."""
    added, angles = positions_at(model, 0, tokens.shape[1])
    x, maps = model.embedding(tokens) * model.scale + added, []
    for block in model.blocks:
        q, k, _ = block.attention.queries_keys_values(block.norm_1(x), angles)
        maps.append(attention_weights(q, k))
        x = block(x, angles)
    return torch.stack(maps)


# %% tags=["nbval-ignore-output"]
line = validation_ids[11:29]
weights = weights_of(model, line[None])[:, 0].cpu()
assert weights.triu(1).abs().max() == 0, "masked in every layer"
title = "Where each head looks"
figures.attention_maps(weights, tokenizer.decode(line), title=title, note=text.note)

# %% [markdown]
# The hatched half is the future. Bright next to the diagonal is "the character or two before", a bright column a
# place that many return to. The titles give mean distances in these 18 characters. Over whole windows:

# %%
whole = validation_ids[: 64 * context].view(-1, context)
weights = weights_of(model, whole).cpu()
places = torch.arange(context)
back = (weights * (places[:, None] - places)).sum(-1).mean((1, 3))
even = places.double().mean() / 2

# %% tags=["nbval-ignore-output"]
heads = [f"head {h + 1}" for h in range(back.shape[1])]
layers = [f"layer {i + 1}" for i in range(len(back))]
print(f"mean distance in windows of {context}; a head that does not choose: {even:.1f}")
pd.DataFrame(back, layers, heads).round(1)

# %% [markdown]
# **Maps tell where a head looks, not whether it matters.** For that, switch it off and measure. A hook can replace
# the numbers before a part's last matrix, first by 0.
#
# > **Predict.** Which part does the model miss most?


# %%
def without(model, linear, channels, put):
    """The loss while channels that enter a linear map are replaced by put(them)."""

    def replaced(_, inputs):
        x = inputs[0].clone()
        x[..., channels] = put(x[..., channels])
        return x

    hook = linear.register_forward_pre_hook(replaced)
    loss = evaluate(model, validation_ids[:20_000])
    hook.remove()
    return loss


# %%
parts, D = {}, spec.model.d_model // spec.model.n_heads
for i, block in enumerate(model.blocks, start=1):
    for h in range(spec.model.n_heads):
        channels = slice(h * D, (h + 1) * D)
        parts[f"layer {i} · head {h + 1}"] = block.attention.out, channels
    parts[f"layer {i} · feed-forward"] = block.feed_forward.out, slice(None)

# %% tags=["nbval-ignore-output"]
intact = evaluate(model, validation_ids[:20_000])
zero = torch.zeros_like
removed = {name: without(model, *part, zero) for name, part in parts.items()}
title = "What the model loses with each part set to 0"
figures.parts_removed(removed, intact, title=title, note=text.note)

# %% [markdown]
# The first layer's feed-forward network, by far. But the intact 1.584 + 3.162 is worse than an even guess, 4.17.
# Missing something can't be worse than ignorance: the rest was *misled* by an input that it never met. A **mean
# ablation** is meant to be milder: the part stays at its mean over many texts (Wang et al., 2022), here over a
# thousand places.


# %% tags=["nbval-ignore-output"]
def at_mean(channels):
    return channels.mean((0, 1))


feed = {name: part for name, part in parts.items() if "feed-forward" in name}
for name, part in feed.items():
    print(f"{name}: +{removed[name] - intact:.2f} at 0", end=", ")
    print(f"+{without(model, *part, at_mean) - intact:.2f} at its mean")

# %% [markdown]
# At its mean the first costs less, and the sum is below an even guess again. The second costs *more*: the model has
# not met that mean either. Neither number is *the* worth of a part; say which you took. ([Exercise
# 4.5](#exercise-4-5-core-20-min) does the heads.) And both hold in *this model*: trained without the part, the others
# would have learned some of its work (lesson 5).
#
# ## What you built
#
# A training loop; one standard for luck; a model that beats the 5-gram; three instruments to look inside.
#
# ## Questions
#
# **1.** The first loss is about $\ln V$. Where does the number come from, and what would 6 have told you?
#
# <details><summary>Answer</summary>
#
# An even guess gives each of V characters 1/V. At 6 the model is sure and wrong: its first weights are too large.
# </details>
#
# **2.** Early stopping looks at the validation split many times. Why is the loss it reports a little too good?
#
# <details><summary>Answer</summary>
#
# It is the smallest of many, and a part of being smallest is luck on this split. </details>
#
# **3.** Two runs at one step, one at its peak rate, one half-way through its decay. Which looks better, and is it?
#
# <details><summary>Answer</summary>
#
# In long runs, usually the one in decay; ours were too short to tell. The other may lead once it decays: compare
# ends. </details>
#
# ## Exercises
#
# ### Exercise 4.1 · warm-up · 10 min
#
# Four loops, each with a bug and none with an error, trained one small model on a text of 11 different characters.
# Below are the losses they report, on their batches and on held-out text. Name the bugs in the order A, B, C, D, from
# *targets not shifted* · *one batch again and again* · *rate too high* · *rate too low* · *no zero_grad* · *weights
# never move*.
#
# <details><summary>Hint 1</summary>
#
# An even guess costs ln 11 = 2.4. What is above it, what far below, on which text? </details>
#
# <details><summary>Hint 2</summary>
#
# Low on the batches alone is learned by heart; near 0 on new text, the answer was in the question. Gradients that add
# up begin harmlessly. </details>

# %% tags=["nbval-ignore-output"]
curves = checks.sizes("4.1")


def draw_losses(on):
    lines = {name: curve[on] for name, curve in curves.items()}
    labels, title = ("step", "loss (nats/character)"), f"Four bugs: the loss, {on}"
    return figures.lines(range(1, 81), lines, *labels, low=0, title=title)


draw_losses("training")

# %% tags=["nbval-ignore-output"]
draw_losses("held out")

# %% tags=["exercise"]
bugs = ...  # four names, such as ("rate too low", …)

checks.check("4.1", bugs)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def diagnosis(training, held_out):
    if held_out[-1] < 0.3:
        return "targets not shifted"
    if held_out[-1] > training[-1] + 1:
        return "one batch again and again"
    return "rate too high" if max(held_out[:5]) > 3 else "no zero_grad"


bugs = [diagnosis(*curve.values()) for curve in checks.sizes("4.1").values()]

checks.check("4.1", bugs, quiet=True)

# %% [markdown]
# ### Exercise 4.2 · core · 40 min
#
# A training loop in plain PyTorch, from memory. A row of `batches[i]` is one character longer than the context:
# tokens and targets both come from it. Read each batch in `parts` pieces (`rows.chunk(parts)`, the last may be
# shorter) whose gradients add up to those of the batch's mean loss. Clip, step with
# `torch.optim.AdamW(model.parameters())` at the rate `rates[i]`, then measure the loss on `held_out`, in one pass.
# The model arrives in evaluation mode, and has dropout.
#
# <details><summary>Hint 1</summary>
#
# The ten lines first. Then the rate, clipping (between `backward` and `step`), parts. </details>
#
# <details><summary>Hint 2</summary>
#
# A piece's loss is a mean: weigh it by `len(piece) / len(rows)`, in the gradient and in the reported loss. </details>
#
# <details><summary>Hint 3</summary>
#
# `model.train()` before a step, `model.eval()` and `torch.no_grad()` to measure. The rate is
# `optimizer.param_groups[0]["lr"]`. </details>


# %% tags=["exercise"]
def train(model, batches, held_out, rates, parts, clip_norm):
    """batches: (S, B, T + 1), held_out: (M, T + 1) int64; rates: S floats.

    -> two lists of floats: each batch's loss before its step, held_out's after each step
    """
    ...


checks.check("4.2", train)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def train(model, batches, held_out, rates, parts, clip_norm):
    def loss_on(rows):
        logits = model(rows[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())

    optimizer = torch.optim.AdamW(model.parameters())
    losses, held = [], []
    for rows, rate in zip(batches, rates, strict=True):
        model.train()
        optimizer.zero_grad()
        total = 0.0
        for piece in rows.chunk(parts):
            loss = loss_on(piece) * len(piece) / len(rows)
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        losses.append(total)
        model.eval()
        with torch.no_grad():
            held.append(loss_on(held_out).item())
    return losses, held


checks.check("4.2", train, quiet=True)

# %% [markdown]
# ### Exercise 4.3 · core · 15 min
#
# Write the other famous schedule. Warm-up as above: step 0 has the share $1/w$, step $w-1$ has 1. Then half a cosine
# wave, from 1 at step $w$ to `floor` at the last, `steps - 1`.
#
# <details><summary>Hint 1</summary>
#
# How far along is the fall, from 0 at step $w$ to 1 at step `steps - 1`? </details>
#
# <details><summary>Hint 2</summary>
#
# $(1 + \cos \pi x)/2$ falls from 1 to 0. Make it end at `floor`. </details>


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
# ### Exercise 4.4 · core · 20 min
#
# Find a good rate in five trials. `trial(rate)` trains a tiny model and gives its held-out loss; the best rate,
# another for each model, lies between 0.001 and 10. Yours passes if its loss is no worse than at half the best rate,
# or at twice it, whichever is worse.
#
# <details><summary>Hint 1</summary>
#
# Rates differ by factors: where on a *logarithmic* axis do three trials go? </details>
#
# <details><summary>Hint 2</summary>
#
# The other two trials go to either side of the best so far. </details>


# %% tags=["exercise"]
def best_rate(trial):
    """trial: rate -> loss -> the rate, from at most five trials."""
    ...


checks.check("4.4", best_rate)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def best_rate(trial):
    losses = {rate: trial(rate) for rate in (0.01, 0.1, 1.0)}
    middle = min(losses, key=losses.get)
    for rate in (middle / 10**0.5, middle * 10**0.5):
        losses[rate] = trial(rate)
    return min(losses, key=losses.get)


checks.check("4.4", best_rate, quiet=True)

# %% [markdown]
# ### Exercise 4.5 · core · 20 min
#
# Switch a head off: put it at its mean over all texts and places, channel by channel, and leave the others alone.
# Return what attention then writes to the stream, by `x @ W_o`.
#
# <details><summary>Hint 1</summary>
#
# `heads[:, head]` is B, T, D. Over which two does the mean run? </details>
#
# <details><summary>Hint 2</summary>
#
# As in lesson 2, time and heads change places, then the last two axes become one. </details>


# %% tags=["exercise"]
def head_at_its_mean(heads, W_o, head):
    """heads: (B, H, T, D), W_o: (H D, H D), head: 0 … H - 1 -> (B, T, H D)."""
    ...


checks.check("4.5", head_at_its_mean)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def head_at_its_mean(heads, W_o, head):
    heads = heads.clone()
    heads[:, head] = heads[:, head].mean((0, 1))
    return heads.transpose(1, 2).flatten(-2) @ W_o


checks.check("4.5", head_at_its_mean, quiet=True)

# %% tags=["nbval-ignore-output"]
costs = {}
for name in parts.keys() - feed.keys():
    at_its_mean = without(model, *parts[name], at_mean)
    costs[name] = {"at 0": removed[name] - intact, "at its mean": at_its_mean - intact}
pd.DataFrame(costs).T.sort_index().round(3)

# %% [markdown]
# ### Exercise 4.6 · core · 10 min
#
# Clip by hand. All gradients count as *one* long vector: where it is longer than `limit`, one factor shortens it to
# `limit`. Gradients may all be 0.
#
# <details><summary>Hint 1</summary>
#
# The length: squares, their sum over all tensors, one root. </details>
#
# <details><summary>Hint 2</summary>
#
# The factor is at most 1, and you never divide by 0. </details>


# %% tags=["exercise"]
def clip(gradients, limit):
    """gradients: a list of tensors -> a list of tensors."""
    ...


checks.check("4.6", clip)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def clip(gradients, limit):
    length = math.sqrt(sum(g.square().sum().item() for g in gradients))
    factor = limit / length if length > limit else 1.0
    return [g * factor for g in gradients]


checks.check("4.6", clip, quiet=True)

# %% [markdown]
# ### Exercise 4.7 · stretch · 60 min
#
# AdamW, as the library does it. Keep a mean of gradients (share $\beta_1$ of the old one) and of their squares
# ($\beta_2$), both from 0; in step $t = 1, 2, \dots$ divide them by $1 - \beta^t$, since they begin too small. Each
# step first shrinks the weight by the share `rate` × `weight_decay`, then moves it by `rate` × mean / (√mean square +
# `eps`).
#
# <details><summary>Hint 1</summary>
#
# In step 1 the corrected mean is the gradient, the root its size. </details>
#
# <details><summary>Hint 2</summary>
#
# The decay never meets the gradient. That is the W. </details>


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
# **1.** The training loss falls, the validation loss has risen for five evaluations. You … (a) train longer · (b)
# take the weights of the lowest validation loss · (c) raise the rate.
#
# <details><summary>Answer</summary>
#
# (b). (a) learns the text by heart. (c) moves faster to the same place. </details>
#
# **2.** You switch off one head and the loss hardly moves. That shows … (a) the head is useless · (b) the others can
# do without it now · (c) the model has too many heads.
#
# <details><summary>Answer</summary>
#
# (b). (a) another text may need it, or another head do the same. (c) needs models *trained* with fewer: lesson 5.
# </details>
#
# **Next:** [5 · Ablation](05_ablation.ipynb): is deeper better, and how would you know?
