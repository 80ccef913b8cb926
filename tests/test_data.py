"""Tokenizer, split, batches and the n-gram model, against plain Python."""

from collections import Counter

import pytest
import torch
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from course_utils.lessons.data import (
    CharTokenizer,
    KneserNey,
    WittenBell,
    baseline_losses,
    get_batch,
    split,
)
from helpers import mutant, seeded

# Examples are small as they come, so none is shrunk: the mutants below fail often and on purpose.
quick = settings(
    max_examples=60, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate]
)


# --- tokenizer ------------------------------------------------------------------------------------
@quick
@given(st.text(min_size=1), st.data())
def test_every_text_over_the_alphabet_survives_the_round_trip(alphabet, data):
    tokenizer = CharTokenizer(alphabet)
    text = data.draw(st.text(st.sampled_from(alphabet)))
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == tokenizer.decode(torch.tensor(ids, dtype=torch.long)) == text
    assert len(ids) == len(text)
    assert tokenizer.vocab_size == len(set(alphabet))


@quick
@given(st.text(min_size=1))
def test_ids_are_places_in_the_sorted_alphabet(text):
    assert CharTokenizer(text).encode("".join(sorted(set(text)))) == list(range(len(set(text))))


def test_unknown_characters_are_named_all_of_them():
    with pytest.raises(ValueError, match=r"'xz'.*'abc'"):
        CharTokenizer("cab").encode("axbz")


@pytest.mark.parametrize("ids", [[0, 3], [-1], [2, -3, 0], [99]])
def test_unknown_ids_are_refused_negative_ones_too(ids):
    with pytest.raises(ValueError, match=r"0 … 2"):
        CharTokenizer("abc").decode(ids)


def test_a_tokenizer_needs_a_text():
    with pytest.raises(ValueError, match="at least one character"):
        CharTokenizer("")


# --- split ----------------------------------------------------------------------------------------
@quick
@given(st.lists(st.integers(0, 9), max_size=50), st.floats(0.01, 0.99))
def test_split_keeps_every_id_in_order(ids, fraction):
    train, validation = split(torch.tensor(ids, dtype=torch.long), fraction)
    assert train.tolist() + validation.tolist() == ids
    assert 0 <= fraction * len(ids) - len(train) < 1


def test_split_of_tiny_shakespeares_length():
    assert [len(part) for part in split(range(1_115_394))] == [1_003_854, 111_540]


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_split_refuses_a_fraction_outside_0_to_1(fraction):
    with pytest.raises(ValueError, match="between 0 and 1"):
        split([1, 2, 3], fraction)


# --- batches --------------------------------------------------------------------------------------
def check_targets_are_one_ahead(get_batch):
    ids = torch.arange(100, 113)  # 13 consecutive numbers: what comes next is one more
    tokens, targets = get_batch(ids, 3, 5, seeded(0))
    assert tokens.shape == targets.shape == (3, 5)
    assert tokens.dtype == targets.dtype == torch.int64
    assert torch.equal(tokens, tokens[:, :1] + torch.arange(5)), "a window is a run of neighbours"
    assert torch.equal(targets, tokens + 1)


def check_every_start_is_drawn(get_batch):
    tokens, _ = get_batch(torch.arange(13), 1000, 5, seeded(0))
    starts = Counter(tokens[:, 0].tolist())
    assert sorted(starts) == list(range(13 - 5)), "the last window ends one before the last token"
    assert min(starts.values()) > 1000 / 8 / 2, "no start is rare"


def check_the_shortest_text_has_one_window(get_batch):
    tokens, targets = get_batch(torch.arange(6), 2, 5)
    assert tokens.tolist() == [[0, 1, 2, 3, 4]] * 2
    assert targets.tolist() == [[1, 2, 3, 4, 5]] * 2


def check_a_seed_fixes_the_windows(get_batch):
    ids = torch.arange(1000)
    one, same, other = (get_batch(ids, 7, 5, seeded(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


BATCH_CHECKS = [
    check_targets_are_one_ahead,
    check_every_start_is_drawn,
    check_the_shortest_text_has_one_window,
    check_a_seed_fixes_the_windows,
]


@pytest.mark.parametrize("check", BATCH_CHECKS)
def test_batches(check):
    check(get_batch)


STARTS = "torch.randint(N - T, (batch_size, 1), generator=generator)"


@pytest.mark.parametrize(
    ("right", "wrong", "check"),
    [
        ("ids[index + 1]", "ids[index]", check_targets_are_one_ahead),
        (STARTS, STARTS.replace("N - T", "N - T - 1"), check_every_start_is_drawn),
        (STARTS, STARTS.replace("N - T", "N - T + 1"), check_every_start_is_drawn),
        (STARTS, STARTS + "[:1].expand(batch_size, 1)", check_every_start_is_drawn),
        (STARTS, STARTS.replace(", generator=generator", ""), check_a_seed_fixes_the_windows),
    ],
)
def test_broken_batches_are_noticed(right, wrong, check):
    broken = mutant(get_batch, right, wrong)
    with pytest.raises((AssertionError, IndexError)):
        check(broken)


@pytest.mark.parametrize("length", [0, 1, 4, 5])
def test_too_short_a_text_is_refused(length):
    with pytest.raises(ValueError, match=f"{length} tokens .* context of 5"):
        get_batch(torch.arange(length), 2, 5)


# --- n-grams --------------------------------------------------------------------------------------
small_texts = st.integers(1, 4).flatmap(
    lambda V: st.tuples(
        st.just(V),
        st.lists(st.integers(0, V - 1), min_size=5, max_size=30),
        st.lists(st.integers(0, V - 1), min_size=1, max_size=12),
    )
)


class ByHand:
    """The formula with no table, every count a walk through the text."""

    def __init__(self, ids, order, vocab_size):
        self.training, self.order, self.vocab_size = ids.tolist(), order, vocab_size

    def p(self, context, token):
        n = len(context)
        shorter = self.p(context[1:], token) if n else 1 / self.vocab_size
        walk = range(len(self.training) - n)
        followers = Counter(
            self.training[i + n] for i in walk if self.training[i : i + n] == context
        )
        if not followers:
            return shorter
        types = len(followers)
        return (followers[token] + types * shorter) / (followers.total() + types)

    def probabilities(self, ids):
        ids = ids.tolist()
        p = [self.p(ids[max(0, i + 1 - self.order) : i], ids[i]) for i in range(1, len(ids))]
        return torch.tensor(p, dtype=torch.float64)


class KneserNeyByHand(ByHand):
    """Chen and Goodman's modified rule as they write it, by walking over the text."""

    def counts(self, gram):
        """How often it stands there; below the full order, after how many different tokens."""
        n, text = len(gram), self.training
        places = [i for i in range(len(text) - n + 1) if text[i : i + n] == gram]
        if n == self.order:
            return len(places)
        return len({text[i - 1] for i in places if i > 0})

    def discount(self, n, count):
        text = self.training
        grams = {tuple(text[i : i + n]) for i in range(len(text) - n + 1)}
        n1, n2, n3, n4 = (
            max(1, sum(self.counts([*gram]) == k for gram in grams)) for k in (1, 2, 3, 4)
        )
        Y = n1 / (n1 + 2 * n2)
        D = (1 - 2 * Y * n2 / n1, 2 - 3 * Y * n3 / n2, 3 - 4 * Y * n4 / n3)
        return max(D[min(count, 3) - 1], 0.1)

    def p(self, context, token):
        shorter = self.p(context[1:], token) if context else 1 / self.vocab_size
        n = len(context) + 1
        counts = [self.counts([*context, w]) for w in range(self.vocab_size)]
        total = sum(counts)
        if not total:
            return shorter
        taken = {w: self.discount(n, count) for w, count in enumerate(counts) if count}
        own = counts[token] - taken.get(token, 0)
        return (own + sum(taken.values()) * shorter) / total


BY_HAND = {"WittenBell": ByHand, "KneserNey": KneserNeyByHand}


def check_equals_the_formula(counter):
    @quick
    @given(small_texts, st.integers(1, 5))
    def holds(texts, order):
        V, training, text = texts
        kinds = (counter, BY_HAND[counter.__name__])
        ours, by_hand = (kind(torch.tensor(training), order, V) for kind in kinds)
        torch.testing.assert_close(
            *(model.probabilities(torch.tensor(text)) for model in (ours, by_hand))
        )

    holds()


def check_sums_to_one(counter):
    @quick
    @given(small_texts, st.integers(1, 5))
    def holds(texts, order):
        V, training, context = texts
        model = counter(torch.tensor(training), order, V)
        last = [model.probabilities(torch.tensor([*context, w]))[-1].item() for w in range(V)]
        assert min(last) > 0
        assert sum(last) == pytest.approx(1, abs=1e-12)

    holds()


@pytest.mark.parametrize("counter", [WittenBell, KneserNey])
@pytest.mark.parametrize("check", [check_equals_the_formula, check_sums_to_one])
def test_a_counter(check, counter):
    check(counter)


MIXED = "t * shorter) / (c + t).clamp(min=1)"
ONE_TYPE = "(c > 0) * shorter) / (c + (c > 0)).clamp(min=1)"
PLACES = "codes = codes.unique() % V**n"


@pytest.mark.parametrize(
    ("counter", "right", "wrong", "check"),
    [
        (WittenBell, "range(1, order + 1)", "range(1, max(2, order))", check_equals_the_formula),
        (WittenBell, MIXED, ONE_TYPE, check_equals_the_formula),
        (WittenBell, MIXED, "0 * shorter) / c.clamp(min=1)", check_sums_to_one),  # no smoothing
        (WittenBell, MIXED, MIXED.replace("c + t", "c + t + 1"), check_sums_to_one),
        (WittenBell, "mixed, shorter)", "mixed, 0)", check_sums_to_one),  # an unseen context
        (KneserNey, PLACES, PLACES.replace(".unique()", ""), check_equals_the_formula),
        (KneserNey, "counts - taken", "counts", check_sums_to_one),  # nothing taken off
        (KneserNey, "totals - rest", "totals", check_sums_to_one),
        (KneserNey, "max=3", "max=1", check_equals_the_formula),  # one discount for all
    ],
)
def test_broken_n_grams_are_noticed(counter, right, wrong, check):
    broken = mutant(counter, right, wrong)
    with pytest.raises(AssertionError):
        check(broken)


@quick
@given(small_texts)
def test_loss_is_the_mean_surprise(texts):
    V, training, text = texts
    assume(len(text) > 1)
    model = WittenBell(torch.tensor(training), 2, V)
    surprises = [-p.log().item() for p in model.probabilities(torch.tensor(text))]
    assert model.loss(torch.tensor(text)) == pytest.approx(sum(surprises) / (len(text) - 1))


def test_an_order_whose_codes_overflow_is_refused():
    with pytest.raises(ValueError, match=r"order 11 .* 65 characters"):
        WittenBell(torch.arange(65), 11, 65)


def test_baselines_of_tiny_shakespeare():
    from course_utils import corpus

    text = corpus.load()
    if not text.is_real:
        pytest.skip(f"the known losses are of Tiny Shakespeare, this is: {text.name}")
    tokenizer = CharTokenizer(text.text)
    train, validation = split(torch.tensor(tokenizer.encode(text.text)))
    losses = [
        WittenBell(train, order, tokenizer.vocab_size).loss(validation) for order in range(1, 6)
    ]
    assert losses == pytest.approx([3.347, 2.486, 2.049, 1.774, 1.669], abs=5e-4)
    best = baseline_losses(text.text)["Kneser–Ney"]
    assert best == pytest.approx(1.5165, abs=5e-4), "of order 7, where 6 and 8 give more"
