"""Checks of lesson 4: means of means, stopping, a schedule, decay, parts, measuring, AdamW."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from course_utils.checks import Wrong, agree, drawn_from, exercise, generator
from course_utils.checks.values import number_of
from course_utils.checks.witness import (
    LAYERS,
    gradients,
    made_of,
    measured,
    names_chosen,
    observed,
    read_in_parts,
    small_gpt,
    weights,
)


@exercise("4.1", "A mean of means", level="warm-up", minutes=5)
def _(attempt):
    """Pieces of equal size, then a short last one."""
    drawn = [round(drawn_from(1000, 4000, 40 + i) / 1000, 3) for i in range(4)]
    cases = (
        ([2.0, 1.0], [5, 5]),
        ([2.0, 1.5, 4.0], [128, 128, 7]),
        ([1.7], [3]),
        (drawn, [64, 64, 64, drawn_from(1, 63, 44)]),
    )
    for losses, counts in cases:
        total = sum(counts)
        sums = sum(loss * n for loss, n in zip(losses, counts, strict=True))
        mean = sums / total
        flat = sum(losses) / len(losses)
        mistakes = {
            "does a short piece count as much as a long one?": math.exp(flat),
            "is a piece's loss a mean? It counts for each of its characters": (
                math.exp(sum(losses) / total)
            ),
            "is it the loss, where its exponential was asked for?": mean,
            "is 2 the base? The losses are in nats": 2**mean,
            "is it a mean of perplexities? The mean comes first, then the exponential": (
                sum(math.exp(loss) * n for loss, n in zip(losses, counts, strict=True)) / total
            ),
            "is it the sum, never divided by the characters?": (
                math.exp(sums) if sums < 700 else math.inf
            ),
        }
        agree(
            attempt(list(losses), list(counts)),
            math.exp(mean),
            f"losses {losses} of {counts} characters",
            mistakes,
        )
    return "every character counts once, wherever it stood"


def stopped(losses, patience, better=lambda new, best: new < best):
    """Which evaluation is the last and which the best, counted from 1."""
    best, kept = math.inf, 0
    for i, loss in enumerate(losses, start=1):
        if better(loss, best):
            best, kept = loss, i
        if i - kept == patience:
            return i, kept
    return len(losses), kept


@exercise("4.2", "When does it stop?", level="core", minutes=10)
def _(attempt):
    """Curves with ties, with a late best, with none that stops."""
    curves = (
        [3.0, 2.0, 2.5, 2.4, 2.3],
        [3.0, 2.0, 2.0, 2.0, 1.0],
        [3.0, 2.9, 2.8],
        [1.0, 2.0, 3.0, 0.5],
        [drawn_from(10, 25, 450 + i) / 10 for i in range(30)],
    )
    for losses, patience in [(curve, patience) for curve in curves for patience in (1, 2, 3)]:
        right = stopped(losses, patience)
        falls = [i for i in range(1, len(losses)) if losses[i] >= losses[i - 1]]
        mistakes = {
            "is an equal loss taken for a better one?": stopped(
                losses, patience, lambda new, best: new <= best
            ),
            "does it compare with the evaluation before, where the best so far counts?": (
                falls[patience - 1] + 1 if len(falls) >= patience else len(losses),
                right[1],
            ),
            "does it wait one evaluation too many?": stopped(losses, patience + 1),
            "is it the best loss, where its number is asked for?": (right[0], losses[right[1] - 1]),
            "are evaluations counted from 0?": (right[0] - 1, right[1] - 1),
            "is the last evaluation kept, where the best was asked for?": (right[0], right[0]),
            "does it look at evaluations after it has stopped?": (
                right[0],
                losses.index(min(losses)) + 1,
            ),
            "does it never stop?": (len(losses), losses.index(min(losses)) + 1),
        }
        got = attempt(list(losses), patience)
        agree(
            tuple(got) if isinstance(got, list) else got,
            right,
            f"losses {losses}, patience {patience}",
            mistakes,
        )
    return "ties are no progress, and what comes after the stop is never known"


@exercise("4.3", "A cosine schedule", level="core", minutes=15)
def _(attempt):
    """Against the formula, at every step."""
    drawn = (drawn_from(20, 90, 46), drawn_from(2, 15, 47), drawn_from(1, 30, 48) / 100)
    for steps, warmup, floor in ((11, 4, 0.1), (7, 0, 0.0), (13, 1, 0.25), drawn):

        def share(step, first=warmup, last=steps - 1, floor=floor):
            return (
                floor + (1 - floor) * (1 + math.cos(math.pi * (step - first) / (last - first))) / 2
            )

        for step in range(steps):
            right = (step + 1) / warmup if step < warmup else share(step)
            mistakes = {
                "does the warm-up begin at 0? A first step at rate 0 learns nothing": (
                    step / max(1, warmup)
                )
            }
            if step >= warmup:
                no_floor = share(step, floor=0.0)
                along = (step - warmup) / (steps - 1 - warmup)
                mistakes = {
                    "does the warm-up last one step too long? Its steps are 0 to warm-up - 1": (
                        1 + 1 / max(1, warmup)
                    ),
                    "does the fall end one step too late? The last step is steps - 1": (
                        share(step, last=steps)
                    ),
                    "does the wave begin at step 0, not where the warm-up ends?": (
                        share(step, first=0)
                    ),
                    "does the floor come on top? The fall goes from 1": floor + no_floor,
                    "is the floor missing, or the wave cut off at it? It should end there": (
                        no_floor
                    ),
                    "is it a straight line?": 1 - (1 - floor) * along,
                }
            given = f"step {step} of {steps}, warm-up {warmup}, floor {floor}"
            agree(attempt(step, steps, warmup, floor), right, given, mistakes)
    return "up in a line, down in half a wave, and never below the floor"


@exercise("4.4", "What decays?", level="core", minutes=10)
def _(attempt):
    """The course's GPT, and models with biases and gains that a rule by name gets wrong."""
    names = list(LAYERS)
    cases = {
        "the course's GPT": 2,
        "a model with biases": ["Embedding", "LayerNorm", "Linear", "BatchNorm1d", "Linear"],
        "a deeper GPT": drawn_from(3, 9, 41),
        "another model with biases": [names[drawn_from(0, 3, 420 + i)] for i in range(20)],
    }
    for given, layers in cases.items():
        named = dict(made_of(layers).named_parameters())
        right = sorted(name for name, p in named.items() if p.ndim == 2)
        mistakes = {
            "do gains and biases decay as well?": sorted(named),
            "does every `weight` decay? A norm's gain is called weight too": (
                [n for n in named if "weight" in n]
            ),
            "is the embedding spared? It is a matrix": (
                [n for n in right if "embedding" not in n and n != "0.weight"]
            ),
            "are only the blocks looked at?": [n for n in right if "blocks" in n],
            "are these the ones to spare?": sorted(set(named) - set(right)),
        }
        got = observed(names_chosen, attempt, layers)
        several = isinstance(got, set | list | tuple)
        if not several or not all(isinstance(name, str) for name in got):
            raise Wrong(given, "a set or list of names", "a collection of something else")
        apart = {question: sorted(set(names) ^ set(right)) for question, names in mistakes.items()}
        missing = sorted(set(got) ^ set(right))
        agree(missing, [], f"{given}: names that are missing or too many", apart)
    return "matrices decay; gains and biases, which have one axis, do not"


def loss_of(model, tokens, targets, reduction="mean"):
    return F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten(), reduction=reduction)


@exercise("4.5", "A batch in parts", level="core", minutes=15)
def _(attempt):
    """The gradients against those of the whole batch, read at once."""
    for cuts in ((2, 2), (4, 1), (3, 1, 2)):
        tokens = torch.randint(11, (sum(cuts), 6), generator=generator(sum(cuts)))
        parts = list(zip(tokens[:, :-1].split(cuts), tokens[:, 1:].split(cuts), strict=True))
        given = f"parts of {', '.join(map(str, cuts))} lines"
        copies = [(x.clone(), y.clone()) for x, y in parts]
        got, found, moved = observed(read_in_parts, attempt, 1, copies)
        agree(
            not torch.equal(moved, weights(small_gpt(1))),
            False,
            f"{given}, whether the weights have moved",
            {"was there a step? None is asked for": True},
        )
        right = gradients_of([c / sum(cuts) for c in cuts], parts)
        agree(found, right, f"{given}, the gradients", wrong_gradients(cuts, parts))
        whole, *each = (
            loss_of(small_gpt(1), *batch).item()
            for batch in ((tokens[:, :-1], tokens[:, 1:]), *parts)
        )
        mistakes = {
            "is it the last part's loss alone?": each[-1],
            "are the parts' losses added?": sum(each),
        }
        agree(got, whole, f"{given}, the loss", mistakes)
    return "the memory of one part, the gradient of the whole"


def gradients_of(shares, parts):
    """The gradients of a sum of the parts' losses, each times its share."""
    model = small_gpt(1)
    losses = [loss_of(model, *part) for part in parts]
    sum(share * loss for share, loss in zip(shares, losses, strict=True)).backward()
    return gradients(model)


def wrong_gradients(cuts, parts):
    """Question -> the gradients that this mistake would give."""
    n = len(cuts)
    last_alone = [0] * (n - 1)
    shares = {
        "are the parts' means added, where their mean is asked for?": [1] * n,
        "do all parts count alike, however many lines they hold?": [1 / n] * n,
        "are sums added, never divided?": [5 * c for c in cuts],
        "is the gradient emptied between the parts?": [*last_alone, cuts[-1] / sum(cuts)],
        "is the gradient emptied between the parts? And the last one counts whole": [
            *last_alone,
            1,
        ],
        "is `backward` missing?": [0] * n,
    }
    return {question: gradients_of(share, parts) for question, share in shares.items()}


@exercise(
    "4.6",
    "Measure without a trace",
    level="core",
    minutes=10,
    own_word="that nothing is recorded",
)
def _(attempt):
    """The loss without dropout; the model found in the mode it was left in."""
    ids = torch.randint(11, (3, 6), generator=generator(9))
    tokens, targets = ids[:, :-1], ids[:, 1:]
    words = {True: "a model in training", False: "a model in evaluation"}
    right = loss_of(small_gpt(2, dropout=0.5).eval(), tokens, targets).item()
    for training, given in words.items():
        got, modes, recorded = observed(measured, attempt, 2, training, tokens, targets)
        got = number_of(got)
        noisy = isinstance(got, float) and abs(got - right) > 1e-5
        agree(got, right, given, {"is dropout still on?": got} if noisy else {})
        if set(modes) != {training}:
            one_mode = len(set(modes)) == 1
            left = words[modes[0]] if one_mode else "a model whose parts are in both modes"
            question = "is the mode put back to what it was, by `train(mode)`?"
            raise Wrong(given, words[training], left, question)
        if recorded:
            found = "a pass that recorded gradients"
            raise Wrong(given, "a pass that records nothing", found, "is no_grad missing?")
    return "dropout off, no graph, and nobody notices that you were there"


@exercise("4.7", "AdamW by hand", level="stretch", minutes=60)
def _(attempt):
    """Against PyTorch's, after one step and after several."""
    start = torch.randn(3, 2, generator=generator(10), dtype=torch.float64)
    all_gradients = torch.randn(5, 3, 2, generator=generator(11), dtype=torch.float64) * 0.01
    rate, betas, eps, decay = 0.1, (0.9, 0.95), 1e-3, 0.2
    for n in (1, 2, 5):
        given = all_gradients[:n]

        def run(kind=torch.optim.AdamW, given=given, **changes):
            weight = nn.Parameter(start.clone())
            optimizer = kind(
                [weight],
                **{"lr": rate, "betas": betas, "eps": eps, "weight_decay": decay, **changes},
            )
            for gradient in given:
                weight.grad = gradient.clone()
                optimizer.step()
            return weight.detach()

        def by_hand(
            corrected=True, inside=False, root=True, kept=False, loss=rate * decay, given=given
        ):
            w, m, s = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
            for t, g in enumerate(given, start=1):
                m, s = m * betas[0] + g * (1 - betas[0]), s * betas[1] + g * g * (1 - betas[1])
                a, b = (m / (1 - betas[0] ** t), s / (1 - betas[1] ** t)) if corrected else (m, s)
                m, s = (a, b) if kept else (m, s)
                under = (b + eps).sqrt() if inside else (b.sqrt() if root else b) + eps
                w = w * (1 - loss) - rate * a / under
            return w

        mistakes = {
            "is the decay added to the gradient? That is Adam with L2, not AdamW": run(
                torch.optim.Adam
            ),
            "is the decay missing?": run(weight_decay=0.0),
            "are the means uncorrected? They begin at 0": by_hand(corrected=False),
            "is eps under the root?": by_hand(inside=True),
            "is the root missing?": by_hand(root=False),
            "are the two betas swapped?": run(betas=betas[::-1]),
            "is the corrected mean kept for the next step? Correct a copy": by_hand(kept=True),
            "does the decay not shrink with the rate? It is rate × weight_decay": by_hand(
                loss=decay
            ),
            "does t begin at 0? The correction divides by 1 - β⁰ = 0 then": start * math.nan,
        }
        got = attempt(start.clone(), list(given.clone()), rate, betas, eps, decay)
        agree(got, run(), f"{n} gradients of shape (3, 2)", mistakes, tolerance=1e-8)
    return "each weight its own step, and the decay beside it, not in it"
