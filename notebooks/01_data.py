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
# # 1 · Data: a text becomes numbers
#
# A language model guesses what comes next. For that, text has to become numbers; and to judge the guesses, you need
# to know how far counting gets. This lesson's best counter is the line that the Transformer has to cross.

# %% [markdown]
# **You will be able to** turn text into integers and back · split data without fooling yourself · draw training
# batches · read a loss and its perplexity · build an n-gram model that is hard to beat.
#
# **You need** Python, [PyTorch in twenty lines](../book/pytorch.md), the idea of probability.
# **Time:** 40 minutes to read, half a minute of computing, an hour for the exercises up to core.

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

# %%
import random
import re
from collections import Counter

import pandas as pd

from course_utils import checks, corpus, figures

# %% tags=["export"]
import math

import torch

# %% [markdown]
# ## The text
#
# Tiny Shakespeare is about 40,000 lines of the plays. Where it can't be downloaded you get a *practice text* by the
# course's own model: then `text.is_real` is False, and figures show `text.note`.

# %% tags=["nbval-ignore-output"]
text = corpus.load()
print(text.describe())
print(text.text[:250])

# %% [markdown]
# Sixty-five characters are all: letters, punctuation, one digit, space and line break.
#
# > **Predict.** Which is the most frequent? What share of the text do the first three make up?

# %%
counts = pd.Series(list(text.text)).value_counts()
share = counts.head(3).sum() / counts.sum()
print(f"{len(counts)} characters; the three most frequent make up {share:.0%}")
figures.character_counts(counts.head(30), note=text.note)

# %% [markdown]
# The space leads, then *e*, *t* and *o*. (The 35 rarest are not shown.)

# %% [markdown]
# ## Why characters, and not words?
#
# A model of words makes fewer guesses, but pays twice: each word needs a vector of its own, and some it has never
# seen.
#
# > **Predict.** How many words of the last tenth, repeats counted, are new?

# %%
cut = int(0.9 * len(text.text))
first, last = text.text[:cut], text.text[cut:]
words_of = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*").findall  # letters, apostrophes inside
words, known = set(words_of(text.text)), set(words_of(first))
print(f"{len(words):,} different words, {len(counts)} different characters")
new = [word not in known for word in words_of(last)]
print(f"never seen before: {sum(new) / max(1, len(new)):.1%} of the words,", end=" ")
print(f"{len(set(last) - set(first))} of the characters")

# %% [markdown]
# Each of these would be a blank. Large models cut text into frequent *pieces* (exercise 1.5). Our characters are few
# and none is unknown, but a small model spends capacity on spelling.
#
# ## Characters to integers
#
# A **tokenizer** maps text to integers and back. Ours makes each character a **token**, whose id is its place in the
# sorted alphabet: one dictionary.

# %%
alphabet = sorted(set("to be or not to be"))
id_of = {character: i for i, character in enumerate(alphabet)}
print(alphabet)
print([id_of[character] for character in "robot"])

# %% [markdown]
# The class adds the way back, and refuses unknown characters: silently dropped, they would change your prompt, and
# you would blame the model.


# %% tags=["export"]
class CharTokenizer:
    """Characters to integers and back: a character's id is its place in the alphabet.

    text: any string; its distinct characters, sorted, become the alphabet. An unknown
    character (or id) raises a ValueError that names it.
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
            some = f"{self.vocab_size}, beginning with {self.alphabet[:20]!r}"
            message = f"unknown characters {unknown[:20]!r}; allowed are {some}"
            raise ValueError(message) from None

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

# %%
try:
    CharTokenizer("abc ").encode("a cab №5")
except ValueError as error:
    print(error)

# %% [markdown]
# ## Training and validation
#
# The model learns from the first nine tenths and is judged on the last, which it never sees. We cut once, by
# **position**; most of machine learning shuffles first.


# %% tags=["export"]
def split(ids, fraction=0.9):
    """The first `fraction` of the ids for training, the rest for validation."""
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, not {fraction!r}")
    cut = int(fraction * len(ids))
    return ids[:cut], ids[cut:]


# %%
train_ids, validation_ids = split(ids)
n_train, n_validation = len(train_ids), len(validation_ids)
assert n_train + n_validation == len(ids), "no character is lost or used twice"
if text.is_real:
    assert (n_train, n_validation) == (1_003_854, 111_540), "the usual 90/10 split"
unseen = set(validation_ids.tolist()) - set(train_ids.tolist())
print(f"{n_train:,} to learn from, {n_validation:,} to be judged by")
print(f"kinds of character that occur in the last tenth alone: {len(unseen)}")

# %% [markdown]
# If you shuffled the lines first, a line of the last tenth would have its neighbours in the training text: the same
# names, the same quarrel.
#
# > **Predict.** Would the last tenth be easier or harder? Would the model be better?

# %% [markdown]
# ## Batches
#
# A training step sees `B` windows of `T` characters from random places. Each position asks "what comes next?", so the
# answers are the same windows, moved by one: `targets[t] = tokens[t + 1]`.


# %% tags=["export"]
def get_batch(ids, batch_size, context_length, generator=None):
    """Random windows and, for each position, the token that comes next.

    ids: (N,) int64 -> tokens, targets: (B, T) int64, targets one ahead of tokens.
    generator: a torch.Generator; the same seed draws the same windows.
    """
    N, T = len(ids), context_length
    if N <= T:
        raise ValueError(f"{N} tokens are too few: a context of {T} takes {T + 1}")
    starts = torch.randint(N - T, (batch_size, 1), generator=generator)
    index = (starts + torch.arange(T)).to(ids.device)  # (B, T)
    return ids[index], ids[index + 1]


# %%
B, T = 2, 11
tokens, targets = get_batch(train_ids, B, T, torch.Generator().manual_seed(5))
assert tokens.shape == targets.shape == (B, T)
assert torch.equal(tokens[:, 1:], targets[:, :-1]), "a target is the token one place on"
for row in range(B):
    print(f"{tokenizer.decode(tokens[row])!r} -> {tokenizer.decode(targets[row])!r}")

# %%
asked, answers = tokenizer.decode(tokens[0]), tokenizer.decode(targets[0])
figures.shifted(asked, answers, title="Each position asks, the next character answers")

# %% [markdown]
# Dotted lines join a target to the same token, one place on. A window of 11 characters holds 11 questions:

# %%
for t in range(4):
    before = tokenizer.decode(tokens[0, : t + 1])
    after = tokenizer.decode(targets[0, t : t + 1])
    print(f"{before!r:>10} is followed by {after!r}")

# %% [markdown]
# A Transformer answers all `T` at once.
#
# **What breaks if you forget to shift?** Each position is asked for the character that it holds. Count the "answers"
# to see what is learned.
#
# > **Predict.** How many are right on the last tenth? And what does it write?

# %%
unshifted = torch.zeros(tokenizer.vocab_size, tokenizer.vocab_size)
# Add 1 at [a, b] for each pair of a from the first tensor and b from the second.
unshifted.index_put_((train_ids, train_ids), torch.tensor(1.0), accumulate=True)
answer = unshifted.argmax(dim=1)  # of each character, the most frequent
right = (answer[validation_ids] == validation_ids).float().mean()
letter = counts.index[2]
written = tokenizer.decode([answer[tokenizer.encode(letter)[0]]] * 10)
print(f"{right:.0%} right; after {letter!r} it writes {written!r}")

# %% [markdown]
# The score is perfect and the text a stuck key. As a *loss* (next section) it is 0: **a loss near zero means that the
# answer is in the question.** In lesson 2 it hides better.

# %% [markdown]
# ## What is a good guess worth?
#
# A model gives each possible next character a probability $p$. Its **token loss** (or **negative log-likelihood**) is
# $-\ln p$ of what really came: 0 if it was certain, larger the more it is surprised. The **loss**, in full
# **cross-entropy**, is the mean of these, in **nats** per character (natural logarithms; ln 2 nats are a bit).

# %%
p = torch.linspace(0.01, 1, 100)
curve = {"token loss": (1 / p).log()}
title = "A sure guess that fails is expensive"
figures.lines(p, curve, "probability of what came", "token loss (nats)", title=title)

# %% [markdown]
# Halve the probability and you pay another $\ln 2$. At $p = 0$ the price is infinite: a good model never rules
# anything out.
#
# To guess the true probabilities $p$ costs $-\sum p \ln p$ on average, the **entropy**; to guess $q$ costs the
# cross-entropy $-\sum p \ln q$, never less. So no model gets below the entropy of the text, which nobody knows;
# Shannon (1951) let people guess to estimate it.
#
# **Perplexity** is $e^{\text{loss}}$: how many equally likely choices would be as hard to guess. A coin has 2, a die
# 6, a loaded die fewer: you can bet on it, if you know.

# %%
loaded, fair = [1 / 2] + [1 / 10] * 5, [1 / 6] * 6
games = {"coin": ([1 / 2] * 2, [1 / 2] * 2), "die": (fair, fair)}
games |= {"loaded die": (loaded, loaded), "loaded die, thought fair": (loaded, fair)}
for name, (p, q) in games.items():
    loss = -sum(true * math.log(guess) for true, guess in zip(p, q, strict=True))
    print(f"{name:24} {loss:.3f} nats, as hard as {math.exp(loss):.2f} equal choices")

# %% [markdown]
# ## A ladder of guessers
#
# The dullest model gives all 65 characters the same probability.

# %%
uniform = math.log(tokenizer.vocab_size)
print(f"uniform: {uniform:.3f} nats/character, perplexity {math.exp(uniform):.1f}")

# %% [markdown]
# The next dullest knows the counts: each character costs $-\ln$ of its share in the training text.
#
# > **Predict.** From 65 equal choices down to how many?

# %%
share = torch.bincount(train_ids, minlength=tokenizer.vocab_size) / len(train_ids)
unigram = -share[validation_ids].log().mean().item()
print(f"unigram: {unigram:.3f} nats/character, perplexity {math.exp(unigram):.1f}")

# %% [markdown]
# A **bigram** model looks one character back: after *q* comes *u*. It needs a table of pairs, with 1 added to each
# cell.

# %%
pairs = torch.zeros(tokenizer.vocab_size, tokenizer.vocab_size)
pairs.index_put_((train_ids[:-1], train_ids[1:]), torch.tensor(1.0), accumulate=True)
after = (pairs + 1) / (pairs + 1).sum(dim=1, keepdim=True)
bigram = -after[validation_ids[:-1], validation_ids[1:]].log().mean().item()
print(f"bigram: {bigram:.3f} nats/character, perplexity {math.exp(bigram):.1f}")

# %%
common = [tokenizer.encode(c)[0] for c in counts.index[:16]]
names = tokenizer.decode(common)
labels = ("this character", "next character", "probability")
title = "How often one character follows another"
table = after[common][:, common]
figures.heatmaps(table, names, names, labels=labels, title=title, note=text.note)

# %% [markdown]
# By rows: after *t* the *h* is bright, after *h* the *e*; after *y* or *d* a word often ends. (⏎ is dark: the
# capitals that follow are not shown.)
#
# **What breaks without the added 1?** Count the new pairs of the last tenth.

# %%
never = pairs[validation_ids[:-1], validation_ids[1:]] == 0
raw = pairs / pairs.sum(dim=1, keepdim=True)
loss = -raw[validation_ids[:-1], validation_ids[1:]].log().mean()
print(f"{never.sum()} of {len(never):,} pairs were never seen;", end=" ")
print(f"the loss without the added 1 is {loss}")

# %% [markdown]
# ## Counting further back
#
# An **n-gram** is $n$ characters in a row. A model of **order** $n$ guesses the last from the $n - 1$ before it, its
# *context*; the bigram has order 2. Five characters of context have a billion values, most never seen.

# %% [markdown]
# The trick: trust a long context as far as it has been seen, and a shorter one for the rest. Witten and Bell's rule
# (1991) needs two counts: $c(h)$, how often context $h$ occurred, and $t(h)$, how many *different* characters
# followed it. Many mean surprises, so less trust. With $w$ for the next character:
#
# $$p(w\mid h) = \frac{c(hw) + t(h)\, p(w\mid h')}{c(h) + t(h)},\qquad h' \text{ is } h \text{ without its oldest character.}$$
#
# With no context left, it falls back on $1/V$. (In this form: Chen and Goodman, 1999.) For one word:

# %%
word, followers = "abracadabra", {}
for n in (0, 1):  # the length of the context
    for i in range(n, len(word)):
        followers.setdefault(word[i - n : i], Counter())[word[i]] += 1


def p_after(h, w):
    shorter = p_after(h[1:], w) if h else 1 / len(set(word))
    c, t = followers[h].total(), len(followers[h])
    return (followers[h][w] + t * shorter) / (c + t)


# %% [markdown]
# By hand: *b* is 2 of 11 letters, of 5 kinds, so alone it has $(2 + 5 \cdot \frac{1}{5}) / (11 + 5) = 3/16$. After
# *a* came *b* twice and two other letters once each: $c(h) = 4$, $t(h) = 3$.

# %%
assert p_after("a", "b") == (2 + 3 * 3 / 16) / (4 + 3)
assert abs(sum(p_after("a", w) for w in set(word)) - 1) < 1e-12, "a distribution"
print(f"p(b | a) = {p_after('a', 'b'):.3f}")

# %% [markdown]
# For a million characters that is too slow, so tensors count: each n-gram becomes one integer in base $V$. With
# $a, b, c, d, r$ as $0 … 4$ and $V = 5$, *ab* is $0 \cdot 5 + 1 = 1$. Division by $V$ takes the last letter off. Of
# the *different* pairs, *ab*, *ac* and *ad* leave *a*: three times, which is $t(h)$.


# %% tags=["export"]
def ngram_codes(ids, n, vocab_size):
    """Each n-gram as one integer in base V: (N,) int64 -> (N - n + 1,) int64."""
    places = vocab_size ** torch.arange(n - 1, -1, -1, device=ids.device)
    return (ids.unfold(0, n, 1) * places).sum(-1)


# %% tags=["export"]
def lookup(keys, values, wanted):
    """values[i] where keys[i] == wanted, else 0: (K,) sorted, (K,), (N,) -> (N,)."""
    i = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return torch.where(keys[i] == wanted, values[i], 0)


# %% tags=["export"]
def count_ngrams(codes, vocab_size):
    """-> n-grams and their counts: (K,); contexts, their c(h) and their t(h): (M,)."""
    grams, counts = codes.unique(return_counts=True)
    before = grams // vocab_size  # without the last character: its context
    # at: which of the contexts each n-gram has, so that their counts can be added up
    contexts, at, types = before.unique(return_inverse=True, return_counts=True)
    totals = torch.zeros_like(types).index_add_(0, at, counts)
    return grams, counts, contexts, totals, types


# %% [markdown]
# The model keeps these five tables for each order and climbs from the uniform guess. On *abra*: four times 1/5; then
# $p(a), p(b), p(r), p(a)$; then order 2 replaces all but the first, `p[n - 1 :]`, by
# $p(b\mid a), p(r\mid b), p(a\mid r)$.


# %% tags=["export"]
class WittenBell:
    """An n-gram model that trusts each context as far as it has seen it.

    p(w|h) = (c(hw) + t(h) p(w|h')) / (c(h) + t(h)). Witten and Bell (1991), method C.
    """

    def __init__(self, ids, order, vocab_size):
        if not 1 <= order <= len(ids) or vocab_size**order >= 2**63:
            sizes = f"{len(ids)} tokens of {vocab_size} characters"
            raise ValueError(f"order {order} is not allowed for {sizes}")
        self.vocab_size, self.order = vocab_size, order
        self.tables = [self.count(ids, n) for n in range(1, order + 1)]

    def count(self, ids, n):
        return count_ngrams(ngram_codes(ids, n, self.vocab_size), self.vocab_size)

    def probabilities(self, ids):
        """p of every token but the first, given those before it: (T,) -> (T - 1,)."""
        p = torch.full((len(ids),), 1 / self.vocab_size, dtype=torch.float64)
        for n, table in enumerate(self.tables[: len(ids)], start=1):
            grams, counts, contexts, totals, types = table
            gram, shorter = ngram_codes(ids, n, self.vocab_size), p[n - 1 :]
            c, t = (lookup(contexts, x, gram // self.vocab_size) for x in (totals, types))
            mixed = (lookup(grams, counts, gram) + t * shorter) / (c + t).clamp(min=1)
            p[n - 1 :] = torch.where(c > 0, mixed, shorter)
        return p[1:]

    def loss(self, ids):
        """The mean token loss in nats/character over every token but the first."""
        return -self.probabilities(ids).log().mean().item()


# %%
small = CharTokenizer(word)
tensors = WittenBell(torch.tensor(small.encode(word)), 2, small.vocab_size)
pair = tensors.probabilities(torch.tensor(small.encode("ab")))
assert abs(pair.item() - p_after("a", "b")) < 1e-12, "the same rule"

# %% [markdown]
# > **Predict.** Will order 6 beat order 5? And on the counted text?

# %%
V = tokenizer.vocab_size
orders = [n for n in range(1, 9) if V**n < 2**63]  # an n-gram must be one integer
counters = {n: WittenBell(train_ids, n, V) for n in orders[:6]}
n_gram = {n: counter.loss(validation_ids) for n, counter in counters.items()}
counted = [counter.loss(train_ids[:n_validation]) for counter in counters.values()]
for order, loss in n_gram.items():
    print(f"order {order}: {loss:.3f} nats/character, perplexity {math.exp(loss):5.2f}")
curves = {"last tenth": list(n_gram.values()), "counted text": counted}
look = {"title": "The counted text grows easier with every order", "note": text.note}
figures.lines(orders[:6], curves, "order", "loss (nats/character)", **look)

# %% [markdown]
# One order further is worse on new text, far better on the counted: your first sight of **overfitting**. Where is the
# harm? Compare by how often the longer context was seen.

# %%
n = orders[:6][-1]  # 6, unless the alphabet is huge
five, six = (counters[order].probabilities(validation_ids) for order in (n - 1, n))
harm = (five / six)[n - 2 :].log()  # what order 6 costs more, after five characters
_, _, contexts, totals, _ = counters[n].tables[-1]
seen = lookup(contexts, totals, ngram_codes(validation_ids, n, V) // V)
groups = {"never": (0, 1), "once": (1, 2), "2 to 4": (2, 5), "5 or more": (5, n_train)}
for name, (low, high) in groups.items():
    here = (low <= seen) & (seen < high)
    each, whole = harm[here].mean(), harm[here].sum() / len(harm)
    share_of_places = here.double().mean()
    print(f"{name:9} {share_of_places:4.0%}: {each:+.3f} each, {whole:+.3f} in all")
if text.is_real:
    assert abs(n_gram[1] - unigram) < 1e-3, "order 1 is the unigram model from above"
    assert n_gram[6] > n_gram[5], "longer contexts are believed too soon"

# %% [markdown]
# A new context does no harm: the rule falls back. One met once harms most, place by place, but half of the harm comes
# from contexts met five times and more: the rule trusts them too soon as well.
#
# ## Counting with more care
#
# That is the rule's fault, not counting's. The rule of **Kneser and Ney** (1995), refined by Chen and Goodman (1999),
# came out best in their comparison.
#
# **A count of one is mostly luck.** So every count pays a *discount* to the shorter context: $D_1$ from one, $D_2$
# from two, $D_3$ from three or more. N-grams seen $k$ times here would be seen less often in a new text as long;
# $D_k$ is that shortfall. We take the estimate on trust: with $n_k$ n-grams seen $k$ times,
# $D_k = k - (k+1)\,Y\,n_{k+1}/n_k$ and $Y = n_1/(n_1 + 2n_2)$.


# %% tags=["export"]
def discounts(counts):
    """What is taken off a count of 0, of 1, of 2, and of 3 or more: (K,) int64 -> (4,)."""
    seen = [max(1, (counts == k).sum().item()) for k in (1, 2, 3, 4)]
    Y = seen[0] / (seen[0] + 2 * seen[1])
    D = [k - (k + 1) * Y * seen[k] / seen[k - 1] for k in (1, 2, 3)]
    least = 0.1  # in a tiny text a D may be negative, and something must be left over
    return torch.tensor([0, *(max(d, least) for d in D)], dtype=torch.float64)


# %%
for n in (2, 4, 6):
    _, seen, *_ = count_ngrams(ngram_codes(train_ids, n, V), V)
    taken = [round(d, 2) for d in discounts(seen).tolist()[1:]]
    print(f"order {n}: {(seen == 1).float().mean():.0%} seen once; D = {taken}")

# %% [markdown]
# **A shorter context is asked only where the longer one doesn't know.** Then *how often* a character came there
# matters less than *in how many different places*. Here *h* is frequent, but mostly in *th*, *sh* and *wh*; elsewhere
# it is unlikely. So below the longest order an n-gram counts once for each different character before it: in
# *abracadabra* *b* once, as only *a* precedes it.

# %%
different = ngram_codes(train_ids, 2, V).unique()  # each pair once, however frequent
places = torch.bincount(different % V, minlength=V)  # % V: the second of the pair
for letter in (c for c in "hue" if c in tokenizer.alphabet):
    (i,) = tokenizer.encode(letter)
    print(f"{letter}: {share[i]:.1%} of all characters, after {places[i]} different ones")

# %% [markdown]
# Only the tables change: in the formula what is left of the counts replaces $c$, what was taken (`rest`) replaces
# $t$. You may skip this box.


# %% tags=["export"]
class KneserNey(WittenBell):
    """An n-gram model whose short contexts count places, and whose counts pay a discount.

    p(w|h) = (a(hw) - D) / a(h) + γ(h) p(w|h'); γ(h) is the share that the discounts D took. a
    counts n-grams of the full order, and for shorter ones the different characters before them.
    Kneser and Ney (1995), ICASSP; "modified" by Chen and Goodman (1999), Comput. Speech Lang. 13.
    """

    def count(self, ids, n):
        V = self.vocab_size
        codes = ngram_codes(ids, min(n + 1, self.order), V)
        if n < self.order:
            codes = codes.unique() % V**n  # without their first character
        grams, counts, contexts, totals, _ = count_ngrams(codes, V)
        taken = discounts(counts)[counts.clamp(max=3)]
        at = torch.searchsorted(contexts, grams // V)
        rest = torch.zeros(len(contexts), dtype=torch.float64).index_add_(0, at, taken)
        return grams, counts - taken, contexts, totals - rest, rest


# %% [markdown]
# > **Predict.** Will order 6 still lose to order 5? How much does the better rule gain?

# %%
careful, halves = {}, {}
for n in orders[1:]:
    counter = KneserNey(train_ids, n, V)
    careful[n] = counter.loss(validation_ids)
    halves[n] = [counter.loss(half) for half in validation_ids.chunk(2)]
compared = pd.DataFrame({"Witten–Bell": n_gram, "Kneser–Ney": careful})
compared.index.name = "order"
compared.round(3)

# %%
first, second = (min(halves, key=lambda n: halves[n][i]) for i in (0, 1))
print(f"order {first} is best on the first half, order {second} on the second")
if text.is_real:
    assert first == second, "either half would have chosen for the other"
    assert min(careful, key=careful.get) == 7, "two orders further than before"
    assert round(careful[7], 3) == 1.517, "with nothing but the same text, counted"

# %% [markdown]
# 0.15 nats less than the 5-gram; at order 5 it is already 0.11. At order 2 the rule hardly matters: nearly all pairs
# are seen often. (Choosing order 7 on the text that reports may flatter; but either half alone chooses it too.)
#
# **This is the line to cross.** Two layers pass the 5-gram within minutes (lesson 4); this line takes longer, or more
# layers (lesson 5). What no counting can do is *generalise*: see that two contexts are alike without being equal.
# That is what a Transformer is for.

# %% [markdown]
# ## What counting writes
#
# A model that guesses can write: draw the next character from its probabilities, append it, go on. `probabilities`
# judges a given text, so give it each possible next character after the same context: for *ab* in *abracadabra*, at
# order 3, *aba abb abc abd abr*. New is each third letter (2, 5, 8 …); the very first has no p, so these stand at 1,
# 4, 7 …: `[order - 2 :: order]`.


# %%
def next_probabilities(model, context):
    """p of each token after a context, which is cut to what the model sees: (V,)."""
    order, V = model.order, model.vocab_size
    seen = context[1 - order :]
    texts = torch.tensor([[*seen, w] for w in range(V)])  # (V, order), laid end to end:
    return model.probabilities(texts.flatten())[order - 2 :: order]


def write(model, prompt, n_new, seed=0):
    """Draw n_new characters, one by one, from an n-gram model of order 2 or more."""
    generator, out = torch.Generator().manual_seed(seed), list(prompt)
    for _ in range(n_new):
        p = next_probabilities(model, out)
        out.append(torch.multinomial(p, 1, generator=generator).item())
    return out


# %% [markdown]
# > **Predict.** From which order on will you recognise words? Lines that make sense?

# %%
best_order = min(careful, key=careful.get)
prompt = tokenizer.encode(text.text[: len("First Citizen:\n")])
for order in (2, 3, best_order):
    model = KneserNey(train_ids, order, V)
    assert abs(next_probabilities(model, prompt).sum() - 1) < 1e-9, "a distribution"
    print(f"--- order {order}\n{tokenizer.decode(write(model, prompt, 120))}\n")

# %% [markdown]
# Letters become syllables, then words, and a play takes shape: a name, a colon, a new line. Sense does not come.
#
# ## Back to the shuffled lines
#
# Same counter, another split:

# %%
lines = text.text.split("\n")
random.Random(0).shuffle(lines)
shuffled = "\n".join(lines)
mixed_train, mixed_validation = split(torch.tensor(tokenizer.encode(shuffled)))
fair = careful[best_order]
flattered = KneserNey(mixed_train, best_order, V).loss(mixed_validation)
print(f"by position {fair:.3f}, lines shuffled {flattered:.3f} nats/character,")
print(f"perplexity {math.exp(fair):.2f} and {math.exp(flattered):.2f}")

# %% [markdown]
# Much easier. Has the model read the scenes already, or is the last tenth just harder? Hold out other tenths, each in
# one piece:

# %%
tenth, by_tenth = len(ids) // 10, []
for i in (0, 3, 6):
    out = slice(i * tenth, (i + 1) * tenth)
    others = torch.cat([ids[: out.start], ids[out.stop :]])
    by_tenth.append(KneserNey(others, best_order, V).loss(ids[out]))
print("other tenths in one piece:", ", ".join(f"{loss:.3f}" for loss in by_tenth))
if text.is_real:
    assert flattered < min(by_tenth), "shuffled is easier than any in one piece"

# %% [markdown]
# Both, it seems. The others are easier too, so most of the gain is not the shuffle's. (A guess: only the last is
# mostly new plays.) But shuffled is easier still, probably because the model has read the very scenes. The model
# isn't better: its questions are easier. So we cut once, by position, and compare losses only on the same split.

# %% [markdown]
# ## The loss log
#
# Lessons 2 to 4 add their losses to this table. (Its n-grams are Witten and Bell's.)


# %% tags=["export"]
def baseline_losses(text):
    """What counting the first nine tenths of a text reaches on its last tenth.

    -> {"uniform": ln V, "unigram": …, "bigram": …, "5-gram": …, "Kneser–Ney": …}, in
    nats/character: the first four by Witten and Bell's rule, the last of order 7
    """
    tokenizer = CharTokenizer(text)
    train_ids, validation_ids = split(torch.tensor(tokenizer.encode(text)))
    V = tokenizer.vocab_size
    losses = {"uniform": math.log(V)}
    for order, name in ((1, "unigram"), (2, "bigram"), (5, "5-gram")):
        if V**order < 2**63:  # so that an n-gram can be one integer
            losses[name] = WittenBell(train_ids, order, V).loss(validation_ids)
    longest = max(order for order in range(1, 8) if V**order < 2**63)
    losses["Kneser–Ney"] = KneserNey(train_ids, longest, V).loss(validation_ids)
    return losses


# %%
losses = baseline_losses(text.text)
loss_log = pd.DataFrame({"nats/character": losses})
loss_log["perplexity"] = loss_log["nats/character"].map(math.exp)
loss_log.round(3)

# %%
figures.loss_bars(losses, title="What counting reaches, from worst to best", note=text.note)

# %% [markdown]
# ## What you built
#
# A tokenizer, a split, batches, a ladder of baselines: `course_utils.lessons.data`, written from this notebook.
#
# ## Questions
#
# **1.** Why must the alphabet come from the whole text, or the tokenizer be ready to refuse?
#
# <details><summary>Answer</summary>
#
# A character that only the last tenth has would get no id. </details>
#
# **2.** A model has a loss of 0.02 on the validation split. What do you suspect first?
#
# <details><summary>Answer</summary>
#
# The answer is in the question: targets not shifted, or a model that looks ahead. </details>
#
# **3.** Why does order 6 lose to order 5 by the first rule, and win by the second?
#
# <details><summary>Answer</summary>
#
# The first trusts long contexts too soon. The second discounts every count and falls back on places. </details>
#
# **4.** A friend reports a perplexity of 4.5 on "10 % of the lines, drawn at random". Better than your counter?
#
# <details><summary>Answer</summary>
#
# No. Such lines have neighbours in the training text; split like that, your counter has 4.0. </details>

# %% [markdown]
# ## Exercises
#
# Replace `...` or `None` and run the cell. It prints *right*, or *not yet* with a guess at the mistake.
#
# ### Exercise 1.1 · warm-up · 5 min
#
# Given the probabilities that a model gave to what really came, return its perplexity.
#
# <details><summary>Hint 1</summary>
#
# First the token losses, then their mean, then the exponential. </details>
#
# <details><summary>Hint 2</summary>
#
# All at probability 1/2: the answer is 2. </details>


# %% tags=["exercise"]
def perplexity(probabilities):
    """probabilities: a list of floats in (0, 1] -> float."""
    ...


checks.check("1.1", perplexity)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def perplexity(probabilities):
    return math.exp(sum(-math.log(p) for p in probabilities) / len(probabilities))


checks.check("1.1", perplexity, quiet=True)

# %% [markdown]
# ### Exercise 1.2 · warm-up · 5 min
#
# By hand, for the sizes below: from how many different places can `get_batch` take a window, and how many questions
# does a batch ask?
#
# <details><summary>Hint 1</summary>
#
# Try 5 characters and windows of 3. The last target must exist. </details>
#
# <details><summary>Hint 2</summary>
#
# A window takes `T + 1` characters. Every position asks one question. </details>

# %%
print(checks.sizes("1.2"))

# %% tags=["exercise"]
places, questions = None, None

checks.check("1.2", places and (places, questions))

# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
size = checks.sizes("1.2")
places, questions = size["N"] - size["T"], size["B"] * size["T"]

checks.check("1.2", (places, questions), quiet=True)

# %% [markdown]
# ### Exercise 1.3 · core · 15 min
#
# To judge a model on a *whole* split, make every prediction once: cut `ids` into windows of at most `T` tokens with
# their targets, without overlap. The last may be shorter.
#
# <details><summary>Hint 1</summary>
#
# `N` ids hold `N - 1` questions. Where does a window start, if the one before asked `T`? </details>
#
# <details><summary>Hint 2</summary>
#
# Cut `ids[:-1]` and `ids[1:]` alike (`torch.Tensor.split`). </details>


# %% tags=["exercise"]
def windows(ids, T):
    """ids: (N,) int64 -> a list of (tokens, targets), each of at most T."""
    ...


checks.check("1.3", windows)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def windows(ids, T):
    return list(zip(ids[:-1].split(T), ids[1:].split(T), strict=True))


checks.check("1.3", windows, quiet=True)

# %% [markdown]
# ### Exercise 1.4 · core · 20 min
#
# Write the bigram model as one function, with `extra` in place of the added 1: count on `train`, return the loss on
# `validation`. Which `extra` is best, and on which text may you look for it?
#
# <details><summary>Hint 1</summary>
#
# A row is for the character *before*, and sums to 1. </details>
#
# <details><summary>Hint 2</summary>
#
# Add `extra` before you sum a row. </details>
#
# <details><summary>The second half</summary>
#
# Choose on half of the last tenth, report on the other. </details>


# %% tags=["exercise"]
def bigram_loss(train, validation, vocab_size, extra):
    """train, validation: (N,) and (M,) int64 -> float, nats/character."""
    ...


checks.check("1.4", bigram_loss)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def bigram_loss(train, validation, vocab_size, extra):
    table = torch.full((vocab_size, vocab_size), float(extra), dtype=torch.float64)
    ones = torch.ones(len(train) - 1, dtype=torch.float64)
    table.index_put_((train[:-1], train[1:]), ones, accumulate=True)
    table /= table.sum(dim=1, keepdim=True)
    return -table[validation[:-1], validation[1:]].log().mean().item()


checks.check("1.4", bigram_loss, quiet=True)

# %% [markdown]
# ### Exercise 1.5 · stretch · 120 min
#
# Byte-pair encoding: `n_merges` times, find the most frequent pair of neighbours (on a tie, the smallest), give it
# the next free id (`vocab_size` is the first), and replace it everywhere, from left to right.
#
# Then cut Shakespeare with 500 merges, count a 3-gram on the pieces, and turn its loss *per piece* into nats per
# *character*. Does it beat the 5-gram?

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# One function counts pairs (`collections.Counter(zip(ids, ids[1:]))`), one replaces a pair. </details>
#
# <details><summary>Hint 2</summary>
#
# In *aaa*, replace *aa* once and go on behind it. </details>
#
# <details><summary>The second half</summary>
#
# Collect merges on the first nine tenths, replay them on the last (minutes in plain Python). However it is cut, the
# text is the same: loss per piece × pieces ÷ characters. Our Kneser–Ney 3-gram had 1.641 nats per character: better
# than the 5-gram (1.669), worse than order 7. </details>


# %% tags=["exercise"]
def byte_pairs(ids, vocab_size, n_merges):
    """ids: a list of ints below vocab_size -> the list after n_merges merges."""
    ...


checks.check("1.5", byte_pairs)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
from collections import Counter
from itertools import pairwise


def byte_pairs(ids, vocab_size, n_merges):
    for new in range(vocab_size, vocab_size + n_merges):
        counts, merged, i = Counter(pairwise(ids)), [], 0
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        while i < len(ids):
            is_best = tuple(ids[i : i + 2]) == best
            merged.append(new if is_best else ids[i])
            i += 2 if is_best else 1
        ids = merged
    return ids


checks.check("1.5", byte_pairs, quiet=True)

# %% [markdown]
# ### Exercise 1.6 · core · 20 min
#
# A colleague's `get_batch` runs, shapes and loss look right; yet something is off by one. Write the test: True for a
# `get_batch(ids, batch_size, context_length, seed)` that can be trusted and obeys its seed, else False.
#
# <details><summary>Hint 1</summary>
#
# If `ids = torch.arange(N)`, what must hold between tokens and targets? </details>
#
# <details><summary>Hint 2</summary>
#
# Where should a few hundred windows of `T + 3` ids start? And with the same seed again, or another? </details>


# %% tags=["exercise"]
def can_be_trusted(get_batch):
    """get_batch(ids, batch_size, context_length, seed) -> True or False"""
    ...


checks.check("1.6", can_be_trusted)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def can_be_trusted(get_batch):
    T, ids = 5, torch.arange(8)  # three places to start from
    tokens, targets = get_batch(ids, 200, T, 0)
    return (
        torch.equal(tokens, tokens[:, :1] + torch.arange(T))
        and torch.equal(targets, tokens + 1)
        and set(tokens[:, 0].tolist()) == {0, 1, 2}
        and torch.equal(tokens, get_batch(ids, 200, T, 0)[0])
        and not torch.equal(tokens, get_batch(ids, 200, T, 1)[0])
    )


checks.check("1.6", can_be_trusted, quiet=True)

# %% [markdown]
# ## Test yourself
#
# **1.** A model's loss falls by ln 2. Its perplexity …
# (a) falls by 2 · (b) halves · (c) depends on the alphabet.
#
# <details><summary>Answer</summary>
#
# (b). Differences of losses are *ratios* of perplexities, whatever the alphabet. </details>

# %% [markdown]
# **2.** Two models differ in their alphabet (65 characters, 500 pieces). You may compare …
# (a) losses per token · (b) perplexities per token · (c) losses per character.
#
# <details><summary>Answer</summary>
#
# (c). The others reward cutting finer: each token is easier to guess. </details>

# %% [markdown]
# **Next:** [2 · Attention](02_attention.ipynb), where a position learns whom to listen to.
