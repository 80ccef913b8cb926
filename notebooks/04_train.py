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
# # 4 · Training: from noise to verse
#
# The model of lesson 3 knows nothing. Here you write the loop that teaches it, exact measuring included, and watch
# the loss come down past the unigram, the bigram, the trigram. Then you hand the loop to the package, which gives
# the same losses from the same seed, and keeps the result.
#
# **You will be able to** write a training loop from memory · choose a learning-rate schedule · clip gradients ·
# measure a loss exactly · stop in time and keep the best weights.
#
# **You need** [lesson 3](03_model.ipynb). **Time:** 40 minutes of reading, 3 minutes of computing on a laptop.

# %% tags=["setup"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("course_utils") is None:  # on Colab: add the course, replace nothing that is there
    address = "git+https://github.com/shakespeare-layer-by-layer/course"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", address], check=True)

# %% tags=["export"]
import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

# %%
from dataclasses import replace

import pandas as pd

from course_utils import corpus, experiment, figures, profiles, runs, studies, trainer, widgets
from course_utils.lessons.data import CharTokenizer, get_batch, split

# %%
text, profile, device = corpus.load(), profiles.current(), profiles.device()
print(text.describe(), f"\nprofile {profile.name}, on {device.type}")
tokenizer = CharTokenizer(text.text)
train_ids, validation_ids = (part.to(device) for part in split(torch.tensor(tokenizer.encode(text.text))))

# %% [markdown]
# ## The settings of a run
#
# As with the model, everything that decides a run's result is written down in one place. The defaults are the
# assignment's protocol; two cores get a tuned recipe, which you will print below.


# %% tags=["export"]
@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained. The defaults are the `baseline` protocol."""

    steps: int = 20_000  # at most; early stopping may end it before
    batch_size: int = 32  # B, windows a step
    optimizer: str = "adamw"  # adamw | muon (the blocks' matrices by Muon, the rest by AdamW)
    learning_rate: float = 1e-4  # the peak, of AdamW
    muon_learning_rate: float = 0.02  # the peak, of Muon
    muon_momentum: float = 0.95  # the share of its last direction that Muon keeps
    muon_iterations: int = 5  # 1 … 5: fewer are faster, and make its steps less equal
    weight_decay: float = 0.01  # of matrices
    warmup_steps: int = 0  # over which the rate climbs to its peak
    decay: float = 0.0  # the last share of the steps, over which the rate falls to 0
    clip_norm: float = 1.0  # the longest gradient that is let through
    evaluate_every: int = 0  # steps; 0 is once an epoch: as many characters as the training split holds
    patience: int = 5  # evaluations without improvement before training stops; 0 never stops
    seed: int = 0  # of weights, batches and dropout

    def __post_init__(self):
        if self.optimizer not in ("adamw", "muon"):
            raise ValueError(f"optimizer must be adamw or muon, not {self.optimizer!r}")
        if min(self.steps, self.batch_size) < 1:
            raise ValueError("steps and batch_size must be at least 1")
        if min(self.learning_rate, self.muon_learning_rate, self.clip_norm) <= 0 or not 0 <= self.decay <= 1:
            raise ValueError("learning rates and clip_norm must be above 0, and decay a share from 0 to 1")
        if not 0 <= self.muon_momentum < 1 or self.muon_iterations not in range(1, 6):
            raise ValueError("muon_momentum must lie in [0, 1), and muon_iterations be a whole number from 1 to 5")
        if min(self.weight_decay, self.warmup_steps, self.evaluate_every, self.patience) < 0:
            raise ValueError("weight_decay, warmup_steps, evaluate_every and patience must not be negative")


# %% [markdown]
# ## How fast to learn
#
# A fresh model's first gradients are wild, so the rate climbs over a few steps; towards the end small steps settle what
# the large ones found. In between, flat. The function gives the *share* of the peak.


# %% tags=["export"]
def learning_rate_at(step, config):
    """The share of the peak rate at a step: up in a line, flat, down in a line.

    step: 0 … config.steps - 1 -> a number in (0, 1].
    """
    up = (step + 1) / max(1, config.warmup_steps)
    down = (config.steps - step) / max(1, config.decay * config.steps)
    return min(1.0, up, down)


# %%
_, recipe = studies.RECIPES[profile.recipe]
print(recipe)
rates = [learning_rate_at(step, recipe) for step in range(recipe.steps)]
figures.lines(
    range(recipe.steps), {"share of the peak rate": rates}, x_label="step", y_label="share", title="The schedule"
)

# %% [markdown]
# ## Which way to move
#
# **AdamW** gives each weight its own step size: the mean of its recent gradients over the root of their mean square. Weight
# decay pulls matrices gently towards 0, apart from the gradient (Loshchilov and Hutter, 2019).
#
# **Muon** looks at a whole matrix. It takes the momentum and makes it *orthogonal*: all directions that the gradient
# points to get the same step, however weak they are. No SVD is needed: a polynomial $a x + b x^3 + c x^5$ of a matrix
# bends each of its singular values $x$ by itself, and is made of matrix products. Five of them in a row bring all to 1. Each is
# the best there is for where the one before has left the values, when they begin between 0.003 and 1.


# %% tags=["export"]
POLYNOMIALS = (  # a, b, c of each iteration; by the method of Amsel et al. (2025), The Polar Express
    (8.3837, -24.7659, 18.3571),
    (4.0434, -3.0114, 0.5695),
    (3.5056, -2.6267, 0.5257),
    (2.4901, -1.8343, 0.4368),
    (1.9178, -1.2968, 0.3797),
)


# %% tags=["export"]
def orthogonalise(updates, iterations=5):
    """Push every singular value of each matrix towards 1: (N, rows, columns) -> the same shape.

    Jordan et al. (2024), Muon, with the first `iterations` of POLYNOMIALS.
    """
    x = updates.bfloat16() if updates.is_cuda else updates
    x = x / (1.01 * x.norm(dim=(-2, -1), keepdim=True) + 1e-7)  # below 1, however bfloat16 rounds
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for a, b, c in POLYNOMIALS[:iterations]:
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(updates.dtype)


# %%
random = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(0))
rough, fine = (torch.linalg.svdvals(orthogonalise(random, n)[0]).sort(descending=True).values for n in (3, 5))
before = torch.linalg.svdvals(random[0])
assert (fine[:60] - 1).abs().max() < 0.05, "after five iterations all but the weakest directions are equally strong"
figures.lines(
    range(1, 65), {"before": before / before.max(), "3 iterations": rough, "5 iterations": fine},
    x_label="rank of the direction", y_label="singular value", title="Muon makes all directions count",
)  # fmt: skip

# %% [markdown]
# Before, a few directions dominate; after five iterations all but the very weakest have strength 1. That is why Muon learns more from each batch,
# and small batches are all that two cores can afford. Three iterations are rougher and cost less; on two cores that pays.


# %% tags=["export"]
class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal, so that every direction of a matrix moves equally far.

    matrices: 2-D parameters; those of one shape become slices of one tensor, and every operation
    treats them all at once. Jordan et al. (2024).
    """

    def __init__(self, matrices, lr, weight_decay=0.0, momentum=0.95, iterations=5):
        shapes = {}
        for matrix in matrices:
            shapes.setdefault(matrix.shape, []).append(matrix)
        groups = [{"params": same} for same in shapes.values()]
        super().__init__(groups, dict(lr=lr, weight_decay=weight_decay, momentum=momentum, iterations=iterations))
        self.orthogonalise = orthogonalise  # a faster twin may take its place
        self.weights = [torch.stack([p.data for p in same]) for same in shapes.values()]
        for same, weights in zip(shapes.values(), self.weights, strict=True):
            for p, weight in zip(same, weights, strict=True):
                p.data = weight

    @torch.no_grad()
    def step(self):
        for group, weights in zip(self.param_groups, self.weights, strict=True):
            gradients = torch.stack([p.grad for p in group["params"]])
            velocity = self.state[group["params"][0]].setdefault("momentum_buffer", torch.zeros_like(gradients))
            velocity.lerp_(gradients, 1 - group["momentum"])
            ahead = gradients.lerp(velocity, group["momentum"])  # Nesterov: look one step ahead
            update = self.orthogonalise(ahead, group["iterations"])
            rows, columns = update.shape[1:]
            weights.mul_(1 - group["lr"] * group["weight_decay"])
            weights.sub_(update * (group["lr"] * max(1.0, rows / columns) ** 0.5))


# %% tags=["export"]
def make_optimizers(model, config):
    """AdamW for everything, or Muon for the blocks' matrices and AdamW for the rest.

    Only matrices decay. Each group remembers its peak rate as group["peak"]. -> a list of optimisers
    """
    inner = [p for name, p in model.named_parameters() if p.ndim == 2 and name.startswith("blocks.")]
    by_muon = inner if config.optimizer == "muon" else []
    rest = [p for p in model.parameters() if not any(p is q for q in by_muon)]
    groups = [
        {"params": [p for p in rest if p.ndim == 2], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    device = next(model.parameters()).device.type
    kernel = {"fused": device in ("cpu", "cuda"), "capturable": device == "cuda"}  # one call for all weights
    optimizers = [torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95), **kernel)]
    if by_muon:
        settings = (config.weight_decay, config.muon_momentum, config.muon_iterations)
        optimizers.append(Muon(by_muon, config.muon_learning_rate, *settings))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


# %% [markdown]
# ## One step
#
# Predict, measure, differentiate, clip, move. The loss is cross-entropy, the mean surprise of lesson 1. Clipping shortens
# a gradient that is longer than 1: one strange batch must not throw the model off.


# %% tags=["export"]
def next_character_loss(model, tokens, targets):
    """Mean surprise at the next token, in nats/character. tokens, targets: (B, T) int64 -> ()."""
    return F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())


# %% tags=["export"]
def training_step(model, optimizers, tokens, targets, rate, clip_norm=1.0, loss_of=next_character_loss, parts=1):
    """Predict, measure, differentiate, clip, move. -> the batch's loss before the move, nats/character

    rate: the share of the peak learning rates, a number or a tensor of shape (). parts: read the batch in so many
    parts, where the whole does not fit in memory; their gradients add up to the same.
    """
    losses = []
    for some, theirs in zip(tokens.chunk(parts), targets.chunk(parts), strict=True):
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
# ## An exact measure
#
# Many tutorials estimate the validation loss from a few random batches, and then argue about differences smaller than
# that noise. The whole split is only a hundred thousand predictions, so we make them all: windows side by side, each
# character but the first predicted exactly once, dropout off.


# %% tags=["export"]
@torch.no_grad()
def evaluate(model, ids):
    """The exact loss over all of ids, in nats/character: every token but the first is predicted once.

    ids: (N,) int64, N >= 2, read in windows of the context length that don't overlap; dropout is off. A few
    windows at a time stay in a CPU's cache; a GPU wants many.
    """
    if len(ids) < 2:
        raise ValueError("evaluation needs at least 2 tokens: one to read and one to predict")
    T, was_training, sums = model.config.context_length, model.training, []
    model.eval()
    whole, at_once = (len(ids) - 1) // T * T, max(1, (2**16 if ids.is_cuda else 2**10) // T) * T
    pieces = [(start, min(start + at_once, whole), T) for start in range(0, whole, at_once)]
    if whole < len(ids) - 1:  # the last window is shorter
        pieces.append((whole, len(ids) - 1, len(ids) - 1 - whole))
    for start, stop, length in pieces:
        tokens, targets = ids[start:stop].view(-1, length), ids[start + 1 : stop + 1].view(-1, length)
        sums.append(next_character_loss(model, tokens, targets) * (stop - start))
    model.train(was_training)
    return sum(torch.stack(sums).tolist()) / (len(ids) - 1)  # a GPU is waited for once


# %% [markdown]
# ## When to stop
#
# While the model learns, the validation loss falls; when it begins to learn the training text by heart, it rises again.
# **Early stopping** waits for a few evaluations without a new best and then goes back to the best weights.


# %% tags=["export"]
class EarlyStopping:
    """Stop after `patience` evaluations in a row without a new best loss; patience 0 never stops."""

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


# %% tags=["nbval-check-output"]
stopping = EarlyStopping(patience=2)
for loss in (3.0, 2.5, 2.6, 2.4, 2.4, 2.5, 2.3):
    print(loss, "best so far" if stopping.update(loss) else "", "stop" if stopping.should_stop else "")
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
(spec,) = studies.Study("depth", "", {"2 layers": {"n_layers": 2}}).specs(profile.recipe, [0], text)
config = replace(spec.train, steps=profile.loop_steps, evaluate_every=max(1, profile.loop_steps // 5))
baselines = experiment.baseline_losses(text)

# %%
model = trainer.new_model(spec.model, config, device)
optimizers, windows = make_optimizers(model, config), torch.Generator().manual_seed(config.seed)
torch.manual_seed(config.seed + 1)  # dropout
losses, rows, live = [], [], widgets.Live()
stopping, best = EarlyStopping(config.patience), None
for step in range(config.steps):
    tokens, targets = get_batch(train_ids, config.batch_size, spec.model.context_length, windows)
    rate = learning_rate_at(step, config)
    losses.append(training_step(model, optimizers, tokens, targets, rate, config.clip_norm).item())
    if (step + 1) % config.evaluate_every == 0:
        rows.append(
            {"arm": "2 layers", "seed": 0, "step": step + 1, "training_loss": sum(losses[-20:]) / len(losses[-20:])}
        )
        rows[-1] |= {"validation_loss": evaluate(model, validation_ids), "characters": 0, "elapsed_s": 0}
        live.show(figures.training_curves(pd.DataFrame(rows), baselines, note=text.note))
        if stopping.update(rows[-1]["validation_loss"]):
            best = {name: weight.clone() for name, weight in model.state_dict().items()}
        if stopping.should_stop:
            break
model.load_state_dict(best)
print(f"best validation loss {stopping.best:.3f} nats/character, perplexity {math.exp(stopping.best):.2f}")

# %% [markdown]
# Each step is small, and yet within a minute the model has passed the unigram and the bigram. The dashed training loss
# is a mean over the steps before, so it lags at first; later it lies lower, because the validation split comes from other
# plays than most of the training split.
#
# ## The same, from the package
#
# `trainer.train` is this loop with the practical side added: progress, costs, and checks. It must give the *same losses*
# from the same seed, or one of the two is wrong. On a CPU they agree to the last digit. On a GPU its engine rounds to 16
# bits and replays a whole step as one recording, which is several times as fast, and agrees as far as 16 bits can.

# %%
twin = trainer.new_model(spec.model, config, device)
result = trainer.train(twin, train_ids, validation_ids, config)
ours, theirs = ([row["validation_loss"] for row in r if "validation_loss" in row] for r in (rows, result.history))
near = 1e-4 if device.type == "cpu" else 0.05  # a GPU rounds to bfloat16
assert torch.allclose(torch.tensor(ours), torch.tensor(theirs), atol=near), "one seed, one result"
print("loop   ", [f"{loss:.4f}" for loss in ours])
print("package", [f"{loss:.4f}" for loss in theirs])

# %% [markdown]
# ## The full run
#
# Now all the steps of the recipe. If you have trained this very run before, or the course has, it is taken from disk and
# the output says so; otherwise it takes about a minute on a laptop.

# %%
model, record = runs.load_or_train(spec, text, device)
figures.training_curves(studies.curves([record]), baselines, note=text.note)

# %% [markdown]
# In perplexity, the number of equally likely next characters:

# %%
curve = studies.curves([record])
figures.lines(
    curve["step"], {"training": curve["training_loss"].map(math.exp)},
    x_label="step", y_label="perplexity (characters)", title="Training perplexity of 2 layers", note=text.note,
)  # fmt: skip

# %%
loss = evaluate(model, validation_ids)
assert abs(loss - record.validation_loss) < 2e-3, "the weights on disk are the best weights"
print(f"2 layers: {loss:.3f} nats/character, perplexity {math.exp(loss):.2f}")
print({name: round(value, 3) for name, value in baselines.items()})

# %% [markdown]
# ## What you built
#
# A training loop with a schedule, two optimisers, clipping, exact evaluation and early stopping, and the proof that the
# package's trainer is the same thing.
#
# ## Questions
#
# 1. The first loss is about 4.2. Where does the number come from, and what would 6 have told you?
# 2. Why do gains and biases not decay?
# 3. Early stopping looks at the validation split many times. Why is the loss it reports then a little too good?
#
# **Next:** [5 · Ablation](05_ablation.ipynb): is deeper better, and how would you know?
