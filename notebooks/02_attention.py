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
# what it reads, which earlier positions matter. It is one idea in four small steps, each of them a picture below;
# at the end you train it, alone, and see what it is worth in nats.

# %% [markdown]
# **You will be able to** write attention as a weighted mean · say why the scores are divided by √D · mask the
# future, and know the symptom of forgetting it · split a vector into heads · read an attention map.
#
# **You need** [lesson 1](01_data.ipynb), matrix products, softmax. **Time:** 50 minutes of reading, half a minute of
# computing, GPU or not.

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

from course_utils import checks, corpus, figures, profiles
from course_utils.lessons.data import CharTokenizer, baseline_losses, get_batch, split
from course_utils.training import runs

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
# The dullest way to use the past is to average it: position $t$ takes the mean of the values of positions $0 … t$. As a
# loop:

# %%
by_loop = torch.stack([v[:, :, : t + 1].mean(dim=2) for t in range(T)], dim=2)

# %% [markdown]
# The same thing is a matrix product with a lower triangle whose rows sum to 1. This is the trick on which the
# rest stands: *a weighted mean over positions is a matrix product*. A loop asks one position after the other; the product
# asks all `T` at once, and it is what processors do best.
#
# > **Predict.** What does the third row of the triangle look like?

# %%
equal = torch.ones(T, T).tril()
equal = equal / equal.sum(dim=1, keepdim=True)
assert torch.allclose(equal @ v, by_loop, atol=1e-6), "a triangle of weights is a mean"
labels = ("position", "listens to position", "weight")
figures.heatmaps(equal, labels=labels, title="Equal weights: the mean of the past")

# %% [markdown]
# Row $t$ spreads its attention evenly over the $t + 1$ positions that it may see. Everything above the diagonal
# is the future, and gets nothing. The triangle *is* the loop: that is why we mask, and don't loop.

# %% [markdown]
# ## Step 2: weights that depend on what is read
#
# A mean forgets what it reads: a *q* just before counts as much as a space long ago. So let each position send out three
# vectors, all made from what stands there by learned matrices:
#
# | | asks or says |
# |---|---|
# | **query** $q$ | what am I looking for? |
# | **key** $k$ | what do I offer? |
# | **value** $v$ | what do I hand over, if you listen to me? |

# %% [markdown]
# How well a query fits a key is their dot product. To see real ones, we borrow a trained model: yours if you have run
# lesson 5, else the one that comes with the course, else a small one trained now.

# %%
text, profile = corpus.load(), profiles.current()
print(text.describe())
model, record = runs.small_model(text)

# %%
tokenizer = CharTokenizer(text.text)
train_ids, validation_ids = split(torch.tensor(tokenizer.encode(text.text)))
line = text.text[text.text.index("\n") + 1 :][:21]
tokens, passed = torch.tensor([tokenizer.encode(line)]), []
second = model.blocks[1]
hook = second.norm_1.register_forward_hook(lambda norm, x, out: passed.append(out))
with torch.no_grad():
    model(tokens)
    angles = None if model.angles is None else model.angles[: len(line)]  # lesson 3
    q_real, k_real, v_real = second.attention.queries_keys_values(passed[0], angles)
hook.remove()
print(f"{line!r}: queries {tuple(q_real.shape)},", end=" ")
print(f"{q_real.shape[-1]} channels for each head and position")

# %% [markdown]
# > **Predict.** No mask is at work yet. Will the future, right of the diagonal, look different from the
# > past?

# %%
scores = (q_real @ k_real.transpose(-2, -1))[0, 0]
labels = ("query", "key", "score")
title = "q · k of one head"
figures.heatmaps(scores, line, line, labels=labels, title=title, note=text.note)

# %% [markdown]
# Bright means "this is what I look for". The upper right, the future, is paler, since this model was trained with a mask
# and never had to shape it. But it isn't empty: these scores ask what fits, and not yet what is allowed.

# %% [markdown]
# ## Step 3: why divide by √D?
#
# A dot product of $D$ independent numbers with variance 1 has variance $D$, so scores grow like $\sqrt{D}$, and softmax of
# numbers that lie far apart is nearly all or nothing.
#
# > **Predict.** Of ten equally good keys, how much of the attention does the luckiest one get, if $D$ is 1024?

# %% tags=["nbval-check-output"]
sizes, luckiest = (4, 16, 64, 256, 1024), {"raw": [], "divided by √D": []}
for d in sizes:
    a, b = torch.randn(2, 1000, 1, d, generator=torch.Generator().manual_seed(0))
    dots = (a * b).sum(-1).view(100, 10)
    for name, scale in zip(luckiest, (1, math.sqrt(d)), strict=True):
        weights = (dots / scale).softmax(-1)
        luckiest[name].append(weights.amax(-1).mean().item())
    print(f"D = {d:4}: spread of the scores {dots.std():4.1f}")

# %%
labels = ("channels D (log scale)", "largest of ten weights")
look = {"baselines": {"even": 0.1}, "log_x": True, "low": 0}
title = "Why √D: the share of the luckiest key"
figures.lines(sizes, luckiest, *labels, **look, title=title)

# %% [markdown]
# Undivided, the largest weight goes to 1 as $D$ grows. That is bad for learning: where one weight is 1, a small change of the
# scores changes nothing, so no gradient says which *other* position should have been heard. Divided by $\sqrt{D}$, the
# weights stay soft at any size: the luckiest of ten gets about a third. Now ask every query to listen more to its first key.
# How many hear the request?

# %% tags=["nbval-check-output"]
for name, scale in {"raw": 1, "divided by √D": math.sqrt(1024)}.items():
    scores = dots.clone().requires_grad_()  # the dot products of D = 1024 from above
    (scores / scale).softmax(-1)[:, 0].sum().backward()
    silent = (scores.grad.abs().amax(-1) < 1e-4).float().mean()
    print(f"{name:13}: {silent:.0%} of the queries get next to no gradient")

# %% [markdown]
# Undivided, most queries get no gradient at all: they have chosen, by luck, before anything was learned.

# %% [markdown]
# ## Step 4: no looking ahead
#
# In training, the answer to each question stands one place to the right. A model that may look there will learn to
# look there, and you will watch one do it below. So we set the scores of the future to $-\infty$ *before* the softmax:
# $e^{-\infty}$ is 0, and the rest still sums to 1.
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
ones = torch.ones(B, H, T)
assert torch.allclose(weights.sum(-1), ones), "softmax runs over the keys"
assert (weights.triu(diagonal=1) == 0).all(), "nobody listens to the future"
assert torch.allclose(weights[..., 0, 0], ones[..., 0]), "the first has only itself"

# %% [markdown]
# Back to the real line: heads of the same layer, now masked and softened.
#
# > **Predict.** Will they look alike? Where will most of the weight lie?

# %%
weights_real = attention_weights(q_real, k_real)[0]
heads = [f"head {h}" for h in range(1, len(weights_real) + 1)]
few, labels = weights_real[:4], ("query", "key", "weight")
title = "Who listens to whom"
figures.heatmaps(few, line, line, heads[:4], labels, title=title, note=text.note)

# %% [markdown]
# Each panel is one head of layer 2, each row a position and where its attention goes. Most of it lies near the
# diagonal: the last few characters matter most. But the heads differ, and single rows reach further back, to the
# beginning of a word or of the line. Nobody told them to. Beware of one thing: row 0 is always 1, since the first
# position has nobody else to listen to.

# %% [markdown]
# ## The whole, by hand and by the library
#
# Attention is then the weights times the values:

# %%
by_hand = attention_weights(q, k) @ v
library = F.scaled_dot_product_attention(q, k, v, is_causal=True)
assert torch.allclose(by_hand, library, atol=1e-6), "our four steps are PyTorch's one"

# %% [markdown]
# They agree, so from here on we use PyTorch's: it never writes the `(T, T)` weights to memory and is faster. One
# case is ours to care for: when a model writes, its newest position asks alone and the keys of the past are kept
# (lesson 6). Then there are fewer queries than keys, and the queries are the *last* positions.


# %% tags=["export"]
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
assert torch.allclose(causal_attention(q, k, v), by_hand, atol=1e-6)
for last in (1, 2):
    ours = causal_attention(q[:, :, -last:], k, v)
    assert torch.allclose(ours, by_hand[:, :, -last:], atol=1e-6)

# %% [markdown]
# The proof that no future leaks in: change the last token's key and value, and see that no earlier output moves.
# Without the mask this check fails, which is how you know that it checks.

# %% tags=["nbval-check-output"]
k_changed, v_changed = k.clone(), v.clone()
k_changed[:, :, -1] += 1
v_changed[:, :, -1] += 1
ways = {"masked": causal_attention, "unmasked": F.scaled_dot_product_attention}
for name, attend in ways.items():
    difference = attend(q, k_changed, v_changed) - attend(q, k, v)
    moved = difference.abs().amax(dim=(0, 1, 3)) > 1e-6
    print(f"{name}, positions that moved: {moved.tolist()}")

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
heads_of_x = split_heads(x, H)
assert heads_of_x.shape == (B, H, T, D)
assert torch.equal(merge_heads(heads_of_x), x), "splitting and merging lose nothing"
assert torch.equal(heads_of_x[:, 1], x[..., D : 2 * D]), "each head has its D channels"

# %% [markdown]
# **What breaks if you cut without turning?** `view` to `(B, H, T, D)` has the right shape, and no error tells you that the first head
# now holds all channels of the first positions.

# %%
cut = x.view(B, H, T, D)
assert cut.shape == heads_of_x.shape, "the shape can't tell"
print(f"channels in their right place: {(cut == heads_of_x).float().mean():.0%}")

# %% [markdown]
# ## What a head looks at
#
# Take a longer stretch of the last tenth, and ask each head of each layer how much of its attention goes to the character
# itself, to the *previous* one, to earlier *copies* of the same character, and to earlier *gaps* (spaces and line breaks).
#
# > **Predict.** Will any head specialise?


# %%
def attention_maps(model, tokens):
    """The weights of all heads of all layers: tokens (1, T) -> {"L1:H1": (T, T), …}."""
    maps, passed = {}, []

    def keep(norm, x, out):
        passed.append(out)

    hooks = [block.norm_1.register_forward_hook(keep) for block in model.blocks]
    with torch.no_grad():
        model(tokens)
        angles = None if model.angles is None else model.angles[: tokens.shape[1]]
        for i, x in enumerate(passed):
            q, k, _ = model.blocks[i].attention.queries_keys_values(x, angles)
            for h, weights in enumerate(attention_weights(q, k)[0], start=1):
                maps[f"L{i + 1}:H{h}"] = weights
    for hook in hooks:
        hook.remove()
    return maps


maps = attention_maps(model, tokens)
assert torch.allclose(maps["L2:H1"], weights_real[0], atol=1e-5), "the head from above"

# %%
stretch = validation_ids[: min(128, model.config.context_length)]
maps, n = attention_maps(model, stretch[None]), len(stretch)
gap = torch.isin(stretch, torch.tensor(tokenizer.encode(" \n"))).float()
places = {
    "itself": torch.eye(n),
    "previous": torch.ones(n, n).tril(-1).triu(-1),
    "copies": (stretch[:, None] == stretch).float().tril(-2),
    "gaps": gap.expand(n, n).tril(-2),
}

# %%
shares = []
for weights in maps.values():
    shares.append([(weights * place).sum(-1).mean() for place in places.values()])
rows, columns = list(maps), list(places)
labels = ("layer and head", "listens to", "share")
title = "What each head listens to"
figures.heatmaps(shares, rows, columns, labels=labels, title=title, note=text.note)

# %% [markdown]
# The colours end at the largest share, so read the numbers. A head that gave nearly all to one column would be a
# specialist; where the largest is well under a half, heads *lean* rather than specialise: here most towards the
# previous character, one towards earlier gaps. (Copies and gaps count from two places back.) An attention map says where a
# head *looks*, not yet whether it *matters*: for that, one has to switch it off and measure.
#
# How far back do the heads of layer 2 look in the short line? Take the distance to each earlier position, weighted by attention.
#
# > **Predict.** Will all heads look equally far?

# %%
positions = torch.arange(len(line), dtype=torch.float)
distance = positions[:, None] - positions
reach = (weights_real * distance).sum(-1)
labels = ("position (characters)", "mean look back (characters)")
curves = dict(zip(heads, reach, strict=True))
title = "How far back each head listens"
figures.lines(positions, curves, *labels, title=title, note=text.note)

# %% [markdown]
# No: one line stays low, as a 5-gram's would, which looks four back wherever it stands; the other climbs where the text
# calls for it. A 5-gram has only the first kind.

# %% [markdown]
# ## What attention alone is worth
#
# Now train it. The smallest model that listens: a vector for each character and each position, one attention, and a guess made
# from the position's own vector plus what it heard. `listen` is the part that we exchange.


# %%
class Listener(nn.Module):
    """One attention between embeddings and logits. listen: q, k, v -> (B, H, T, D)."""

    def __init__(self, vocab_size, context_length, d_model, n_heads, listen):
        super().__init__()
        self.n_heads, self.listen = n_heads, listen
        self.token = nn.Embedding(vocab_size, d_model)
        self.position = nn.Embedding(context_length, d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.guess = nn.Linear(d_model, vocab_size)

    def forward(self, tokens):
        x = self.token(tokens) + self.position.weight[: tokens.shape[1]]
        three = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (split_heads(part, self.n_heads) for part in three)
        return self.guess(x + merge_heads(self.listen(q, k, v)))


# %% [markdown]
# Training is six lines: a batch, the loss, its gradient, a step. [Lesson 4](04_train.ipynb) explains each of them.


# %%
def trained(listen, n_heads, steps, T=32):
    """A Listener after some steps, and its loss on the last tenth in nats/character."""
    torch.manual_seed(0)
    model = Listener(tokenizer.vocab_size, T, 64, n_heads, listen)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    draw = torch.Generator().manual_seed(0)
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
# Three ways to listen: to all the past alike, with one head that chooses, with four.
#
# > **Predict.** The bigram sees one character, the mean of the past sees up to 32. Which wins? And what do four heads add
# > to one?


# %%
def mean_of_the_past(q, k, v):
    """Equal weights: queries of zero fit every key alike."""
    return attention_weights(torch.zeros_like(q), k) @ v


steps = 3 * profile.demo_steps
listeners = {
    "mean of the past": trained(mean_of_the_past, 1, steps),
    "one head": trained(causal_attention, 1, steps),
    "four heads": trained(causal_attention, 4, steps),
}
losses = {name: loss for name, (_, loss) in listeners.items()}
print({name: round(loss, 3) for name, loss in losses.items()})

# %% [markdown]
# The mean of the past is no better than a bigram: what it hears is the same soup everywhere. One head that chooses is
# clearly better with the same number of weights, and four narrow heads beat one wide one, since they can follow four
# things at once.

# %% [markdown]
# ## What breaks if you forget the mask?
#
# The same model and the same steps, and each position may look to the right.
#
# > **Predict.** What is its loss? What does it write?

# %%
without, loss_without = trained(F.scaled_dot_product_attention, 4, steps)
masked = losses["four heads"]
print(f"loss with the mask {masked:.3f}, without it {loss_without:.3f} nats/character")


# %%
def write(model, prompt, n_new, T=32):
    """Draw one character after the other; who writes has no future to look at."""
    generator, out = torch.Generator().manual_seed(0), tokenizer.encode(prompt)
    for _ in range(n_new):
        logits = model(torch.tensor([out[-T:]]))[0, -1]
        out.append(torch.multinomial(logits.softmax(-1), 1, generator=generator).item())
    return tokenizer.decode(out)


for name, listener in {"with": listeners["four heads"][0], "without": without}.items():
    print(f"--- {name} the mask\n{write(listener, line[:9], 100)}\n")

# %% [markdown]
# A loss that no honest model in this course comes near, from a writer that can only stutter. The model learned one thing, to read the
# answer; when it writes, there is no answer to read. The symptom is the one of lesson 1: **a loss near zero means that
# the answer is in the question.** If a network of yours is too good, look at its mask first.

# %% [markdown]
# ## The loss log
#
# The cheater stays out of it: its number is not a prediction.

# %%
log = baseline_losses(text.text) | losses
loss_log = pd.DataFrame({"nats/character": log})
loss_log["perplexity"] = loss_log["nats/character"].map(math.exp)
loss_log.round(3)

# %%
figures.loss_bars(log, note=text.note)

# %% [markdown]
# One attention, alone and hardly trained, is already past the bigram and not yet near the 5-gram. What it lacks is work *after*
# listening, and a second look. That is a layer, and the stack of them: lesson 3.

# %% [markdown]
# ## What you built
#
# Attention, from a mean over the past to many heads that choose for themselves, equal to PyTorch's own.
# `attention_weights`, `causal_attention`, `split_heads` and `merge_heads` go on to lesson 3.

# %% [markdown]
# ## Questions
#
# 1. Why must the mask come before the softmax and not after?
# 2. What would go wrong if the softmax ran over the queries (the wrong axis)? Which assert above would notice?
# 3. Attention without positions: if you shuffle the earlier tokens, does the last position's output change?
# 4. A head's map shows all its weight on the first position. What might that head be doing?

# %% [markdown]
# ## Exercises
#
# Write your answer in place of the `...` or the `None` and run the cell. It prints *right*, or *not yet* with the input that
# it tried, what it expected, what your code returned, and a guess at the mistake.
#
# ### Exercise 2.1 · warm-up · 5 min
#
# Make the mask: a `(T, T)` tensor of truth values, True where the query of that row *may* listen to the key of that column. A
# position may listen to itself.
#
# <details><summary>Hint 1</summary>
#
# Row $t$ has $t + 1$ times True. Write it down for `T = 3`. </details>
#
# <details><summary>Hint 2</summary>
#
# `tril` keeps the lower left triangle; `torch.ones` takes a `dtype`. </details>


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
# Count by hand, for the sizes that the next cell prints: how many scores $q \cdot k$ does one attention compute for a batch if it
# computes them all, and how many of them survive the mask? The answer is a pair of whole numbers.
#
# <details><summary>Hint 1</summary>
#
# One score for each pair of positions, in each head, in each sequence. </details>
#
# <details><summary>Hint 2</summary>
#
# The triangle has $1 + 2 + … + T$ places, the diagonal among them. </details>

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
# Write softmax over the last axis without `softmax`. Scores may be 1,000, and some may be $-\infty$; each row has at least one
# that is finite. Neither may give `nan`.
#
# <details><summary>Hint 1</summary>
#
# $e^{1000}$ is `inf`, and `inf / inf` is `nan`. Adding one number to all scores of a row changes no weight. </details>
#
# <details><summary>Hint 2</summary>
#
# Which number makes the largest exponent 0? Keep the axis (`keepdim=True`), or the rows mix. </details>


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
# Long texts get a *sliding window*: each position listens to itself and to the `width - 1` positions before it, and to nothing
# else. Write that attention, scale and mask included.
#
# <details><summary>Hint 1</summary>
#
# The distance from query $i$ to key $j$ is $i - j$. Which distances are allowed? </details>
#
# <details><summary>Hint 2</summary>
#
# Start from `attention_weights` above and change the mask. With `width = 1` the answer is `v`. </details>


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
# The idea behind FlashAttention (Dao et al., 2022): never hold all scores at once. Write causal attention that goes over the keys in
# blocks of `size`. For each query keep three things: the largest score so far, the sum of exponentials, the weighted sum of values.
#
# For the evening: measure the memory that it needs at `T = 8192`, against `attention_weights`.

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# When a new block raises the maximum from $m$ to $m'$, everything summed so far was too large by $e^{m' - m}$. </details>
#
# <details><summary>Hint 2</summary>
#
# Start with a maximum of $-\infty$ and sums of 0. A block all of whose keys lie in a query's future adds nothing, but beware of
# $-\infty - (-\infty)$: the first block always holds key 0, which everybody sees. </details>
#
# <details><summary>Hint 3</summary>
#
# Divide once, at the end: weighted sum over sum. </details>


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
# ## Test yourself
#
# Choose before you unfold.
#
# **1.** The mask is applied *after* the softmax, by setting the future's weights to 0. What is wrong?
# (a) Nothing · (b) rows no longer sum to 1 · (c) the future still moves the weights of the past.
#
# <details><summary>Answer</summary>
#
# (b) and, worse, (c): the future was in the sum that each weight was divided by, so information leaks. (a) the shapes are right,
# which is why nobody notices. </details>

# %% [markdown]
# **2.** Twice as many positions `T`. The scores of a layer …
# (a) double · (b) quadruple · (c) stay as many.
#
# <details><summary>Answer</summary>
#
# (b): each position asks each. (a) is true of the queries. (c) is true of the weights that are *learned*. </details>

# %% [markdown]
# **3.** `C` stays, and `H` doubles. The learned weights of attention …
# (a) double · (b) stay as many · (c) halve.
#
# <details><summary>Answer</summary>
#
# (b): the channels are cut differently. (a) would need wider heads. (c) forgets that there are more heads. </details>

# %% [markdown]
# **4.** Dividing by `D` in place of √D would …
# (a) make weights nearly even · (b) make them nearly all or nothing · (c) change nothing, the matrices learn it.
#
# <details><summary>Answer</summary>
#
# (a): scores become small, and softmax of small numbers is flat. (b) is what happens with no division. (c) is half true: training can
# make up for it, but starts from nearly equal weights. </details>

# %% [markdown]
# **5.** Your validation loss is 0.08. The first suspect is …
# (a) luck · (b) the mask · (c) too many heads.
#
# <details><summary>Answer</summary>
#
# (b). (a) luck is worth hundredths. (c) more heads help a little and never that much. </details>

# %% [markdown]
# **Next:** [3 · The model](03_model.ipynb), where attention becomes the first half of a layer.
