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
# # 3 · The model: from a character to a guess
#
# Attention moves information between positions. A Transformer is what you get when you give it something to
# move, a sense of order, a place to think, and a road that runs straight through. In this lesson you build all of
# it: a GPT of about 150 lines, with a switch for every choice that the ablation in lesson 5 will question.
#
# **You will be able to** explain each part of a decoder-only Transformer · compare four ways to tell it about
# position · count its parameters in your head · test a model before you spend a minute on training it.
#
# **You need** [lesson 2](02_attention.ipynb), derivatives as an idea. **Time:** 50 minutes of reading, a minute of computing.

# %% tags=["setup"]
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("course_utils") is None:  # on Colab: add the course, replace nothing that is there
    address = "git+https://github.com/shakespeare-layer-by-layer/course"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", address], check=True)

# %% tags=["export"]
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from course_utils.lessons.attention import causal_attention, merge_heads, split_heads

# %%
import math

from course_utils import corpus, figures, profiles
from course_utils.lessons.data import CharTokenizer, get_batch, split

# %% [markdown]
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
    d_ff: int = 1024  # the width inside a feed-forward layer
    dropout: float = 0.1  # share of activations set to 0 in training
    position: str = "learned"  # learned | sinusoidal | rope | none
    norm: str = "layernorm"  # layernorm | rmsnorm | none
    norm_placement: str = "pre"  # pre | post
    activation: str = "gelu"  # gelu | relu | relu2 | swiglu
    tie_embeddings: bool = True  # one matrix reads tokens and writes logits
    qk_norm: bool = False  # queries and keys scaled to a root mean square of 1
    residual: bool = True  # add a layer's output to its input

    def __post_init__(self):
        for name, problem in check_config(self).items():
            raise ValueError(f"{name} {problem}, not {getattr(self, name)!r}")


# %% tags=["export"]
CHOICES = {
    "position": ("learned", "sinusoidal", "rope", "none"),
    "norm": ("layernorm", "rmsnorm", "none"),
    "norm_placement": ("pre", "post"),
    "activation": ("gelu", "relu", "relu2", "swiglu"),
}


# %% tags=["export"]
def check_config(config):
    """What is wrong with a config: {setting: what is allowed}, empty if nothing is."""
    sizes = ("vocab_size", "context_length", "n_layers", "n_heads", "d_model", "d_ff")
    wrong = {
        name: "must be a whole number of at least 1"
        for name in sizes
        if not isinstance(getattr(config, name), int) or getattr(config, name) < 1
    }
    for name, allowed in CHOICES.items():
        if getattr(config, name) not in allowed:
            wrong[name] = f"must be one of {', '.join(allowed)}"
    if not 0 <= config.dropout < 1:
        wrong["dropout"] = "must lie in [0, 1)"
    if not wrong and config.d_model % config.n_heads:
        wrong["d_model"] = f"must be a multiple of n_heads ({config.n_heads})"
    if not wrong and config.position == "rope" and config.d_model // config.n_heads % 2:
        wrong["d_model"] = f"must be an even multiple of n_heads ({config.n_heads}) where position is rope"
    return wrong


# %% tags=["nbval-check-output"]
try:
    GPTConfig(norm="batchnorm")
except ValueError as error:
    print(error)

# %% [markdown]
# ## Embeddings
#
# A token's id says nothing by its size: 40 isn't twice 20. So each of the `V` ids gets a vector of `C` numbers of its
# own, to be learned. Looking it up is the same as multiplying a one-hot vector by a matrix:

# %%
embedding = nn.Embedding(11, 6)
ids = torch.tensor([3, 1, 4])
assert torch.equal(embedding(ids), F.one_hot(ids, 11).float() @ embedding.weight), "a lookup is a product with one-hots"

# %% [markdown]
# ## Position
#
# Attention is a weighted mean, and a mean doesn't know the order of what it averages. Without help, *"dog bites man"* and
# *"man bites dog"* look alike to the last position. The `baseline` learns one vector a position and adds it. The
# first Transformer added fixed waves instead: sines and cosines whose speed falls from channel to channel. (It also
# multiplied the embeddings by √C; otherwise the waves, which are large, would drown them.)


# %% tags=["export"]
def position_angles(context_length, d):
    """Position t times d/2 speeds that fall from 1 to 1/10000: (T, d/2) radians."""
    speeds = 10000.0 ** (-torch.arange(0, d, 2) / d)
    return torch.arange(context_length)[:, None] * speeds


# %% tags=["export"]
def sinusoidal_positions(context_length, d_model):
    """A fixed vector a position, sines then cosines: (T, C). Vaswani et al. (2017), section 3.5."""
    angles = position_angles(context_length, d_model + d_model % 2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[:, :d_model]


# %%
figures.heatmaps(
    sinusoidal_positions(64, 64),
    labels=("position", "channel (sines, then cosines)", "value"),
    title="Sinusoidal positions",
)

# %% [markdown]
# Each row is a position's own pattern, like the hands of many clocks: the left channels of each half turn fast, the
# right ones slowly. Two neighbours look alike, two distant rows don't.
#
# **Rotary** positions (RoPE) use the same clocks in another way: they *turn* queries and keys by their
# position's angles. Then a dot product depends on the *difference* of two positions alone, which is what language
# cares about: "three characters ago", not "at place 117".


# %% tags=["export"]
def rotate(x, angles):
    """Turn the channel pair (i, i + D/2) at position t by angles[t, i]; lengths stay.

    x: (B, H, T, D), angles: (T, D/2) radians -> (B, H, T, D). Su et al. (2021), RoFormer, eq. 34.
    """
    cos, sin = angles.cos(), angles.sin()
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)


# %%
angles = position_angles(23, 8)
one_query, one_key = torch.randn(2, 1, 1, 1, 8).expand(2, 1, 1, 23, 8)
turned = (rotate(one_query, angles) @ rotate(one_key, angles).mT)[0, 0]
assert torch.allclose(turned[5, 3], turned[20, 18], atol=1e-5), "a rotary score depends on the distance alone"
figures.lines(
    torch.arange(23), {"one query, one key": turned[22].flip(0)},
    x_label="distance (positions)", y_label="score q · k", title="One query and one key, turned apart",
)  # fmt: skip

# %% [markdown]
# ## Attention as a layer
#
# Lesson 2's functions with learned maps around them: one matrix makes queries, keys and values from the stream, one
# writes the result back. `cache` is for lesson 6. `qk_norm` scales queries and keys to one size, which keeps the scores
# tame at high learning rates.


# %% tags=["export"]
class Attention(nn.Module):
    """Multi-head causal self-attention: (B, T, C) -> (B, T, C)."""

    def __init__(self, config):
        super().__init__()
        self.n_heads, self.qk_norm, self.dropout = config.n_heads, config.qk_norm, config.dropout
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=False)
        self.out = nn.Linear(config.d_model, config.d_model, bias=False)

    def queries_keys_values(self, x, angles=None):
        """x: (B, T, C) -> q, k, v, each (B, H, T, D), normed and turned as the config says."""
        q, k, v = (split_heads(part, self.n_heads) for part in self.qkv(x).chunk(3, dim=-1))
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
# ## A place to think
#
# Attention only mixes what is there. The **feed-forward** layer works on each position alone: up to a wider space, a
# bend, and back. Without the bend, two linear maps would be one.


# %% tags=["export"]
class FeedForward(nn.Module):
    """Two linear maps with a bend between them, at each position alone: (B, T, C) -> (B, T, C)."""

    def __init__(self, config):
        super().__init__()
        self.activation = config.activation
        halves = 2 if config.activation == "swiglu" else 1
        self.up = nn.Linear(config.d_model, halves * config.d_ff, bias=False)
        self.out = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x):
        return self.out(bend(self.up(x), self.activation))


# %% tags=["export"]
def bend(h, activation):
    """The nonlinearity between the two maps; swiglu halves the width: one half gates the other.

    Shazeer (2020) for swiglu; So et al. (2021), Primer, for relu2.
    """
    if activation == "gelu":
        return F.gelu(h)
    if activation == "swiglu":
        gate, h = h.chunk(2, dim=-1)
        return F.silu(gate) * h
    h = F.relu(h)
    return h.square() if activation == "relu2" else h


# %%
grid = torch.linspace(-3, 3, 61)
bends = {name: bend(grid, name) for name in ("relu", "gelu", "relu2")}
bends["swiglu, both halves equal"] = bend(torch.stack([grid, grid], dim=-1), "swiglu").squeeze(-1)
figures.lines(grid, bends, x_label="in", y_label="out", title="Four bends")

# %% [markdown]
# ## Normalisation
#
# Numbers that pass through many layers tend to grow or fade. A **norm** rescales each position's channels to a
# standard size, with one learned gain a channel. LayerNorm also takes the mean away; RMSNorm leaves it.


# %% tags=["export"]
def make_norm(config):
    """Each position's channels rescaled to a common size, or left alone: (B, T, C) -> (B, T, C).

    Ba et al. (2016) for LayerNorm; Zhang and Sennrich (2019) for RMSNorm.
    """
    if config.norm == "layernorm":
        return nn.LayerNorm(config.d_model, bias=False)
    return nn.RMSNorm(config.d_model, eps=1e-5) if config.norm == "rmsnorm" else nn.Identity()


# %%
x = 5 + 3 * torch.randn(2, 3, 256)
for kind in ("layernorm", "rmsnorm", "none"):
    y = make_norm(GPTConfig(norm=kind))(x)
    print(f"{kind}: mean {y.mean():.2f}, root mean square {y.square().mean().sqrt():.2f}")

# %% [markdown]
# ## The residual stream
#
# Each layer reads the stream and *adds* what it found. Nothing forces a layer to rebuild what the earlier ones made,
# and on the way back the gradient has a straight road. The norm stands before each layer (*pre*), off the road; in
# the first Transformer it stood on the road (*post*), and deep models were hard to train.


# %% tags=["export"]
class Block(nn.Module):
    """Attention, then feed-forward, each added to the stream that passes by: (B, T, C) -> (B, T, C)."""

    def __init__(self, config):
        super().__init__()
        self.attention, self.feed_forward = Attention(config), FeedForward(config)
        self.norm_1, self.norm_2 = make_norm(config), make_norm(config)
        self.dropout = nn.Dropout(config.dropout)
        self.pre, self.residual = config.norm_placement == "pre", config.residual

    def add(self, x, norm, layer):
        """x plus what the layer makes of it, with the norm before the layer or after the sum."""
        update = self.dropout(layer(norm(x) if self.pre else x))
        x = x + update if self.residual else update
        return x if self.pre else norm(x)

    def forward(self, x, angles=None, cache=None):
        x = self.add(x, self.norm_1, lambda h: self.attention(h, angles, cache))
        return self.add(x, self.norm_2, self.feed_forward)


# %% [markdown]
# ## The whole
#
# Embed, add positions, pass through the blocks, norm once more, and score every possible next token. With tied
# embeddings, a token's score is how well the stream matches that token's own vector.


# %% tags=["export"]
class GPT(nn.Module):
    """A decoder-only Transformer: tokens (B, T) int64 -> logits (B, T, V), a score for each next token."""

    def __init__(self, config):
        super().__init__()
        self.config, T = config, config.context_length
        self.scale = config.d_model**0.5 if config.position == "sinusoidal" else 1.0  # or the waves drown the tokens
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = nn.Parameter(torch.empty(T, config.d_model)) if config.position == "learned" else None
        waves = sinusoidal_positions(T, config.d_model) if config.position == "sinusoidal" else None
        angles = position_angles(T, config.d_model // config.n_heads) if config.position == "rope" else None
        self.register_buffer("waves", waves, persistent=False)
        self.register_buffer("angles", angles, persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = make_norm(config) if config.norm_placement == "pre" else nn.Identity()
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        initialise(self)

    def forward(self, tokens, cache=None):
        """cache: one key-value cache a layer (lesson 6); the tokens then follow those already in it."""
        start = cache[0].length if cache else 0
        added, angles = positions_at(self, start, start + tokens.shape[1])
        x = self.dropout(self.embedding(tokens) * self.scale + added)
        for i, block in enumerate(self.blocks):
            x = block(x, angles, cache[i] if cache else None)
        return self.head(self.norm(x))


# %% tags=["export"]
def positions_at(model, start, stop):
    """What the positions start … stop - 1 add to the embeddings, and by what they turn queries and keys.

    -> (T, C) or 0.0, and (T, D/2) radians or None. ValueError beyond the context length.
    """
    if stop > model.config.context_length:
        raise ValueError(f"{stop} tokens are more than the context length of {model.config.context_length}")
    added = {"learned": model.positions, "sinusoidal": model.waves}.get(model.config.position)
    angles = None if model.angles is None else model.angles[start:stop]
    return (0.0 if added is None else added[start:stop]), angles


# %% tags=["export"]
@torch.no_grad()
def initialise(model, std=0.02):
    """GPT-2's start: normal weights; the 2L layers that write to the stream smaller by 1/√(2L).

    Radford et al. (2019), section 2.3.
    """
    for name, weight in model.named_parameters():
        if weight.ndim == 2:
            smaller = (2 * model.config.n_layers) ** -0.5 if name.endswith("out.weight") else 1.0
            nn.init.normal_(weight, std=std * smaller)


# %% tags=["nbval-check-output"]
model = GPT(GPTConfig(vocab_size=11, context_length=5, n_layers=2, n_heads=3, d_model=12, d_ff=17))
print(tuple(model(torch.zeros(2, 5, dtype=torch.int64)).shape))

# %% [markdown]
# ## How many numbers does it learn?
#
# Count before you compute. Attention has four `C × C` matrices, feed-forward two of `C × 4C`: `12 C²` a layer, plus two
# gains. Add the embedding and the positions, and you have it.


# %% tags=["export"]
def count_parameters(model):
    """The number of learned numbers; a matrix that is used twice counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


# %% tags=["nbval-check-output"]
def closed_form(c):
    return c.n_layers * (4 * c.d_model**2 + 2 * c.d_model * c.d_ff + 2 * c.d_model) + (
        (c.vocab_size + c.context_length + 1) * c.d_model
    )


for n_layers in (2, 4, 6):
    config = GPTConfig(n_layers=n_layers)
    assert count_parameters(GPT(config)) == closed_form(config), "the closed form counts every parameter"
    print(f"{n_layers} layers: {closed_form(config):,} parameters")

# %% [markdown]
# Almost all of it is in the layers: three times the layers, nearly three times the parameters.
#
# ## Test before you train
#
# Three checks take a second and find most mistakes. **First loss:** an untrained pre-norm model should find all
# characters about equally likely, so its loss is close to $\ln V$.

# %%
text, profile = corpus.load(), profiles.current()
tokenizer = CharTokenizer(text.text)
train_ids, _ = split(torch.tensor(tokenizer.encode(text.text)))
torch.manual_seed(0)
config = GPTConfig(tokenizer.vocab_size, context_length=32, n_layers=2, n_heads=4, d_model=64, d_ff=256, dropout=0.0)
model = GPT(config)
tokens, targets = get_batch(train_ids, 8, 32, torch.Generator().manual_seed(0))
first_loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten()).item()
assert abs(first_loss - math.log(tokenizer.vocab_size)) < 0.2, "an untrained model should know nothing"
print(f"first loss {first_loss:.3f}, ln V = {math.log(tokenizer.vocab_size):.3f}")

# %% [markdown]
# **Causality:** change the last token; only the last position's output may move.

# %%
changed = tokens.clone()
changed[:, -1] = (changed[:, -1] + 1) % tokenizer.vocab_size
moved = (model(changed) - model(tokens)).abs().amax(dim=(0, 2)) > 1e-6
assert moved.tolist() == [False] * 31 + [True], "a later token changes nothing before it"

# %% [markdown]
# **Overfit one batch:** a model that can't learn eight short lines by heart has a bug. How many steps will it take to
# get from 4.2 to below 0.5?

# %%
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
losses = []
for _ in range(max(60, profile.demo_steps)):
    loss = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[-1] < 0.5 * losses[0], "a sound model learns one batch by heart"
figures.lines(
    range(1, len(losses) + 1), {"loss on the one batch": losses},
    x_label="step", y_label="loss (nats/character)", title="Learning eight lines by heart", note=text.note,
)  # fmt: skip

# %% [markdown]
# It falls far below the 5-gram's 1.669, which proves nothing about language and a lot about the code: gradients reach
# where they must. The switches are there for lesson 5; each of them passes the same checks.

# %%
switches = [{name: value} for name, values in CHOICES.items() for value in values]
for switch in [*switches, {"tie_embeddings": False}, {"qk_norm": True}, {"residual": False}]:
    variant = GPT(GPTConfig(**({**vars(config), **switch})))
    moved = (variant(changed) - variant(tokens)).abs().amax(dim=(0, 2)) > 1e-6
    assert not moved[:-1].any(), f"{switch} looks ahead"

# %% [markdown]
# ## What you built
#
# A GPT, from a dataclass to logits, and three tests that a model must pass before it deserves your electricity.
#
# ## Questions
#
# 1. Where would `"dog bites man"` and `"man bites dog"` differ in a model with `position="none"`, if at all?
# 2. Why are only the layers that *write* to the stream made smaller at the start?
# 3. Double `d_model`: by how much does the parameter count grow? And if you double `n_layers`?
#
# **Next:** [4 · Training](04_train.ipynb), where the model meets Shakespeare.
