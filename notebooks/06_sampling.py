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
# A trained model gives each next character a probability. Which one do you take? Always the likeliest, and it goes in
# circles; any one by its probability, and now and then it is absurd. This lesson is about the ground between (temperature,
# top-k, top-p), about speed, and about telling a good text from a lucky one.

# %% [markdown]
# **You will be able to** write the common sampling rules · say what each does to the distribution · speed generation up
# with a key-value cache, and say its price · measure a text against human text.
#
# **You need** [lesson 3](03_model.ipynb) and [PyTorch in twenty lines](../book/pytorch.md); trained models come from
# [lesson 5](05_ablation.ipynb) or with the course. **Time:** 50 minutes of reading; a minute or two of computing.

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
import functools
import itertools
import re
import time

import pandas as pd
from torch.nn import functional as F
from tqdm import tqdm

from course_utils import checks, corpus, figures, widgets
from course_utils.generation import quality
from course_utils.lessons.data import CharTokenizer, split
from course_utils.training import runs

# %% tags=["nbval-ignore-output"]
text = corpus.load()
print(text.describe())
tokenizer = CharTokenizer(text.text)
models = {arm: one.eval() for arm, one in runs.depth_models(text).items()}
model = models["6 layers"]
device, context = next(model.parameters()).device, model.config.context_length

# %% [markdown]
# ## The whole thing first
#
# A model doesn't write. It reads and gives probabilities; somebody has to choose, append, ask again. That loop is all of
# writing; only the choice is open.

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
# > **Predict.** The likeliest character, or any by its probability: which reads badly after three lines, and how?

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
likeliest = write_with(lambda logits: logits.argmax(-1, keepdim=True))
print("── the likeliest\n" + likeliest)
drawn = write_with(lambda logits: torch.multinomial(logits.softmax(-1), 1))
print("\n── by probability\n" + drawn)

# %% [markdown]
# The likeliest goes in circles, although each choice was the best; the other breaks words it had begun well. Everything
# below lies between.
#
# ## Where broken words come from
#
# > **Predict.** How many characters are serious candidates after this prompt?

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    logits, inside = model(tokens)[0, [-1, -3]].cpu()  # after the space; after "wil"
probabilities = logits.softmax(dim=-1)
before = pd.Series(probabilities, index=list(tokenizer.alphabet))
rare = before[before < 0.01]
print(f"{before.nlargest(5).sum():.0%} of the mass lies on five characters;", end=" ")
print(f"{len(rare)} have less than 1 % each, together {rare.sum():.1%}")
before.nlargest(12).round(4).to_frame("probability").T

# %% [markdown]
# After a space many characters are right, those above 1 % and rarer (think of *keep*, *obey*). Inside a word few are:
# any other makes it a word that the training text doesn't have.


# %%
def words(text):
    """At most 30 letters each, for a text may have no blanks."""
    return re.findall(r"\w[\w']{,29}", text.lower())


training_text, held_out = split(text.text)
held_out = held_out[: 2**26 // tokenizer.vocab_size]  # tables of (N, V): 256 MB each at most
vocabulary = set(words(training_text))
beginnings = {word[:n] for word in vocabulary for n in range(1, len(word) + 1)}
is_letter = re.compile(r"[\w']").match


@functools.cache
def breaks(begun):
    """The characters after which a begun word is one that nobody knows: (V,) bool."""
    if begun not in beginnings:  # between words, or broken already
        return torch.zeros(tokenizer.vocab_size, dtype=torch.bool)
    goes_on = [begun + c.lower() in beginnings for c in tokenizer.alphabet]
    ends = [not is_letter(c) and begun in vocabulary for c in tokenizer.alphabet]
    return ~(torch.tensor(goes_on) | torch.tensor(ends))


# %% [markdown]
# Let each model read the whole validation text (a quarter of a minute). Its mass on such characters at a place is the risk
# of a slip; a word comes through whole with the product of 1 − risk over its places (the code adds logarithms).


# %%
@torch.no_grad()
def read(model, ids):
    """What is expected after each token of a text: (N,) -> (N, V) probabilities."""
    windows = ids.to(device).split(context)
    return torch.cat([model(window[None])[0].softmax(-1).cpu() for window in windows])


def begun_words(text):
    """After each character, the word that is being written; "" between words."""
    begun, found = "", []
    for c in text:
        goes_on = is_letter(c) and len(begun) < 30
        begun = (begun + c.lower()).lstrip("'") if goes_on else ""
        found.append(begun)
    return found


# %% tags=["nbval-ignore-output"]
held_out_ids = torch.tensor(tokenizer.encode(held_out))
bar = tqdm(models.items(), "reading", leave=False)
expected = {arm: read(one, held_out_ids) for arm, one in bar}
begun = begun_words(held_out)
place = torch.tensor([len(word) for word in begun])
in_word, number = place > 0, (place == 1).cumsum(0)  # which word of the text
breaking = torch.stack([breaks(word) for word in begun])


# %%
def slips(p):
    """The mass that breaks words, by letters written; the share of words broken."""
    slip = (p * breaking).sum(-1).double()
    whole = torch.zeros(number[-1] + 1).double()
    whole.index_add_(0, number[in_word], (-slip[in_word]).log1p())
    by_place = [slip[place == n].mean().item() for n in range(1, 7)]
    return by_place, 1 - whole[1:].exp().mean().item()


# %% [markdown]
# > **Predict.** After which letter of a word is the risk greatest? What share of words comes through whole?

# %% tags=["nbval-ignore-output"]
for arm, p in expected.items():
    by_place, share = slips(p)
    risks = ", ".join(f"{x:.1%}" for x in by_place)
    print(f"{arm}: {risks} after 1 to 6 letters; {share:.0%} of the words broken")

# %% [markdown]
# Hardly any risk after a letter or two, where nearly anything fits; 8 % after three and 18 % after six (6 layers). Most
# words are short, so only one in five breaks.
#
# ## Drawing is a race
#
# To draw by probabilities, let the tokens run. Each gets a track of random length, from the *exponential distribution*
# (many short, few long), and its probability $p_i$ as its speed. Twice the speed wins twice as often: token $i$ with
# probability $p_i / \sum_j p_j$ (the Gumbel trick; Maddison et al., 2014), which we take on trust. The least time, length /
# speed, is the greatest speed / length. `torch.multinomial` does the same.


# %% tags=["export"]
def draw(logits, generator=None):
    """One token a row, by the probabilities of its logits: (B, V) -> (B, 1).

    A race: each token runs a random length at the speed of its probability, and the
    first to arrive is drawn.
    """
    speeds = logits.softmax(dim=-1)
    lengths = torch.empty_like(speeds).exponential_(generator=generator)
    return (speeds / lengths).argmax(dim=-1, keepdim=True)


# %%
rows, luck = logits.expand(1000, -1), torch.Generator()
ours = draw(rows, luck.manual_seed(0))
theirs = torch.multinomial(rows.softmax(-1), 1, generator=luck.manual_seed(0))
assert torch.equal(ours, theirs), "the same race, under the same luck"

# %% [markdown]
# ## Temperature
#
# Divide the logits by a number $\tau$ before the softmax, and the distribution becomes narrower or wider (Ackley et al.,
# 1985):
#
# $$p_i \propto e^{z_i / \tau}$$
#
# At 1 it is the model's own. Towards 0 the best takes all: greedy. Towards infinity all are equal. A distribution's entropy
# $-\sum p_i \ln p_i$, in nats, says how wide it is.
#
# > **Predict.** Entropy over temperature, two curves: after a word's end, where much can follow, and inside a word.

# %%
temperatures = torch.linspace(0.05, 3.0, 60)
entropies = {}
for seen, z in {prompt: logits, prompt[:-2]: inside}.items():
    each = torch.distributions.Categorical(logits=z / temperatures[:, None]).entropy()
    assert (each.diff() > -1e-5).all(), "a higher temperature never narrows"
    entropies[repr(seen[-5:])] = each

# %% tags=["nbval-ignore-output"]
labels = ("temperature", "entropy (nats)")
all_equal = {"all equal": math.log(tokenizer.vocab_size)}
title = "Entropy of the next character, by what came before"
look = {"baselines": all_equal, "title": title, "note": text.note}
figures.lines(temperatures, entropies, *labels, **look)

# %% [markdown]
# Where the model is sure, a temperature below 1 has nothing left to sharpen; elsewhere it cuts the choices down. Above 1
# even the sure place opens, and words fall apart. One knob for all places is a blunt tool.
#
# ## Top-k and top-p
#
# Temperature moves every bar and drops none. **Top-k** (Fan et al., 2018) keeps the $k$ best. **Top-p** (Holtzman et al.,
# 2020) keeps the smallest set whose mass reaches $p$: narrow where the model is sure, wide where not. Together:
# temperature, then top-k, then top-p over what is left. A dropped token gets $-\infty$, for only $e^{-\infty}$ is 0.


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
        others = others.scatter(-1, logits.argmax(-1, keepdim=True), False)  # False there
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
        # scatter puts each answer back at its token's own place
        logits = logits.masked_fill(tail.scatter(-1, order, tail), -math.inf)
    return logits


# %% [markdown]
# Check it on numbers that you can do in your head:

# %%
easy = torch.tensor([0.5, 0.25, 0.15, 0.1]).log()
rules = [{"temperature": 0}, {"temperature": 0.5}, {"top_k": 2}]
rules += [{"top_p": 0.7}, {"top_k": 3, "top_p": 0.8}]
for settings in rules:
    shares = filter_logits(easy, **settings).softmax(-1).tolist()
    print(settings, [round(p, 2) for p in shares])

# %%
k_then_p = filter_logits(filter_logits(easy, top_k=3), top_p=0.8)
p_then_k = filter_logits(filter_logits(easy, top_p=0.8), top_k=3)
kept = [(z > -math.inf).sum().item() for z in (k_then_p, p_then_k)]
assert kept == [2, 3], "the order is part of the rule"

# %% [markdown]
# Top-p comes last, so $p$ is a share of what can still be drawn: in the last line top-k leaves 0.56, 0.28, 0.17, and two of
# them reach 0.8. The other way round, three stay.
#
# Now break it: write $10^{-10}$ for $-\infty$. As a logit that is nearly 0; the rare characters' lie far below.
#
# > **Predict.** With the five best kept, what becomes of those that had less than 1 % each?

# %% tags=["nbval-ignore-output"]
five = filter_logits(logits, top_k=5)
broken = five.masked_fill(five == -math.inf, 1e-10).softmax(-1)
unlikely = torch.tensor((before < 0.01).to_numpy())
print(f"the rare ones: {rare.sum():.1%} for the model,", end=" ")
print(f"{broken[unlikely].sum():.1%} after the broken filter,", end=" ")
print(f"{five.softmax(-1)[unlikely].sum():.0%} after ours")

# %% [markdown]
# The filter feeds what it should starve, and nothing fails: only the text is odd. Now the right rules:

# %% tags=["nbval-ignore-output"]
rules = [{"temperature": 0.5}, {"temperature": 1.5}, {"top_k": 3}, {"top_p": 0.8}]
columns = {"before": before}
for settings in rules:
    name = ", ".join(f"{name} {value}" for name, value in settings.items())
    columns[name] = filter_logits(logits, **settings).softmax(-1)
table, title = pd.DataFrame(columns), f"What follows {prompt!r}"
figures.next_character(table, title=title, note=text.note)

# %% [markdown]
# Ten lines make a playground: a function of the settings, and a slider for each.


# %%
def play(temperature, top_k, top_p):
    after = filter_logits(logits, temperature, top_k, top_p).softmax(-1)
    table = pd.DataFrame({"before": before, "after": after})
    return figures.next_character(table, title=title, note=text.note)


# %% tags=["nbval-ignore-output"]
V = tokenizer.vocab_size
degrees, mass = (0.0, 2.0, 0.05, 0.8), (0.05, 1.0, 0.05, 0.9)  # low, high, step, start
widgets.sliders(play, temperature=degrees, top_k=(1, V, 1, V), top_p=mass)

# %% [markdown]
# ## What surprises a model
#
# Take a line that none of the models has seen. A character's *token loss* is its $-\ln p$; the mean over a text is the
# loss that you know.
#
# > **Predict.** Where in the line will it be bright (a large loss), where dark?

# %%
longest = min(44, context - 4)
lines = (x for x in held_out[1000:4000].splitlines()[1:] if len(x) <= longest)
line = max(lines, key=len, default="") or held_out[1 : 1 + longest]
stop = held_out.index(line) + len(line)
at = slice(stop - len(line), stop)
guesses = {arm: p[at.start - 1 : at.stop - 1] for arm, p in expected.items()}
losses = {arm: -p[range(len(line)), held_out_ids[at]].log() for arm, p in guesses.items()}

# %% tags=["nbval-ignore-output"]
rows = [one.config.n_layers for one in models.values()]
labels = ("layers", "the next character of the line", "token loss (nats)")
look = {"labels": labels, "title": "The loss of each character", "note": text.note}
figures.heatmaps(torch.stack(list(losses.values())), rows, list(line), **look)

# %% tags=["nbval-ignore-output"]
widgets.inside(models, tokenizer, line)

# %% [markdown]
# Words mostly begin bright and go on dark. (Above, choose a model and point at a character: what did each layer expect?)
# Over the whole validation text, by place in the word:

# %%
asked = in_word[:-1] | in_word[1:]  # how a word begins, goes on, ends
by_place, places = {}, range(9)
for arm, p in expected.items():
    each = -p[:-1].gather(1, held_out_ids[1:, None]).flatten().log()
    by_place[arm] = [each[asked & (place[:-1] == n)].mean() for n in places]

# %% tags=["nbval-ignore-output"]
gain = [few - many for few, many in zip(by_place["2 layers"], by_place["6 layers"], strict=True)]
print(f"6 layers save {gain[0]:.2f} nats at a first letter, {gain[6]:.2f} after six letters")
labels = ("letters of the word before it", "token loss (nats)")
title = "What a character costs, by its place in the word"
figures.lines(places, by_place, *labels, low=0, title=title, note=text.note)

# %% [markdown]
# The first letter costs nearly twice what any later one does: there the word is chosen. In these three models, one seed
# each, more layers gain little there, and more inside a long word. The same places decide how many characters top-p keeps,
# the digit below each (6 layers; 9: nine or more):

# %% tags=["nbval-ignore-output"]
print(f"{'':12}{line}")
for p in (0.5, 0.9):
    kept = filter_logits(guesses["6 layers"].log(), top_p=p) > -math.inf
    kept = kept.sum(-1).tolist()
    digits = "".join(str(min(9, n)) for n in kept)
    print(f"{f'top-p {p}':12}{digits}   from {min(kept)} to {max(kept)}")

# %% [markdown]
# A fixed $k$ can't do that: large enough for a word's beginning, it lets nonsense into the middle.
#
# ## Writing fast
#
# The plain loop reads the whole text anew for each character, although the mask leaves the past as it was.
# A **key-value cache** keeps each layer's keys and values, so that only the newest character passes through the model.

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


# %%
caches = [KVCache(context) for _ in range(model.config.n_layers)]
with torch.no_grad():
    one_by_one = [model(tokens[:, [i]], caches) for i in range(tokens.shape[1])]
    at_once = model(tokens)
assert torch.allclose(torch.cat(one_by_one, dim=1), at_once, atol=1e-3), "the past is kept"

# %% [markdown]
# Given caches, lesson 3's model calls `k, v = cache.extend(k, v)` in each layer, then `causal_attention(q, k, v)` with the
# newest queries alone. Their positions count on from `cache.length`.
#
# And when the text outgrows the context? If the window slid by one, cached keys would differ from a fresh reading's:
# above the first layer they have heard characters that are gone. Transformer-XL (Dai et al., 2019) keeps them on
# purpose; our cache must change nothing, so the window jumps by half a context (`-(-x // jump) * jump` rounds x up to
# whole jumps).


# %% tags=["export"]
def window_start(length, context_length):
    """Where the model begins to read a text of `length` tokens.

    0 while the text fits; then the window moves in jumps of half a context, so that a cache
    lives that long. A long text is read with at least half a context, at most a whole one.
    """
    jump = max(1, context_length // 2)
    return max(0, -(-(length - context_length) // jump) * jump)


# %% tags=["nbval-ignore-output"]
lengths = range(1, 4 * context)
seen = {
    "jumps, cached": [length - window_start(length, context) for length in lengths],
    "slides, no cache": [min(length, context) for length in lengths],
}
labels = ("length of the text (characters)", "read by the model (characters)")
title = f"What a context of {context} characters sees"
figures.lines(lengths, seen, *labels, title=title, note=text.note)

# %% [markdown]
# The price is the saw: just after a jump the model knows half as much as it could. In [lesson 4](04_train.ipynb)'s loss by
# position, of two layers, what lay beyond a few dozen characters gained too little to measure. The loop again, with a new
# cache after each jump:


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
# Compare the cache with a loop that reads its window anew for each character.
#
# > **Predict.** How many times as fast is the cache?


# %%
@torch.no_grad()
def generate_plainly(model, tokens, max_new_tokens, generator):
    for _ in range(max_new_tokens):
        seen = tokens[:, window_start(tokens.shape[1], context) :]
        tokens = torch.cat([tokens, draw(model(seen)[:, -1], generator)], dim=1)
    return tokens


# %% tags=["nbval-ignore-output"]
ways, took, texts = {"plain": generate_plainly, "cached": generate}, {}, {}
for name, method in 3 * list(ways.items()):
    begin, generator = time.perf_counter(), torch.Generator(device).manual_seed(0)
    texts[name] = method(model, tokens, 2 * context, generator=generator)
    took.setdefault(name, []).append(time.perf_counter() - begin)
assert torch.equal(texts["plain"], texts["cached"]), "a cache changes only the time"
times = min(took["plain"]) / min(took["cached"])
print(f"{2 * context} characters, the best of three: {times:.1f} times as fast")

# %% [markdown]
# > **Predict.** The time of one character by the length of the text before it, with and without a cache: which line rises,
# > which stays?


# %%
@torch.no_grad()
def milliseconds(length, keep):
    seen, cache = torch.zeros(1, length, dtype=torch.int64, device=device), None
    if keep:
        cache = [KVCache(context) for _ in range(model.config.n_layers)]
        model(seen[:, :-1], cache)
    best = math.inf
    for _ in range(10):
        begin = time.perf_counter()
        model(seen[:, -1:] if keep else seen, cache).cpu()
        best = min(best, 1000 * (time.perf_counter() - begin))
        for layer in cache or []:
            layer.length -= 1  # as if it had not been read
    return best


# %%
lengths = range(context // 8, context + 1, context // 8)
ways = {"without": False, "with a cache": True}
several = [  # a busy moment of the machine spoils one of five
    [[milliseconds(n, keep) for n in lengths] for keep in ways.values()] for _ in range(5)
]
each = dict(zip(ways, torch.tensor(several).amin(dim=0).tolist(), strict=True))

# %% tags=["nbval-ignore-output"]
labels = ("length of the text (characters)", "one more character (ms)")
title = "What a cache saves"
dear = each["without"][0] / each["with a cache"][0]
print(f"{lengths[0]} characters at once take {dear:.1f} times as long as one")
figures.lines(lengths, each, *labels, low=0, title=title, note=text.note)

# %% [markdown]
# Without a cache the time grows with the text; with one it stays, but well above zero: that is what any pass costs
# (starting many small operations, we guess).
#
# What does it cost? A key and a value of `d_model` numbers for each layer, character and text:

# %%
c, cache = model.config, [KVCache(context) for _ in range(model.config.n_layers)]
with torch.no_grad():
    model(tokens, cache)
held = sum(layer.k.nbytes + layer.v.nbytes for layer in cache)
formula = 2 * c.n_layers * c.context_length * c.d_model * 4
assert held == formula, "keys and values, 4 bytes a number"

# %% tags=["nbval-ignore-output"]
weights = sum(w.nbytes for w in model.parameters())
for n in (1, 64):
    print(f"texts: {n}; cache: {n * held / 1e6:.1f} MB; weights: {weights / 1e6:.1f} MB")

# %% [markdown]
# For one text it is small; for many, or a long context, the larger part. So large models let heads share keys and values
# (multi-query attention, Shazeer, 2019; grouped-query, Ainslie et al., 2023), and servers hand out this memory in pages
# (PagedAttention, Kwon et al., 2023).
#
# ## Hear it
#
# One model, one prompt, one seed, four rules. Read them aloud.

# %% tags=["nbval-ignore-output"]
judge = quality.Judge(text)
rules = [{"temperature": 0.0}, {"temperature": 0.7}]
rules += [{"temperature": 1.0, "top_p": 0.9}, {"temperature": 1.5}]
for settings in rules:
    written = judge.sample(model, prompt, 160, seed=1, **settings)
    print(f"── {settings}\n{prompt}{written}\n")

# %% [markdown]
# Greedy is stuck again (elsewhere than above, as this loop cuts its window otherwise). In large models a loop feeds
# itself: a phrase grows likelier each time it is read (Holtzman et al., 2020). In ours? Let it read one piece of
# validation text again and again; for comparison, a new piece each time.
#
# > **Predict.** The probability of a character in the first round, the second, the sixth.

# %%
rounds = 6
n = min(20, context // rounds - 1)
once = held_out_ids.unfold(0, n + 1, n + 1)[:200].to(device)  # for a text without lines
if pieces := [line[:n] + "\n" for line in held_out.split("\n")[1:] if len(line) >= n]:
    once = torch.tensor([tokenizer.encode(piece) for piece in pieces[:200]], device=device)
others = torch.cat([once.roll(i, dims=0) for i in range(rounds)], dim=1)
read_in = {"the same again": once.repeat(1, rounds), "another each time": others}


# %%
@torch.no_grad()
def losses_in(rows):
    """The token loss of each token but the first of each row: (B, T) -> (B, T - 1)."""
    logits = model(rows)[:, :-1].mT  # cross_entropy wants (B, V, T)
    return F.cross_entropy(logits, rows[:, 1:], reduction="none").cpu()


def middle_half(values):
    """Of many texts, (N, …): the first quartile, the median, the third, each (…)."""
    return values.quantile(torch.tensor([0.25, 0.5, 0.75]), dim=0)


# %% tags=["nbval-ignore-output"]
curves, bands = {}, {}
for name, rows in read_in.items():
    # pad: a 0 in front for the first token, which nobody predicts
    losses_of_all = F.pad(losses_in(rows), (1, 0)).view(len(rows), rounds, n + 1)
    certain = losses_of_all[..., 1:].mean(dim=-1).neg().exp()
    low, curves[name], high = middle_half(certain)
    bands[name] = low, high
labels = ("round", "probability of a character")
look = {"bands": bands, "low": 0, "note": text.note}
title = f"Reading {n} characters again: median and middle half of {len(once)} pieces"
figures.lines(range(1, rounds + 1), curves, *labels, **look, title=title)

# %% [markdown]
# The lines nearly coincide: an earlier copy is no help to this model. It has not learned to find the copy and go on as
# that did (*induction heads* do, Olsson et al., 2022). Why the circle, then? Greedy always goes on from the same
# characters in the same way. If only the last few decide, then as soon as they come again, so does all that followed.
# How many decide?
#
# And a slip? After its own a model reads what training, on real text alone, never showed it (**exposure bias**,
# Ranzato et al., 2016). How long does it matter? Spoil each window's middle character.

# %% tags=["nbval-ignore-output"]
size = min(context, len(held_out_ids))
rows = held_out_ids.to(device).unfold(0, size, size)[:400]
with torch.no_grad():
    whole = model(rows)[:, -1].argmax(-1)
    for n in (2, 4, 8, 16, 32):
        same = (model(rows[:, -n:])[:, -1].argmax(-1) == whole).float().mean()
        print(f"the last {n:2} characters lead to the same choice in {same:.0%}")

# %% tags=["nbval-ignore-output"]
spoilt, at = rows.clone(), size // 2
spoilt[:, at] = rows[:, at].roll(1)  # another window's
harm = (losses_in(spoilt) - losses_in(rows)).mean(dim=0)[at:]
for first, last in ((1, 1), (2, 5), (6, 10), (11, 20), (21, 40)):
    which = f"{first} to {last}" if first < last else f"{first}"
    print(f"{which:>8} after it: {harm[first - 1 : last].mean():+.3f} nats each")

# %% [markdown]
# On people's text, sixteen characters decide nine times in ten. Greedy text is surer at each place (below), so there, we
# guess, they decide more often still: enough for a circle to close. A slip spoils the next few characters and is forgotten,
# at least where people wrote what follows. (Both are facts about models this small.)
#
# Are people as greedy? Three texts, as the model sees them:

# %%
shown = {"human": held_out[-size:]}
for name, degree in {"drawn": 1.0, "greedy": 0.0}.items():
    shown[name] = judge.sample(model, prompt, size, seed=1, temperature=degree)
rows = torch.tensor([tokenizer.encode(one) for one in shown.values()], device=device)
each = losses_in(rows)[:, -size // 2 :]

# %% tags=["nbval-ignore-output"]
for name, row in zip(shown, each, strict=True):
    print(f"{name}: {row.mean():.2f} nats a character, at most {row.max():.1f}")
same = (expected["6 layers"][:-1].argmax(-1) == held_out_ids[1:]).double().mean()
print(f"people take the likeliest character at {same:.0%} of all places")
look = {"labels": ("", "character", "token loss (nats)"), "note": text.note}
figures.heatmaps(each, list(shown), title="Surprise along three texts", **look)

# %% [markdown]
# People are bright and dark by turns, as a drawn text is; greedy text is never bright. The likeliest text is not a typical
# one. Three measures, three lines each:


# %%
def repetition(text, n=20):
    """The share of n-character stretches that the same text has had before."""
    stretches = [text[i : i + n] for i in range(len(text) - n + 1)]
    return 1 - len(set(stretches)) / len(stretches) if stretches else 0.0


def known_words(text):
    """The share of words that the training text has; first and last may be cut."""
    inner = words(text)[1:-1]
    return sum(word in vocabulary for word in inner) / max(1, len(inner))


def distinct_2(text):
    """Different pairs of words as a share of all pairs (Li et al., 2016)."""
    pairs = list(itertools.pairwise(words(text)))
    return len(set(pairs)) / max(1, len(pairs))


# %%
theirs = judge.measure(held_out[:2000])
for measure in (repetition, known_words, distinct_2):
    ours = measure(held_out[:2000])
    assert ours == theirs[measure.__name__] or not judge.has_words, "the helper's"

# %% [markdown]
# A word that isn't known is *invented*. Eight texts at each temperature (at 0 all alike; a quarter of a minute), forty
# human pieces:
#
# > **Predict.** Repetition and known words over the temperature. Where is a human?

# %% tags=["nbval-ignore-output"]
degrees, length = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4), 4 * context
written = {}
for degree in tqdm(degrees, "temperatures", leave=False):
    generator = torch.Generator(device).manual_seed(0)
    rows = generate(model, tokens.expand(8, -1), length, degree, generator=generator)
    written[degree] = [tokenizer.decode(row[tokens.shape[1] :]) for row in rows]
written["human"] = quality.stretches(held_out, length, pieces=40)

# %%
measured, flat = {}, (3, len(degrees))
for name, measure in {"repetition": repetition, "known words": known_words}.items():
    each = {
        key: middle_half(torch.tensor([measure(one) for one in texts]))
        for key, texts in written.items()
    }
    measured[name] = torch.stack([each[degree] for degree in degrees], dim=1)
    measured[f"human, {name}"] = each["human"][:, None].expand(flat)

# %% tags=["nbval-ignore-output"]
curves = {name: middle for name, (_, middle, _) in measured.items()}
bands = {name: (low, high) for name, (low, _, high) in measured.items()}
look = {"bands": bands, "title": "Two ways to go wrong (median and middle half)"}
figures.lines(degrees, curves, "temperature", "share", **look, note=text.note)

# %% [markdown]
# Near 0 it repeats, warm it invents; in between neither is bad. A human invents a little too, names and words of new pages,
# so the best share is the human one, not 100 %. Known words alone don't notice a circle: at temperature 0 they are as
# frequent as a human's. Do the small slips add up to what is invented?

# %% tags=["nbval-ignore-output"]
invented = 1 - torch.tensor([known_words(one) for one in written[1.0]])
error = invented.std() / len(invented) ** 0.5
print(f"added up: {slips(expected['6 layers'])[1]:.1%} of the words;", end=" ")
print(f"written at temperature 1: {invented.mean():.1%} ± {error:.1%} (standard error)")
if text.is_real and losses["6 layers"].mean() < 2:  # a model that has learned something
    cold, free = measured["repetition"][1, [0, 5]]
    assert cold > free, "the likeliest text goes in circles"

# %% [markdown]
# About so, or somewhat fewer.
#
# ## Which depth writes best?
#
# Same prompt, same rule (temperature 0.8, top-k 40, top-p 0.95), only the depth differs. A text is one draw, so take six of
# each (half a minute), and two more measures:
#
# * **longest copy**: the longest stretch that stands letter for letter in the training text; in the human row by chance.
# * **5-gram loss**: the loss of lesson 1's counter on the text, a judge that learned from the same training text.

# %% tags=["nbval-ignore-output"]
about, rule = (models, judge, prompt, 8 * context), quality.SETTINGS[-1:]
tables = [quality.compare_samples(*about, seed, rule) for seed in range(6)]
table = pd.concat(tables).drop_duplicates(["arm", "text"])
columns = ["distinct_2", "repetition", "known_words", "longest_copy", "five_gram_loss"]
by_arm = table.groupby("arm", sort=False)[columns]
summary = by_arm.mean().round(3).astype(str) + " ± " + by_arm.std().round(3).astype(str)
summary.assign(texts=by_arm.size())

# %% tags=["nbval-ignore-output"]
figures.sample_comparison(table, note=text.note)

# %% [markdown]
# After ± stands one text's standard deviation; the last row, four human pieces, is the yardstick. Two layers seem to know
# fewer words, but with one model a depth and five measures that may be luck; four and six can't be told apart. All are
# easier to predict than people, perhaps since the rule cuts. A loss needs no sampling and is surer (but see lesson 5).
#
# ## Move it yourself
#
# This widget writes while you watch. Pull the temperature to 0 and wait for the loop. Set 1.5 with top-p off, then close
# top-p slowly until words come back. Write your own first line and tick *all side by side*: which depth stays with it
# longest?

# %% tags=["nbval-ignore-output"]
widgets.sampler(models, tokenizer, prompt, temperature=0.8, top_p=0.95)

# %% [markdown]
# ## What you built
#
# Temperature, top-k and top-p as the libraries mean them, an exact cache whose price you know, and a yardstick for text.
#
# ## Questions
#
# **1.** Why does the window jump, and not slide by one?
#
# <details><summary>Answer</summary>
#
# Each slide would outdate the cached keys, so the window must be read again; with jumps, once in half a context. </details>
#
# **2.** With a cache of 8 texts at a time, what grows by 8, and what does not?
#
# <details><summary>Answer</summary>
#
# Keys and values do; the weights do not, nor does the number of operations to start, our guess for most of the time. So 8
# texts should take little longer than one. </details>

# %% [markdown]
# ## Exercises
#
# Write the body of each stub and run its cell.
#
# ### Exercise 6.1 · warm-up · 15 min
#
# Find the loop: the earliest place from which a text repeats itself to its end, for at least two whole rounds (a further
# one may be cut off), and the length of the shortest such round. Without a loop: `(len(text), 0)`. Then `generate` 1,500
# characters at temperature 0 after `"O "`. Is there a loop, and why that long?
#
# <details><summary>Hint 1</summary>
#
# In rounds of `n`, `text[start:-n] == text[start + n:]`. </details>
#
# <details><summary>Hint 2</summary>
#
# Try each start from 0 on, and for each the rounds from 1 to half of what is left. Take the first that fits. </details>
#
# <details><summary>The second half</summary>
#
# With our 6 layers a round is 192 characters, three jumps of the window. The choice depends a little on where reading
# begins, so a circle closes only when text and window come again together. </details>


# %% tags=["exercise"]
def loop_of(text):
    """-> (where the loop begins, how long a round is)"""
    ...


checks.check("6.1", loop_of)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def loop_of(text):
    for start in range(len(text)):
        for n in range(1, (len(text) - start) // 2 + 1):
            if text[start:-n] == text[start + n :]:
                return start, n
    return len(text), 0


checks.check("6.1", loop_of, quiet=True)

# %% [markdown]
# ### Exercise 6.2 · core · 25 min
#
# *Speculative decoding* (Leviathan et al., 2023). A small model drafts a token from its distribution $q$; the large one,
# with $p$, accepts it or has another drawn, so that what comes out is distributed as $p$. With what highest probability can
# each drafted token be accepted? From which distribution is one drawn after a refusal? (If $q = p$ there is none: return
# $p$.)
#
# Then let 2 layers draft four characters at a time for 6 layers, which read them in one pass. How many are accepted?
#
# <details><summary>Hint 1</summary>
#
# Drafted too rarely, a token is always accepted; drafted twice too often, every other time. </details>
#
# <details><summary>Hint 2</summary>
#
# Accepted, a token comes out with probability min(p, q). Drawn instead: what p has beyond that, divided by its sum.
# </details>
#
# <details><summary>The second half</summary>
#
# Run the folded solution's `draft_and_verify(model, models["2 layers"], tokens, 100)`. </details>
#
# <details><summary>In earnest</summary>
#
# It can be simpler still. Let draft and model run *the same race*, `draw` with the same lengths, and keep what both drew: nothing
# is accepted by chance, and the text is the model's own, character by character. The course's writer does so
# (`course_utils/generation/speculative.py`), with lesson 1's counter for a draft: for the recorded study's
# 6 layers, 256 wide, about twice as fast on two cores. With the laptop's small models the guesses cost more than they spare. </details>


# %% tags=["exercise"]
def speculate(p, q):
    """p, q: (V,) of target and draft, above 0 -> accept (V,), instead (V,)"""
    ...


checks.check("6.2", speculate)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def speculate(p, q):
    missed = (p - q).clamp(min=0)
    total = missed.sum()
    return (p / q).clamp(max=1), missed / total if total > 0 else p


@torch.no_grad()
def draft_and_verify(target, draft, tokens, n, at_once=4):
    """Write n tokens, (1, T) -> (1, T + n), and the share of drafts accepted."""
    end, accepted, drafted = tokens.shape[1] + n, 0, 0
    while tokens.shape[1] < end:
        T, guesses = tokens.shape[1], tokens
        for _ in range(at_once):
            guesses = torch.cat([guesses, draw(draft(guesses)[:, -1])], dim=1)
        p, q = (m(guesses)[0, T - 1 : -1].softmax(-1) for m in (target, draft))
        for token, p_here, q_here in zip(guesses[0, T:], p, q, strict=True):
            accept, instead = speculate(p_here, q_here)
            drafted += 1
            if refused := torch.rand(()) > accept[token]:
                token = instead.multinomial(1)[0]
            accepted += not refused
            tokens = torch.cat([tokens, token.view(1, 1)], dim=1)
            if refused:
                break
    return tokens[:, :end], accepted / drafted


checks.check("6.2", speculate, quiet=True)

# %% [markdown]
# ### Exercise 6.3 · core · 10 min
#
# The entropy, in nats, of the distribution behind filtered logits. Some are $-\infty$; a dropped token adds nothing.
#
# <details><summary>Hint 1</summary>
#
# $-\sum p \ln p$ over the last axis. What does the computer make of $0 \cdot \ln 0$? </details>
#
# <details><summary>Hint 2</summary>
#
# Put 0 for what is not a number, or use `torch.special.entr`. </details>


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
# ### Exercise 6.4 · core · 30 min
#
# *Beam search* looks for the likeliest text: it keeps `width` begun texts, extends each by every token, and keeps the
# `width` most probable again, $n$ times. Return the best, the prompt included, and its log-probability.
#
# Then compare 100 characters by beams with drawn ones: the model's own loss, and repetition.
#
# <details><summary>Hint 1</summary>
#
# A text's log-probability is the sum over its tokens. Pairs `(score, ids)` can be sorted. </details>
#
# <details><summary>Hint 2</summary>
#
# All continuations of all texts go into one list; then the best `width`. </details>
#
# <details><summary>The second half</summary>
#
# Under `torch.no_grad()`, `next_log_p = lambda ids: model(torch.tensor([ids]))[0, -1].log_softmax(-1)`; then
# `losses_in(torch.tensor([ids]))`. For us beams cost half of what drawn and human text does, and repeat. Eight beams found
# a less likely text than four: what is dropped is lost, and four happened to keep the better beginning. </details>


# %% tags=["exercise"]
def beam_search(next_log_p, prompt, n, width):
    """prompt: a list of ids. next_log_p(ids) -> (V,). -> (ids, log-probability)"""
    ...


checks.check("6.4", beam_search)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def beam_search(next_log_p, prompt, n, width):
    texts = [(0.0, list(prompt))]
    for _ in range(n):
        longer = [
            (score + x, [*ids, i])
            for score, ids in texts
            for i, x in enumerate(next_log_p(ids).tolist())
        ]
        texts = sorted(longer, reverse=True)[:width]
    score, ids = texts[0]
    return ids, score


checks.check("6.4", beam_search, quiet=True)

# %% [markdown]
# ### Exercise 6.5 · core · 15 min
#
# *Min-p* (Nguyen et al., 2024): a token stays if its probability is at least a given share of the best one's. Dropped
# tokens become $-\infty$, the others stay as they are; each row has its own best.
#
# <details><summary>Hint 1</summary>
#
# Softmax first, then `amax(-1, keepdim=True)`. </details>
#
# <details><summary>Hint 2</summary>
#
# Shorter: a ratio of probabilities is a difference of logits. Add $\ln$ of the share to the best logit. </details>


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
# Against loops, Keskar et al. (2019) divide the logit of each token seen before by a penalty. Taken literally, this makes
# some *likelier*. Instead, let a penalty of 2 halve a positive logit and double a negative one, once for each token,
# however often it was seen. Leave the input as it was.
#
# Then copy `write_with`, and let it take `penalise(logits[0], written[0].tolist(), 1.3).argmax()[None, None]`. Does greedy
# leave its circle, and what becomes of the spaces?
#
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
# *Typical sampling* (Meister et al., 2023): people take the likeliest character only half of the time, as you saw. So sort
# tokens by how close their loss $-\ln p$ lies to the entropy, and keep the closest until they reach a given mass, at least
# one.
#
# Then draw at masses from 0.2 to 0.95, and take `judge.measure` of 1,000 characters, three seeds each. Is it nearer to the
# human row than top-p, by more than its seeds differ?
#
# <details><summary>Hint 1</summary>
#
# Top-p in another order. The likeliest token may be dropped: that is the point. </details>
#
# <details><summary>Hint 2</summary>
#
# `order = (losses - entropy).abs().argsort()`. A token stays if the mass *before* it, `cumsum(0) - sorted`, is less than
# asked for. </details>


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
# ## Test yourself
#
# **1. The temperature goes from 1 to 0.5. What happens to the ratio of the two best probabilities?**
# (a) it stays · (b) it doubles · (c) it is squared
#
# <details><summary>Answer</summary>
#
# **(c)** The ratio is $e^{(z_1 - z_2)/\tau}$; half of $\tau$ doubles the exponent. (a) holds for a filter that drops
# others, (b) for the difference of logits. </details>
#
# **2. Model A's text has a lower 5-gram loss than human text. Then A …**
# (a) writes better than a human · (b) is more predictable than a human · (c) has copied
#
# <details><summary>Answer</summary>
#
# **(b)**, and no more. (a) takes a measure for the goal: "the the the" scores well too. (c) is possible; *longest copy*
# would tell. </details>
#
# **3. Why do greedy texts loop more than drawn ones?**
# (a) the model has seen loops in training · (b) a few characters decide, and greedy has one way on from each place
#
# <details><summary>Answer</summary>
#
# **(b)** fits what you measured for ours: a draw may leave the circle each time. (a) hardly: the training text repeats
# little. </details>
#
# **Next:** change something. `course ablate` runs any study of lesson 5 in full; `course generate` writes as much as you
# like.
