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
# # 2 · Attention: choosing whom to listen to
#
# The 5-gram of lesson 1 looks back four characters, always the same four. But who speaks next may depend on a name ten
# lines up. **Attention** lets each position decide, from what it reads, which earlier positions matter. You will do it
# by hand, write it in six lines, train it, and see what it is worth in nats.

# %% [markdown]
# **You will be able to** compute queries, keys and values · say why we divide by √D · mask the future, and know the
# symptom of forgetting it · split a vector into heads.
#
# **You need** [lesson 1](01_data.ipynb), [PyTorch in twenty lines](../book/pytorch.md), matrix products.
# **Time:** 30 minutes to read, two to compute, an hour and a half for the exercises up to core.

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

import torch
from torch.nn import functional as F

# %%
import pandas as pd
from torch import nn
from tqdm import tqdm

from course_utils import checks, corpus, figures, profiles, widgets
from course_utils.lessons.data import CharTokenizer, baseline_losses, get_batch, split
from course_utils.training import evaluation, runs

# %% [markdown]
# A model turns each integer of lesson 1 into a vector of `C` numbers, its **channels**: random here, learned in
# lesson 3. We take `B` sequences of `T` positions and queries of `D` channels, different primes, so that a swapped axis
# can't pass.

# %%
B, T, C, D = 2, 5, 11, 7
torch.manual_seed(0)
x = torch.randn(B, T, C)
print("x: what each position knows,", tuple(x.shape))

# %% [markdown]
# ## Step 1: the mean of the past
#
# The dullest use of the past is its mean: position $t$ averages positions $0 … t$. As a loop:

# %%
by_loop = torch.stack([x[:, : t + 1].mean(dim=1) for t in range(T)], dim=1)

# %% [markdown]
# A product with a lower triangle whose rows sum to 1 does the same for all `T` positions at once. The rest stands on
# this: *a weighted mean over positions is a matrix product*.
#
# > **Predict.** What does the triangle's third row look like?

# %%
equal = torch.ones(T, T).tril()
equal = equal / equal.sum(dim=1, keepdim=True)
assert torch.allclose(equal @ x, by_loop, atol=1e-6), "a triangle of weights is a mean"
labels = ("position", "listens to position", "weight")
figures.heatmaps(equal, labels=labels, title="Equal weights: the mean of the past")

# %% [markdown]
# Row $t$ listens evenly to $t + 1$ positions; the future, above the diagonal, gets nothing.
#
# **Softmax** turns scores into weights: $e$ to the power of each score, divided by the row's sum. Score the past 0
# ($e^0 = 1$) and the future $-\infty$ ($e^{-\infty} = 0$), and out comes the same triangle:

# %%
future = torch.ones(T, T, dtype=torch.bool).triu(diagonal=1)
scores = torch.zeros(T, T).masked_fill(future, -math.inf)
assert torch.allclose(scores.softmax(dim=-1), equal), "equal scores give equal weights"

# %% [markdown]
# ## Step 2: queries, keys and values, by hand
#
# Equal scores ignore what is there: a *t* just before counts as much as a space long ago. For better ones, each
# position makes three vectors from what it knows, by learned matrices called **projections**:
#
# | | | it says |
# |---|---|---|
# | **query** | $q = x W_q$ | what am I looking for? |
# | **key** | $k = x W_k$ | what do I offer? |
# | **value** | $v = x W_v$ | what do I hand over, if heard? |
#
# How well a query fits a key is their dot product. Three characters, two channels, matrices of our choice:

# %%
three = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])  # a row a character
W_q = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
W_k = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
W_v = torch.tensor([[1.0, 0.0], [0.0, 10.0]])
q, k, v = three @ W_q, three @ W_k, three @ W_v
for name, matrix in {"q": q, "k": k, "v": v}.items():
    print(name, matrix.tolist())

# %% [markdown]
# > **Predict.** On paper: the last character's query is (2, 1). Which key fits it best?
#
# (The code also divides by $\sqrt 2$ and hides the future: steps 3 and 4.)

# %%
fit = q @ k.T  # row: who asks; column: who is asked
print("q · k of the last:", fit[2].tolist())
hidden = torch.ones(3, 3, dtype=torch.bool).triu(diagonal=1)
masked = (fit / math.sqrt(2)).masked_fill(hidden, -math.inf)
by_hand_weights = masked.softmax(dim=-1)
print("weights:\n", by_hand_weights.round(decimals=2))
print("what each hears:\n", (by_hand_weights @ v).round(decimals=2))

# %% [markdown]
# The keys (0, 1) and (1, 0) fit by 1 and 2; the last offers both and fits by 3. After the softmax the last character
# takes .14 of the first value, .28 of the second and .58 of its own. That is all of it. As a picture (`k.mT` swaps the
# last two axes):

# %%
W_q, W_k, W_v = (torch.randn(C, D) for _ in range(3))
q, k, v = x @ W_q, x @ W_k, x @ W_v
scores = q @ k.mT / math.sqrt(D)
weights = scores.masked_fill(future, -math.inf).softmax(dim=-1)
out = weights @ v
tensors = {"x": x, "q": q, "scores": scores, "out": out}
shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
figures.attention_flow(shapes, title="Attention: from x to what is heard")

# %% [markdown]
# Only two lines mix positions: the scores, where each asks each, and the product with `v`, where each takes its mean.
# Know this piece by heart:


# %%
def attention(x, W_q, W_k, W_v):
    """One head: x (B, T, C), three matrices (C, D) -> (B, T, D)."""
    q, k, v = x @ W_q, x @ W_k, x @ W_v
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    future = torch.ones_like(scores, dtype=torch.bool).triu(diagonal=1)
    return scores.masked_fill(future, -math.inf).softmax(dim=-1) @ v


assert torch.allclose(attention(x, W_q, W_k, W_v), out)

# %% [markdown]
# ## Step 3: why divide by √D?
#
# If the numbers in $q$ and $k$ are independent, with mean 0 and variance 1, then
# $\mathrm{Var}(q \cdot k) = \sum_i \mathrm{E}[q_i^2]\,\mathrm{E}[k_i^2] = D$ (Vaswani et al., 2017, section 3.2.1). So
# scores grow like $\sqrt D$, and softmax of scores far apart is nearly all or nothing.
#
# > **Predict.** Of ten equally good keys, how much attention does the luckiest get, if $D$ is 1024?

# %%
sizes, luckiest = (4, 16, 64, 256, 1024), {"raw": [], "divided by √D": []}
for d in sizes:
    chance = torch.Generator().manual_seed(0)
    ask = torch.randn(100, 1, d, generator=chance)  # a hundred queries,
    offer = torch.randn(100, 10, d, generator=chance)  # each with ten keys of its own
    dots = (ask * offer).sum(-1)
    for name, scale in zip(luckiest, (1, math.sqrt(d)), strict=True):
        weights = (dots / scale).softmax(-1)
        luckiest[name].append(weights.amax(-1).mean().item())
    print(f"D = {d:4}: standard deviation of the scores {dots.std():4.1f}")

# %%
labels = ("channels D (log scale)", "largest of ten weights")
look = {"baselines": {"even": 0.1}, "log_x": True, "low": 0}
title = "Why √D: the share of the luckiest key"
figures.lines(sizes, luckiest, *labels, **look, title=title)

# %% [markdown]
# Undivided, the largest weight goes to 1 as $D$ grows; at 64 channels, a usual size, it is above 0.8. Where a weight
# is 1, a small change of the scores changes nothing: no gradient says which *other* position to hear. Divided, the
# largest stays near 0.3.
#
# Ask every query to listen more to its first key. How many get a gradient of at least 0.0001?

# %%
for name, scale in {"raw": 1, "divided by √D": math.sqrt(1024)}.items():
    scores = dots.clone().requires_grad_()  # D = 1024
    (scores / scale).softmax(-1)[:, 0].sum().backward()
    heard = (scores.grad.abs().amax(-1) >= 1e-4).float().mean()
    print(f"{name:13}: {heard:.0%} of the queries")

# %% [markdown]
# Undivided, most queries have chosen by luck.

# %% [markdown]
# ## Step 4: no looking ahead
#
# In training, each answer stands one place to the right, and a model that may look there will learn to. So the future's
# scores become $-\infty$ *before* the softmax, and each row still sums to 1. This is the **causal mask** (the paper's
# section 3.2.3):
#
# $$\text{attention}(Q, K, V) = \text{softmax}\left(\frac{QK^\top}{\sqrt{D}} + \text{mask}\right) V$$
#
# The course's form has one more axis, `H`, for the heads below; matrix products work on the last two.


# %% tags=["export"]
def attention_weights(q, k):
    """How much each position listens to itself and each earlier one; rows sum to 1.

    q, k: (B, H, T, D) float -> (B, H, T, T) float. softmax(q kᵀ / √D) under a causal mask:
    Vaswani et al. (2017), equation 1 and section 3.2.3.
    """
    T = q.shape[-2]
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    future = torch.ones(T, T, dtype=torch.bool, device=q.device).triu(diagonal=1)
    return scores.masked_fill(future, -math.inf).softmax(dim=-1)


# %%
H = 3
q, k, v = (torch.randn(B, H, T, D) for _ in range(3))
weights, ones = attention_weights(q, k), torch.ones(B, H, T)
assert torch.allclose(weights.sum(-1), ones), "softmax runs over the keys"
assert (weights.triu(diagonal=1) == 0).all(), "nobody listens to the future"
assert torch.allclose(weights[..., 0, 0], ones[..., 0]), "the first has only itself"

# %% [markdown]
# PyTorch has all of it in one function. Do we agree?

# %%
by_hand = attention_weights(q, k) @ v
library = F.scaled_dot_product_attention(q, k, v, is_causal=True)
assert torch.allclose(by_hand, library, atol=1e-6), "our four steps are PyTorch's one"

# %% [markdown]
# We do, so the models use PyTorch's: it need not write the `(T, T)` weights to memory.
#
# Does the future leak in? Change the last token's key and value, and see which outputs move, with the mask and without.
# (One input is no proof.)

# %%
k_changed, v_changed = k.clone(), v.clone()
k_changed[:, :, -1] += 1
v_changed[:, :, -1] += 1
for causal in (True, False):
    before = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    after = F.scaled_dot_product_attention(q, k_changed, v_changed, is_causal=causal)
    moved = (after - before).abs().amax(dim=(0, 1, 3)) > 1e-6
    print(f"mask {causal!s:5}: positions that moved {moved.tolist()}")

# %% [markdown]
# ## Many heads
#
# One row of weights can follow one kind of thing at a time. So attention is done `H` times side by side. Each $W$, now
# (C, C), projects x once; q, k and v are cut into `H` **heads** of `D = C / H` channels; each attends on its own, and
# the results are laid side by side again. The picture starts from q, k or v:

# %%
figures.heads_cut(T, H * D, H, title="Channels cut into heads")

# %% [markdown]
# The multiplications stay as many: there are `H` times as many scores, and each sums `H` times fewer products.


# %% tags=["export"]
def split_heads(x, n_heads):
    """(B, T, C) -> (B, H, T, D): each head gets its own D = C / H channels."""
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


# %% tags=["export"]
def merge_heads(x):
    """(B, H, T, D) -> (B, T, C): the heads' channels side by side again."""
    return x.transpose(1, 2).flatten(-2)


# %%
x = torch.randn(B, T, H * D)
heads_of_x = split_heads(x, H)
assert heads_of_x.shape == (B, H, T, D)
assert torch.equal(merge_heads(heads_of_x), x), "splitting and merging lose nothing"
assert torch.equal(heads_of_x[:, 1], x[..., D : 2 * D]), "the second head has the second D"

# %% [markdown]
# **What breaks if you forget the transpose?** `view` to `(B, H, T, D)` gives the right shape and no error, but the
# first head holds all channels of the first positions.

# %%
cut = x.view(B, H, T, D)
assert cut.shape == heads_of_x.shape, "the shape can't tell"
print(f"channels in their right place: {(cut == heads_of_x).float().mean():.0%}")

# %% [markdown]
# Side by side, the heads have not met. A fourth matrix $W_o$, the **output projection**, mixes them:
# $\text{out} = \text{merge}(\text{heads})\,W_o$. Now attention is whole; you write it in
# [exercise 2.6](#exercise-2-6-core-30-min).
#
# The package's form, folded here, adds `dropout` (lesson 3) and takes fewer queries than keys (lesson 6). Otherwise it
# is PyTorch's line from above.


# %% jupyter={"source_hidden": true} tags=["export", "hide-cell"]
def causal_attention(q, k, v, dropout=0.0):
    """Each position's weighted mean of the values that it may see.

    q: (B, H, Tq, D), k, v: (B, H, T, D) float -> (B, H, Tq, D). Where Tq < T the queries
    are the last Tq positions (a key-value cache). dropout: share of weights set to 0.
    """
    queries, keys = q.shape[-2], k.shape[-2]
    attend = F.scaled_dot_product_attention
    if queries in (1, keys):  # nothing to hide from one query; from all, the triangle
        return attend(q, k, v, dropout_p=dropout, is_causal=queries > 1)
    ones = torch.ones(queries, keys, dtype=torch.bool, device=q.device)
    seen = ones.tril(diagonal=keys - queries)
    return attend(q, k, v, attn_mask=seen, dropout_p=dropout)


# %%
for last in (T, 2, 1):
    ours = causal_attention(q[:, :, -last:], k, v)
    assert torch.allclose(ours, by_hand[:, :, -last:], atol=1e-6)

# %% [markdown]
# ## What attention alone is worth
#
# The smallest model that listens adds a vector for each character and each place (**embedding** and **position**,
# lesson 3), attends once, and scores each next character (the **logits**) from the position's own vector plus what it
# heard. `listen` is the part that we exchange.

# %% tags=["nbval-ignore-output"]
text, profile = corpus.load(), profiles.current()
print(text.describe())
tokenizer = CharTokenizer(text.text)
train_ids, validation_ids = split(torch.tensor(tokenizer.encode(text.text)))


# %%
class Listener(nn.Module):
    """One attention between embeddings and logits. listen: q, k, v -> (B, H, T, D)."""

    def __init__(self, vocab_size, context_length, d_model, n_heads, listen):
        super().__init__()
        self.n_heads, self.listen = n_heads, listen
        self.token = nn.Embedding(vocab_size, d_model)
        self.position = nn.Embedding(context_length, d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)  # W_q, W_k, W_v side by side
        self.out = nn.Linear(d_model, d_model, bias=False)  # W_o
        self.score = nn.Linear(d_model, vocab_size)

    def queries_keys_values(self, x):
        return (split_heads(part, self.n_heads) for part in self.qkv(x).chunk(3, dim=-1))

    def embed(self, tokens):
        return self.token(tokens) + self.position.weight[: tokens.shape[1]]

    def forward(self, tokens):
        x = self.embed(tokens)
        heard = merge_heads(self.listen(*self.queries_keys_values(x)))
        return self.score(x + self.out(heard))


# %% [markdown]
# Training is six lines ([lesson 4](04_train.ipynb)): a batch, the loss, its gradient, a step. The machine (`profile`)
# sets how many steps.


# %%
steps, seeds = 3 * profile.demo_steps, range(3)


def trained(listen, n_heads, seed=0, T=32):
    """A Listener after some steps, and its loss on the last tenth in nats/character."""
    torch.manual_seed(seed)
    model = Listener(tokenizer.vocab_size, T, 64, n_heads, listen)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        tokens, targets = get_batch(train_ids, 32, T, draw)
        loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    whole = (len(validation_ids) - 1) // T * T
    with torch.no_grad():
        logits = model(validation_ids[:whole].view(-1, T)).flatten(0, 1)
    return model, F.cross_entropy(logits, validation_ids[1 : whole + 1]).item()


# %% [markdown]
# Four ways to listen: to nothing, to all the past alike, with one head that chooses, with four. Three seeds each: luck
# moves a loss too. (Twenty seconds on two cores.)
#
# > **Predict.** *Nothing* sees one character, like the bigram; the mean of the past up to 32. Which wins? What do four
# > heads add?


# %% tags=["nbval-ignore-output"]
def nothing(q, k, v):
    return torch.zeros_like(v)


def mean_of_the_past(q, k, v):
    """Equal weights: queries of zero fit every key alike."""
    return attention_weights(torch.zeros_like(q), k) @ v


ways = {
    "nothing": (nothing, 1),
    "mean of the past": (mean_of_the_past, 1),
    "one head": (causal_attention, 1),
    "four heads": (causal_attention, 4),
}
baselines = baseline_losses(text.text)
print(f"{steps} steps of 32 windows, {len(seeds)} seeds each")
print(f"the bigram, by counting: {baselines['bigram']:.3f} nats/character")

# %% tags=["nbval-ignore-output"]
bar = tqdm(ways.items(), "ways", leave=False)
listeners = {
    name: [trained(listen, n_heads, seed) for seed in seeds] for name, (listen, n_heads) in bar
}
losses = pd.DataFrame({name: [loss for _, loss in each] for name, each in listeners.items()})
noise = losses.std()
pd.DataFrame({"mean loss": losses.mean(), "standard deviation": noise}).round(3)

# %% [markdown]
# Compare differences with the spread in the last column. *Nothing* is a bigram still learning. The mean of the past
# gains little and stays behind the bigram, perhaps because means of many characters are much alike. A head that chooses
# gains many times the spread; with four the loss falls again. The usual guess: they can follow several things at once.

# %% [markdown]
# ## What breaks if you forget the mask?
#
# The same model and steps, with the future in sight.
#
# > **Predict.** What is its loss? What does it write?

# %% tags=["nbval-ignore-output"]
without, loss_without = trained(F.scaled_dot_product_attention, 4)
masked = losses["four heads"][0]
print(f"loss with the mask {masked:.3f}, without it {loss_without:.3f} nats/character")


# %% tags=["nbval-ignore-output"]
def write(model, prompt, n_new, T=32):
    """Draw one character after the other; what comes later is not there yet."""
    generator, out = torch.Generator().manual_seed(0), tokenizer.encode(prompt)
    for _ in range(n_new):
        logits = model(torch.tensor([out[-T:]]))[0, -1]
        out.append(torch.multinomial(logits.softmax(-1), 1, generator=generator).item())
    return tokenizer.decode(out)


line = tokenizer.decode(validation_ids[:20].tolist())
for name, listener in {"with": listeners["four heads"][0][0], "without": without}.items():
    print(f"--- {name} the mask\n{write(listener, line[:9], 100)}\n")

# %% [markdown]
# A loss that no honest model comes near, from a writer that stutters. The cheater's map:

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    q, k, _ = without.queries_keys_values(without.embed(validation_ids[None, :20]))
    cheat = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)[0]
ahead = cheat.diagonal(1, -2, -1).mean()
print(f"weight on the next position, mean of all heads and rows: {ahead:.2f}")
heads = [f"head {h}" for h in range(1, len(cheat) + 1)]
labels, title = ("query", "key", "weight"), "The cheater: no mask"
figures.heatmaps(cheat, line, line, heads, labels, title=title, note=text.note)

# %% [markdown]
# The weight lies one place *right* of the diagonal, on the answer. When the model writes, there is none to read. The
# symptom is lesson 1's: **a loss near zero means that the answer is in the question.**

# %% [markdown]
# ## What trained heads look at
#
# What do honest heads learn? We borrow a trained model: yours from lesson 5, else the course's, else a small one
# trained now. L2:H1 is head 1 of its second **layer** (attention, then work on each position alone). Queries and keys
# are also scaled and turned by position (lesson 3).

# %% tags=["nbval-ignore-output"]
model, record = runs.small_model(text)
maps = evaluation.attention_maps(model, validation_ids[None, :20])
second = {name: weights for name, weights in maps.items() if name.startswith("L2")}
few = dict(list(second.items())[:4])
labels, title = ("query", "key", "weight"), "Who listens to whom, layer 2"
shown = torch.stack(list(few.values()))
figures.heatmaps(shown, line, line, list(few), labels, title=title, note=text.note)

# %% [markdown]
# Much lies near the diagonal; single rows reach further back.
#
# On a longer stretch, how much attention goes to the character itself, the *previous* one, earlier *copies* of itself,
# earlier *gaps* (spaces and line breaks), and elsewhere? *Equal* is a head that does not choose.
#
# > **Predict.** Will any head specialise?

# %%
stretch = validation_ids[: min(128, model.config.context_length)]
n = len(stretch)
gap = torch.tensor([c.isspace() for c in tokenizer.decode(stretch.tolist())]).float()
places = {
    "itself": torch.eye(n),
    "previous": torch.ones(n, n).tril(-1).triu(-1),
    "copies": (stretch[:, None] == stretch).float().tril(-2),
    "gaps": gap.expand(n, n).tril(-2),
}
places["copies"] = places["copies"] * (1 - places["gaps"])  # each place in one column
places["elsewhere"] = torch.ones(n, n).tril() - sum(places.values())

# %% tags=["nbval-ignore-output"]
maps = evaluation.attention_maps(model, stretch[None])
maps["equal"] = torch.ones(n, n).tril() / torch.arange(1, n + 1)[:, None]
shares = [[(w * place).sum(-1).mean() for place in places.values()] for w in maps.values()]
labels = ("layer and head", "listens to", "share")
title = "What each head listens to"
figures.heatmaps(shares, list(maps), list(places), labels=labels, title=title, note=text.note)

# %% [markdown]
# The heads lean, and none gives all to one kind: in the published model each gives the previous character more than
# *equal* does (.15 to .39 against .03), and L2:H1 alone the gaps (.24 against .16). *Elsewhere* stays unexplained. A
# map says where a head *looks*; whether it *matters*, lesson 4 measures by switching it off.
#
# Point at a character (or use the arrow keys): each strip, a head, shows whom it listens to there. A click switches a
# head off and shows the price. You can change the text.

# %% tags=["nbval-ignore-output"]
widgets.inside({"2 layers": model}, tokenizer, tokenizer.decode(validation_ids[:120]), model=0)

# %% [markdown]
# ## The loss log
#
# The cheater stays out: its number is not a prediction.

# %% tags=["nbval-ignore-output"]
log = baselines | losses.mean().to_dict()
loss_log = pd.DataFrame({"nats/character": log}).sort_values("nats/character", ascending=False)
loss_log["perplexity"] = loss_log["nats/character"].map(math.exp)
loss_log.round(3)

# %% tags=["nbval-ignore-output"]
figures.loss_bars(log, title="What a listener reaches, beside the counters", note=text.note)

# %% [markdown]
# One attention, hardly trained, is past the bigram, not yet near the 5-gram, let alone Kneser–Ney. Lesson 3 tries what
# it lacks.

# %% [markdown]
# ## What you built
#
# Attention, from a mean over the past to many heads that choose, equal to PyTorch's own.

# %% [markdown]
# ## Questions
#
# **1.** Why must the mask come before the softmax?
#
# <details><summary>Answer</summary>
#
# After it, the future is already in each weight's divisor: rows no longer sum to 1, and the past's weights still depend
# on it. </details>
#
# **2.** What goes wrong if the softmax runs over the queries? Which assert above would notice?
#
# <details><summary>Answer</summary>
#
# Columns sum to 1, rows no longer: how much attention a position *gets* is fixed. Step 4's first assert
# notices, and the third: the first position shares its column with all later ones. </details>

# %% [markdown]
# **3.** Attention without positions: if you shuffle the earlier tokens, does the last output change?
#
# <details><summary>Answer</summary>
#
# No: keys and values move together, and a sum has no order. So lesson 3 needs positions. Try it:
#
# ```python
# q, k, v = (torch.randn(2, 3, 5, 7) for _ in range(3))
# last, mixed = q[:, :, -1:], torch.tensor([2, 0, 3, 1, 4])
# print(causal_attention(last, k, v) - causal_attention(last, k[:, :, mixed], v[:, :, mixed]))
# ```
#
# </details>
#
# **4.** A head puts all its weight on the first position. What might it be doing?
#
# <details><summary>Answer</summary>
#
# Resting, perhaps: weights must sum to 1, and the first value may do little (an *attention sink*). Only switching it
# off can tell. </details>

# %% [markdown]
# ## Exercises
#
# Replace the `...` or the `None` and run the cell. It prints *right*, or *not yet* with what was tried, expected and
# returned, and a guess why.
#
# ### Exercise 2.1 · warm-up · 5 min
#
# Make the mask: a `(T, T)` tensor of truth values, True where the row's query *may* listen to the column's key, itself
# included.
#
# <details><summary>Hint 1</summary>
#
# Row $t$ has $t + 1$ times True. Write out `T = 3`. </details>
#
# <details><summary>Hint 2</summary>
#
# `tril` keeps the lower left; `torch.ones` takes a `dtype`. </details>


# %% tags=["exercise"]
def may_listen(T):
    """-> (T, T) bool."""
    ...


checks.check("2.1", may_listen)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def may_listen(T):
    return torch.ones(T, T, dtype=torch.bool).tril()


checks.check("2.1", may_listen, quiet=True)

# %% [markdown]
# ### Exercise 2.2 · warm-up · 5 min
#
# By hand, for the sizes printed below: how many scores $q \cdot k$ does one attention compute for a batch, and how many
# survive the mask?
#
# <details><summary>Hint 1</summary>
#
# One for each pair of positions, head and sequence. </details>
#
# <details><summary>Hint 2</summary>
#
# The triangle has $1 + 2 + … + T$ places, diagonal included. </details>

# %%
print(checks.sizes("2.2"))

# %% tags=["exercise"]
computed, surviving = None, None

checks.check("2.2", computed and (computed, surviving))

# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
size = checks.sizes("2.2")
rows = size["B"] * size["H"] * size["T"]
computed, surviving = rows * size["T"], rows * (size["T"] + 1) // 2

checks.check("2.2", (computed, surviving), quiet=True)

# %% [markdown]
# ### Exercise 2.3 · core · 15 min
#
# Write softmax over the last axis without `softmax`. Scores of 1,000 and of $-\infty$ (never a whole row) may not give
# `nan`.
#
# <details><summary>Hint 1</summary>
#
# $e^{1000}$ is `inf`, and `inf / inf` is `nan`. Adding one number to a whole row changes no weight. </details>
#
# <details><summary>Hint 2</summary>
#
# Which number makes the largest exponent 0? Keep the axis (`keepdim=True`). </details>


# %% tags=["exercise"]
def softmax(scores):
    """scores: (..., T) float -> weights (..., T), each row sums to 1."""
    ...


checks.check("2.3", softmax)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def softmax(scores):
    e = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    return e / e.sum(dim=-1, keepdim=True)


checks.check("2.3", softmax, quiet=True)

# %% [markdown]
# ### Exercise 2.4 · core · 20 min
#
# Long texts get a *sliding window*: each position listens only to itself and the `width - 1` before. Write it, scale
# and mask included.
#
# <details><summary>Hint 1</summary>
#
# Which distances $i - j$ from query $i$ to key $j$ are allowed? </details>
#
# <details><summary>Hint 2</summary>
#
# Change the mask in `attention_weights`. With `width = 1` the answer is `v`. </details>


# %% tags=["exercise"]
def sliding_attention(q, k, v, width):
    """q, k, v: (B, H, T, D) float, width: at least 1 -> (B, H, T, D)."""
    ...


checks.check("2.4", sliding_attention)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def sliding_attention(q, k, v, width):
    T, D = q.shape[-2:]
    seen = torch.ones(T, T, dtype=torch.bool).tril().triu(1 - width)
    scores = (q @ k.transpose(-2, -1) / math.sqrt(D)).masked_fill(~seen, -math.inf)
    return scores.softmax(dim=-1) @ v


checks.check("2.4", sliding_attention, quiet=True)

# %% [markdown]
# ### Exercise 2.5 · stretch · 90 min
#
# FlashAttention's idea (Dao et al., 2022): never hold all scores at once. Write causal attention over blocks of `size`
# keys. For each query keep the largest score so far, the sum of exponentials, the weighted sum of values.
#
# Then: how much memory do the scores need at `T = 8192`, one head, float32, against `attention_weights`?
#
# <details><summary>Answer</summary>
#
# All at once, 8192² × 4 bytes = 256 MiB a head and sequence, and softmax copies them. In blocks of 64 keys, 8192 × 64 ×
# 4 bytes = 2 MiB. </details>

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# When a new block raises the maximum from $m$ to $m'$, all sums so far were too large by $e^{m' - m}$. Divide once, at
# the end. </details>
#
# <details><summary>Hint 2</summary>
#
# Start with a maximum of $-\infty$ and sums of 0. The first block holds key 0, seen by all, so $-\infty - (-\infty)$
# never comes up. </details>


# %% tags=["exercise"]
def attention_in_blocks(q, k, v, size):
    """q, k, v: (B, H, T, D) float -> (B, H, T, D), with at most size keys at a time."""
    ...


checks.check("2.5", attention_in_blocks)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def attention_in_blocks(q, k, v, size):
    T, D = q.shape[-2:]
    largest, total, heard = torch.full((*q.shape[:-1], 1), -math.inf), 0.0, 0.0
    for start in range(0, T, size):
        keys = slice(start, start + size)
        scores = q @ k[:, :, keys].transpose(-2, -1) / math.sqrt(D)
        future = torch.arange(T)[keys] > torch.arange(T)[:, None]
        scores = scores.masked_fill(future, -math.inf)
        new = torch.maximum(largest, scores.amax(dim=-1, keepdim=True))
        shrink, e = (largest - new).exp(), (scores - new).exp()
        total = total * shrink + e.sum(dim=-1, keepdim=True)
        heard = heard * shrink + e @ v[:, :, keys]
        largest = new
    return heard / total


checks.check("2.5", attention_in_blocks, quiet=True)

# %% [markdown]
# ### Exercise 2.6 · core · 30 min
#
# The thing itself: causal multi-head attention from x and four matrices. The first `D` columns of `W_q`, `W_k` and
# `W_v` belong to the first head, the next `D` to the second. The check compares with PyTorch's `nn.MultiheadAttention`.
#
# <details><summary>Hint 1</summary>
#
# Three products; cut into heads; `attention_weights(q, k) @ v`; lay side by side; one product more. </details>
#
# <details><summary>Hint 2</summary>
#
# `split_heads` and `merge_heads` turn the axes. The scale is √D with D = C / n_heads, not √C. </details>


# %% tags=["exercise"]
def multi_head_attention(x, W_q, W_k, W_v, W_o, n_heads):
    """x: (B, T, C), each W: (C, C), applied as x @ W -> (B, T, C)."""
    ...


checks.check("2.6", multi_head_attention)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def multi_head_attention(x, W_q, W_k, W_v, W_o, n_heads):
    q, k, v = (split_heads(x @ W, n_heads) for W in (W_q, W_k, W_v))
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    future = torch.ones_like(scores, dtype=torch.bool).triu(diagonal=1)
    weights = scores.masked_fill(future, -math.inf).softmax(dim=-1)
    return merge_heads(weights @ v) @ W_o


checks.check("2.6", multi_head_attention, quiet=True)

# %% [markdown]
# ## Test yourself
#
# Choose before you unfold.
#
# **1.** What can training change in the first row of a head's weights?
# (a) where it looks · (b) nothing · (c) how sharp it is.
#
# <details><summary>Answer</summary>
#
# (b): softmax of one score is 1. (a) and (c) need a second key. </details>

# %% [markdown]
# **2.** With twice the positions `T`, a layer's scores …
# (a) double · (b) quadruple · (c) stay as many.
#
# <details><summary>Answer</summary>
#
# (b): each position asks each. (a) is true of the queries, (c) of the *learned* weights. </details>

# %% [markdown]
# **3.** `C` stays, and `H` doubles. The learned weights of attention …
# (a) double · (b) stay as many · (c) halve.
#
# <details><summary>Answer</summary>
#
# (b): the channels are cut differently. (a) would need wider heads; (c) forgets that there are more. </details>

# %% [markdown]
# **4.** Dividing by `D` instead of √D would …
# (a) make weights nearly even · (b) make them nearly all or nothing · (c) change nothing, the matrices learn it.
#
# <details><summary>Answer</summary>
#
# (a): softmax of small scores is flat. (b) comes of not dividing. (c) is half true: they can, but start from nearly
# equal weights. </details>

# %% [markdown]
# **5.** Your validation loss is 0.08. The first suspect is …
# (a) luck · (b) the mask · (c) too many heads.
#
# <details><summary>Answer</summary>
#
# (b). Here (a) was worth thousandths, (c) some hundredths. </details>

# %% [markdown]
# **Next:** [3 · The model](03_model.ipynb), where attention becomes the first half of a block.
