"""Depth as a scale, against laws that are known beforehand."""

import json
import math
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch.utils.flop_counter import FlopCounterMode

from course_utils.generation import plausibility, quality
from course_utils.lessons.model import GPT, GPTConfig, count_parameters
from course_utils.research import recorded, scaling, studies
from course_utils.training import checkpoints
from helpers import ROOT, by_path

DEPTHS = (1, 2, 4, 6, 8, 12)


def law(exponent, noise=0.0, seeds=8, floor=1.5, a=0.2, seed=0):
    chance = np.random.default_rng(seed)
    return {
        n: {s: floor + a * n**-exponent + noise * chance.normal() for s in range(seeds)}
        for n in DEPTHS
    }


@pytest.mark.parametrize("exponent", [0.3, 1.0, 2.5])
def test_a_power_law_gives_its_exponent_back(exponent):
    exact = law(exponent, seeds=1)
    spread = {n: {s: of[0] + 1e-3 * (-1) ** s for s in range(8)} for n, of in exact.items()}
    low, found, high = scaling.depth_exponent(spread)
    assert found == pytest.approx(exponent, rel=0.02)
    assert low < found < high


def test_its_interval_has_the_exponent_about_as_often_as_it_says():
    hits = 0
    for seed in range(40):
        low, _, high = scaling.depth_exponent(law(0.7, noise=0.003, seed=seed), samples=200)
        hits += low < 0.7 < high
    assert 31 <= hits < 40


def test_what_is_no_power_law_has_no_exponent():
    u_shaped = {n: {s: 1.5 + 0.01 * (n - 6) ** 2 + 1e-4 * s for s in range(8)} for n in DEPTHS}
    rising = {n: {s: 1.5 + 0.01 * n + 1e-4 * s for s in range(8)} for n in DEPTHS}
    for losses in (u_shaped, rising):
        assert all(math.isnan(one) for one in scaling.depth_exponent(losses)), losses


def test_the_trend_is_the_slope_over_doublings():
    exact = {n: {s: 2 - 0.03 * math.log2(n) for s in range(3)} for n in DEPTHS}
    assert scaling.per_doubling(exact) == pytest.approx((-0.03, -0.03, -0.03), abs=1e-6)
    noisy = law(0.5, noise=0.02)
    runs = [(math.log2(n), loss) for n, of in noisy.items() for loss in of.values()]
    fitted, covariance = np.polyfit(*zip(*runs, strict=True), 1, cov=True)
    low, slope, high = scaling.per_doubling(noisy)
    assert slope == pytest.approx(fitted[0])
    assert high - low == pytest.approx(2 * stats.t.ppf(0.975, 46) * covariance[0, 0] ** 0.5)


def test_flops_are_those_of_the_products_counted_one_by_one():
    config = GPTConfig(n_layers=3, d_model=32, n_heads=4, d_ff=64, context_length=16)
    model = GPT(config)
    record = SimpleNamespace(
        model=vars(config), parameters=count_parameters(model), history=[{"characters": 16}]
    )
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 16, dtype=torch.int64)).sum().backward()
    assert scaling.training_flops(record) == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_the_cheapest_are_beaten_by_nothing_that_costs_no_more():
    table = pd.DataFrame({"cost": [3, 3, 1, 2, 4], "loss": [1.3, 1.2, 1.6, 1.7, 1.1]})
    assert scaling.cheapest(table, "cost")["loss"].tolist() == [1.6, 1.2, 1.1]


def test_power_is_how_often_the_test_sees_it():
    chance = np.random.default_rng(0)
    samples = chance.normal(0.01, 0.012, (20_000, 9))
    seen = (stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05).mean()
    assert scaling.power_of(0.01, 0.012, 9) == pytest.approx(seen, abs=0.015)
    needed = scaling.seeds_to_see(0.01, 0.012)
    assert scaling.power_of(0.01, 0.012, needed) >= scaling.POWER
    assert scaling.power_of(0.01, 0.012, needed - 1) < scaling.POWER
    least = scaling.smallest_seen(0.012, 9)
    assert scaling.power_of(least, 0.012, 9) == pytest.approx(scaling.POWER)
    spread, pairs = scaling.spread_of({0: 1.0, 1: 1.2, 2: 1.1}, {1: 1.0, 0: 1.1, 5: 3.0})
    assert (spread, pairs) == (pytest.approx(0.3 / 2**0.5), 2)


# --- what the page says of it ---------------------------------------------------------------------
@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book" / "_ext")
    return by_path("book/_ext/course_depth.py")


def test_the_page_compares_twelve_layers_with_six_as_scipy_does(page):
    *_, table = page.scale()
    found = pd.DataFrame([vars(r) for r in recorded.load("depth-2400")])
    found["plays"] = [np.mean(list(plays.values())) for plays in found["untouched"]]
    by_arm = found.pivot(index="seed", columns="arm", values="plays")
    test = stats.ttest_rel(by_arm["12 layers"], by_arm["6 layers"])
    low, high = test.confidence_interval()
    (cell,) = table.query("training == '2,400 steps' and text == 'untouched plays'")["12 − 6"]
    assert cell == f"{(low + high) / 2:+.3f} ({low:+.3f} … {high:+.3f})"


def test_the_page_compares_depths_on_the_same_plays(page):
    *_, sentences, table, missing = page.whole_plays()
    assert missing == ""
    drawn = {}
    for r in recorded.load("plays"):
        drawn.setdefault((r.seed, r.plays["characters"]), set()).add(tuple(r.drawn))
        assert not set(r.drawn) & set(r.untouched)
    assert all(len(lists) == 1 for lists in drawn.values())
    assert (table["seeds"] == 5).all()
    assert len(sentences.splitlines()) == 3


def test_the_judge_says_again_what_is_published_of_it(page):
    judge, tokenizer = checkpoints.load_model(recorded.JUDGE)
    about = json.loads(recorded.JUDGE.with_suffix(".json").read_text(encoding="utf-8"))
    assert not {*about["learned"], *about["chosen on"]} - set(studies.OTHER)
    said = pd.read_csv(recorded.JUDGED)
    texts = recorded.texts()
    rows = texts[(texts["study"] == "depth") & (texts["temperature"] == 1.0)].groupby("arm")
    for arm, of in rows:
        tokens = torch.tensor([tokenizer.encode(text) for text in of["text"].iloc[:2]])
        again = plausibility.plausibility(judge, tokens).mean().item()
        told = said[(said["study"] == "depth") & (said["temperature"] == 1.0)]
        told = told[told["arm"] == arm]["plausibility"].iloc[:2].mean()
        assert again == pytest.approx(told, abs=0.01), arm
    human = said[said["arm"] == quality.HUMAN]
    *_, table, gains = page.judge()
    assert re.match(r"Of 14 steps in depth \d change the gain", gains)
    assert table["gain from its own past"].iloc[-1].startswith(f"{human['coherence'].mean():+.3f}")


def test_the_page_rings_what_nothing_cheaper_beats_and_says_what_seeds_can_see(page):
    *_, table = page.frontier()
    loss = table["loss, untouched plays"].astype(float)
    ringed = table["nothing cheaper is better"].str.contains("FLOPs")
    by_cost = table[ringed].index[np.argsort(table[ringed]["FLOPs"].astype(float), kind="stable")]
    assert loss[by_cost].is_monotonic_decreasing
    assert loss[ringed].min() == loss.min()
    assert ringed[table["FLOPs"].astype(float).idxmin()]
    assert len(table) == 4 * 6

    _, power = page.power()
    sees = power.set_index(["comparison", "text"])["sees 0.01 in"].str.rstrip("%").astype(int)
    assert sees["1,200 steps: 6 − 4", "untouched plays"] > 90
    found = pd.DataFrame([vars(r) for r in recorded.load("depth-600")])
    by_arm = found.pivot(index="seed", columns="arm", values="reporting_loss")
    spread = (by_arm["6 layers"] - by_arm["4 layers"]).std()
    row = power.query("comparison == '600 steps: 6 − 4' and text == 'second half'").iloc[0]
    assert row["spread of a seed's difference"] == f"{spread:.4f}"
