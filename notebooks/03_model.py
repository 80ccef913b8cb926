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
# A **Transformer** is attention with a sense of order, some work to do on what it heard, and a path on which nothing
# gets lost. First you meet a finished one, writing. Then you build it, each part for the loss that it removes, and
# break it, to learn which test finds which bug.

# %% [markdown]
# **You will be able to** write a decoder-only Transformer · explain each part by what happens without it · test a
# model before you train it · read a trained one layer by layer.
#
# **You need** [lesson 2](02_attention.ipynb), derivatives as an idea, and
# [PyTorch in twenty lines](../book/pytorch.md). **Time:** 65 minutes of reading, four of computing, two hours of
# exercises up to core.

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
from dataclasses import asdict, replace
from functools import partial

import pandas as pd
from tqdm import tqdm

from course_utils import checks, corpus, figures, profiles, widgets
from course_utils.lessons.data import CharTokenizer, baseline_losses, get_batch, split
from course_utils.training import runs

# %% [markdown]
# ## The whole, before its parts
#
# The text is lesson 1's; the model, of two layers, was trained in minutes by lesson 5's `laptop` recipe.
#
# Ask it for a text. It scores each character that may come next; the scores are **logits**. Softmax turns them into
# probabilities, one character is drawn and appended, and the model is asked again. (`temperature` is lesson 6's.)

# %% tags=["nbval-ignore-output"]
text, profile = corpus.load(), profiles.current()
print(text.describe(), f"\nprofile {profile.name}")
tokenizer = CharTokenizer(text.text)
V = tokenizer.vocab_size
train_ids, validation_ids = split(torch.tensor(tokenizer.encode(text.text)))
trained, record = runs.small_model(text)


# %% tags=["nbval-ignore-output"]
@torch.no_grad()
def speak(model, prompt, n_characters, temperature=0.8):
    """The prompt, and so many characters more."""
    ids = torch.tensor([tokenizer.encode(prompt)])
    for _ in range(n_characters):
        logits = model(ids[:, -model.config.context_length :])[0, -1]
        chosen = torch.multinomial((logits / temperature).softmax(dim=-1), 1)
        ids = torch.cat([ids, chosen[None]], dim=1)
    return tokenizer.decode(ids[0])


torch.manual_seed(0)
trained.eval()  # no dropout; more below
prompt = text.fitting_prompt()
print(speak(trained, prompt, 300))

# %% [markdown]
# Nonsense, and look how much is right: names in capitals with a colon, lines of verse length, words that exist or
# could. Nobody wrote a rule.

# %% tags=["nbval-ignore-output"]
tokens = torch.tensor([tokenizer.encode(prompt)])
shapes = {"tokens": tokens, "x": trained.embedding(tokens), "logits": trained(tokens)}
shapes = {name: tuple(tensor.shape) for name, tensor in shapes.items()}
how = {"position": trained.config.position, "title": "The whole decoder"}
figures.decoder_stack(shapes, len(trained.blocks), **how)

# %% [markdown]
# That is all of it, from the bottom up; **decoder-only**: nothing encodes another text. An **embedding** turns each
# token into a vector of `C` channels; **layers**, called blocks in code, each add to it twice; after a last norm a
# **head** (a linear map, not one of attention's) scores the next character. (*Rotary* positions come below.)
#
# ## Embeddings
#
# A token's id says nothing by its size: 40 isn't twice 20. So each of the `V` ids gets `C` numbers of its own, to be
# learned. To look them up is to multiply a **one-hot vector** by a matrix:

# %%
embedding = nn.Embedding(11, 6)
ids = torch.tensor([3, 1, 4])
product = F.one_hot(ids, 11).float() @ embedding.weight
assert torch.equal(embedding(ids), product), "a lookup is a product with one-hots"

# %% [markdown]
# > **Predict.** The model never heard of vowels or capitals. Which characters' vectors will lie close together?

# %% tags=["nbval-ignore-output"]
vectors = trained.embedding.weight.detach()
title = "Characters as the trained model sees them"
picture = figures.character_map(vectors, tokenizer.alphabet, title=title, note=text.note)
print(picture.get_label())  # what a screen reader says
picture

# %% [markdown]
# Capitals on one side, small letters on the other, sentence ends far from both: characters that stand in the same
# places lie together. Yet the closest two, in the full 128 channels, are `$` and `&`, in the text once and three
# times. Almost never the answer, both are pushed the same way at nearly every step: *tied embeddings* (below) make a
# score of each vector.
#
# ## A ladder of small models
#
# What is each part worth? Train small models, each with one part more. A rung is an embedding, some **sublayers**
# (the parts of a layer) and a head. Each sublayer's output is *added* to what passes by: a plus to take on trust
# until you see what happens without it.


# %%
@dataclass(frozen=True)  # nobody changes it by accident later
class Sizes:
    """What a plain GPT is told."""

    vocab_size: int  # V, different characters
    context_length: int  # T, the longest input
    n_layers: int
    n_heads: int  # H
    d_model: int  # C, channels of a position
    d_ff: int  # channels inside the MLP


small = Sizes(V, context_length=32, n_layers=2, n_heads=4, d_model=64, d_ff=256)
T, C, steps = small.context_length, small.d_model, 3 * profile.demo_steps

# %% [markdown]
# One function trains them all (its loop is lesson 4's), with lesson 2's width, heads, context, steps and batch, but
# at a rate of 0.003: a whole model doesn't bear the 0.01 that one attention does (try it). Luck moves a loss, too. So
# each rung is the mean of three seeds, on the whole last tenth, with their **standard deviation**: how far they
# typically lie from it. A smaller difference says nothing: a rough standard; lesson 4 has an exact one.


# %%
def loss_of(model, tokens, targets):
    """The mean token loss, in nats/character."""
    return F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())


def learn(make, seed=0, rate=3e-3, n_steps=None):
    """Make a model and train it. -> the model, its losses on the way"""
    torch.manual_seed(seed)
    model, draw, losses = make(), torch.Generator().manual_seed(seed), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for _ in range(n_steps or steps):
        loss = loss_of(model, *get_batch(train_ids, 32, T, draw))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


# %%
n = (len(validation_ids) - 1) // T * T  # in whole windows
held_out = validation_ids[:n].view(-1, T), validation_ids[1 : n + 1].view(-1, T)
few = [part[: profile.demo_windows] for part in held_out]  # windows, where a glance is enough
baselines, ladder = baseline_losses(text.text), {}


def climb(rung, make):
    """Train three seeds, put their losses on the ladder. -> the first model"""
    models = [learn(make, seed)[0] for seed in tqdm(range(3), rung, leave=False)]
    with torch.no_grad():
        ladder[rung] = pd.Series([loss_of(model, *held_out).item() for model in models])
    print(f"{rung}: {ladder[rung].mean():.3f}, seeds ± {ladder[rung].std():.3f}")
    return models[0]


# %%
class Rung(nn.Module):
    """Tokens (B, T) -> logits (B, T, V) through the given sublayers."""

    def __init__(self, *sublayers, positions=True):
        super().__init__()
        self.embedding = nn.Embedding(V, C)
        self.positions = nn.Parameter(torch.randn(T, C)) if positions else None
        self.sublayers = nn.ModuleList(sublayers)  # a list whose weights are found
        self.head = nn.Linear(C, V, bias=False)

    def forward(self, tokens):
        x = self.embedding(tokens)
        if self.positions is not None:
            x = x + self.positions[: tokens.shape[1]]
        for sublayer in self.sublayers:
            x = x + sublayer(x)
        return self.head(x)


# %% [markdown]
# **The first rung** is an embedding and a head: it sees one character and guesses the next. Which loss of lesson 1 is
# its best hope?

# %% tags=["nbval-ignore-output"]
one_character = climb("one character", lambda: Rung(positions=False))
print(f"bigram: {baselines['bigram']:.3f}")

# %%
often = torch.bincount(train_ids).topk(12).indices  # the most frequent characters
followers = [train_ids[1:][train_ids[:-1] == c] for c in often]
counted = torch.stack([torch.bincount(f, minlength=V) / len(f) for f in followers])
with torch.no_grad():
    learned = one_character(often[:, None])[:, 0].softmax(-1)

# %% tags=["nbval-ignore-output"]
tables = torch.stack([counted, learned])[:, :, often]
names = [tokenizer.decode([c]) for c in often]
labels = ("this character", "the next", "probability")
title = "The same table, counted and learned"
kinds = ["counted", "learned by gradient"]
figures.heatmaps(tables, names, names, kinds, labels, title=title, note=text.note)

# %% [markdown]
# The bigram: both know only one character. The network learns by gradient what lesson 1 counted. To do better, a
# position must hear from others.
#
# ## Attention, with weights to learn
#
# Lesson 2's functions between two learned **projections**: one makes queries, keys and values of x; the other, $W_o$,
# mixes what the heads found, and writes it back.
#
# > **Predict.** A weighted mean knows no order. Shuffle all characters but the last: what becomes of the guess after
# > it?


# %%
class SelfAttention(nn.Module):
    """Multi-head causal self-attention: (B, T, C) -> (B, T, C)."""

    def __init__(self, sizes):
        super().__init__()
        self.n_heads = sizes.n_heads
        self.qkv = nn.Linear(sizes.d_model, 3 * sizes.d_model, bias=False)
        self.out = nn.Linear(sizes.d_model, sizes.d_model, bias=False)

    def heads(self, x):
        """x: (B, T, C) -> q, k, v: (B, H, T, D)"""
        three = self.qkv(x).chunk(3, dim=-1)
        return (split_heads(part, self.n_heads) for part in three)

    def forward(self, x):
        return self.out(merge_heads(causal_attention(*self.heads(x))))


# %% tags=["nbval-ignore-output"]
bag = climb("+ attention", lambda: Rung(SelfAttention(small), positions=False))
line = held_out[0][:1]
shuffled = torch.cat([line[:, torch.randperm(T - 1)], line[:, -1:]], dim=1)
with torch.no_grad():
    in_order, mixed = bag(line)[:, -1], bag(shuffled)[:, -1]
assert torch.allclose(in_order, mixed, atol=1e-4), "no positions: a bag of characters"

# %% [markdown]
# Nothing. This model reads a *bag of characters*: it knows which letters came, not that `h` came after `t`. After the
# full stop it can't tell *"dog bites man."* from *"man bites dog."*
#
# ## Position
#
# The plainest cure: learn **one vector for each position** and add it to the embedding. Then a query can ask for a
# place.
#
# > **Predict.** How much is order worth, next to attention itself?

# %% tags=["nbval-ignore-output"]
_ = climb("+ positions", lambda: Rung(SelfAttention(small)))

# %% [markdown]
# Order is worth a little more than hearing the others without it.
#
# ## The MLP
#
# Attention only mixes what is there. The **MLP** (multi-layer perceptron, also **feed-forward network**) works on
# each position alone: a linear map to four times as many channels, an **activation function**, a linear map back. The
# function bends what passes; else two linear maps would be one. GELU is the usual one: nearly 0 on the left, nearly x
# on the right, smooth between, so that a channel near 0 can still learn (Hendrycks and Gimpel, 2016).
#
# First one MLP, then a second pair (half a minute on two cores):


# %%
class MLP(nn.Module):
    """Two linear maps, an activation function between them: (B, T, C) -> (B, T, C)."""

    def __init__(self, sizes):
        super().__init__()
        self.up = nn.Linear(sizes.d_model, sizes.d_ff, bias=False)
        self.out = nn.Linear(sizes.d_ff, sizes.d_model, bias=False)

    def forward(self, x):
        return self.out(F.gelu(self.up(x)))


# %% tags=["nbval-ignore-output"]
PAIR = (SelfAttention, MLP)
_ = climb("+ MLP", lambda: Rung(*(part(small) for part in PAIR)))
_ = climb("+ a second pair", lambda: Rung(*(part(small) for part in PAIR * 2)))

# %% [markdown]
# Each removes several times what the seeds explain. Why a second pair helps, this ladder can't tell: it can build on
# the first, and it doubles the weights. So stack more? Without the plus, six layers learn only how frequent
# characters are ([table](#what-breaks-without-each-part)).
#
# ## The residual stream
#
# Each sublayer reads what passes by, the **residual stream**, and *adds* its output: a **residual connection**, or
# *skip connection*. The signal gets a straight way to the last layer, and the gradient one back: that of $x + f(x)$
# is $1 + f'(x)$, and the 1 lets it through.
#
# > **Predict.** Without the plus, how much of a gradient is left after twelve MLPs?


# %%
def gradient_by_depth(plus, depth=12):
    """log10 of the gradient's length in the stream, after each of `depth` MLPs."""
    torch.manual_seed(0)
    x, stages = torch.randn(16, T, C), []
    for _ in range(depth):
        mlp = MLP(small)  # untrained
        x = x + mlp(x) if plus else mlp(x)
        x.retain_grad()  # else only parameters keep theirs
        stages.append(x)
    x.sum().backward()
    return [x.grad.norm().log10().item() for x in stages]


curves = {"with the plus": gradient_by_depth(True), "without": gradient_by_depth(False)}
passed_on = 10 ** ((curves["without"][0] - curves["without"][-1]) / 11)
print(f"without, one MLP passes on {passed_on:.4f}")
labels = ("after MLP number", "length of the gradient (log10)")
title = "What comes back to each of twelve"
figures.lines(range(1, 13), curves, *labels, title=title)

# %% [markdown]
# Read from right to left, as the gradient travels. With the plus all hear about
# the same; without it each passes on about a sixth. That sixth is not depth's doing. PyTorch starts a map from $n$
# channels with weights of variance $1/(3n)$. The way back goes through the second map ($n = 256$, sums of 64 terms)
# and the first ($n = 64$, sums of 256): $\frac{64}{3 \cdot 256} \cdot \frac{256}{3 \cdot 64} = \frac19$ of the
# variance, a third of the length. GELU's slope at 0 is a half, and $1/3 \cdot 1/2 = 1/6$.
#
# So this **vanishing gradient** is real, and larger weights would cure it; but plain deep networks so cured are still
# worse (He et al., 2016). Why the plus helps is not settled. A common reading: with it a layer starts by handing $x$
# on and learns only a correction; without it, it must rebuild all that the next one needs.
#
# ## Normalisation
#
# All sublayers write to one stream, and it grows. A **norm** brings each position's channels to a standard size.
# **LayerNorm** subtracts their mean, divides by their standard deviation, and multiplies each by a learned gain.
# Three channels, by hand:

# %%
channels = torch.tensor([1.0, 4.0, 7.0])
mean = channels.mean()
deviation = ((channels - mean) ** 2).mean().sqrt()
print(f"mean {mean:.0f}, standard deviation {deviation:.3f}, divided by it", end=" ")
print([round(value, 3) for value in ((channels - mean) / deviation).tolist()])
print("nn.LayerNorm:", [round(v, 3) for v in nn.LayerNorm(3)(channels).tolist()])

# %% [markdown]
# **Where does it stand?** Before each sublayer (**pre-norm**), which reads a tidy copy; the stream runs untouched. In
# the first Transformer it stood on the stream, after each sum (*post-norm*), and rescaled both it and the gradient:
# deep models needed a careful warm-up, a learning rate that climbs at first (lesson 4; Xiong et al., 2020).

# %%
figures.block_sides(title="One block, and where its norms stand")

# %% [markdown]
# ## The block
#
# The left one in code. Two lines to remember: *x plus attention of the normed x, then x plus the MLP of the normed
# x.*


# %%
class PlainBlock(nn.Module):
    """Attention, then an MLP, each added to the stream: (B, T, C) -> (B, T, C)."""

    def __init__(self, sizes):
        super().__init__()
        self.attention, self.mlp = SelfAttention(sizes), MLP(sizes)
        self.norm_1 = nn.LayerNorm(sizes.d_model, bias=False)
        self.norm_2 = nn.LayerNorm(sizes.d_model, bias=False)

    def forward(self, x):
        x = x + self.attention(self.norm_1(x))
        x = x + self.mlp(self.norm_2(x))
        return x


# %% [markdown]
# Is it what the world calls a Transformer block? PyTorch's nearest, `nn.TransformerEncoderLayer`, is ours once it has
# a causal mask. Give it the same weights:


# %%
def as_pytorch(block):
    """nn.TransformerEncoderLayer with a block's weights; x: (B, T, C) -> (B, T, C)."""
    how = {"batch_first": True, "norm_first": True, "bias": False}
    layer = nn.TransformerEncoderLayer(C, small.n_heads, small.d_ff, 0.0, "gelu", **how)
    with torch.no_grad():
        # copy_ overwrites in place
        layer.self_attn.in_proj_weight.copy_(block.attention.qkv.weight)
        layer.self_attn.out_proj.weight.copy_(block.attention.out.weight)
        layer.linear1.weight.copy_(block.mlp.up.weight)
        layer.linear2.weight.copy_(block.mlp.out.weight)
        layer.norm1.weight.copy_(block.norm_1.weight)
        layer.norm2.weight.copy_(block.norm_2.weight)
    future = torch.ones(T, T, dtype=torch.bool).triu(diagonal=1)
    # layer, with this argument given; in this module True means hidden
    return partial(layer, src_mask=future)


plain, x = PlainBlock(small), torch.randn(2, T, C)
assert torch.allclose(as_pytorch(plain)(x), plain(x), atol=1e-5), "PyTorch's is ours"

# %% [markdown]
# Now write it yourself, with GPT-2's own names and biases: [exercise 3.7](#exercise-3-7-core-40-min) is the exercise
# of this lesson.
#
# ## The whole
#
# All parts together. With **tied embeddings** the head is the embedding itself: a token's score is how well the
# stream matches that token's vector (Press and Wolf, 2017).


# %%
class PlainGPT(nn.Module):
    """A decoder-only Transformer: tokens (B, T) int64 -> logits (B, T, V)."""

    def __init__(self, sizes):
        super().__init__()
        self.config = sizes
        self.embedding = nn.Embedding(sizes.vocab_size, sizes.d_model)
        self.positions = nn.Parameter(torch.empty(sizes.context_length, sizes.d_model))
        self.blocks = nn.ModuleList(PlainBlock(sizes) for _ in range(sizes.n_layers))
        self.norm = nn.LayerNorm(sizes.d_model, bias=False)
        self.head = nn.Linear(sizes.d_model, sizes.vocab_size, bias=False)
        self.head.weight = self.embedding.weight  # tied: one parameter, two places
        initialise(self)  # the next cell

    def forward(self, tokens):
        x = self.embedding(tokens) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


# %% [markdown]
# **Initialisation.** Weights begin as small random numbers. The stream is a sum of what $2L$ sublayers write; written
# $1/\sqrt{2L}$ smaller, it keeps one size, however deep the model. How small is small? The first guesses should be
# even.
#
# > **Predict.** What is the first loss with weights fifty times as large as GPT-2's?


# %% tags=["export"]
@torch.no_grad()
def initialise(model, std=0.02):
    """GPT-2's start: normal weights; what writes to the stream is smaller by 1/√(2L).

    Radford et al. (2019), section 2.3.
    """
    smaller = (2 * model.config.n_layers) ** -0.5
    for name, weight in model.named_parameters():  # names such as blocks.0.attention.out.weight
        if weight.ndim == 2:
            writes = name.endswith("out.weight")
            nn.init.normal_(weight, std=std * smaller if writes else std)


# %% tags=["nbval-ignore-output"]
for std in (0.002, 0.02, 0.06, 1.0):
    torch.manual_seed(0)
    model = PlainGPT(small)
    initialise(model, std)
    with torch.no_grad():
        print(f"std {std}: first loss {loss_of(model, *few):.2f}, uniform {math.log(V):.2f}")

# %% [markdown]
# A first loss far above $\ln V$ means a model that is *sure and wrong*: at 20, look at the initialisation first. Too
# small doesn't show here. A map from $C$ channels preserves sizes at a standard deviation of $1/\sqrt C$: 0.025 for
# GPT-2's 1,600 channels, 0.125 for our 64. So ours may begin larger, at 0.06, picked by a few trials of one seed on
# this split; the ladder will test it.
#
# ## Test before you train
#
# Three tests, a second each. **First loss:** an untrained model finds all characters about equally likely.
# **Causality:** change the last token; no output before it may move. **One batch:** a model that can't learn eight
# short lines by heart has a bug.


# %%
def first_loss(model, tokens, targets):
    """How far the loss of an untrained model lies from the uniform one."""
    with torch.no_grad():
        return abs(loss_of(model, tokens, targets).item() - math.log(V))


def leak(model, tokens, targets):
    """How far any output moves when a token behind it changes."""
    changed = tokens.clone()
    changed[:, -1] = (changed[:, -1] + 1) % V
    with torch.no_grad():
        return (model(changed) - model(tokens))[:, :-1].abs().max().item()


def one_batch(model, tokens, targets):
    """The loss on one batch after some steps on that batch alone."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(100):
        loss = loss_of(model, tokens, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


# %%
TESTS = {"first loss": (first_loss, 0.2), "causality": (leak, 1e-5)}
TESTS["one batch"] = (one_batch, 0.5)
eight_lines = get_batch(train_ids, 8, T, torch.Generator().manual_seed(0))

# %%
torch.manual_seed(0)
model = PlainGPT(small)
for name, (test, most) in TESTS.items():
    got = test(model, *eight_lines)
    assert got < most, f"{name}: there is a bug"
    print(f"{name}: {got:.4f}, allowed {most}")

# %% [markdown]
# But do they find what people get wrong? Plant bugs, most in one part's `forward`, and add a fourth test, PyTorch's
# block:


# %%
def no_mask(part, x):
    return part.out(merge_heads(F.scaled_dot_product_attention(*part.heads(x))))


def no_scale(part, x):
    q, k, v = part.heads(x)
    return part.out(merge_heads(causal_attention(q * math.sqrt(q.shape[-1]), k, v)))


def heads_not_turned(part, x):
    q, k, v = (y.transpose(1, 2).reshape(y.shape) for y in part.heads(x))
    return part.out(merge_heads(causal_attention(q, k, v)))


def no_output_projection(part, x):
    return merge_heads(causal_attention(*part.heads(x)))


def no_residual(part, x):
    return part.mlp(part.norm_2(part.attention(part.norm_1(x))))


def positions_of_the_batch(part, tokens):
    x = part.embedding(tokens) + part.positions[: len(tokens), None]
    for block in part.blocks:
        x = block(x)
    return part.head(part.norm(x))


# %%
def against_pytorch(model, *_):
    """How far the first block is from PyTorch's with the same weights, as a share."""
    block, x = model.blocks[0], torch.randn(2, T, C)
    with torch.no_grad():
        library = as_pytorch(block)(x)
        return ((block(x) - library).abs().max() / library.abs().max()).item()


def planted(bug, kind):
    """A fresh GPT with the bug in each part of a kind."""
    torch.manual_seed(0)
    model = PlainGPT(small)
    for part in model.modules():  # all parts, at any depth
        if isinstance(part, kind):
            part.forward = partial(bug, part)
    return model


# %%
FOUR = TESTS | {"PyTorch's block": (against_pytorch, 1e-5)}
bugs = {bug: SelfAttention for bug in (no_mask, no_scale, heads_not_turned)}
bugs |= {no_output_projection: SelfAttention, no_residual: PlainBlock}
bugs[positions_of_the_batch] = PlainGPT
cases = {bug.__name__: (planted(bug, kind), eight_lines) for bug, kind in bugs.items()}
loud = PlainGPT(small)
initialise(loud, std=1.0)
cases["weights too large"] = (loud, eight_lines)
cases["targets not shifted"] = (PlainGPT(small), (eight_lines[0], eight_lines[0]))
rows = {}
for case, (model, batch) in cases.items():
    got = {name: test(model, *batch) < most for name, (test, most) in FOUR.items()}
    rows[case] = {name: "–" if passed else "found" for name, passed in got.items()}
pd.DataFrame(rows).T

# %% [markdown]
# The three find five bugs of eight. (Heads not turned mix places, and leak.) Without √D, or without
# $W_o$, a model learns eight lines by heart: another function, which only a second source, here PyTorch's block, can
# tell. Unshifted targets show as a first loss *below* $\ln V$: a tied head begins by naming the character just read,
# which there is the answer. Positions counted along the batch, not along time, pass all four; [exercise
# 3.5](#exercise-3-5-core-25-min) finds them.
#
# ## The general form
#
# The course's own model has a switch for each choice that lesson 5 will question. Only one is a new idea; skim the
# rest's code. **Rotary positions** (**RoPE**) add nothing to the stream; they *turn* queries and keys. Two channels
# are an arrow; each place turns it a little further, each pair at its own speed. Fast pairs tell neighbours apart,
# slow ones far places, where fast ones have come round again. A dot product sees two lengths, which stay, and the
# angle between, so positions count by their *difference* alone.


# %%
figures.rotary_turn(((5, 3), (20, 18)), 20, title="Both turned: the same angle")


# %% tags=["export"]
def position_angles(context_length, d):
    """Position t times d/2 speeds, 10000^(-2i/d), from 1 down: (T, d/2) radians."""
    speeds = 10000.0 ** (-torch.arange(0, d, 2) / d)
    return torch.arange(context_length)[:, None] * speeds


# %% tags=["export"]
def rotate(x, angles):
    """Turn the channel pair (i, i + D/2) at position t by angles[t, i]; lengths stay.

    x: (B, H, T, D), angles: (T, D/2) radians -> (B, H, T, D). Su et al. (2021), eq. 34,
    whose pairs are neighbours.
    """
    cos, sin = angles.cos(), angles.sin()
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)


# %%
angles = position_angles(23, 8)
query, key = torch.randn(2, 1, 8).expand(2, 23, 8)  # one of each, at every place
scores = rotate(query, angles) @ rotate(key, angles).mT  # last two axes swapped
for distance in range(20):
    alike = scores.diagonal(-distance)  # of all pairs so far apart
    assert torch.allclose(alike, alike[0], atol=1e-4), "the distance decides"

# %% [markdown]
# Older are learned vectors (Gehring et al., 2017) and **sinusoids** (Vaswani et al., 2017): fixed, sines and cosines
# of the same angles, *added*. Without any (`none`), several layers are not quite blind to order (Haviv et al., 2022);
# question 1 asks why. All switches, each explained where its code comes:


# %% tags=["export"]
def sinusoidal_positions(context_length, d_model):
    """A fixed vector a position, sines, then cosines: (T, C).

    Vaswani et al. (2017), section 3.5, where sines and cosines alternate.
    """
    angles = position_angles(context_length, d_model + d_model % 2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[:, :d_model]


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


# %% jupyter={"source_hidden": true} tags=["export", "hide-cell"]
CHOICES = {
    "position": ("learned", "sinusoidal", "rope", "none"),
    "norm": ("layernorm", "rmsnorm", "none"),
    "norm_placement": ("pre", "post"),
    "activation": ("gelu", "relu", "relu2", "swiglu"),
}


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
# **Dropout** sets a random share of numbers to 0 in training, and scales up the rest, so that nothing relies on one
# of them: attention weights, what sublayers write, embeddings. `qk_norm` is meant to tame scores at high learning
# rates; `cache` is lesson 6's. Of three more activation functions, `swiglu` needs twice the width inside, since one
# half multiplies the other, as a *gate*: one and a half times the weights.


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


# %% tags=["export"]
def activate(h, activation):
    """The activation function. swiglu halves the width: one half gates the other.

    Shazeer (2020) for swiglu; So et al. (2021), Primer, for relu2.
    """
    if activation == "gelu":
        return F.gelu(h)
    if activation == "swiglu":
        gate, h = h.chunk(2, dim=-1)
        return F.silu(gate) * h  # silu(g) is g · sigmoid(g)
    h = F.relu(h)
    return h.square() if activation == "relu2" else h


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
# **RMSNorm** subtracts nothing, and divides by the root of the mean square,
# $\sqrt{\tfrac1C\sum_j x_j^2 + \varepsilon}$. `scale` (in `GPT`) brings embeddings to the sinusoids' size. A *buffer*
# moves to the GPU with the model and is not learned; `persistent=False` keeps it out of checkpoints.


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


# %% tags=["export"]
class GPT(nn.Module):
    """A decoder-only Transformer: tokens (B, T) int64 -> logits (B, T, V)."""

    def __init__(self, config):
        super().__init__()
        self.config, kind = config, config.position
        T, C, V = config.context_length, config.d_model, config.vocab_size
        sinusoids = sinusoidal_positions(T, C) if kind == "sinusoidal" else None
        angles = position_angles(T, C // config.n_heads) if kind == "rope" else None
        self.scale = C**0.5 if kind == "sinusoidal" else 1.0  # Vaswani (2017), 3.4
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
# Positions come in two forms: vectors to add, or angles to turn by.


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


# %% tags=["export"]
def count_parameters(model):
    """The number of learned numbers; a matrix that is used twice counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


# %%
plain, general = PlainGPT(small), GPT(GPTConfig(**asdict(small), dropout=0.0))
# state_dict: {name: tensor}
weights = {n.replace("mlp", "feed_forward"): w for n, w in plain.state_dict().items()}
general.load_state_dict(weights)  # copies tensors to the parameters of these names
assert torch.equal(general(eight_lines[0]), plain(eight_lines[0])), "switches at rest"
switches = [{name: value} for name, values in CHOICES.items() for value in values]
switches += [{"tie_embeddings": False}, {"qk_norm": True}, {"residual": False}]
for switch in switches:
    variant = GPT(replace(general.config, **switch))
    assert leak(variant, *eight_lines) < 1e-5, f"{switch} looks ahead"
for n_layers in (2, 4, 6):
    print(f"{n_layers} layers: {count_parameters(GPT(GPTConfig(n_layers=n_layers))):,}")

# %% [markdown]
# ## The top of the ladder
#
# The plain GPT brings norms, tied embeddings and a start at 0.06. Then rotary positions replace learned ones, from
# GPT-2's small start and from ours (a minute on two cores).


# %% tags=["nbval-ignore-output"]
def started(model, std=0.06):
    """The model, begun again with weights that suit its width."""
    initialise(model, std)
    return model


small_rope = replace(general.config, position="rope")
plain_trained = climb("plain GPT", lambda: started(PlainGPT(small)))
_ = climb("rotary GPT, small start", lambda: GPT(small_rope))
finished = climb("rotary GPT", lambda: started(GPT(small_rope)))

# %% tags=["nbval-ignore-output"]
one_character.config = small  # speak asks how long its context is
both = {"one character": one_character, "the finished GPT": finished}
for rung, model in both.items():
    torch.manual_seed(0)
    print(f"--- {rung}\n{speak(model, prompt, 120)}\n")

# %% tags=["nbval-ignore-output"]
means = {rung: losses.mean() for rung, losses in ladder.items()}
counters = [name for name in ("bigram", "5-gram", "Kneser–Ney") if name in baselines]
rungs = means | {name: baselines[name] for name in counters}
title = "The ladder: each part for the loss it removes"
figures.loss_bars(rungs, title=title, note=text.note, ranked=False, low=1)

# %% [markdown]
# The finished model is the best rung, by several times the seeds' spread; trained for seconds, it is far behind the
# 5-gram. Norms, tied embeddings and another start together move the loss no further than the seeds do. The start
# counts: from GPT-2's 0.02, our 64 channels come no further than the rung without norms. Why rotary positions help,
# the ladder can't tell. A guess: one rotary head learns what "the one before" means for all places at once.
#
# ## What breaks without each part
#
# Six layers, less one thing or two. A hundred steps show who *starts*, not who is best in the end. (Fifteen runs: a
# minute and a half on two cores.)
#
# > **Predict** the order, best to worst.


# %% tags=["nbval-ignore-output"]
def changed_model(change, n_layers=6):
    """A deeper rotary GPT with that change."""
    return started(GPT(replace(small_rope, n_layers=n_layers, **change)))


broken, begun = {}, {}
changes = {"all as it should be": {}, "post-norm": {"norm_placement": "post"}}
changes |= {"no norm": {"norm": "none"}, "no residual": {"residual": False}}
changes["neither"] = {"norm": "none", "residual": False}
for name, change in tqdm(changes.items(), "variants", leave=False):
    make = partial(changed_model, change)
    begun[name] = make()(eight_lines[0]).std().item()
    models = [learn(make, seed, n_steps=steps // 3)[0] for seed in range(3)]
    with torch.no_grad():
        broken[name] = pd.Series([loss_of(m, *few).item() for m in models])
spread = {name: (losses.mean(), losses.std()) for name, losses in broken.items()}
table = pd.DataFrame(spread, index=["mean loss", "standard deviation"]).T
table["logits' spread at first"] = begun
table.round(4)

# %% [markdown]
# *Neither* is stuck at the uniform loss: each layer shrinks what it is handed, forwards (the logits begin at 0) and
# backwards. With only the plus missing, a model learns how frequent characters are (the unigram: 3.347) and no more.
# *No norm* is behind. Post-norm, here without its warm-up, leads pre-norm by one and a half spreads, which three
# seeds of a hundred steps can't settle. And in a hurry? One seed, three layers, ten times the rate:

# %% tags=["nbval-ignore-output"]
for name in ("all as it should be", "no norm"):
    make = partial(changed_model, changes[name], n_layers=3)
    _, losses = learn(make, rate=3e-2, n_steps=steps // 3)
    worst, last = max(losses), losses[-1]
    print(f"{name}: the worst loss on the way is {worst:.3g}, the last {last:.3g}")

# %% [markdown]
# Without norms that throws the model away; with them it still learns.
#
# ## Looking inside
#
# Compare the plain GPT's position vectors, before and after training, with sinusoids.
#
# > **Predict.** Which positions will become alike?

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
kinds = {"learned, start": started(PlainGPT(small)).positions.detach()}
kinds["learned"] = plain_trained.positions.detach()
kinds["sinusoidal"] = sinusoidal_positions(T, C)
figures.position_similarity(kinds, title="How alike two positions are", note=text.note)

# %% [markdown]
# Neighbours have become more alike, and early places unlike late ones. In sinusoids, too, likeness falls with
# distance.
#
# **What the stream carries.** Apply the last norm and the head after any layer, as if the model stopped there: the
# **logit lens** (nostalgebraist, 2020). The model from the beginning reads a line that it has never seen.
#
# > **Predict.** What does the stream say *before* the first layer, with tied embeddings?


# %%
@torch.no_grad()
def stream_after(model, tokens):
    """What passes by: before the first block and after each. -> a list of (B, T, C)"""
    added, angles = positions_at(model, 0, tokens.shape[1])
    stages = [model.embedding(tokens) * model.scale + added]
    for block in model.blocks:
        stages.append(block(stages[-1], angles))
    return stages


# %%
line = validation_ids[3 : 3 + min(33, trained.config.context_length)]
with torch.no_grad():
    stream = stream_after(trained, line[None, :-1])
    stages = [trained.head(trained.norm(x)).softmax(-1)[0] for x in stream]
guesses = [tokenizer.decode(p.argmax(-1)) for p in stages]

# %% tags=["nbval-ignore-output"]
right = torch.stack([p.gather(-1, line[1:, None])[:, 0] for p in stages])
title, written = "What the model would say after each layer", tokenizer.decode(line)
hits = [sum(a == b for a, b in zip(g, written[1:], strict=True)) for g in guesses]
print(f"right of {len(written) - 1}: before any layer {hits[0]}, after each {hits[1:]}")
figures.logit_lens(guesses, right, written, title=title, note=text.note)

# %% [markdown]
# The colour is the probability of the character that *does* come. Before any layer the model says *what it has just
# read*: a tied head asks which embedding the stream resembles. Read the middle row with care: layer 1 was trained to
# serve layer 2, not this head, and a lens not fitted to its layer can mislead (Belrose et al., 2023). Now any text:
# point at a character, or click a layer or a head away:

# %% tags=["nbval-ignore-output"]
widgets.inside({"2 layers": trained}, tokenizer, written, model=0)

# %% [markdown]
# ## What you built
#
# A GPT, from six sizes to logits, each part with its price, equal to PyTorch's block; three tests that a model must
# pass before it deserves your electricity, and what they miss. **The loss log** so far:

# %% tags=["nbval-ignore-output"]
log = pd.DataFrame({"nats/character": pd.Series(baselines | means)})
log["seeds ±"] = pd.Series({rung: losses.std() for rung, losses in ladder.items()})
log.sort_values("nats/character", ascending=False).round(3)

# %% [markdown]
# Losses over different contexts don't compare: in our windows of 32 characters the first places have read little; a
# counter reads on. Lesson 2's do compare: the same windows, at a larger rate.
#
# ## Questions
#
# **1.** A model knows no positions. Can its *last* output tell *"dog bites man."* from *"man bites dog."*?
#
# <details><summary>Answer</summary>
#
# With one layer, no. With two, perhaps: the mask lets place 4 average five values and place 13 fourteen, and the second
# layer reads that. </details>
#
# **2.** Double `d_model` and `d_ff`: how much does the parameter count grow? And with `n_layers` doubled?
#
# <details><summary>Answer</summary>
#
# Nearly fourfold: each matrix in a block doubles on both sides, the embedding on one. With `n_layers` the blocks
# double, the embedding stays. </details>
#
# **3.** All three tests pass. What may still be wrong?
#
# <details><summary>Answer</summary>
#
# Anything with which a model can learn without cheating: a scale, a projection, positions. Compare with a second
# source. </details>
#
# **4.** SwiGLU has three matrices, not two. Which width inside gives it as many weights as GELU with $4C$?
#
# <details><summary>Answer</summary>
#
# $3Cd = 2C \cdot 4C$, so $d = \frac83 C$ (Shazeer, 2020). At $4C$ you would compare sizes, too. </details>
#
# **5.** Why does what writes to the stream begin smaller by $1/\sqrt{2L}$, not by $1/(2L)$?
#
# <details><summary>Answer</summary>
#
# At the start, what is added is unrelated, so variances add up, not sizes: $2L$ terms of variance $1/(2L)$ make 1.
# </details>
#
# ## Exercises
#
# Write your answer in place of the `...` and run the cell: it prints *right*, or *not yet* and a guess at the
# mistake.
#
# ### Exercise 3.1 · warm-up · 5 min
#
# How many parameters has a GPT of the sizes below, with learned positions, LayerNorm without biases and tied
# embeddings? Work it out by hand.
#
# <details><summary>Hint 1</summary>
#
# List the matrices: the embedding, the positions, four in each layer (`qkv` is three of $C \times C$). Then the
# gains. </details>
#
# <details><summary>Hint 2</summary>
#
# `d_ff` isn't four times `d_model`, and the head is the embedding. </details>

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
# Write this lesson's RMSNorm, with a gain for each channel. `eps` stands *inside* the root, which is infinitely steep
# at 0: outside, a position of zeros would get a gradient of `nan`.
#
# <details><summary>Hint 1</summary>
#
# The mean runs over the last axis; nothing is subtracted. </details>
#
# <details><summary>Hint 2</summary>
#
# `keepdim=True` keeps that axis for the division. </details>


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
# The lesson's `rotate` turns channel $i$ with channel $i + D/2$. The paper and many published models turn
# *neighbours*, $2i$ and $2i+1$, by `angles[t, i]`; their weights in our code give noise. Write the neighbours'
# version.
#
# <details><summary>Hint 1</summary>
#
# `x[..., ::2]` and `x[..., 1::2]` are each pair's members. </details>
#
# <details><summary>Hint 2</summary>
#
# Put them back side by side: `torch.stack((…, …), dim=-1)`, then `.flatten(-2)`. </details>


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
# The lesson changed the last token only. Find a leak anywhere: does *any* output depend on a *later* token? The check
# hands you models, sound and leaking, in evaluation mode.
#
# <details><summary>Hint 1</summary>
#
# Draw tokens once. Change the token at each place $t$, and compare the outputs *before* $t$. </details>
#
# <details><summary>Hint 2</summary>
#
# `(token + 1) % vocab_size` is another token. Anything below a millionth is rounding. </details>


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
# ### Exercise 3.5 · core · 25 min
#
# The check hands you untrained models, each sound or with one bug. Return its name:
#
# | name | what is wrong |
# |---|---|
# | `"future"` | an output depends on a later token |
# | `"deaf"` | an output depends on no token but its own |
# | `"order"` | the last output ignores the order of the tokens before it |
# | `"batch"` | an output depends on other sequences of the batch, or on its place among them |
# | `"sure"` | the first loss is more than 1 above the uniform one |
# | `"none"` | nothing |
#
# <details><summary>Hint 1</summary>
#
# Five small tests, all but the last on two outputs. Take tokens that all differ; up to 1e-6 is rounding. For the
# batch, ask one line alone and last of four. </details>
#
# <details><summary>Hint 2</summary>
#
# A deaf model doesn't notice a shuffle. So what comes before *order*? </details>


# %% tags=["exercise"]
def find_bug(model, vocab_size, context_length):
    """model: tokens (B, T) int64 -> logits (B, T, V). -> a name of the table."""
    ...


checks.check("3.5", find_bug)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def find_bug(model, vocab_size, context_length):
    tokens = torch.randperm(vocab_size)[:context_length][None]
    logits = model(tokens)

    def moved(changed, places):
        return (model(changed) - logits)[:, places].abs().max() > 1e-6

    for t in range(1, context_length):
        changed = tokens.clone()
        changed[0, t] = (changed[0, t] + 1) % vocab_size
        if moved(changed, slice(t)):
            return "future"
    last, other = [-1], tokens.roll(1, 0).flip(1)
    earlier = tokens.clone()
    earlier[:, :-1] = (earlier[:, :-1] + 1) % vocab_size
    if not moved(earlier, last):
        return "deaf"
    if not moved(torch.cat([tokens[:, :-1].flip(1), tokens[:, -1:]], dim=1), last):
        return "order"
    if (model(torch.cat([other, other, other, tokens]))[-1:] - logits).abs().max() > 1e-6:
        return "batch"
    targets = torch.randint(vocab_size, tokens.shape)
    loss = F.cross_entropy(logits[0], targets[0])
    return "sure" if loss > math.log(vocab_size) + 1 else "none"


checks.check("3.5", find_bug, quiet=True)

# %% [markdown]
# ### Exercise 3.6 · stretch · 90 min
#
# A fifth way to tell positions. ALiBi (Press, Smith and Lewis, 2022) adds nothing to the stream; it makes distance
# *cost*. Head $h = 1 \dots H$ subtracts $2^{-8h/H} \cdot (t - s)$ from the score of query $t$ and key $s$. Write the
# bias that is added to the scores, $-\infty$ where $s > t$.
#
# Then give it to `Attention`, put it on the ladder beside rotary positions, and ask both, trained on 32 characters,
# to read 64.
#
# <details><summary>Answer to the second half</summary>
#
# ```python
# class Distant(Attention):
#     def forward(self, x, angles=None, cache=None):
#         q, k, v = self.queries_keys_values(x)
#         bias = alibi(self.n_heads, x.shape[1])
#         heard = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
#         return self.out(merge_heads(heard))
# ```
#
# Give each block of a GPT with `position="none"` and `context_length=64` one of these, then `started`, then `learn`.
# On 64 its loss is what it was on 32. Rotary, a little better on 32, gets clearly worse beyond. </details>
#
# <details><summary>Hint 1</summary>
#
# `torch.arange(T)[:, None] - torch.arange(T)` holds the distances: rows are queries. </details>
#
# <details><summary>Hint 2</summary>
#
# Slopes of shape $(H, 1, 1)$ times distances give $(H, T, T)$. </details>


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
# ### Exercise 3.7 · core · 40 min
#
# The thing itself: one block of GPT-2, from x and its published weights, with what the course leaves out: a bias in
# each linear map, `x @ weight + bias`, and a shift in each norm. GELU is `F.gelu(h, approximate="tanh")`; F below is
# `d_ff`.
#
# | name, then `.weight` or `.bias` | | shapes |
# |---|---|---|
# | `ln_1`, `ln_2` | the norms (gain, shift) | (C,), (C,) |
# | `attn.c_attn` | x to q, k, v, side by side | (C, 3C), (3C,) |
# | `attn.c_proj` | the output projection | (C, C), (C,) |
# | `mlp.c_fc` | up | (C, F), (F,) |
# | `mlp.c_proj` | and back | (F, C), (C,) |
#
# <details><summary>Hint 1</summary>
#
# Write two helpers: a linear map by its name, and a norm, `F.layer_norm(x, x.shape[-1:], gain, shift)`. </details>
#
# <details><summary>Hint 2</summary>
#
# `(x @ weight + bias).chunk(3, dim=-1)` gives q, k and v; then `split_heads`, `causal_attention`, `merge_heads`.
# </details>


# %% tags=["exercise"]
def gpt2_block(x, weights, n_heads):
    """x: (B, T, C), weights: {name: tensor} -> (B, T, C)."""
    ...


checks.check("3.7", gpt2_block)


# %% jupyter={"source_hidden": true} tags=["solution", "hide-cell"]
def gpt2_block(x, weights, n_heads):
    def norm(x, name):
        gain, shift = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return F.layer_norm(x, x.shape[-1:], gain, shift)

    def linear(x, name):
        return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]

    three = linear(norm(x, "ln_1"), "attn.c_attn").chunk(3, dim=-1)
    q, k, v = (split_heads(part, n_heads) for part in three)
    x = x + linear(merge_heads(causal_attention(q, k, v)), "attn.c_proj")
    h = F.gelu(linear(norm(x, "ln_2"), "mlp.c_fc"), approximate="tanh")
    return x + linear(h, "mlp.c_proj")


checks.check("3.7", gpt2_block, quiet=True)

# %% [markdown]
# ## Test yourself
#
# **1.** Twice the heads, the same `d_model`: the parameters …
# (a) double · (b) stay · (c) halve.
#
# <details><summary>Answer</summary>
#
# (b). The four matrices are $C \times C$, however they are cut. </details>
#
# **2.** Rotary positions act on …
# (a) the embeddings · (b) the values · (c) queries and keys.
#
# <details><summary>Answer</summary>
#
# (c). Their dot product then depends on the distance. </details>
#
# **3.** A model with *learned* positions, trained on 32 characters, is handed 64. It …
# (a) guesses as well as before · (b) has no vector for the last 32 · (c) forgets the first 32.
#
# <details><summary>Answer</summary>
#
# (b). Its table has 32 rows. For (a), see exercise 3.6. </details>
#
# **Next:** [4 · Training](04_train.ipynb), where the model meets Shakespeare.
