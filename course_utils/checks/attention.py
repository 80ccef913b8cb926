"""Checks of lesson 2: the mask, its cost, a safe softmax, windows, blocks, attention whole."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from course_utils.checks import agree, drawn_from, exercise, generator, sizes
from course_utils.checks.witness import observed, sizes_of_parts
from course_utils.messages import N_, _, ngettext


@exercise("2.1", "The mask", level="warm-up", minutes=5)
def check_2_1(attempt):
    """Against a comparison of positions."""
    for n in (5, 1, 2, drawn_from(6, 60, 21)):
        at = torch.arange(n)
        seen = at <= at[:, None]
        mistakes = {
            _("may a position not listen to itself?"): at < at[:, None],
            _("are rows and columns swapped? A row is a query"): seen.T,
            _("is it the mask of what is forbidden?"): ~seen,
            _("is everything in sight? The mask is a triangle"): torch.ones_like(seen),
            _("is the next position, the answer, in sight?"): at <= at[:, None] + 1,
            _("does it hold numbers, where truth values are asked for?"): seen.float(),
            _("is that what is added to the scores? Asked for are truth values"): (
                torch.zeros(n, n).masked_fill(~seen, -math.inf)
            ),
        }
        agree(attempt(n), seen, f"T = {n}", mistakes)
    return _("row t may listen to t + 1 positions, itself the last of them")


@exercise(
    "2.2",
    "What attention costs",
    level="warm-up",
    minutes=5,
    sizes=lambda draw: {
        "B": 2 * draw(1, 4) + 1,
        "T": draw(20, 60),
        "C": 8 * draw(3, 9),
        "H": 2 * draw(1, 4),
    },
)
def check_2_2(attempt):
    """A pair of whole numbers for the variant's sizes."""
    given = sizes("2.2")
    b, t, c, h = given.values()
    words = ", ".join(f"{name} = {size}" for name, size in given.items())
    square = t * t
    triangle = t * (t + 1) // 2
    computed = (_("{words}: scores computed", words=words), square)
    surviving = (_("{words}: scores surviving", words=words), triangle)
    for i, (what, each) in enumerate((computed, surviving)):
        right = b * h * each
        mistakes = {
            _("do the heads not each compute their own?"): b * each,
            _("do channels count? One score is one number, however long the vectors"): right * c,
            _("does D count? One score is one number, however long the vectors"): right * c // h,
            _("is one sequence counted, where the batch was asked for?"): h * each,
            _("is one number a position counted? A score belongs to a pair"): b * h * t,
        }
        if each == triangle:
            mistakes |= {
                _("is the diagonal left out? A position listens to itself"): (
                    b * h * t * (t - 1) // 2
                ),
                _("is it exactly half? The diagonal belongs to the triangle"): b * h * square // 2,
                _("do all survive? The mask hides the future"): b * h * square,
            }
        agree(
            attempt[i],
            right,
            what,
            mistakes,
            secret=True,
        )
    return _(
        "{scores:,} scores, of which {surviving:,} survive: a little more than half",
        scores=b * h * square,
        surviving=b * h * triangle,
    )


@exercise("2.3", "A softmax that survives", level="core", minutes=15)
def check_2_3(attempt):
    """Against PyTorch's, on small scores, on large ones, and beside minus infinity."""
    small = torch.randn(2, 3, 5, generator=generator(1))
    masked = small.masked_fill(torch.rand(2, 3, 5, generator=generator(2)) < 0.4, -math.inf)
    masked[..., 1] = 0.5
    cases = {
        _("small scores"): small,
        _("scores around 1000"): small + 1000,
        _("scores around -1000"): small - 1000,
        _("rows of different size"): small + torch.tensor([0.0, 300.0, -300.0])[:, None],
        _("scores among which some are -inf"): masked,
    }
    for given, scores in cases.items():
        e = scores.exp()
        below_largest = (scores - scores.max()).exp()
        mistakes = {
            _("does the exponential overflow? Take the row's largest score away first"): (
                e / e.sum(-1, keepdim=True)
            ),
            _("does the sum run over the wrong axis?"): scores.softmax(-2),
            _("does the sum run over everything?"): scores.flatten().softmax(0).view_as(scores),
            _("is the largest of all scores taken away, where each row has its own?"): (
                below_largest / below_largest.sum(-1, keepdim=True)
            ),
            _("is the division missing?"): (scores - scores.amax(-1, keepdim=True)).exp(),
            _("is it the logarithm of the weights?"): scores.log_softmax(-1),
        }
        agree(attempt(scores.clone()), scores.softmax(-1), given, mistakes, tolerance=1e-4)
    return _("rows sum to 1, whatever the size of the scores")


@exercise("2.4", "A sliding window", level="core", minutes=20)
def check_2_4(attempt):
    """Against PyTorch's own attention under a mask of distances."""
    b, h, t, d = 2, 3, 7, 5
    q, k, v = torch.randn(3, b, h, t, d, generator=generator(3))
    distance = torch.arange(t)[:, None] - torch.arange(t)

    def library(seen, **options):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, **options)

    for width in (1, 2, 3, 7):
        seen = (distance >= 0) & (distance < width)
        scores = q @ k.transpose(-2, -1) / math.sqrt(d)
        masked = scores.masked_fill(~seen, -math.inf)
        mistakes = {
            _("is the window one too wide? The position itself counts"): library(
                (distance >= 0) & (distance <= width)
            ),
            _("is the window one too narrow? The position itself counts"): library(
                (distance >= 0) & (distance < max(width - 1, 1))
            ),
            _("does the window look to the right as well?"): library(distance.abs() < width),
            _("is the far end of the window missing? Everything before is heard"): library(
                distance >= 0
            ),
            _("is the mask turned round? A row is a query, its keys lie behind it"): library(
                seen.T
            ),
            _("is the scale √D missing?"): library(seen, scale=1.0),
            _("is it divided by D, where √D is asked for?"): library(seen, scale=1 / d),
            _("does the mask come after the softmax? Then rows don't sum to 1"): (
                scores.softmax(-1).masked_fill(~seen, 0) @ v
            ),
            _("does the softmax run over the queries?"): masked.softmax(-2) @ v,
            _("are scores multiplied by the mask? A score of 0 still gets weight"): (
                (scores * seen).softmax(-1) @ v
            ),
            _("are those the weights? What they bring of v is asked for"): masked.softmax(-1),
        }
        got = attempt(q.clone(), k.clone(), v.clone(), width)
        agree(got, library(seen), _("a window of {width} at T = {t}", width=width, t=t), mistakes)
    return _("each position hears itself and its nearest past")


def blocks(q, k, v, size, rescale=True, divide=True, mask=True, masked_by="key"):
    """Attention block by block, right unless told otherwise."""
    t, d = q.shape[-2:]
    largest = torch.full((*q.shape[:-1], 1), -math.inf)
    total = torch.zeros(1)
    heard = torch.zeros(1)
    for start in range(0, t, size):
        scores = q @ k[:, :, start : start + size].transpose(-2, -1) / math.sqrt(d)
        at = torch.arange(t)[start : start + size]
        future = (at if masked_by == "key" else at - start) > torch.arange(t)[:, None]
        scores = scores.masked_fill(future, -math.inf) if mask else scores
        new = torch.maximum(largest, scores.amax(-1, keepdim=True))
        shrink = (largest - new).exp() if rescale else 1
        e = (scores - new).exp()
        total = total * shrink + e.sum(-1, keepdim=True)
        heard = heard * shrink + e @ v[:, :, start : start + size]
        largest = new
    return heard / total if divide else heard


@exercise(
    "2.5",
    "Attention in blocks",
    level="stretch",
    minutes=90,
    own_word=N_("how many keys are held at a time"),
)
def check_2_5(attempt):
    """Against PyTorch's, for blocks that fit and that don't, and scores that would overflow."""
    b, h, t, d = 2, 3, 11, 2
    for size, scale in ((11, 1), (4, 1), (1, 1), (5, 40)):
        q, k, v = torch.randn(3, b, h, t, d, generator=generator(size))
        if scale > 1:
            q, k = q * scale, k * 10
        expected = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        scores = (q @ k.transpose(-2, -1) / math.sqrt(d)).masked_fill(
            torch.ones(t, t).triu(1) > 0, -math.inf
        )
        raw = scores.exp()
        parts = zip(scores.split(size, -1), v.split(size, -2), strict=True)
        mistakes = {
            _("is what was summed before not made smaller when the maximum grows?"): blocks(
                q, k, v, size, rescale=False
            ),
            _("is the division at the end missing?"): blocks(q, k, v, size, divide=False),
            _("is the future not masked?"): blocks(q, k, v, size, mask=False),
            _("does the mask count keys from the block's beginning?"): blocks(
                q, k, v, size, masked_by="block"
            ),
            _("does the exponential overflow? Keep the largest score"): (
                raw @ v / raw.sum(-1, keepdim=True)
            ),
            _("has each block a softmax of its own? One sum runs over all blocks"): sum(
                some.softmax(-1) @ theirs for some, theirs in parts
            ),
        }
        given = _("T = {t} in blocks of {size}", t=t, size=size) + (
            _(", large scores") if scale > 1 else ""
        )
        got = attempt(q.clone(), k.clone(), v.clone(), size)
        agree(got, expected, given, mistakes, tolerance=1e-4)
    t, size, d = 64, 8, 2
    tensors = list(torch.randn(3, 1, 1, t, d, generator=generator(9)))
    most, widest = observed(sizes_of_parts, attempt, tensors, size)
    fits = most <= t * size * d and widest <= size
    agree(fits, True, _("T = {t}, size = {size}: at most {size} keys at a time", t=t, size=size))
    return _("the same as all at once, with a block of scores in memory")


def by_hand(
    x,
    q,
    k,
    v,
    out,
    heads,
    mask=True,
    scale=math.sqrt,
    axis=-1,
    cut="turned",
    after=False,
    back=True,
):
    """Multi-head attention from x and four matrices, right unless told otherwise."""
    b, t, c = x.shape

    def head(y):
        if cut == "viewed":  # without turning time and heads
            return y.view(b, heads, t, c // heads)
        if cut == "strided":  # a head gets every H-th channel
            return y.view(b, t, c // heads, heads).permute(0, 3, 1, 2)
        return y.view(b, t, heads, c // heads).transpose(1, 2)

    q, k, v = (head(x @ weight) for weight in (q, k, v))
    scores = q @ k.mT / scale(c // heads)
    future = torch.ones(t, t, dtype=torch.bool).triu(1)
    if after:
        weights = scores.softmax(axis).masked_fill(future, 0)
    else:
        weights = (scores.masked_fill(future, -math.inf) if mask else scores).softmax(axis)
    heard = weights @ v
    return (heard.transpose(1, 2) if back else heard).reshape(b, t, c) @ out


def library(x, q, k, v, out, heads):
    """The same by nn.MultiheadAttention, which keeps its matrices the other way round."""
    layer = nn.MultiheadAttention(x.shape[-1], heads, bias=False, batch_first=True)
    with torch.no_grad():
        layer.in_proj_weight.copy_(torch.cat([q.T, k.T, v.T]))
        layer.out_proj.weight.copy_(out.T)
        future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        return layer(x, x, x, attn_mask=future, need_weights=False)[0]


@exercise("2.6", "Attention, whole", level="core", minutes=30)
def check_2_6(attempt):
    """Against nn.MultiheadAttention with the same four matrices."""
    for heads, d in ((3, 5), (1, 7), (2, drawn_from(4, 9, 26))):
        c = heads * d
        x = torch.randn(2, 7, c, generator=generator(heads))
        matrices = list(torch.randn(4, c, c, generator=generator(10 + heads)) / c**0.5 * 1.5)
        q, k, v, out = matrices

        def mistake(x=x, matrices=matrices, heads=heads, **how):
            return by_hand(x, *matrices, heads, **how)

        one_wide = by_hand(x, *matrices, 1)
        mistakes = {
            _("is the mask missing?"): mistake(mask=False),
            _("does the mask come after the softmax? Then rows don't sum to 1"): mistake(
                after=True
            ),
            _("is the scale √D missing?"): mistake(scale=lambda d: 1.0),
            _("is it divided by D, where √D is asked for?"): mistake(scale=float),
            _("is it divided by √C? A head has D = C / H channels"): mistake(
                scale=lambda d, c=c: math.sqrt(c)
            ),
            _("does the softmax run over the queries?"): mistake(axis=-2),
            _("is x cut into heads without turning time and heads?"): mistake(cut="viewed"),
            _("are the heads joined without turning heads and time back?"): mistake(back=False),
            _("does each head get every H-th channel, where it gets D neighbours?"): mistake(
                cut="strided"
            ),
            _("is there one wide head, where there are several?"): one_wide,
            _("is W_o forgotten? The heads have not met yet"): by_hand(
                x, q, k, v, torch.eye(c), heads
            ),
            _("are the matrices transposed? Here it is x @ W"): by_hand(
                x, q.T, k.T, v.T, out.T, heads
            ),
            _("are queries and keys exchanged?"): by_hand(x, k, q, v, out, heads),
        }
        given = ngettext(
            "B = 2, T = 7, C = {c}, {n} head", "B = 2, T = 7, C = {c}, {n} heads", heads, c=c
        )
        got = attempt(x.clone(), *(matrix.clone() for matrix in matrices), heads)
        agree(got, library(x, *matrices, heads), given, mistakes, tolerance=1e-4)
    return _("x, four matrices, and it is PyTorch's nn.MultiheadAttention")
