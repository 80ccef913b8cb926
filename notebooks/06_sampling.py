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
# # 6 · Sampling: letting it speak
#
# A trained model gives a probability to each next character. Which one do you take? Always the likeliest, and it
# goes in circles; any one by its probability, and now and then it says something absurd. This lesson is about the ground
# between: temperature, top-k, top-p. And about speed, and about telling a good text from a lucky one.

# %% [markdown]
# **You will be able to** write every common sampling rule in a few lines · say what each does to the distribution ·
# make generation fast with a key-value cache, and say what it costs · measure a text against human text.
#
# **You need** [lesson 3](03_model.ipynb); trained models come from [lesson 5](05_ablation.ipynb) or with the course.
# **Time:** 50 minutes of reading; a minute or two of computing on a laptop, less on a GPU.

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

# %%
import time

import pandas as pd

from course_utils import checks, corpus, figures, widgets
from course_utils.generation import quality
from course_utils.lessons.data import CharTokenizer, split
from course_utils.training import runs

# %% [markdown]
# Three models speak in this lesson: 2, 4 and 6 layers, yours if you have trained them, else the published ones.

# %%
text = corpus.load()
print(text.describe())
tokenizer = CharTokenizer(text.text)
models = runs.depth_models(text)
model = models["6 layers"].eval()
device, context = next(model.parameters()).device, model.config.context_length

# %% [markdown]
# ## The whole thing first
#
# A model doesn't write. It reads, and gives probabilities; somebody has to choose, append, and ask again. That loop is
# all there is to writing, and the choice is the one part that is left open.

# %%
prompt = text.fitting_prompt("ROMEO:\nI will ")
tokens = torch.tensor([tokenizer.encode(prompt)], device=device)


@torch.no_grad()
def write_with(choose, n=240):
    written = tokens
    for _ in range(n):
        logits = model(written[:, -context:])[:, -1]
        written = torch.cat([written, choose(logits)], dim=1)
    return tokenizer.decode(written[0])


# %% [markdown]
# Two choices come to mind: the likeliest character, or any character by its probability. Before you run them: one of the
# two will read badly after three lines. Which, and how?

# %%
torch.manual_seed(0)
likeliest = write_with(lambda logits: logits.argmax(-1, keepdim=True))
print("── the likeliest\n" + likeliest)
drawn = write_with(lambda logits: torch.multinomial(logits.softmax(-1), 1))
print("\n── by probability\n" + drawn)

# %% [markdown]
# The likeliest goes in circles, although each single choice was the best one. The other never repeats itself, and breaks
# words that it had begun well. Everything below lies between these two.

# %% [markdown]
# ## Where broken words come from
#
# Look at one choice. How many characters are serious candidates after this prompt, would you say?

# %%
with torch.no_grad():
    logits = model(tokens)[0, -1].cpu()
probabilities = logits.softmax(dim=-1)
before = pd.Series(probabilities, index=list(tokenizer.alphabet))
before.nlargest(12).round(4).to_frame("probability").T

# %%
rare = before[before < 0.01]
print(f"{before.nlargest(5).sum():.0%} of the mass lies on five characters")
print(f"{len(rare)} characters have less than 1 % each, together {rare.sum():.1%}")

# %% [markdown]
# After a space many characters are right, rare ones too: *keep* and *obey* begin with some of them. And inside a word?

# %%
with torch.no_grad():
    inside = model(tokens[:, :-2])[0, -1].cpu()  # before the last letter and the space
slip = 1 - inside.softmax(-1).max().item()
print(f"after {prompt[:-2]!r}: {slip:.1%} on all but the likeliest,", end=" ")
print(f"{500 * slip:.0f} slips in 500 such choices")

# %% [markdown]
# There one is right, and nearly every other choice breaks the word. How often that happens in a whole text is counted below,
# where texts are measured: the share of *invented words*. A model that has made a slip reads it as part of the text, a
# thing that it never met in training (**exposure bias**); whether the next slip becomes likelier then is a guess.

# %% [markdown]
# ## Drawing is a race
#
# To draw by probabilities, let each token run: its time is exponential, its speed is its probability. The first to arrive
# is token $i$ with probability
#
# $$P(i \text{ first}) = \frac{p_i}{\sum_j p_j}$$
#
# (competing exponentials; in logits it is the Gumbel trick of Maddison et al., 2014). A token of probability 0 never
# arrives; and the whole race is one division and one `argmax`, for as many texts at once as you like.


# %% tags=["export"]
def draw(logits, generator=None):
    """One token a row, by the probabilities of its logits: (B, V) -> (B, 1).

    A race: each token takes a random time, the shorter the likelier it is, and the
    first to arrive is drawn.
    """
    speeds = logits.softmax(dim=-1)
    lengths = torch.empty_like(speeds).exponential_(generator=generator)
    return (speeds / lengths).argmax(dim=-1, keepdim=True)


# %%
n = 20_000
drawn = draw(logits.expand(n, -1), torch.Generator().manual_seed(0)).flatten()
drawn = drawn.bincount(minlength=len(logits)) / n
deviation = (probabilities * (1 - probabilities) / n).sqrt()
near = (drawn - probabilities).abs() < 5 * deviation + 1 / n
assert near.all(), "each as often as its probability says"

# %% [markdown]
# ## Temperature
#
# Divide the logits by a number $\tau$ before the softmax, and the distribution becomes narrower or wider (Ackley, Hinton
# and Sejnowski, 1985):
#
# $$p_i \propto e^{z_i / \tau}$$
#
# At 1 it is the model's own. Towards 0 the best takes all: greedy. Towards infinity all are equal. How wide is a
# choice? Its entropy $-\sum p_i \ln p_i$ says so in nats, and $e$ to the entropy is a number of equally likely characters.
#
# Predict two curves over the temperature: after a word's end, where much can follow, and inside a word.

# %%
temperatures = torch.linspace(0.05, 3.0, 60)
entropies = {}
for seen, z in {prompt: logits, prompt[:-2]: inside}.items():
    each = torch.distributions.Categorical(logits=z / temperatures[:, None]).entropy()
    assert (each.diff() > -1e-5).all(), "wider with every degree"
    entropies[repr(seen[-5:])] = each

# %%
labels = ("temperature", "entropy (nats)")
all_equal = {"all equal": math.log(tokenizer.vocab_size)}
title = "Entropy of the next character, by what came before"
look = {"baselines": all_equal, "title": title, "note": text.note}
figures.lines(temperatures, entropies, *labels, **look)

# %% [markdown]
# Where the model is sure, a temperature below 1 has nothing left to sharpen; where it is not, it cuts the choices down. Above 1
# even the sure place opens, and from there on words fall apart. One knob for all places is a blunt tool.

# %% [markdown]
# ## Top-k and top-p
#
# Temperature moves every bar and drops none. **Top-k** (Fan et al., 2018) keeps the $k$ best. **Top-p** (Holtzman et al.,
# 2020) keeps the smallest set whose mass reaches $p$, so it is narrow where the model is sure and wide where it is not.
# Together: temperature, then top-k, then top-p over what is left. First, what a setting may be:


# %% tags=["export"]
def check_sampling(temperature=1.0, top_k=None, top_p=None, max_new_tokens=0):
    """ValueError, with what is allowed, for a setting that means nothing."""
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens must be at least 0, not {max_new_tokens!r}")
    if not 0 <= temperature < math.inf:
        allowed = "a number of at least 0 (0 is greedy)"
        raise ValueError(f"temperature must be {allowed}, not {temperature!r}")
    if top_k is not None and (top_k < 1 or top_k % 1):
        raise ValueError(f"top_k must be a whole number of at least 1, not {top_k!r}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must lie in (0, 1], not {top_p!r}")


# %% [markdown]
# Then the rule itself. A dropped token gets $-\infty$, since $e^{-\infty}$ is 0 and nothing else is.


# %% tags=["export"]
def filter_logits(logits, temperature=1.0, top_k=None, top_p=None):
    """Temperature, then top-k, then top-p over what is left; dropped tokens become -inf.

    logits: (..., V) float -> (..., V). temperature 0 keeps the best token alone. Those that
    tie with the k-th stay. top_p keeps the smallest set whose mass reaches p, at least one
    token (Holtzman et al., 2020). None switches a filter off.
    """
    check_sampling(temperature, top_k, top_p)
    if temperature == 0:
        others = torch.ones_like(logits, dtype=torch.bool)
        others = others.scatter(-1, logits.argmax(-1, keepdim=True), False)
        return logits.masked_fill(others, -math.inf)
    if temperature != 1:
        tiny = torch.finfo(logits.dtype).tiny  # below it the best has all
        temperature = min(max(temperature, tiny), 1 / tiny)  # above, all are alike
        best = logits.amax(dim=-1, keepdim=True)
        logits = (logits - best) / temperature  # at most 0, which never overflows
    if top_k is not None:
        kth = logits.topk(min(int(top_k), logits.shape[-1])).values[..., -1:]
        logits = logits.masked_fill(logits < kth, -math.inf)
    if top_p is not None and top_p < 1:
        rising, order = logits.sort(dim=-1)
        tail = rising.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p  # not needed for p
        tail[..., -1] = False  # the best token stays, however small p is
        logits = logits.masked_fill(tail.scatter(-1, order, tail), -math.inf)
    return logits


# %% [markdown]
# Check it on numbers that you can do in your head: probabilities 0.5, 0.25, 0.15, 0.1.

# %% tags=["nbval-check-output"]
easy = torch.tensor([0.5, 0.25, 0.15, 0.1]).log()
rules = [{"temperature": 0}, {"temperature": 0.5}, {"top_k": 2}]
rules += [{"top_p": 0.7}, {"top_k": 3, "top_p": 0.8}]
for settings in rules:
    shares = filter_logits(easy, **settings).softmax(-1).tolist()
    print(settings, [round(p, 2) for p in shares])

# %% [markdown]
# Why top-p *after* top-k? So that $p$ is a share of what can still be drawn. In the last line top-k leaves 0.5, 0.25,
# 0.15, which become 0.56, 0.28, 0.17, and the first two of these reach 0.8 already. The other way round, three stay.

# %%
k_then_p = filter_logits(filter_logits(easy, top_k=3), top_p=0.8)
p_then_k = filter_logits(filter_logits(easy, top_p=0.8), top_k=3)
kept = [(z > -math.inf).sum().item() for z in (k_then_p, p_then_k)]
assert kept == [2, 3], "the order is part of the rule"
assert torch.equal(filter_logits(easy, top_k=3, top_p=0.8), k_then_p)

# %% [markdown]
# Break it once, as many have: write a tiny number, $10^{-10}$, in place of $-\infty$. Logits are not probabilities: the
# rare characters have logits far below $10^{-10}$. With the five best kept, what will become of those that had less than
# 1 % each?

# %%
five = filter_logits(logits, top_k=5)
broken = five.masked_fill(five == -math.inf, 1e-10).softmax(-1)
unlikely = torch.tensor((before < 0.01).to_numpy())
print(f"the rare ones: {rare.sum():.1%} for the model,", end=" ")
print(f"{broken[unlikely].sum():.1%} after the broken filter,", end=" ")
print(f"{five.softmax(-1)[unlikely].sum():.0%} after ours")

# %% [markdown]
# The filter feeds what it should starve, and nothing fails: only the text is odd. Now the right rules, on the real
# distribution, before and after:

# %%
rules = [{"temperature": 0.5}, {"temperature": 1.5}, {"top_k": 3}, {"top_p": 0.8}]
columns = {"before": before}
for settings in rules:
    name = ", ".join(f"{name} {value}" for name, value in settings.items())
    columns[name] = filter_logits(logits, **settings).softmax(-1)
table, title = pd.DataFrame(columns), f"What follows {prompt!r}"
figures.next_character(table, title=title, note=text.note)

# %% [markdown]
# Temperature moves every bar; top-k and top-p drop bars and raise those that stay, all by the same factor.

# %% [markdown]
# ## What surprises a model
#
# Let the three models read a line that none has seen. A character's *token loss* is $-\ln p$ of it; the mean over a text is
# the loss that you know. Where in a line will the dark and the bright places be?

# %%
held_out = split(text.text)[1]
lines = held_out[1000:4000].splitlines()[1:]
line = max((x for x in lines if len(x) <= min(44, context - 4)), key=len)
n, end = len(line), held_out.index(line) + len(line)
seen = held_out[max(0, end - context) : end]
ids = torch.tensor([tokenizer.encode(seen)], device=device)
with torch.no_grad():
    read = {arm: m.eval()(ids)[0, -n - 1 : -1].cpu() for arm, m in models.items()}
targets = ids[0, -n:].cpu()
losses = {arm: -z.log_softmax(-1)[range(n), targets] for arm, z in read.items()}

# %%
rows = [m.config.n_layers for m in models.values()]
labels = ("layers", "the next character of the line", "token loss (nats)")
look = {"labels": labels, "title": "The loss of each character", "note": text.note}
figures.heatmaps(torch.stack(list(losses.values())), rows, list(line), **look)

# %%
for arm, each in losses.items():
    print(f"{arm}: {each.mean():.2f} nats/character on this line,", end=" ")
    print(f"at most {each.max():.1f} at one place")

# %% [markdown]
# Beginnings of words are mostly bright, the rest of a word is mostly dark: that is where the loss of a character model lies. (Which
# depth wins on one line is luck; the whole validation text decides.) The same places decide how many characters top-p
# keeps. Below each character, how many candidates the 6-layer model had there (9: nine or more):

# %%
print(f"{'':12}{line}")
for p in (0.5, 0.9):
    kept = (filter_logits(read["6 layers"], top_p=p) > -math.inf).sum(-1).tolist()
    digits = "".join(str(min(9, n)) for n in kept)
    print(f"{f'top-p {p}':12}{digits}   from {min(kept)} to {max(kept)}")

# %% [markdown]
# A fixed $k$ can't do that: large enough for the beginning of a word, it lets nonsense into the middle.

# %% [markdown]
# ## Writing fast
#
# In the plain loop each new character makes the model read the whole text anew, although nothing in the past has changed:
# the mask sees to that. A **key-value cache** keeps each layer's keys and values, so that only the newest character passes
# through the model.

# %%
figures.kv_cache(7, title="What a cache keeps, and what is new")


# %% tags=["export"]
class KVCache:
    """One layer's keys and values for the tokens read so far, each computed once."""

    def __init__(self, context_length):
        self.context_length, self.length = context_length, 0

    def extend(self, k, v):
        """Append k, v: (B, H, T, D) and return all so far: 2 × (B, H, length, D)."""
        if self.length == 0:
            B, H, _, D = k.shape
            self.k, self.v = (k.new_empty(B, H, self.context_length, D) for _ in range(2))
        start, self.length = self.length, self.length + k.shape[-2]
        self.k[:, :, start : self.length] = k
        self.v[:, :, start : self.length] = v
        return self.k[:, :, : self.length], self.v[:, :, : self.length]


# %% [markdown]
# And when the text outgrows the context? The model must forget the oldest part. If the window moved by one each
# time, the cached keys would be wrong in every layer but the first (they were computed from characters that are no longer
# seen), and the cache would be useless. So the window jumps by half a context, and then lasts for that long.


# %% tags=["export"]
def window_start(length, context_length):
    """Where the model begins to read a text of `length` tokens.

    0 while the text fits; then the window moves in jumps of half a context, so that a cache
    lives that long. A long text is read with at least half a context, at most a whole one.
    """
    jump = max(1, context_length // 2)
    return max(0, -(-(length - context_length) // jump) * jump)


# %% tags=["nbval-check-output"]
lengths = (1, 8, 9, 12, 13, 16, 17)
print([(length, window_start(length, context_length=8)) for length in lengths])

# %%
lengths = range(1, 4 * context)
seen = {
    "jumps, cached": [length - window_start(length, context) for length in lengths],
    "slides, no cache": [min(length, context) for length in lengths],
}
labels = ("length of the text (characters)", "read by the model (characters)")
title = f"What a context of {context} characters sees"
figures.lines(lengths, seen, *labels, title=title, note=text.note)

# %% [markdown]
# The price is the saw: just after a jump the model knows half as much as it could. What it buys comes in a minute. The loop
# is the one that you know, with a cache that begins anew at each jump:


# %% tags=["export"]
@torch.no_grad()
def stream(model, tokens, max_new_tokens, temperature=1.0, top_k=None, top_p=None, generator=None):
    """Yield one new token (B, 1) after the other; each continues tokens (B, T).

    The model is used as it is: call model.eval() first, or dropout garbles the text.
    """
    check_sampling(temperature, top_k, top_p, max_new_tokens)
    if tokens.ndim != 2 or tokens.shape[1] == 0:
        shape = "tokens of shape (B, T), T >= 1"
        raise ValueError(f"generation needs a prompt of at least one character: {shape}")
    context, start = model.config.context_length, None
    for _ in range(max_new_tokens):
        begin = window_start(tokens.shape[1], context)
        if begin != start:  # a new window is read from its beginning
            start = read_to = begin
            cache = [KVCache(context) for _ in range(model.config.n_layers)]
        logits = model(tokens[:, read_to:], cache)[:, -1]
        read_to = tokens.shape[1]
        token = draw(filter_logits(logits, temperature, top_k, top_p), generator)
        tokens = torch.cat([tokens, token], dim=1)
        yield token


# %% tags=["export"]
def generate(
    model, tokens, max_new_tokens, temperature=1.0, top_k=None, top_p=None, generator=None
):
    """Continue each row by max_new_tokens, dropout off: tokens (B, T) int64 -> (B, T + N).

    Sampling means what filter_logits says. A text longer than the context is read from
    window_start on.
    """
    was_training = model.training
    model.eval()
    try:
        settings = (temperature, top_k, top_p, generator)
        new = list(stream(model, tokens, max_new_tokens, *settings))
    finally:
        model.train(was_training)
    return torch.cat([tokens, *new], dim=1)


# %% [markdown]
# The cache must change nothing but the time. So compare it with a loop that reads the same windows anew at each character,
# past the context length too (a window that slides would read more, and write another text there). Predict how many
# times as fast the cache is.


# %%
@torch.no_grad()
def generate_plainly(model, tokens, max_new_tokens, generator):
    for _ in range(max_new_tokens):
        seen = tokens[:, window_start(tokens.shape[1], context) :]
        tokens = torch.cat([tokens, draw(model(seen)[:, -1], generator)], dim=1)
    return tokens


took, texts = {}, {}
for name, method in {"plain": generate_plainly, "cached": generate}.items():
    begin, generator = time.perf_counter(), torch.Generator(device).manual_seed(0)
    texts[name] = method(model, tokens, 2 * context, generator=generator)
    took[name] = time.perf_counter() - begin
assert torch.equal(texts["plain"], texts["cached"]), "a cache changes only the time"
times = took["plain"] / took["cached"]
print(f"{2 * context} characters, {times:.1f} times as fast as the plain way")

# %% [markdown]
# Why no more than that? Measure one character, by the length of the text before it, with and without a cache. Which
# line will rise, and which stay?


# %%
@torch.no_grad()
def milliseconds(length, keep):
    seen, cache = torch.zeros(1, length, dtype=torch.int64, device=device), None
    if keep:
        cache = [KVCache(context) for _ in range(model.config.n_layers)]
        model(seen[:, :-1], cache)
    best = math.inf
    for _ in range(20):
        begin = time.perf_counter()
        model(seen[:, -1:] if keep else seen, cache).cpu()
        best = min(best, 1000 * (time.perf_counter() - begin))
        for layer in cache or []:
            layer.length -= 1  # as if it had not been read
    return best


# %%
lengths = range(context // 8, context + 1, context // 8)
ways = {"without": False, "with a cache": True}
each = {name: [milliseconds(n, keep) for n in lengths] for name, keep in ways.items()}
labels = ("length of the text (characters)", "one more character (ms)")
title = "What a cache saves"
figures.lines(lengths, each, *labels, low=0, title=title, note=text.note)

# %% [markdown]
# Without a cache, the time grows with the text; with one it stays. But it stays well above zero: a model this small spends
# its time on starting operations, which one character needs as much as a hundred. (That is what the package's writer
# saves on.) The larger the model and the longer the text, the more a cache gains.

# %% [markdown]
# What does it cost? A key and a value of `d_model` numbers, for each layer and each character, of each text:

# %%
c, cache = model.config, [KVCache(context) for _ in range(model.config.n_layers)]
with torch.no_grad():
    model(tokens, cache)
held = sum(layer.k.nbytes + layer.v.nbytes for layer in cache)
formula = 2 * c.n_layers * c.context_length * c.d_model * 4
assert held == formula, "keys and values, 4 bytes a number"
weights = sum(w.nbytes for w in model.parameters())
for n in (1, 64):
    print(f"texts: {n}; cache: {n * held / 1e6:.1f} MB; weights: {weights / 1e6:.1f} MB")

# %% [markdown]
# For one text it is small; for many, or for a long context, it is the larger part. That is why whoever serves large models
# saves on keys and values before anything else.

# %% [markdown]
# ## Hear it
#
# The same model, prompt and seed under four rules. Read them aloud.

# %%
judge = quality.Judge(text)
rules = [{"temperature": 0.0}, {"temperature": 0.7}]
rules += [{"temperature": 1.0, "top_p": 0.9}, {"temperature": 1.5}]
for settings in rules:
    written = judge.sample(model, prompt, 160, seed=1, **settings)
    print(f"── {settings}\n{prompt}{written}\n")

# %% [markdown]
# Greedy is stuck again. A loop feeds itself: a model that has just read a phrase finds it likely once more, more so each
# time round, and greedy has no way out, because it never does anything unlikely.
#
# An ear is one judge; counting is another. The share of 20-character stretches that the same text has had before is
# *repetition*; the share of words that occur nowhere in the training text is *invented words*. Eight texts at each
# temperature (at 0 they are one): draw both shares in your mind. Where do they cross, and where is a human?

# %%
degrees, length = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4), 4 * context
shares = {"repetition": [], "invented words": []}
for degree in degrees:
    generator = torch.Generator(device).manual_seed(0)
    rows = generate(model, tokens.expand(8, -1), length, degree, generator=generator)
    eight = [tokenizer.decode(row[tokens.shape[1] :]) for row in rows]
    known = [quality.known_words(one, judge.vocabulary) for one in eight]
    shares["repetition"].append(sum(map(quality.repetition, eight)) / 8)
    shares["invented words"].append(1 - sum(known) / 8)
human = pd.DataFrame(judge.human(length))[["known_words", "repetition"]].mean()
marks = {"human, invented": 1 - human["known_words"]}
marks["human, repetition"] = human["repetition"]

# %%
look = {"baselines": marks, "title": "Two ways to go wrong", "note": text.note}
figures.lines(degrees, shares, "temperature", "share", **look)

# %% [markdown]
# Cold repeats, warm invents; they cross near the cold end, and between them is a stretch where neither is bad. A human invents a
# little too, as much as the model at a middle temperature: names and
# words of new pages that the training text lacks. So the best share is the human one, not zero.

# %% [markdown]
# ## Which depth writes best?
#
# Same prompt, same seed, same rule; only the depth differs. Can you tell which is which, with the names covered?

# %%
for arm, one in models.items():
    settings = {"temperature": 0.8, "top_p": 0.95}
    written = judge.sample(one, prompt, 160, seed=3, **settings)
    print(f"── {arm}\n{prompt}{written}\n")

# %% [markdown]
# Not easily: a text of three lines is one draw. So measure longer ones, and beside them, because a number alone says
# nothing, a human: stretches of the validation text, which no model has seen.
#
# * **distinct-2** (Li et al., 2016): different word pairs as a share of all; low means repetitive.
# * **repetition** and **known words**: as above; invented words are what is missing to 100 %.
# * **longest copy**: the longest stretch that stands letter for letter in the training text. The human row shows how
#   much of that is chance.
# * **5-gram loss**: the loss that lesson 1's counter has on the text; another judge, though it learned from the same text.

# %%
table = quality.compare_samples(models, judge, prompt, 8 * context)
settings = ["temperature", "top_k", "top_p"]
columns = ["distinct_2", "repetition", "known_words", "longest_copy", "five_gram_loss"]
shown = table.convert_dtypes()
shown[settings] = shown[settings].astype(object).fillna("–")
shown.groupby(["arm", *settings], sort=False)[columns].mean().round(3)

# %%
samples = table[table["arm"] != quality.HUMAN]
greedy = quality.like(samples, {"temperature": 0.0})["repetition"].mean()
free = quality.like(samples, {"temperature": 1.0})["repetition"].mean()
print(f"repetition: greedy {greedy:.0%}, temperature 1 {free:.0%}")
if text.is_real and losses["6 layers"].mean() < 2:  # a model that has learned something
    assert greedy > free, "the likeliest text goes in circles"

# %% [markdown]
# Read every column against the last row, itself a mean of few stretches. Most rules that cut or cool make a text easier to
# predict than a human's: a lower 5-gram loss. Greedy goes furthest, and there *repetition* and *distinct-2* show that it
# is poverty, not quality. At temperature 1 nothing is repeated, and more of the words are invented; a little cooler, more of them are
# real. No setting wins every column, and each row is one draw; the loss of a model, which needs no sampling, has no such luck in it.

# %% [markdown]
# ## Move it yourself
#
# Ten lines make a playground: a function of the settings, and a slider for each. The picture shows where they start.


# %%
def play(temperature, top_k, top_p):
    after = filter_logits(logits, temperature, top_k, top_p).softmax(-1)
    table = pd.DataFrame({"before": before, "after": after})
    return figures.next_character(table, title=f"What follows {prompt!r}", note=text.note)


V = tokenizer.vocab_size
play(temperature=0.8, top_k=V, top_p=0.9)

# %%
degrees, mass = (0.0, 2.0, 0.05, 0.8), (0.05, 1.0, 0.05, 0.9)  # low, high, step, start
widgets.sliders(play, temperature=degrees, top_k=(1, V, 1, V), top_p=mass)

# %% [markdown]
# The course's own widget grew from these ten lines: it writes while you watch, and lets all three models write at once
# under the same luck. First as a picture, their texts and measures under one rule:

# %%
figures.sample_comparison(quality.like(table, quality.SETTINGS[-1]), note=text.note)

# %% [markdown]
# Now alive. Three things to try: pull the temperature to 0 and wait for the loop; set 1.5 with top-p off, then close top-p
# slowly until words come back; write a first line of your own, tick *all side by side*, and see which depth stays with it
# longest.

# %%
widgets.sampler(models, tokenizer, prompt, temperature=0.8, top_p=0.95)

# %% [markdown]
# ## What you built
#
# Every sampling rule in one function that means what the libraries mean, a cache that is exact and whose price you know,
# and a yardstick for text.

# %% [markdown]
# ## Questions
#
# **1.** Top-k 1 and temperature 0: do they ever differ?
#
# <details><summary>Answer</summary>
#
# Only on a tie: top-k keeps all that equal the k-th, and draws among them; greedy takes the first. </details>
#
# **2.** Why does top-p adapt to how sure the model is, and top-k not?
#
# <details><summary>Answer</summary>
#
# Top-p counts mass: where one character has 0.95 it keeps that one, where many share the mass it keeps many. Top-k counts heads. </details>
#
# **3.** A model copies 40 characters from its training text. Where would you look for the reason?
#
# <details><summary>Answer</summary>
#
# At how often the passage occurs in training, at how long the model trained beyond its best validation loss, and at a low temperature, which follows the likeliest path. </details>
#
# **4.** With a cache of 8 texts at a time, what grows by 8, and what does not?
#
# <details><summary>Answer</summary>
#
# Keys and values grow by 8, the weights do not. Reading the weights is what a step mostly waits for, so 8 texts cost little more time than one. </details>

# %% [markdown]
# ## Exercises
#
# Write the body of each stub and run its cell; the answer says what is not right yet. Solutions are folded below.

# %% [markdown]
# ### Exercise 6.1 · warm-up · 5 min
#
# How many bytes do the keys and values of a model take, for so many texts at once, when every number is a float32?
#
# <details><summary>Hint 1</summary>
#
# Each layer keeps two vectors of `d_model` numbers for each character of each text. </details>
#
# <details><summary>Hint 2</summary>
#
# The number of heads does not matter: they share the `d_model` numbers. A float32 has 4 bytes. </details>


# %% tags=["exercise"]
def cache_bytes(n_layers, d_model, context_length, texts):
    """The size of a full key-value cache in float32, in bytes."""
    ...


checks.check("6.1", cache_bytes)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def cache_bytes(n_layers, d_model, context_length, texts):
    return 2 * n_layers * texts * context_length * d_model * 4


checks.check("6.1", cache_bytes, quiet=True)

# %% [markdown]
# ### Exercise 6.2 · warm-up · 10 min
#
# Turn logits into probabilities under a temperature, which may be 0: then the best token has 1, the first one where
# several tie. The logits may have any leading shape.
#
# <details><summary>Hint 1</summary>
#
# You can't divide by 0. Give it its own branch, as `filter_logits` does. </details>
#
# <details><summary>Hint 2</summary>
#
# `argmax(-1)` finds the best; `torch.nn.functional.one_hot` or `scatter` turns its place into a distribution. </details>


# %% tags=["exercise"]
def shares_at(logits, temperature):
    """logits: (..., V) float, temperature >= 0 -> (..., V) probabilities"""
    ...


checks.check("6.2", shares_at)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def shares_at(logits, temperature):
    if temperature == 0:
        best = torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1])
        return best.to(logits.dtype)
    return ((logits - logits.amax(-1, keepdim=True)) / temperature).softmax(-1)


checks.check("6.2", shares_at, quiet=True)

# %% [markdown]
# ### Exercise 6.3 · core · 10 min
#
# The entropy, in nats, of the distribution that filtered logits stand for. Some of them are $-\infty$; a dropped token
# adds nothing.
#
# <details><summary>Hint 1</summary>
#
# $-\sum p \ln p$ over the last axis. What does the computer make of $0 \cdot \ln 0$? </details>
#
# <details><summary>Hint 2</summary>
#
# Replace what is not a number by 0 before you sum, or use `torch.special.entr`. </details>


# %% tags=["exercise"]
def entropy_of(logits):
    """logits: (..., V), some -inf -> (...) nats"""
    ...


checks.check("6.3", entropy_of)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def entropy_of(logits):
    shares = logits.softmax(-1)
    return -(shares * logits.log_softmax(-1)).nan_to_num(nan=0.0).sum(-1)


checks.check("6.3", entropy_of, quiet=True)

# %% [markdown]
# ### Exercise 6.4 · core · 15 min
#
# Which tokens does top-p keep? The smallest set of the most probable ones whose mass reaches $p$, the one that crosses $p$
# included, and at least one. Answer in the order of the alphabet.
#
# <details><summary>Hint 1</summary>
#
# Sort from the most probable down. A token stays if the mass *before* it is still less than $p$. </details>
#
# <details><summary>Hint 2</summary>
#
# `cumsum(0) - falling` is the mass before each. `scatter` with the order that `sort` returns leads back. </details>


# %% tags=["exercise"]
def top_p_keeps(probabilities, p):
    """probabilities: (V,), p in (0, 1] -> (V,) bool, True where the token stays"""
    ...


checks.check("6.4", top_p_keeps)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def top_p_keeps(probabilities, p):
    falling, order = probabilities.sort(descending=True)
    stays = falling.cumsum(0) - falling < p
    return torch.zeros_like(stays).scatter(0, order, stays)


checks.check("6.4", top_p_keeps, quiet=True)

# %% [markdown]
# ### Exercise 6.5 · core · 15 min
#
# A rule that this lesson has not shown, from its description. *Min-p* (Nguyen et al., 2024): a token stays if its
# probability is at least a given share of the best one's probability. Dropped tokens become $-\infty$, the others are left
# as they are; each row has its own best.
#
# <details><summary>Hint 1</summary>
#
# Softmax first. `amax(-1, keepdim=True)` is each row's best. </details>
#
# <details><summary>Hint 2</summary>
#
# Shorter: a ratio of probabilities is a difference of logits, so the bar stands at the best logit plus $\ln$ of the
# share. </details>


# %% tags=["exercise"]
def min_p(logits, share):
    """logits: (..., V), share in (0, 1] -> (..., V); dropped = -inf"""
    ...


checks.check("6.5", min_p)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def min_p(logits, share):
    shares = logits.softmax(-1)
    return logits.masked_fill(shares < share * shares.amax(-1, keepdim=True), -math.inf)


checks.check("6.5", min_p, quiet=True)

# %% [markdown]
# ### Exercise 6.6 · stretch · 30 min
#
# Against loops, Keskar et al. (2019) divide the logit of each token that was seen by a penalty. Taken literally, it makes
# some tokens *likelier*. Write it so that it never does, as the libraries have it: a penalty of 2 halves a positive logit
# and doubles a negative one. A token is penalised once, however often it was seen; the input stays as it was.
#
# Then try it: copy `write_with`, let its loop call `choose(logits, written)`, and choose with
# `lambda logits, written: penalise(logits[0], written[0].tolist(), 1.3).argmax()[None, None]`. Does greedy leave its
# circle, and what becomes of the spaces?

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Divided by 2, a logit of −2 becomes −1: closer to the top. </details>
#
# <details><summary>Hint 2</summary>
#
# A mask of what was seen (from `set(seen)`), then `torch.where` twice. </details>


# %% tags=["exercise"]
def penalise(logits, seen, penalty):
    """logits: (V,), seen: a list of ids, penalty >= 1 -> (V,)"""
    ...


checks.check("6.6", penalise)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def penalise(logits, seen, penalty):
    was_seen = torch.zeros_like(logits, dtype=torch.bool)
    was_seen[list(set(seen))] = True
    lowered = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(was_seen, lowered, logits)


checks.check("6.6", penalise, quiet=True)

# %% [markdown]
# ### Exercise 6.7 · stretch · 120 min
#
# *Typical sampling* (Meister et al., 2023): people rarely say the likeliest thing. So sort tokens by how close their
# loss $-\ln p$ lies to the entropy, the closest first, and keep as many as reach a given mass, at least one. Write
# which are kept.
#
# Then the evening: draw with it at masses from 0.2 to 0.95, and measure 1,000 characters of each with `judge.measure`,
# three seeds each. Is it nearer to the human row than top-p, by more than its seeds differ?

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# It is top-p in another order. The likeliest token may be dropped: that is the point. </details>
#
# <details><summary>Hint 2</summary>
#
# `distance = (losses - entropy).abs()`, `order = distance.argsort()`, then the mass before each, as in 6.4. </details>


# %% tags=["exercise"]
def typical_keeps(probabilities, mass):
    """probabilities: (V,), all above 0; mass in (0, 1) -> (V,) bool, True: it stays"""
    ...


checks.check("6.7", typical_keeps)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def typical_keeps(probabilities, mass):
    losses = -probabilities.log()
    order = (losses - (probabilities * losses).sum()).abs().argsort()
    sorted_shares = probabilities[order]
    stays = sorted_shares.cumsum(0) - sorted_shares < mass
    return torch.zeros_like(stays).scatter(0, order, stays)


checks.check("6.7", typical_keeps, quiet=True)

# %% [markdown]
# ## Self-test
#
# Choose, then open the answer.
#
# **1. The temperature goes from 1 to 0.5. What happens to the ratio of the two best probabilities?**
# (a) it stays · (b) it doubles · (c) it is squared
#
# <details><summary>Answer</summary>
#
# **(c)** The ratio is $e^{(z_1 - z_2)/\tau}$; half of $\tau$ doubles the exponent. (a) would hold for a filter that drops
# others. (b) confuses the logits, whose difference doubles, with the probabilities. </details>

# %% [markdown]
# **2. Top-p 0.9 alone, without top-k and at temperature 1, kept one token. What do you know?**
# (a) the model gave it at least 0.9 · (b) the filter is broken · (c) it is the right character
#
# <details><summary>Answer</summary>
#
# **(a)** Its mass alone reaches 0.9. (b) no: one always stays, and here one is enough. (c) sure is not right: token losses of
# several nats happen in such places. </details>

# %% [markdown]
# **3. The same windows, read with a cache and without. Which text differs?**
# (a) none · (b) those past the context · (c) those at high temperature
#
# <details><summary>Answer</summary>
#
# **(a)** Keys and values of the past don't change, because the mask hides the future. (b) is right only if the window
# slides while the cache stays. (c) the choice comes after the model and never meets the cache. </details>

# %% [markdown]
# **4. Model A's text has a lower 5-gram loss than human text. Then A …**
# (a) writes better than a human · (b) is more predictable than a human · (c) has copied
#
# <details><summary>Answer</summary>
#
# **(b)**, and no more. (a) takes a measure for the goal: a text of "the the the" scores well too. (c) is possible; *longest
# copy* would tell, this doesn't. </details>

# %% [markdown]
# **5. Why do greedy texts loop more than drawn ones?**
# (a) the model has seen loops in training · (b) a repeated phrase grows likelier, and greedy never leaves the likeliest ·
# (c) the cache returns old keys
#
# <details><summary>Answer</summary>
#
# **(b)** A draw leaves the circle with some probability each time. (a) hardly: the training text repeats little. (c) the
# cache is exact; you compared. </details>

# %% [markdown]
# **Next:** change something. `course ablate` runs any study of lesson 5 in full; `course generate` writes as much as you
# like.
