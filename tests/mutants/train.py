"""Lesson 4: what goes wrong with means, stopping, schedules, decay, parts, measuring and AdamW."""

import itertools
import math

import torch
from torch.nn import functional as F

from tests.mutants import Case


def mean_of(weights=lambda counts: counts, first=lambda loss: loss, last=math.exp):
    def attempt(losses, counts):
        w = weights(counts)
        return last(sum(n * first(loss) for loss, n in zip(losses, w, strict=True)) / sum(w))

    return attempt


def by_characters(losses, counts):
    """Each character's loss, one by one, as a tensor."""
    return (
        torch.tensor(losses, dtype=torch.float64)
        .repeat_interleave(torch.tensor(counts))
        .mean()
        .exp()
    )


def waits(
    better=lambda new, best: new < best, extra=0, kept=lambda stop, best, losses: best, first=1
):
    def attempt(losses, patience):
        best, waited = 0, 0
        for i in range(len(losses)):
            if i and not better(losses[i], losses[best]):
                waited += 1
            elif i:
                best, waited = i, 0
            if waited >= patience + extra:
                break
        return i + first, kept(i, best, losses) + first

    return attempt


def against_the_one_before(losses, patience):
    rises = [i for i, (a, b) in enumerate(itertools.pairwise(losses), start=2) if b >= a]
    stop = rises[patience - 1] if len(rises) >= patience else len(losses)
    return stop, min(range(stop), key=losses.__getitem__) + 1


def by_slices(losses, patience):
    """Looks at each beginning of the run anew."""
    for end in range(1, len(losses) + 1):
        best = min(range(end), key=losses.__getitem__) + 1
        if end - best == patience:
            break
    return [end, best]


def between(floor, share):
    return floor + (1 - floor) * share


def half_wave(along):
    return (1 + math.cos(math.pi * along)) / 2


def wave(
    rising=lambda step, warmup: step < warmup,
    first=1,
    begin=lambda warmup: warmup,
    end=lambda steps: steps - 1,
    fit=between,
    shape=half_wave,
):
    def attempt(step, steps, warmup_steps, floor):
        if rising(step, warmup_steps):
            return (step + first) / warmup_steps
        start = begin(warmup_steps)
        return fit(floor, shape((step - start) / (end(steps) - start)))

    return attempt


def by_half_angles(step, steps, warmup_steps, floor):
    """cos² of half the angle."""
    along = torch.tensor((step - warmup_steps) / (steps - 1 - warmup_steps), dtype=torch.float64)
    falling = floor + (1 - floor) * (torch.pi * along / 2).cos().square()
    return torch.tensor((step + 1) / warmup_steps) if step < warmup_steps else falling


def named(rule):
    return lambda model: {name for name, p in model.named_parameters() if rule(name, p)}


def loss_of(model, tokens, targets, reduction="mean"):
    return F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten(), reduction=reduction)


def parts(
    share=lambda n, lines, k: n / lines, reduction="mean", empty=False, go_back=True, said=None
):
    """Reads parts one by one, right unless told otherwise."""

    def attempt(model, parts):
        lines = sum(len(tokens) for tokens, _ in parts)
        total = 0.0
        for tokens, targets in parts:
            if empty:
                model.zero_grad()
            loss = loss_of(model, tokens, targets, reduction) * share(
                len(tokens), lines, len(parts)
            )
            if go_back:
                loss.backward()
            total += loss.item()
        return said(total) if said else total

    return attempt


def last_loss(model, batches):
    parts()(model, batches)
    return F.cross_entropy(model(batches[-1][0]).flatten(0, 1), batches[-1][1].flatten()).item()


def steps_too(model, batches):
    loss = parts()(model, batches)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    return loss


def joined(model, parts):
    """Has the memory to put them together after all."""
    loss = loss_of(model, *(torch.cat(side) for side in zip(*parts, strict=True)))
    loss.backward()
    return loss


def measured(
    before=lambda model: model.eval(), after=lambda model, mode: model.train(mode), record=False
):
    def attempt(model, tokens, targets):
        mode = model.training
        before(model)
        with torch.set_grad_enabled(record):
            loss = loss_of(model, tokens, targets)
        after(model, mode)
        return loss.item()

    return attempt


@torch.inference_mode()
def part_by_part(model, tokens, targets):
    """Remembers the mode of every part."""
    modes = {part: part.training for part in model.modules()}
    model.eval()
    loss = loss_of(model, tokens, targets)
    for part, mode in modes.items():
        part.training = mode
    return loss


def adam(
    corrected=True, eps_inside=False, root=True, decay="apart", swap=False, kept=False, start=1
):
    """AdamW, right unless told otherwise."""

    def attempt(weight, gradients, rate, betas, eps, weight_decay):
        a, b = betas[::-1] if swap else betas
        m, s = torch.zeros_like(weight), torch.zeros_like(weight)
        for t, g in enumerate(gradients, start=start):
            g = g + weight_decay * weight if decay == "L2" else g
            m, s = a * m + (1 - a) * g, b * s + (1 - b) * g**2
            mean, square = (m / (1 - a**t), s / (1 - b**t)) if corrected else (m, s)
            m, s = (mean, square) if kept else (m, s)
            under = (
                (square + eps).sqrt() if eps_inside else (square.sqrt() if root else square) + eps
            )
            loss = {"apart": rate * weight_decay, "whole": weight_decay}.get(decay, 0)
            weight = weight * (1 - loss) - rate * mean / under
        return weight

    return attempt


def by_sums(weight, gradients, rate, betas, eps, weight_decay):
    """No running means: each step sums over all gradients so far."""
    a, b = betas
    g = torch.stack(gradients)
    for t in range(1, len(g) + 1):
        age = torch.arange(t - 1, -1, -1, dtype=weight.dtype)[:, None, None]
        mean = (a**age * g[:t]).sum(0) / (a**age).sum(0)
        square = (b**age * g[:t] ** 2).sum(0) / (b**age).sum(0)
        weight = weight * (1 - rate * weight_decay) - rate * mean / (square.sqrt() + eps)
    return weight


EXERCISES = {
    "4.1": Case(
        mutants=[
            (mean_of(weights=lambda counts: [1] * len(counts)), "as much as a long one"),
            (lambda losses, counts: math.exp(sum(losses) / sum(counts)), "loss a mean"),
            (mean_of(last=lambda mean: mean), "where its exponential was asked for"),
            (mean_of(last=lambda mean: 2**mean), "base"),
            (mean_of(first=math.exp, last=lambda mean: mean), "mean of perplexities"),
            (
                lambda losses, counts: math.exp(
                    sum(a * b for a, b in zip(losses, counts, strict=True))
                ),
                "never divided",
            ),
        ],
        unusual=[by_characters],
    ),
    "4.2": Case(
        mutants=[
            (waits(better=lambda new, best: new <= best), "an equal loss"),
            (waits(extra=1), "one evaluation too many"),
            (waits(first=0), "counted from 0"),
            (waits(kept=lambda stop, best, losses: stop), "is the last evaluation kept"),
            (
                waits(kept=lambda stop, best, losses: losses.index(min(losses))),
                "after it has stopped",
            ),
            (against_the_one_before, "with the evaluation before"),
            (waits(extra=99), "never stop"),
            (
                lambda losses, patience: (
                    waits()(losses, patience)[0],
                    min(losses[: waits()(losses, patience)[0]]),
                ),
                "best loss",
            ),
        ],
        unusual=[waits(), by_slices],
    ),
    "4.3": Case(
        mutants=[
            (wave(first=0), "begin at 0"),
            (wave(end=lambda steps: steps), "one step too late"),
            (wave(rising=lambda step, warmup: step <= warmup), "one step too long"),
            (wave(begin=lambda warmup: 0), "where the warm-up ends"),
            (wave(fit=lambda floor, w: floor + w), "on top"),
            (wave(fit=max), "cut off"),
            (wave(fit=lambda floor, w: w), "floor missing, or"),
            (wave(shape=lambda x: 1 - x), "straight line"),
        ],
        unusual=[wave(), by_half_angles],
    ),
    "4.4": Case(
        mutants=[
            (named(lambda name, p: True), "gains and biases"),
            (named(lambda name, p: "weight" in name), "gain is called weight"),
            (
                named(
                    lambda name, p: p.ndim == 2 and "embedding" not in name and name != "0.weight"
                ),
                "embedding spared",
            ),
            (named(lambda name, p: p.ndim == 2 and "blocks" in name), "only the blocks"),
            (named(lambda name, p: p.ndim < 2), "the ones to spare"),
            (
                lambda model: [p for p in model.parameters() if p.ndim == 2],
                "a set or list of names",
            ),
            (lambda model: dict(model.named_parameters()), "a set or list of names"),
        ],
        unusual=[
            lambda model: sorted(name for name, p in model.named_parameters() if len(p.shape) > 1)
        ],
    ),
    "4.5": Case(
        mutants=[
            (parts(share=lambda n, lines, k: 1), "means added"),
            (parts(share=lambda n, lines, k: 1 / k), "all parts count alike"),
            (parts(share=lambda n, lines, k: 1, reduction="sum"), "never divided"),
            (parts(empty=True), "emptied between"),
            (parts(empty=True, share=lambda n, lines, k: 1), "emptied between"),
            (parts(go_back=False), "`backward` missing"),
            (parts(said=lambda total: total / 2), "the loss"),
            (last_loss, "last part's loss"),
            (steps_too, "was there a step"),
        ],
        unusual=[parts(), joined, parts(share=lambda n, lines, k: 1 / lines / 5, reduction="sum")],
    ),
    "4.6": Case(
        mutants=[
            (measured(before=lambda model: None), "dropout still on"),
            (measured(after=lambda model, mode: None), "mode put back"),
            (measured(after=lambda model, mode: model.train()), "mode put back"),
            (
                measured(after=lambda model, mode: setattr(model, "training", mode)),
                "parts are in both modes",
            ),
            (measured(record=True), "no_grad missing"),
        ],
        unusual=[measured(), part_by_part],
    ),
    "4.7": Case(
        mutants=[
            (adam(corrected=False), "uncorrected"),
            (adam(eps_inside=True), "eps under the root"),
            (adam(root=False), "root missing"),
            (adam(decay="L2"), "added to the gradient"),
            (adam(decay="none"), "decay missing"),
            (adam(swap=True), "betas swapped"),
            (adam(kept=True), "kept for the next step"),
            (adam(decay="whole"), "shrink with the rate"),
            (adam(start=0), "t begin at 0"),
        ],
        unusual=[adam(), by_sums],
    ),
}
