"""The trainer, records, studies and statistics, against second sources."""

import json
import math
from dataclasses import asdict, replace
from functools import partial
from types import SimpleNamespace

import nbclient
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import helpers
from course_utils import corpus, files, profiles
from course_utils.generation import quality
from course_utils.lessons.ablation import sign_flip_p
from course_utils.lessons.data import get_batch, split
from course_utils.lessons.model import GPT, GPTConfig, count_parameters
from course_utils.lessons.train import (
    TrainConfig,
    evaluate,
    learning_rate_at,
    make_optimizers,
    training_step,
)
from course_utils.research import comparisons, pool, studies, tables
from course_utils.training import checkpoints, recipes, runs, trainer
from helpers import OWN, WITH_TESTS, CtrlC

TEXT = OWN.text
SMALL = replace(helpers.SMALL, vocab_size=len(set(TEXT)), dropout=0.1)
spec = partial(helpers.spec, steps=4, batch_size=2)


def ids():
    alphabet = sorted(set(TEXT))
    return split(torch.tensor([alphabet.index(character) for character in TEXT]))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_trainer_is_the_plain_loop(optimizer):
    """Fifty steps, losses equal to the last bit: the same weights, batches, dropout
    and schedule."""
    schedule = {"warmup_steps": 5, "decay": 0.5, "evaluate_every": 10}
    config = TrainConfig(steps=50, batch_size=3, optimizer=optimizer, seed=7, **schedule)
    train_ids, validation_ids = ids()
    model = trainer.new_model(SMALL, config)
    optimizers = make_optimizers(model, config)
    windows = torch.Generator().manual_seed(7)
    torch.manual_seed(8)
    losses, plain = [], []
    for step in range(50):
        batch = get_batch(train_ids, 3, 16, windows)
        rate = learning_rate_at(step, config)
        losses.append(training_step(model, optimizers, *batch, rate, config.clip_norm).item())
        if step % 10 == 9:
            plain.append(evaluate(model, validation_ids))
    result = trainer.train(trainer.new_model(SMALL, config), train_ids, validation_ids, config)
    assert [row["training_loss"] for row in result.history] == losses, (
        "a short run reports each step"
    )
    found = [row["validation_loss"] for row in result.history if "validation_loss" in row]
    assert found == pytest.approx(plain, abs=1e-6), (
        "one is a mean of means, the other the mean of all characters"
    )


def test_a_result_says_how_it_came_about_and_what_it_cost():
    config = TrainConfig(steps=9, batch_size=2, evaluate_every=4)
    result = trainer.train(trainer.new_model(SMALL, TrainConfig()), *ids(), config)
    assert result.regime == "cpu, fp32"
    assert result.setup_s >= 0
    assert 0 < result.evaluating_s < result.elapsed_s == result.history[-1]["elapsed_s"]
    assert [row["step"] for row in result.history] == list(range(1, 10))
    assert [row["step"] for row in result.history if "validation_loss" in row] == [4, 8, 9]
    assert result.characters_per_s == pytest.approx(
        9 * 2 * 16 / (result.elapsed_s - result.evaluating_s)
    )


@pytest.mark.promise("seed")
def test_one_seed_one_result_and_the_best_weights_are_kept():
    config = TrainConfig(steps=60, batch_size=4, learning_rate=0.5, evaluate_every=2, seed=1)
    # A rate at which it gets worse again.
    train_ids, validation_ids = ids()
    models = [trainer.new_model(SMALL, config) for _ in "ab"]
    results = [trainer.train(model, train_ids, validation_ids, config) for model in models]
    assert all(
        torch.equal(a, b) for a, b in zip(*(m.state_dict().values() for m in models), strict=True)
    )
    best = min(row["validation_loss"] for row in results[0].history if "validation_loss" in row)
    assert best < results[0].history[-1]["validation_loss"], (
        "the last weights are not the best here"
    )
    assert results[0].validation_loss == best
    assert evaluate(models[0], validation_ids) == pytest.approx(best, abs=1e-6)


def test_an_epoch_is_as_many_characters_as_the_training_split_holds():
    config = TrainConfig(steps=120, batch_size=4, evaluate_every=0)
    train_ids, _ = ids()
    result = trainer.train(trainer.new_model(SMALL, config), *ids(), config)
    evaluated = [row["step"] for row in result.history if "validation_loss" in row]
    assert evaluated[0] == len(train_ids) // (4 * 16)


def test_between_evaluations_the_training_loss_is_the_mean_since_the_report_before():
    config = TrainConfig(steps=200, batch_size=2, evaluate_every=90, patience=0, learning_rate=0.01)
    often = trainer.train(
        trainer.new_model(SMALL, config), *ids(), replace(config, steps=49, decay=0.0)
    )
    each = [row["training_loss"] for row in often.history]
    result = trainer.train(trainer.new_model(SMALL, config), *ids(), config)
    assert [row["step"] for row in result.history] == sorted({*range(4, 201, 4), 90, 180})
    means = [np.mean(np.float32(each[at : at + 4])) for at in range(0, 48, 4)]
    assert [row["training_loss"] for row in result.history[:12]] == pytest.approx(means, abs=1e-5)


def test_what_cannot_be_trained_says_why():
    config = TrainConfig(steps=30, batch_size=2, learning_rate=1e20, evaluate_every=10)
    with pytest.raises(trainer.TrainingError, match="lower learning rate"):
        trainer.train(trainer.new_model(SMALL, config), *ids(), config)
    few = torch.zeros(16, dtype=torch.int64)
    with pytest.raises(trainer.TrainingError, match="too short"):
        trainer.train(trainer.new_model(SMALL, config), few, torch.zeros(9), config)
    with pytest.raises(ValueError, match="adamw or muon"):
        TrainConfig(optimizer="sgd")


def test_a_run_is_found_again_by_what_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_RESULTS", str(tmp_path))
    model, record = runs.load_or_train(spec(), OWN)
    assert "trained just now" in capsys.readouterr().out
    again, same = runs.load_or_train(spec(), OWN)
    assert "your run" in capsys.readouterr().out
    assert same.history == record.history
    tokens = torch.arange(5)[None]
    assert torch.equal(model(tokens), again(tokens))
    for other in (spec(seed=1), spec(learning_rate=2e-4), replace(spec(), corpus_sha256="1" * 64)):
        assert runs.find(other, [tmp_path]) is None
    assert count_parameters(model) == record.parameters


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("position", ["learned", "sinusoidal", "rope", "none"])
def test_a_checkpoint_gives_the_same_logits(tmp_path, tied, position):
    model = GPT(replace(SMALL, tie_embeddings=tied, position=position)).eval()
    alphabet = "".join(sorted(set(TEXT)))
    for name in ("m.safetensors", "again.safetensors"):
        checkpoints.save_model(tmp_path / name, model, alphabet)
    assert (tmp_path / "m.safetensors").read_bytes() == (
        tmp_path / "again.safetensors"
    ).read_bytes()
    loaded, tokenizer = checkpoints.load_model(tmp_path / "m.safetensors", alphabet)
    tokens = torch.tensor([tokenizer.encode("To be, or not")])
    assert torch.equal(model(tokens), loaded(tokens))
    assert not loaded.training


def test_a_checkpoint_in_whole_numbers(tmp_path):
    """A weight is its whole number times its group's scale;
    without its scales the file is refused."""
    model, path, name = (
        GPT(replace(SMALL, d_model=32)),
        tmp_path / "m.safetensors",
        "attention.qkv.weight",
    )
    rows, width = model.blocks[0].get_parameter(name).shape
    numbers = torch.randint(-127, 128, (rows, width), dtype=torch.int8)
    scales = torch.rand(rows, width // 16).half()
    whole = {f"blocks.0.{name}": numbers, f"blocks.0.{name}.scale": scales}
    checkpoints.save_model(path, model, "".join(sorted(set(TEXT))), torch.float16, whole)
    loaded, _ = checkpoints.load_model(path)
    found = loaded.blocks[0].get_parameter(name)
    for i in range(width):
        assert torch.equal(found[:, i], numbers[:, i].float() * scales[:, i // 16].float())
    assert torch.equal(
        loaded.blocks[1].get_parameter(name), model.blocks[1].get_parameter(name).half().float()
    )
    tensors, about = files.read_tensors(path, "checkpoint")
    del tensors[f"blocks.0.{name}.scale"]
    for bad in (
        {},
        {f"blocks.0.{name}.scale": scales[:, :1]},
        {f"blocks.0.{name}.scale": scales[:1]},
    ):
        files.write_tensors(path, tensors | bad, about)
        with pytest.raises(files.RunError, match="do not fit"):
            checkpoints.load_model(path)


def test_a_record_that_is_no_record_is_refused(tmp_path):
    for content in ("", "{}", "[1]", "<html>", json.dumps({"name": "x"})):
        path = tmp_path / "logs" / "x.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        with pytest.raises(files.RunError, match="not a run record"):
            runs.RunRecord.load(path)


@pytest.mark.slow
@pytest.mark.promise("at once")
def test_two_processes_give_the_records_of_one(tmp_path):
    """A pool of fresh processes: the same runs, in order, with the same losses
    as one after the other."""
    specs = [spec(seed=seed) for seed in (0, 1)]
    one = pool.run_specs(specs, OWN, tmp_path / "one")
    many = pool.run_specs(specs, OWN, tmp_path / "many", workers=2)
    assert [r.seed for r in many] == [0, 1]
    assert [r.validation_loss for r in one] == pytest.approx(
        [r.validation_loss for r in many], abs=1e-5
    )


def test_every_study_is_data_that_trains():
    models, train = [{"n_layers": n} for n in studies.ALL_DEPTHS], {"learning_rate": 1e-3}
    rates = [SimpleNamespace(model=model, train=train, choosing_loss=2.0) for model in models]
    for study in studies.STUDIES.values():
        specs = study.specs("smoke", [0], OWN, rates)
        arms = {s.arm for s in specs}
        assert len({s.fingerprint for s in specs}) == len(arms) == len(specs), study.name
        assert len({s.name for s in specs}) == len(specs), study.name
        seeds = [s.train.seed % 1000 for s in study.specs("smoke", [3, 5], OWN, rates)]
        assert seeds == [3] * len(arms) + [5] * len(arms), "arms are paired by their seeds"
        for one in specs:
            assert math.isfinite(GPT(one.model)(torch.zeros(1, 4, dtype=torch.int64)).sum().item())
    with pytest.raises(ValueError, match="no setting"):
        studies.Study("typo", "", {"a": {"n_layer": 2}}).specs("smoke", [0], OWN)


def test_the_baseline_is_the_assignment_to_the_letter():
    (one,) = studies.Study("s", "", {"6 layers": {"n_layers": 6}}).specs("baseline", [0], OWN)
    model, train = one.model, one.train
    sizes = (model.d_model, model.n_heads, model.d_ff, model.context_length, model.dropout)
    assert sizes == (256, 8, 1024, 256, 0.1)
    kinds = (model.position, model.norm, model.activation, model.tie_embeddings)
    assert kinds == ("learned", "layernorm", "gelu", True)
    numbers = (train.optimizer, train.learning_rate, train.weight_decay, train.batch_size)
    assert numbers == ("adamw", 1e-4, 0.01, 32)
    assert (train.patience, train.warmup_steps, train.decay) == (5, 0, 0.0)


def test_a_gpu_runs_the_assignment_and_a_laptop_its_own_recipe():
    gpu, laptop = (
        studies.planned(studies.STUDIES["depth"], profiles.PROFILES[name], OWN, "nowhere")
        for name in ("gpu", "laptop")
    )
    assert {s.recipe for s in gpu} == {"baseline"}
    assert {s.recipe for s in laptop} == {"laptop"}
    assert (len(gpu), len(laptop)) == (3 * 6, 3 * 2)


def test_intervals_agree_with_scipy_and_cover_as_often_as_they_say():
    values = [0.3, -0.1, 0.25, 0.4]
    low, mean, high = comparisons.mean_interval(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert mean == pytest.approx(np.mean(values))
    assert np.isnan(comparisons.mean_interval([1.0])[0])
    samples = np.random.default_rng(0).normal(0.5, 2.0, size=(4000, 3))
    hits = [low <= 0.5 <= high for low, _, high in map(comparisons.mean_interval, samples)]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.012)


def test_the_verdict_says_no_more_than_the_interval():
    base = {0: 1.70, 1: 1.72, 2: 1.71}
    shift = lambda d: {seed: loss + d + 0.002 * (seed - 1) for seed, loss in base.items()}  # noqa: E731
    better = comparisons.compare("deep", shift(-0.05), "flat", base)
    assert better.verdict.startswith("deep predict better")
    assert comparisons.compare("deep", shift(0.05), "flat", base).verdict.startswith(
        "deep predict worse"
    )
    for small in (0.001, -0.001):
        assert comparisons.compare("deep", shift(small), "flat", base).verdict.startswith(
            "No difference seen"
        )
    assert "no verdict" in comparisons.compare("deep", {0: 1.0}, "flat", base).verdict
    apart = comparisons.compare("deep", {9: 1.0}, "flat", base)
    assert apart.pairs == 0
    assert "share no seed" in apart.verdict


def test_the_sign_flip_test_agrees_with_scipy():
    rng = np.random.default_rng(1)
    for n in (2, 5, 6, 9):
        d = rng.normal(0.3, 1, n)
        exact = stats.permutation_test(
            (d,), np.mean, permutation_type="samples", n_resamples=np.inf
        )
        assert sign_flip_p(d.tolist()) == pytest.approx(exact.pvalue)
    assert sign_flip_p([1.0] * 5) == 2 / 32 > 0.05 > 2 / 64 == sign_flip_p([1.0] * 6)


def test_tables_hold_what_the_records_hold(tmp_path):
    specs = [s for seed in (0, 1) for s in (spec(seed=seed), replace(spec(seed=seed), arm="twin"))]
    records = pool.run_specs(specs, OWN, tmp_path)
    final = tables.final_table(records)
    assert final["perplexity"].tolist() == pytest.approx(
        [math.exp(r.validation_loss) for r in records]
    )
    arms = tables.arm_table(final).set_index("arm")
    own = [r.validation_loss for r in records if r.arm == "twin"]
    assert arms.loc["twin", "validation_loss"] == pytest.approx(sum(own) / 2)
    assert arms.loc["twin", "seeds"] == 2
    (comparison,) = comparisons.adjacent(records)
    assert comparison.difference == pytest.approx(0, abs=1e-12), "the same arm under two names"
    assert len(tables.curves(records)) == sum(len(r.history) for r in records)


def test_quality_by_hand():
    assert quality.distinct_n("a b a b c") == 3 / 4
    assert quality.repetition("abcabc", n=3) == 1 / 4
    assert quality.known_words("cut the dog cut", {"the"}) == 1 / 2
    assert quality.longest_copy("xxto bexx", "not to be") == "to be"
    assert quality.longest_copy("q", "abc") == ""
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = ("".join(rng.choice(list("ab"), size=n)) for n in (9, 30))
        brute = max((a[i:j] for i in range(9) for j in range(i, 10) if a[i:j] in b), key=len)
        assert len(quality.longest_copy(a, b)) == len(brute)


@pytest.mark.slow
def test_the_judge_measures_the_human_reference_as_the_facts_say():
    text = corpus.load()
    if not text.is_real:
        pytest.skip("these are facts about Tiny Shakespeare")
    judge = quality.Judge(text)
    whole = judge.measure(judge.held_out[:20_000])
    assert whole["known_words"] == pytest.approx(0.934, abs=0.02)
    assert judge.n_gram.loss(torch.tensor(judge.tokenizer.encode(judge.held_out))) == pytest.approx(
        1.669, abs=0.001
    )
    shorter = judge.measure(judge.training_text[5000:6000])
    assert (shorter["longest_copy"], shorter["known_words"]) == (1000, 1.0), "a copy is seen as one"


def test_a_setting_is_found_again_in_the_table():
    rows = [{"arm": "m", "top_k": math.nan, "top_p": math.nan, **s} for s in quality.SETTINGS]
    table = pd.DataFrame(
        [*rows, {"arm": quality.HUMAN}], columns=["arm", "temperature", "top_k", "top_p"]
    )
    for i, setting in enumerate(quality.SETTINGS):
        assert quality.like(table, setting).index.tolist() == [i, len(rows)]


def test_profiles(monkeypatch):
    assert profiles.named("laptop").recipe == "laptop"
    monkeypatch.setenv("COURSE_PROFILE", "smoke")
    assert profiles.current().name == "smoke"
    with pytest.raises(ValueError, match="smoke, laptop, gpu"):
        profiles.named("tablet")
    assert 1 <= profiles.cores() <= 4096


def test_what_wrote_the_practice_text_can_be_trained_again():
    run = json.loads((files.PUBLISHED / "practice.json").read_text())["run"]
    model, train = recipes.named_recipe(run["recipe"])
    assert replace(train, seed=run["seed"]) == TrainConfig(**run["train"])
    assert asdict(GPTConfig(vocab_size=run["model"]["vocab_size"], **model)) == run["model"]


def test_published_runs_load():
    logs = sorted((files.PUBLISHED / "logs").glob("*.json"))
    assert logs
    for path in logs:
        record = runs.RunRecord.load(path)
        if record.seed == 0:
            assert checkpoints.load_model(record.checkpoint)[0].config == GPTConfig(**record.model)


@pytest.mark.parametrize("profile", ["smoke", "laptop", "gpu"])
def test_the_lessons_models_are_those_of_the_study_of_depth(profile, monkeypatch):
    monkeypatch.setenv("COURSE_PROFILE", profile)
    specs = studies.STUDIES["depth"].specs(profiles.named().recipe, [3], OWN)
    assert [runs.depth_spec(n, OWN, seed=3) for n in (2, 4, 6)] == specs


def test_a_lesson_finds_what_the_one_before_has_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_PROFILE", "smoke")
    monkeypatch.setenv("COURSE_RESULTS", str(tmp_path))
    model, record = runs.small_model(OWN)
    records = studies.records(studies.STUDIES["depth"], OWN, seeds=1)
    models = runs.depth_models(OWN)
    assert record.name == records[0].name
    assert list(models) == [r.arm for r in records] == ["2 layers", "4 layers", "6 layers"]
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, models["2 layers"].state_dict()[name].cpu())
    said = [line.rsplit("(", 1)[1] for line in capsys.readouterr().out.splitlines()]
    new, old = "trained just now)", "your run)"
    assert said == [new, old, new, new, old, old, old]


def test_a_curve_has_its_points_and_changes_nothing_else(tmp_path):
    """Exact evaluations to look at: the same weights, the same record but for those points."""
    wanted = spec(steps=150, evaluate_every=100)
    curved = replace(wanted, curve_points=7)  # beside the reports, which are three steps apart
    assert curved == wanted, "it is the same run"
    assert curved.fingerprint == wanted.fingerprint
    plain = runs.execute(wanted, OWN, tmp_path / "plain")
    record = runs.execute(curved, OWN, tmp_path / "curve")
    points = {row["step"] for row in record.history if "validation_loss" in row}
    assert points >= {round(i * 150 / 7) for i in range(1, 8)} | {100, 150}
    chosen = [row["step"] for row in record.history if "choosing_loss" in row]
    assert chosen == [100, 150], "what is only looked at chooses nothing"
    assert helpers.same(helpers.weights(plain.checkpoint), helpers.weights(record.checkpoint))

    theirs, ours = helpers.timeless(plain), helpers.timeless(record)
    only_looked_at = points - {100, 150}
    rows = {row["step"]: row for row in theirs.pop("history")}
    for row in ours.pop("history"):
        if row["step"] in only_looked_at:
            row.pop("validation_loss")
        if row["step"] in rows:
            assert row == rows.pop(row["step"])
    assert not rows
    assert ours == theirs
    assert runs.find(wanted, [tmp_path / "curve"]) == record


def test_a_point_of_a_curve_is_the_exact_loss_there(tmp_path):
    """A run that ends at a point evaluates there to the same number."""
    wanted = replace(spec(steps=50, evaluate_every=50, decay=0.0), curve_points=5)
    record = runs.execute(wanted, OWN, tmp_path / "long")
    short = runs.execute(spec(steps=20, evaluate_every=20, decay=0.0), OWN, tmp_path / "short")
    (there,) = [row for row in record.history if row["step"] == 20]
    assert there["validation_loss"] == short.validation_loss


def test_an_epochs_end_is_a_point_where_there_are_few():
    assert trainer.watched(10, 4, 2) == {5, 10, 4, 8}
    assert trainer.watched(10, 3, 2) == {5, 10}, "and not where they are many"
    assert trainer.watched(10, 4, 0) == set()


def test_a_curve_survives_a_stop(tmp_path):
    curved = replace(spec(steps=40, evaluate_every=40), curve_points=7)
    straight = runs.execute(curved, OWN, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt, match="its state is saved"):
        runs.execute(curved, OWN, tmp_path / "stopped", on_step=CtrlC(25))
    again = runs.execute(curved, OWN, tmp_path / "stopped")
    assert helpers.timeless(again) == helpers.timeless(straight)


def test_a_point_of_a_curve_says_the_training_loss_of_as_many_steps_as_a_report(tmp_path):
    wanted = replace(spec(steps=150, evaluate_every=150), curve_points=7)
    record = runs.execute(wanted, OWN, tmp_path / "curve")
    every = runs.execute(spec(steps=49, evaluate_every=150, decay=0.0), OWN, tmp_path / "each")
    each = [row["training_loss"] for row in every.history]
    (point,) = [row for row in record.history if row["step"] == 43]
    expected = np.mean(np.float32(each[40:43]))
    assert point["training_loss"] == pytest.approx(expected, abs=1e-5)


STOPPED = """
import torch
from course_utils.lessons.data import CharTokenizer, split
from course_utils.training import runs, trainer
from helpers import OWN, CtrlC, spec

wanted = spec(steps=40, batch_size=2)
ids = torch.tensor(CharTokenizer(OWN.text).encode(OWN.text))
model = trainer.new_model(wanted.model, wanted.train)
----
trainer.train(model, *split(ids), wanted.train, on_step=CtrlC(3))
----
runs.execute(wanted, OWN, "out", on_step=CtrlC(3))
"""


def test_a_notebook_shows_a_stopped_run_in_one_line(tmp_path):
    """Ctrl-C in the middle of a cell: what to know, and not the way through PyTorch."""
    cells = map(nbformat.v4.new_code_cell, STOPPED.split("----\n"))
    notebook = nbformat.v4.new_notebook(cells=[*cells])
    client = nbclient.NotebookClient(notebook, allow_errors=True)
    client.execute(cwd=str(tmp_path), env=WITH_TESTS)
    (_, (plain,), (saved,)) = (cell.outputs for cell in notebook.cells)
    for error in (plain, saved):
        (line,) = error.traceback
        assert line.startswith("KeyboardInterrupt: stopped after step 3")
        assert ("its state is saved" in line) == (error is saved)
