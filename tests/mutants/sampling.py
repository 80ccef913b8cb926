"""Wrong and unusual answers to the exercises of lesson 6."""

import math
import re

import torch

from tests.mutants import Case


def repeats_from(text, period):
    """The earliest start from which the text repeats itself with this period to its end."""
    start = len(text) - period
    while start and text[start - 1] == text[start - 1 + period]:
        start -= 1
    return start


def loop_of(text, rounds=2, choose=min, periods=range):
    found = [(repeats_from(text, n), n) for n in periods(1, len(text))]
    long_enough = [(at, n) for at, n in found if len(text) - at >= max(rounds * n, n + 1)]
    return choose(long_enough, default=(len(text), 0))


def shortest_first(pairs, default):
    return min(pairs, key=lambda pair: pair[1], default=default)


def two_rounds_at_once(pairs, default):
    return min(pairs, key=lambda pair: (pair[0], -pair[1]), default=default)


def whole_rounds(text):
    at, period = loop_of(text)
    return (len(text) - (len(text) - at) // period * period, period) if period else (at, period)


def from_second_round(text):
    at, period = loop_of(text)
    return at + period, period


def loop_by_pattern(text):
    """The longest end that is some rounds of a shortest word and a beginning of it."""
    for at in range(len(text)):
        found = re.fullmatch(r"(?s)(.+?)\1+(.*)", text[at:])
        while found:
            if found[1].startswith(found[2]):
                return at, len(found[1])
            longer = len(found[1]) + 1
            found = re.fullmatch(rf"(?s)(.{{{longer},}}?)\1+(.*)", text[at:])
    return len(text), 0


def speculate(p, q, accept=None, instead=None):
    """The right rule, or one with another share accepted, or with others drawn instead."""
    missed = (p - q).clamp(min=0)
    total = missed.sum()
    shares = missed / total if total > 0 else p
    accepted = (p / q).clamp(max=1) if accept is None else accept
    return accepted, shares if instead is None else instead


def accept_by_size(p, q):
    """Token by token in plain numbers."""
    pairs = list(zip(p.tolist(), q.tolist(), strict=True))
    accept = torch.tensor([1.0 if a >= b else a / b for a, b in pairs])
    missed = torch.tensor([max(a - b, 0.0) for a, b in pairs])
    return accept, missed / missed.sum() if missed.sum() > 0 else p


def plain_rejection(p, q):
    """Right, but it refuses more: on refusal the target draws."""
    ratio = p / q
    accept = (ratio / ratio.max()).clamp(max=1)
    left = p - q * accept
    return accept, left / left.sum()


def beam_search(
    next_log_p, prompt, n, width, add=lambda score, x: score + x, apart=False, best=max
):
    texts = [(0.0, list(prompt))]
    for step in range(n):
        longer = []
        for score, ids in texts:
            row = next_log_p(ids).tolist()
            each = [(add(score, x), [*ids, i]) for i, x in enumerate(row)]
            longer += [max(each)] if apart and step else each
        texts = sorted(longer, reverse=True)[:width]
    score, ids = best(texts)
    return ids, score


def beam_in_tensors(next_log_p, prompt, n, width):
    """All begun texts as one tensor, as a library has it."""
    texts, scores = torch.tensor([prompt]), torch.zeros(1)
    for _ in range(n):
        rows = torch.stack([next_log_p(row.tolist()) for row in texts])
        total = (scores[:, None] + rows).flatten()
        scores, kept = total.topk(min(width, len(total)))
        V = rows.shape[-1]
        texts = torch.cat([texts[kept // V], (kept % V)[:, None]], dim=1)
    return texts[0].tolist(), scores[0].item()


def last_alone(next_log_p, prompt, n, width):
    ids, _ = beam_search(next_log_p, prompt, n, width)
    return ids, next_log_p(ids[:-1])[ids[-1]].item()


def changed(method, how):
    """A right answer's (ids, score), changed."""
    return lambda f, prompt, n, width: how(*method(f, prompt, n, width), prompt, n)


def entropy(logits, log=torch.log, sign=-1, reduce=torch.sum):
    shares = logits.softmax(-1)
    return sign * reduce(torch.where(shares > 0, shares * log(shares), 0), -1)


def without_care(logits):
    return -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)


def min_p(logits, keep, dropped=-math.inf):
    """keep(probabilities, the best one's) -> bool"""
    shares = logits.softmax(-1)
    return torch.where(keep(shares, shares.amax(-1, keepdim=True)), logits, dropped)


def probabilities_beside_minus_infinity(logits, share):
    shares = logits.softmax(-1)
    return shares.masked_fill(shares < share * shares.amax(-1, keepdim=True) - 1e-7, -math.inf)


def penalise_in_place(logits, seen, penalty):
    for i in set(seen):
        logits[i] = logits[i] / penalty if logits[i] > 0 else logits[i] * penalty
    return logits


def penalise_each_time(logits, seen, penalty):
    logits = logits.clone()
    for i in seen:
        logits[i] = logits[i] / penalty if logits[i] > 0 else logits[i] * penalty
    return logits


def divide_all(logits, seen, penalty):
    logits = logits.clone()
    logits[seen] = logits[seen] / penalty
    return logits


def subtract(logits, seen, penalty):
    logits = logits.clone()
    logits[list(set(seen))] -= penalty
    return logits


def by_gather(logits, seen, penalty):
    """As Hugging Face has it."""
    ids = torch.tensor(seen, dtype=torch.int64)
    score = logits.gather(0, ids)
    return logits.scatter(0, ids, torch.where(score < 0, score * penalty, score / penalty))


def typical(
    probabilities, mass, distance=torch.abs, unit=1.0, descending=False, crossing=True, mean=None
):
    losses = -probabilities.double().log()
    entropy = mean(losses) if mean else (probabilities * losses).sum() * unit
    off = distance(losses - entropy)
    order = off.argsort(descending=descending)
    sums = probabilities.double()[order].cumsum(0)
    stays = (sums - probabilities[order] < mass) if crossing else sums < mass
    return torch.zeros_like(stays).scatter(0, order, stays)


def typical_by_python(probabilities, mass):
    p = probabilities.tolist()
    entropy = -sum(x * math.log(x) for x in p)
    stays = [False] * len(p)
    total = 0.0
    for i in sorted(range(len(p)), key=lambda i: abs(-math.log(p[i]) - entropy)):
        if total < mass:
            stays[i], total = True, total + p[i]
    return torch.tensor(stays)


EXERCISES = {
    "6.1": Case(
        mutants=[
            (lambda text: loop_of(text, choose=shortest_first), "double letter"),
            (lambda text: loop_of(text, choose=two_rounds_at_once), "two rounds at once"),
            (from_second_round, "second round"),
            (lambda text: loop_of(text, rounds=1), "two whole rounds"),
            (whole_rounds, "may be cut"),
            (lambda text: loop_of(text)[::-1], "exchanged"),
            (lambda text: (len(text) - loop_of(text)[0], loop_of(text)[1]), "how many"),
            (lambda text: loop_of(text) if loop_of(text)[1] else (0, 0), "nothing repeated"),
        ],
        unusual=[loop_of, loop_by_pattern],
    ),
    "6.2": Case(
        mutants=[
            (lambda p, q: speculate(p, q, accept=p / q), "min(1"),
            (lambda p, q: (speculate(p, q)[0], (p - q).clamp(min=0)), "divided by its sum"),
            (lambda p, q: speculate(p, q, instead=p - q), "below 0"),
            (lambda p, q: speculate(p, q, instead=p), "p itself"),
            (lambda p, q: speculate(p, q, accept=(q / p).clamp(max=1)), "in the share"),
            (lambda p, q: speculate(p, q, accept=p), "whatever the draft says"),
            (lambda p, q: (speculate(p, q)[0], speculate(q, p)[1]), "as the draft says"),
            (
                lambda p, q: speculate(p, q, instead=(p - q).abs() / (p - q).abs().sum()),
                "too much and too little",
            ),
            (lambda p, q: speculate(p, q, accept=torch.ones_like(p)), "as the draft says"),
            (lambda p, q: speculate(p, q, accept=torch.zeros_like(p), instead=p), "slowly"),
            (plain_rejection, "slowly"),
            (
                lambda p, q: (speculate(p, q)[0], (p - q).relu() / (p - q).relu().sum()),
                "a sum of 0",
            ),
        ],
        unusual=[speculate, accept_by_size],
    ),
    "6.3": Case(
        mutants=[
            (without_care, "0 · ln 0"),
            (lambda logits: entropy(logits, log=torch.log2), "natural logarithm"),
            (lambda logits: entropy(logits, sign=1), "minus missing"),
            (lambda logits: entropy(logits, reduce=torch.mean), "mean over the tokens"),
            (lambda logits: entropy(logits).exp(), "exponential"),
            (lambda logits: entropy(logits).sum(), "run over everything"),
        ],
        unusual=[
            lambda logits: torch.special.entr(logits.softmax(-1)).sum(-1),
            lambda logits: torch.distributions.Categorical(logits=logits).entropy(),
        ],
    ),
    "6.4": Case(
        mutants=[
            (lambda f, prompt, n, width: beam_search(f, prompt, n, 1), "greedy"),
            (
                lambda f, prompt, n, width: beam_search(f, prompt, n, width, add=lambda s, x: x),
                "forget its beginning",
            ),
            (last_alone, "the last of them"),
            (
                lambda f, prompt, n, width: beam_search(f, prompt, n, width, apart=True),
                "All continuations compete",
            ),
            (lambda f, prompt, n, width: beam_search(f, prompt, n, width, best=min), "worst"),
            (changed(beam_search, lambda ids, x, prompt, n: (ids, x / n)), "length"),
            (changed(beam_search, lambda ids, x, prompt, n: (ids, math.exp(x))), "logarithm"),
            (
                changed(beam_search, lambda ids, x, prompt, n: (ids[len(prompt) :], x)),
                "prompt left out",
            ),
            (lambda f, prompt, n, width: beam_search(f, prompt, n - 1, width), "too few"),
            (lambda f, prompt, n, width: beam_search(f, prompt, n, 5**n), "all texts tried"),
        ],
        unusual=[beam_search, beam_in_tensors],
    ),
    "6.5": Case(
        mutants=[
            (lambda logits, share: min_p(logits, lambda p, best: p >= share), "share taken for"),
            (
                lambda logits, share: min_p(logits, lambda p, best: p > share * best),
                "exactly that share dropped",
            ),
            (
                lambda logits, share: min_p(logits, lambda p, best: p >= share * best, 0.0),
                "dropped logit 0",
            ),
            (
                lambda logits, share: min_p(logits, lambda p, best: p >= share * best, 1e-10),
                "dropped logit 0",
            ),
            (
                lambda logits, share: min_p(logits, lambda p, best: p >= share * best, -1e9),
                "very negative",
            ),
            (
                lambda z, share: min_p(z, lambda p, best: p >= share * best).softmax(-1).log(),
                "expected",
            ),
            (probabilities_beside_minus_infinity, "beside -inf"),
            (
                lambda logits, share: min_p(logits, lambda p, best: p >= share * p.max()),
                "one best taken",
            ),
            (
                lambda z, share: z.masked_fill(z < share * z.amax(-1, keepdim=True), -math.inf),
                "logits compared",
            ),
        ],
        unusual=[
            lambda z, share: z.masked_fill(
                z < z.amax(-1, keepdim=True) + math.log(share) - 1e-6, -math.inf
            ),
            lambda logits, share: min_p(logits, lambda p, best: p / best >= share - 1e-7),
        ],
    ),
    "6.6": Case(
        mutants=[
            (divide_all, "likelier"),
            (penalise_each_time, "each time it was seen"),
            (subtract, "a factor"),
            (penalise_in_place, "changed in place"),
        ],
        unusual=[
            by_gather,
            lambda logits, seen, penalty: penalise_in_place(logits.clone(), seen, penalty),
        ],
    ),
    "6.7": Case(
        mutants=[
            (lambda p, mass: typical(p, mass, unit=0.0), "top-p"),
            (lambda p, mass: typical(p, mass, crossing=False), "reaches the mass"),
            (lambda p, mass: typical(p, mass, distance=lambda x: x), "top-p"),
            (lambda p, mass: typical(p, mass, unit=1 / math.log(2)), "nats"),
            (lambda p, mass: typical(p, mass, descending=True), "farthest taken first"),
            (lambda p, mass: typical(p, mass, mean=torch.mean), "count alike"),
        ],
        unusual=[typical_by_python, lambda p, mass: typical(p.double(), mass)],
    ),
}
