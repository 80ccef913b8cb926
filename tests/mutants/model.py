"""Lesson 3: what goes wrong with counting, norms, rotations, probes, tied weights and distances."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from course_utils import checks
from tests.mutants import Case, late


def with_sizes(make):
    """An answer computed from the sizes that the exercise's cell prints."""
    return late(lambda: make(*checks.sizes("3.1").values()))


def count(
    v, t, layers, heads, c, f, gains=True, positions=True, head=False, bias=False, matrices=4
):
    layer = matrices * c * c + 2 * c * f + (2 * c if gains else 0) + (4 * c + f + c if bias else 0)
    ends = v * c * (1 + head) + (t * c if positions else 0) + (c if gains else 0)
    return layers * layer + ends


def rms(inside=lambda square, eps: (square + eps).sqrt(), axis=-1, centre=False, keep=True):
    def attempt(x, gain, eps):
        x = x - x.mean(-1, keepdim=True) if centre else x
        return gain * x / inside(x.square().mean(axis, keepdim=keep), eps)

    return attempt


def by_numbers(x, gain, eps):
    """One channel after the other."""
    out = torch.empty_like(x)
    for b, t in torch.cartesian_prod(*map(torch.arange, x.shape[:2])).tolist():
        size = math.sqrt(sum(value**2 for value in x[b, t].tolist()) / x.shape[-1] + eps)
        for i in range(x.shape[-1]):
            out[b, t, i] = x[b, t, i] * gain[i] / size
    return out


def neighbours(even, odd, back=lambda a, b: torch.stack((a, b), -1).flatten(-2)):
    def attempt(x, angles):
        a, b = x[..., ::2], x[..., 1::2]
        cos, sin = angles.cos(), angles.sin()
        return back(even(a, b, cos, sin), odd(a, b, cos, sin))

    return attempt


def halves(x, angles):
    a, b = x.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


def by_matrices(x, angles):
    """Each pair times its own 2 × 2 matrix."""
    rows = torch.stack((angles.cos(), -angles.sin(), angles.sin(), angles.cos()), -1).unflatten(
        -1, (2, 2)
    )
    return torch.einsum("tpij,bhtpj->bhtpi", rows, x.unflatten(-1, (-1, 2))).flatten(-2)


def probe(places=lambda T: range(1, T), compared=lambda out, t: out[0, :t], fresh=False):
    """Changes a token and compares, right unless told otherwise."""

    def attempt(model, vocab_size, context_length):
        tokens = torch.randint(
            vocab_size, (1, context_length), generator=torch.Generator().manual_seed(5)
        )
        for t in places(context_length):
            before = torch.randint(vocab_size, tokens.shape) if fresh else tokens
            changed = tokens.clone()
            changed[0, t] = (changed[0, t] + 1) % vocab_size
            if not torch.allclose(
                compared(model(changed), t), compared(model(before), t), atol=1e-6
            ):
                return True
        return False

    return attempt


def by_slope(model, vocab_size, context_length):
    """A batch of all changes at once."""
    tokens = torch.zeros(context_length, context_length, dtype=torch.int64)
    base = model(tokens)
    moved = model(tokens + torch.eye(context_length, dtype=torch.int64))
    return bool(((moved - base).abs().amax(-1).tril(-1) > 1e-6).any())


def copied(model):
    with torch.no_grad():
        model.head.weight.copy_(model.embedding.weight)
    return model


def cloned(model):
    model.head.weight = nn.Parameter(model.embedding.weight.detach().clone())
    return model


def shared_memory(model):
    model.head.weight.data = model.embedding.weight.data
    return model


def frozen(model):
    model.head.weight = model.embedding.weight
    model.head.weight.requires_grad_(False)
    return model


def other_way(model):
    model.embedding.weight = model.head.weight
    return model


def bias(
    slope=lambda h, H: 2 ** (-8 * (h + 1) / H), cost=lambda back: -back, forbid=True, swap=False
):
    def attempt(n_heads, T):
        back = torch.arange(T)[:, None] - torch.arange(T)
        found = torch.stack([slope(h, n_heads) * cost(back).float() for h in range(n_heads)])
        found = found.masked_fill(back < 0, -math.inf) if forbid else found
        return found.mT if swap else found

    return attempt


def not_cloned(model, vocab_size, context_length):
    """Both readings come after the change, of one and the same tensor."""
    for t in range(1, context_length):
        tokens = torch.zeros(1, context_length, dtype=torch.long)
        changed = tokens
        changed[:, t:] = 1
        if not torch.allclose(model(tokens)[:, :t], model(changed)[:, :t], atol=1e-5):
            return True
    return False


def whole_layer(model):
    model.head = model.embedding
    return model


EXERCISES = {
    "3.1": Case(
        mutants=[
            (with_sizes(lambda *sizes: count(*sizes, head=True)), "is the head counted as well"),
            (with_sizes(lambda *sizes: count(*sizes, positions=False)), "positions forgotten"),
            (with_sizes(lambda *sizes: count(*sizes, gains=False)), "gains forgotten"),
            (with_sizes(lambda *sizes: count(*sizes, bias=True)), "biases"),
            (with_sizes(lambda *sizes: count(*sizes, matrices=3)), "four matrices"),
            (
                with_sizes(lambda v, t, layers, h, c, f: count(v, t, layers, h, c, 4 * c)),
                "d_ff taken for",
            ),
            (with_sizes(lambda v, t, layers, h, c, f: count(v, t, 1, h, c, f)), "one layer"),
            (
                with_sizes(lambda v, t, n, h, c, f: count(v, t, n, h, c, f) - n * c),
                "one norm a layer",
            ),
            (
                with_sizes(lambda v, t, n, h, c, f: count(v, t, n, h, c, f) - n * c * f),
                "two matrices",
            ),
            ("many", "got"),
        ],
        unusual=[with_sizes(count), with_sizes(lambda *sizes: torch.tensor(count(*sizes)))],
    ),
    "3.2": Case(
        mutants=[
            (rms(lambda square, eps: square.sqrt() + eps), "eps outside the root"),
            (rms(lambda square, eps: square.sqrt()), "eps missing"),
            (
                lambda x, gain, eps: gain * x / (x.mean(-1, keepdim=True) ** 2 + eps).sqrt(),
                "square of the mean",
            ),
            (rms(lambda square, eps: square + eps), "root missing"),
            (rms(centre=True), "mean taken away"),
            (rms(axis=1), "over time"),
            (rms(axis=(0, 1, 2)), "over all positions"),
            (rms(lambda square, eps: (7 * square + eps).sqrt()), "sum of squares"),
            (lambda x, gain, eps: rms()(x, 1.0, eps), "gain missing"),
            (
                lambda x, gain, eps: (
                    gain * x / (x.var(-1, unbiased=False, keepdim=True) + eps).sqrt()
                ),
                "deviation",
            ),
            (rms(keep=False), "your code raised RuntimeError"),
        ],
        unusual=[by_numbers, lambda x, gain, eps: F.rms_norm(x, x.shape[-1:], gain, eps)],
    ),
    "3.3": Case(
        mutants=[
            (halves, "are the halves turned"),
            (lambda x, angles: by_matrices(x, -angles), "the other way"),
            (
                neighbours(
                    lambda a, b, c, s: a * c - b * s,
                    lambda a, b, c, s: a * s + b * c,
                    lambda a, b: torch.cat((a, b), -1),
                ),
                "side by side",
            ),
            (
                neighbours(lambda a, b, c, s: a * c + b * s, lambda a, b, c, s: a * s + b * c),
                "sign lost",
            ),
            (
                neighbours(lambda a, b, c, s: a * s - b * c, lambda a, b, c, s: a * c + b * s),
                "swapped",
            ),
            (lambda x, angles: x, "expected"),
        ],
        unusual=[by_matrices],
    ),
    "3.4": Case(
        mutants=[
            (probe(places=lambda T: [T - 1]), "only the last token changed"),
            (probe(compared=lambda out, t: out[0, -1]), "the changed position itself"),
            (probe(compared=lambda out, t: out[0]), "the changed position itself"),
            (
                probe(places=lambda T: range(2, T), compared=lambda out, t: out[0, :1]),
                "last position alone",
            ),
            (probe(compared=lambda out, t: out[0, :0]), "mask off by one in the second"),
            (probe(places=lambda T: range(1, 2)), "every place tried"),
            (probe(fresh=True), "given a sound model"),
            (not_cloned, "the same tokens twice"),
            (lambda model, vocab_size, context_length: "no", "expected"),
        ],
        unusual=[probe(), by_slope],
    ),
    "3.5": Case(
        mutants=[
            (copied, "are the values copied"),
            (cloned, "are the values copied"),
            (shared_memory, "share memory"),
            (frozen, "RuntimeError"),
            (whole_layer, "whole layer shared"),
            (lambda model: model, "the two ends"),
            (lambda model: model.embedding, "is it returned"),
        ],
        unusual=[other_way],
    ),
    "3.6": Case(
        mutants=[
            (bias(cost=lambda back: back), "where they should cost"),
            (bias(forbid=False), "future not forbidden"),
            (bias(cost=lambda back: -back.clamp(min=0), forbid=False), "cost nothing"),
            (bias(cost=lambda back: -back.abs(), forbid=False), "where it should be forbidden"),
            (bias(slope=lambda h, H: 2 ** (-8 * h / H)), "Heads count from 1"),
            (bias(slope=lambda h, H: 2 ** (-8 / H)), "one slope"),
            (bias(swap=True), "rows and columns"),
        ],
        unusual=[bias(slope=lambda h, H: (2 ** (-8 / H)) ** (h + 1))],
    ),
}
