"""Attention, against torch's own function and a plain loop,
and against versions broken on purpose."""

import math

import pytest
import torch
from torch.nn import functional as F

from course_utils.lessons.attention import (
    attention_weights,
    causal_attention,
    merge_heads,
    split_heads,
)

B, H, T, D = 2, 3, 5, 7


def random_qkv(queries=T):
    torch.manual_seed(0)
    q, k, v = 2 * torch.randn(3, B, H, T, D, dtype=torch.float64)
    return q[..., T - queries :, :], k, v


def by_loops(q, k, v):
    """Attention one number at a time; the queries are the last of the T positions."""
    out = torch.zeros_like(q)
    for b, h, i in torch.cartesian_prod(*map(torch.arange, q.shape[:3])).tolist():
        seen = k.shape[2] - q.shape[2] + i + 1
        scores = [
            sum(q[b, h, i, d] * k[b, h, j, d] for d in range(D)).item() / D**0.5
            for j in range(seen)
        ]
        shares = [math.exp(s) for s in scores]
        out[b, h, i] = sum(share / sum(shares) * v[b, h, j] for j, share in enumerate(shares))
    return out


# Every check takes the function under test: attention(q, k, v) -> (B, H, Tq, D).
def check_equals_torch(attention):
    q, k, v = random_qkv()
    torch.testing.assert_close(
        attention(q, k, v), F.scaled_dot_product_attention(q, k, v, is_causal=True)
    )


def check_equals_loops(attention):
    q, k, v = random_qkv()
    torch.testing.assert_close(attention(q, k, v), by_loops(q, k, v))


def check_is_a_weighted_mean(attention):
    """Where all values are 1, so is every mean of them."""
    q, k, v = random_qkv()
    torch.testing.assert_close(attention(q, k, torch.ones_like(v)), torch.ones_like(v))


def check_sees_itself(attention):
    """The first position has only itself to listen to."""
    q, k, v = random_qkv()
    torch.testing.assert_close(attention(q, k, v)[..., 0, :], v[..., 0, :])


def check_ignores_the_future(attention):
    q, k, v = random_qkv()
    before = attention(q, k, v)
    for t in range(T - 1):
        changed = [x.clone() for x in (q, k, v)]
        for x in changed:
            x[..., t + 1 :, :] += 3
        torch.testing.assert_close(attention(*changed)[..., : t + 1, :], before[..., : t + 1, :])


def check_no_gradient_from_the_future(attention):
    q, k, v = (x.requires_grad_() for x in random_qkv())
    for t in range(T):
        grads = torch.autograd.grad(attention(q, k, v)[..., t, :].square().sum(), (k, v))
        for grad in grads:
            assert (grad[..., t + 1 :, :] == 0).all()
        assert (grads[1][..., : t + 1, :] != 0).all(), "every earlier value counts"


CHECKS = [
    check_equals_torch,
    check_equals_loops,
    check_is_a_weighted_mean,
    check_sees_itself,
    check_ignores_the_future,
    check_no_gradient_from_the_future,
]


def weights_with(first_hidden=1, scale=D**-0.5, axis=-1):
    def weights(q, k):
        scores = scale * (q @ k.mT)
        future = torch.ones(T, T, dtype=torch.bool).triu(first_hidden)
        return scores.masked_fill(future, -math.inf).softmax(axis)

    return weights


def attention_from(weights):
    return lambda q, k, v: weights(q, k) @ v


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "attention",
    [causal_attention, attention_from(attention_weights)],
    ids=["causal_attention", "attention_weights"],
)
def test_attention(attention, check):
    check(attention)


# fault: (how to make it, the checks that must notice)
FAULTS = {
    "no mask": (
        {"first_hidden": T},
        {"equals_torch", "equals_loops", "ignores_the_future", "sees_itself"},
    ),
    "mask off by one, late": (
        {"first_hidden": 2},
        {"equals_torch", "equals_loops", "ignores_the_future"},
    ),
    "mask off by one, early": (
        {"first_hidden": 0},
        {"equals_torch", "equals_loops", "sees_itself"},
    ),
    "scale missing": ({"scale": 1.0}, {"equals_torch", "equals_loops"}),
    "scale by D, not its root": ({"scale": 1 / D}, {"equals_torch", "equals_loops"}),
    "softmax on the wrong axis": (
        {"axis": -2},
        {"equals_torch", "equals_loops", "is_a_weighted_mean"},
    ),
}


@pytest.mark.parametrize(("fault", "noticed_by"), FAULTS.values(), ids=FAULTS)
def test_broken_attention_is_noticed(fault, noticed_by):
    mutant = attention_from(weights_with(**fault))
    for check in CHECKS:
        if check.__name__.removeprefix("check_") in noticed_by:
            with pytest.raises(AssertionError):
                check(mutant)


def test_weights_are_shares_of_the_past():
    q, k, _ = random_qkv()
    weights = attention_weights(q, k)
    assert weights.shape == (B, H, T, T)
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, H, T, dtype=torch.float64))
    assert (weights.tril() > 0).sum() == B * H * T * (T + 1) / 2, (
        "a share of each earlier position and of itself"
    )
    assert (weights.triu(1) == 0).all()


# --- a cache: fewer queries than keys -------------------------------------------------------------
def check_last_queries_give_the_last_rows(attention):
    q, k, v = random_qkv()
    whole = attention(q, k, v)
    for queries in range(1, T + 1):
        part = attention(q[..., -queries:, :], k, v)
        torch.testing.assert_close(part, whole[..., -queries:, :])
        torch.testing.assert_close(part, by_loops(q[..., -queries:, :], k, v))


def test_last_queries_give_the_last_rows():
    check_last_queries_give_the_last_rows(causal_attention)


def test_a_triangle_in_the_wrong_corner_is_noticed():
    """torch's own is_causal counts queries from the first key."""
    with pytest.raises(AssertionError):
        check_last_queries_give_the_last_rows(
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)
        )


# --- heads, dropout -------------------------------------------------------------------------------
def check_heads_are_slices_of_the_channels(split_heads):
    x = torch.arange(B * T * H * D).view(B, T, H * D)
    heads = split_heads(x, H)
    assert heads.shape == (B, H, T, D)
    for h in range(H):
        assert torch.equal(heads[:, h], x[..., h * D : (h + 1) * D])


def test_heads_are_slices_of_the_channels_and_merge_back():
    check_heads_are_slices_of_the_channels(split_heads)
    x = torch.randn(B, T, H * D)
    assert torch.equal(merge_heads(split_heads(x, H)), x)


@pytest.mark.parametrize(
    "mutant",
    [lambda x, H: x.view(B, H, T, D), lambda x, H: x.view(B, T, D, H).permute(0, 3, 1, 2)],
    ids=["time and channels mixed", "heads interleaved"],
)
def test_broken_heads_are_noticed(mutant):
    with pytest.raises(AssertionError):
        check_heads_are_slices_of_the_channels(mutant)


@pytest.mark.parametrize("queries", [T, 3, 1])
def test_dropout_keeps_the_mean_and_is_off_unless_asked_for(queries):
    q, k, v = random_qkv(queries)
    assert torch.equal(causal_attention(q, k, v), causal_attention(q, k, v))
    many = causal_attention(*(x.repeat(4000, 1, 1, 1) for x in (q, k, v)), dropout=0.5).view(
        4000, B, H, queries, D
    )
    assert (many[0] != many[1]).any()
    error = (many.mean(0) - causal_attention(q, k, v)).abs() / (many.std(0) / 4000**0.5)
    assert error.max() < 5, (
        "the mean of many draws is the undropped value, within 5 standard errors"
    )
