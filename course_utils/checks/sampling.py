"""Checks of lesson 6: loops, drafts and beams, entropy, rules from their descriptions."""

import functools
import itertools
import math

import torch

from course_utils.checks import Wrong, agree, exercise, generator, variant
from course_utils.checks.values import show
from course_utils.checks.witness import kept, observed
from course_utils.lessons.sampling import filter_logits
from course_utils.messages import _

NO = -math.inf


@exercise("6.1", "Find the loop", level="warm-up", minutes=15)
def check_6_1(attempt):
    """Against all pairs of a start and a period."""
    drawn = "".join("ab"[i] for i in torch.randint(2, (19,), generator=generator(61)).tolist())
    texts = ("so so so so", "a b c: the sea, the sea, the sea, th", "the wall, the wall, the wall")
    texts += ("abcde", "xabab", "abcabcab", "abcdabc", "of the sea of", "aaaa", drawn, drawn * 3)
    for text in texts:
        at, period = circle(text)
        end = len(text)
        rounds = (end - at) // period if period else 0
        mistakes = {
            _("is nothing repeated? Then it is (len(text), 0)"): (0, 0),
            _(
                "is it the shortest repeat at the end, such as a double letter? Asked for is the "
                "one that reaches back farthest"
            ): circle(text, key=lambda pair: pair[::-1]),
            _(
                "are those two rounds at once? The period is the shortest that reaches so far back"
            ): (circle(text, key=lambda pair: (pair[0], -pair[1]))),
            _("does it begin where the second round does?"): (at + period, period),
            _("is less than two whole rounds enough? Then most texts go in circles"): (
                circle(text, least=1)
            ),
            _("are whole rounds counted from the end? The last one may be cut"): (
                end - rounds * period,
                period,
            ),
            _("are start and period exchanged?"): (period, at),
            _("is that how many characters repeat? Asked for is where they begin"): (
                end - at,
                period,
            ),
        }
        agree(attempt(text), (at, period), f"text = {show(text)}", mistakes)
    return _("the earliest place from which the text repeats itself to its end, and how soon")


def circle(text, least=2, key=None):
    """(start, period) of the loop that a text ends in, of so many rounds; (len(text), 0): none."""
    n = len(text)
    pairs = [
        (start, period)
        for period in range(1, n)
        for start in range(n - max(least * period, period + 1) + 1)
        if text[start : n - period] == text[start + period :]
    ]
    return min(pairs, key=key, default=(n, 0))


@exercise("6.2", "Draft and verify", level="core", minutes=25)
def check_6_2(attempt):
    """What comes out is distributed as the target says, and no more is refused than must be."""
    drawn = (1.5 * torch.randn(4, 7, generator=generator(62))).softmax(-1)
    target, draft = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])
    for p, q in ((target, draft), (draft, target), drawn[:2], drawn[2:], (target, target)):
        given = f"p = {show(p)}, q = {show(q)}"
        accept, instead = attempt(p.clone(), q.clone())
        if accept.max() > 1 + 1e-5 or accept.min() < 0:
            raise Wrong(
                given,
                _("probabilities to accept"),
                _("{least:.3f} to {most:.3f}", least=accept.min(), most=accept.max()),
                _("is min(1, …) missing? What the draft proposes too rarely is always accepted"),
            )
        refused = 1 - (q * accept).sum()
        if refused > 1e-5:
            sums = {
                _("is it not divided by its sum yet?"): refused.item(),
                _("is a difference below 0 kept? Nothing can be drawn less than never"): 0.0,
            }
            agree(instead.sum().item(), 1.0, _("{given}, the sum of `instead`", given=given), sums)
        elif torch.equal(p, q):
            nothing = {_("is it divided by a sum of 0? Nothing is missed: return p"): p / 0 - p / 0}
            agree(instead, p, _("{given}, `instead`", given=given), nothing)
        missed = (p - q).clamp(min=0)
        mistakes = {
            _("is `instead` p itself? Then what is often proposed comes too often"): (
                came_out(p, q, (p / q).clamp(max=1), p)
            ),
            _("are p and q exchanged in the share that is accepted?"): (
                came_out(p, q, (q / p).clamp(max=1), shares(missed))
            ),
            _("is it accepted with p, whatever the draft says?"): came_out(p, q, p, shares(missed)),
            _("does `instead` count too much and too little alike? Only p − q above 0 is missed"): (
                came_out(p, q, (p / q).clamp(max=1), shares((p - q).abs()))
            ),
            _(
                "does it come out as the draft says? Refuse some of what it has too much of, and "
                "draw instead what it has too little of"
            ): q,
        }
        agree(
            came_out(p, q, accept, instead), p, _("{given}, what comes out", given=given), mistakes
        )
        most = torch.minimum(p, q).sum().item()
        accepted = (1 - refused).item()
        slow = {_("is more refused than must be? It comes out right, but slowly"): accepted}
        agree(accepted, most, _("{given}, the share that is accepted", given=given), slow)
    return _("it writes as the target would, and accepts as much as p and q have in common")


def shares(weights):
    """Their shares of the sum; zeros stay zeros."""
    return weights / weights.sum().clamp(min=1e-9)


def came_out(p, q, accept, instead):
    """How the tokens are distributed that are written so, (V,)."""
    refused = 1 - (q * accept).sum()
    return q * accept + (refused * instead if refused > 1e-5 else 0)


@exercise("6.3", "The entropy of what is left", level="core", minutes=10)
def check_6_3(attempt):
    """Closed forms (k equal tokens: ln k), then a sum in plain Python."""
    drawn = torch.randn(5, 13, generator=generator(63))
    cases = [
        torch.tensor([0.0, 0.0, 0.0, NO, NO]),
        torch.tensor([NO, 4.0, NO]),
        filter_logits(drawn[0], top_k=5),
    ]
    cases += [drawn[1], filter_logits(drawn[2:], 0.7, top_p=0.8)]
    for logits in cases:
        shares = logits.softmax(-1)
        rows = [
            [p * math.log(p) for p in row if p]
            for row in shares.reshape(-1, logits.shape[-1]).tolist()
        ]
        expected = torch.tensor([-sum(row) for row in rows]).reshape(logits.shape[:-1])
        agree(
            attempt(logits.clone()),
            expected,
            given=f"logits = {show(logits)}",
            perhaps={
                _("is there a 0 · ln 0? It counts as 0, but the computer says nan"): (
                    expected * math.nan
                ),
                _("is it in bits? Asked for are nats, by the natural logarithm"): (
                    expected / math.log(2)
                ),
                _("is the minus missing?"): -expected,
                _("is it a mean over the tokens? Entropy is a sum"): expected / logits.shape[-1],
                _("is it the exponential of the entropy? Asked for is the entropy"): expected.exp(),
                _("does the sum run over everything? Each row has its own entropy"): expected.sum(),
            },
        )
    return _("k equal tokens have ln k nats, and what was dropped adds nothing")


@exercise("6.4", "Beam search", level="core", minutes=30)
def check_6_4(attempt):
    """Against lists of plain numbers; as wide as all texts, against every text there is."""
    cases = [((2, 0, 4), 4, 2), ((1, 3), 4, 3)]
    cases = [(telling(*case, variant()), *case) for case in cases]
    cases += [(Order3(0), (0, 1), 3, 1), (Order3(0), (3, 3), 3, 125)]
    for next_log_p, prompt, n, width in cases:
        right = beams(next_log_p, prompt, n, width)
        text, total = right[0]
        one = beams(next_log_p, prompt, n, 1)[0]
        last = beams(next_log_p, prompt, n, width, memory=0.0)[0]
        mistakes = {
            _("is it greedy? `width` begun texts are kept"): one,
            _("does a text's score forget its beginning? Add the log-probabilities"): last,
            _("is that what the last of them costs? Add the log-probabilities"): (
                text,
                next_log_p(text[:-1])[text[-1]].item(),
            ),
            _("does each begun text keep its own best? All continuations compete"): (
                beams(next_log_p, prompt, n, width, apart=True)[0]
            ),
            _("is it the worst of those kept?"): right[-1],
            _("is the log-probability divided by the length?"): (text, total / n),
            _("is it the probability? Asked for is its logarithm"): (text, math.exp(total)),
            _("is the prompt left out? It belongs to the text"): (text[len(prompt) :], total),
            _("is it one token too few?"): beams(next_log_p, prompt, n - 1, width)[0],
            _("are all texts tried? Then the width plays no part"): (
                beams(next_log_p, prompt, n, 5**n)[0]
            ),
        }
        given = f"prompt = {list(prompt)}, n = {n}, width = {width}"
        agree(attempt(next_log_p, list(prompt), n, width), (text, total), given, mistakes)
    return _("width 1 is greedy, and a width of all texts finds the likeliest there is")


class Order3:
    """log p of each of 5 tokens after any two: a function of ids, (V,)."""

    def __init__(self, salt):
        self.table = (2 * torch.randn(5, 5, 5, generator=generator(640 + salt))).log_softmax(-1)
        self.rows = self.table.tolist()

    def __call__(self, ids):
        return self.table[ids[-2], ids[-1]]


@functools.cache
def telling(prompt, n, width, case):
    """Such log-probabilities that each likely mistake leads to a text of its own.

    case: the variant, of which they depend.
    """
    for salt in itertools.count(1):
        next_log_p = Order3(salt)
        if texts_differ(functools.partial(beams, next_log_p, prompt, n), width, n):
            return next_log_p
    return None


def texts_differ(found, width, n):
    """Whether each mistake has its own. Few do in a thousand: what tells most comes first."""
    seen = [found(1)[0]]
    for ways in ({"apart": True}, {"memory": 0.0}, {}):
        kept = found(width, **ways)
        seen += kept[:1] if ways else [kept[0], kept[-1]]
        if len({tuple(ids) for ids, _ in seen}) < len(seen):
            return False
    return found(5**n)[0][0] not in [ids for ids, _ in seen]


def beams(next_log_p, prompt, n, width, memory=1.0, apart=False):
    """The texts that are kept, the best first: [(ids, log-probability), …].

    memory: what counts of a text's score so far. apart: each begun text keeps its best alone.
    """
    rows = next_log_p.rows
    kept_texts = [(list(prompt), 0.0)]
    for step in range(n):
        longer = [
            [([*ids, i], memory * score + x) for i, x in enumerate(rows[ids[-2]][ids[-1]])]
            for ids, score in kept_texts
        ]
        if apart and step:
            longer = [[max(one, key=lambda text: text[1])] for one in longer]
        texts = [text for one in longer for text in one]
        kept_texts = sorted(texts, key=lambda text: -text[1])[:width]
    return kept_texts


def staying(order, size):
    return torch.zeros(len(order), dtype=torch.bool).scatter(0, order[:size], True)


@exercise("6.5", "A rule from its description: min-p", level="core", minutes=15)
def check_6_5(attempt):
    """Against the description, token by token."""
    steep, even = torch.tensor([[0.06, 0.7, 0.2, 0.04], [0.4, 0.3, 0.2, 0.1]]).log()
    drawn = 2 * torch.randn(3, 11, generator=generator(65))
    cases = [
        (steep, 0.25),
        (even, 0.6),
        (even, 1.0),
        (even - 9, 0.6),
        (even, 0.01),
        (drawn, 0.1),
        (drawn, 0.4),
        (torch.stack([steep, even]), 0.25),
    ]
    for logits, share in cases:
        shares = logits.softmax(-1)
        stays = torch.tensor(
            [
                [x >= share * max(row) - 1e-7 for x in row]
                for row in shares.view(-1, shares.shape[-1])
            ]
        )
        stays = stays.view_as(logits)
        best = shares.amax(-1, keepdim=True)
        agree(
            attempt(logits.clone(), share),
            logits.masked_fill(~stays, NO),
            given=f"logits = {show(logits)}, share = {share}",
            perhaps={
                _("is one best taken for all rows? Each has its own"): (
                    masked(logits, shares < share * shares.max())
                ),
                _("is a token with exactly that share dropped? It stays"): masked(
                    logits, shares <= share * best + 1e-7
                ),
                _("is share taken for a probability? It is a share of the best one's"): (
                    masked(logits, shares < share)
                ),
                _("are logits compared? Asked for are probabilities"): masked(
                    logits, logits < share * logits.amax(-1, keepdim=True)
                ),
                _("is a dropped logit 0? It must be -inf"): logits.masked_fill(~stays, 0),
                _("is a dropped logit a very negative number? It must be -inf"): (
                    logits.masked_fill(~stays, -1e9)
                ),
                _("are those probabilities? Asked for are logits"): shares.masked_fill(~stays, 0),
                _("are those probabilities beside -inf? Asked for are logits"): masked(
                    shares, ~stays
                ),
            },
        )
    return _("the bar rises and falls with the best token")


def masked(logits, dropped):
    return logits.masked_fill(dropped, NO)


@exercise("6.6", "A penalty for repetition", level="stretch", minutes=30)
def check_6_6(attempt):
    """Against Keskar et al. (2019), equation 1, token by token; no token gets likelier."""
    drawn = torch.randn(13, generator=generator(66))
    cases = [
        (torch.tensor([2.0, -2.0, 1.0, -1.0]), [0, 1], 2.0),
        (torch.tensor([3.0, 1.0, 2.0]), [0, 0, 0], 1.5),
    ]
    cases += [(drawn, [2, 5, 5, 11, 12], 1.2), (drawn, [], 1.2), (drawn, [0, 1, 2], 1.0)]
    for logits, seen, penalty in cases:
        given = f"logits = {show(logits)}, seen = {seen}, penalty = {penalty}"
        got, after = observed(kept, attempt, logits.clone(), seen, penalty)
        times = torch.tensor([seen.count(i) for i in range(len(logits))])
        perhaps = {
            _("is a negative logit divided? It comes closer to 0, and the token gets likelier"): (
                torch.where(times > 0, logits / penalty, logits)
            ),
            _("is a token penalised for each time it was seen? Once is enough"): (
                penalised(logits, times, penalty)
            ),
            _("is the penalty subtracted? It is a factor"): logits - penalty * (times > 0),
            _("are the others penalised? It should be the seen ones"): (
                penalised(logits, (times == 0).int(), penalty)
            ),
        }
        agree(got, penalised(logits, (times > 0).int(), penalty), given, perhaps)
        in_place = {_("is the input changed in place?"): got}
        agree(after, logits, _("logits, looked at after the call"), in_place)
    return _("what was seen becomes less likely, whatever the sign of its logit")


def penalised(logits, times, penalty):
    """Each logit after so many penalties."""
    rows = zip(logits.tolist(), times.tolist(), strict=True)
    return torch.tensor([x / penalty**n if x > 0 else x * penalty**n for x, n in rows])


@exercise("6.7", "Typical sampling", level="stretch", minutes=120)
def check_6_7(attempt):
    """Against Meister et al. (2023), section 4, in plain Python."""
    drawn = (2 * torch.randn(2, 19, generator=generator(67))).softmax(-1)
    cases = [
        (torch.tensor([0.02, 0.6, 0.18, 0.11, 0.09]), 0.2),
        (torch.tensor([0.1, 0.5, 0.4]), 0.35),
    ]
    for probabilities, mass in [
        *cases,
        (drawn[0], 0.3),
        (drawn[0], 0.8),
        (drawn[1], 0.5),
        (drawn[1], 1e-6),
    ]:
        losses = (-probabilities.double().log()).tolist()
        entropy = sum(p * s for p, s in zip(probabilities.tolist(), losses, strict=True))
        by, bits = ([abs(s - entropy * unit) for s in losses] for unit in (1, 1 / math.log(2)))
        by_mean = [abs(s - sum(losses) / len(losses)) for s in losses]
        mistakes = {
            _("is that top-p? Sort by distance from the entropy"): (
                nearest(losses, probabilities, mass)
            ),
            _("is the token dropped that reaches the mass? It stays"): (
                nearest(by, probabilities, mass, less=1)
            ),
            _("is one of entropy and loss in bits? Both are in nats"): (
                nearest(bits, probabilities, mass)
            ),
            _("does each token's loss count alike? Entropy weighs it by the probability"): (
                nearest(by_mean, probabilities, mass)
            ),
            _("are the farthest taken first?"): nearest([-x for x in by], probabilities, mass),
        }
        right = nearest(by, probabilities, mass)
        given = f"probabilities = {show(probabilities)}, mass = {mass:g}"
        agree(attempt(probabilities.clone(), mass), right, given, mistakes)
    return _("the tokens whose loss is about the entropy, which is what the model expects")


def nearest(distances, probabilities, mass, less=0):
    """The tokens that are needed, nearest first, until their mass reaches this. -> (V,) bool"""
    order = sorted(range(len(distances)), key=distances.__getitem__)
    sums = probabilities[order].double().cumsum(0)
    size = int((sums < mass).sum()) + 1
    return staying(torch.tensor(order), size - less)
