"""Lesson 2: masks off by one, softmax over the wrong axis, forgotten scales, blocks that leak."""

import math

import torch
from torch.nn import functional as F

from course_utils import checks
from tests.mutants import Case, late


def with_sizes(make):
    """An answer computed from the sizes that the exercise's text prints."""
    return late(lambda: make(*checks.sizes("2.2").values()))


def sliding(low=0, high=0, both=False, scale=math.sqrt, dim=-1, after=False):
    """Sliding attention, right unless told otherwise: distances from low to below width + high."""

    def attempt(q, k, v, width):
        T, D = q.shape[-2:]
        distance = torch.arange(T)[:, None] - torch.arange(T)
        distance = distance.abs() if both else distance
        seen = (distance >= low) & (distance < max(width + high, 1))
        scores = q @ k.transpose(-2, -1) / scale(D)
        if after:
            return scores.softmax(dim).masked_fill(~seen, 0) @ v
        return scores.masked_fill(~seen, -math.inf).softmax(dim) @ v

    return attempt


def upside_down(q, k, v, width):
    T, D = q.shape[-2:]
    seen = torch.ones(T, T, dtype=torch.bool).triu().tril(width - 1)
    return (q @ k.mT / math.sqrt(D)).masked_fill(~seen, -math.inf).softmax(-1) @ v


def multiplied(q, k, v, width):
    T, D = q.shape[-2:]
    return (q @ k.mT / math.sqrt(D) * torch.ones(T, T).tril().triu(1 - width)).softmax(-1) @ v


def by_gathering(q, k, v, width):
    """Position by position, the window cut out of the keys."""
    out = torch.empty_like(v)
    for t in range(q.shape[-2]):
        window = slice(max(0, t + 1 - width), t + 1)
        weights = (
            torch.einsum("bhd,bhsd->bhs", q[:, :, t], k[:, :, window])
            .div(q.shape[-1] ** 0.5)
            .softmax(-1)
        )
        out[:, :, t] = torch.einsum("bhs,bhsd->bhd", weights, v[:, :, window])
    return out


def all_at_once(q, k, v, size):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def blocks_of_queries(q, k, v, size):
    T = q.shape[2]
    future = torch.ones(T, T, dtype=torch.bool).triu(1)
    rows = [slice(i, i + size) for i in range(0, T, size)]
    scores = [
        (q[:, :, row] @ k.mT / math.sqrt(q.shape[-1])).masked_fill(future[row], -math.inf)
        for row in rows
    ]
    return torch.cat([part.softmax(-1) @ v for part in scores], dim=2)


def whole_scores(q, k, v, size):
    T, D = q.shape[-2:]
    future = torch.ones(T, T, dtype=torch.bool).triu(1)
    return (q @ k.transpose(-2, -1) / math.sqrt(D)).masked_fill(future, -math.inf).softmax(-1) @ v


def blocks(rescale=True, divide=True, mask=True, local=False, stable=True):
    """Attention in blocks, right unless told otherwise; sums kept a query at a time."""

    def attempt(q, k, v, size):
        T, D = q.shape[-2:]
        top = torch.full(q.shape[:-1], -math.inf if stable else 0.0)
        total = torch.zeros(q.shape[:-1])
        heard = torch.zeros(v.shape)
        for keys, values, where in zip(
            k.split(size, 2), v.split(size, 2), torch.arange(T).split(size), strict=True
        ):
            scores = torch.einsum("bhqd,bhkd->bhqk", q, keys) / math.sqrt(D)
            where = where - where[0] if local else where
            if mask:
                scores = torch.where(where > torch.arange(T)[:, None], -math.inf, scores)
            new = torch.maximum(top, scores.amax(-1)) if stable else top
            factor = (top - new).exp() if rescale else torch.ones_like(top)
            e = (scores - new[..., None]).exp()
            total = total * factor + e.sum(-1)
            heard = heard * factor[..., None] + e @ values
            top = new
        return heard / total[..., None] if divide else heard

    return attempt


def by_logarithms(q, k, v, size):
    """Keeps the logarithm of the sum and the mean so far, and mixes the two means."""
    T, D = q.shape[-2:]
    log_total = torch.full((*q.shape[:-1], 1), -math.inf)
    mean = torch.zeros_like(v)
    for start in range(0, T, size):
        scores = torch.matmul(q, k[:, :, start : start + size].mT) * D**-0.5
        scores = scores + torch.full((T, T), -math.inf).triu(1)[:, start : start + size]
        here = scores.logsumexp(-1, keepdim=True)
        both = torch.logaddexp(log_total, here)
        mine = torch.matmul((scores - both).exp(), v[:, :, start : start + size])
        mean, log_total = mean * (log_total - both).exp() + mine, both
    return mean


def naive(scores):
    return scores.exp() / scores.exp().sum(-1, keepdim=True)


def each_alone(q, k, v, size):
    """A softmax in each block, as if the others were not there."""
    T = q.shape[2]
    heard = 0
    for start in range(0, T, size):
        scores = q @ k[:, :, start : start + size].mT / math.sqrt(q.shape[-1])
        future = torch.arange(start, min(start + size, T)) > torch.arange(T)[:, None]
        heard = (
            heard
            + scores.masked_fill(future, -math.inf).softmax(-1) @ v[:, :, start : start + size]
        )
    return heard


def whole(
    mask="before",
    scale=lambda D, C: D**0.5,
    dim=-1,
    turned=True,
    back=True,
    mixed=True,
    order="qkv",
    flip=False,
):
    """Multi-head attention by einsum, right unless told otherwise."""

    def attempt(x, W_q, W_k, W_v, W_o, n_heads):
        B, T, C = x.shape
        weights = {"q": W_q, "k": W_k, "v": W_v}
        cut = []
        for name in order:
            matrix = weights[name].T if flip else weights[name]
            y = torch.einsum("btc,cd->btd", x, matrix)
            if turned:
                cut.append(torch.stack(y.chunk(n_heads, dim=-1), dim=1))
            else:
                cut.append(y.reshape(B, n_heads, T, C // n_heads))
        q, k, v = cut
        scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / scale(C // n_heads, C)
        future = torch.full((T, T), -math.inf).triu(1)
        scores = scores if mask == "none" else scores + future
        shares = scores.softmax(dim)
        heard = shares @ v
        heard = torch.einsum("bhtd->bthd", heard).flatten(2) if back else heard.reshape(x.shape)
        out = W_o.T if flip else W_o
        return heard @ out if mixed else heard

    return attempt


def masked_afterwards(x, W_q, W_k, W_v, W_o, n_heads):
    q, k, v = (torch.stack((x @ W).chunk(n_heads, -1), 1) for W in (W_q, W_k, W_v))
    shares = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1).tril()
    return (shares @ v).transpose(1, 2).flatten(2) @ W_o


def every_second_channel(x, W_q, W_k, W_v, W_o, n_heads):
    q, k, v = ((x @ W).unflatten(-1, (-1, n_heads)).permute(0, 3, 1, 2) for W in (W_q, W_k, W_v))
    heard = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return heard.transpose(1, 2).flatten(2) @ W_o


def one_wide_head(x, W_q, W_k, W_v, W_o, n_heads):
    return F.scaled_dot_product_attention(x @ W_q, x @ W_k, x @ W_v, is_causal=True) @ W_o


def head_by_head(x, W_q, W_k, W_v, W_o, n_heads):
    """Each head from its own columns, its output through its own rows of W_o: a sum over heads."""
    D = x.shape[-1] // n_heads
    out = 0
    for h in range(n_heads):
        own = slice(h * D, (h + 1) * D)
        q, k, v = x @ W_q[:, own], x @ W_k[:, own], x @ W_v[:, own]
        out = out + F.scaled_dot_product_attention(q, k, v, is_causal=True) @ W_o[own]
    return out


EXERCISES = {
    "2.1": Case(
        mutants=[
            (lambda T: torch.ones(T, T, dtype=torch.bool).tril(-1), "listen to itself"),
            (lambda T: torch.ones(T, T, dtype=torch.bool).triu(), "swapped"),
            (lambda T: torch.ones(T, T, dtype=torch.bool).triu(1), "what is forbidden"),
            (lambda T: torch.full((T, T), -math.inf).triu(1), "added to the scores"),
            (lambda T: torch.ones(T, T, dtype=torch.bool).tril(1), "the answer, in sight"),
            (lambda T: torch.ones(T, T).tril(), "truth values"),
            (lambda T: torch.ones(T, T, dtype=torch.bool), "a triangle"),
        ],
        unusual=[
            lambda T: torch.arange(T)[None] <= torch.arange(T)[:, None],
            lambda T: torch.tensor([[key <= query for key in range(T)] for query in range(T)]),
        ],
    ),
    "2.2": Case(
        mutants=[
            (
                with_sizes(lambda b, t, c, h: (b * h * t * t, b * h * t * (t - 1) // 2)),
                "diagonal left out",
            ),
            (with_sizes(lambda b, t, c, h: (b * t * t, b * t * (t + 1) // 2)), "heads"),
            (
                with_sizes(lambda b, t, c, h: (c * b * h * t * t, c * b * h * t * (t + 1) // 2)),
                "channels",
            ),
            (
                with_sizes(lambda b, t, c, h: (b * t * t * c, b * t * (t + 1) // 2 * c)),
                "does D count",
            ),
            (with_sizes(lambda b, t, c, h: (b * h * t * t, b * h * t * t // 2)), "exactly half"),
            (with_sizes(lambda b, t, c, h: (h * t * t, h * t * (t + 1) // 2)), "one sequence"),
            (with_sizes(lambda b, t, c, h: (b * h * t, b * h * t)), "belongs to a pair"),
            (with_sizes(lambda b, t, c, h: (b * h * t * t, b * h * t * t)), "do all survive"),
            (with_sizes(lambda b, t, c, h: (b * t * t, b * h * t * (t - 1) // 2)), "heads"),
        ],
        unusual=[
            with_sizes(
                lambda b, t, c, h: [
                    torch.ones(b, h, t, t).sum(),
                    torch.ones(b, h, t, t).tril().sum().item(),
                ]
            ),
        ],
    ),
    "2.3": Case(
        mutants=[
            (naive, "overflow"),
            (lambda scores: scores.softmax(-2), "wrong axis"),
            (lambda scores: scores.flatten().softmax(0).view_as(scores), "everything"),
            (lambda scores: naive(scores - scores.max()), "each row has its own"),
            (lambda scores: (scores - scores.amax(-1, keepdim=True)).exp(), "division"),
            (lambda scores: scores.log_softmax(-1), "logarithm"),
            (lambda scores: naive(scores - scores.mean(-1, keepdim=True)), "-inf"),
        ],
        unusual=[
            lambda scores: (scores - scores.logsumexp(-1, keepdim=True)).exp(),
            lambda scores: torch.stack(
                [naive(row - max(row)) for row in scores.view(-1, scores.shape[-1])]
            ).view_as(scores),
        ],
    ),
    "2.4": Case(
        mutants=[
            (sliding(high=1), "one too wide"),
            (sliding(high=-1), "one too narrow"),
            (sliding(both=True), "to the right"),
            (sliding(high=100), "far end"),
            (sliding(scale=lambda D: 1), "√D missing"),
            (sliding(scale=lambda D: D), "divided by D"),
            (sliding(after=True), "after the softmax"),
            (
                lambda q, k, v, width: sliding(dim=-2)(q, k, v, width).nan_to_num(),
                "over the queries",
            ),
            (
                lambda q, k, v, width: sliding()(
                    q, k, torch.eye(v.shape[2]).expand(2, 3, 7, 7), width
                ),
                "the weights",
            ),
            (multiplied, "multiplied by the mask"),
            (upside_down, "turned round"),
            (lambda q, k, v, width: v + 1, "expected"),
        ],
        unusual=[by_gathering, sliding()],
    ),
    "2.5": Case(
        mutants=[
            (blocks(rescale=False), "made smaller"),
            (blocks(divide=False), "division"),
            (blocks(mask=False), "not masked"),
            (blocks(local=True), "block's beginning"),
            (blocks(stable=False), "overflow"),
            (each_alone, "softmax of its own"),
            (whole_scores, "at most 8 keys"),
            (all_at_once, "at most 8 keys"),
            (blocks_of_queries, "at most 8 keys"),
        ],
        unusual=[blocks(), by_logarithms],
    ),
    "2.6": Case(
        mutants=[
            (whole(mask="none"), "mask missing"),
            (masked_afterwards, "after the softmax"),
            (whole(scale=lambda D, C: 1.0), "√D missing"),
            (whole(scale=lambda D, C: D), "divided by D"),
            (whole(scale=lambda D, C: C**0.5), "√C"),
            (whole(dim=-2), "over the queries"),
            (whole(turned=False), "without turning time"),
            (whole(back=False), "without turning heads"),
            (every_second_channel, "every H-th channel"),
            (one_wide_head, "one wide head"),
            (whole(mixed=False), "W_o forgotten"),
            (whole(flip=True), "transposed"),
            (whole(order="kqv"), "exchanged"),
            (lambda x, W_q, W_k, W_v, W_o, n_heads: x, "expected"),
        ],
        unusual=[whole(), head_by_head],
    ),
}
