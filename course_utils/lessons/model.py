"""3 · The model: from a character to a guess.

GENERATED from notebooks/03_model.py by tools/export.py: change it there.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from course_utils.lessons.attention import causal_attention, merge_heads, split_heads


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


def position_angles(context_length, d):
    """Position t times d/2 speeds, 10000^(-2i/d), from 1 down: (T, d/2) radians."""
    speeds = 10000.0 ** (-torch.arange(0, d, 2) / d)
    return torch.arange(context_length)[:, None] * speeds


def rotate(x, angles):
    """Turn the channel pair (i, i + D/2) at position t by angles[t, i]; lengths stay.

    x: (B, H, T, D), angles: (T, D/2) radians -> (B, H, T, D). Su et al. (2021), eq. 34,
    whose pairs are neighbours.
    """
    cos, sin = angles.cos(), angles.sin()
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)


def sinusoidal_positions(context_length, d_model):
    """A fixed vector a position, sines, then cosines: (T, C).

    Vaswani et al. (2017), section 3.5, where sines and cosines alternate.
    """
    angles = position_angles(context_length, d_model + d_model % 2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[:, :d_model]


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


def make_norm(config):
    """Each position's channels at a common size, or left alone: (B, T, C) -> (B, T, C).

    Ba et al. (2016) for LayerNorm; Zhang and Sennrich (2019) for RMSNorm.
    """
    if config.norm == "layernorm":
        return nn.LayerNorm(config.d_model, bias=False)
    if config.norm == "rmsnorm":
        return nn.RMSNorm(config.d_model, eps=1e-5)
    return nn.Identity()


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


def count_parameters(model):
    """The number of learned numbers; a matrix that is used twice counts once."""
    return sum(parameter.numel() for parameter in model.parameters())
