"""Why depth helps: the measures on models that were built to do one thing."""

import pytest
import torch

from course_utils.lessons.model import GPT, GPTConfig
from course_utils.research import mechanism
from helpers import ROOT, by_path


def looks_back(distance):
    """A model whose one head looks exactly so far back: positions are directions, keys name them,
    queries name others."""
    C = 256
    model = GPT(GPTConfig(n_layers=1, n_heads=1, d_model=C, d_ff=8, context_length=C, dropout=0.0))
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.blocks[0].norm_1.weight.fill_(1)
        model.positions.copy_(torch.eye(C))
        query, key, _ = model.blocks[0].attention.qkv.weight.chunk(3)
        key.copy_(torch.eye(C))
        query.copy_(4 * torch.eye(C).roll(-distance, 0))
    return model.eval()


def test_heads_that_look_one_back_or_at_what_came_next_are_told_apart():
    tokens = mechanism.repeated(looks_back(1))
    assert (tokens[:, 1 : mechanism.HALF + 1] == tokens[:, mechanism.HALF + 1 :]).all()
    for distance, wanted in ((1, (1, 0)), (mechanism.HALF - 1, (0, 1)), (7, (0, 0))):
        _, scores = mechanism.copying(looks_back(distance), tokens)
        assert scores["L1:H1"] == pytest.approx(wanted, abs=0.01), distance
    ids = torch.arange(2000) % 7
    assert mechanism.repeated(looks_back(1), ids).max() == 6


def test_the_loss_of_each_copy_is_that_of_its_characters():
    torch.manual_seed(0)
    model = GPT(GPTConfig(n_layers=1, n_heads=2, d_model=16, d_ff=8, dropout=0.0)).eval()
    tokens = mechanism.repeated(model)
    with torch.no_grad():
        logs = model(tokens[:, :-1]).log_softmax(-1).gather(2, tokens[:, 1:, None])
    found, _ = mechanism.copying(model, tokens)
    halves = logs.split(mechanism.HALF, dim=1)
    wanted = [-half[:, mechanism.CUT :].mean() for half in halves]
    assert found.tolist() == pytest.approx([one.item() for one in wanted], abs=1e-5)


def test_a_layer_that_adds_nothing_has_no_price_and_no_share():
    torch.manual_seed(0)
    model = GPT(GPTConfig(n_layers=3, n_heads=2, d_model=16, d_ff=32, context_length=32)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.mul_(8)
            if name.startswith("blocks.1") and name.endswith("out.weight"):
                weight.zero_()
    ids = torch.randint(65, (400,))
    prices = mechanism.price_of_layers(model, ids)
    shares = mechanism.shares_of_stream(model, ids[:320].view(-1, 32))
    assert prices[1] == shares[1] == 0
    assert all(prices[::2])
    assert min(shares[::2]) > 0


def test_the_best_heads_are_found_each_by_its_own_score():
    scores = {"L1:H1": (0.2, 0.5), "L1:H2": (0.9, 0.1), "L2:H1": (0.3, 0.6)}
    assert mechanism.best_heads(scores) == (("L1:H2", 0.9), ("L2:H1", 0.6))


def test_the_page_has_a_row_for_each_published_depth(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    page = by_path("book/_ext/course_depth.py")
    torch.manual_seed(0)
    model = GPT(GPTConfig(n_layers=2, n_heads=2, d_model=16, d_ff=32, dropout=0.0)).eval()
    row = page.inside_row(model, torch.randint(65, (20_000,)))
    assert row["model"] == "2 layers"
    prices = mechanism.price_of_layers(model, torch.randint(65, (400,)))
    assert len(row["price of leaving out each layer"].split(", ")) == len(prices) == 2
    assert row["random, first → second copy"].startswith("4.")  # untrained: about log 65
