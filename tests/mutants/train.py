"""Lesson 4: what goes wrong with bugs and curves, the loop, rates, heads, clipping and AdamW."""

import contextlib
import math

import torch
from torch import nn
from torch.nn import functional as F

from course_utils import checks
from tests.mutants import Case, late


def named(**instead):
    """The four names by the look of the curves, one of them exchanged for another."""

    def make():
        found = [name_of(*curve.values()) for curve in checks.sizes("4.1").values()]
        return tuple(instead.get(name.replace(" ", "_"), name) for name in found)

    return late(make)


def name_of(training, held_out):
    if held_out[-1] < 0.3:
        return "targets not shifted"
    if held_out[-1] > training[-1] + 1:
        return "one batch again and again"
    return "rate too high" if max(held_out[:5]) > 3 else "no zero_grad"


def loss_of(model, rows):
    return F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())


def backwards(model, rows):
    return F.cross_entropy(model(rows[:, 1:]).flatten(0, 1), rows[:, :-1].flatten())


def unshifted(model, rows):
    return F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, :-1].flatten())


def learned(model, optimizer, rows, parts, loss_of, share, empty):
    """Adds up the gradients of a batch, part by part. -> the parts' losses"""
    each = []
    for part in rows.chunk(parts):
        if "part" in empty:
            optimizer.zero_grad()
        loss = loss_of(model, part) * share(part, rows, parts)
        loss.backward()
        each.append(loss.item())
    return each


@torch.no_grad()
def measured(model, held_out, loss_of, before, after):
    before(model)
    loss = loss_of(model, held_out).item()
    after(model)
    return loss


def told_before(each, model, rows):
    return sum(each)


def last_whole(each, model, rows):
    return each[-1] * (len(rows) if len(each) > 1 else 1)


def loop(
    loss_of=loss_of,
    share=lambda part, rows, parts: len(part) / len(rows),
    empty=("before",),
    rate=lambda rates, step: rates[step],
    clip=True,
    start=lambda model: model.train(),
    before=lambda model: model.eval(),
    after=lambda model: model.train(),
    early=False,
    told=told_before,
):
    """A training loop, right unless told otherwise."""

    def attempt(model, batches, held_out, rates, parts, clip_norm):
        start(model)
        optimizer = torch.optim.AdamW(model.parameters(), lr=rates[0])
        losses, held = [], []
        for step, rows in enumerate(batches):
            measure = (model, held_out, loss_of, before, after)
            if early:
                held.append(measured(*measure))
            if "before" in empty:
                optimizer.zero_grad()
            each = learned(model, optimizer, rows, parts, loss_of, share, empty)
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
            if "step" in empty:
                optimizer.zero_grad()
            with contextlib.suppress(IndexError):
                optimizer.param_groups[0]["lr"] = rate(rates, step)
            optimizer.step()
            losses.append(told(each, model, rows))
            if not early:
                held.append(measured(*measure))
        return losses, held

    return attempt


def whole_batches(model, batches, held_out, rates, parts, clip_norm):
    """Has the memory to read each batch at once, and gives tensors; clips and steps by hand."""
    first, second = ([torch.zeros_like(p) for p in model.parameters()] for _ in range(2))
    losses, held = [], []
    for t, (rows, rate) in enumerate(zip(batches, rates, strict=True), start=1):
        loss = loss_of(model.train(), rows)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        length = torch.cat([g.flatten() for g in gradients]).norm()
        with torch.no_grad():
            for p, g, m, v in zip(model.parameters(), gradients, first, second, strict=True):
                g = g * min(1.0, clip_norm / length)
                m.mul_(0.9).add_(g, alpha=0.1)
                v.mul_(0.999).add_(g * g, alpha=0.001)
                p.mul_(1 - rate * 0.01)
                p.sub_(rate * m / (1 - 0.9**t) / ((v / (1 - 0.999**t)).sqrt() + 1e-8))
            losses.append(loss)
            held.append(loss_of(model.eval(), held_out))
    return losses, held


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


def coarse_then_fine(chosen=min, span=0.5, first=(0.01, 0.1, 1.0)):
    """Three trials a factor of ten apart, then one on each side of the best."""

    def attempt(trial):
        losses = {rate: trial(rate) for rate in first}
        middle = min(losses, key=losses.get)
        for rate in (middle / 10**span, middle * 10**span):
            losses[rate] = trial(rate)
        return chosen(losses, key=losses.get)

    return attempt


def by_golden_section(trial):
    """Shrinks the interval by the golden ratio; its last middle is a rate that was never tried."""
    ratio = (math.sqrt(5) - 1) / 2
    low, high = -3.0, 1.0
    inner = [high - ratio * (high - low), low + ratio * (high - low)]
    losses = [trial(10**x) for x in inner]
    for _ in range(3):
        if losses[0] < losses[1]:
            high, inner, losses = inner[1], [0, inner[0]], [0, losses[0]]
            inner[0] = high - ratio * (high - low)
            losses[0] = trial(10 ** inner[0])
        else:
            low, inner, losses = inner[0], [inner[1], 0], [losses[1], 0]
            inner[1] = low + ratio * (high - low)
            losses[1] = trial(10 ** inner[1])
    return torch.tensor(10 ** inner[losses.index(min(losses))], dtype=torch.float64)


def from_list(rates, chosen=min):
    def attempt(trial):
        losses = {rate: trial(rate) for rate in rates}
        return chosen(losses, key=losses.get)

    return attempt


def the_loss(trial):
    return min(trial(rate) for rate in (0.01, 0.03, 0.1, 0.3, 1.0))


def the_last(trial):
    for rate in (0.1, 0.3, 1.0, 3.0, 10.0):
        trial(rate)
    return rate


def quiet(value, project=lambda out, W_o: out @ W_o, cut=None, which=lambda head, H: head):
    """One head's output replaced by value(that output), right if that is its mean."""

    def attempt(heads, W_o, head):
        head = which(head, heads.shape[1])
        heads[:, head] = value(heads[:, head])
        B, H, T, D = heads.shape
        side_by_side = heads if cut else heads.transpose(1, 2)
        return project(side_by_side.reshape(B, T, H * D), W_o)

    return attempt


def mean_of(one):
    return one.mean((0, 1))


def all_quiet(heads, W_o, head):
    return quiet(mean_of)(heads.mean((0, 2), keepdim=True).expand_as(heads).clone(), W_o, head)


def others_quiet(heads, W_o, head):
    kept = heads[:, head].clone()
    heads = heads.mean((0, 2), keepdim=True).expand_as(heads).clone()
    return quiet(lambda _: kept)(heads, W_o, head)


def mean_of_heads(heads, W_o, head):
    mean = heads.mean((0, 1, 2))
    return quiet(lambda _: mean)(heads, W_o, head)


def by_rows_of_W_o(heads, W_o, head):
    """Head by head: what each adds by its own rows of W_o."""
    D = heads.shape[-1]
    written = 0
    for h in range(heads.shape[1]):
        one = heads[:, h]
        one = one.flatten(0, 1).mean(0).expand_as(one) if h == head else one
        written = written + one @ W_o[h * D : (h + 1) * D]
    return written


def length_of(gradients):
    return math.sqrt(sum(g.square().sum().item() for g in gradients))


def clipped(length=length_of, share=lambda limit, n: min(1.0, limit / max(n, 1e-9))):
    return lambda gradients, limit: [g * share(limit, length(gradients)) for g in gradients]


def each_alone(gradients, limit):
    return [clipped()([g], limit)[0] for g in gradients]


def divided(gradients, limit):
    length = torch.cat([g.flatten() for g in gradients]).norm()
    return [g / length * length.clamp(max=limit) for g in gradients]


def by_torch(gradients, limit):
    parameters = [nn.Parameter(torch.zeros_like(g)) for g in gradients]
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = g
    nn.utils.clip_grad_norm_(parameters, limit)
    return tuple(p.grad for p in parameters)


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
            (named(targets_not_shifted="rate too low"), "almost every character"),
            (named(one_batch_again_and_again="targets not shifted"), "held-out curve"),
            (named(rate_too_high="no zero_grad"), "ever settle"),
            (named(no_zero_grad="rate too high"), "how does it begin"),
            (named(no_zero_grad="no_zero_grad"), "one of these"),
            (("no zero_grad", "rate too high"), "four names"),
            ("no zero_grad", "four names"),
        ],
        unusual=[named(), late(lambda: list(named()()))],
    ),
    "4.2": Case(
        mutants=[
            (loop(empty=()), "zero_grad missing"),
            (loop(empty=("before", "part")), "between the parts"),
            (loop(empty=("before", "step")), "emptied before the step"),
            (loop(share=lambda part, rows, parts: 1), "losses added"),
            (loop(share=lambda part, rows, parts: 1 / parts), "count alike"),
            (loop(told=last_whole), "last part's loss"),
            (loop(told=lambda each, model, rows: each[-1]), "last part's share"),
            (loop(told=lambda each, model, rows: loss_of(model, rows).item()), "after the step"),
            (loop(loss_of=unshifted), "not shifted"),
            (loop(loss_of=backwards), "backwards"),
            (loop(rate=lambda rates, step: rates[max(step - 1, 0)]), "one step late"),
            (
                loop(rate=lambda rates, step: rates[step - 1] if step else 1e-3),
                "set after the step",
            ),
            (loop(rate=lambda rates, step: rates[step + 1]), "one step early"),
            (loop(rate=lambda rates, step: rates[0]), "stay at that of the first"),
            (loop(rate=lambda rates, step: 1e-3), "never get the rates"),
            (loop(clip=False), "clipped after the step"),
            (loop(before=lambda model: None), "dropout on"),
            (loop(after=lambda model: None), "after it has measured"),
            (loop(start=lambda model: None), "missing at the start"),
            (
                loop(start=lambda model: None, after=lambda model: None),
                "evaluation mode all the time",
            ),
            (loop(early=True), "measured before the step"),
            (lambda *given: loop()(*given)[0], "expected ("),
        ],
        unusual=[loop(), whole_batches],
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
            (lambda trial: 0.1, "no trial"),
            (from_list([10 ** (-3 + i / 5) for i in range(21)]), "at most five"),
            (from_list((0.001, 2.5, 5.0, 7.5, 10.0)), "plain axis"),
            (coarse_then_fine(chosen=max), "worst"),
            (the_loss, "best loss"),
            (the_last, "last one tried"),
            (from_list((0.001, 0.002, 0.004, 0.008, 0.016)), "both sides"),
            (lambda trial: -trial(0.1), "expected"),
        ],
        unusual=[coarse_then_fine(), by_golden_section],
    ),
    "4.5": Case(
        mutants=[
            (quiet(torch.zeros_like), "set to 0"),
            (quiet(torch.mean), "all channels"),
            (quiet(lambda one: one.mean(1, keepdim=True)), "each text"),
            (quiet(lambda one: one.mean(0, keepdim=True)), "each place"),
            (mean_of_heads, "over all heads"),
            (others_quiet, "all the others"),
            (all_quiet, "all heads at their mean"),
            (quiet(mean_of, which=lambda head, H: (head - 1) % H), "counted from 1"),
            (quiet(mean_of, cut="viewed"), "without turning"),
            (quiet(mean_of, project=lambda out, W_o: out), "W_o forgotten"),
            (quiet(mean_of, project=lambda out, W_o: out @ W_o.T), "transposed"),
        ],
        unusual=[quiet(mean_of), by_rows_of_W_o],
    ),
    "4.6": Case(
        mutants=[
            (each_alone, "clipped alone"),
            (lambda gradients, limit: [g.clamp(-limit, limit) for g in gradients], "cut off"),
            (clipped(share=lambda limit, n: limit / max(n, 1e-9)), "made longer"),
            (clipped(length=lambda each: sum(g.norm().item() for g in each)), "lengths added"),
            (clipped(length=lambda each: length_of(each) ** 2), "root missing"),
            (clipped(length=lambda each: max(g.abs().max().item() for g in each)), "largest"),
            (clipped(share=lambda limit, n: 1 / max(1.0, n)), "limit is missing"),
            (lambda gradients, limit: gradients, "nothing clipped"),
            (divided, "0 divided"),
        ],
        unusual=[clipped(), by_torch],
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
