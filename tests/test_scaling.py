"""Depth as a scale, against laws that are known beforehand."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch.utils.flop_counter import FlopCounterMode

from course_utils.lessons.model import GPT, GPTConfig, count_parameters
from course_utils.research import scaling

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


def test_the_cheapest_are_beaten_by_nothing_that_costs_less():
    table = pd.DataFrame({"cost": [3, 1, 2, 4], "loss": [1.2, 1.6, 1.7, 1.1]})
    assert scaling.cheapest(table, "cost")["cost"].tolist() == [1, 3, 4]


def test_power_is_how_often_the_test_sees_it():
    chance = np.random.default_rng(0)
    samples = chance.normal(0.01, 0.012, (20_000, 9))
    seen = (stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05).mean()
    assert scaling.power_of(0.01, 0.012, 9) == pytest.approx(seen, abs=0.015)
    needed = scaling.seeds_to_see(0.01, 0.012)
    assert scaling.power_of(0.01, 0.012, needed) >= scaling.POWER
    assert scaling.power_of(0.01, 0.012, needed - 1) < scaling.POWER
    spread, pairs = scaling.spread_of({0: 1.0, 1: 1.2, 2: 1.1}, {1: 1.0, 0: 1.1, 5: 3.0})
    assert (spread, pairs) == (pytest.approx(0.3 / 2**0.5), 2)
