"""Checks of lesson 6: the cache's price, temperature, entropy, rules from their descriptions."""

import math

import torch

from course_utils.checks import agree, drawn_from, exercise, generator
from course_utils.checks.values import show
from course_utils.checks.witness import kept, observed
from course_utils.lessons.sampling import KVCache, filter_logits

NO = -math.inf


@exercise("6.1", "What the cache costs", level="warm-up", minutes=5)
def _(attempt):
    """Against the bytes of a real cache."""
    drawn = [drawn_from(2, 9, 610 + i) for i in range(5)]
    for n_layers, heads, d_head, context_length, texts in (
        (3, 2, 11, 13, 5),
        (7, 3, 5, 17, 1),
        drawn,
    ):
        cache = [KVCache(context_length) for _ in range(n_layers)]
        C = heads * d_head
        for layer in cache:
            layer.extend(*torch.zeros(2, texts, heads, 1, d_head))
        held = sum(layer.k.nbytes + layer.v.nbytes for layer in cache)
        agree(
            attempt(n_layers, C, context_length, texts),
            held,
            given=f"n_layers = {n_layers}, d_model = {C}, context_length = {context_length}, "
            f"texts = {texts}",
            perhaps={
                "are only the keys counted? There are values too": held // 2,
                "are those numbers, and not yet bytes?": held // 4,
                "are those bits? A float32 has 4 bytes": held * 8,
                "are queries counted? The cache holds keys and values": held * 3 // 2,
                "is it one text's? Every text has its own keys and values": held // texts,
                "is it one layer's? Every layer has its own keys and values": held // n_layers,
            },
        )
    return (
        "2 numbers a layer, character and channel: the cache grows with the texts, the weights "
        "do not"
    )


@exercise("6.2", "Temperature, zero included", level="warm-up", minutes=10)
def _(attempt):
    """Against the exponentials in float64."""
    drawn = 3 * torch.randn(7, generator=generator(62))
    cases = [(drawn, t) for t in (1.0, 0.5, 2.0, 0)]
    cases += [(torch.tensor([0.0, 2e-7, 1e-7]), 1e-7), (torch.tensor([1.0, 3.0, 3.0, 2.0]), 0)]
    cases += [(torch.stack([drawn, drawn.flip(0), drawn.roll(2)]), t) for t in (0.7, 0)]
    cases += [(torch.tensor([300.0, 301.0, 5.0]), 0.01)]
    for logits, temperature in cases:
        best = (logits == logits.amax(-1, keepdim=True)).float()
        mistakes = {
            "is the softmax over the first axis? Tokens lie on the last": (
                exactly(logits, temperature, axis=0)
            ),
            "are the logits multiplied by the temperature?": (logits * temperature).softmax(-1),
            "is there a division by 0? Temperature 0 needs a branch of its own": (
                (logits / temperature).softmax(-1)
            ),
            "do two equal bests share? The first one alone gets everything": (
                best / best.sum(-1, keepdim=True)
            ),
            "do two equal bests both get everything?": best,
            "is a small number added to the temperature?": (
                (logits / (temperature + 1e-6)).softmax(-1)
            ),
            "is a tiny number added? Beside a tiny τ it counts": (
                (logits / (temperature + 1e-9)).softmax(-1)
            ),
            "is that the best token's id? Asked for is a probability for each": logits.argmax(-1),
            "are those logits, and not yet probabilities?": logits / (temperature or 1),
            "is the temperature left out?": logits.softmax(-1),
        }
        given = f"logits = {show(logits)}, temperature = {temperature}"
        right = exactly(logits, temperature)
        agree(attempt(logits.clone(), temperature), right, given, mistakes)
    return "the best one alone at 0, and exp(z / τ) in its share of all above it"


def exactly(logits, temperature, axis=-1):
    """Softmax with temperature by its formula; at 0 the first of the best."""
    if temperature == 0:
        return torch.zeros_like(logits).scatter(axis, logits.argmax(axis, keepdim=True), 1.0)
    weights = ((logits.double() - logits.double().amax(axis, keepdim=True)) / temperature).exp()
    return (weights / weights.sum(axis, keepdim=True)).float()


@exercise("6.3", "The entropy of what is left", level="core", minutes=10)
def _(attempt):
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
                "is there a 0 · ln 0? It counts as 0, but the computer says nan": (
                    expected * math.nan
                ),
                "is it in bits? Asked for are nats, by the natural logarithm": (
                    expected / math.log(2)
                ),
                "is the minus missing?": -expected,
                "is it a mean over the tokens? Entropy is a sum": expected / logits.shape[-1],
                "is it the exponential of the entropy? Asked for is the entropy": expected.exp(),
                "does the sum run over everything? Each row has its own entropy": expected.sum(),
            },
        )
    return "k equal tokens have ln k nats, and what was dropped adds nothing"


@exercise("6.4", "Top-p by hand", level="core", minutes=15)
def _(attempt):
    """Against all sets of the most probable tokens, from the smallest up."""
    half = torch.tensor([0.1, 0.5, 0.25, 0.15])
    drawn = (2 * torch.randn(17, generator=generator(64))).softmax(-1)
    many = torch.full((100,), 0.01) + torch.linspace(0, 1e-4, 100)
    cases = [
        (half, 0.6),
        (half, 0.75),
        (half, 0.5),
        (half, 1e-9),
        (half, 1.0),
        (drawn, 0.35),
        (drawn, 0.9),
    ]
    for probabilities, p in [*cases, (many / many.sum(), 0.755)]:
        falling, order = probabilities.sort(descending=True)
        sums = falling.double().cumsum(0)
        from_below = falling.flip(0).double().cumsum(0)
        size = next((n for n in range(1, len(sums) + 1) if sums[n - 1] >= p - 1e-9), len(sums))
        least = int((from_below < p - 1e-9).sum()) + 1
        prefix = torch.arange(len(order)) < size
        mistakes = {
            "may nothing stay, if p is small? One token always does": staying(order, 0),
            "is the token dropped with which the sum crosses p? It stays": staying(order, size - 1),
            "is one more kept? A set whose mass equals p is enough": staying(order, size + 1),
            "are the least probable taken first?": staying(order.flip(0), least),
            "is the answer in the order of the sorted tokens? Asked for is the alphabet's": prefix,
            "are only the 50 best looked at?": staying(order, min(size, 50)),
            "does `stays[order]` put them back? It reads; write to `out[order]`": prefix[order],
            "are those the tokens' ids? Asked for is a truth value for each": order[:size],
            "does it keep what comes when p is reached, not what leads there?": (
                ~staying(order, size - 1)
            ),
        }
        given = f"probabilities = {show(probabilities)}, p = {p:g}"
        agree(attempt(probabilities.clone(), p), staying(order, size), given, mistakes)
    return "the smallest set whose mass reaches p, with the token that crosses it, and never empty"


def staying(order, size):
    return torch.zeros(len(order), dtype=torch.bool).scatter(0, order[:size], True)


@exercise("6.5", "A rule from its description: min-p", level="core", minutes=15)
def _(attempt):
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
                "is one best taken for all rows? Each has its own": (
                    masked(logits, shares < share * shares.max())
                ),
                "is a token with exactly that share dropped? It stays": masked(
                    logits, shares <= share * best + 1e-7
                ),
                "is share taken for a probability? It is a share of the best one's": (
                    masked(logits, shares < share)
                ),
                "are logits compared? Asked for are probabilities": masked(
                    logits, logits < share * logits.amax(-1, keepdim=True)
                ),
                "is a dropped logit 0? It must be -inf": logits.masked_fill(~stays, 0),
                "is a dropped logit a very negative number? It must be -inf": (
                    logits.masked_fill(~stays, -1e9)
                ),
                "are those probabilities? Asked for are logits": shares.masked_fill(~stays, 0),
                "are those probabilities beside -inf? Asked for are logits": masked(shares, ~stays),
            },
        )
    return "the bar rises and falls with the best token"


def masked(logits, dropped):
    return logits.masked_fill(dropped, NO)


@exercise("6.6", "A penalty for repetition", level="stretch", minutes=30)
def _(attempt):
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
            "is a negative logit divided? It comes closer to 0, and the token gets likelier": (
                torch.where(times > 0, logits / penalty, logits)
            ),
            "is a token penalised for each time it was seen? Once is enough": (
                penalised(logits, times, penalty)
            ),
            "is the penalty subtracted? It is a factor": logits - penalty * (times > 0),
            "are the others penalised? It should be the seen ones": (
                penalised(logits, (times == 0).int(), penalty)
            ),
        }
        agree(got, penalised(logits, (times > 0).int(), penalty), given, perhaps)
        in_place = {"is the input changed in place?": got}
        agree(after, logits, "logits, looked at after the call", in_place)
    return "what was seen becomes less likely, whatever the sign of its logit"


def penalised(logits, times, penalty):
    """Each logit after so many penalties."""
    rows = zip(logits.tolist(), times.tolist(), strict=True)
    return torch.tensor([x / penalty**n if x > 0 else x * penalty**n for x, n in rows])


@exercise("6.7", "Typical sampling", level="stretch", minutes=120)
def _(attempt):
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
            "is that top-p? Sort by distance from the entropy": (
                nearest(losses, probabilities, mass)
            ),
            "is the token dropped that reaches the mass? It stays": (
                nearest(by, probabilities, mass, less=1)
            ),
            "is one of entropy and loss in bits? Both are in nats": (
                nearest(bits, probabilities, mass)
            ),
            "does each token's loss count alike? Entropy weighs it by the probability": (
                nearest(by_mean, probabilities, mass)
            ),
            "are the farthest taken first?": nearest([-x for x in by], probabilities, mass),
        }
        right = nearest(by, probabilities, mass)
        given = f"probabilities = {show(probabilities)}, mass = {mass:g}"
        agree(attempt(probabilities.clone(), mass), right, given, mistakes)
    return "the tokens whose loss is about the entropy, which is what the model expects"


def nearest(distances, probabilities, mass, less=0):
    """The tokens that are needed, nearest first, until their mass reaches this. -> (V,) bool"""
    order = sorted(range(len(distances)), key=distances.__getitem__)
    sums = probabilities[order].double().cumsum(0)
    size = int((sums < mass).sum()) + 1
    return staying(torch.tensor(order), size - less)
