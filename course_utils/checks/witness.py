"""Recipes that try an attempt where it lives and bring plain values back, for what isn't a value.

A model, an argument changed in place: a check asks `observed` what became of them.
Where a notebook is graded, a recipe runs in the notebook's own process, so it holds no expected
value: what it says is believed only as far as the judge can reckon it again.
"""

import functools
import math

import torch
from torch import nn
from torch.nn import functional as F

from course_utils.lessons.model import GPT, GPTConfig


def observed(recipe, attempt, *values):
    """recipe(attempt, *values), where the attempt lives: here, or in a notebook's own process."""
    there = getattr(attempt, "there", None)
    return there(recipe.__name__, *values) if there else recipe(attempt, *values)


def kept(attempt, tensor, *rest):
    """-> (what it gives, what the tensor is afterwards)"""
    got = attempt(tensor, *rest)
    return got, tensor


class Watched(torch.Tensor):
    """A tensor that remembers the largest result it had a part in, and a product's widest row."""

    most = widest = 0
    PRODUCTS = "matmul", "__matmul__", "__rmatmul__", "bmm", "mm", "mv", "einsum"

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        got = super().__torch_function__(function, types, args, kwargs or {})
        if isinstance(got, torch.Tensor):
            library = function is F.scaled_dot_product_attention
            cls.most = max(cls.most, math.inf if library else got.numel())
            if function.__name__ in cls.PRODUCTS and got.ndim:
                cls.widest = max(cls.widest, got.shape[-1])
        return got


def sizes_of_parts(attempt, tensors, *rest):
    """-> (numbers in the largest result that any of the tensors had a part in, the widest row)"""
    Watched.most = Watched.widest = 0
    attempt(*(tensor.as_subclass(Watched) for tensor in tensors), *rest)
    return Watched.most, Watched.widest


def small_gpt(seed, dropout=0.0):
    """One layer; the same weights wherever it is made."""
    torch.manual_seed(seed)
    return GPT(GPTConfig(11, 5, n_layers=1, n_heads=2, d_model=8, d_ff=12, dropout=dropout))


def looped(attempt, seed, dropout, *rest):
    """What a training loop gives for a model in evaluation mode, and the rest."""
    model = small_gpt(seed, dropout).eval()
    torch.manual_seed(seed)  # of dropout
    return attempt(model, *rest)


@functools.cache
def chain_of(seed, length):
    """A text of 11 characters, each drawn by the one before it. -> (length,) int64"""
    draw = torch.Generator().manual_seed(seed)
    odds = (2 * torch.randn(11, 11, generator=draw)).softmax(-1)
    text = [0]
    for uniform in torch.rand(length - 1, generator=draw):
        text.append(min(10, int((odds[text[-1]].cumsum(0) < uniform).sum())))
    return torch.tensor(text)


def final_loss(seed, rate):
    """What a table of pairs has come to after 30 steps of AdamW at this rate, on held-out pairs.

    How much its scores are multiplied by depends on the seed, and with it the best rate.
    """
    luck = torch.rand((), generator=torch.Generator().manual_seed(seed)).item()
    scale = 10 ** (seed % 4 / 2 - 0.9 + 0.3 * luck)
    text = chain_of(seed, 2400)
    table = nn.Parameter(torch.zeros(11, 11))
    optimizer = torch.optim.AdamW([table], lr=rate)
    for step in range(30):
        some = text[64 * step :][:65]
        optimizer.zero_grad()
        F.cross_entropy(scale * table[some[:-1]], some[1:]).backward()
        optimizer.step()
    with torch.no_grad():
        return F.cross_entropy(scale * table[text[1920:-1]], text[1921:]).item()


def searched(attempt, seed):
    """-> (the rate that an attempt finds, the rates that it has tried)"""
    tried = []

    def trial(rate):
        tried.append(float(rate))
        return final_loss(seed, tried[-1])

    return attempt(trial), tried


RECIPES = {recipe.__name__: recipe for recipe in (kept, sizes_of_parts, looped, searched)}
