"""Recipes that try an attempt where it lives and bring plain values back, for what isn't a value.

A model, its gradients, an argument changed in place: a check asks `observed` what became of them.
Where a notebook is graded, a recipe runs in the notebook's own process, so it holds no expected
value: what it says is believed only as far as the judge can reckon it again.
"""

import math
from collections import OrderedDict

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


def two_ends(weight=None):
    """The two ends of a model, with nothing between; tied where a weight (7, 5) is given."""
    model = nn.Sequential(
        OrderedDict(embedding=nn.Embedding(7, 5), head=nn.Linear(5, 7, bias=False))
    )
    if weight is not None:
        model.embedding.weight = model.head.weight = nn.Parameter(weight.clone())
    return model


def trained(model, tokens, targets):
    """The weights of both ends after two steps of Adam."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(model(tokens), targets).backward()
        optimizer.step()
    return ends(model)


def ends(model):
    return [weight.detach().clone() for weight in (model.embedding.weight, model.head.weight)]


def tied(attempt, tokens, targets):
    """What an attempt makes of two ends: its kind, its weights before and after two steps."""
    model = attempt(two_ends())
    told = {"kind": type(model).__name__}
    if isinstance(model, nn.Sequential):
        told["head"] = type(model.head).__name__
        told["before"] = ends(model)
    if told.get("head") == "Linear":
        told["after"] = trained(model, tokens, targets)
        told["learned"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return told


LAYERS = {
    "Embedding": lambda: nn.Embedding(7, 5),
    "LayerNorm": lambda: nn.LayerNorm(5),
    "Linear": lambda: nn.Linear(5, 3),
    "BatchNorm1d": lambda: nn.BatchNorm1d(3),
}


def made_of(layers):
    """A GPT of so many layers; or a chain of layers by their names, never meant to run."""
    if isinstance(layers, int):
        return GPT(GPTConfig(11, 7, n_layers=layers, n_heads=2, d_model=8, d_ff=12))
    return nn.Sequential(*(LAYERS[name]() for name in layers))


def names_chosen(attempt, layers):
    """What an attempt chooses of a model's parameters."""
    return attempt(made_of(layers))


def small_gpt(seed, dropout=0.0):
    """One layer; the same weights wherever it is made."""
    torch.manual_seed(seed)
    return GPT(GPTConfig(11, 5, n_layers=1, n_heads=2, d_model=8, d_ff=12, dropout=dropout))


def gradients(model):
    """All gradients in one line; where there is none, 0."""
    parts = [p.grad if p.grad is not None else torch.zeros_like(p) for p in model.parameters()]
    return torch.cat([part.flatten() for part in parts])


def weights(model):
    """All weights in one line."""
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def read_in_parts(attempt, seed, parts):
    """-> (what an attempt gives for a model and parts, the model's gradients, its weights)"""
    model = small_gpt(seed)
    got = attempt(model, parts)
    return got, gradients(model), weights(model)


def measured(attempt, seed, training, tokens, targets):
    """-> (what an attempt gives, the modes it leaves the parts in, was a pass recorded?)"""
    model = small_gpt(seed, dropout=0.5).train(training)
    recorded = []
    model.register_forward_pre_hook(lambda *_: recorded.append(torch.is_grad_enabled()))
    got = attempt(model, tokens, targets)
    return got, [part.training for part in model.modules()], any(recorded)


RECIPES = {
    recipe.__name__: recipe
    for recipe in (kept, sizes_of_parts, tied, names_chosen, read_in_parts, measured)
}
