"""Checks of lesson 1: perplexity, windows, counting, cutting."""

import itertools
import math
from collections import Counter

import torch

from course_utils.checks import agree, exercise, generator, sizes
from course_utils.messages import _


@exercise("1.1", "From probabilities to perplexity", level="warm-up", minutes=5)
def check_1_1(attempt):
    """On probabilities that differ much: there the ways to average part."""
    for n in (3, 7):
        p = torch.rand(n, generator=generator(n), dtype=torch.float64).clamp(min=0.02).tolist()
        loss = -sum(map(math.log, p)) / n
        mistakes = {
            _("is the exponential missing? That is the loss"): loss,
            _("is it the sum of the token losses, where the mean is asked for?"): math.exp(
                loss * n
            ),
            _("did you average 1/p? The mean comes before the exponential"): sum(1 / x for x in p)
            / n,
            _("did you average the probabilities?"): n / sum(p),
            _("is that the mean of the probabilities? First comes the loss of each"): sum(p) / n,
            _("logarithm to base 2, but an exponential to base e?"): math.exp(loss / math.log(2)),
            _("is the sign of the logarithm turned?"): math.exp(-loss),
            _("is the minus outside the exponential? It belongs to the logarithm"): -math.exp(
                -loss
            ),
        }
        agree(
            attempt(p),
            math.exp(loss),
            _("the probabilities {p}", p=[round(x, 3) for x in p]),
            mistakes,
        )
    return _("perplexity is the exponential of the mean token loss, however long the text")


@exercise(
    "1.2",
    "Count the questions",
    level="warm-up",
    minutes=5,
    sizes=lambda draw: {"N": draw(900, 1100), "T": draw(20, 60), "B": draw(3, 19)},
)
def check_1_2(attempt):
    """A pair of whole numbers for the variant's sizes."""
    given = sizes("1.2")
    n, t, b = given.values()
    places = {
        _("does the last target exist?"): n - t + 1,
        _("may windows overlap? They start anywhere"): n // t,
        _("is one place too few? Try 5 characters and windows of 3"): n - t - 1,
    }
    questions = {
        _("does only the last position of a window ask?"): b,
        _("does the first position ask nothing?"): b * (t - 1),
        _("is one window counted, where the batch was asked for?"): t,
    }
    words = ", ".join(f"{name} = {size}" for name, size in given.items())
    agree(attempt[0], n - t, _("{words}: places", words=words), places, secret=True)
    agree(attempt[1], b * t, _("{words}: questions", words=words), questions, secret=True)
    return _(
        "{places:,} places, and {questions:,} questions a batch", places=n - t, questions=b * t
    )


@exercise("1.3", "Every prediction once", level="core", minutes=15)
def check_1_3(attempt):
    """Lengths that T divides, and that it does not; the questions in order, none twice."""
    for n, t in ((14, 5), (11, 5), (5, 7), (31, 3)):
        ids = torch.randint(65, (n,), generator=generator(n))
        given = _("{n} ids, T = {t}", n=n, t=t)
        got = list(attempt(ids, t))
        agree(
            all(len(pair) == 2 for pair in got),
            True,
            _("{given}: each window a pair, tokens and targets", given=given),
        )
        got = [[torch.as_tensor(part) for part in pair] for pair in got]
        agree(
            0 < max((len(tokens) for tokens, _ in got), default=0) <= t,
            True,
            _("{given}: windows of 1 to T tokens", given=given),
        )
        tokens, targets = (torch.cat(part) for part in zip(*got, strict=True))
        whole = (n - 1) // t * t
        mistakes = {
            _("is the last, shorter window dropped?"): ids[1 : 1 + whole],
            _("is the question between two windows lost?"): torch.cat(
                [ids[i : i + t][1:] for i in range(0, n, t)]
            ),
            _("are the targets not moved by one?"): ids[: len(targets)],
            _("do the windows overlap?"): targets if len(targets) >= n else None,
        }
        agree(targets, ids[1:], _("{given}: all targets in order", given=given), mistakes)
        last = {_("does the last token ask something? Nothing follows it"): ids}
        agree(tokens, ids[:-1], _("{given}: all tokens in order", given=given), last)
        fits = all(len(tokens) == len(targets) for tokens, targets in got)
        agree(fits, True, _("{given}: as many targets as tokens in each window", given=given))
    return _("every one of the N - 1 predictions is made, and made once")


def bigram(train, validation, v, extra, unit=1.0):
    """The same by a dictionary of pairs."""
    pairs = Counter(itertools.pairwise(train))
    before = Counter(train[:-1])
    p = [(pairs[a, b] + extra) / (before[a] + extra * v) for a, b in itertools.pairwise(validation)]
    return -sum(map(math.log, p)) / len(p) / unit


@exercise("1.4", "The bigram model", level="core", minutes=20)
def check_1_4(attempt):
    """Against a dictionary of pairs, on ids that are far from symmetric."""
    for v, extra in ((7, 1), (11, 0.5)):
        weights = torch.arange(1.0, v + 1) ** 2
        each = torch.arange(v)  # so that every character occurs
        train, validation = (
            torch.cat([each, torch.multinomial(weights, n, True, generator=generator(n))])
            for n in (97, 43)
        )
        a, b = train.tolist(), validation.tolist()
        pairs = Counter(itertools.pairwise(a))
        before = Counter(a[:-1])
        asked = list(itertools.pairwise(b))
        column = Counter(a[1:])
        whole = len(a) - 1
        half = -sum(math.log((pairs[x, y] + extra) / before[x]) for x, y in asked) / len(asked)
        across = -sum(
            math.log((pairs[x, y] + extra) / (column[y] + extra * v)) for x, y in asked
        ) / len(asked)
        joint = -sum(
            math.log((pairs[x, y] + extra) / (whole + extra * v * v)) for x, y in asked
        ) / len(asked)
        once = Counter(set(itertools.pairwise(a)))
        follow = Counter(x for x, _ in once)
        turned = -sum(
            math.log((pairs[x, y] + extra) / (before[y] + extra * v)) for x, y in asked
        ) / len(asked)
        behind = -sum(math.log(pairs[x, y] / before[x] + extra) for x, y in asked) / len(asked)
        rarely = -sum(
            math.log((once[x, y] + extra) / (follow[x] + extra * v)) for x, y in asked
        ) / len(asked)
        mistakes = {
            _("does each column sum to 1, where each row should?"): across,
            _("is extra in the counts, but not in the sum of the row?"): half,
            _("is extra added after the division? It belongs to the counts"): behind,
            _("does each column get its row's sum? `keepdim=True` leaves sums beside rows"): turned,
            _("is the table divided by its whole sum? A row is what follows one character"): joint,
            _("are the pairs counted on the validation split?"): bigram(b, b, v, extra),
            _("is the loss measured on the training text?"): bigram(a, a, v, extra),
            _("is extra always 1?"): bigram(a, b, v, 1) if extra != 1 else None,
            _(
                "does every pair count as often as it comes? table[a, b] += 1 counts it once"
            ): rarely,
            _("is the extra forgotten? A pair that never came has no chance then"): (
                bigram(a, b, v, 0) if all(pairs[pair] for pair in asked) else math.inf
            ),
            _("is it in bits, to base 2?"): bigram(a, b, v, extra, math.log(2)),
            _("is the sign turned?"): -bigram(a, b, v, extra),
            _("is it a perplexity? Asked for is the loss"): math.exp(bigram(a, b, v, extra)),
        }
        agree(
            attempt(train, validation, v, extra),
            bigram(a, b, v, extra),
            f"V = {v}, extra = {extra}",
            mistakes,
        )
    return _("rows that sum to 1, counted on one split and judged on the other")


def merged(ids, pair, new, overlapping=False, last_first=False):
    """ids with every pair replaced: from the left, or as people get it wrong."""
    if last_first:
        return merged(ids[::-1], pair[::-1], new)[::-1]
    out, i = [], 0
    while i < len(ids):
        found = tuple(ids[i : i + 2]) == pair
        out.append(new if found else ids[i])
        i += 2 if found and not overlapping else 1
    return out


def encoded(ids, v, merges, order=lambda counts, pair: (-counts[pair], pair), same_id=False, **how):
    """Byte pairs, in the simplest way."""
    for step in range(merges):
        counts = Counter(itertools.pairwise(ids))
        if not counts:
            break
        ids = merged(
            ids,
            min(counts, key=lambda pair: order(counts, pair)),
            v if same_id else v + step,
            **how,
        )
    return ids


@exercise("1.5", "Byte pairs", level="stretch", minutes=120)
def check_1_5(attempt):
    """Cases for ties and for runs of one character, then random ones."""
    cases = [
        ([0, 0, 0, 1, 0, 0, 0], 2, 1),
        ([1, 2, 0, 1, 2, 0, 1], 3, 1),
        ([1, 0, 1, 1, 0, 1, 0, 1], 2, 2),
    ]
    for v, n, merges in ((3, 41, 5), (5, 83, 7)):
        cases.append((torch.randint(v, (n,), generator=generator(n)).tolist(), v, merges))
    for ids, v, merges in cases:
        expected = encoded(ids, v, merges)
        mistakes = {
            _("does a replaced pair share a token with the next? Go on behind it"): encoded(
                ids, v, merges, overlapping=True
            ),
            _("do you replace from the right?"): encoded(ids, v, merges, last_first=True),
            _("has every merge the same new id?"): encoded(ids, v, merges, same_id=True),
            _("on a tie, is it the largest pair?"): encoded(
                ids, v, merges, lambda counts, pair: (-counts[pair], -pair[0], -pair[1])
            ),
            _("on a tie, is it the pair that came first?"): encoded(
                ids, v, merges, lambda counts, pair: -counts[pair]
            ),
            _("is it the rarest pair?"): encoded(
                ids, v, merges, lambda counts, pair: (counts[pair], pair)
            ),
            _("is a merge missing?"): encoded(ids, v, merges - 1),
        }
        agree(
            attempt(list(ids), v, merges),
            expected,
            f"ids = {ids}, vocab_size = {v}, n_merges = {merges}",
            mistakes,
        )
    return _("your cutter makes the same pieces as ours, ties and runs included")


def batches(first=0, last=0, ahead=1, wrap=False, alike=False, in_a_row=True, seeded=True):
    """A get_batch with a seed: the sound one, or one with a fault.

    first, last: how many starts are left out at the text's ends. ahead: how far targets are.
    """

    def get_batch(ids, batch_size, context_length, seed):
        seed = int(seed) if seeded is True else next(seeded)
        draw = torch.Generator().manual_seed(1000 * seed + len(ids))
        n, t = len(ids), context_length
        stop = n if wrap else max(n - t - last - ahead + 1, first + 1)
        rows = 1 if alike else batch_size
        starts = torch.randint(first, stop, (rows, 1), generator=draw)
        index = starts + torch.arange(t)
        if not in_a_row:
            index = torch.randint(n - 1, (rows, t), generator=draw)
        index = index.expand(batch_size, t)
        if wrap:
            return ids[index % n], ids[(index + ahead) % n]
        return ids[index], ids[(index + ahead).clamp(max=n - 1)]

    return get_batch


def by_unfold(ids, batch_size, context_length, seed):
    """A sound get_batch, made otherwise."""
    draw = torch.Generator().manual_seed(int(seed))
    windows = ids.unfold(0, context_length + 1, 1)
    chosen = windows[torch.randint(len(windows), (batch_size,), generator=draw)]
    return chosen[:, :-1], chosen[:, 1:]


@exercise("1.6", "Can this get_batch be trusted?", level="core", minutes=20)
def check_1_6(attempt):
    """Sound ones and broken ones, the fault of each known."""
    trusted = (batches(), by_unfold)
    cases = {
        _("a sound get_batch"): (trusted[0], _("is something asked of it that it need not do?")),
        _("a sound one that cuts windows otherwise"): (
            by_unfold,
            _("is it compared with the windows of another? Its seeds may draw others"),
        ),
        _("one that doesn't shift"): (batches(ahead=0), _("are targets the tokens one place on?")),
        _("one that shifts by two"): (batches(ahead=2), _("are targets one place on, or further?")),
        _("one that goes on at the beginning of the text where it ends"): (
            batches(wrap=True),
            _("does a window go over the end? Look at a short text"),
        ),
        _("one whose windows are not in a row"): (
            batches(in_a_row=False),
            _("are the tokens of a window neighbours? Each target may be right and yet"),
        ),
        _("one that gives a window many times"): (
            batches(alike=True),
            _("are the rows different?"),
        ),
        _("one that never asks the last question"): (
            batches(last=1),
            _("does any window reach the end of the text?"),
        ),
        _("one that never begins with the first token"): (
            batches(first=1),
            _("does any window begin at the beginning of the text?"),
        ),
        _("one that forgets its seed"): (
            batches(seeded=itertools.count(7)),
            _("does the same seed give the same windows?"),
        ),
        _("one that draws the same whatever the seed"): (
            batches(seeded=itertools.repeat(7)),
            _("does another seed give other windows?"),
        ),
    }
    for name, (get_batch, question) in cases.items():
        sound = get_batch in trusted
        agree(attempt(get_batch), sound, name, {question: not sound})
    return _("your test finds each fault, and trusts what is sound")
