"""Studies as data, run on a real pool of processes; and what is concluded from them."""

import multiprocessing
import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from course_utils import corpus
from course_utils.lessons.data import CharTokenizer, get_batch, split
from course_utils.lessons.model import GPT, GPTConfig
from course_utils.lessons.train import TrainConfig, next_character_loss, token_losses
from course_utils.research import comparisons, experiment, pool, studies, tables
from course_utils.training import evaluation, recipes, runs, trainer
from helpers import counting as text

OWN = SimpleNamespace(
    text="".join(chr(97 + i) for i in text(2000).tolist()),
    name="own",
    sha256="0" * 64,
    source="a test",
    note="",
)
SMALL = {"vocab_size": 11, "context_length": 8, "n_layers": 1, "n_heads": 1, "d_model": 8}
SMALL |= {"d_ff": 8, "dropout": 0.0}


def found(study, seeds=(0,), recipe="smoke", earlier=()):
    return {spec.arm: spec for spec in studies.STUDIES[study].specs(recipe, seeds, OWN, earlier)}


# --- the studies as data --------------------------------------------------------------------------
def rate(n_layers, learning_rate, loss):
    return SimpleNamespace(
        arm=f"{recipes.layers(n_layers)}, rate {learning_rate:g}",
        model={"n_layers": n_layers},
        train={"learning_rate": learning_rate},
        choosing_loss=loss,
    )


RATES = [
    rate(n, r, abs(r - n * 1e-3))
    for n in studies.ALL_DEPTHS
    for r in (n * 5e-4, n * 1e-3, n * 2e-3)
]


def test_each_depth_is_trained_at_the_rate_that_was_best_for_it():
    assert studies.best_rates(RATES) == {n: n * 1e-3 for n in studies.ALL_DEPTHS}
    assert tables.rate_table(RATES).query("best")["inside"].all()
    at_the_edge = [rate(2, 1e-3, 1.0), rate(2, 2e-3, 2.0)]
    assert not tables.rate_table(at_the_edge).query("best")["inside"].any()
    for spec in found("depth-fair", earlier=RATES).values():
        assert spec.train.learning_rate == spec.model.n_layers * 1e-3
    with pytest.raises(ValueError, match="course ablate rates"):
        found("depth-fair")


def test_frames_change_what_they_say_and_keep_the_rest():
    same_size = found("depth-parameters", recipe="fair", earlier=RATES).values()
    with torch.device("meta"):
        sizes = [sum(p.numel() for p in GPT(spec.model).parameters()) for spec in same_size]
    assert max(sizes) < 1.02 * min(sizes)
    steps = {
        spec.model.n_layers: spec.train.steps
        for spec in found("depth-time", recipe="fair", earlier=RATES).values()
    }
    assert steps == studies.TIMES
    assert steps[6] == recipes.RECIPES["fair"][1].steps


def test_another_context_keeps_a_steps_characters_and_another_batch_the_runs():
    contexts = found("context", recipe="modern-short").values()
    assert {s.model.context_length * s.train.batch_size for s in contexts} == {8192}
    batches = found("batch", recipe="modern-short").values()
    assert {s.train.batch_size * s.train.steps for s in batches} == {8 * 800}
    assert all(s.train.evaluate_every == s.train.steps for s in batches)


def test_every_choice_is_one_change_of_the_recipe_and_the_control_is_none():
    arms = found("choices-modern", seeds=[3], recipe="modern-short")
    base = arms[comparisons.REFERENCE]
    for arm, spec in arms.items():
        changed = {k for k, v in vars(spec.model).items() if v != vars(base.model)[k]}
        changed |= {k for k, v in vars(spec.train).items() if v != vars(base.train)[k]}
        assert (not changed) == (arm == comparisons.REFERENCE), arm
        if arm == "unchanged, other seeds":
            assert changed == {"seed"}
            assert spec.train.seed == 3 + comparisons.PAIRED
        elif arm.startswith("batch"):
            assert changed == {"batch_size", "steps", "evaluate_every"}
        elif arm.startswith("context"):
            assert changed == {"context_length", "batch_size"}
        elif arm == "AdamW":
            assert changed == {"optimizer", "learning_rate"}
        elif arm != comparisons.REFERENCE:
            assert len(changed) == 1, (arm, changed)


def test_a_share_of_the_text_is_its_beginning_and_another_run(tmp_path):
    whole, half = (found("depth")["2 layers"], replace(found("depth")["2 layers"], data_share=0.5))
    assert whole.fingerprint != half.fingerprint
    for spec in (whole, half):
        spec = replace(spec, train=replace(spec.train, steps=2))
        runs.execute(spec, OWN, tmp_path / str(spec.data_share))
    a, b = (
        runs.load_all(tmp_path / share)[0].history[0]["training_loss"] for share in ("1.0", "0.5")
    )
    assert a != b, "the windows come from elsewhere"


def test_a_run_learns_from_the_plays_that_its_seed_draws(tmp_path):
    tiny = corpus.load()
    specs = studies.STUDIES["plays"].specs("smoke", [0, 1], tiny, RATES)
    specs = [replace(s, train=replace(s.train, steps=2)) for s in specs if s.arm in FEW_PLAYS]
    try:
        records = [runs.execute(spec, tiny, tmp_path) for spec in specs]
    except corpus.CorpusError as error:
        pytest.skip(f"{error}")
    assert len({s.fingerprint for s in specs}) == 4
    assert [runs.spec_of(r, r.seed) for r in runs.load_all(tmp_path)] == sorted(
        specs, key=lambda spec: spec.name
    )
    less, more, other = records[0].drawn, records[1].drawn, records[2].drawn
    assert more[: len(less)] == less != other[: len(less)]
    losses = {r.history[0]["training_loss"] for r in records}
    assert len(losses) == 4, "the windows come from elsewhere"


FEW_PLAYS = {"2 layers, 1 million characters", "2 layers, 2 million characters"}


def test_a_run_can_have_the_weights_of_one_seed_and_the_batches_of_another(tmp_path):
    specs = studies.STUDIES["luck"].specs("smoke", [0], OWN, RATES)[:2]
    ids = torch.tensor(CharTokenizer(OWN.text).encode(OWN.text))
    for spec, weights, batches in zip(specs, (1000, 0), (0, 1000), strict=True):
        spec = replace(spec, train=replace(spec.train, steps=1))
        record = runs.execute(spec, OWN, tmp_path)
        assert runs.spec_of(record, spec.train.seed) == spec
        assert spec.fingerprint != replace(spec, weights_offset=0).fingerprint

        model = trainer.new_model(spec.model, TrainConfig(seed=weights))
        drawn = torch.Generator().manual_seed(batches)
        batch = get_batch(split(ids)[0], spec.train.batch_size, spec.model.context_length, drawn)
        expected = next_character_loss(model, *batch).item()
        assert record.history[0]["training_loss"] == pytest.approx(expected), spec.arm


# --- what is measured -----------------------------------------------------------------------------
def small_model():
    torch.manual_seed(0)
    return GPT(GPTConfig(**SMALL | {"dropout": 0.5}))


@pytest.mark.parametrize("length", [2, 8, 9, 10, 17, 1000, 1500])
def test_token_losses_are_those_of_windows_read_one_by_one(length):
    generator = torch.Generator().manual_seed(1)
    model, ids = small_model(), torch.randint(11, (length,), generator=generator)
    losses = token_losses(model, ids)
    assert model.training, "the mode is as it was"
    model.eval()
    alone = []
    for start in range(0, length - 1, 8):
        tokens, targets = ids[start : length - 1][:8], ids[start + 1 :][:8]
        with torch.no_grad():
            logits = model(tokens[None])[0]
        alone.append(torch.nn.functional.cross_entropy(logits, targets, reduction="none"))
    assert torch.allclose(losses, torch.cat(alone).double(), atol=1e-5)


def test_halves_are_cut_between_windows_and_places_hold_their_means():
    assert evaluation.half(111_539, 256) == evaluation.half(111_539, 1024) == 54 * 1024
    assert evaluation.half(100, 8) == 48
    assert evaluation.half(5, 8) == 2
    losses = torch.arange(8.0).repeat(3)
    assert evaluation.by_position(torch.cat([losses, torch.tensor([9.0])]), 8) == [0, 1, 2.5, 5.5]
    assert evaluation.by_position(torch.arange(6.0), 6) == [0, 1, 2.5, 4.5]


def test_a_run_chooses_on_one_half_and_reports_the_other():
    """The first half is what is learned, the second noise: the one gets easier,
    the other harder."""
    ids, chance = text(600), torch.Generator().manual_seed(5)
    validation_ids = torch.cat([text(200), torch.randint(11, (200,), generator=chance)])
    train = replace(recipes.named_recipe("smoke")[1], steps=60, evaluate_every=5)
    result = trainer.train(trainer.new_model(GPTConfig(**SMALL), train), ids, validation_ids, train)
    middle = evaluation.half(len(validation_ids) - 1, 8)
    share = middle / (len(validation_ids) - 1)
    both = share * result.choosing_loss + (1 - share) * result.reporting_loss
    assert both == pytest.approx(result.validation_loss, abs=1e-9)
    rows = [row for row in result.history if "choosing_loss" in row]
    best, other = (
        min(rows, key=lambda row: row[half])["step"] for half in ("choosing_loss", "reporting_loss")
    )
    assert result.best_step == best != other


# --- what is concluded ----------------------------------------------------------------------------
def record(arm, seed, loss):
    return SimpleNamespace(
        arm=arm, seed=seed, reporting_loss=loss, validation_loss=loss, untouched={}
    )


def test_effects_are_paired_and_corrected_for_their_number():
    rng = np.random.default_rng(0)
    arms = {"unchanged": 0.0, "better": -0.05, "same": 0.0, "unchanged, other seeds": 0.0}
    luck = rng.normal(0, 0.1, 6)
    records = [
        record(
            arm,
            seed + comparisons.PAIRED * (arm == "unchanged, other seeds"),
            1.5 + luck[seed] + shift + noise,
        )
        for arm, shift in arms.items()
        for seed, noise in enumerate(rng.normal(0, 0.003, 6))
    ]
    table = comparisons.against(records).set_index("arm")
    assert table.index[0] == "better"
    assert len(table) == 3
    assert table["clear"].to_dict() == {
        "better": True,
        "same": False,
        "unchanged, other seeds": False,
    }
    named = comparisons.tasks_marked(table.rename({"same": "context 64"}).reset_index())["arm"]
    assert {"better", "context 64 (another task)"} < set(named)
    losses = comparisons.losses_of(records)
    t = stats.ttest_rel(
        [losses["better"][s] for s in range(6)], [losses["unchanged"][s] for s in range(6)]
    )
    assert table.loc["better", "p"] == pytest.approx(t.pvalue)
    interval = t.confidence_interval()
    assert table.loc["better", ["low", "high"]].tolist() == pytest.approx(
        [interval.low, interval.high]
    )
    assert (
        table.loc["unchanged, other seeds", "low"] < 0 < table.loc["unchanged, other seeds", "high"]
    )


def test_holm_by_hand_and_against_trying_every_level():
    assert comparisons.holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    p = np.random.default_rng(1).uniform(0, 0.1, 9)
    corrected = comparisons.holm(p)
    for level in np.linspace(
        0.001, 1, 200
    ):  # Holm's own words: reject from the smallest while p <= level / what is left
        rejected, left = set(), len(p)
        for i in np.argsort(p):
            if p[i] > level / left:
                break
            rejected.add(i)
            left -= 1
        assert rejected == {i for i in range(9) if corrected[i] <= level}


def test_a_row_is_reproduced_or_not_or_cannot_be_told():
    recorded = [1.50, 1.51, 1.49, 1.505, 1.495, 1.50]
    answers = {
        loss: comparisons.compare_with_recorded("a row", loss, recorded).verdict
        for loss in (1.503, 1.525, 1.7)
    }
    assert answers == {1.503: "reproduced", 1.525: "can't tell", 1.7: "not reproduced"}
    assert comparisons.compare_with_recorded("a row", 1.5, recorded[:2]).verdict == "can't tell"
    rng, hits = np.random.default_rng(2), 0
    for _ in range(2000):
        *seeds, new = rng.normal(1.5, 0.01, 7)
        hits += comparisons.compare_with_recorded("a row", new, seeds).verdict == "reproduced"
    assert hits / 2000 == pytest.approx(0.95, abs=0.015)


def test_the_same_bits_are_said_where_they_came_and_where_they_should_have(tmp_path):
    """On a GPU an exact run must give them again; a CPU of another kind need not."""
    (recorded,) = pool.run_specs([tiny(0, steps=3)], OWN, tmp_path / "one")
    (again,) = pool.run_specs([tiny(0, steps=3)], OWN, tmp_path / "two")
    (longer,) = pool.run_specs([tiny(0, steps=4)], OWN, tmp_path / "three")

    def answer(new, **changes):
        there = replace(recorded, **changes) if changes else recorded
        return comparisons.compare_bits("a row", new, [there])

    assert answer(again).verdict == "reproduced"
    assert recorded.weights_sha256 in answer(again).why
    assert answer(longer) is None, "this CPU may not be the recorded one's kind"
    assert answer(again, weights_sha256="") is None, "a record of before there was a hash"
    assert answer(again, seed=1) is None

    gpu = {"regime": "cuda, bf16, CUDA graph, exact", "environment": {"device": "a GPU"}}
    here = replace(longer, **gpu)
    assert answer(here, **gpu).verdict == "not reproduced"
    assert answer(here, **gpu | {"environment": {"device": "another"}}) is None
    inexact = {"regime": "cuda, bf16, CUDA graph"}
    assert answer(replace(here, **inexact), **gpu | inexact) is None


def test_a_record_names_the_weights_that_lie_beside_it(tmp_path):
    (one,) = pool.run_specs([tiny(0, steps=3)], OWN, tmp_path / "one")
    (other,) = pool.run_specs([tiny(1, steps=3)], OWN, tmp_path / "other")
    assert list(experiment.wrong_with(one, OWN, "cpu")) == []
    one.checkpoint.write_bytes(other.checkpoint.read_bytes())
    assert list(experiment.wrong_with(one, OWN, "cpu")) == [
        f"{one.name} has other weights than its record says"
    ]


# --- running --------------------------------------------------------------------------------------
def tiny(seed, **changes):
    spec = found("depth", seeds=[seed])["2 layers"]
    return replace(spec, train=replace(spec.train, **changes))


def test_a_diverging_run_is_named_and_stops_no_other(tmp_path):
    specs = [tiny(0), tiny(1, learning_rate=1e20), tiny(2)]
    with pytest.raises(
        trainer.TrainingError,
        match=r"2 layers, seed 1: .*no longer a number.*2 other runs are kept",
    ):
        pool.run_specs(specs, OWN, tmp_path)
    assert [r.seed for r in runs.load_all(tmp_path)] == [0, 2]


@pytest.mark.slow
def test_a_process_that_is_killed_takes_no_other_run_with_it(tmp_path):
    long, *short = tiny(0, steps=100_000), tiny(1, steps=2), tiny(2, steps=2)

    def kill(record):
        for process in multiprocessing.active_children():  # the long run's, once, then none
            os.kill(process.pid, signal.SIGKILL)

    words = r"2 layers, seed 0: its process was killed; .*\(2 other runs are kept\)"
    with pytest.raises(pool.PoolError, match=words):
        pool.run_specs([long, *short], OWN, tmp_path, workers=2, on_record=kill)
    assert [r.seed for r in runs.load_all(tmp_path)] == [1, 2]


@pytest.mark.slow
def test_what_stops_a_process_for_good_is_said_here(tmp_path):
    """A disk that is no folder: as where it is full, the others would meet the same."""
    (tmp_path / "checkpoints").write_text("no folder")
    with pytest.raises(OSError, match="checkpoints"):
        pool.run_specs([tiny(0), tiny(1)], OWN, tmp_path, workers=2)
    assert not multiprocessing.active_children()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_processes_do_not_hear_ctrl_c_from_their_first_moment_on(tmp_path):
    worker = pool.Worker(0, 1)
    os.kill(worker.process.pid, signal.SIGINT)  # it is loading Python, at most
    worker.begin([tiny(0, steps=2)], OWN, tmp_path, "cpu", ())
    ((_, record),) = worker.outcomes()
    assert record.seed == 0
    worker.end()


def test_frames_give_each_comparison_on_every_text_corrected_for_all():
    rng, frames = np.random.default_rng(4), {}
    for frame in ("one", "two"):
        records = [record(arm, seed, rng.normal(1.5, 0.1)) for arm in "abc" for seed in range(5)]
        for one in records:
            one.validation_loss = one.reporting_loss + rng.normal(0, 0.05)
            one.untouched = {"hamlet": rng.normal(1.6, 0.1)}
            one.untouched_loss = one.untouched["hamlet"]
        frames[frame] = records
    table = comparisons.in_frames(frames)
    assert table[["frame", "arm", "other"]].values.tolist() == [
        [frame, *pair] for frame in ("one", "two") for pair in ("ba", "cb")
    ]
    for row in table.itertuples():
        arms = [[r for r in frames[row.frame] if r.arm == name] for name in (row.arm, row.other)]
        half = [[r.reporting_loss for r in arm] for arm in arms]
        whole = [[r.validation_loss for r in arm] for arm in arms]
        assert row.p == pytest.approx(stats.ttest_rel(*half).pvalue)
        assert row.whole == pytest.approx(np.mean(whole[0]) - np.mean(whole[1]))
        plays = [[r.untouched["hamlet"] for r in arm] for arm in arms]
        assert row.untouched_p == pytest.approx(stats.ttest_rel(*plays).pvalue)
        assert row.r == pytest.approx(np.corrcoef(half)[0, 1])
    assert table["p_holm"].tolist() == pytest.approx(comparisons.holm(table["p"]).tolist())
    assert (table["clear"] == (table["p_holm"] < 0.05)).all()


def test_without_plays_nothing_is_said_of_them():
    records = [record(arm, seed, 1.5) for arm in "ab" for seed in (0, 1)]
    table = comparisons.in_frames({"one": records})
    assert not [name for name in table if "untouched" in name]


def crossed(rng, seeds, plays, spread_of_seeds, spread_of_plays):
    """Losses of two arms whose difference has an effect of the seed and one of the play."""
    table = 1.5 + rng.normal(0, spread_of_seeds, (seeds, 1))
    table = table + rng.normal(0, spread_of_plays, plays) + rng.normal(0, 0.01, (seeds, plays))
    one = {
        seed: {f"play {i}": loss for i, loss in enumerate(row)} for seed, row in enumerate(table)
    }
    return one, {seed: dict.fromkeys(losses, 1.5) for seed, losses in one.items()}


@pytest.mark.parametrize("spreads", [(0.1, 0.0), (0.0, 0.1), (0.1, 0.1)])
def test_an_interval_over_seeds_and_plays_covers_what_it_says(spreads):
    rng = np.random.default_rng(5)
    found = [comparisons.over_plays(*crossed(rng, 8, 8, *spreads)) for _ in range(400)]
    assert np.mean([low < 0 < high for low, high in found]) == pytest.approx(0.95, abs=0.03)


def test_pairing_narrows_an_interval_where_seeds_share_luck_alone():
    rng = np.random.default_rng(6)
    shared, *own = rng.normal(0, 1, (3, 8))
    for share, narrower in ((3.0, True), (0.0, False)):
        arms = [dict(enumerate(share * shared + luck)) for luck in own]
        found = comparisons.pairing(*arms)
        values = [list(arm.values()) for arm in arms]
        welch = stats.ttest_ind(*values, equal_var=False).confidence_interval()
        assert found["unpaired"] == pytest.approx((welch.high - welch.low) / 2)
        paired = stats.ttest_rel(*values).confidence_interval()
        assert found["paired"] == pytest.approx((paired.high - paired.low) / 2)
        assert (found["paired"] < found["unpaired"]) == narrower


def test_a_pooled_correlation_leaves_out_what_groups_differ_by():
    rng = np.random.default_rng(7)
    table = pd.DataFrame(rng.normal(0, 1, (30, 2)), columns=["one", "other"])
    low, r, high = comparisons.pooled_correlation(table.assign(group=0))
    test = stats.pearsonr(table["one"], table["other"])
    interval = test.confidence_interval()
    assert (low, r, high) == pytest.approx((interval.low, test.statistic, interval.high))
    apart = table.add(np.repeat([0, 50, 100], 10), axis=0).assign(group=np.repeat([0, 1, 2], 10))
    assert abs(comparisons.pooled_correlation(apart)[1]) < 0.5 < apart["one"].corr(apart["other"])


def test_only_seeds_that_both_arms_have_are_paired_over_plays():
    one, other = crossed(np.random.default_rng(5), 3, 4, 0.0, 0.0)
    paired = comparisons.over_plays(one, other)
    one[7] = dict.fromkeys(one[0], 9.0)
    assert comparisons.over_plays(one, other) == paired
