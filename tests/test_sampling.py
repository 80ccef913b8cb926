"""Filters, draws and generation, against Hugging Face, brute force, χ²
and a model without a cache."""

import itertools
import math
from fractions import Fraction
from functools import partial

import pytest
import torch
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

import helpers
from course_utils.lessons.model import CHOICES, GPT, GPTConfig
from course_utils.lessons.sampling import (
    KVCache,
    draw,
    filter_logits,
    generate,
    stream,
    window_start,
)
from helpers import mutant, prompt

# Examples are small as they come, so none is shrunk: the mutants below fail often and on purpose.
quick = settings(
    max_examples=150, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate]
)
rows = st.lists(st.floats(-8, 8), min_size=1, max_size=9).map(
    lambda row: torch.tensor(row, dtype=torch.float64)
)
temperatures = st.floats(0.1, 5)
ks = st.none() | st.integers(1, 12)
ps = st.none() | st.floats(0.01, 1)


# --- filters: every check takes the function under test -------------------------------------------
SETTINGS = [
    {"temperature": 0.7},
    {"temperature": 1.9},
    {"top_k": 1},
    {"top_k": 5},
    {"top_p": 0.9},
    {"top_p": 0.35, "temperature": 2.5},
    {"top_k": 7, "top_p": 0.8},
    {"temperature": 0.6, "top_k": 20, "top_p": 0.95},
    {"temperature": 3.0, "top_k": 100, "top_p": 0.5},
]


def hugging_face(logits, temperature=1.0, top_k=None, top_p=None):
    from transformers.generation import logits_process as hf

    logits = hf.TemperatureLogitsWarper(temperature)(None, logits) if temperature != 1 else logits
    logits = hf.TopKLogitsWarper(top_k)(None, logits) if top_k else logits
    return hf.TopPLogitsWarper(top_p)(None, logits) if top_p else logits


def check_like_hugging_face(filter_logits):
    """9 settings × 800 rows. Where tokens tie for the last place in top-p, which
    of them stays is nobody's rule."""
    torch.manual_seed(0)
    for setting, V in itertools.product(SETTINGS, (65, 257)):
        logits = 3 * torch.randn(400, V, dtype=torch.float64)
        logits[200:] = logits[200:].round()  # plenty of ties
        ours, theirs = filter_logits(logits, **setting), hugging_face(logits, **setting)
        assert torch.equal((ours > -math.inf)[:200], (theirs > -math.inf)[:200]), setting
        assert torch.equal((ours > -math.inf).sum(-1), (theirs > -math.inf).sum(-1)), setting
        shares = [x.softmax(-1) for x in (ours, theirs)]
        torch.testing.assert_close(shares[0][:200], shares[1][:200], rtol=1e-12, atol=0)
        torch.testing.assert_close(*(x.sort().values for x in shares), rtol=1e-12, atol=0)


def check_like_brute_force(filter_logits):
    """Of all sets of tokens, top-p keeps a smallest one whose mass reaches p, and
    of these the heaviest."""

    @quick
    @given(
        st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(1, 999), st.integers(1, 6)
    )
    def holds(weights, thousandths, k):
        p = Fraction(thousandths, 1000)
        kth = sorted(weights, reverse=True)[min(k, len(weights)) - 1]
        left = [w for w in weights if w >= kth]
        sets = [s for n in range(1, len(left) + 1) for s in itertools.combinations(left, n)]
        masses = [Fraction(sum(s), sum(left)) for s in sets]
        assume(all(mass != p for mass in masses))  # check_exact_mass has these
        enough = [s for s, mass in zip(sets, masses, strict=True) if mass > p]
        best = max((s for s in enough if len(s) == len(enough[0])), key=sum)
        logits = torch.tensor(weights, dtype=torch.float64).log()
        kept = filter_logits(logits, top_k=k, top_p=float(p))
        kept = logits[kept > -math.inf].exp().round()
        assert sorted(kept.tolist()) == sorted(best)

    holds()


def check_mass(filter_logits):
    """What top-p keeps has mass p at least, would not without its lightest token,
    and is heavier than the rest."""

    @quick
    @given(rows, st.floats(0.001, 1))
    def holds(logits, p):
        filtered = filter_logits(logits, top_p=p)
        kept = filtered > -math.inf
        shares = logits.softmax(-1)
        assert torch.equal(filtered[kept], logits[kept]), "what stays is left as it was"
        assert shares[kept].sum() >= p - 1e-9
        assert p == 1 or shares[kept].sum() - shares[kept].min() < p + 1e-9
        assert kept.all() or shares[kept].min() >= shares[~kept].max()

    holds()


def check_exact_mass(filter_logits):
    """A set whose mass equals p is enough: of V equal tokens, p = k / V keeps k,
    whatever else is left."""
    for V in (2, 4, 8, 16, 64):
        for k in range(1, V + 1):
            assert (filter_logits(torch.zeros(V), top_p=k / V) > -math.inf).sum() == k


def check_shift_invariance(filter_logits):
    @quick
    @given(rows, st.floats(-50, 50), temperatures, ks, ps)
    def holds(logits, shift, temperature, k, p):
        logits = logits.round(decimals=2)  # so that a shift can't make or break a tie
        one, other = (filter_logits(x, temperature, k, p) for x in (logits, logits + shift))
        torch.testing.assert_close(one.softmax(-1).sort().values, other.softmax(-1).sort().values)

    @quick
    @given(rows, st.integers(-32, 32), temperatures, ks)
    def holds_for_every_token_without_top_p(logits, shift, temperature, k):
        logits = (logits * 4).round() / 4
        one, other = (
            filter_logits(x, temperature, k).softmax(-1) for x in (logits, logits + shift)
        )
        torch.testing.assert_close(one, other)

    holds()
    holds_for_every_token_without_top_p()


def check_temperature(filter_logits):
    """p ∝ exp(logit / temperature)."""

    @quick
    @given(rows, temperatures)
    def holds(logits, temperature):
        weights = [math.exp(x / temperature) for x in logits.tolist()]
        shares = filter_logits(logits, temperature).softmax(-1).tolist()
        assert shares == pytest.approx([w / sum(weights) for w in weights])

    holds()


def check_ties_with_the_kth_stay(filter_logits):
    logits = torch.tensor([1.0, 3.0, 2.0, 2.0, 3.0, 2.0, 0.0])
    kept = [
        (filter_logits(logits, top_k=k) > -math.inf).nonzero().flatten().tolist()
        for k in range(1, 9)
    ]
    best, second = [1, 4], [1, 2, 3, 4, 5]
    assert kept == 2 * [best] + 3 * [second] + [[0, *second]] + 2 * [list(range(7))]


def check_k_beyond_the_vocabulary(filter_logits):
    logits = torch.tensor([[1.0, 3.0, 2.0]])
    assert torch.equal(filter_logits(logits, top_k=1000), logits)


def check_tiny_p_keeps_one(filter_logits):
    logits = torch.tensor([[0.1, 0.3, 0.2], [0.0, 0.0, 0.0], [-5.0, 9.0, 2.0]])
    for p in (1e-300, 1e-12, 1e-3):
        assert (filter_logits(logits, top_p=p) > -math.inf).sum(-1).tolist() == [1, 1, 1]
        assert filter_logits(logits, top_p=p)[2, 1] == 9


def check_temperature_zero_is_greedy(filter_logits):
    @quick
    @given(rows, ks, ps)
    def holds(logits, k, p):
        shares = filter_logits(logits, 0, k, p).softmax(-1)
        assert shares.sum() == shares.max() == 1, "one token, and a number"
        assert logits[shares.argmax()] == logits.max()
        assert filter_logits(torch.stack([logits, logits]), 0.0, k, p).shape == (2, len(logits))

    holds()


def check_greedy_is_the_limit(filter_logits):
    """As the temperature falls to 0, the best token's share rises to 1."""
    logits = torch.tensor([0.3, 0.1, 0.35, -2.0])
    shares = [
        filter_logits(logits, t).softmax(-1)[2].item() for t in (1, 0.1, 1e-2, 1e-3, 1e-4, 1e-6, 0)
    ]
    assert shares == sorted(shares)
    assert shares[-3:] == [1, 1, 1]


def check_every_temperature(filter_logits):
    """From the smallest number above 0 to the largest, in float32 and float64:
    what exact arithmetic would say."""
    rows = [
        [1e4, 1e4 - 1, -1e4],
        [3.0, 3.0, 2.0],
        [-2e-3, -1e-3, -5e3],
        [0.0, 0.0, 0.0],
        [1.9999999, 1.9999998, 1.0],
    ]
    small = [5e-324, 1e-310, 1e-300, 1e-46, 1e-39, 1e-37, 1e-34, 1e-10, 1e-3]
    extremes = [*small, 1.0, 1e4, 1e37, 1e39, 1e300, 1.7e308]
    kinds = torch.float32, torch.float64
    for dtype, row, temperature in itertools.product(kinds, rows, extremes):
        logits = torch.tensor(row, dtype=dtype)
        gaps = [max(logits.tolist()) - x for x in logits.tolist()]
        weights = [math.exp(-min(gap / temperature, 800.0)) for gap in gaps]
        shares = filter_logits(logits, temperature).double().softmax(-1).tolist()
        expected = [w / sum(weights) for w in weights]
        assert shares == pytest.approx(expected, abs=1e-6), (dtype, row, temperature)


def check_dropped_are_impossible(filter_logits):
    for setting in ({"top_k": 2}, {"top_p": 0.5}, {"temperature": 0}):
        filtered = filter_logits(torch.tensor([-30.0, 1.0, 2.0, 1.5, -40.0]), **setting)
        assert (filtered == -math.inf).sum() >= 3
        assert not (filtered.isnan() | (filtered == math.inf)).any()


FILTER_CHECKS = [
    check_like_hugging_face,
    check_like_brute_force,
    check_mass,
    check_exact_mass,
    check_shift_invariance,
    check_temperature,
    check_ties_with_the_kth_stay,
    check_k_beyond_the_vocabulary,
    check_tiny_p_keeps_one,
    check_temperature_zero_is_greedy,
    check_greedy_is_the_limit,
    check_every_temperature,
    check_dropped_are_impossible,
]


@pytest.mark.parametrize("check", FILTER_CHECKS)
def test_filters(check):
    check(filter_logits)


BY_P = "rising.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p"
AFTER_TEMPERATURE = "    if top_k is not None:\n        kth"
ONLY_50 = (
    "    logits = logits.where(logits >= logits.topk(min(50, "
    "logits.shape[-1]))[0][..., -1:], -9e9)\n"
)
FILTER_FAULTS = {  # a passage of the lesson, and what it might be instead
    "dropped set to 1e-10": ("logits < kth, -math.inf", "logits < kth, 1e-10"),
    "k is always 2": ("min(int(top_k), logits.shape[-1])", "2"),
    "k beyond V fails": ("min(int(top_k), logits.shape[-1])", "int(top_k)"),
    "ties with the k-th are dropped": (
        "logits < kth,",
        "logits.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1) >= top_k,",
    ),
    "logits cut to 50": (AFTER_TEMPERATURE, ONLY_50 + AFTER_TEMPERATURE),
    "the token that crosses p is dropped": (BY_P, BY_P.replace("<=", "- rising.softmax(-1) <=")),
    "one more when the sum equals p": (BY_P, BY_P.replace("<=", "<")),
    "the least probable first": ("logits.sort(dim=-1)", "logits.sort(dim=-1, descending=True)"),
    "tiny p masks everything": ("tail[..., -1] = False", "pass"),
    "p of the logits, not of the shares": (BY_P, BY_P.replace(".cumsum(dim=-1)", "")),
    "temperature 0 divides": ("if temperature == 0:", "if temperature is None:"),
    "multiplied by the temperature": ("(logits - best) / temperature", "logits * temperature"),
    "the maximum is not subtracted": ("(logits - best) / temperature", "logits / temperature"),
}


def top_p_before_top_k(logits, temperature=1.0, top_k=None, top_p=None):
    return filter_logits(filter_logits(logits, temperature, top_p=top_p), top_k=top_k)


def temperature_last(logits, temperature=1.0, top_k=None, top_p=None):
    return filter_logits(filter_logits(logits, 1.0, top_k, top_p), temperature)


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("dropped set to 1e-10", check_dropped_are_impossible),
        ("dropped set to 1e-10", check_like_hugging_face),
        ("k is always 2", check_like_hugging_face),
        ("k is always 2", check_ties_with_the_kth_stay),
        ("k beyond V fails", check_k_beyond_the_vocabulary),
        ("ties with the k-th are dropped", check_ties_with_the_kth_stay),
        ("ties with the k-th are dropped", check_like_hugging_face),
        ("logits cut to 50", check_like_hugging_face),
        ("the token that crosses p is dropped", check_like_brute_force),
        ("the token that crosses p is dropped", check_mass),
        ("the token that crosses p is dropped", check_like_hugging_face),
        ("one more when the sum equals p", check_exact_mass),
        ("the least probable first", check_mass),
        ("tiny p masks everything", check_tiny_p_keeps_one),
        ("p of the logits, not of the shares", check_mass),
        ("temperature 0 divides", check_temperature_zero_is_greedy),
        ("multiplied by the temperature", check_temperature),
        ("multiplied by the temperature", check_greedy_is_the_limit),
        ("the maximum is not subtracted", check_every_temperature),
        (top_p_before_top_k, check_like_hugging_face),
        (top_p_before_top_k, check_like_brute_force),
        (temperature_last, check_like_hugging_face),
    ],
)
def test_broken_filters_are_noticed(fault, check):
    if isinstance(fault, str):
        fault = mutant(filter_logits, *FILTER_FAULTS[fault])
    with pytest.raises((AssertionError, RuntimeError)):
        check(fault)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        *[
            ({"temperature": t}, "temperature must be .* 0")
            for t in (-1, -1e-9, math.inf, math.nan)
        ],
        *[({"top_k": k}, "top_k must be a whole number of at least 1") for k in (0, -3, 2.5)],
        *[({"top_p": p}, r"top_p must lie in \(0, 1\]") for p in (0, -0.1, 1.01, math.nan)],
    ],
    ids=str,
)
def test_bad_values_are_refused_in_one_sentence(setting, words):
    for call in (
        lambda: filter_logits(torch.zeros(3), **setting),
        lambda: generate(loud(), torch.zeros(1, 1, dtype=torch.int64), 3, **setting),
    ):
        with pytest.raises(ValueError, match=words) as refusal:
            call()
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("shape", [(11,), (3, 11), (2, 3, 11)])
def test_any_leading_shape(shape):
    torch.manual_seed(0)
    logits = torch.randn(shape)
    before = logits.clone()
    one_by_one = torch.stack([filter_logits(row, 0.7, 5, 0.8) for row in logits.view(-1, 11)]).view(
        shape
    )
    assert torch.equal(filter_logits(logits, 0.7, 5, 0.8), one_by_one)
    assert torch.equal(logits, before), "the input is left as it was"


# --- draws ----------------------------------------------------------------------------------------
def check_draws(draw):
    """100,000 draws follow softmax(filtered logits): χ² against the exact shares."""
    logits = torch.tensor([0.0, 1.0, 0.5, -1.0, 2.0, -0.5, 0.25])
    filtered = filter_logits(logits, temperature=1.3, top_k=6, top_p=0.95)
    kept = filtered > -math.inf
    assert 1 < kept.sum() < 7
    tokens = draw(filtered.expand(100_000, 7), torch.Generator().manual_seed(0))
    assert tokens.shape == (100_000, 1)
    counts = tokens.flatten().bincount(minlength=7)
    assert (counts[~kept] == 0).all(), "a dropped token is never drawn"
    shares = [math.exp(x / 1.3) for x in logits[kept].tolist()]
    expected = [100_000 * share / sum(shares) for share in shares]
    assert chisquare(counts[kept].tolist(), expected).pvalue > 1e-3


def test_draws():
    check_draws(draw)


def test_a_draw_is_torchs_own():
    """torch.multinomial runs the same race; from one generator both draw the same tokens."""
    logits = filter_logits(
        3 * torch.randn(500, 11, generator=torch.Generator().manual_seed(0)), top_k=6
    )
    one, other = (torch.Generator().manual_seed(1) for _ in "ab")
    for _ in range(20):
        assert torch.equal(
            draw(logits, one), torch.multinomial(logits.softmax(-1), 1, generator=other)
        )
    assert torch.equal(one.get_state(), other.get_state())


@pytest.mark.parametrize(
    "mutant",
    [
        lambda logits, generator: logits.argmax(-1, keepdim=True),
        lambda logits, generator: (logits + torch.rand(logits.shape, generator=generator)).argmax(
            -1, keepdim=True
        ),
        lambda logits, generator: torch.multinomial(
            (1.1 * logits).softmax(-1), 1, generator=generator
        ),
        lambda logits, generator: torch.multinomial(
            logits.softmax(-1)[:1], 1, generator=generator
        ).expand(100_000, 1),
        lambda logits, generator: torch.randint(
            logits.shape[-1], (len(logits), 1), generator=generator
        ),
    ],
    ids=["the best", "wrong noise", "a tenth too cold", "one for all rows", "all alike"],
)
def test_broken_draws_are_noticed(mutant):
    with pytest.raises(AssertionError):
        check_draws(mutant)


# --- generation -----------------------------------------------------------------------------------
V, T, N = 11, 7, 20
SIZES = {"vocab_size": V, "context_length": T, "n_layers": 2, "n_heads": 3, "d_model": 12}
TINY = GPTConfig(**SIZES, d_ff=17, dropout=0.0, tie_embeddings=False)
loud = partial(helpers.loud, TINY)


class Watched(GPT):
    """A GPT that remembers the last logits of every call."""

    def __init__(self, config):
        super().__init__(config)
        self.seen = []

    def forward(self, tokens, cache=None):
        logits = super().forward(tokens, cache)
        self.seen.append(logits[:, -1].clone())
        return logits


@torch.no_grad()
def next_logits(model, tokens):
    """What the model says after a text, with no cache: it reads its window from the beginning."""
    return model(tokens[:, window_start(tokens.shape[1], model.config.context_length) :])[:, -1]


def check_continues_the_prompt(generate):
    for length in (1, T, 2 * T + 3):
        tokens = prompt(length)
        before = tokens.clone()
        out = generate(loud(), tokens, N)
        assert out.shape == (3, length + N)
        assert out.dtype == torch.int64
        assert torch.equal(out[:, :length], before)
        assert torch.equal(tokens, before)
        assert 0 <= out.min() <= out.max() < V
        assert torch.equal(generate(loud(), tokens, 0), before)


def check_greedy(generate):
    """Each new token is the best one after the text so far, also past the context, in every row."""
    for position, length in itertools.product(CHOICES["position"], (1, T - 1, T, T + 1, 3 * T)):
        model = loud(position=position).eval()
        for setting in ({"temperature": 0}, {"top_k": 1}, {"top_p": 1e-9}):
            out = generate(model, prompt(length, batch=9), N, **setting)
            assert len(out[:, length:].unique()) > 2, "a text of one character would show little"
            for end in range(length, length + N):
                assert torch.equal(next_logits(model, out[:, :end]).argmax(-1), out[:, end])


def check_seed_decides(generate):
    def text(seed):
        return generate(loud(), prompt(3), N, generator=torch.Generator().manual_seed(seed))

    torch.manual_seed(1)
    one, same, other = text(5), text(5), text(6)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert len({tuple(row) for row in generate(loud(), prompt(3)[:1].repeat(9, 1), N).tolist()}) > 1


def check_dropout_is_off_and_the_mode_kept(generate):
    for training in (True, False):
        model = loud(dropout=0.5).train(training)
        out = generate(model, prompt(3), N, temperature=0)
        assert all(module.training == training for module in model.modules())
        assert torch.equal(out, generate(loud(dropout=0.0), prompt(3), N, temperature=0))


def check_rows_are_alone(generate):
    together = generate(loud(), prompt(5), N, temperature=0)
    for row in range(3):
        assert torch.equal(
            generate(loud(), prompt(5)[row : row + 1], N, temperature=0)[0], together[row]
        )


def check_follows_the_shares(generate):
    """20,000 continuations of one prompt by one token: χ² against the filtered shares."""
    model = loud().eval()
    logits = next_logits(model, prompt(3, batch=1))[0].double() / 1.5
    shares = torch.where(logits >= logits.topk(4).values[-1], logits, -math.inf).softmax(-1)
    out = generate(
        model,
        prompt(3, batch=1).repeat(20_000, 1),
        1,
        1.5,
        4,
        generator=torch.Generator().manual_seed(0),
    )
    counts = out[:, -1].bincount(minlength=V)
    assert (counts[shares == 0] == 0).all()
    assert chisquare(counts[shares > 0], 20_000 * shares[shares > 0]).pvalue > 1e-3


GENERATE_CHECKS = [
    check_continues_the_prompt,
    check_greedy,
    check_seed_decides,
    check_dropout_is_off_and_the_mode_kept,
    check_rows_are_alone,
    check_follows_the_shares,
]


@pytest.mark.parametrize("check", GENERATE_CHECKS)
def test_generate(check):
    check(generate)


LAST = "model(tokens[:, read_to:], cache)[:, -1]"
DRAWN = "filter_logits(logits, temperature, top_k, top_p), generator"
GENERATE_FAULTS = [
    (LAST, "model(tokens[read_to - len(tokens) :], cache)[:, -1]", check_greedy),  # rows cropped
    (LAST, "model(tokens[:, :context])[:, -1]", check_greedy),  # the beginning read again
    (LAST, "model(tokens[:, read_to:], cache)[:, 0]", check_greedy),  # the first position
    (
        LAST,
        "model(tokens[:, read_to:], cache)[:1, -1].expand(len(tokens), -1)",
        check_rows_are_alone,
    ),
    ("torch.cat([tokens, *new], dim=1)", "torch.cat(new, dim=1)", check_continues_the_prompt),
    (DRAWN, DRAWN.replace(", generator", ""), check_seed_decides),
    (DRAWN, DRAWN.replace("temperature", "1.0 if temperature else 0"), check_follows_the_shares),
    ("model.eval()\n", "model.train()\n", check_dropout_is_off_and_the_mode_kept),
    ("model.train(was_training)", "pass", check_dropout_is_off_and_the_mode_kept),
]


@pytest.mark.parametrize(("right", "wrong", "check"), GENERATE_FAULTS)
def test_broken_generation_is_noticed(right, wrong, check):
    broken = mutant(generate, right, wrong)
    with pytest.raises((AssertionError, ValueError, RuntimeError)):
        check(broken)


@pytest.mark.parametrize("shape", [(1, 0), (0,), (3,)])
def test_generation_needs_a_prompt(shape):
    with pytest.raises(ValueError, match="prompt of at least one character"):
        generate(loud(), torch.zeros(shape, dtype=torch.int64), 3)


def test_a_refused_call_leaves_the_mode_as_it_was():
    model = loud().train()
    with pytest.raises(ValueError, match="top_p"):
        generate(model, prompt(3), 3, top_p=2.0)
    assert model.training


@pytest.mark.parametrize("length", [1, T, 2 * T + 3])
def test_stream_yields_what_generate_returns(length):
    settings = {"temperature": 0.8, "top_k": 5}
    pieces = stream(
        loud().eval(), prompt(length), N, generator=torch.Generator().manual_seed(2), **settings
    )
    first = next(pieces)
    assert first.shape == (3, 1), "one token at a time"
    whole = generate(
        loud(), prompt(length), N, generator=torch.Generator().manual_seed(2), **settings
    )
    assert torch.equal(torch.cat([first, *pieces], 1), whole[:, length:])


# --- the cache ------------------------------------------------------------------------------------
def check_cached_equals_uncached(model, length):
    out = generate(model, prompt(length), N, generator=torch.Generator().manual_seed(0))
    cached = model.seen[:]
    assert len(cached) == N
    assert length + N > 2 * T, "the text does outgrow the context"
    for i, logits in enumerate(cached):
        torch.testing.assert_close(
            logits, next_logits(model, out[:, : length + i]), rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("length", [1, T - 1, T, T + 1, 3 * T])
@pytest.mark.parametrize("position", CHOICES["position"])
def test_cached_equals_uncached(position, length):
    check_cached_equals_uncached(loud(Watched, position=position).eval(), length)


@pytest.mark.parametrize(
    "changes", [{"qk_norm": True, "position": "rope"}, {"norm_placement": "post"}], ids=str
)
def test_cached_equals_uncached_with_other_switches(changes):
    check_cached_equals_uncached(loud(Watched, **changes).eval(), 3)


@pytest.mark.parametrize("context_length", [1, 2, 3, 8])
def test_cached_equals_uncached_in_the_smallest_contexts(context_length):
    check_cached_equals_uncached(loud(Watched, context_length=context_length).eval(), 3)


class PositionsStartAgain(Watched):
    """Gives every call the positions from 0 on, as if nothing were in the cache."""

    def forward(self, tokens, cache=None):
        shift = cache[0].length if cache else 0
        self.positions.copy_(self.positions.roll(shift, 0))
        logits = super().forward(tokens, cache)
        self.positions.copy_(self.positions.roll(-shift, 0))
        return logits


def test_positions_that_start_again_are_noticed():
    with pytest.raises(AssertionError):
        check_cached_equals_uncached(loud(PositionsStartAgain).eval(), 3)


@pytest.mark.parametrize(
    "fault", ["oldest key lost", "keys of another head", "value of the token before"]
)
def test_a_broken_cache_is_noticed(monkeypatch, fault):
    extend = KVCache.extend

    def broken(self, k, v):
        k, v = extend(self, k, v)
        if fault == "oldest key lost" and k.shape[2] > 3:
            return k[:, :, 1:], v[:, :, 1:]
        if fault == "keys of another head":
            return k.roll(1, 1), v
        return k, v if fault == "oldest key lost" else v.roll(1, 2)

    monkeypatch.setattr(KVCache, "extend", broken)
    with pytest.raises(AssertionError):
        check_cached_equals_uncached(loud(Watched).eval(), 3)


@pytest.mark.parametrize("position", CHOICES["position"])
@pytest.mark.parametrize("pieces", [[7], [1] * 7, [3, 4], [2, 1, 4], [5, 1, 1]], ids=str)
def test_a_text_read_in_pieces_gives_the_same_logits(position, pieces):
    model = loud(position=position).eval()
    tokens, cache = prompt(T), [KVCache(T) for _ in range(2)]
    with torch.no_grad():
        read = [model(piece, cache) for piece in tokens.split(pieces, dim=1)]
        torch.testing.assert_close(torch.cat(read, 1), model(tokens), rtol=0, atol=1e-5)
        assert [layer.length for layer in cache] == [T, T]
        with pytest.raises(ValueError, match=r"8 tokens .* context length.* 7"):
            model(tokens[:, :1], cache)


@pytest.mark.parametrize("context_length", [1, 2, 3, 7, 8])
def test_the_window_moves_in_jumps_and_never_sees_little(context_length):
    starts = [window_start(length, context_length) for length in range(1, 6 * context_length)]
    jump = max(1, context_length // 2)
    for length, start in enumerate(starts, start=1):
        assert start == 0 if length <= context_length else start % jump == 0
        assert min(length, context_length - jump + 1) <= length - start <= context_length
    assert set(b - a for a, b in itertools.pairwise(starts)) <= {0, jump}
