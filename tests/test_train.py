"""Schedule, optimisers, one step of training and exact evaluation, against formulas, loops
and torch."""

import copy
import functools
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import nn

import helpers
from course_utils.lessons.data import get_batch
from course_utils.lessons.model import GPT, GPTConfig
from course_utils.lessons.train import (
    POLYNOMIALS,
    Muon,
    TrainConfig,
    evaluate,
    learning_rate_at,
    make_optimizers,
    next_character_loss,
    orthogonalise,
    training_step,
)
from helpers import mutant

TINY = GPTConfig(
    vocab_size=11, context_length=3, n_layers=2, n_heads=3, d_model=12, d_ff=17, dropout=0.0
)


def loud(**changes):
    return helpers.loud(TINY, **changes).double()


# --- schedule -------------------------------------------------------------------------------------
def test_schedule_is_a_trapezium():
    config = TrainConfig(steps=40, warmup_steps=8, decay=0.25)
    corners = [0, 7, 30, 39], [1 / 8, 1, 1, 1 / 10]
    shares = [learning_rate_at(step, config) for step in range(40)]
    assert shares == pytest.approx(np.interp(range(40), *corners).tolist())


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(1, 300), st.integers(0, 300), st.floats(0, 1))
def test_schedule_climbs_then_falls_and_never_reaches_zero(steps, warmup_steps, decay):
    config = TrainConfig(steps=steps, warmup_steps=warmup_steps, decay=decay)
    shares = [learning_rate_at(step, config) for step in range(steps)]
    assert all(0 < share <= 1 for share in shares)
    top = shares.index(max(shares))
    assert shares[: top + 1] == sorted(shares[: top + 1])
    assert shares[top:] == sorted(shares[top:], reverse=True)
    if decay * steps >= 1:
        assert shares[-1] <= 1 / (decay * steps), "the last step is a small one"


def test_schedule_is_flat_unless_asked():
    config = TrainConfig(steps=50)
    assert {learning_rate_at(step, config) for step in range(50)} == {1.0}


def test_the_defaults_are_the_baseline_protocol():
    config = TrainConfig()
    assert (config.optimizer, config.learning_rate, config.weight_decay) == ("adamw", 1e-4, 0.01)
    assert (config.batch_size, config.patience) == (32, 5)
    assert (config.warmup_steps, config.decay) == (0, 0.0)


# --- Muon -----------------------------------------------------------------------------------------
SHAPES = [(8, 8), (8, 8), (4, 8), (24, 8), (8, 8), (4, 8)]


def best_polynomial(low, high):
    """The a, b, c for which a x + b x³ + c x⁵ strays least from 1 between low and high;
    and how far it strays."""
    x = np.linspace(low, high, 2000)
    powers, ones = np.stack([x, x**3, x**5], axis=1), np.ones((2000, 1))
    bounds = [(None, None)] * 3 + [(0, None)]
    found = linprog(
        [0, 0, 0, 1],
        np.block([[powers, -ones], [-powers, -ones]]),
        np.append(ones, -ones),
        bounds=bounds,
    )
    return found.x


def test_the_polynomials_are_the_best_there_are():
    """Found again by linear programming: each for the interval to
    which the one before has brought the values."""
    low, high = 0.003, 1.0
    for coefficients in POLYNOMIALS:
        *best, astray = best_polynomial(low, high)
        assert coefficients == pytest.approx(best, rel=2e-3)
        low, high = 1 - astray, 1 + astray
    assert astray < 0.01


def newton_schulz_by_svd(matrix, steps=5):
    """The iteration acts on each singular value alone."""
    u, s, vt = torch.linalg.svd(matrix.double(), full_matrices=False)
    s = s / (1.01 * s.square().sum().sqrt())
    for a, b, c in POLYNOMIALS[:steps]:
        s = a * s + b * s**3 + c * s**5
    return u * s @ vt


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (2, 5, 3), (2, 1, 4)])
def test_orthogonalise_moves_the_singular_values_alone(shape):
    torch.manual_seed(0)
    matrices = torch.randn(shape, dtype=torch.float64).reshape(-1, *shape[-2:])
    for steps in (1, 3, 5):
        by_svd = torch.stack([newton_schulz_by_svd(m, steps) for m in matrices])
        torch.testing.assert_close(orthogonalise(matrices, steps), by_svd, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(16, 64), (64, 16), (24, 32)])
def test_orthogonalise_comes_near_the_polar_factor(shape):
    """The nearest matrix with all singular values 1 is U Vᵀ; five steps land within a hundredth
    of it."""
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, _, vt = torch.linalg.svd(matrix.double(), full_matrices=False)
    out = orthogonalise(matrix[None])[0]
    assert out.dtype == matrix.dtype
    assert torch.linalg.matrix_norm(out.double() - u @ vt, ord=2) < 0.01
    assert torch.linalg.svdvals(matrix / matrix.norm()).min() < 0.2, "they were far from 1"


def test_a_zero_gradient_stays_zero():
    assert torch.equal(orthogonalise(torch.zeros(2, 3, 5)), torch.zeros(2, 3, 5))


def muon_problem(steps=4):
    torch.manual_seed(0)
    return [torch.randn(shape) for shape in SHAPES], [
        [torch.randn(shape) for shape in SHAPES] for _ in range(steps)
    ]


def walk(make_optimizer, matrices, gradients):
    """Where the matrices end up after these gradients, one list a step."""
    parameters = [nn.Parameter(matrix.clone()) for matrix in matrices]
    optimizer = make_optimizer(parameters)
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def check_walks_like_torchs_muon(make_optimizer):
    """torch.optim.Muon iterates in bfloat16, good to about 1 %: the ways agree within 3 %.

    It is given the plain Newton–Schulz coefficients, and time to arrive at the same orthogonal
    matrix.
    """
    matrices, gradients = muon_problem()
    plain = {"ns_coefficients": (1.875, -1.25, 0.375), "ns_steps": 20, "adjust_lr_fn": "original"}
    theirs = walk(lambda p: torch.optim.Muon(p, 0.1, 0.5, 0.9, True, **plain), matrices, gradients)
    ours = walk(lambda p: make_optimizer(p, 0.1, 0.5, 0.9), matrices, gradients)
    for start, one, other in zip(matrices, ours, theirs, strict=True):
        assert (one - other).norm() < 0.03 * (other - start).norm()


class MuonBySVD:
    """Muon a second time, matrix by matrix."""

    def __init__(self, matrices, lr, weight_decay, momentum):
        self.matrices, self.lr, self.momentum = matrices, lr, momentum
        self.weight_decay = weight_decay
        self.velocities = [torch.zeros_like(matrix) for matrix in matrices]

    @torch.no_grad()
    def step(self):
        for p, v in zip(self.matrices, self.velocities, strict=True):
            v.mul_(self.momentum).add_((1 - self.momentum) * p.grad)
            update = newton_schulz_by_svd((1 - self.momentum) * p.grad + self.momentum * v)
            p -= self.lr * self.weight_decay * p
            p -= self.lr * math.sqrt(max(1, p.shape[0] / p.shape[1])) * update


@pytest.mark.parametrize("implementation", [Muon, MuonBySVD], ids=["lesson", "by SVD"])
def test_muon_walks_like_torchs(implementation):
    check_walks_like_torchs_muon(implementation)


UPDATE = 'self.orthogonalise(ahead, group["iterations"])'


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('gradients.lerp(velocity, group["momentum"])', "velocity"),  # no look ahead
        (UPDATE, "ahead / ahead.norm(dim=(1, 2), keepdim=True)"),  # not orthogonal
        ("max(1.0, rows / columns)", "max(1.0, columns / rows)"),  # scaled by the other side
        ("max(1.0, rows / columns)", "1.0"),  # tall matrices not scaled
        ('weights.mul_(1 - group["lr"] * group["weight_decay"])', "pass"),
        ("velocity.lerp_(gradients", "velocity.zero_().lerp_(gradients"),  # momentum forgotten
    ],
)
def test_a_broken_muon_is_noticed(right, wrong):
    broken = mutant(Muon, right, wrong)
    with pytest.raises(AssertionError):
        check_walks_like_torchs_muon(broken)


def test_muon_equals_muon_by_svd_closely():
    matrices, gradients = muon_problem()
    ours, by_svd = (
        walk(lambda p, m=m: m(p, 0.1, 0.5, 0.9), matrices, gradients) for m in (Muon, MuonBySVD)
    )
    torch.testing.assert_close(ours, by_svd, rtol=1e-4, atol=1e-4)


def test_one_batch_of_matrices_moves_as_each_would_alone():
    matrices, gradients = muon_problem()
    together = walk(lambda p: Muon(p, 0.1, 0.5), matrices, gradients)
    for i, matrix in enumerate(matrices):
        [alone] = walk(lambda p: Muon(p, 0.1, 0.5), [matrix], [[step[i]] for step in gradients])
        torch.testing.assert_close(together[i], alone)


def test_muon_goes_on_from_a_saved_state():
    matrices, gradients = muon_problem()
    straight = walk(lambda p: Muon(p, 0.1), matrices, gradients)
    first = []
    halfway = walk(lambda p: first.append(Muon(p, 0.1)) or first[0], matrices, gradients[:2])

    def resumed(parameters):
        optimizer = Muon(parameters, 0.1)
        optimizer.load_state_dict(copy.deepcopy(first[0].state_dict()))
        return optimizer

    assert all(map(torch.equal, walk(resumed, halfway, gradients[2:]), straight))


def test_weights_written_anew_are_the_ones_that_move():
    """As load_state_dict and a restored checkpoint write them: in place,
    into the same parameters."""
    matrices, gradients = muon_problem()
    elsewhere = [torch.zeros_like(matrix) for matrix in matrices]

    def filled(parameters):
        optimizer = Muon(parameters, 0.1)
        with torch.no_grad():
            for parameter, matrix in zip(parameters, matrices, strict=True):
                parameter.copy_(matrix)
        return optimizer

    assert all(
        map(
            torch.equal,
            walk(filled, elsewhere, gradients),
            walk(lambda p: Muon(p, 0.1), matrices, gradients),
        )
    )


# --- which weights decay, and who moves them ------------------------------------------------------
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_matrices_decay_and_gains_do_not(optimizer):
    """With no gradient at all, a step leaves a gain as it is and shrinks a matrix by lr × decay."""
    config = TrainConfig(
        optimizer=optimizer, learning_rate=0.1, muon_learning_rate=0.2, weight_decay=0.3
    )
    model = loud()
    optimizers = make_optimizers(model, config)
    moved = [p for o in optimizers for group in o.param_groups for p in group["params"]]
    assert sorted(map(id, moved)) == sorted(map(id, model.parameters())), (
        "each weight has one mover"
    )
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    for o in optimizers:
        o.step()
    for name, p in model.named_parameters():
        rate = 0.2 if optimizer == "muon" and name.startswith("blocks.") else 0.1
        torch.testing.assert_close(
            p.detach(), before[name] * (1 - rate * 0.3 if p.ndim == 2 else 1)
        )


def test_adamws_first_step_is_the_sign_of_the_gradient():
    """At step one both running means are one gradient: θ ← θ (1 - lr decay) - lr g / |g|.
    Loshchilov and Hutter."""
    model = loud()
    [optimizer] = make_optimizers(model, TrainConfig(learning_rate=0.1, weight_decay=0.3))
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    for p, old in zip(model.parameters(), before, strict=True):
        expected = old * (1 - 0.03 * (p.ndim == 2)) - 0.1 * p.grad.sign()
        torch.testing.assert_close(p.detach(), expected, rtol=0, atol=1e-3)


def test_each_group_remembers_its_peak():
    config = TrainConfig(optimizer="muon", learning_rate=0.1, muon_learning_rate=0.2)
    adamw, muon = make_optimizers(GPT(TINY), config)
    assert [{group["peak"] for group in o.param_groups} for o in (adamw, muon)] == [{0.1}, {0.2}]


# --- one step -------------------------------------------------------------------------------------
def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(11, (2, 3), generator=generator), torch.randint(
        11, (2, 3), generator=generator
    )


def gradients_of(model, tokens, targets):
    """From log-probabilities picked one by one, not from cross_entropy."""
    log_p = model(tokens).log_softmax(-1)
    picked = [log_p[b, t, targets[b, t]] for b, t in itertools.product(*map(range, tokens.shape))]
    loss = -sum(picked) / len(picked)
    return loss, torch.autograd.grad(loss, list(model.parameters()))


def check_step(training_step, clip_norm, number=float):
    """With plain gradient descent a step is lr × share × gradient,
    the gradient cut to clip_norm."""
    model = loud()
    descent = torch.optim.SGD([{"params": list(model.parameters()), "peak": 0.5}], lr=9.0)
    for step, share in enumerate((0.25, 0.5, 0.75)):
        tokens, targets = batch(step)
        expected_loss, gradients = gradients_of(model, tokens, targets)
        norm = math.sqrt(sum(g.square().sum().item() for g in gradients))
        rate = 0.5 * share * min(1.0, clip_norm / norm)
        expected = [
            p.detach() - rate * g for p, g in zip(model.parameters(), gradients, strict=True)
        ]
        loss = training_step(model, [descent], tokens, targets, number(share), clip_norm)
        torch.testing.assert_close(loss, expected_loss.detach())
        assert not loss.requires_grad
        torch.testing.assert_close(
            [p.detach() for p in model.parameters()], expected, rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("number", [float, torch.tensor], ids=["a number", "a tensor"])
@pytest.mark.parametrize("clip_norm", [0.1, 100.0])
def test_a_step(clip_norm, number):
    check_step(training_step, clip_norm, number)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_rate_may_be_a_number_or_a_tensor(optimizer):
    number, tensor = (
        list(trained(1, optimizer, rate_as=kind).parameters()) for kind in (float, torch.tensor)
    )
    torch.testing.assert_close(number, tensor)


def test_a_step_learns_from_the_loss_it_is_given():
    """Twice the loss is twice the gradient."""
    once, twice = loud(), loud()
    for model, factor in ((once, 1), (twice, 2)):
        descent = torch.optim.SGD([{"params": list(model.parameters()), "peak": 0.5}])
        loss = training_step(
            model,
            [descent],
            *batch(),
            1.0,
            1e9,
            lambda *args, f=factor: f * next_character_loss(*args),
        )
        torch.testing.assert_close(loss, factor * next_character_loss(loud(), *batch()).detach())
    for start, p, q in zip(loud().parameters(), once.parameters(), twice.parameters(), strict=True):
        torch.testing.assert_close((q - start).detach(), 2 * (p - start).detach())


CLIP = "torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)"
AFTER = "return loss_of(model, tokens, targets).detach()"


@pytest.mark.parametrize(
    ("right", "wrong", "clip_norm"),
    [
        (CLIP, "pass", 0.1),
        (CLIP, CLIP.replace("norm_(", "value_("), 0.1),  # each number clipped
        ('group["peak"] * rate', 'group["peak"]', 100.0),  # no schedule
        ('group["peak"] * rate', 'group["lr"] * rate', 100.0),  # a share of the rate before
        ("optimizer.zero_grad()", "pass", 100.0),  # gradients pile up
        ("return sum(losses)", AFTER, 100.0),  # loss after the move
    ],
)
def test_a_broken_step_is_noticed(right, wrong, clip_norm):
    broken = mutant(training_step, right, wrong)
    with pytest.raises(AssertionError):
        check_step(broken, clip_norm)


def trained(seed, optimizer="adamw", get_batch=get_batch, steps=5, rate_as=float, **config):
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = GPT(replace(TINY, dropout=config.pop("dropout", 0.1)))
    config = TrainConfig(steps=steps, optimizer=optimizer, **config)
    optimizers = make_optimizers(model, config)
    ids = torch.arange(200) % 11
    for step in range(steps):
        rate = rate_as(learning_rate_at(step, config))
        training_step(model, optimizers, *get_batch(ids, 8, 3, generator), rate, config.clip_norm)
    return model


@pytest.mark.promise("seed")
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_one_seed_gives_one_run_to_the_last_bit(optimizer):
    one, same, other = (list(trained(seed, optimizer).parameters()) for seed in (1, 1, 2))
    assert all(map(torch.equal, one, same))
    assert not any(torch.equal(p, q) for p, q in zip(one, other, strict=True) if p.ndim == 2)


def check_learns_to_count(get_batch):
    """In 0 1 2 … 10 0 1 … what follows a number is the next one."""
    model = trained(0, "muon", get_batch, steps=60, learning_rate=0.03, dropout=0.0).eval()
    numbers = torch.arange(11)[:, None]
    assert torch.equal(model(numbers).argmax(-1), (numbers + 1) % 11)


def test_a_model_learns_to_count():
    check_learns_to_count(get_batch)


def test_targets_not_shifted_are_noticed():
    with pytest.raises(AssertionError):
        check_learns_to_count(lambda *args: (get_batch(*args)[0],) * 2)


# --- evaluation -----------------------------------------------------------------------------------
IDS = torch.randint(
    11, (1100,), generator=torch.Generator().manual_seed(5)
)  # 341 windows of 3 are read at once


@functools.cache
@torch.no_grad()
def losses_one_by_one():
    """The surprise at each of IDS but the first, each from a pass
    of its own over its window so far."""
    model, losses = loud().eval(), []
    T = model.config.context_length
    for i in range(len(IDS) - 1):
        seen = IDS[i // T * T : i + 1]
        losses.append(-model(seen[None])[0, -1].log_softmax(-1)[IDS[i + 1]].item())
    return losses


def check_evaluate(evaluate):
    model = loud(dropout=0.5)
    losses = losses_one_by_one()
    # whole windows and ragged ends, within one batch of windows and over several; T = 3
    for length, training in itertools.product(
        [2, 3, 4, 5, 7, 23, 1024, 1025, 1026, 1027, 1028, 1100], [True, False]
    ):
        model.train(training)
        loss = evaluate(model, IDS[:length])
        assert isinstance(loss, float)
        assert loss == pytest.approx(sum(losses[: length - 1]) / (length - 1), rel=1e-9)
        assert all(module.training == training for module in model.modules()), (
            "the mode is as it was"
        )
        assert all(p.grad is None for p in model.parameters())


def test_evaluate():
    check_evaluate(evaluate)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("model.eval()", "model.train()"),  # dropout on
        ("start = stop", "start += 1"),  # windows overlap
        ("while start < N", "while start < max(1, N // T * T)"),  # the last window dropped
        ("model(ids[start:stop].", "model(ids[: stop - start]."),  # the same first batch
        ("ids[start + 1 : stop + 1]", "ids[start:stop]"),  # targets not shifted
        ('reduction="none"))', 'reduction="mean")[None])'),  # a mean of means
        ("model.train(was_training)", "pass"),  # mode forgotten
        ("token_losses(model, ids).mean()", "(token_losses(model, ids).sum() / len(ids))"),
    ],
)
def test_a_broken_evaluation_is_noticed(right, wrong):
    broken = mutant(evaluate, right, wrong)
    with pytest.raises((AssertionError, RuntimeError)):
        check_evaluate(broken)


@pytest.mark.parametrize("windows", [1, 5, 340, 341, 342])
def test_evaluation_does_not_depend_on_how_the_text_is_cut(windows):
    """Two parts that meet between windows weigh as many characters as they have."""
    model, cut = loud(), 3 * windows
    first, second = evaluate(model, IDS[: cut + 1]), evaluate(model, IDS[cut:])
    assert evaluate(model, IDS) == pytest.approx(
        (first * cut + second * (1099 - cut)) / 1099, rel=1e-12
    )
