"""Checks of lesson 4: bugs and their curves, the loop, schedule, rate, a head, clipping, AdamW."""

import functools
import itertools
import math
import random
from dataclasses import dataclass

import torch
from torch import nn

from course_utils.checks import Wrong, agree, drawn_from, exercise, generator, variant
from course_utils.checks.values import number_of, same
from course_utils.checks.witness import (
    chain_of,
    final_loss,
    looped,
    observed,
    searched,
    small_gpt,
)
from course_utils.lessons.train import next_character_loss, training_step
from course_utils.messages import N_, _


def windows_of(ids, size=6):
    """Windows side by side, each one longer than the context: (N,) -> (N // size, size)."""
    return ids[: len(ids) // size * size].view(-1, size)


def loss_on(model, rows, shift=1):
    """The mean token loss over windows: (B, T + 1) -> (). shift: how far on the targets stand."""
    targets = {1: rows[:, 1:], 0: rows[:, :-1], -1: rows[:, :-1]}[shift]
    tokens = rows[:, 1:] if shift == -1 else rows[:, :-1]
    return next_character_loss(model, tokens, targets)


# --- 4.1 ------------------------------------------------------------------------------------------

SYMPTOMS = {
    "targets not shifted": N_("can an honest model guess almost every character, on new text too?"),
    "one batch again and again": (
        N_("what does the held-out curve say? Something is learned that is true of little text")
    ),
    "rate too high": N_(
        "does it ever settle? Each step leaps over what the one before has reached"
    ),
    "no zero_grad": (
        N_("how does it begin, and when does it go wrong? Something grows with every step")
    ),
}
DECOYS = ("rate too low", "weights never move")


@functools.cache
def curves_of(seed):
    """Four loops with a bug each, in an order that is drawn. -> (names, {"A": losses, …})"""
    names = random.Random(seed).sample([*SYMPTOMS], len(SYMPTOMS))
    return names, {letter: curve(name, seed) for letter, name in zip("ABCD", names, strict=True)}


def curve(bug, seed, steps=80, batch=16):
    """The losses of a loop with that bug, on each batch and on held-out text."""
    rows = windows_of(chain_of(seed, 6 * batch * (steps + 8)))
    held_out = rows[steps * batch :]
    model = small_gpt(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0 if bug == "rate too high" else 1e-2)
    shift = 0 if bug == "targets not shifted" else 1
    losses = {"training": [], "held out": []}
    for step in range(steps):
        first = 0 if bug == "one batch again and again" else step * batch
        if bug != "no zero_grad":
            optimizer.zero_grad()
        loss = loss_on(model, rows[first : first + batch], shift)
        loss.backward()
        optimizer.step()
        losses["training"].append(loss.item())
        with torch.no_grad():
            losses["held out"].append(loss_on(model, held_out, shift).item())
    return losses


@exercise(
    "4.1",
    "Name the bug",
    level="warm-up",
    minutes=10,
    sizes=lambda draw: curves_of(variant())[1],
)
def check_4_1(attempt):
    """Each name against the bug that the curve was drawn with."""
    names = curves_of(variant())[0]
    known = (*SYMPTOMS, *DECOYS)
    several = isinstance(attempt, list | tuple) and len(attempt) == len(names)
    agree(several, True, _("curves A, B, C and D, whether it is four names"))
    for letter, name, said in zip("ABCD", names, attempt, strict=True):
        question = (
            _(SYMPTOMS[name])
            if said in known
            else _("is it one of these: {names}?", names=", ".join(known))
        )
        agree(said, name, _("curve {letter}", letter=letter), {question: said}, secret=True)
    return _("four bugs, none of which raises an error; their curves tell")


# --- 4.2 ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loop:
    """A training loop, right unless told otherwise."""

    shift: int = 1
    share: str = "rows"  # what a part counts by: rows, parts, or nothing
    empties: str = "each step"  # when the gradients are emptied
    late: int = 0  # steps by which the rate is
    silent: int = 0  # steps in which the optimiser has its own
    moves: bool = True
    clips: bool = True
    begins: bool = True  # in training mode
    measures: bool = True  # in evaluation mode
    goes_back: bool = True  # to training mode
    first: bool = False  # measured before the step, not after it
    said: str = "whole"  # which loss of a step is told

    def run(self, model, batches, held_out, rates, parts, clip_norm):
        """-> (the loss of each step, the held-out loss after each)"""
        optimizer = torch.optim.AdamW(model.parameters())
        losses, held = [], []
        model.train(self.begins)
        for step, rows in enumerate(batches):
            if self.empties == "each step":
                optimizer.zero_grad()
            if self.first:
                held.append(self.measured(model, held_out))
            losses.append(self.learned(model, rows, parts, optimizer))
            if self.clips:
                nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
            if self.empties == "before the step":
                optimizer.zero_grad()
            at = min(max(step - self.late, 0), len(rates) - 1)
            if self.moves and step >= self.silent:
                optimizer.param_groups[0]["lr"] = rates[at]
            optimizer.step()
            if self.said == "after":
                with torch.no_grad():
                    losses[-1] = loss_on(model, rows).item()
            if not self.first:
                held.append(self.measured(model, held_out))
        return losses, held

    def learned(self, model, rows, parts, optimizer):
        """Gradients of a batch, part by part. -> the loss that is told"""
        each = []
        pieces = rows.chunk(parts)
        for part in pieces:
            if self.empties == "each part":
                optimizer.zero_grad()
            shares = {"rows": len(part) / len(rows), "parts": 1 / len(pieces), "nothing": 1}
            loss = loss_on(model, part, self.shift) * shares[self.share]
            loss.backward()
            each.append(loss.item())
        last = each[-1] * len(rows) / len(pieces[-1])
        said = {"whole": sum(each), "after": 0.0, "last": last, "last share": each[-1]}
        return said[self.said]

    @torch.no_grad()
    def measured(self, model, held_out):
        if self.measures:
            model.eval()
        loss = loss_on(model, held_out, self.shift).item()
        model.train(self.goes_back)
        return loss


LOOPS = {
    N_("is zero_grad missing? The gradients of all steps add up"): Loop(empties="never"),
    N_("is the gradient emptied between the parts? It should add up over a batch"): (
        Loop(empties="each part")
    ),
    N_("is the gradient emptied before the step? Then nothing is learned"): (
        Loop(empties="before the step")
    ),
    N_("are the parts' losses added, where each counts by its share of the rows?"): (
        Loop(share="nothing")
    ),
    N_("do all parts count alike, however many rows they hold?"): Loop(share="parts"),
    N_("is it the last part's loss, where the whole batch's is asked for?"): Loop(said="last"),
    N_("is it the last part's share of the loss alone? The parts' shares add up"): (
        Loop(said="last share")
    ),
    N_("is it the loss after the step? The one that was differentiated is asked for"): (
        Loop(said="after")
    ),
    N_("are the targets not shifted? Each is the character after"): Loop(shift=0),
    N_("are tokens and targets swapped? Then it learns to guess backwards"): Loop(shift=-1),
    N_("is the rate one step late?"): Loop(late=1),
    N_("is the rate set after the step? It is meant for this one"): Loop(late=1, silent=1),
    N_("is the rate one step early? Step 0 has rates[0]"): Loop(late=-1),
    N_("does the rate stay at that of the first step?"): Loop(late=99),
    N_("does the optimiser never get the rates?"): Loop(moves=False),
    N_("is the gradient clipped after the step, or not at all? Then it clips nothing"): (
        Loop(clips=False)
    ),
    N_("is dropout on while it measures? `model.eval()` comes first"): Loop(measures=False),
    N_("does it stay in evaluation mode after it has measured?"): Loop(goes_back=False),
    N_("is `model.train()` missing at the start? It arrives in evaluation mode"): (
        Loop(begins=False)
    ),
    N_("is it in evaluation mode all the time? It arrives so"): (
        Loop(begins=False, goes_back=False)
    ),
    N_("is held-out text measured before the step, where after it is asked for?"): Loop(first=True),
}


def by_the_package(model, batches, held_out, rates, parts, clip_norm):
    """The same from the lesson's own training_step, which the package trains with."""
    optimizer = torch.optim.AdamW(model.parameters())
    optimizer.param_groups[0]["peak"] = 1.0
    losses, held = [], []
    for rows, rate in zip(batches, rates, strict=True):
        tokens, targets = rows[:, :-1], rows[:, 1:]
        settings = (rate, clip_norm, None, parts)
        loss = training_step(model.train(), [optimizer], tokens, targets, *settings)
        losses.append(loss.item())
        with torch.no_grad():
            held.append(loss_on(model.eval(), held_out).item())
    return losses, held


@exercise("4.2", "The training loop", level="core", minutes=40)
def check_4_2(attempt):
    """Step by step against the package's own steps; with parts, with clipping, with dropout."""
    for given, *about in CASES_4_2:
        got = plain_pair(run_loop(attempt, *about))
        right = losses_of(by_the_package, variant(), *about)
        if same(got, right):
            continue
        likely = (
            q for q, loop in LOOPS.items() if same(got, losses_of(loop.run, variant(), *about))
        )
        step_by_step(got, right, _(given), next(map(_, likely), ""))
    return _("the package's losses, step by step, from a loop of your own")


RATES_4_2 = [0.03, 0.06, 0.04, 0.02, 0.01]
CASES_4_2 = (  # what is given; seed, rows of a batch, parts, clip_norm, dropout
    (N_("a batch at once"), 1, 4, 1, 100.0, 0.0),
    (N_("batches of 7 rows in 3 parts, clipped at 0.3"), 2, 7, 3, 0.3, 0.0),
    (N_("a model with dropout"), 3, 5, 1, 1.0, 0.5),
)


def run_loop(attempt, seed, size, parts, clip_norm, dropout):
    steps = len(RATES_4_2)
    rows = windows_of(chain_of(1000 * variant() + seed, 6 * (steps * size + 9)))
    batches = rows[: steps * size].view(steps, size, 6)
    rest = (batches, rows[steps * size :], [*RATES_4_2], parts, clip_norm)
    return observed(looped, attempt, seed, dropout, *rest)


@functools.cache
def losses_of(loop, case, *about):
    """What a loop of ours gives, once for all attempts. case: the variant, on which it depends."""
    return run_loop(loop, *about)


def plain_pair(got):
    """A pair of lists of numbers, whatever numbers they are; all else as it is."""
    if not isinstance(got, list | tuple) or len(got) != 2:
        return got
    return tuple(
        list(map(number_of, part)) if isinstance(part, list | tuple) else number_of(part)
        for part in got
    )


def step_by_step(got, right, given, question):
    """Say at which step two pairs of losses part."""
    lists = isinstance(got, tuple) and all(isinstance(part, list) for part in got)
    if not lists or [*map(len, got)] != [*map(len, right)]:
        agree(got, right, given)
    for step in range(len(right[0])):
        for name, mine, theirs in zip(
            (_("the loss"), _("the held-out loss")), got, right, strict=True
        ):
            fits = {question: mine[step]} if question else {}
            agree(
                mine[step],
                theirs[step],
                _("{given}: {name} of step {step}", given=given, name=name, step=step),
                fits,
            )


# --- 4.3 ------------------------------------------------------------------------------------------


@exercise("4.3", "A cosine schedule", level="core", minutes=15)
def check_4_3(attempt):
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
                _("does the warm-up begin at 0? A first step at rate 0 learns nothing"): (
                    step / max(1, warmup)
                )
            }
            if step >= warmup:
                no_floor = share(step, floor=0.0)
                along = (step - warmup) / (steps - 1 - warmup)
                mistakes = {
                    _("does the warm-up last one step too long? Its steps are 0 to warm-up - 1"): (
                        1 + 1 / max(1, warmup)
                    ),
                    _("does the fall end one step too late? The last step is steps - 1"): (
                        share(step, last=steps)
                    ),
                    _("does the wave begin at step 0, not where the warm-up ends?"): (
                        share(step, first=0)
                    ),
                    _("does the floor come on top? The fall goes from 1"): floor + no_floor,
                    _("is the floor missing, or the wave cut off at it? It should end there"): (
                        no_floor
                    ),
                    _("is it a straight line?"): 1 - (1 - floor) * along,
                }
            given = _(
                "step {step} of {steps}, warm-up {warmup}, floor {floor}",
                step=step,
                steps=steps,
                warmup=warmup,
                floor=floor,
            )
            agree(attempt(step, steps, warmup, floor), right, given, mistakes)
    return _("up in a line, down in half a wave, and never below the floor")


# --- 4.4 ------------------------------------------------------------------------------------------

RATES = [10 ** (-3 + i / 6) for i in range(25)]  # 0.001 … 10


@functools.cache
def good_loss(seed):
    """The loss of a rate that is off by a factor of two, to the worse side of the best."""
    best = min(RATES, key=lambda rate: final_loss(seed, rate))
    return max(final_loss(seed, best / 2), final_loss(seed, best * 2))


@exercise(
    "4.4",
    "The best rate in five trials",
    level="core",
    minutes=20,
    own_word=N_("how many trials it made"),
)
def check_4_4(attempt):
    """Models whose best rates lie up to a hundred times apart."""
    for i in range(4):
        seed = 1000 * variant() + i
        got, tried = observed(searched, attempt, seed)
        rate = number_of(got)
        given = _("model {n}", n=i + 1)
        if type(rate) not in (int, float) or not 0 < rate < math.inf:
            agree(got, RATES[0], given)
        agree(
            len(tried) <= 5, True, _("{given}, whether there were at most five trials", given=given)
        )
        loss, good = final_loss(seed, rate), good_loss(seed)
        if loss > good:
            found = _("a rate of {rate:.2g} with a loss of {loss:.3f}", rate=rate, loss=loss)
            raise Wrong(
                given, _("a loss of at most {good:.3f}", good=good), found, why(rate, tried, seed)
            )
    return _("five trials over four decades, and each knew what the others had found")


def why(rate, tried, seed):
    """A question that names what was likely wrong with a search."""
    if not tried:
        return _("is there no trial? Every model has a rate of its own")
    losses = {each: final_loss(seed, each) for each in tried}
    if any(same(rate, loss) for loss in losses.values()):
        return _("is it the best loss, where its rate is asked for?")
    if rate == tried[-1] and rate != min(losses, key=losses.get):
        return _("is it the last one tried, not the best?")
    if rate == max(losses, key=losses.get):
        return _("is it the worst of those tried?")
    steps = [b - a for a, b in itertools.pairwise(sorted(tried))]
    if len(steps) > 1 and max(steps) <= 1.5 * min(steps):
        return _("do the trials lie evenly on a plain axis? Rates differ by factors")
    return _("do the last trials look on both sides of the best so far?")


# --- 4.5 ------------------------------------------------------------------------------------------


def merged(heads):
    """(B, H, T, D) -> (B, T, H D)"""
    return heads.transpose(1, 2).flatten(-2)


@exercise("4.5", "A head at its mean", level="core", minutes=20)
def check_4_5(attempt):
    """What attention then writes, and what it must not be."""
    for b, h, t, d, which in ((2, 3, 5, 7, 1), (3, 2, 7, 5, 0), (2, 3, 7, 5, 2)):
        heads = torch.randn(b, h, t, d, generator=generator(450 + which)) + 1
        W_o = torch.randn(h * d, h * d, generator=generator(460 + which)) / (h * d) ** 0.5
        mean = heads[:, which].mean((0, 1))

        def with_one(value, heads=heads, which=which):
            changed = heads.clone()
            changed[:, which] = value
            return changed

        right = merged(with_one(mean)) @ W_o
        one = heads[:, which]
        others = heads.mean((0, 2), keepdim=True).expand_as(heads).clone()
        others[:, which] = one
        next_one = heads.clone()
        next_one[:, (which - 1) % h] = heads[:, (which - 1) % h].mean((0, 1))
        mistakes = {
            _("is the head set to 0? Its mean is asked for"): merged(with_one(0.0)) @ W_o,
            _("is it one number for all channels? Each channel has a mean of its own"): (
                merged(with_one(one.mean())) @ W_o
            ),
            _("has each text a mean of its own? It runs over texts and places"): (
                merged(with_one(one.mean(1, keepdim=True))) @ W_o
            ),
            _("has each place a mean of its own? It runs over texts and places"): (
                merged(with_one(one.mean(0, keepdim=True))) @ W_o
            ),
            _("is it the mean over all heads?"): merged(with_one(heads.mean((0, 1, 2)))) @ W_o,
            _("are all the others at their mean, where one is asked for?"): merged(others) @ W_o,
            _("are all heads at their mean?"): (
                merged(heads.mean((0, 2), keepdim=True).expand_as(heads)) @ W_o
            ),
            _("are heads counted from 1? Here from 0"): merged(next_one) @ W_o,
            _("are the heads laid side by side without turning heads and time?"): (
                with_one(mean).reshape(b, t, h * d) @ W_o
            ),
            _("is W_o forgotten? What attention writes is asked for"): merged(with_one(mean)),
            _("is W_o transposed? Here it is x @ W_o"): merged(with_one(mean)) @ W_o.T,
        }
        got = attempt(heads.clone(), W_o.clone(), which)
        given = _("heads of shape {shape}, head {which}", shape=tuple(heads.shape), which=which)
        agree(got, right, given, mistakes, tolerance=1e-4)
    return _("the head says what it always says on average, and no more than that")


# --- 4.6 ------------------------------------------------------------------------------------------


@exercise("4.6", "Clip by hand", level="core", minutes=10)
def check_4_6(attempt):
    """Against PyTorch's own, on long gradients, on short ones, and on none at all."""
    for given, size, limit in (
        (_("long gradients"), 3.0, 1.0),
        (_("short gradients"), 0.05, 2.0),
        (_("gradients of zero"), 0.0, 1.0),
        (_("long gradients, limit 0.5"), 2.0, 0.5),
    ):
        shapes = ((3, 5), (7,), (2, 3))
        each = [size * torch.randn(s, generator=generator(len(s) + s[0])) for s in shapes]
        right = [g * min(1.0, limit / max(length(each), 1e-12)) for g in each]
        lengths = [g.norm() for g in each]
        mistakes = {
            _("is each tensor clipped alone? There is one length, over all of them"): [
                g * min(1.0, limit / max(n.item(), 1e-12))
                for g, n in zip(each, lengths, strict=True)
            ],
            _("is each number cut off at the limit? The direction should stay"): [
                g.clamp(-limit, limit) for g in each
            ],
            _("is a short gradient made longer? It should stay"): [
                g * limit / max(length(each), 1e-12) for g in each
            ],
            _("are the lengths added? Squares are, and then the root is taken"): [
                g * min(1.0, limit / max(sum(lengths).item(), 1e-12)) for g in each
            ],
            _("is the root missing?"): [
                g * min(1.0, limit / max(length(each) ** 2, 1e-12)) for g in each
            ],
            _("is it the largest number, where the length is asked for?"): [
                g * min(1.0, limit / max(*(p.abs().max().item() for p in each), 1e-12))
                for g in each
            ],
            _("are they all divided by their length? The limit is missing"): [
                g / max(1.0, length(each)) for g in each
            ],
            _("is nothing clipped?"): each,
            _("is 0 divided by 0? Gradients may all be 0"): [g * math.nan for g in each],
        }
        got = attempt([g.clone() for g in each], limit)
        got = list(got) if isinstance(got, tuple) else got
        agree(got, right, given, mistakes, tolerance=1e-4)
    return _("shorter where it was too long, and pointing where it pointed")


def length(tensors):
    """The length of all numbers in all tensors, as one vector; PyTorch's."""
    return nn.utils.get_total_norm(tensors).item()


# --- 4.7 ------------------------------------------------------------------------------------------


@exercise("4.7", "AdamW by hand", level="stretch", minutes=60)
def check_4_7(attempt):
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
            _("is the decay added to the gradient? That is Adam with L2, not AdamW"): run(
                torch.optim.Adam
            ),
            _("is the decay missing?"): run(weight_decay=0.0),
            _("are the means uncorrected? They begin at 0"): by_hand(corrected=False),
            _("is eps under the root?"): by_hand(inside=True),
            _("is the root missing?"): by_hand(root=False),
            _("are the two betas swapped?"): run(betas=betas[::-1]),
            _("is the corrected mean kept for the next step? Correct a copy"): by_hand(kept=True),
            _("does the decay not shrink with the rate? It is rate × weight_decay"): by_hand(
                loss=decay
            ),
            _("does t begin at 0? The correction divides by 1 - β⁰ = 0 then"): start * math.nan,
        }
        got = attempt(start.clone(), list(given.clone()), rate, betas, eps, decay)
        agree(got, run(), _("{n} gradients of shape (3, 2)", n=n), mistakes, tolerance=1e-8)
    return _("each weight its own step, and the decay beside it, not in it")
