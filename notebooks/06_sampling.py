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
# # 6 · Sampling: letting it speak
#
# A trained model gives a probability to each next character. Which one do you take? Always the likeliest, and it
# repeats itself; any one by its probability, and now and then it says something absurd. This lesson is about the ground
# between: temperature, top-k, top-p. And about speed, and about telling a good text from a lucky one.
#
# **You will be able to** write every common sampling rule in a few lines · say what each does to the distribution ·
# make generation fast with a key-value cache · measure a text against human text.
#
# **You need** [lesson 3](03_model.ipynb); trained models come from lesson 5 or with the course. **Time:** 45 minutes
# of reading, a minute or two of computing.

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

# %%
import time

import pandas as pd

from course_utils import corpus, experiment, figures, profiles, quality, runs, studies, widgets, writer
from course_utils.lessons.data import CharTokenizer

# %%
text, profile, device = corpus.load(), profiles.current(), profiles.device()
print(text.describe())
tokenizer = CharTokenizer(text.text)
specs = studies.STUDIES["depth"].specs(profile.recipe, [0], text)
models = {spec.arm: runs.load_or_train(spec, text, device)[0] for spec in specs}
model = models["6 layers"]

# %% [markdown]
# ## From scores to a choice
#
# The model's logits for what follows a prompt, through softmax, are probabilities. Before you look: how many of
# the characters are serious candidates after a prompt like this one?

# %%
prompt = experiment.fitting_prompt(text, "ROMEO:\nI will ")
tokens = torch.tensor([tokenizer.encode(prompt)], device=device)
with torch.no_grad():
    logits = model(tokens)[0, -1].cpu()
probabilities = logits.softmax(dim=-1)
before = pd.Series(probabilities, index=list(tokenizer.alphabet))
likely = before.nlargest(12)
print(f"{likely.iloc[:5].sum():.0%} of the mass lies on five characters")
likely.round(4).to_frame("probability").T

# %% [markdown]
# A dozen characters hold most of the mass; the other fifty share the rest. Each of those is almost impossible, but over
# a page of text their sum is not: that is where absurd words come from.
#
# ## Four rules, one function
#
# **Greedy** takes the best. **Temperature** divides the logits: below 1 the strong get stronger, above 1 all become more
# alike, at 0 it is greedy. **Top-k** keeps the $k$ best. **Top-p** keeps the smallest set whose mass reaches $p$, so it is
# narrow where the model is sure and wide where it is not. Together they work in that order.


# %% tags=["export"]
def check_sampling(temperature=1.0, top_k=None, top_p=None, max_new_tokens=0):
    """ValueError, with what is allowed, for a setting that means nothing."""
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens must be at least 0, not {max_new_tokens!r}")
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be a number of at least 0 (0 is greedy), not {temperature!r}")
    if top_k is not None and (top_k < 1 or top_k % 1):
        raise ValueError(f"top_k must be a whole number of at least 1, not {top_k!r}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must lie in (0, 1], not {top_p!r}")


# %% tags=["export"]
def filter_logits(logits, temperature=1.0, top_k=None, top_p=None):
    """Temperature, then top-k, then top-p over what is left; dropped tokens become -inf.

    logits: (..., V) float -> (..., V). temperature 0 keeps the best token alone. Tokens that tie with
    the k-th stay. top_p keeps the smallest set whose mass reaches p, at least one token (Holtzman et
    al., 2020). None switches a filter off.
    """
    check_sampling(temperature, top_k, top_p)
    if temperature == 0:
        best = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, logits.argmax(-1, keepdim=True), True)
        return logits.masked_fill(~best, -math.inf)
    logits = logits / temperature
    if top_k is not None:
        kth = logits.topk(min(int(top_k), logits.shape[-1])).values[..., -1:]
        logits = logits.masked_fill(logits < kth, -math.inf)
    if top_p is not None and top_p < 1:
        rising, order = logits.sort(dim=-1)
        tail = rising.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p  # what the set can do without
        tail[..., -1] = False  # the best token stays, however small p is
        logits = logits.masked_fill(tail.scatter(-1, order, tail), -math.inf)
    return logits


# %% [markdown]
# Check it on numbers that you can do in your head: probabilities 0.5, 0.25, 0.15, 0.1.

# %% tags=["nbval-check-output"]
easy = torch.tensor([0.5, 0.25, 0.15, 0.1]).log()
for settings in ({"temperature": 0}, {"temperature": 0.5}, {"top_k": 2}, {"top_p": 0.7}, {"top_k": 3, "top_p": 0.8}):
    print(settings, [round(p, 2) for p in filter_logits(easy, **settings).softmax(-1).tolist()])

# %% [markdown]
# Follow the last line: top-k leaves 0.5, 0.25, 0.15, which become 0.56, 0.28, 0.17; of these the first two reach 0.8
# already. Order matters: top-p first would have kept three.
#
# Now on the real distribution, before and after each rule:

# %%
settings = ({"temperature": 0.5}, {"temperature": 1.5}, {"top_k": 3}, {"top_p": 0.8})
after = {
    ", ".join(f"{name} {value}" for name, value in s.items()): filter_logits(logits, **s).softmax(-1) for s in settings
}
rows = list(tokenizer.alphabet)
figures.next_character(
    pd.DataFrame({"before": before, **after}, index=rows), title=f"What follows {prompt!r}", note=text.note
)

# %% [markdown]
# Temperature moves every bar and drops none; top-k and top-p drop bars and raise those that stay. How wide is the choice?
# Entropy says it in one number, and its exponential is the number of equally likely characters.

# %%
temperatures = torch.linspace(0.1, 2.0, 39)
choices = [torch.distributions.Categorical(logits=logits / t).entropy().exp() for t in temperatures]
figures.lines(
    temperatures, {"choices": choices}, x_label="temperature", y_label="exp(entropy) (characters)",
    title="Temperature sets how many characters are in play", note=text.note,
)  # fmt: skip

# %% [markdown]
# ## Writing, one character at a time
#
# Draw, append, ask again. In the plain way, each new character makes the model read the whole text anew, although nothing
# in the past has changed: the mask sees to that. A **key-value cache** keeps each layer's keys and values, so that only
# the newest character passes through the model.


# %% tags=["export"]
class KVCache:
    """One layer's keys and values for the tokens read so far, so that each is computed once."""

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
# time, every cached key would be wrong (it was computed from characters that are no longer seen), and the cache would be
# useless. So the window jumps by half a context, and then lasts for that long.


# %% tags=["export"]
def window_start(length, context_length):
    """Where the model begins to read a text of `length` tokens.

    0 while the text fits; then the window moves in jumps of half a context, so that a cache lives
    that long. A long text is always read with at least half a context, at most a whole one.
    """
    jump = max(1, context_length // 2)
    return max(0, -(-(length - context_length) // jump) * jump)


# %% tags=["nbval-check-output"]
print([(length, window_start(length, context_length=8)) for length in (1, 8, 9, 12, 13, 16, 17)])


# %% tags=["export"]
def draw(logits, generator=None):
    """One token a row, by the probabilities that its logits stand for: (B, V) -> (B, 1).

    A race: each token takes a random time, the shorter the likelier it is, and the first to arrive is drawn.
    """
    speeds = logits.softmax(dim=-1)
    return (speeds / torch.empty_like(speeds).exponential_(generator=generator)).argmax(dim=-1, keepdim=True)


# %% tags=["export"]
@torch.no_grad()
def stream(model, tokens, max_new_tokens, temperature=1.0, top_k=None, top_p=None, generator=None):
    """Yield one new token (B, 1) after the other; each continues tokens (B, T) and those before it.

    The model is used as it is: call model.eval() first, or dropout garbles the text.
    """
    check_sampling(temperature, top_k, top_p, max_new_tokens)
    if tokens.ndim != 2 or tokens.shape[1] == 0:
        raise ValueError("generation needs a prompt of at least one character: tokens of shape (B, T), T >= 1")
    context, start = model.config.context_length, None
    for _ in range(max_new_tokens):
        if window_start(tokens.shape[1], context) != start:  # a new window is read from its beginning
            start = read_to = window_start(tokens.shape[1], context)
            cache = [KVCache(context) for _ in range(model.config.n_layers)]
        logits = model(tokens[:, read_to:], cache)[:, -1]
        read_to = tokens.shape[1]
        token = draw(filter_logits(logits, temperature, top_k, top_p), generator)
        tokens = torch.cat([tokens, token], dim=1)
        yield token


# %% tags=["export"]
def generate(model, tokens, max_new_tokens, temperature=1.0, top_k=None, top_p=None, generator=None):
    """Continue each row by max_new_tokens, dropout off: tokens (B, T) int64 -> (B, T + N).

    Sampling means what filter_logits says. A text longer than the context is read from window_start on.
    """
    was_training = model.training
    model.eval()
    try:
        new = list(stream(model, tokens, max_new_tokens, temperature, top_k, top_p, generator))
    finally:
        model.train(was_training)
    return torch.cat([tokens, *new], dim=1)


# %% [markdown]
# The cache must change nothing but the time. So compare it with the plain way, past the context length too. The third
# contender is the package's `writer`: the same cache, with fewer and smaller operations a character.


# %%
@torch.no_grad()
def generate_plainly(model, tokens, max_new_tokens, generator):
    for _ in range(max_new_tokens):
        seen = tokens[:, window_start(tokens.shape[1], model.config.context_length) :]
        tokens = torch.cat([tokens, draw(model(seen)[:, -1], generator)], dim=1)
    return tokens


length, took, texts = model.config.context_length + profile.demo_steps, {}, {}
for name, method in (("plain", generate_plainly), ("cached", generate), ("package", writer.generate)):
    begin, generator = time.perf_counter(), torch.Generator(device).manual_seed(0)
    texts[name] = method(model, tokens, length, generator=generator)
    took[name] = time.perf_counter() - begin
assert torch.equal(texts["plain"], texts["cached"]), "the cache changes nothing but the time"
for name in ("cached", "package"):
    print(f"{name}: {length} characters {took['plain'] / took[name]:.1f} times as fast as the plain way")

# %% [markdown]
# ## Hear it
#
# The same model, prompt and seed under four rules. Read them aloud.

# %%
judge = quality.Judge(text)
for settings in ({"temperature": 0.0}, {"temperature": 0.7}, {"temperature": 1.0, "top_p": 0.9}, {"temperature": 1.5}):
    print(f"── {settings}\n{prompt}{judge.sample(model, prompt, 160, seed=1, **settings)}\n")

# %% [markdown]
# Greedy goes in circles; 1.5 makes up words; in between it is verse, of a sort.
#
# ## Move it yourself
#
# Ten lines make a playground: a function of the settings, and a slider for each.


# %%
def play(temperature, top_k, top_p):
    after = filter_logits(logits, temperature, top_k, top_p).softmax(-1)
    table = pd.DataFrame({"before": before, "after": after}, index=list(tokenizer.alphabet))
    return figures.next_character(table, title=f"What follows {prompt!r}", note=text.note)


widgets.sliders(
    play,
    temperature=(0.0, 2.0, 0.05, 0.8),
    top_k=(1, tokenizer.vocab_size, 1, tokenizer.vocab_size),
    top_p=(0.05, 1.0, 0.05, 0.9),
)


# %%
def write(temperature, top_k, top_p, seed):
    return prompt + judge.sample(model, prompt, 200, seed, temperature=temperature, top_k=top_k, top_p=top_p)


widgets.sliders(
    write,
    temperature=(0.0, 2.0, 0.1, 0.8),
    top_k=(1, tokenizer.vocab_size, 1, tokenizer.vocab_size),
    top_p=(0.05, 1.0, 0.05, 0.95),
    seed=(0, 9, 1, 0),
)

# %% [markdown]
# ## Which depth writes best?
#
# All three models, on the same prompt, seed and settings. And beside them, because a number alone says nothing, a human:
# stretches of the validation text, which no model has seen, measured in the same way.
#
# * **distinct-2**: different word pairs as a share of all; low means repetitive.
# * **repetition**: the share of 20-character windows that the same text has had before.
# * **known words**: the share of words that occur in the training text. Even Shakespeare doesn't reach 100 % on new pages.
# * **longest copy**: the longest stretch that stands letter for letter in the training text. The human row shows how
#   much of that is chance.
# * **5-gram loss**: how surprised the counter of lesson 1 is; an independent judge.

# %%
table = quality.compare_samples(models, judge, prompt, profile.sample_characters, seed=0)
columns = ["distinct_2", "repetition", "known_words", "longest_copy", "five_gram_loss"]
table.groupby(["arm", "temperature", "top_k", "top_p"], dropna=False, sort=False)[columns].mean().round(3)

# %%
figures.sample_comparison(quality.like(table, quality.SETTINGS[-1]), note=text.note)

# %%
samples = table[table["arm"] != quality.HUMAN]
greedy, free = (quality.like(samples, setting) for setting in ({"temperature": 0.0}, {"temperature": 1.0}))
print(f"repetition: greedy {greedy['repetition'].mean():.0%}, temperature 1 {free['repetition'].mean():.0%}")
if text.is_real and profile.name != "smoke":
    assert greedy["repetition"].mean() > free["repetition"].mean(), "the likeliest text goes in circles"

# %% [markdown]
# Greedy text repeats itself and is easy to predict: a low 5-gram loss is no sign of quality. At temperature 1 nothing is
# repeated, and a good part of the words is invented; a little cooler, more of them are real. No setting wins every column.
#
# ## What you built
#
# Every sampling rule in one function that means what the libraries mean, a cache that is exact, and a yardstick for text.
#
# ## Questions
#
# 1. Top-k 1 and temperature 0: do they ever differ?
# 2. Why does top-p adapt to how sure the model is, and top-k not?
# 3. A model copies 40 characters from its training text. Where would you look for the reason?
#
# **Next:** change something. `course ablate` runs any study of lesson 5 in full; `course generate` writes as much as you like.
