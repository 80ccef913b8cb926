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
# # 1 · Data: a text becomes numbers
#
# A language model is a machine that guesses what comes next. Before it can guess, the text has to become
# numbers, and before we may be proud of a guess, we need to know how well a machine does that only counts.
# This lesson does both. Its best counter reaches 1.669 nats per character, and the Transformer that you
# build in the next lessons has to beat it.
#
# **You will be able to** turn text into integers and back · split data without fooling yourself · draw
# training batches · read a loss in nats and as a perplexity · build an n-gram model that is hard to beat.
#
# **You need** Python, and the idea of a probability. **Time:** 30 minutes of reading, a few seconds of computing.

# %% tags=["setup"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("course_utils") is None:  # on Colab: add the course, replace nothing that is there
    address = "git+https://github.com/shakespeare-layer-by-layer/course"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", address], check=True)

# %%
import math

import pandas as pd

from course_utils import corpus, figures

# %% tags=["export"]
import torch

# %% [markdown]
# ## The text
#
# Tiny Shakespeare is about 40,000 lines of the plays in one file. The course looks for it on your machine and
# downloads it if it must. Where neither works you get a *practice text*, written by the course's own model;
# then every page says so, and the facts about Shakespeare below are not checked.

# %%
text = corpus.load()
print(text.describe())
print(text.text[:250])

# %% [markdown]
# Sixty-five characters is all there is: letters in two sizes, a little punctuation, one digit, the space and
# the line break. Before you run the next cell, guess the most frequent character, and what share of the text
# it makes up.

# %%
counts = pd.Series(list(text.text)).value_counts()
print(f"{len(counts)} characters; the three most frequent make up {counts.head(3).sum() / counts.sum():.0%}")
figures.character_counts(counts.head(30), note=text.note)

# %% [markdown]
# The space leads, then *e*, *t* and *o*. The curve falls fast: a model that knew nothing but these bars would
# already do much better than one that thinks all characters alike. You will measure how much better.

# %% [markdown]
# ## Characters to integers
#
# A **tokenizer** maps text to integers and back. Ours is the smallest that works: a character's id is its
# place in the sorted alphabet. By hand it is one dictionary.

# %% tags=["nbval-check-output"]
alphabet = sorted(set("to be or not to be"))
id_of = {character: i for i, character in enumerate(alphabet)}
print(alphabet)
print([id_of[character] for character in "robot"])

# %% [markdown]
# The class adds what a tool needs: the way back, and a clear word when it meets a character that it has
# never seen.


# %% tags=["export"]
class CharTokenizer:
    """Characters to integers and back: a character's id is its place in the sorted alphabet.

    text: any string; its distinct characters become the alphabet. An unknown character (or id)
    raises a ValueError that names it.
    """

    def __init__(self, text):
        if not text:
            raise ValueError("a tokenizer needs a text with at least one character")
        self.alphabet = "".join(sorted(set(text)))
        self.vocab_size = len(self.alphabet)
        self._id_of = {character: i for i, character in enumerate(self.alphabet)}

    def encode(self, text):
        try:
            return [self._id_of[character] for character in text]
        except KeyError:
            unknown = "".join(sorted(set(text) - set(self.alphabet)))
            raise ValueError(f"unknown characters {unknown!r}; allowed are {self.alphabet!r}") from None

    def decode(self, ids):
        ids = [int(i) for i in ids]
        if ids and not 0 <= min(ids) <= max(ids) < self.vocab_size:
            raise ValueError(f"ids must lie in 0 … {self.vocab_size - 1}")
        return "".join(self.alphabet[i] for i in ids)


# %%
tokenizer = CharTokenizer(text.text)
ids = torch.tensor(tokenizer.encode(text.text))
assert tokenizer.decode(ids) == text.text, "encoding loses nothing"
if text.is_real:
    assert tokenizer.vocab_size == 65, "Tiny Shakespeare has 65 different characters"
print(f"{len(ids):,} ids, the first ten: {ids[:10].tolist()}")

# %% [markdown]
# What happens with a character that Shakespeare never wrote? A tokenizer that drops it in silence will bite
# you later. This one refuses.

# %% tags=["nbval-check-output"]
try:
    CharTokenizer("abc ").encode("a cab №5")
except ValueError as error:
    print(error)

# %% [markdown]
# ## A split that chooses nothing
#
# The model learns from the first nine tenths and is judged on the last tenth, which it never sees. We cut in
# one place rather than pick lines at random: neighbouring lines share names and phrases, so a random split
# would leak the answers.


# %% tags=["export"]
def split(ids, fraction=0.9):
    """The first `fraction` of the ids for training, the rest, in order, for validation."""
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, not {fraction!r}")
    cut = int(fraction * len(ids))
    return ids[:cut], ids[cut:]


# %%
train_ids, validation_ids = split(ids)
assert len(train_ids) + len(validation_ids) == len(ids), "no character is lost or used twice"
if text.is_real:
    assert (len(train_ids), len(validation_ids)) == (1_003_854, 111_540), "the usual 90/10 split"
unseen = set(validation_ids.tolist()) - set(train_ids.tolist())
print(f"{len(train_ids):,} to learn from, {len(validation_ids):,} to be judged by; {len(unseen)} characters unseen")

# %% [markdown]
# ## Batches
#
# A training step sees `B` windows of `T` characters from random places. The question at each position is
# "what comes next?", so the answers are the same windows moved by one. Off by one here, and the model learns
# to copy its input: the loss falls to nearly nothing and every sample is noise.


# %% tags=["export"]
def get_batch(ids, batch_size, context_length, generator=None):
    """Random windows and, for each position, the token that comes next.

    ids: (N,) int64 -> tokens, targets: (B, T) int64, targets one ahead of tokens.
    generator: a torch.Generator; the same seed draws the same windows.
    """
    if len(ids) <= context_length:
        raise ValueError(f"{len(ids)} tokens are too few for a context of {context_length}: one more is needed")
    starts = torch.randint(len(ids) - context_length, (batch_size, 1), generator=generator)
    index = (starts + torch.arange(context_length)).to(ids.device)
    return ids[index], ids[index + 1]


# %%
B, T = 2, 11
tokens, targets = get_batch(train_ids, B, T, torch.Generator().manual_seed(5))
assert tokens.shape == targets.shape == (B, T)
assert torch.equal(tokens[:, 1:], targets[:, :-1]), "each target is the token one place on"
for row in range(B):
    print(f"{tokenizer.decode(tokens[row])!r} -> {tokenizer.decode(targets[row])!r}")

# %% [markdown]
# One window of 11 characters holds 11 questions: what follows the first, what follows the first two, and so
# on. That is why a Transformer learns so much from one pass.

# %% [markdown]
# ## What is a good guess worth?
#
# A model gives each possible next character a probability $p$. Its **loss** is its mean surprise,
# $-\ln p$ of what really came, in nats per character. **Perplexity** is $e^{\text{loss}}$: the number of equally
# likely characters that would be as hard to guess. The dullest model finds all 65 alike.

# %%
uniform = math.log(tokenizer.vocab_size)
print(f"uniform: {uniform:.3f} nats/character, perplexity {math.exp(uniform):.1f}")

# %% [markdown]
# The next dullest knows the bars from above. Each character costs $-\ln$ of its share in the training text.
# Guess first: by how much does that lower the perplexity?

# %%
share = torch.bincount(train_ids, minlength=tokenizer.vocab_size) / len(train_ids)
unigram = -share[validation_ids].log().mean().item()
print(f"unigram: {unigram:.3f} nats/character, perplexity {math.exp(unigram):.1f}")

# %% [markdown]
# From 65 to about 28. Now let the guess depend on the character before: after *q* comes *u*. That is a
# **bigram** model, and all it needs is a table of pairs. Adding 1 to each cell keeps a pair that never occurred
# from costing infinitely much.

# %%
pairs = torch.zeros(tokenizer.vocab_size, tokenizer.vocab_size)
pairs.index_put_((train_ids[:-1], train_ids[1:]), torch.tensor(1.0), accumulate=True)
after = (pairs + 1) / (pairs + 1).sum(dim=1, keepdim=True)
bigram = -after[validation_ids[:-1], validation_ids[1:]].log().mean().item()
print(f"bigram: {bigram:.3f} nats/character, perplexity {math.exp(bigram):.1f}")

# %%
common = [tokenizer.encode(c)[0] for c in counts.index[:16]]
labels = tokenizer.decode(common)
figures.heatmaps(
    after[common][:, common],
    labels,
    labels,
    labels=("this character", "next character", "probability"),
    title="How often one character follows another",
    note=text.note,
)

# %% [markdown]
# Read it by rows: after *t* the *h* is bright, after a comma almost nothing but the space. A model's whole
# work is to make these rows sharper by looking further back.

# %% [markdown]
# ## Counting further back
#
# With five characters there are a billion possible contexts, and most were never seen. The trick is to trust
# a long context as far as it has been seen and to fall back on a shorter one for the rest. Witten and Bell's
# rule (1991) does it with two counts: $c(h)$, how often context $h$ occurred, and $t(h)$, how many *different*
# characters followed it. A context with many different successors is full of surprises, so it is trusted less:
#
# $$p(w\mid h) = \frac{c(hw) + t(h)\, p(w\mid h')}{c(h) + t(h)},\qquad h' \text{ is } h \text{ without its oldest character.}$$
#
# To count fast, each n-gram becomes one integer, written in base $V$.


# %% tags=["export"]
def ngram_codes(ids, n, vocab_size):
    """Each n-gram as one integer in base V: (N,) int64 -> (N - n + 1,) int64."""
    places = vocab_size ** torch.arange(n - 1, -1, -1, device=ids.device)
    return (ids.unfold(0, n, 1) * places).sum(-1)


# %% tags=["nbval-check-output"]
print(ngram_codes(torch.tensor([3, 1, 4, 1, 5]), 2, vocab_size=10).tolist())


# %% tags=["export"]
def lookup(keys, values, wanted):
    """values[i] where keys[i] == wanted, else 0. keys: (K,) sorted, wanted: (N,) -> (N,)."""
    i = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return torch.where(keys[i] == wanted, values[i], 0)


# %% [markdown]
# The model keeps, for each order, the sorted n-grams with their counts and the sorted contexts with $c(h)$ and
# $t(h)$. Asking for a probability climbs from the uniform guess up, one order at a time.


# %% tags=["export"]
class WittenBell:
    """An n-gram model that trusts each context as far as it has seen it.

    p(w|h) = (c(hw) + t(h) p(w|h')) / (c(h) + t(h)); below the unigram stands 1/V. ids: (N,) int64.
    Witten and Bell (1991), IEEE Trans. Inf. Theory 37(4), method C.
    """

    def __init__(self, ids, order, vocab_size):
        if not 1 <= order <= len(ids) or vocab_size**order >= 2**63:
            raise ValueError(f"order {order} is not allowed for {len(ids)} tokens of {vocab_size} characters")
        self.vocab_size, self.tables = vocab_size, []
        for n in range(1, order + 1):
            grams, counts = ngram_codes(ids, n, vocab_size).unique(return_counts=True)
            contexts, where, types = (grams // vocab_size).unique(return_inverse=True, return_counts=True)
            self.tables.append((grams, counts, contexts, torch.zeros_like(types).index_add_(0, where, counts), types))

    def probabilities(self, ids):
        """p of every token but the first, given up to order - 1 before it: (T,) -> (T - 1,)."""
        p = torch.full((len(ids),), 1 / self.vocab_size, dtype=torch.float64)
        for n, (grams, counts, contexts, totals, types) in enumerate(self.tables[: len(ids)], start=1):
            gram = ngram_codes(ids, n, self.vocab_size)
            context = gram // self.vocab_size
            c, t = lookup(contexts, totals, context), lookup(contexts, types, context)
            mixed = (lookup(grams, counts, gram) + t * p[n - 1 :]) / (c + t).clamp(min=1)
            p[n - 1 :] = torch.where(c > 0, mixed, p[n - 1 :])
        return p[1:]

    def loss(self, ids):
        """Mean surprise in nats/character over every token but the first."""
        return -self.probabilities(ids).log().mean().item()


# %% [markdown]
# How far back is it worth looking? Six characters see more than five. Do you expect order 6 to win?

# %%
orders = range(1, 7)
n_gram = {order: WittenBell(train_ids, order, tokenizer.vocab_size).loss(validation_ids) for order in orders}
for order, loss in n_gram.items():
    print(f"order {order}: {loss:.3f} nats/character, perplexity {math.exp(loss):5.2f}")

# %%
assert abs(n_gram[1] - unigram) < 1e-3, "order 1 is the unigram model from above"
assert abs(n_gram[2] - bigram) < 1e-2, "order 2 differs from the table of pairs by its smoothing alone"
if text.is_real:
    assert [round(n_gram[order], 3) for order in orders][:5] == [3.347, 2.486, 2.049, 1.774, 1.669]
    assert n_gram[6] > n_gram[5], "more context does not help a machine that can only remember"

# %% [markdown]
# Order 5 is the best that counting can do here; at order 6 almost every context is new, and memory fails. A
# model that is to use more than four characters of context must *generalise*: see that two contexts are alike
# without being equal. That is what a Transformer is for.

# %%
best_order = min(n_gram, key=n_gram.get)
loss_log = {"uniform": uniform, "unigram": unigram, "bigram": n_gram[2], f"{best_order}-gram": n_gram[best_order]}
figures.loss_bars(loss_log, note=text.note)

# %% [markdown]
# Each step down is bought with a longer look back. Keep this picture in mind: every loss in the course is
# drawn over these lines.
#
# ## What you built
#
# A tokenizer, a split, batches, and a ladder of baselines. `CharTokenizer`, `split`, `get_batch` and `WittenBell`
# live on in `course_utils.lessons.data`, written there from this very notebook.
#
# ## Questions
#
# 1. Why must the alphabet come from the whole text, or else the tokenizer be ready to refuse?
# 2. A model has a loss of 0 on the validation split. What do you suspect first?
# 3. Why does order 6 lose to order 5 here, and what would you need for it to win?
#
# **Next:** [2 · Attention](02_attention.ipynb), where a position learns to choose whom it listens to.
