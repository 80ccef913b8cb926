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
# # 2 · Attention: choosing whom to listen to
#
# The 5-gram of lesson 1 looks back four characters, always the same four. But who speaks next may depend on a
# name ten lines up, and whether a line may end here on where it began. Attention lets each position decide, from
# what it reads, which earlier positions matter. It is one idea in four small steps, each of them a picture below.
#
# **You will be able to** write attention as a weighted mean · say why the scores are divided by √D · mask the
# future · split a vector into heads · check your code against PyTorch's own function.
#
# **You need** [lesson 1](01_data.ipynb), matrix products, softmax. **Time:** 40 minutes of reading, seconds of computing.

# %% tags=["setup"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("course_utils") is None:  # on Colab: add the course, replace nothing that is there
    address = "git+https://github.com/shakespeare-layer-by-layer/course"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", address], check=True)

# %% tags=["export"]
import math

import torch
from torch.nn import functional as F

# %%
from course_utils import corpus, figures, profiles, runs, studies

# %% [markdown]
# The letters of shapes, once and for all: `B` sequences in a batch, `T` positions, `C` channels, `H` heads,
# `D = C / H` channels a head. For the checks we use sizes that are different primes, so that a swapped axis
# can't pass by luck.

# %% tags=["nbval-check-output"]
B, H, T, D = 2, 3, 5, 7
torch.manual_seed(0)
q, k, v = (torch.randn(B, H, T, D) for _ in range(3))
print(tuple(q.shape))

# %% [markdown]
# ## Step 1: the mean of the past
#
# The dullest way to use the past is to average it. Position $t$ takes the mean of positions $0 … t$. As a loop:

# %%
by_loop = torch.stack([v[:, :, : t + 1].mean(dim=2) for t in range(T)], dim=2)

# %% [markdown]
# The same thing is a matrix product with a lower triangle whose rows sum to 1. This is the trick on which the
# rest stands: *a weighted mean over positions is a matrix product*, and a GPU does a matrix product in one go.

# %%
equal = torch.ones(T, T).tril()
equal = equal / equal.sum(dim=1, keepdim=True)
assert torch.allclose(equal @ v, by_loop, atol=1e-6), "a lower triangle of weights is a mean over the past"
figures.heatmaps(
    equal, labels=("position", "listens to position", "weight"), title="Equal weights: the mean of the past"
)

# %% [markdown]
# Row $t$ spreads its attention evenly over the $t + 1$ positions that it may see. Everything above the diagonal
# is the future, and gets nothing.
#
# ## Step 2: weights that depend on what is read
#
# Each position sends out a **query** $q$ (what am I looking for?), a **key** $k$ (what do I offer?) and a **value**
# $v$ (what do I hand over?). How well a query fits a key is their dot product. To see real ones, we borrow a trained
# model: yours if you have run lesson 5, else the one that comes with the course, else a small one trained now.

# %%
text, profile = corpus.load(), profiles.current()
print(text.describe())
spec = studies.STUDIES["depth"].specs(profile.recipe, [0], text)[0]
model, record = runs.load_or_train(spec, text)

# %%
line = text.text[text.text.index("\n") + 1 :][:24]
tokens = torch.tensor([[sorted(set(text.text)).index(character) for character in line]])
kept = []
hook = model.blocks[1].norm_1.register_forward_hook(lambda layer, inputs, output: kept.append(output))
with torch.no_grad():
    model(tokens)
    angles = None if model.angles is None else model.angles[: len(line)]  # lesson 3 says what these are
    q_real, k_real, v_real = model.blocks[1].attention.queries_keys_values(kept[0], angles)
hook.remove()
print(f"{line!r}: queries {tuple(q_real.shape)}, a vector of {q_real.shape[-1]} channels for each head and position")

# %%
scores = q_real @ k_real.transpose(-2, -1)
figures.heatmaps(scores[0, 0], line, line, labels=("query", "key", "score"), title="q · k of one head", note=text.note)

# %% [markdown]
# Bright means "this is what I look for". The model has not been told about time yet: the upper right, the
# future, is as lively as the rest.
#
# ## Step 3: why divide by √D?
#
# A dot product of $D$ independent numbers with variance 1 has variance $D$. With 64 channels the scores are
# about 8 in size, and softmax of numbers that far apart is nearly all or nothing. Which column of the next
# output do you expect to be close to 1?

# %% tags=["nbval-check-output"]
for d in (4, 64, 1024):
    a, b = torch.randn(2, 1000, 1, d, generator=torch.Generator().manual_seed(0))
    dots = (a * b).sum(-1).view(100, 10)
    largest = [f"{(dots / scale).softmax(-1).amax(-1).mean():.1f}" for scale in (1, math.sqrt(d))]
    print(f"D = {d:4}: spread {dots.std():4.0f}, largest of ten weights {largest[0]} raw, {largest[1]} divided by √D")

# %% [markdown]
# Undivided, the largest weight goes to 1 as $D$ grows: the position listens to one other and learns nothing about
# the rest, since a saturated softmax has almost no gradient. Divided by $\sqrt{D}$, the weights stay soft at any size.
#
# ## Step 4: no looking ahead
#
# During training, the answer to each question stands one place to the right. A model that may look there will
# learn to look there: its loss falls to nearly 0 and it can't write a word. So we set the scores of the future
# to $-\infty$ *before* the softmax; $e^{-\infty}$ is 0, and the rest still sums to 1.
#
# $$\text{attention}(Q, K, V) = \text{softmax}\left(\frac{QK^\top}{\sqrt{D}} + \text{mask}\right) V \qquad\text{(Vaswani et al., 2017, eq. 1)}$$


# %% tags=["export"]
def attention_weights(q, k):
    """How much each position listens to itself and each earlier one; rows sum to 1.

    q, k: (B, H, T, D) float -> (B, H, T, T) float. softmax(q kᵀ / √D) under a causal mask:
    Vaswani et al. (2017), equation 1.
    """
    T = q.shape[-2]
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    future = torch.ones(T, T, dtype=torch.bool, device=q.device).triu(diagonal=1)
    return scores.masked_fill(future, -math.inf).softmax(dim=-1)


# %%
weights = attention_weights(q, k)
assert torch.allclose(weights.sum(-1), torch.ones(B, H, T)), "softmax runs over the keys: each row sums to 1"
assert (weights.triu(diagonal=1) == 0).all(), "nobody listens to the future"
assert torch.allclose(weights[:, :, 0, 0], torch.ones(B, H)), "the first position has only itself to listen to"

# %%
weights_real = attention_weights(q_real, k_real)
heads = [f"head {h}" for h in range(min(4, spec.model.n_heads))]
figures.heatmaps(
    weights_real[0, : len(heads)],
    line,
    line,
    heads,
    ("query", "key", "weight"),
    title="Who listens to whom",
    note=text.note,
)

# %% [markdown]
# Each panel is one head of layer 2, each row a position and where its attention goes. Most of it lies near the
# diagonal: the last few characters matter most. But the heads differ, and single rows reach further back, to the
# beginning of a word or of the line. Nobody told them to.
#
# ## The whole, by hand and by the library
#
# Attention is then the weights times the values:

# %%
by_hand = attention_weights(q, k) @ v
library = F.scaled_dot_product_attention(q, k, v, is_causal=True)
assert torch.allclose(by_hand, library, atol=1e-6), "four steps by hand are PyTorch's one function"

# %% [markdown]
# They agree, so from here on we use PyTorch's: it never writes the `(T, T)` weights to memory and is faster. One
# case is ours to care for: when a model writes, its newest position asks alone and the keys of the past are kept
# (lesson 6). Then there are fewer queries than keys, and the queries are the *last* positions.


# %% tags=["export"]
def causal_attention(q, k, v, dropout=0.0):
    """Each position's weighted mean of the values that it may see.

    q: (B, H, Tq, D), k, v: (B, H, T, D) float -> (B, H, Tq, D). Where Tq < T the queries are
    the last Tq positions (a key-value cache). dropout: share of the weights set to 0 at random.
    """
    queries, keys = q.shape[-2], k.shape[-2]
    if queries in (1, keys):  # PyTorch's own masks: nothing to hide from one query, or the triangle
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=queries > 1)
    seen = torch.ones(queries, keys, dtype=torch.bool, device=q.device).tril(diagonal=keys - queries)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=dropout)


# %%
assert torch.allclose(causal_attention(q, k, v), by_hand, atol=1e-6)
for last in (1, 2):
    assert torch.allclose(causal_attention(q[:, :, -last:], k, v), by_hand[:, :, -last:], atol=1e-6)

# %% [markdown]
# The proof that no future leaks in: change the last token's key and value, and see that no earlier output moves.
# Without the mask this check fails, which is how you know that it checks.

# %% tags=["nbval-check-output"]
k_changed, v_changed = k.clone(), v.clone()
k_changed[:, :, -1] += 1
v_changed[:, :, -1] += 1
moved = (causal_attention(q, k_changed, v_changed) - causal_attention(q, k, v)).abs().amax(dim=(0, 1, 3))
unmasked = [F.scaled_dot_product_attention(q, a, b) for a, b in ((k_changed, v_changed), (k, v))]
print("masked, positions that moved:  ", (moved > 1e-6).tolist())
print("unmasked, positions that moved:", ((unmasked[0] - unmasked[1]).abs().amax(dim=(0, 1, 3)) > 1e-6).tolist())

# %% [markdown]
# ## Many heads
#
# One set of weights can follow one kind of thing at a time. So the `C` channels are cut into `H` **heads** of
# `D = C / H` channels, each head attends for itself, and the results are laid side by side again. It costs no more
# arithmetic than one head of full width.


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
assert split_heads(x, H).shape == (B, H, T, D)
assert torch.equal(merge_heads(split_heads(x, H)), x), "splitting and merging lose nothing"
assert torch.equal(split_heads(x, H)[:, 1], x[..., D : 2 * D]), "head 1 owns the second D channels"

# %% [markdown]
# How far back do trained heads look? For each head, take the distance to every earlier position, weighted by
# attention. Guess before you look: will all heads look equally far?

# %%
positions = torch.arange(len(line), dtype=torch.float)
distance = positions[:, None] - positions
reach = (weights_real[0] * distance).sum(-1)
figures.lines(
    positions,
    {f"head {h}": reach[h] for h in range(spec.model.n_heads)},
    x_label="position (characters)",
    y_label="mean look back (characters)",
    title="How far back each head listens",
    note=text.note,
)

# %% [markdown]
# A head whose line stays low looks a short way back wherever it stands: it is an n-gram counter. One whose line jumps
# looks far when the text calls for it. A 5-gram has only the first kind.
#
# ## What you built
#
# Attention, from a mean over the past to many heads that choose for themselves, equal to PyTorch's own.
# `attention_weights`, `causal_attention`, `split_heads` and `merge_heads` go on to lesson 3.
#
# ## Questions
#
# 1. Why must the mask come before the softmax and not after?
# 2. What would go wrong if the softmax ran over the queries (the wrong axis)? Which assert above would notice?
# 3. Attention without positions: if you shuffle the earlier tokens, does the last position's output change?
#
# **Next:** [3 · The model](03_model.ipynb), where attention becomes one half of a layer.
