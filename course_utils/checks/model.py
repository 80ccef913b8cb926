"""Checks of lesson 3: counting, a norm, a rotation, a probe for leaks, bugs, ALiBi, a block."""

import math
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from course_utils.checks import agree, drawn_from, exercise, generator, sizes
from course_utils.lessons.attention import merge_heads, split_heads
from course_utils.lessons.model import GPT, Attention, GPTConfig, count_parameters, initialise
from course_utils.messages import N_, _, ngettext


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
def check_3_1(attempt):
    """A whole number, against a model that is built and counted."""
    given = sizes("3.1")
    right = count_parameters(GPT(GPTConfig(**given)))
    v, t, layers, heads, c, f = given.values()
    layer = 4 * c * c + 2 * c * f + 2 * c
    mistakes = {
        _("is the head counted as well? It is the embedding"): right + v * c,
        _("are the positions forgotten?"): right - t * c,
        _("are the gains forgotten, two a layer and the last?"): right - (2 * layers + 1) * c,
        _("is the last norm forgotten?"): right - c,
        _("is one norm a layer in your count? There are two, and the last"): right - layers * c,
        _("has a feed-forward layer two matrices in your count?"): right - layers * c * f,
        _("are there biases in your count? This model has none"): right + layers * (4 * c + f + c),
        _("does the head count matter? It cuts the same matrices into parts"): (
            right + layers * 4 * c * c * (heads - 1)
        ),
        _("is d_ff taken for 4 × d_model?"): right + layers * 2 * c * (4 * c - f),
        _("is one layer counted, where there are several?"): right - (layers - 1) * layer,
        _("has attention four matrices in your count? q, k, v and the way back"): (
            right - layers * c * c
        ),
    }
    words = ", ".join(f"{name} = {size}" for name, size in given.items())
    agree(attempt, right, words, mistakes, secret=True)
    return _(
        "{right:,}, of which the layers hold {share:.0%}", right=right, share=layers * layer / right
    )


@exercise("3.2", "RMSNorm", level="core", minutes=10)
def check_3_2(attempt):
    """Against PyTorch's own."""
    drawn = torch.randn(2, 3, 7, generator=generator(1))
    gain = torch.randn(7, generator=generator(2))
    cases = {
        _("x around 0"): drawn,
        _("x around 5"): drawn + 5,
        _("x of 0.001, where eps counts"): drawn / 1000,
    }
    for given, x in cases.items():
        eps = 1e-5
        square = x.square().mean(-1, keepdim=True)
        mean = x.mean(-1, keepdim=True)
        variance = (x - mean).square().mean(-1, keepdim=True)
        over_time = x.square().mean(1, keepdim=True)
        mistakes = {
            _("is eps outside the root?"): gain * x / (square.sqrt() + eps),
            _("is eps missing?"): gain * x / square.sqrt(),
            _("is it the square of the mean? Asked for is the mean of the squares"): (
                gain * x / (mean.square() + eps).sqrt()
            ),
            _("is the gain missing?"): x / (square + eps).sqrt(),
            _("is the mean taken away? That is LayerNorm"): F.layer_norm(x, (7,), gain, eps=eps),
            _("is it the standard deviation, around the mean?"): gain * x / (variance + eps).sqrt(),
            _("is the root missing?"): gain * x / (square + eps),
            _("is it the sum of squares, where their mean is asked for?"): (
                gain * x / (7 * square + eps).sqrt()
            ),
            _("does the mean run over all positions? Each has its own"): (
                gain * x / (x.square().mean() + eps).sqrt()
            ),
            _("does the mean run over time?"): gain * x / (over_time + eps).sqrt(),
        }
        right = F.rms_norm(x, (7,), gain, eps)
        agree(attempt(x.clone(), gain.clone(), eps), right, given, mistakes)
    return _("each position has its own size, and eps saves the silent ones")


def turned(x, angles):
    """Neighbouring channels as complex numbers, multiplied by numbers of length 1."""
    z = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(z * torch.polar(torch.ones_like(angles), angles)).flatten(-2)


@exercise("3.3", "Turn the neighbours", level="core", minutes=15)
def check_3_3(attempt):
    """Against complex numbers; and a score must depend on the distance alone."""
    x = torch.randn(2, 3, 5, 8, generator=generator(3))
    angles = torch.rand(5, 4, generator=generator(4)) * 6
    cos, sin = angles.cos(), angles.sin()
    even, odd = x[..., ::2], x[..., 1::2]
    a, b = x.chunk(2, dim=-1)

    def side_by_side(first, second):
        return torch.stack([first, second], -1).flatten(-2)

    mistakes = {
        _("are the halves turned, as in the lesson? Here i's partner is its neighbour"): torch.cat(
            [a * cos - b * sin, a * sin + b * cos], dim=-1
        ),
        _("are they turned the other way?"): turned(x, -angles),
        _("are the pairs put back as two halves? They must stand side by side"): torch.cat(
            [even * cos - odd * sin, even * sin + odd * cos], dim=-1
        ),
        _("is a sign lost? A turn keeps lengths"): side_by_side(
            even * cos + odd * sin, even * sin + odd * cos
        ),
        _("are sine and cosine swapped?"): side_by_side(
            even * sin - odd * cos, even * cos + odd * sin
        ),
    }
    agree(
        attempt(x.clone(), angles.clone()),
        turned(x, angles),
        _("x (2, 3, 5, 8) and angles (5, 4)"),
        mistakes,
    )
    steady = torch.arange(5.0)[:, None] * angles[:1]
    q, k = (part.expand(1, 1, 5, 8) for part in torch.randn(2, 1, 1, 1, 8, generator=generator(5)))
    scores = (attempt(q.clone(), steady) @ attempt(k.clone(), steady).mT)[0, 0]
    agree(
        scores.diagonal(-1)[1:],
        scores.diagonal(-1)[:-1],
        _("one query and one key, one position apart"),
    )
    return _("lengths stay, and a score depends on the distance alone")


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
def check_3_4(attempt):
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
        _("a sound model"): (
            sound,
            _("is the changed position itself compared? Its own output may move"),
        ),
        _("a sound model with rotary positions"): (
            rotary,
            _("is something else random between the two calls?"),
        ),
        _("a bigram"): (
            sees_itself,
            _("may a sound model's output not differ from place to place?"),
        ),
        _("a mask off by one in the second of three blocks"): (
            tiny(3, leaky=[1]),
            _("is the last position alone compared?"),
        ),
        _("a mean over all of time, later tokens too"): (
            lambda tokens: table[tokens] - table[tokens].mean(1, keepdim=True),
            _("is the change seen at the positions before it?"),
        ),
        _("a first position that peeks at the second"): (
            partial(peeks, 0),
            _("is only the last token changed?"),
        ),
        _("a fourth position that peeks at the fifth"): (
            partial(peeks, 3),
            _("is every place tried? A `return` in the loop's first turn ends it"),
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
            perhaps = _(
                "does the model read the same tokens twice? Change a `clone()`, and after the "
                "first reading"
            )
        agree(truth(got), i > 2, given, {perhaps: i <= 2})
    for i in range(20):  # so many that nobody guesses them
        at = drawn_from(0, 11, 100 + i)
        leaks = at < 6
        given = _("a position {at} that peeks at the next", at=at) if leaks else _("a bigram")
        got = attempt(partial(peeks, at) if leaks else sees_itself, 11, 7)
        agree(truth(got), leaks, given)
    return _("sound models pass and leaks are found, each in another place")


def truth(value):
    """A tensor of one number as True or False; all else as it is."""
    return bool(value) if isinstance(value, torch.Tensor) else value


BUGS = {
    "none": N_("a sound model"),
    "future": N_("a model with a mask that is off by one in its second block"),
    "deaf": N_("a model whose attention writes nothing"),
    "order": N_("a model of one layer that knows no positions"),
    "batch": N_("a model that adds the mean over the batch"),
    "sure": N_("a model with weights that are too large"),
}
OTHERWISE = {  # the same bugs in another place
    "future": N_("a model whose place {at} peeks at the next"),
    "batch": N_("a model whose outputs depend on their place in the batch"),
}
LOOK_AGAIN = {  # (the bug, what was said) -> a likely mistake
    ("none", "future"): N_("is the changed place itself compared? Its own output may move"),
    ("none", "order"): N_("does the shuffle change anything? Take tokens that all differ"),
    ("none", "deaf"): N_("are differences called none that are small? Let 1e-6 pass, no more"),
    ("none", "batch"): N_("is each sequence compared with itself?"),
    ("none", "sure"): N_("is the loss compared with ln V? 1 more is allowed"),
    ("future", "none"): N_("is every later token tried, and every output before it?"),
    ("future", "order"): N_("is it asked whether a later token matters, before all else?"),
    ("deaf", "order"): N_("a deaf model does not notice a shuffle: is that asked first?"),
    ("deaf", "none"): N_("are the earlier tokens changed?"),
    ("order", "none"): N_(
        "are the tokens before the last shuffled, the last one left in its place?"
    ),
    ("order", "deaf"): N_("are the earlier tokens changed for others, not shuffled?"),
    ("batch", "none"): N_("is a line asked alone, and then as the last of four?"),
    ("sure", "none"): N_("is the loss of an untrained model compared with ln V?"),
}


def with_bug(bug, seed, at):
    """An untrained model with that bug, one of BUGS. at: a place that peeks; None: see there.

    It computes in float64, so that no processor's rounding is taken for a bug, and answers in
    float32.
    """
    torch.manual_seed(seed)
    changes = {"n_layers": 1, "position": "none"} if bug == "order" else {"n_layers": 2}
    config = GPTConfig(11, 7, n_heads=2, d_model=8, d_ff=12, dropout=0.0, **changes)
    model = GPT(config).eval()
    if bug == "sure":
        initialise(model, std=10.0)
    if bug == "deaf":
        for block in model.blocks:
            nn.init.zeros_(block.attention.out.weight)
    if bug == "future" and at is None:
        model.blocks[1].attention = Leaky(config)
        initialise(model)
    model.double()

    def logits(tokens):
        found = model(tokens)
        if bug == "batch" and at is None:
            found = found + found.mean(0, keepdim=True)
        elif bug == "batch":
            found = found * torch.arange(1, len(found) + 1)[:, None, None]
        elif bug == "future" and at is not None:
            found[:, at] += found[:, at + 1]
        return found.float()

    return logits


@exercise("3.5", "Find the bug", level="core", minutes=25)
def check_3_5(attempt):
    """Each bug once, then so many models in turn that nobody guesses them."""
    cases = [(bug, _(given), None) for bug, given in BUGS.items()]
    # Inside: from who tries the last token alone, or looks at the first output, it would hide.
    at = drawn_from(1, 4, 199)
    for bug in OTHERWISE:
        cases.append((bug, _(OTHERWISE[bug], at=at), at))
    for i in range(20):
        bug = list(BUGS)[drawn_from(0, len(BUGS) - 1, 200 + i)]
        at = drawn_from(0, 5, 300 + i)
        given = _(OTHERWISE.get(bug, BUGS[bug]), at=at)
        cases.append((bug, given, at))
    with torch.no_grad():
        for i, (bug, given, at) in enumerate(cases):
            got = attempt(with_bug(bug, drawn_from(0, 10**6, 400 + i), at), 11, 7)
            mistakes = {
                _(question): said for (real, said), question in LOOK_AGAIN.items() if real == bug
            }
            agree(got, bug, given, mistakes)
    return _("each model's bug by its name, and the sound ones as sound")


@exercise("3.6", "ALiBi", level="stretch", minutes=90)
def check_3_6(attempt):
    """Against the paper's formula, place by place."""
    drawn = (2 ** drawn_from(1, 5, 61), drawn_from(8, 60, 62))
    for heads, t in ((2, 3), (4, 5), (8, 7), drawn):
        back = torch.arange(t)[:, None] - torch.arange(t)
        slopes = torch.tensor([2 ** (-8 * (h + 1) / heads) for h in range(heads)])[:, None, None]
        ahead = back < 0
        bias = (-slopes * back).masked_fill(ahead, -math.inf)
        first = torch.tensor([2 ** (-8 * h / heads) for h in range(heads)])[:, None, None]
        mistakes = {
            _("do distances earn, where they should cost?"): (
                (slopes * back).masked_fill(ahead, -math.inf)
            ),
            _("is the future not forbidden?"): -slopes * back,
            _("does the future cost, where it should be forbidden?"): -slopes * back.abs(),
            _("does the future cost nothing? It should be forbidden, with -inf"): (
                -slopes * back.clamp(min=0)
            ),
            _("is the first head's slope 1? Heads count from 1"): (
                (-first * back).masked_fill(ahead, -math.inf)
            ),
            _("have all heads one slope?"): (
                (-slopes[:1] * back).expand(heads, t, t).masked_fill(ahead, -math.inf)
            ),
            _("are rows and columns swapped? A row is a query"): bias.mT,
        }
        agree(attempt(heads, t), bias, f"n_heads = {heads}, T = {t}", mistakes)
    return _("near is cheap, far is dear, and each head has its own price")


PARTNERS = {  # GPT-2's names of a block's parts, and how PyTorch's begin
    "ln_1": "norm1.",
    "attn.c_attn": "self_attn.in_proj_",
    "attn.c_proj": "self_attn.out_proj.",
    "ln_2": "norm2.",
    "mlp.c_fc": "linear1.",
    "mlp.c_proj": "linear2.",
}


def draw_block(c, f, salt):
    """A block's tensors by GPT-2's names; gains around 1."""
    shapes = {
        "ln_1": (c,),
        "attn.c_attn": (c, 3 * c),
        "attn.c_proj": (c, c),
        "ln_2": (c,),
        "mlp.c_fc": (c, f),
        "mlp.c_proj": (f, c),
    }
    draw = generator(salt)
    weights = {}
    for name, shape in shapes.items():
        drawn = torch.randn(shape, generator=draw)
        weights[f"{name}.weight"] = 1 + drawn / 2 if len(shape) == 1 else drawn / shape[0] ** 0.5
        weights[f"{name}.bias"] = torch.randn(shape[-1], generator=draw) / 2
    return weights


def tanh_gelu(h):
    """GELU as GPT-2 has it: an approximation, by tanh."""
    return F.gelu(h, approximate="tanh")


def by_pytorch(x, weights, heads):
    """A block by nn.TransformerEncoderLayer, which keeps its matrices the other way round."""
    wide = len(weights["mlp.c_fc.bias"])
    layer = nn.TransformerEncoderLayer(
        x.shape[-1], heads, wide, 0.0, tanh_gelu, batch_first=True, norm_first=True
    )
    hidden = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
    with torch.no_grad():
        for name, theirs in PARTNERS.items():
            for kind in ("weight", "bias"):
                ours = weights[f"{name}.{kind}"]
                layer.get_parameter(theirs + kind).copy_(ours.mT if ours.ndim == 2 else ours)
        return layer(x, src_mask=hidden)


def pre_norm(x, attention, mlp, norm_1, norm_2):
    x = x + attention(norm_1(x))
    return x + mlp(norm_2(x))


def post_norm(x, attention, mlp, norm_1, norm_2):
    x = norm_1(x + attention(x))
    return norm_2(x + mlp(x))


def no_first_plus(x, attention, mlp, norm_1, norm_2):
    x = attention(norm_1(x))
    return x + mlp(norm_2(x))


def no_second_plus(x, attention, mlp, norm_1, norm_2):
    x = x + attention(norm_1(x))
    return mlp(norm_2(x))


def no_plus(x, attention, mlp, norm_1, norm_2):
    return mlp(norm_2(attention(norm_1(x))))


def plus_the_normed(x, attention, mlp, norm_1, norm_2):
    x = norm_1(x)
    x = norm_2(x + attention(x))
    return x + mlp(x)


def plus_the_normed_once(x, attention, mlp, norm_1, norm_2):
    x = norm_1(x)
    x = x + attention(x)
    return x + mlp(norm_2(x))


def no_first_norm(x, attention, mlp, norm_1, norm_2):
    x = x + attention(x)
    return x + mlp(norm_2(x))


def no_second_norm(x, attention, mlp, norm_1, norm_2):
    x = x + attention(norm_1(x))
    return x + mlp(x)


def side_by_side(x, attention, mlp, norm_1, norm_2):
    return x + attention(norm_1(x)) + mlp(norm_2(x))


def no_norm(x, attention, mlp, norm_1, norm_2):
    x = x + attention(x)
    return x + mlp(x)


def mlp_first(x, attention, mlp, norm_1, norm_2):
    x = x + mlp(norm_2(x))
    return x + attention(norm_1(x))


def attention_alone(x, attention, mlp, norm_1, norm_2):
    return x + attention(norm_1(x))


JOINED_WRONG = {
    N_("is the plus around attention missing?"): no_first_plus,
    N_("is the plus around the MLP missing?"): no_second_plus,
    N_("are both pluses missing? Each half adds to x"): no_plus,
    N_("do the norms stand after the sums? In GPT-2 they stand before each half"): post_norm,
    N_("is the normed x added to, where x itself goes on?"): plus_the_normed,
    N_("is the normed x added to in the first half, where x itself goes on?"): plus_the_normed_once,
    N_("does attention read x as it is? The first norm comes before it"): no_first_norm,
    N_("does the MLP read the sum as it is? The second norm comes before it"): no_second_norm,
    N_("does the MLP read the first x? It reads what attention has added to"): side_by_side,
    N_("are the norms missing?"): no_norm,
    N_("does the MLP come first?"): mlp_first,
    N_("is the MLP missing?"): attention_alone,
}


def gpt2(
    x,
    weights,
    heads,
    join=pre_norm,
    activation=tanh_gelu,
    biases=True,
    shifts=True,
    gains=True,
    norm_2="ln_2",
    order=(0, 1, 2),
    turned=True,
    mixed=True,
    **attention,
):
    """GPT-2's block, right unless told otherwise."""

    def norm(x, name):
        gain = weights[f"{name}.weight"] if gains else None
        return F.layer_norm(x, x.shape[-1:], gain, weights[f"{name}.bias"] if shifts else None)

    def linear(x, name):
        return x @ weights[f"{name}.weight"] + (weights[f"{name}.bias"] if biases else 0)

    def attend(x):
        three = linear(x, "attn.c_attn").chunk(3, -1)
        q, k, v = (split_heads(three[i], heads) for i in order)
        if not turned:
            q, k, v = (y.transpose(1, 2).reshape(y.shape) for y in (q, k, v))
        how = {"is_causal": True} | attention
        heard = merge_heads(F.scaled_dot_product_attention(q, k, v, **how))
        return linear(heard, "attn.c_proj") if mixed else heard

    def mlp(x):
        return linear(activation(linear(x, "mlp.c_fc")), "mlp.c_proj")

    return join(x, attend, mlp, lambda x: norm(x, "ln_1"), lambda x: norm(x, norm_2))


@exercise("3.7", "A block of GPT-2", level="core", minutes=40)
def check_3_7(attempt):
    """Against nn.TransformerEncoderLayer with the same tensors."""
    for heads, d in ((3, 5), (1, 7), (2, drawn_from(4, 9, 37))):
        c = heads * d
        x = 2 * torch.randn(2, 7, c, generator=generator(40 + heads))
        weights = draw_block(c, 4 * c, 50 + heads)
        wrong = partial(gpt2, x, weights, heads)
        mistakes = {_(question): wrong(join) for question, join in JOINED_WRONG.items()} | {
            _("is it the exact GELU? GPT-2 has the tanh form"): wrong(activation=F.gelu),
            _("is it ReLU, where GPT-2 has GELU?"): wrong(activation=F.relu),
            _("is the activation function missing?"): wrong(activation=nn.Identity()),
            _("are the biases of the linear maps missing?"): wrong(biases=False),
            _("are the shifts of the norms missing?"): wrong(shifts=False),
            _("are the gains of the norms missing?"): wrong(gains=False),
            _("is the first norm used twice?"): wrong(norm_2="ln_1"),
            _("is the mask missing?"): wrong(is_causal=False),
            _("is the scale √D missing?"): wrong(scale=1.0),
            _("is it divided by √C? A head has D = C / H channels"): wrong(scale=c**-0.5),
            _("are queries and keys exchanged?"): wrong(order=(1, 0, 2)),
            _("are q, k and v taken in another order?"): wrong(order=(2, 1, 0)),
            _("is x cut into heads without turning time and heads?"): wrong(turned=False),
            _("is the output projection missing?"): wrong(mixed=False),
            _("is there one wide head, where there are several?"): gpt2(x, weights, 1),
        }
        given = ngettext(
            "B = 2, T = 7, C = {c}, {n} head", "B = 2, T = 7, C = {c}, {n} heads", heads, c=c
        )
        got = attempt(x.clone(), {name: w.clone() for name, w in weights.items()}, heads)
        agree(got, by_pytorch(x, weights, heads), given, mistakes, tolerance=1e-4)
    return _("GPT-2's block: with its published weights, this is what runs")
