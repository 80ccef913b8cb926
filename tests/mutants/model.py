"""Lesson 3: what goes wrong with counting, norms, rotations, probes, distances and blocks."""

import math

import torch
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


def finder(
    asked=("future", "deaf", "order", "batch", "sure"),
    places=lambda T: range(1, T),
    before=lambda t: slice(t),
    alone=True,
    most=1.0,
    least=1e-6,
    same=False,
    itself=True,
    last=True,
):
    """Asks one thing after the other, right unless told otherwise."""

    def attempt(model, vocab_size, context_length):
        tokens = torch.arange(context_length)[None] * (not same)
        base = model(tokens)

        def moves(changed, where):
            return bool(((model(changed) - base)[:, where].abs() > least).any())

        def future():
            for t in places(context_length):
                changed = tokens.clone()
                changed[0, t] = vocab_size - 1
                if moves(changed, before(t)):
                    return True
            return False

        def deaf():
            changed = tokens.roll(1, 1) if same else (tokens + 1) % vocab_size
            changed[0, -1] = tokens[0, -1]
            return not moves(changed, [-1])

        def order():
            mixed = torch.cat([tokens[:, :-1].roll(1, 1), tokens[:, -1:]], 1)
            return not moves(mixed, [-1])

        def batch():
            others = (tokens + 3) % vocab_size
            four = torch.cat([others, others, others, tokens] if last else [tokens, others])
            here = slice(-1, None) if last else slice(1)
            of_four = model(four)[here] if alone else model(four[here])
            return bool(((of_four - (base if itself else model(others))).abs() > 1e-6).any())

        def sure():
            targets = torch.arange(context_length).flip(0)
            return F.cross_entropy(base[0], targets).item() > math.log(vocab_size) + most

        tests = {f.__name__: f for f in (future, deaf, order, batch, sure)}
        return next((name for name in asked if tests[name]()), "none")

    return attempt


def in_one_batch(model, vocab_size, context_length):
    """All places changed at once, each in a row of its own, and the loss by hand."""
    base = torch.randperm(vocab_size, generator=torch.Generator().manual_seed(0))[:context_length]
    rows = base.repeat(context_length, 1)
    changed = rows.clone()
    changed[range(context_length), range(context_length)] = (base + 1) % vocab_size
    one_by_one = torch.cat([model(row[None]) for row in changed])
    alone = model(base[None])
    if (model(changed) - one_by_one).abs().max() > 1e-4:
        return "batch"
    moved = (one_by_one - alone).abs().amax(-1) > 1e-4
    if moved.tril(-1).any():
        return "future"
    if not moved[:-1, -1].any():
        return "deaf"
    turned = torch.cat([base[:-1].flip(0), base[-1:]])
    if torch.allclose(model(turned[None])[0, -1], alone[0, -1], atol=1e-4):
        return "order"
    surprise = -alone[0].log_softmax(-1).mean()
    return "sure" if surprise > math.log(vocab_size) + 1 else "none"


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


def normed(x, weights, name, gain=True, shift=True):
    x = x - x.mean(-1, keepdim=True)
    x = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    x = x * weights[f"{name}.weight"] if gain else x
    return x + weights[f"{name}.bias"] if shift else x


def mapped(x, weights, name, bias=True):
    y = torch.einsum("btc,cd->btd", x, weights[f"{name}.weight"])
    return y + weights[f"{name}.bias"] if bias else y


def attended(x, weights, heads, mask=True, scale=None, swap=False, values=2, mixed=True, bias=True):
    """Head by head."""
    parts = mapped(x, weights, "attn.c_attn", bias).chunk(3, -1)
    q, k, v = parts[int(swap)], parts[1 - int(swap)], parts[values]
    heard = []
    for a, b, c in zip(*(part.chunk(heads, -1) for part in (q, k, v)), strict=True):
        scores = a @ b.mT * (a.shape[-1] ** -0.5 if scale is None else scale(x.shape[-1]))
        future = torch.full(scores.shape[-2:], -math.inf).triu(1)
        heard.append((scores + future if mask else scores).softmax(-1) @ c)
    heard = torch.cat(heard, -1)
    return mapped(heard, weights, "attn.c_proj", bias) if mixed else heard


def curve(h):
    """GELU's tanh form, written out."""
    return h / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))


def block(activation=curve, plus=(1, 1), norm=None, bias=True, second="ln_2", **attention):
    """A block of GPT-2 by hand, right unless told otherwise."""

    def attempt(x, weights, n_heads):
        first_normed = normed(x, weights, "ln_1", **(norm or {}))
        x = plus[0] * x + attended(first_normed, weights, n_heads, bias=bias, **attention)
        wide = mapped(normed(x, weights, second, **(norm or {})), weights, "mlp.c_fc", bias)
        return plus[1] * x + mapped(activation(wide), weights, "mlp.c_proj", bias)

    return attempt


def fed(x, weights):
    return mapped(curve(mapped(x, weights, "mlp.c_fc")), weights, "mlp.c_proj")


def post(x, weights, n_heads):
    x = normed(x + attended(x, weights, n_heads), weights, "ln_1")
    return normed(x + fed(x, weights), weights, "ln_2")


def on_the_normed(x, weights, n_heads):
    x = normed(x, weights, "ln_1")
    x = normed(x + attended(x, weights, n_heads), weights, "ln_2")
    return x + fed(x, weights)


def on_the_normed_at_first(x, weights, n_heads):
    x = normed(x, weights, "ln_1")
    x = x + attended(x, weights, n_heads)
    return x + fed(normed(x, weights, "ln_2"), weights)


def without_one_norm(first):
    def attempt(x, weights, n_heads):
        x = x + attended(normed(x, weights, "ln_1") if first else x, weights, n_heads)
        return x + fed(x if first else normed(x, weights, "ln_2"), weights)

    return attempt


def parallel(x, weights, n_heads):
    both = fed(normed(x, weights, "ln_2"), weights)
    return x + attended(normed(x, weights, "ln_1"), weights, n_heads) + both


def without_norms(x, weights, n_heads):
    x = x + attended(x, weights, n_heads)
    return x + fed(x, weights)


def fed_first(x, weights, n_heads):
    x = x + fed(normed(x, weights, "ln_2"), weights)
    return x + attended(normed(x, weights, "ln_1"), weights, n_heads)


def only_attention(x, weights, n_heads):
    return x + attended(normed(x, weights, "ln_1"), weights, n_heads)


def heads_viewed(x, weights, n_heads):
    B, T, C = x.shape
    three = mapped(normed(x, weights, "ln_1"), weights, "attn.c_attn").chunk(3, -1)
    q, k, v = (part.reshape(B, n_heads, T, C // n_heads) for part in three)
    heard = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    x = x + mapped(heard.transpose(1, 2).reshape(B, T, C), weights, "attn.c_proj")
    return x + fed(normed(x, weights, "ln_2"), weights)


def by_library(x, weights, n_heads):
    """PyTorch's functions for all parts."""
    C = x.shape[-1]
    h = F.layer_norm(x, (C,), weights["ln_1.weight"], weights["ln_1.bias"]).transpose(0, 1)
    future = torch.ones(len(h), len(h), dtype=torch.bool).triu(1)
    heard, _ = F.multi_head_attention_forward(
        h,
        h,
        h,
        C,
        n_heads,
        weights["attn.c_attn.weight"].T,
        weights["attn.c_attn.bias"],
        None,
        None,
        False,
        0.0,
        weights["attn.c_proj.weight"].T,
        weights["attn.c_proj.bias"],
        attn_mask=future,
    )
    x = x + heard.transpose(0, 1)
    h = F.layer_norm(x, (C,), weights["ln_2.weight"], weights["ln_2.bias"])
    h = F.linear(h, weights["mlp.c_fc.weight"].T, weights["mlp.c_fc.bias"])
    h = F.gelu(h, approximate="tanh")
    return x + F.linear(h, weights["mlp.c_proj.weight"].T, weights["mlp.c_proj.bias"])


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
            (finder(("future", "order", "deaf", "batch", "sure")), "is that asked first"),
            (finder(("deaf", "order", "batch", "sure")), "every later token tried"),
            (finder(("future", "order", "batch", "sure")), "a shuffle: is that asked first"),
            (finder(("future", "deaf", "batch", "sure")), "before the last shuffled"),
            (finder(("future", "deaf", "order", "sure")), "last of four"),
            (finder(("future", "deaf", "order", "batch")), "compared with ln V"),
            (finder(places=lambda T: [T - 1]), "peeks at the next"),
            (finder(before=lambda t: slice(t + 1)), "the changed place itself"),
            (finder(before=lambda t: slice(0, 1)), "every output before it"),
            (finder(alone=False), "last of four"),
            (finder(last=False), "their place in the batch"),
            (finder(itself=False), "compared with itself"),
            (finder(most=-1), "1 more is allowed"),
            (finder(same=True), "expected"),
            (finder(least=0.5), "got"),
            (lambda model, vocab_size, context_length: "none", "every later token tried"),
        ],
        unusual=[
            finder(),
            finder(("deaf", "order", "sure", "batch", "future")),
            in_one_batch,
        ],
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
    "3.7": Case(
        mutants=[
            (block(plus=(0, 1)), "plus around attention"),
            (block(plus=(1, 0)), "plus around the MLP"),
            (block(plus=(0, 0)), "both pluses"),
            (post, "after the sums"),
            (on_the_normed, "the normed x added to"),
            (on_the_normed_at_first, "added to in the first half"),
            (without_one_norm(first=False), "attention read x as it is"),
            (without_one_norm(first=True), "MLP read the sum as it is"),
            (parallel, "read the first x"),
            (without_norms, "are the norms missing"),
            (fed_first, "the MLP come first"),
            (only_attention, "the MLP missing"),
            (block(F.gelu), "the exact GELU"),
            (block(F.relu), "ReLU"),
            (block(lambda h: h), "activation function missing"),
            (block(bias=False), "biases of the linear maps"),
            (block(norm={"shift": False}), "shifts of the norms"),
            (block(norm={"gain": False}), "gains of the norms"),
            (block(second="ln_1"), "first norm used twice"),
            (block(mask=False), "mask missing"),
            (block(scale=lambda C: 1), "√D missing"),
            (block(scale=lambda C: C**-0.5), "√C"),
            (block(swap=True), "exchanged"),
            (heads_viewed, "without turning"),
            (block(mixed=False), "output projection missing"),
            (lambda x, weights, n_heads: block()(x, weights, 1), "one wide head"),
            (lambda x, weights, n_heads: block()(x, weights, n_heads) + 1, "expected"),
        ],
        unusual=[block(), by_library],
    ),
}
