"""The engine against lesson 4's loop, and evaluation against windows read one by one."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from course_utils.lessons.data import get_batch
from course_utils.lessons.model import CHOICES, GPT, GPTConfig
from course_utils.lessons.train import (
    TrainConfig,
    evaluate,
    learning_rate_at,
    make_optimizers,
    next_character_loss,
    training_step,
)
from course_utils.training import engine, trainer
from helpers import counting as text

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
SMALL = GPTConfig(
    vocab_size=11, context_length=16, n_layers=2, n_heads=2, d_model=8, d_ff=12, dropout=0.1
)
FOR_A_GPU = replace(
    SMALL, context_length=32, d_model=32, d_ff=64, dropout=0.0
)  # its random numbers differ
STEPS = 50


def settings(optimizer, batch_size=3):
    schedule = {"steps": STEPS, "learning_rate": 0.01, "warmup_steps": 5, "decay": 0.5}
    return TrainConfig(batch_size=batch_size, optimizer=optimizer, seed=7, **schedule)


def plain_losses(model_config, config, device="cpu"):
    """Lesson 4's loop, written out."""
    ids, losses = text().to(device), []
    model = trainer.new_model(model_config, config, device).train()
    optimizers, windows = make_optimizers(model, config), torch.Generator().manual_seed(config.seed)
    torch.manual_seed(1)
    for step in range(STEPS):
        batch = get_batch(ids, config.batch_size, model_config.context_length, windows)
        losses.append(
            training_step(
                model, optimizers, *batch, learning_rate_at(step, config), config.clip_norm
            ).item()
        )
    return losses


def losses_of(steps):
    torch.manual_seed(1)
    for _ in range(STEPS):
        steps.step()
    return steps.losses.tolist()


def new_engine(model_config, config, device="cpu", kind=engine.make_engine, **arguments):
    model = trainer.new_model(model_config, config, device).train()
    return kind(model, text().to(device), config, **arguments)


# --- windows --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("steps", "batch_size", "T", "n"),
    [(50, 16, 32, 500), (7, 1, 5, 11), (3, 17, 1, 3), (20, 5, 64, 65)],
)
def test_all_windows_drawn_at_once_are_those_of_each_step(steps, batch_size, T, n):
    """A GPU's engine draws the starts of a whole run in one call; this is that call."""
    ids = torch.arange(n)
    one, other = (torch.Generator().manual_seed(7) for _ in range(2))
    starts = torch.randint(n - T, (steps, batch_size, 1), generator=one)
    for at in starts:
        tokens, targets = get_batch(ids, batch_size, T, other)
        index = at + torch.arange(T)
        assert torch.equal(ids[index], tokens)
        assert torch.equal(ids[index + 1], targets)
    assert torch.equal(one.get_state(), other.get_state())


# --- steps on a CPU -------------------------------------------------------------------------------
def check_equals_the_plain_loop(kind, optimizer="adamw"):
    losses = losses_of(new_engine(SMALL, settings(optimizer), kind=kind))
    assert losses == plain_losses(SMALL, settings(optimizer))
    assert losses[-1] < losses[0] - 0.2, "it does learn"


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_engine_is_the_plain_loop(optimizer):
    check_equals_the_plain_loop(engine.make_engine, optimizer)


class RatesAStepEarly(engine.Engine):
    def _learn(self, tokens, targets, rate):
        return super()._learn(tokens, targets, learning_rate_at(self.steps_done + 1, self.config))


class OtherWindows(engine.Engine):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.batch_generator.manual_seed(8)


class SameWindows(engine.Engine):
    def step(self):
        self.batch_generator.manual_seed(7)
        super().step()


class NoSchedule(engine.Engine):
    def _learn(self, tokens, targets, rate):
        return super()._learn(tokens, targets, 1.0)


class OtherClipping(engine.Engine):
    def __init__(self, model, ids, config):
        super().__init__(model, ids, replace(config, clip_norm=0.01))


class LossOfTheStepBefore(engine.Engine):
    def step(self):
        super().step()
        self.losses[self.steps_done - 1] = self.losses[max(0, self.steps_done - 2)]


@pytest.mark.promise("broken")
@pytest.mark.parametrize(
    "mutant",
    [RatesAStepEarly, OtherWindows, SameWindows, NoSchedule, OtherClipping, LossOfTheStepBefore],
)
def test_a_broken_engine_is_noticed(mutant):
    with pytest.raises(AssertionError):
        check_equals_the_plain_loop(mutant)


@pytest.mark.promise("memory")
@pytest.mark.parametrize("micro_batches", [2, 3, 7])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_batch_in_parts_is_the_same_batch(optimizer, micro_batches):
    """Without dropout, whose random numbers would fall otherwise:
    the same gradients but for the order of a sum."""
    config, no_dropout = settings(optimizer, batch_size=7), replace(SMALL, dropout=0.0)
    whole, in_parts = (
        losses_of(engine.Engine(trainer.new_model(no_dropout, config).train(), text(), config, n))
        for n in (1, micro_batches)
    )
    assert in_parts == pytest.approx(whole, abs=2e-4)
    assert in_parts != whole


@pytest.mark.promise("resumed")
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("at", [0, 1, 17])
def test_another_engine_goes_on_from_a_state(at, optimizer):
    config, straight = settings(optimizer), new_engine(SMALL, settings(optimizer))
    losses = losses_of(straight)
    first = new_engine(SMALL, config)
    torch.manual_seed(1)
    for _ in range(at):
        first.step()
    state = first.state()
    losses_of(first) if at == 0 else first.step()  # what happens later does not touch the state
    torch.manual_seed(5)
    second = new_engine(SMALL, config)
    second.step()
    second.restore(state)
    for _ in range(at, STEPS):
        second.step()
    assert second.losses.tolist() == losses
    for name, tensor in straight.state().items():
        assert torch.equal(second.state()[name], tensor), name


def test_the_regime_is_named():
    assert new_engine(SMALL, settings("adamw")).regime == "cpu, fp32"


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("position", CHOICES["position"])
def test_the_loss_in_bf16_is_near_and_its_gradient_reaches_every_weight(position, tied):
    """A bfloat16 has 8 significant bits; the weights themselves stay in 32,
    and so do their gradients."""
    config = replace(FOR_A_GPU, position=position, tie_embeddings=tied)
    model = trainer.new_model(config, settings("adamw"))
    batch = get_batch(text(), 16, 32, torch.Generator().manual_seed(0))
    losses, gradients = [], []
    for loss_of in (next_character_loss, partial(engine.loss_in_bf16, next_character_loss)):
        model.zero_grad()
        loss = loss_of(model, *batch)
        loss.backward()
        losses.append(loss.item())
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert 0 < abs(losses[0] - losses[1]) < 0.01
    for plain, rounded in zip(*gradients, strict=True):
        assert rounded.dtype == torch.float32
        assert (plain - rounded).norm() < 0.15 * plain.norm()


def test_what_is_asked_of_a_gpu_comes_on_top_of_what_pays():
    long, short = 2 * engine.WORTH_COMPILING, engine.WORTH_COMPILING / 2
    assert engine.pieces_for(long) == [*engine.PIECES]
    assert engine.pieces_for(short) == ["bf16", "CUDA graph"]
    assert engine.pieces_for(short, ["compiled"]) == [*engine.PIECES]
    assert engine.pieces_for(short, ["exact"]) == ["bf16", "CUDA graph", "exact"]
    both = engine.pieces_for(short, ["exact", "compiled"])
    assert both == [*engine.PIECES, "exact"]


# --- steps on a GPU -------------------------------------------------------------------------------
@on_a_gpu
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize(
    "allow",
    [(), ("CUDA graph",), ("bf16",), ("bf16", "CUDA graph"), engine.PIECES],
    ids=lambda pieces: " + ".join(pieces) or "none",
)
def test_a_gpus_engine_is_the_plain_loop(allow, optimizer):
    config = settings(optimizer, batch_size=16)
    steps, again = (new_engine(FOR_A_GPU, config, "cuda", allow=allow) for _ in range(2))
    fresh = trainer.new_model(FOR_A_GPU, config, "cuda")
    assert steps.regime == ", ".join(["cuda", *([] if "bf16" in allow else ["fp32"]), *allow])
    for name, weight in steps.model.state_dict().items():
        assert torch.equal(weight, fresh.state_dict()[name]), f"{name} is as before the first step"
    for state in (state for optimizer in steps.optimizers for state in optimizer.state.values()):
        assert not any(tensor.any() for tensor in state.values()), (
            "and so is the optimisers' memory"
        )
    losses, near = losses_of(steps), 0.05 if "bf16" in allow or optimizer == "muon" else 1e-3
    assert losses == pytest.approx(plain_losses(FOR_A_GPU, config, "cuda"), abs=near)
    assert losses[-1] < losses[0] - 0.2, "it does learn"
    assert losses == pytest.approx(losses_of(again), abs=0.01 if "bf16" in allow else 1e-5), (
        "one seed, one run"
    )


@pytest.mark.promise("resumed")
@on_a_gpu
@pytest.mark.parametrize("allow", [(), ("CUDA graph",)], ids=["plain", "graph"])
def test_another_engine_goes_on_from_a_state_on_a_gpu(allow):
    config = settings("muon", batch_size=16)
    straight, second = (new_engine(SMALL, config, "cuda", allow=allow) for _ in range(2))
    torch.manual_seed(1)
    for _ in range(17):
        straight.step()
    state = straight.state()
    for _ in range(17, STEPS):
        straight.step()
    second.restore(state)
    for _ in range(17, STEPS):
        second.step()
    assert second.losses.tolist() == pytest.approx(straight.losses.tolist(), abs=1e-5)


@pytest.mark.promise("memory")
@on_a_gpu
def test_a_batch_too_large_for_the_memory_is_read_in_parts():
    """The same losses, and the regime says so."""
    config = replace(settings("adamw", batch_size=64), steps=5)
    model = replace(FOR_A_GPU, context_length=256, d_model=256, d_ff=4096)
    whole = new_engine(model, config, "cuda", allow=())
    for _ in range(5):
        whole.step()
    need = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(
        0.7 * need / torch.cuda.get_device_properties(0).total_memory
    )
    try:
        parts = new_engine(model, config, "cuda", allow=())
        for _ in range(5):
            parts.step()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "batch in" in parts.regime
    assert parts.losses.tolist() == pytest.approx(whole.losses.tolist(), abs=1e-3)


@on_a_gpu
def test_a_gpus_engine_draws_the_windows_of_get_batch():
    config = settings("adamw")
    steps = new_engine(SMALL, config, "cuda", allow=())
    windows = torch.Generator().manual_seed(config.seed)
    for at in steps.starts:
        tokens, _ = get_batch(steps.ids, config.batch_size, SMALL.context_length, windows)
        assert torch.equal(steps.ids[at + steps.offsets], tokens)
    assert steps.rates.tolist() == pytest.approx(
        [learning_rate_at(step, config) for step in range(STEPS)]
    )


@on_a_gpu
def test_dropout_differs_from_step_to_step_in_a_graph():
    """A graph that replayed the same random numbers would drop the same activations every time."""
    model = replace(FOR_A_GPU, dropout=0.5)
    still = replace(settings("adamw", batch_size=16), learning_rate=1e-12, weight_decay=0.0)
    steps = new_engine(model, still, "cuda", allow=("CUDA graph",))
    steps.starts[:] = steps.starts[:1].clone()  # one batch, and weights that hardly move
    assert len(set(losses_of(steps))) > STEPS // 2


# --- evaluation -----------------------------------------------------------------------------------
@torch.no_grad()
def loss_by_hand(model, ids):
    T, total = model.config.context_length, 0.0
    for start in range(0, len(ids) - 1, T):
        window = ids[start : start + T + 1]
        logits = model(window[None, :-1])[0]
        total += F.cross_entropy(logits, window[1:], reduction="sum").item()
    return total / (len(ids) - 1)


@pytest.mark.parametrize("length", [2, 1024, 1025, 1026, 3000, 3301])
@pytest.mark.parametrize("T", [7, 100, 600, 1024, 1025, 1500])
def test_evaluation_is_the_same_however_many_windows_are_read_at_once(T, length):
    torch.manual_seed(0)
    model, ids = GPT(replace(SMALL, context_length=T)).eval(), text(length)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.5)
    expected = loss_by_hand(model, ids)
    assert evaluate(model, ids) == pytest.approx(expected, rel=1e-5)
    assert math.isfinite(expected)


# --- the same bits --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_exact_embedding_is_pytorchs(dtype):
    """Its gradient is a product; second source: PyTorch's own, which adds row by row."""
    tokens = torch.randint(7, (3, 11), generator=torch.Generator().manual_seed(0))
    weight = torch.randn(7, 5, generator=torch.Generator().manual_seed(1)).to(dtype)
    target = torch.randn(3, 11, 5, generator=torch.Generator().manual_seed(2)).to(dtype)
    results = []
    for kind in (torch.nn.Embedding, engine.ExactEmbedding):
        embedding = kind(7, 5, _weight=weight.clone())
        vectors = embedding(tokens)
        (vectors * target).sum().backward()
        results.append((vectors.detach(), embedding.weight.grad))
    (vectors, gradient), (exact_vectors, exact_gradient) = results
    assert torch.equal(vectors, exact_vectors)
    tolerance = 1e-6 if dtype == torch.float32 else 0.05
    assert torch.allclose(gradient, exact_gradient, atol=tolerance)
    assert exact_gradient[tokens.unique()].abs().min() > 0


def test_exactness_is_put_back_as_it_was():
    with engine.exactly():
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory
