"""Lesson 1: what goes wrong with token losses, windows, tables of pairs and byte pairs."""

import itertools
import math
from collections import Counter

import torch

from course_utils import checks
from tests.mutants import Case, late


def mean(values):
    return sum(values) / len(values)


def with_sizes(make):
    """An answer computed from the sizes that the exercise's text prints."""
    return late(lambda: make(*checks.sizes("1.2").values()))


def chunks(ids, T, drop=False):
    """Windows cut one by one; or with the shorter last one dropped."""
    last = len(ids) - 1
    starts = range(0, last // T * T if drop else last, T)
    return [(ids[i : min(i + T, last)], ids[i + 1 : i + T + 1]) for i in starts]


def cut_first(ids, T):
    """Cuts the ids, then shifts inside each piece: the question between two pieces is gone."""
    return [(piece[:-1], piece[1:]) for piece in ids.split(T)]


def overlapping(ids, T):
    return [(ids[i : i + T], ids[i + 1 : i + T + 1]) for i in range(len(ids) - T)] or chunks(ids, T)


def table(train, vocab_size, extra):
    counts = torch.full((vocab_size, vocab_size), float(extra), dtype=torch.float64)
    return counts.index_put_(
        (train[:-1], train[1:]), torch.tensor(1.0, dtype=torch.float64), accumulate=True
    )


def bigram(
    across=1, inside=True, joint=False, on="validation", counted="train", log=torch.log, sign=-1
):
    """The bigram's loss, right unless told otherwise."""

    def attempt(train, validation, vocab_size, extra):
        texts = {"train": train, "validation": validation}
        raw = table(texts[counted], vocab_size, 0)
        sums = (raw + extra) if inside else raw
        p = (raw + extra) / (sums.sum() if joint else sums.sum(across, keepdim=True))
        return sign * log(p[texts[on][:-1], texts[on][1:]]).mean().item()

    return attempt


def counts_once(train, validation, vocab_size, extra):
    pairs = torch.full((vocab_size, vocab_size), float(extra), dtype=torch.float64)
    pairs[train[:-1], train[1:]] += 1
    return (
        -(pairs / pairs.sum(1, keepdim=True))[validation[:-1], validation[1:]].log().mean().item()
    )


def divides_columns(train, validation, vocab_size, extra):
    pairs = table(train, vocab_size, extra)
    return -(pairs / pairs.sum(1))[validation[:-1], validation[1:]].log().mean().item()


def extra_last(train, validation, vocab_size, extra):
    pairs = table(train, vocab_size, 0)
    return (
        -(pairs / pairs.sum(1, keepdim=True) + extra)[validation[:-1], validation[1:]]
        .log()
        .mean()
        .item()
    )


def by_dictionary(train, validation, vocab_size, extra):
    train, validation = train.tolist(), validation.tolist()
    pairs = Counter(itertools.pairwise(train))
    rows = Counter(train[:-1])
    asked = list(itertools.pairwise(validation))
    return mean(
        [math.log(rows[a] + extra * vocab_size) - math.log(pairs[a, b] + extra) for a, b in asked]
    )


def cutter(
    step=2,
    backwards=False,
    new=lambda v, i: v + i,
    rank=lambda n, pair: (-n, pair),
    merges=lambda n: n,
):
    """Byte pairs on a list that shrinks in place, right unless told otherwise."""

    def attempt(ids, vocab_size, n_merges):
        for i in range(merges(n_merges)):
            counts = Counter(itertools.pairwise(ids))
            best = min(counts, key=lambda pair: rank(counts[pair], pair))
            if backwards:
                ids, best = ids[::-1], best[::-1]
            out = []
            at = 0
            while at < len(ids):
                found = tuple(ids[at : at + 2]) == best
                out.append(new(vocab_size, i) if found else ids[at])
                at += step if found else 1
            ids = out[::-1] if backwards else out
        return ids

    return attempt


def by_text(ids, vocab_size, n_merges):
    """Byte pairs by str.replace, which goes from left to right and never overlaps."""
    text = "".join(map(chr, ids))
    for new in range(vocab_size, vocab_size + n_merges):
        pairs = Counter(text[i : i + 2] for i in range(len(text) - 1))
        most = max(pairs.values())
        text = text.replace(min(pair for pair, n in pairs.items() if n == most), chr(new))
    return [ord(c) for c in text]


def looking(skip="", T=5, n=8, fixed=False):
    """A test of get_batch that looks at everything, but for one thing."""

    def can_be_trusted(get_batch):
        ids = torch.arange(n)
        tokens, targets = get_batch(ids, 300, T, 3)
        starts = set(tokens[:, 0].tolist())
        looked_at = {
            "row": torch.equal(tokens, tokens[:, :1] + torch.arange(T)),
            "shift": torch.equal(targets, tokens + 1),
            "ahead": bool((targets > tokens).all()),
            "first": 0 in starts,
            "last": n - T - 1 in starts,
            "rows": len(starts) > 1,
            "seed": torch.equal(tokens, get_batch(ids, 300, T, 3)[0]),
            "other": not torch.equal(tokens, get_batch(ids, 300, T, 4)[0]),
        }
        if fixed:
            looked_at["fixed"] = tokens[0, 0].item() == fixed
        return all(found for name, found in looked_at.items() if name not in skip.split())

    return can_be_trusted


def by_plain_lists(get_batch):
    """On an ordinary text, whose windows are looked up, with the ends checked apart."""
    text = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]
    right = [text[i : i + 5] for i in range(len(text) - 4)]
    seen = []
    for seed in range(40):
        tokens, targets = get_batch(torch.tensor(text), 8, 4, seed)
        whole = [[*x, y[-1]] for x, y in zip(tokens.tolist(), targets.tolist(), strict=True)]
        if any(w not in right for w in whole) or tokens[:, 1:].tolist() != targets[:, :-1].tolist():
            return False
        again = get_batch(torch.tensor(text), 8, 4, seed)[0].tolist()
        if again != tokens.tolist() or len(set(map(tuple, whole))) < 2:
            return False
        seen.append(whole)
    met = [window for whole in seen for window in whole]
    return all(window in met for window in right) and seen[0] != seen[1]


EXERCISES = {
    "1.1": Case(
        mutants=[
            (lambda p: mean([-math.log(x) for x in p]), "exponential missing"),
            (lambda p: math.exp(-sum(map(math.log, p))), "sum of the token losses"),
            (lambda p: mean([1 / x for x in p]), "average 1/p"),
            (lambda p: 1 / mean(p), "average the probabilities"),
            (lambda p: mean(p), "the mean of the probabilities"),
            (lambda p: math.exp(mean([-math.log2(x) for x in p])), "base 2"),
            (lambda p: math.exp(mean([math.log(x) for x in p])), "sign"),
            (lambda p: -math.exp(mean([math.log(x) for x in p])), "outside the exponential"),
            (lambda p: f"{math.exp(-mean([math.log(x) for x in p]))}", "got '"),
        ],
        unusual=[
            lambda p: math.prod(p) ** (-1 / len(p)),
            lambda p: 2 ** mean([-math.log2(x) for x in p]),
            lambda p: torch.tensor(p, dtype=torch.float64).log().mean().neg().exp(),
        ],
    ),
    "1.2": Case(
        mutants=[
            (with_sizes(lambda n, t, b: (n - t + 1, b * t)), "last target exist"),
            (with_sizes(lambda n, t, b: (n // t, b * t)), "overlap"),
            (with_sizes(lambda n, t, b: (n - t - 1, b * t)), "one place too few"),
            (with_sizes(lambda n, t, b: (n - t, b)), "last position"),
            (with_sizes(lambda n, t, b: (n - t, b * (t - 1))), "first position"),
            (with_sizes(lambda n, t, b: (n - t, t)), "one window counted"),
            (with_sizes(lambda n, t, b: (n - t + 1, b)), "last target exist"),
            (with_sizes(lambda n, t, b: (b * t, n - t)), "got"),
        ],
        unusual=[
            with_sizes(
                lambda n, t, b: [
                    len(torch.arange(n).unfold(0, t + 1, 1)),
                    torch.zeros(b, t).numel(),
                ]
            ),
        ],
    ),
    "1.3": Case(
        mutants=[
            (lambda ids, T: chunks(ids, T, drop=True), "shorter window dropped"),
            (cut_first, "between two windows"),
            (overlapping, "overlap"),
            (lambda ids, T: [(a, a) for a, _ in chunks(ids, T)], "not moved by one"),
            (lambda ids, T: [(a, a) for a in ids.split(T)], "not moved by one"),
            (
                lambda ids, T: [
                    (ids[i : i + T], ids[i + 1 : i + 1 + T]) for i in range(len(ids) - 1)
                ],
                "overlap",
            ),
            (lambda ids, T: ids.split(T), "each window a pair"),
            (
                lambda ids, T: [
                    (ids[i : i + T], ids[i + 1 : i + 1 + T]) for i in range(0, len(ids), T)
                ],
                "last token ask",
            ),
            (lambda ids, T: [(ids[:-1], ids[1:])], "windows of 1 to T"),
            (lambda ids, T: [(b, b) for _, b in chunks(ids, T)], "all tokens in order"),
        ],
        unusual=[
            chunks,
            lambda ids, T: ((ids[i : i + 1], ids[i + 1 : i + 2]) for i in range(len(ids) - 1)),
        ],
    ),
    "1.4": Case(
        mutants=[
            (
                lambda train, validation, v, extra: bigram()(train, validation, v, 0),
                "extra forgotten",
            ),
            (counts_once, "as often as it comes"),
            (bigram(across=0), "column"),
            (bigram(inside=False), "sum of the row"),
            (bigram(joint=True), "whole sum"),
            (divides_columns, "keepdim"),
            (extra_last, "after the division"),
            (bigram(counted="validation"), "counted on the validation"),
            (bigram(on="train"), "measured on the training"),
            (lambda train, validation, v, extra: bigram()(train, validation, v, 1), "always 1"),
            (bigram(log=torch.log2), "bits"),
            (bigram(sign=1), "sign"),
            (lambda *sizes: math.exp(bigram()(*sizes)), "perplexity"),
        ],
        unusual=[bigram(), by_dictionary],
    ),
    "1.5": Case(
        mutants=[
            (cutter(step=1), "share a token"),
            (cutter(backwards=True), "from the right"),
            (cutter(new=lambda v, i: v), "same new id"),
            (cutter(rank=lambda n, pair: (-n, -pair[0], -pair[1])), "largest pair"),
            (cutter(rank=lambda n, pair: -n), "came first"),
            (cutter(rank=lambda n, pair: (n, pair)), "rarest"),
            (cutter(merges=lambda n: n - 1), "merge missing"),
            (lambda ids, v, n: ids, "merge missing"),
        ],
        unusual=[cutter(), by_text],
    ),
    "1.6": Case(
        mutants=[
            (lambda get_batch: True, "one place on"),
            (lambda get_batch: False, "need not do"),
            (looking(fixed=1), "need not do"),
            (looking(skip="shift last"), "or further"),
            (looking(skip="last"), "reach the end"),
            (looking(skip="first"), "begin at the beginning"),
            (looking(skip="row shift last"), "or further"),
            (looking(skip="first last rows", n=10**5), "over the end"),
            (looking(skip="rows first last"), "rows different"),
            (looking(skip="seed"), "the same seed"),
            (looking(skip="other"), "another seed"),
            (looking(skip="row"), "neighbours"),
        ],
        unusual=[looking(), looking(T=3, n=7), by_plain_lists],
    ),
}
