"""Wrong and unusual answers to the exercises of lesson 6."""

import math

import torch

from course_utils.lessons.sampling import filter_logits
from tests.mutants import Case


def one_hot_of_best(logits):
    return (logits == logits.amax(-1, keepdim=True)).float()


def with_branch(logits, temperature, otherwise):
    if temperature == 0:
        return torch.zeros_like(logits).scatter(-1, logits.argmax(-1, keepdim=True), 1.0)
    return otherwise(logits, temperature)


def first_axis(logits, temperature):
    if temperature == 0:
        return torch.zeros_like(logits).scatter(0, logits.argmax(0, keepdim=True), 1.0)
    return (logits / temperature).softmax(0)


def ties_share(logits, temperature):
    if temperature == 0:
        best = one_hot_of_best(logits)
        return best / best.sum(-1, keepdim=True)
    return (logits / temperature).softmax(-1)


def row_by_row(logits, temperature):
    """In plain Python, temperature 0 as a limit of its own."""
    if logits.ndim > 1:
        return torch.stack([row_by_row(row, temperature) for row in logits])
    values = logits.tolist()
    if temperature == 0:
        return torch.tensor(
            [1.0 if i == values.index(max(values)) else 0.0 for i in range(len(values))]
        )
    weights = [math.exp((x - max(values)) / temperature) for x in values]
    return torch.tensor([w / sum(weights) for w in weights])


def entropy(logits, log=torch.log, sign=-1, reduce=torch.sum):
    shares = logits.softmax(-1)
    return sign * reduce(torch.where(shares > 0, shares * log(shares), 0), -1)


def without_care(logits):
    return -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)


def from_the_top(probabilities, p, keep):
    """keep(mass with the token, mass before it) -> bool, from the most probable token down."""
    falling, order = probabilities.sort(descending=True)
    with_it = falling.double().cumsum(0)
    stays = keep(with_it, with_it - falling)
    return torch.zeros_like(stays).scatter(0, order, stays)


def crossing_dropped(probabilities, p):
    stays = from_the_top(probabilities, p, lambda with_it, before: with_it < p)
    stays[probabilities.argmax()] = True
    return stays


def in_sorted_order(probabilities, p):
    falling = probabilities.sort(descending=True).values
    return falling.cumsum(0) - falling < p


def lightest_first(probabilities, p):
    rising, order = probabilities.sort()
    stays = rising.cumsum(0) - rising < p
    return torch.zeros_like(stays).scatter(0, order, stays)


def cut_to_50(probabilities, p):
    stays = from_the_top(probabilities, p, lambda with_it, before: before < p)
    best = probabilities.topk(min(50, len(probabilities))).indices
    return stays & torch.zeros_like(stays).scatter(0, best, True)


def by_a_loop(probabilities, p, enough=lambda mass, p: mass >= p * (1 - 1e-7)):
    """One token after the other, as one would by hand."""
    stays = [False] * len(probabilities)
    left = dict(enumerate(probabilities.tolist()))
    while left and not enough(
        sum(x for x, stay in zip(probabilities.tolist(), stays, strict=True) if stay), p
    ):
        best = max(left, key=left.get)
        stays[best] = True
        del left[best]
    return torch.tensor(stays)


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
            (
                lambda n_layers, d_model, context_length, texts: (
                    n_layers * d_model * context_length * texts * 4
                ),
                "only the keys",
            ),
            (
                lambda n_layers, d_model, context_length, texts: (
                    2 * n_layers * d_model * context_length * texts
                ),
                "bytes",
            ),
            (
                lambda n_layers, d_model, context_length, texts: (
                    8 * n_layers * d_model * context_length
                ),
                "every text",
            ),
            (
                lambda n_layers, d_model, context_length, texts: (
                    8 * texts * d_model * context_length
                ),
                "every layer",
            ),
            (
                lambda n_layers, d_model, context_length, texts: (
                    64 * n_layers * d_model * context_length * texts
                ),
                "bits",
            ),
            (
                lambda n_layers, d_model, context_length, texts: (
                    12 * n_layers * d_model * context_length * texts
                ),
                "queries",
            ),
        ],
        unusual=[
            lambda n_layers, d_model, context_length, texts: float(
                sum(torch.zeros(2, texts, context_length, d_model).nbytes for _ in range(n_layers))
            ),
        ],
    ),
    "6.2": Case(
        mutants=[
            (lambda logits, temperature: (logits / temperature).softmax(-1), "branch of its own"),
            (
                lambda logits, temperature: with_branch(
                    logits, temperature, lambda z, t: (z * t).softmax(-1)
                ),
                "multiplied",
            ),
            (
                lambda logits, temperature: (logits / (temperature + 1e-6)).softmax(-1),
                "small number added",
            ),
            (
                lambda z, t: with_branch(z, t, lambda z, t: (z / (t + 1e-9)).softmax(-1)),
                "tiny number added",
            ),
            (lambda z, t: (z / t).softmax(-1) if t else z.argmax(-1), "best token's id"),
            (
                lambda logits, temperature: with_branch(logits, temperature, lambda z, t: z / t),
                "not yet probabilities",
            ),
            (first_axis, "first axis"),
            (ties_share, "equal bests"),
            (
                lambda z, t: (
                    (z == z.amax(-1, keepdim=True)).float() if t == 0 else (z / t).softmax(-1)
                ),
                "both get everything",
            ),
        ],
        unusual=[
            row_by_row,
            lambda logits, temperature: filter_logits(logits, temperature).softmax(-1),
        ],
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
            (crossing_dropped, "crosses p"),
            (
                lambda probs, p: from_the_top(probs, p, lambda with_it, before: before <= p),
                "one more",
            ),
            (
                lambda probs, p: by_a_loop(probs, p, lambda mass, p: mass >= p - 1e-7),
                "may nothing stay",
            ),
            (in_sorted_order, "the alphabet's"),
            (lightest_first, "least probable"),
            (cut_to_50, "50 best"),
            (
                lambda probs, p: in_sorted_order(probs, p)[probs.argsort(descending=True)],
                "It reads",
            ),
            (
                lambda probs, p: from_the_top(probs, p, lambda with_it, before: with_it >= p),
                "what comes when",
            ),
            (
                lambda probs, p: probs.argsort(descending=True)[
                    : int(in_sorted_order(probs, p).sum())
                ],
                "ids",
            ),
        ],
        unusual=[by_a_loop, lambda probs, p: filter_logits(probs.log(), top_p=p) > -math.inf],
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
