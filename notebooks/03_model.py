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
# # 3 · The model: from a character to a guess
#
# A Transformer is what you get when you give attention something to move, a sense of order, a place to think, and a road
# that runs straight through. You first meet the finished thing, talking; then you build it again, each part for the loss
# that it removes or for what breaks without it.

# %% [markdown]
# **You will be able to** explain each part of a decoder-only Transformer · compare four ways to tell it about
# position · count its parameters in your head · look into a model layer by layer · test one before you train it.
#
# **You need** [lesson 2](02_attention.ipynb), derivatives as an idea. **Time:** an hour of reading, a minute or two of
# computing.

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
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from course_utils.lessons.attention import causal_attention, merge_heads, split_heads

# %%
import math
from dataclasses import replace

import pandas as pd

from course_utils import corpus, figures, profiles
from course_utils.lessons.data import CharTokenizer, baseline_losses, get_batch, split
from course_utils.training import runs

# %% [markdown]
# The text and its alphabet, as in lesson 1. The profile says how much work this machine is given.

# %%
text, profile = corpus.load(), profiles.current()
print(text.describe(), f"\nprofile {profile.name}")
tokenizer = CharTokenizer(text.text)
V = tokenizer.vocab_size
train_ids, validation_ids = split(torch.tensor(tokenizer.encode(text.text)))

# %% [markdown]
# ## The whole, before its parts
#
# Here is a model of two layers that somebody trained for about a minute.

# %%
trained, record = runs.small_model(text)
_ = trained.eval()  # no dropout; `_ =` keeps the notebook from printing the model

# %% [markdown]
# Ask it for a text: softmax turns its scores into probabilities, one character is drawn from them and put behind the text,
# and the model is asked again. The `temperature` makes likely characters a little likelier still; lesson 6 is about it.


# %%
@torch.no_grad()
def speak(model, prompt, n_characters, temperature=0.8):
    """The prompt, and so many characters more."""
    ids = torch.tensor([tokenizer.encode(prompt)])
    for _ in range(n_characters):
        logits = model(ids[:, -model.config.context_length :])[0, -1]
        chosen = torch.multinomial((logits / temperature).softmax(dim=-1), 1)
        ids = torch.cat([ids, chosen[None]], dim=1)
    return tokenizer.decode(ids[0])


# %%
torch.manual_seed(0)
print(speak(trained, text.fitting_prompt(), 300))

# %% [markdown]
# It is nonsense, and look how much of it is right: names in capitals with a colon, lines of verse length, words that exist or
# could. Nobody wrote a rule. What kind of machine learns this from nothing but "guess the next character"?

# %%
print(trained)

# %% [markdown]
# These are all its learned parts. Read from the top: an embedding; its layers, called blocks in code, each with two norms, an
# attention and a feed-forward network; a last norm; a *head* that scores the next character. How they are joined, and how the model knows
# about order, comes below. By the end of this lesson you have written every line of it.
#
# ## The settings
#
# Everything that may vary stands in one frozen dataclass, so that a run can be written down and repeated. The
# defaults are the course's `baseline`. A wrong setting is refused at once, in words.


# %% tags=["export"]
@dataclass(frozen=True)
class GPTConfig:
    """The sizes and switches of a GPT. The defaults are the `baseline` with 6 layers."""

    vocab_size: int = 65  # V
    context_length: int = 256  # T, the longest input
    n_layers: int = 6
    n_heads: int = 8  # H
    d_model: int = 256  # C, the width of the residual stream
    d_ff: int = 1024  # the width inside a feed-forward network
    dropout: float = 0.1  # share of activations set to 0 in training
    position: str = "learned"  # learned | sinusoidal | rope | none
    norm: str = "layernorm"  # layernorm | rmsnorm | none
    norm_placement: str = "pre"  # pre | post
    activation: str = "gelu"  # gelu | relu | relu2 | swiglu
    tie_embeddings: bool = True  # one matrix reads tokens and writes logits
    qk_norm: bool = False  # queries and keys scaled to a root mean square of 1
    residual: bool = True  # add a sublayer's output to its input

    def __post_init__(self):
        for name, problem in check_config(self).items():
            raise ValueError(f"{name} {problem}, not {getattr(self, name)!r}")


# %% [markdown]
# What a switch may say, and what is wrong with a config:


# %% tags=["export"]
CHOICES = {
    "position": ("learned", "sinusoidal", "rope", "none"),
    "norm": ("layernorm", "rmsnorm", "none"),
    "norm_placement": ("pre", "post"),
    "activation": ("gelu", "relu", "relu2", "swiglu"),
}

# %% [markdown]
# And the check: sizes are whole numbers, switches say what the table allows, heads divide the width.


# %% tags=["export"]
def check_config(config):
    """What is wrong with a config: {setting: what is allowed}, empty if nothing is."""
    wrong = {}
    for name in ("vocab_size", "context_length", "n_layers", "n_heads", "d_model", "d_ff"):
        size = getattr(config, name)
        if not isinstance(size, int) or size < 1:
            wrong[name] = "must be a whole number of at least 1"
    for name, allowed in CHOICES.items():
        if getattr(config, name) not in allowed:
            wrong[name] = f"must be one of {', '.join(allowed)}"
    if not 0 <= config.dropout < 1:
        wrong["dropout"] = "must lie in [0, 1)"
    if not wrong and config.d_model % config.n_heads:
        wrong["d_model"] = f"must be a multiple of n_heads ({config.n_heads})"
    if not wrong and config.position == "rope" and config.d_model // config.n_heads % 2:
        multiple = f"an even multiple of n_heads ({config.n_heads})"
        wrong["d_model"] = f"must be {multiple} where position is rope"
    return wrong


# %% [markdown]
# A slip costs a sentence now instead of a crash after an hour:

# %% tags=["nbval-check-output"]
try:
    GPTConfig(norm="batchnorm")
except ValueError as error:
    print(error)

# %% [markdown]
# ## A ladder of small models
#
# To see what each part is worth, you train small models for a few seconds, each with one part more. One function
# trains them all the same way (the loop is lesson 4's subject), and one fixed set of held-out windows measures them.

# %%
sizes = {"n_layers": 2, "n_heads": 4, "d_model": 64, "d_ff": 256, "dropout": 0.0}
small = GPTConfig(V, context_length=32, **sizes)
T, C = small.context_length, small.d_model
steps = min(400, 4 * profile.demo_steps)
held_out = get_batch(validation_ids, 512, T, torch.Generator().manual_seed(1))


def loss_of(model, tokens, targets):
    """The mean token loss, in nats/character."""
    return F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())


# %% [markdown]
# The loop, for now as plain as it can be. Every model gets the same seed and the same batches, so that only the model differs.


# %%
def learn(make, length=1.0, rate=3e-3):
    """Make a model, train it for length × steps. -> model, losses, held-out loss"""
    torch.manual_seed(0)
    model, draw, losses = make(), torch.Generator().manual_seed(0), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for _ in range(round(length * steps)):
        loss = loss_of(model, *get_batch(train_ids, 16, T, draw))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        return model, losses, loss_of(model, *held_out).item()


# %% [markdown]
# Each rung is an embedding, some **sublayers** (the parts that a layer is made of), and a linear head that scores the
# characters. Each sublayer's output is *added* to what passes by; take that plus on trust for now.


# %%
class Rung(nn.Module):
    """Tokens (B, T) -> logits (B, T, V) through the given sublayers."""

    def __init__(self, *sublayers, added=None, angles=None):
        super().__init__()
        self.embedding = nn.Embedding(V, C)
        self.sublayers = nn.ModuleList(sublayers)
        self.added, self.angles = added, angles  # what tells it about position
        self.head = nn.Linear(C, V, bias=False)

    def forward(self, tokens):
        x = self.embedding(tokens)
        if self.added is not None:
            x = x + self.added
        for sublayer in self.sublayers:
            turned = {"angles": self.angles} if isinstance(sublayer, Attention) else {}
            x = x + sublayer(x, **turned)
        return self.head(x)


# %% [markdown]
# ## Embeddings
#
# A token's id says nothing by its size: 40 isn't twice 20. So each of the $V$ ids gets a vector of $C$ numbers of its
# own, to be learned. Looking it up is the same as multiplying a one-hot vector by a matrix:

# %%
embedding = nn.Embedding(11, 6)
ids = torch.tensor([3, 1, 4])
product = F.one_hot(ids, 11).float() @ embedding.weight
assert torch.equal(embedding(ids), product), "a lookup is a product with one-hots"

# %% [markdown]
# **Predict:** the trained model never heard of vowels or capitals. Which characters will have vectors that lie close
# together?

# %%
vectors = trained.embedding.weight.detach()
title = "Characters as the trained model sees them"
figures.character_map(vectors, tokenizer.alphabet, title=title, note=text.note)

# %% [markdown]
# Capitals on one side, small letters on the other, sentence ends far from both: characters lie together that stand in the
# same places, after the same things and before the same things. (In this model one vector serves for reading a character
# and for guessing it; more under *tied embeddings*.) The two axes hold only part of the variation.
#
# **The first rung** is an embedding and a head: it sees one character and guesses the next. Which loss of lesson 1 is the
# best it can hope for?

# %%
baselines, ladder = baseline_losses(text.text), {}
_, _, loss = learn(Rung)
ladder["one character"] = loss
print(f"one character {loss:.3f}, bigram {baselines['bigram']:.3f} nats/character")

# %% [markdown]
# The bigram: both know one character and nothing else. The network learns by gradient what lesson 1 counted. To do
# better, a position must hear from the others.
#
# ## Attention, with weights to learn
#
# Lesson 2's functions with learned maps around them: one matrix makes queries, keys and values from the stream, one
# writes the result back. `angles` is for the next section and `cache` for lesson 6. `qk_norm` scales queries and keys to
# one size, which keeps the scores tame at high learning rates.


# %% tags=["export"]
class Attention(nn.Module):
    """Multi-head causal self-attention: (B, T, C) -> (B, T, C)."""

    def __init__(self, config):
        super().__init__()
        self.n_heads, self.qk_norm = config.n_heads, config.qk_norm
        self.dropout = config.dropout
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=False)
        self.out = nn.Linear(config.d_model, config.d_model, bias=False)

    def queries_keys_values(self, x, angles=None):
        """x: (B, T, C) -> q, k, v: (B, H, T, D), normed and turned as configured."""
        three = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (split_heads(part, self.n_heads) for part in three)
        if self.qk_norm:
            q, k = F.rms_norm(q, q.shape[-1:]), F.rms_norm(k, k.shape[-1:])
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        return q, k, v

    def forward(self, x, angles=None, cache=None):
        q, k, v = self.queries_keys_values(x, angles)
        if cache is not None:
            k, v = cache.extend(k, v)
        dropout = self.dropout if self.training else 0.0
        return self.out(merge_heads(causal_attention(q, k, v, dropout)))


# %% [markdown]
# **Predict:** attention is a weighted mean, and a mean doesn't know the order of what it averages. If you shuffle all
# characters but the last, what happens to the guess after the last one?

# %%
bag, _, loss = learn(lambda: Rung(Attention(small)))
ladder["+ attention"] = loss
line = held_out[0][:1]
shuffled = torch.cat([line[:, torch.randperm(T - 1)], line[:, -1:]], dim=1)
with torch.no_grad():
    in_order, mixed = bag(line)[:, -1], bag(shuffled)[:, -1]
assert torch.allclose(in_order, mixed, atol=1e-4), "no positions: a bag of characters"
print(f"+ attention {loss:.3f}")

# %% [markdown]
# Nothing happens. This model reads a *bag of characters*: it knows which letters came, not that `h` came after `t`. It is a
# little better than the bigram, and after the full stop it can't tell *"dog bites man."* from *"man bites dog."*
#
# ## Position
#
# Four ways to mend that. The `baseline` learns **one vector a position** and adds it to the embedding. The first Transformer
# added fixed **sinusoids**: sines and cosines whose speed falls from channel to channel. (It also
# multiplied the embeddings by $\sqrt C$; otherwise the sinusoids, which are large, would drown them.)


# %% tags=["export"]
def position_angles(context_length, d):
    """Position t times d/2 speeds that fall from 1 to 1/10000: (T, d/2) radians."""
    speeds = 10000.0 ** (-torch.arange(0, d, 2) / d)
    return torch.arange(context_length)[:, None] * speeds


# %% [markdown]
# From these angles the sinusoids: half of the channels hold the sines, half the cosines.


# %% tags=["export"]
def sinusoidal_positions(context_length, d_model):
    """A fixed vector a position, sines, then cosines: (T, C). Vaswani (2017), 3.5."""
    angles = position_angles(context_length, d_model + d_model % 2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[:, :d_model]


# %% [markdown]
# **Predict:** which channels differ between two neighbours, and which between places that are far apart?

# %%
labels = ("position", "channel (sines, then cosines)", "value")
table = sinusoidal_positions(64, 64)
figures.heatmaps(table, labels=labels, title="Sinusoidal positions")

# %% [markdown]
# Each row is a position's own pattern, like the hands of many clocks. The left channels of each half turn fast and tell
# neighbours apart; those further right turn slowly and tell far places apart. Over all channels, neighbours are most alike.
#
# **Rotary** positions (RoPE) use the same clocks in another way: they *turn* queries and keys by their
# position's angles. Then positions enter a dot product through their *difference* alone, which is what language
# cares about: "three characters ago", not "at place 117".


# %% tags=["export"]
def rotate(x, angles):
    """Turn the channel pair (i, i + D/2) at position t by angles[t, i]; lengths stay.

    x: (B, H, T, D), angles: (T, D/2) radians -> (B, H, T, D). Su et al. (2021), eq. 34.
    """
    cos, sin = angles.cos(), angles.sin()
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)


# %% [markdown]
# Put one query and one key at every place, and let each be turned. The score should not care where they stand, but how far apart.

# %%
angles = position_angles(23, 8)
query, key = torch.randn(2, 1, 1, 1, 8).expand(2, 1, 1, 23, 8)
turned = (rotate(query, angles) @ rotate(key, angles).mT)[0, 0]
assert torch.allclose(turned[5, 3], turned[20, 18], atol=1e-5), "the distance decides"
curve = {"one query, one key": turned[22].flip(0)}
labels = ("distance (positions)", "score q · k")
title = "One query and one key, turned apart"
figures.lines(torch.arange(23), curve, *labels, title=title)

# %% [markdown]
# Wherever the pair stands, two apart is two apart, for this pair as for any. Why? Two numbers of a vector are an arrow, each
# place turns it a little further, and a dot product sees only the angle between two arrows:

# %%
figures.rotary_turn(((5, 3), (20, 18)), 20, title="Both turned: the same angle")

# %% [markdown]
# The score is a curve over the distance, and this head could learn to listen where it is high.
#
# The fourth way is **none**. In a model of several layers that is not quite blind: the mask lets position 4 average five
# values and position 49 fifty, and a second layer can notice. Now two of the four on the ladder: learned vectors, and rotary.
# **Predict:** how much is order worth, next to attention itself?

# %%
turns = position_angles(T, C // small.n_heads)


def learned():
    return Rung(Attention(small), added=nn.Parameter(torch.randn(T, C)))


def rotary():
    return Rung(Attention(small), angles=turns)


_, _, ladder["+ learned positions"] = learn(learned)
_, _, ladder["+ rotary positions instead"] = learn(rotary)
print({rung: round(loss, 3) for rung, loss in ladder.items()})

# %% [markdown]
# Order is worth at least as much as hearing the others at all, and rotary learns faster: with learned vectors each pair of positions must
# find out for itself what "the one before" means; with rotary one head learns it once, for all places.
#
# ## A place to think
#
# Attention only mixes what is there. The **feed-forward network** (or **MLP**, for *multi-layer perceptron*) works on each
# position alone: up to a wider space, an **activation function**, which bends what passes, and back. Without that bend, two
# linear maps would be one.


# %% tags=["export"]
class FeedForward(nn.Module):
    """Two linear maps, an activation function between them: (B, T, C) -> (B, T, C)."""

    def __init__(self, config):
        super().__init__()
        self.activation = config.activation
        halves = 2 if config.activation == "swiglu" else 1
        self.up = nn.Linear(config.d_model, halves * config.d_ff, bias=False)
        self.out = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x):
        return self.out(activate(self.up(x), self.activation))


# %% [markdown]
# There are four to choose from. `swiglu` asks for twice the width, since one half decides how much of the other gets through.


# %% tags=["export"]
def activate(h, activation):
    """The activation function. swiglu halves the width: one half gates the other.

    Shazeer (2020) for swiglu; So et al. (2021), Primer, for relu2.
    """
    if activation == "gelu":
        return F.gelu(h)
    if activation == "swiglu":
        gate, h = h.chunk(2, dim=-1)
        return F.silu(gate) * h
    h = F.relu(h)
    return h.square() if activation == "relu2" else h


# %% [markdown]
# **Predict:** which two of them are hard to tell apart, and where do they differ?

# %%
x = torch.linspace(-3, 3, 61)
curves = {name: activate(x, name) for name in ("relu", "gelu", "relu2")}
both = activate(torch.stack([x, x], dim=-1), "swiglu")
curves["swiglu, both halves equal"] = both.squeeze(-1)
figures.lines(x, curves, "in", "out", title="Four activation functions")

# %% [markdown]
# **Why GELU?** ReLU is flat on the left: a unit that has landed there for all inputs gets no gradient and stays dead. GELU is
# smooth and lets a little through near 0 (Hendrycks and Gimpel, 2016). Squared ReLU makes strong signals
# stronger; SwiGLU lets one half gate the other. Lesson 5 measures whether any of it matters here.

# %% [markdown]
# On the ladder, one such network, and then a second pair of attention and feed-forward:


# %%
def pairs(n):
    """Attention and a feed-forward network, n times over, with rotary positions."""
    sublayers = [kind(small) for kind in n * [Attention, FeedForward]]
    return Rung(*sublayers, angles=turns)


assert activate(torch.tensor(-0.5), "gelu") != 0, "GELU lets a little through left of 0"
_, _, ladder["+ feed-forward"] = learn(lambda: pairs(1))
_, _, ladder["+ a second pair"] = learn(lambda: pairs(2))

# %% [markdown]
# All rungs, beside what counting reached. **Predict** which step removes most.

# %%
rungs = {name: baselines[name] for name in ("unigram", "bigram")} | ladder
title = "The ladder: each part for the loss it removes"
figures.loss_bars(rungs, title=title, note=text.note)

# %% [markdown]
# Each rung is one seed, and luck is worth about a hundredth at this size (lesson 2 measured it with three), so take steps of that
# size for nothing. Two pairs of sublayers beat one: perhaps because the second works on what the first has made, perhaps because
# there are twice as many weights. This ladder can't tell. So stack twelve pairs? Without the plus that you took on trust,
# they hardly train.
#
# ## The residual stream
#
# Each sublayer reads the stream that passes by and *adds* its output: a **residual connection** (or *skip connection*). In
# the forward pass nothing has to be rebuilt; in the
# backward pass the gradient of $x + f(x)$ is $1 + f'(x)$, and the 1 is a straight road beside each sublayer.
# **Predict:** without the plus, how much of a gradient is left after twelve feed-forward networks?


# %%
def gradient_by_depth(plus, depth=12):
    """log10 of the gradient's length in the stream, after each of `depth` networks."""
    torch.manual_seed(0)
    x, stages = torch.randn(16, T, C), []
    for _ in range(depth):
        network = FeedForward(small)  # untrained
        x = x + network(x) if plus else network(x)
        x.retain_grad()
        stages.append(x)
    x.sum().backward()
    return [x.grad.norm().log10().item() for x in stages]


# %% [markdown]
# The scale is logarithmic: one less is a tenth.

# %%
curves = {"with the plus": gradient_by_depth(True), "without": gradient_by_depth(False)}
labels = ("after feed-forward network", "length of the gradient (log10)")
title = "What comes back to each of twelve"
figures.lines(range(1, 13), curves, *labels, title=title)

# %% [markdown]
# Read it from right to left, the way the gradient travels. With the plus all of them hear about the same; without it each
# passes on about a sixth. That sixth is not depth's doing. PyTorch draws the weights of a map from $n$ channels between
# $\pm 1/\sqrt n$, which shrinks what passes by $1/\sqrt 3$, and GELU's slope at 0 is a half:

# %% tags=["nbval-check-output"]
slope = (activate(torch.tensor(1e-3), "gelu") - activate(torch.tensor(-1e-3), "gelu")) / 2e-3
print(f"1/√3 · {slope:.2f} · 1/√3 = {slope / 3:.4f}, and the figure's slope ", end="")
print(f"{10 ** ((curves['without'][-1] - curves['without'][0]) / -11):.4f}")

# %% [markdown]
# Larger weights would keep the gradient alive. So the **vanishing gradient** is a matter of scale, and not why residual
# connections win: plain deep networks with healthy gradients are worse too (He et al., 2016, who say so). What the plus gives
# is a straight way for signal and gradient, whatever the sublayers do. Does a small gradient hurt at all? With SGD a small
# gradient is a small step. AdamW, which trains everything here, divides by the gradient's size, so its steps hardly shrink.
# What breaks without the plus, you will measure below.
#
# ## Normalisation
#
# Now all sublayers write to one stream, and it grows. A **norm** rescales each position's
# channels to a standard size, with one learned gain a channel. LayerNorm also takes the mean away; RMSNorm leaves it:
#
# $$y_i = g_i\, x_i \big/ \sqrt{\tfrac1C\textstyle\sum_j x_j^2 + \varepsilon}$$


# %% tags=["export"]
def make_norm(config):
    """Each position's channels at a common size, or left alone: (B, T, C) -> (B, T, C).

    Ba et al. (2016) for LayerNorm; Zhang and Sennrich (2019) for RMSNorm.
    """
    if config.norm == "layernorm":
        return nn.LayerNorm(config.d_model, bias=False)
    if config.norm == "rmsnorm":
        return nn.RMSNorm(config.d_model, eps=1e-5)
    return nn.Identity()


# %% [markdown]
# Three kinds, given channels with a mean of 5 and a spread of 3:

# %%
x = 5 + 3 * torch.randn(2, 3, 256)
for kind in ("layernorm", "rmsnorm", "none"):
    y = make_norm(GPTConfig(norm=kind))(x)
    size = y.square().mean().sqrt()
    print(f"{kind}: mean {y.mean():.2f}, root mean square {size:.2f}")

# %% [markdown]
# **Where does it stand?** Before each sublayer (*pre*), beside the road: the sublayer reads a tidy copy, the stream itself runs
# untouched. In the first Transformer it stood on the road, after each sum (*post*): every norm rescales the whole stream
# and the gradient with it, so that deep models needed a careful warm-up (Xiong et al., 2020).

# %%
figures.block_sides(title="One block, and where its norms stand")

# %% [markdown]
# The left one in code is the line to remember from this lesson: *x plus what attention makes of it, then x plus what the
# feed-forward network makes of that.*


# %%
class PlainBlock(nn.Module):
    """Pre-norm, nothing else: (B, T, C) -> (B, T, C)."""

    def __init__(self, config):
        super().__init__()
        self.attention, self.feed_forward = Attention(config), FeedForward(config)
        self.norm_1, self.norm_2 = make_norm(config), make_norm(config)

    def forward(self, x):
        x = x + self.attention(self.norm_1(x))
        return x + self.feed_forward(self.norm_2(x))


# %% [markdown]
# Is it what the world calls a Transformer block? PyTorch has one, `nn.TransformerEncoderLayer`. Give it the same weights
# and a causal mask:

# %%
plain = PlainBlock(small)
library = nn.TransformerEncoderLayer(
    C, small.n_heads, small.d_ff, 0.0, "gelu", batch_first=True, norm_first=True, bias=False
)
pairs_of_weights = {
    library.self_attn.in_proj_weight: plain.attention.qkv.weight,
    library.self_attn.out_proj.weight: plain.attention.out.weight,
    library.linear1.weight: plain.feed_forward.up.weight,
    library.linear2.weight: plain.feed_forward.out.weight,
}
with torch.no_grad():
    for theirs, ours in pairs_of_weights.items():
        theirs.copy_(ours)
x = torch.randn(2, T, C)
hidden = torch.ones(T, T, dtype=torch.bool).triu(diagonal=1)
assert torch.allclose(library(x, hidden), plain(x), atol=1e-5), "PyTorch's block is ours"

# %% [markdown]
# The form that the course keeps has the ablation's switches: dropout, which in training sets a random share of the numbers
# to 0 so that none is relied on; the norm's place; the plus. At its defaults it is the plain one.


# %% tags=["export"]
class Block(nn.Module):
    """Attention, then feed-forward, each added to the stream: (B, T, C) -> (B, T, C)."""

    def __init__(self, config):
        super().__init__()
        self.attention, self.feed_forward = Attention(config), FeedForward(config)
        self.norm_1, self.norm_2 = make_norm(config), make_norm(config)
        self.dropout = nn.Dropout(config.dropout)
        self.pre, self.residual = config.norm_placement == "pre", config.residual

    def add(self, x, norm, sublayer):
        """x plus what the sublayer makes of it, normed before it or after the sum."""
        update = self.dropout(sublayer(norm(x) if self.pre else x))
        x = x + update if self.residual else update
        return x if self.pre else norm(x)

    def forward(self, x, angles=None, cache=None):
        x = self.add(x, self.norm_1, lambda h: self.attention(h, angles, cache))
        return self.add(x, self.norm_2, self.feed_forward)


# %%
general = Block(replace(small, dropout=0.0))
general.load_state_dict(plain.state_dict())
assert torch.equal(general(x), plain(x)), "switches at rest change nothing"

# %% [markdown]
# ## The whole
#
# Embed, add positions, pass through the blocks, norm once more, and score every possible next token. With **tied
# embeddings** the head is the embedding itself: a token's score is how well the stream matches that token's own
# vector (Press and Wolf, 2017). Reading and writing a character then share what they learn, and there is one matrix less.

# %%
shapes = {"tokens": (2, T), "x": (2, T, C), "logits": (2, T, small.vocab_size)}
figures.decoder_stack(shapes, small.n_layers, title="The whole decoder")


# %% tags=["export"]
class GPT(nn.Module):
    """A decoder-only Transformer: tokens (B, T) int64 -> logits (B, T, V)."""

    def __init__(self, config):
        super().__init__()
        self.config, kind = config, config.position
        T, C, V = config.context_length, config.d_model, config.vocab_size
        sinusoids = sinusoidal_positions(T, C) if kind == "sinusoidal" else None
        angles = position_angles(T, C // config.n_heads) if kind == "rope" else None
        self.scale = C**0.5 if kind == "sinusoidal" else 1.0  # sinusoids drown tokens
        self.embedding = nn.Embedding(V, C)
        self.positions = nn.Parameter(torch.empty(T, C)) if kind == "learned" else None
        self.register_buffer("sinusoids", sinusoids, persistent=False)
        self.register_buffer("angles", angles, persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = make_norm(config) if config.norm_placement == "pre" else nn.Identity()
        self.head = nn.Linear(C, V, bias=False)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        initialise(self)

    def forward(self, tokens, cache=None):
        """cache: one a layer (lesson 6); the tokens then follow those already in it."""
        start = cache[0].length if cache else 0
        added, angles = positions_at(self, start, start + tokens.shape[1])
        x = self.dropout(self.embedding(tokens) * self.scale + added)
        for i, block in enumerate(self.blocks):
            x = block(x, angles, cache[i] if cache else None)
        return self.head(self.norm(x))


# %% [markdown]
# What a place adds to the stream, and what it turns by, is a function of its own: lesson 6 asks for places from the middle of a
# text.


# %% tags=["export"]
def positions_at(model, start, stop):
    """What positions start … stop - 1 add to embeddings, and turn queries and keys by.

    -> (T, C) or 0.0, and (T, D/2) radians or None. ValueError beyond the context.
    """
    longest, kind = model.config.context_length, model.config.position
    if stop > longest:
        raise ValueError(f"{stop} tokens are more than the context length of {longest}")
    added = {"learned": model.positions, "sinusoidal": model.sinusoids}.get(kind)
    angles = None if model.angles is None else model.angles[start:stop]
    return (0.0 if added is None else added[start:stop]), angles


# %% [markdown]
# ## Where it starts
#
# The weights begin as small random numbers. How small matters: the first guesses should be even. **Predict** the
# first loss of a model whose weights are fifty times as large as they should be.


# %% tags=["export"]
@torch.no_grad()
def initialise(model, std=0.02):
    """GPT-2's start: normal weights; what writes to the stream is smaller by 1/√(2L).

    Radford et al. (2019), section 2.3.
    """
    smaller = (2 * model.config.n_layers) ** -0.5
    for name, weight in model.named_parameters():
        if weight.ndim == 2:
            writes = name.endswith("out.weight")
            nn.init.normal_(weight, std=std * smaller if writes else std)


# %% [markdown]
# Four spreads, one untrained model each:

# %%
for std in (0.002, 0.02, 0.1, 1.0):
    torch.manual_seed(0)
    model = GPT(small)
    initialise(model, std)
    with torch.no_grad():
        loss = loss_of(model, *held_out)
    print(f"deviation {std}: first loss {loss:.2f} (uniform {math.log(V):.2f})")

# %% [markdown]
# A first loss far above $\ln V$ means a model that is *sure and wrong*: it spends its first hundreds of steps unlearning that. If
# you see a first loss of 20, look at the initialisation before anything else.
#
# ## What breaks without each part
#
# Six layers, a few seconds each, one thing taken away, or two. **Predict** the order, best to worst.

# %%
deep, broken = replace(small, n_layers=6, position="rope"), {}
changes = {"all as it should be": {}, "post-norm": {"norm_placement": "post"}}
changes |= {"no norm": {"norm": "none"}, "no residual": {"residual": False}}
changes["neither"] = {"norm": "none", "residual": False}
for name, change in changes.items():
    config = replace(deep, **change)
    _, _, broken[name] = learn(lambda config=config: GPT(config), length=0.25)
figures.loss_bars(broken, title="Six layers, parts missing", note=text.note)

# %% [markdown]
# The model called *neither*, without norm and without plus, stays at the uniform loss: next to no gradient comes through.
# Without the plus alone it learns hardly more than how frequent each character is, lesson 1's unigram. Post-norm and no
# norm learn, slowly. Norms show their full worth when you hurry: without them, what one layer overdoes the next one
# multiplies. Here are three layers at ten times the learning rate:

# %%
for name in ("all as it should be", "no norm"):
    config = replace(deep, n_layers=3, **changes[name])
    _, losses, _ = learn(lambda config=config: GPT(config), length=0.25, rate=3e-2)
    worst, last = max(losses), losses[-1]
    print(f"{name}: the worst loss on the way is {worst:.3g}, the last {last:.3g}")

# %% [markdown]
# ## What positions learn
#
# Train the finished GPT, learned positions and all, and compare the vectors of its positions: at the start they are noise.
# **Predict:** which positions will become alike?

# %%
torch.manual_seed(0)
start = GPT(small).positions.detach().clone()
own, _, loss = learn(lambda: GPT(small), length=2)
ladder["GPT, learned positions, twice the steps"] = loss
turned = rotate(torch.ones(1, 1, T, C), position_angles(T, C))[0, 0]
kinds = {"learned, start": start, "learned": own.positions.detach()}
kinds |= {"sinusoidal": sinusoidal_positions(T, C), "rotary": turned}
figures.position_similarity(kinds, title="How alike two positions are", note=text.note)

# %% [markdown]
# Nobody told the learned vectors that position 7 lies beside position 8; they found it out because neighbours have to
# be treated alike. The sinusoids and the rotations bring that order with them, from the first step on. (Their two lines lie on
# each other: they are the same clocks, added in one case, turned by in the other.)

# %% [markdown]
# ## What the stream carries
#
# All layers write to one stream of one width, so you can read it anywhere: apply the last norm and the head after each layer, as if
# the model stopped there. This is the *logit lens* (nostalgebraist, 2020). The trained model reads a line it has never
# seen. **Predict:** what does the stream say *before* the first layer, with tied embeddings?


# %%
@torch.no_grad()
def stream_after(model, tokens):
    """What passes by: before the first block and after each. -> a list of (B, T, C)"""
    added, angles = positions_at(model, 0, tokens.shape[1])
    stages = [model.embedding(tokens) * model.scale + added]
    for block in model.blocks:
        stages.append(block(stages[-1], angles))
    return stages


# %% [markdown]
# Norm and head after each layer; the figure writes down each stage's best guess, and colours the probability of the right one.

# %%
line = validation_ids[3 : 3 + min(33, trained.config.context_length)]
with torch.no_grad():
    stream = stream_after(trained, line[None, :-1])
    stages = [trained.head(trained.norm(x)).softmax(-1)[0] for x in stream]
guesses = [tokenizer.decode(p.argmax(-1)) for p in stages]
right = torch.stack([p.gather(-1, line[1:, None])[:, 0] for p in stages])
title, written = "What the model would say after each layer", tokenizer.decode(line)
figures.logit_lens(guesses, right, written, title=title, note=text.note)

# %% [markdown]
# Before any layer it says *the character it has just read*: a tied head asks which embedding the stream resembles, and it is
# that one. Layer 1 knows common pairs. Layer 2 completes words, and is sure where only one word fits. The stream
# starts as "what is here" and is rewritten, sum by sum, into "what comes next".
#
# ## How many numbers does it learn?
#
# Count before you compute. Attention has four $C \times C$ matrices, feed-forward two of $C \times 4C$: $12\,C^2$ a layer, plus two
# gains. Add the embedding, the positions and the last gains, and you have it.


# %% tags=["export"]
def count_parameters(model):
    """The number of learned numbers; a matrix that is used twice counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


# %% [markdown]
# The three depths of the study, by the sum and by counting:


# %% tags=["nbval-check-output"]
def closed_form(c):
    layer = 4 * c.d_model**2 + 2 * c.d_model * c.d_ff + 2 * c.d_model
    return c.n_layers * layer + (c.vocab_size + c.context_length + 1) * c.d_model


for n_layers in (2, 4, 6):
    config = GPTConfig(n_layers=n_layers)
    count = count_parameters(GPT(config))
    assert count == closed_form(config), "the closed form counts every parameter"
    print(f"{n_layers} layers: {count:,} parameters")

# %% [markdown]
# And where are they? **Predict** the largest share.

# %% tags=["nbval-check-output"]
baseline = GPT(GPTConfig())
shares = {"embedding and head": baseline.embedding.weight.numel()}
shares["positions"] = baseline.positions.numel()
for name, kind in (("attention", Attention), ("feed-forward", FeedForward)):
    parts = [part for part in baseline.modules() if isinstance(part, kind)]
    shares[name] = sum(map(count_parameters, parts))
total = count_parameters(baseline)
shares["norms"] = total - sum(shares.values())
for name, n in shares.items():
    print(f"{name:20} {n:9,}  {n / total:6.1%}")

# %% [markdown]
# Two thirds sit in the feed-forward networks, and nearly all of the rest in attention. With 65 characters the embedding is
# small change; a model of words would spend millions on it, and there tying saves a great deal.
#
# ## Test before you train
#
# Three checks take a second and find most mistakes. **First loss:** an untrained pre-norm model should find all
# characters about equally likely.

# %%
torch.manual_seed(0)
model = GPT(small)
tokens, targets = get_batch(train_ids, 8, T, torch.Generator().manual_seed(0))
first_loss = loss_of(model, tokens, targets).item()
assert abs(first_loss - math.log(V)) < 0.2, "an untrained model should know nothing"
print(f"first loss {first_loss:.3f}, ln V = {math.log(V):.3f}")

# %% [markdown]
# **Causality:** change the last token; only the last position's output may move.

# %%
changed = tokens.clone()
changed[:, -1] = (changed[:, -1] + 1) % V
moved = (model(changed) - model(tokens)).abs().amax(dim=(0, 2)) > 1e-6
assert moved.tolist() == [False] * 31 + [True], "a later token changes nothing before it"

# %% [markdown]
# **Overfit one batch:** a model that can't learn eight short lines by heart has a bug. How many steps will it take to
# bring the loss below 0.5?

# %%
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
losses = []
for _ in range(max(60, profile.demo_steps)):
    loss = loss_of(model, tokens, targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[-1] < 0.5 * losses[0], "a sound model learns one batch by heart"
curve, labels = {"loss on the one batch": losses}, ("step", "loss (nats/character)")
x, title = range(1, len(losses) + 1), "Learning eight lines by heart"
figures.lines(x, curve, *labels, title=title, note=text.note)

# %% [markdown]
# It falls far below the best n-gram, which proves nothing about language and a lot about the code: gradients reach
# where they must. The switches are there for lesson 5; none of them may look ahead.

# %%
switches = [{name: value} for name, values in CHOICES.items() for value in values]
switches += [{"tie_embeddings": False}, {"qk_norm": True}, {"residual": False}]
for switch in switches:
    variant = GPT(replace(small, **switch))
    moved = (variant(changed) - variant(tokens)).abs().amax(dim=(0, 2)) > 1e-6
    assert not moved[:-1].any(), f"{switch} looks ahead"

# %% [markdown]
# ## What you built
#
# A GPT, from a dataclass to logits, each part with its price; two windows into a trained one; and three tests that a model
# must pass before it deserves your electricity.
#
# **The loss log**, with the rungs of this lesson (seconds of training each):

# %%
log = pd.Series(baselines | ladder, name="nats/character")
log.sort_values(ascending=False).round(3).to_frame()

# %% [markdown]
# The rungs are measured on 512 windows of the last tenth, the n-grams on all of it: differences below a hundredth mean
# nothing. And why is the finished GPT behind *+ a second pair*, with twice the steps? It has learned positions where the rung
# has rotary ones, and it starts from much smaller weights. A few hundred steps show what a part does at the
# *start*; lesson 5 asks again with full training.

# %% [markdown]
# ## Questions
#
# **1.** Where would *"dog bites man."* and *"man bites dog."* differ in a model with `position="none"`, if at all?
#
# <details><summary>Answer</summary>
#
# In the second layer at the earliest: the mask lets each position average another number of characters, and that differs on the way. At the last position of a single layer, nowhere. </details>
#
# **2.** Why are only the matrices that *write* to the stream made smaller at the start?
#
# <details><summary>Answer</summary>
#
# The stream is a sum of 2L outputs. If each has variance 1, the sum has 2L; made smaller by 1/√(2L) each, it has 1 again. What reads from the stream is normed anyway. </details>
#
# **3.** Double `d_model`: by how much does the parameter count grow? And if you double `n_layers`?
#
# <details><summary>Answer</summary>
#
# Nearly fourfold (the matrices of a block are C × C and C × 4C, while the embedding only doubles). With `n_layers`, the blocks double and the embedding stays. </details>
#
# **4.** A friend's untrained model has a first loss of 11. Where do you look?
#
# <details><summary>Answer</summary>
#
# At the size of the first weights: logits far apart make sure guesses, and most of them are wrong. Near ln V is right. </details>

# %% [markdown]
# ## Exercises
#
# Write your answer in place of the `...` or the `None` and run the cell. It prints *right*, or *not yet* with the input that
# it tried, what it expected, what your code returned, and a guess at the mistake. Your
# code may be as plain as you like.

# %%
from course_utils import checks

# %% [markdown]
# ### Exercise 3.1 · warm-up · 5 min
#
# How many parameters has a GPT of the sizes below, with learned positions, LayerNorm without biases and tied embeddings? Work it out by
# hand, one part after the other, and write the number.
#
# <details><summary>Hint 1</summary>
#
# List the matrices with their shapes: the embedding, the positions, and four in each layer (`qkv` is three of $C \times C$ in
# one). Then the gains. </details>
#
# <details><summary>Hint 2</summary>
#
# `d_ff` isn't four times `d_model` here, the head is the embedding, and the number of heads changes nothing. </details>

# %%
print(checks.sizes("3.1"))

# %% tags=["exercise"]
parameters = ...

checks.check("3.1", parameters)

# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
sizes = checks.sizes("3.1")
width, wide = sizes["d_model"], sizes["d_ff"]
one_layer = 4 * width**2 + 2 * width * wide + 2 * width
rest = (sizes["vocab_size"] + sizes["context_length"] + 1) * width
parameters = sizes["n_layers"] * one_layer + rest

checks.check("3.1", parameters, quiet=True)

# %% [markdown]
# ### Exercise 3.2 · core · 10 min
#
# Write RMSNorm: each position's channels divided by the root of their mean square, times a gain for each channel. `eps` is added
# to the mean square, *inside* the root: a root is infinitely steep at 0, and outside it a position of zeros would get a
# gradient that is no number.
#
# <details><summary>Hint 1</summary>
#
# The mean runs over the last axis alone, and nothing is subtracted. </details>
#
# <details><summary>Hint 2</summary>
#
# `keepdim=True` keeps the axis, so that the division finds its place. </details>


# %% tags=["exercise"]
def rms_norm(x, gain, eps):
    """x: (B, T, C), gain: (C,) -> (B, T, C)."""
    ...


checks.check("3.2", rms_norm)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def rms_norm(x, gain, eps):
    return gain * x / (x.square().mean(dim=-1, keepdim=True) + eps).sqrt()


checks.check("3.2", rms_norm, quiet=True)

# %% [markdown]
# ### Exercise 3.3 · core · 15 min
#
# The lesson's `rotate` turns channel $i$ together with channel $i + D/2$. The paper, and the weights of many published models, turn
# *neighbours*: channels $2i$ and $2i+1$ by `angles[t, i]`. Load such weights into the other kind and you get noise. Write the neighbours'
# version.
#
# <details><summary>Hint 1</summary>
#
# `x[..., ::2]` and `x[..., 1::2]` are the two members of each pair; the formula is the lesson's. </details>
#
# <details><summary>Hint 2</summary>
#
# Put the results back side by side: `torch.stack((…, …), dim=-1)` and then `.flatten(-2)`. </details>


# %% tags=["exercise"]
def turn_neighbours(x, angles):
    """x: (B, H, T, D), angles: (T, D/2) radians -> (B, H, T, D)."""
    ...


checks.check("3.3", turn_neighbours)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def turn_neighbours(x, angles):
    a, b, cos, sin = x[..., ::2], x[..., 1::2], angles.cos(), angles.sin()
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)


checks.check("3.3", turn_neighbours, quiet=True)

# %% [markdown]
# ### Exercise 3.4 · core · 15 min
#
# Write the probe that finds a leak anywhere: does *any* output of the model depend on a *later* token? The lesson changed the last
# token only. The check hands you models with a mask that is off by one in one block, with a mean over all of time, and with a
# first position that peeks; and sound ones, which must pass.
#
# <details><summary>Hint 1</summary>
#
# Draw tokens once. For each place $t$, change the token there and compare the outputs *before* $t$. </details>
#
# <details><summary>Hint 2</summary>
#
# `(token + 1) % vocab_size` is another token. Let a difference below a millionth pass as rounding. </details>


# %% tags=["exercise"]
def looks_ahead(model, vocab_size, context_length):
    """model: tokens (B, T) int64 -> logits (B, T, V). -> True if it looks ahead."""
    ...


checks.check("3.4", looks_ahead)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def looks_ahead(model, vocab_size, context_length):
    tokens = torch.randint(vocab_size, (1, context_length))
    logits = model(tokens)
    for t in range(1, context_length):
        changed = tokens.clone()
        changed[0, t] = (changed[0, t] + 1) % vocab_size
        if (model(changed)[0, :t] - logits[0, :t]).abs().max() > 1e-6:
            return True
    return False


checks.check("3.4", looks_ahead, quiet=True)

# %% [markdown]
# ### Exercise 3.5 · core · 10 min
#
# The check hands you a model with an `embedding` (`nn.Embedding`) and a `head` (`nn.Linear` without bias). Tie them, so that they are one
# matrix now and after every step of training, and return the model.
#
# <details><summary>Hint 1</summary>
#
# Equal numbers aren't enough: the optimiser would move two copies apart. </details>
#
# <details><summary>Hint 2</summary>
#
# A parameter is an object. Let both modules hold the same one; both weights have the shape $(V, C)$ already. </details>


# %% tags=["exercise"]
def tie(model):
    """model: with .embedding and .head -> the same model, tied."""
    ...


checks.check("3.5", tie)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def tie(model):
    model.head.weight = model.embedding.weight
    return model


checks.check("3.5", tie, quiet=True)

# %% [markdown]
# ### Exercise 3.6 · stretch · 90 min
#
# For an evening: a fifth way to tell positions. ALiBi (Press, Smith and Lewis, 2022) adds nothing to the stream; it makes distance *cost*.
# Head $h = 1 \dots H$ subtracts $2^{-8h/H} \cdot (t - s)$ from the score of query $t$ and key $s$. Write the bias that is added to
# the scores, with $-\infty$ where $s > t$.
#
# Then give `Attention` a switch for it (a class of your own that inherits is enough), put it on the ladder beside the others,
# and ask both, trained on 32 characters, to read 64.

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `torch.arange(T)[:, None] - torch.arange(T)` holds the distances: rows are queries. </details>
#
# <details><summary>Hint 2</summary>
#
# Slopes of shape $(H, 1, 1)$ times distances of shape $(T, T)$ give $(H, T, T)$. </details>
#
# <details><summary>Hint 3</summary>
#
# `F.scaled_dot_product_attention(q, k, v, attn_mask=bias)` adds a mask of numbers to the scores. </details>


# %% tags=["exercise"]
def alibi(n_heads, T):
    """-> (H, T, T) float, added to the scores."""
    ...


checks.check("3.6", alibi)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def alibi(n_heads, T):
    distance = torch.arange(T)[:, None] - torch.arange(T)
    slopes = 2.0 ** (-8 * torch.arange(1, n_heads + 1) / n_heads)
    return (-slopes[:, None, None] * distance).masked_fill(distance < 0, -math.inf)


checks.check("3.6", alibi, quiet=True)

# %% [markdown]
# ## Test yourself
#
# Choose before you unfold.
#
# **1.** The stream has 256 channels after layer 1. After layer 6 it has …
# (a) 256 · (b) 6 × 256 · (c) as many as layer 6 has heads.
#
# <details><summary>Answer</summary>
#
# (a). Layers *add* to the stream, so its width never changes. (b) would be a stream that is joined, not added. (c) heads cut the width
# into parts inside a layer. </details>
#
# **2.** You double the number of heads and keep `d_model`. The parameters …
# (a) double · (b) stay · (c) halve.
#
# <details><summary>Answer</summary>
#
# (b). (a) and (c): the four matrices are $C \times C$ whatever the number of parts they are cut into. </details>

# %% [markdown]
# **3.** Rotary positions act on …
# (a) the embeddings · (b) the values · (c) queries and keys.
#
# <details><summary>Answer</summary>
#
# (c). Their dot product then depends on the distance. (a) that is what learned and sinusoidal vectors do. (b) turned values would be mixed
# at different angles. </details>
#
# **4.** A model without positions, of one layer, has learned something that a bigram can't know. It is …
# (a) which characters came before, not where · (b) the word so far · (c) nothing.
#
# <details><summary>Answer</summary>
#
# (a). A bag of characters. (b) needs order. (c) the ladder says otherwise. </details>

# %% [markdown]
# **5.** In a trained model with tied embeddings you read the stream *before* the first layer, through the last norm and the
# head. The likeliest next character is … (a) the most frequent one · (b) the one just read · (c) the one that usually follows.
#
# <details><summary>Answer</summary>
#
# (b). A vector is most like itself; the logit lens showed it. (a) would need a bias. (c) is the work of the layers: without
# any, training would have to bend the embeddings themselves into a bigram. </details>
#
# **Next:** [4 · Training](04_train.ipynb), where the model meets Shakespeare.
