"""Checks of lesson 3: counting, a norm, a rotation, a probe for leaks, tied weights, ALiBi."""

import math
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from course_utils.checks import Wrong, agree, drawn_from, exercise, generator, sizes
from course_utils.checks.witness import observed, tied, trained, two_ends
from course_utils.lessons.attention import merge_heads
from course_utils.lessons.model import GPT, Attention, GPTConfig, count_parameters


def draw_sizes(draw):
    heads = draw(2, 5)
    return {
        "vocab_size": draw(40, 90),
        "context_length": draw(20, 60),
        "n_layers": draw(2, 6),
        "n_heads": heads,
        "d_model": 2 * heads * draw(3, 7),
        "d_ff": draw(30, 90),
    }


@exercise("3.1", "Count the parameters", level="warm-up", minutes=5, sizes=draw_sizes)
def _(attempt):
    """A whole number, against a model that is built and counted."""
    given = sizes("3.1")
    right = count_parameters(GPT(GPTConfig(**given)))
    v, t, layers, heads, c, f = given.values()
    layer = 4 * c * c + 2 * c * f + 2 * c
    mistakes = {
        "is the head counted as well? It is the embedding": right + v * c,
        "are the positions forgotten?": right - t * c,
        "are the gains forgotten, two a layer and the last?": right - (2 * layers + 1) * c,
        "is the last norm forgotten?": right - c,
        "is one norm a layer in your count? There are two, and the last": right - layers * c,
        "has a feed-forward layer two matrices in your count?": right - layers * c * f,
        "are there biases in your count? This model has none": right + layers * (4 * c + f + c),
        "does the head count matter? It cuts the same matrices into parts": (
            right + layers * 4 * c * c * (heads - 1)
        ),
        "is d_ff taken for 4 × d_model?": right + layers * 2 * c * (4 * c - f),
        "is one layer counted, where there are several?": right - (layers - 1) * layer,
        "has attention four matrices in your count? q, k, v and the way back": (
            right - layers * c * c
        ),
    }
    words = ", ".join(f"{name} = {size}" for name, size in given.items())
    agree(attempt, right, words, mistakes, secret=True)
    return f"{right:,}, of which the layers hold {layers * layer / right:.0%}"


@exercise("3.2", "RMSNorm", level="core", minutes=10)
def _(attempt):
    """Against PyTorch's own."""
    drawn = torch.randn(2, 3, 7, generator=generator(1))
    gain = torch.randn(7, generator=generator(2))
    cases = {
        "x around 0": drawn,
        "x around 5": drawn + 5,
        "x of 0.001, where eps counts": drawn / 1000,
    }
    for given, x in cases.items():
        eps = 1e-5
        square = x.square().mean(-1, keepdim=True)
        mean = x.mean(-1, keepdim=True)
        variance = (x - mean).square().mean(-1, keepdim=True)
        over_time = x.square().mean(1, keepdim=True)
        mistakes = {
            "is eps outside the root?": gain * x / (square.sqrt() + eps),
            "is eps missing?": gain * x / square.sqrt(),
            "is it the square of the mean? Asked for is the mean of the squares": (
                gain * x / (mean.square() + eps).sqrt()
            ),
            "is the gain missing?": x / (square + eps).sqrt(),
            "is the mean taken away? That is LayerNorm": F.layer_norm(x, (7,), gain, eps=eps),
            "is it the standard deviation, around the mean?": gain * x / (variance + eps).sqrt(),
            "is the root missing?": gain * x / (square + eps),
            "is it the sum of squares, where their mean is asked for?": (
                gain * x / (7 * square + eps).sqrt()
            ),
            "does the mean run over all positions? Each has its own": (
                gain * x / (x.square().mean() + eps).sqrt()
            ),
            "does the mean run over time?": gain * x / (over_time + eps).sqrt(),
        }
        right = F.rms_norm(x, (7,), gain, eps)
        agree(attempt(x.clone(), gain.clone(), eps), right, given, mistakes)
    return "each position has its own size, and eps saves the silent ones"


def turned(x, angles):
    """Neighbouring channels as complex numbers, multiplied by numbers of length 1."""
    z = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(z * torch.polar(torch.ones_like(angles), angles)).flatten(-2)


@exercise("3.3", "Turn the neighbours", level="core", minutes=15)
def _(attempt):
    """Against complex numbers; and a score must depend on the distance alone."""
    x = torch.randn(2, 3, 5, 8, generator=generator(3))
    angles = torch.rand(5, 4, generator=generator(4)) * 6
    cos, sin = angles.cos(), angles.sin()
    even, odd = x[..., ::2], x[..., 1::2]
    a, b = x.chunk(2, dim=-1)

    def side_by_side(first, second):
        return torch.stack([first, second], -1).flatten(-2)

    mistakes = {
        "are the halves turned, as in the lesson? Here i's partner is its neighbour": torch.cat(
            [a * cos - b * sin, a * sin + b * cos], dim=-1
        ),
        "are they turned the other way?": turned(x, -angles),
        "are the pairs put back as two halves? They must stand side by side": torch.cat(
            [even * cos - odd * sin, even * sin + odd * cos], dim=-1
        ),
        "is a sign lost? A turn keeps lengths": side_by_side(
            even * cos + odd * sin, even * sin + odd * cos
        ),
        "are sine and cosine swapped?": side_by_side(
            even * sin - odd * cos, even * cos + odd * sin
        ),
    }
    agree(
        attempt(x.clone(), angles.clone()),
        turned(x, angles),
        "x (2, 3, 5, 8) and angles (5, 4)",
        mistakes,
    )
    steady = torch.arange(5.0)[:, None] * angles[:1]
    q, k = (part.expand(1, 1, 5, 8) for part in torch.randn(2, 1, 1, 1, 8, generator=generator(5)))
    scores = (attempt(q.clone(), steady) @ attempt(k.clone(), steady).mT)[0, 0]
    agree(
        scores.diagonal(-1)[1:],
        scores.diagonal(-1)[:-1],
        "one query and one key, one position apart",
    )
    return "lengths stay, and a score depends on the distance alone"


class Leaky(Attention):
    """Attention whose mask lets each position see one more."""

    def forward(self, x, angles=None, cache=None):
        q, k, v = self.queries_keys_values(x, angles)
        seen = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril(1)
        return self.out(merge_heads(F.scaled_dot_product_attention(q, k, v, seen)))


def tiny(seed, leaky=(), **changes):
    """A small model in evaluation, its weights loud; the mask of the leaky blocks is off by one."""
    torch.manual_seed(seed)
    config = GPTConfig(11, 7, n_layers=3, n_heads=2, d_model=8, d_ff=12, dropout=0.0, **changes)
    model = GPT(config)
    for i in leaky:
        model.blocks[i].attention = Leaky(config)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.5)
    return model.eval()


@exercise("3.4", "Does it look ahead?", level="core", minutes=15)
def _(attempt):
    """Sound models and broken ones: does any output depend on a later token?"""
    sound = tiny(1)
    rotary = tiny(2, position="rope")
    table = torch.randn(11, 11, generator=generator(6))

    def sees_itself(tokens):
        return table[tokens]

    def peeks(at, tokens):  # one position sees the token behind it
        logits = table[tokens].clone()
        logits[:, at] += table[tokens[:, at + 1]]
        return logits

    cases = {
        "a sound model": (
            sound,
            "is the changed position itself compared? Its own output may move",
        ),
        "a sound model with rotary positions": (
            rotary,
            "is something else random between the two calls?",
        ),
        "a bigram": (
            sees_itself,
            "may a sound model's output not differ from place to place?",
        ),
        "a mask off by one in the second of three blocks": (
            tiny(3, leaky=[1]),
            "is the last position alone compared?",
        ),
        "a mean over all of time, later tokens too": (
            lambda tokens: table[tokens] - table[tokens].mean(1, keepdim=True),
            "is the change seen at the positions before it?",
        ),
        "a first position that peeks at the second": (
            partial(peeks, 0),
            "is only the last token changed?",
        ),
        "a fourth position that peeks at the fifth": (
            partial(peeks, 3),
            "is every place tried? A `return` in the loop's first turn ends it",
        ),
    }
    for i, (given, (model, perhaps)) in enumerate(cases.items()):
        read = []
        with torch.no_grad():
            got = attempt(
                lambda tokens, model=model, read=read: read.append(tokens.clone()) or model(tokens),
                11,
                7,
            )
        if i > 2 and len(read) > 1 and all(map(torch.equal, read[::2], read[1::2])):
            perhaps = (
                "does the model read the same tokens twice? Change a `clone()`, and after the "
                "first reading"
            )
        agree(truth(got), i > 2, given, {perhaps: i <= 2})
    for i in range(20):  # so many that nobody guesses them
        at = drawn_from(0, 11, 100 + i)
        leaks = at < 6
        given = f"a position {at} that peeks at the next" if leaks else "a bigram"
        got = attempt(partial(peeks, at) if leaks else sees_itself, 11, 7)
        agree(truth(got), leaks, given)
    return "sound models pass and leaks are found, each in another place"


def truth(value):
    """A tensor of one number as True or False; all else as it is."""
    return bool(value) if isinstance(value, torch.Tensor) else value


@exercise("3.5", "Tie the ends", level="core", minutes=10)
def _(attempt):
    """One matrix in both places: still one after two steps, and counted once."""
    tokens, targets = torch.randint(7, (2, 5), generator=generator(7))
    told = observed(tied, attempt, tokens, targets)
    if "head" not in told:
        got = f"a {told['kind']}"
        raise Wrong("a model with .embedding and .head", "a model", got, "is it returned?")
    if told["head"] != "Linear":
        raise Wrong(
            "the model's head",
            "a Linear whose weight is the embedding's",
            "the embedding itself",
            "is the whole layer shared? It looks rows up, it can't multiply",
        )
    embedding, head = told["before"]
    agree(head, embedding, "the two ends", {}, 0)
    counts = {
        "do the two share memory and yet count as two parameters, each with its own gradient?": 70,
        "is the shared matrix frozen?": 0,
    }
    embedding, head = told["after"]
    if not torch.equal(head, embedding):
        raise Wrong(
            "two steps of training",
            "a matrix that is the same at both ends",
            "a pair of matrices that have parted",
            "are the values copied, where the parameter itself should be shared?",
        )
    agree(told["learned"], 35, "V = 7, C = 5: parameters that learn", counts)
    start = told["before"][0]
    right, _ = trained(two_ends(start), tokens, targets)
    if (right - start).abs().max() < 0.05:  # each step of Adam moves what learns by about 0.1
        raise Wrong("two steps of training", "a matrix that learns", "one that stays as it is")
    agree(embedding, right, "the shared matrix after two steps of training")
    return "one parameter with two places: reading and writing teach it together"


@exercise("3.6", "ALiBi", level="stretch", minutes=90)
def _(attempt):
    """Against the paper's formula, place by place."""
    drawn = (2 ** drawn_from(1, 5, 61), drawn_from(8, 60, 62))
    for heads, t in ((2, 3), (4, 5), (8, 7), drawn):
        back = torch.arange(t)[:, None] - torch.arange(t)
        slopes = torch.tensor([2 ** (-8 * (h + 1) / heads) for h in range(heads)])[:, None, None]
        ahead = back < 0
        bias = (-slopes * back).masked_fill(ahead, -math.inf)
        first = torch.tensor([2 ** (-8 * h / heads) for h in range(heads)])[:, None, None]
        mistakes = {
            "do distances earn, where they should cost?": (
                (slopes * back).masked_fill(ahead, -math.inf)
            ),
            "is the future not forbidden?": -slopes * back,
            "does the future cost, where it should be forbidden?": -slopes * back.abs(),
            "does the future cost nothing? It should be forbidden, with -inf": (
                -slopes * back.clamp(min=0)
            ),
            "is the first head's slope 1? Heads count from 1": (
                (-first * back).masked_fill(ahead, -math.inf)
            ),
            "have all heads one slope?": (
                (-slopes[:1] * back).expand(heads, t, t).masked_fill(ahead, -math.inf)
            ),
            "are rows and columns swapped? A row is a query": bias.mT,
        }
        agree(attempt(heads, t), bias, f"n_heads = {heads}, T = {t}", mistakes)
    return "near is cheap, far is dear, and each head has its own price"
