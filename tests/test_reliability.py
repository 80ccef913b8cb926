"""Nothing lost: runs that are killed, interrupted, resumed, that diverge, or meet a full disk.

A few trials each; with COURSE_TRIALS=full as many as the book's page on reliability says.
"""

import copy
import itertools
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from jupyter_client.manager import start_new_kernel

from course_utils import corpus, files
from course_utils.lessons.data import CharTokenizer, get_batch, split
from course_utils.lessons.model import GPTConfig
from course_utils.lessons.train import EarlyStopping, TrainConfig, evaluate
from course_utils.research import pool
from course_utils.training import checkpoints, engine, recipes, runs, trainer
from helpers import (
    FULL,
    OWN,
    ROOT,
    SMALL,
    WITH_TESTS,
    CtrlC,
    by_path,
    counting,
    same,
    several,
    spec,
    timeless,
    wait_until,
    weights,
)

GOLDEN = Path(__file__).with_name("golden.json")


# --- stopped and resumed --------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.promise("resumed")
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("trial", range(10 if FULL else 1))
def test_a_run_that_is_stopped_and_resumed_is_the_run_that_was_not(trial, optimizer, tmp_path):
    """Weights, and the whole state one step later: optimisers, random numbers, losses;
    all bit for bit."""
    chance = random.Random(trial)
    wanted = spec(optimizer=optimizer, seed=trial, learning_rate=0.01, patience=3)
    straight = runs.execute(wanted, OWN, tmp_path / "straight")
    stops = sorted(chance.sample(range(1, straight.history[-1]["step"]), 3))
    for stop in stops:
        with pytest.raises(
            KeyboardInterrupt, match=f"stopped after step {stop} of 150; its state is saved"
        ):
            runs.execute(wanted, OWN, tmp_path / "resumed", on_step=CtrlC(stop))
    with pytest.raises(KeyboardInterrupt):
        runs.execute(wanted, OWN, tmp_path / "other", on_step=CtrlC(stops[-1]))
    states = [
        weights(tmp_path / folder / "checkpoints" / f"{wanted.name}.state")
        for folder in ("resumed", "other")
    ]
    assert same(*states), "stopped three times or once, the state is the same"
    resumed = runs.execute(wanted, OWN, tmp_path / "resumed")
    assert timeless(resumed) == timeless(straight)
    assert same(weights(resumed.checkpoint), weights(straight.checkpoint))
    assert not list((tmp_path / "resumed").glob("**/*.state"))


@pytest.mark.promise("killed")
def test_what_a_process_left_that_was_killed_while_it_wrote_goes(tmp_path):
    """Before its record was whole; then after it, but before its state was gone."""
    wanted = spec(learning_rate=0.01)
    with pytest.raises(KeyboardInterrupt):
        runs.execute(wanted, OWN, tmp_path, on_step=CtrlC(70))
    state = runs.state_path(wanted, tmp_path)
    held = state.read_bytes()
    half_written = [
        tmp_path / "checkpoints" / f".{wanted.name}.safetensors.123",
        tmp_path / "logs" / f".{wanted.name}.json.123",
    ]
    half_written[1].parent.mkdir()
    for path in half_written:
        path.write_bytes(b"half")
    (record,) = pool.run_specs([wanted], OWN, tmp_path)
    finished = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert len(finished) == 2, finished

    state.write_bytes(held)
    (found,) = pool.run_specs([wanted], OWN, tmp_path)
    assert found == record
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == finished


class Forgetful(engine.Engine):
    """Goes on from a saved state, but for one part of it."""

    part = ""

    def restore(self, state):
        fresh = self.state()
        forgotten = {name: fresh.get(name) for name in state if name.startswith(self.part)}
        super().restore(
            {name: tensor for name, tensor in (state | forgotten).items() if tensor is not None}
        )


@pytest.mark.slow
@pytest.mark.promise("broken")
@pytest.mark.parametrize("part", ["model/", "optimizer/", "random"])
def test_a_part_that_is_not_restored_is_noticed(part, tmp_path, monkeypatch):
    """Mutants of what the trial above demands."""
    wanted = spec(learning_rate=0.01)
    straight = runs.execute(wanted, OWN, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        runs.execute(wanted, OWN, tmp_path / "resumed", on_step=CtrlC(70))
    monkeypatch.setattr(engine, "Engine", type("Mutant", (Forgetful,), {"part": part}))
    resumed = runs.execute(wanted, OWN, tmp_path / "resumed")
    assert not same(weights(resumed.checkpoint), weights(straight.checkpoint))


def killed_spec(seed):
    return spec(steps=3_000 if FULL else 400, optimizer="muon", evaluate_every=300, seed=seed)


def steps_saved(state):
    return len(weights(state)["losses"]) if state.exists() else 0


def kill_and_go_on(folder, kills):
    """In a process of its own, train a run after the other, each killed until it comes to its end.

    Of the kills half come at any moment, half a moment after a new state was saved. Prints how
    often a kill found a new state, how often it had waited for one, and how many runs ended.
    """
    torch.set_num_threads(1)
    trainer.SAVING = 1e9  # at each report
    runs.execute(spec(steps=2, optimizer="muon"), OWN, folder.with_name("warm"))  # torch is loaded
    chance, killed, new_states, waits, seed = random.Random(0), 0, 0, 0, 0
    while killed < kills:
        state = folder / "checkpoints" / f"{killed_spec(seed).name}.state"
        reached, ended = 0, False
        while not ended:
            child = os.fork()
            if not child:
                runs.execute(killed_spec(seed), OWN, folder)
                os._exit(0)
            waited = False
            if killed < kills:
                waited = chance.random() < 0.5 and comes_further(child, state, reached)
                time.sleep(chance.uniform(0, 0.3))
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if ended := os.WIFEXITED(status):
                assert os.WEXITSTATUS(status) == 0
            else:
                step = steps_saved(state)
                assert step >= reached, "no state is older than the one before"
                killed, waits, new_states = (
                    killed + 1,
                    waits + waited,
                    new_states + (step > reached),
                )
                reached = step
        seed += 1
    print(new_states, waits, seed)


def comes_further(child, state, reached):
    """Wait until a child has saved a later state. -> whether it did, rather than come to its end"""
    while not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if steps_saved(state) > reached:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.promise("killed")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.slow
def test_a_trainer_killed_at_any_moment_goes_on(tmp_path, record_property):
    """kill -9 leaves a state that loads or none at all; each run ends as the one nobody killed."""
    kills = 200 if FULL else 12
    code = (
        "import pathlib, sys, test_reliability as test;"
        "test.kill_and_go_on(pathlib.Path(sys.argv[1]), int(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, tmp_path / "killed", str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=WITH_TESTS)
    assert done.returncode == 0, done.stderr
    new_states, waits, ended = map(int, done.stdout.split())
    record_property("trials", kills)
    assert new_states >= waits > 0
    torch.set_num_threads(1)
    for seed in range(ended):
        check_is_the_straight_run(killed_spec(seed), tmp_path / "killed", tmp_path)
    left = {path.suffix for path in (tmp_path / "killed").rglob("*") if path.is_file()}
    assert left == {".json", ".safetensors"}


def check_is_the_straight_run(wanted, folder, tmp_path):
    """What lies in a folder is bit for bit what the run comes to when nothing happens to it."""
    straight, found = runs.execute(wanted, OWN, tmp_path / "straight"), runs.find(wanted, [folder])
    assert timeless(found) == timeless(straight)
    assert same(weights(found.checkpoint), weights(straight.checkpoint))


# --- a notebook -----------------------------------------------------------------------------------
class Kernel:
    """A live kernel, as a notebook has one."""

    def __init__(self, results):
        environment = WITH_TESTS | {"COURSE_RESULTS": str(results)}
        self.manager, self.client = start_new_kernel(cwd=str(ROOT), env=environment)

    def run(self, cell, when_it_speaks=None):
        """-> (its text, its error). when_it_speaks: called once, when the cell prints something"""
        texts, errors = [], []

        def hear(message):
            content = message["content"]
            if message["msg_type"] == "stream":
                if not texts and when_it_speaks:
                    when_it_speaks()
                texts.append(content["text"])
            elif message["msg_type"] == "error":
                errors.append(f"{content['ename']}: {content['evalue']}")

        self.client.execute_interactive(cell, output_hook=hear, timeout=None)
        return "".join(texts), "".join(errors)

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.mark.promise("Ctrl-C")
@pytest.mark.slow
def test_ctrl_c_in_a_live_kernel_keeps_the_work(tmp_path, record_property):
    """Interrupted at random moments, it keeps its variables,
    and the next run goes on from there."""
    interrupts, chance, stopped, seed = 50 if FULL else 4, random.Random(1), 0, 0
    kernel = Kernel(tmp_path / "mine")
    steps = 1_000 if FULL else 400
    cell = (
        f"runs.execute(spec(steps={steps}, seed={{}}), OWN, folder, on_step=Speak())\n"
        "print('done', mine)"
    )

    def interrupt():
        time.sleep(chance.uniform(0, 0.2))
        kernel.manager.interrupt_kernel()

    try:
        assert kernel.run(IN_THE_KERNEL) == ("", "")
        while stopped < interrupts:
            text, error = kernel.run(cell.format(seed), interrupt)
            assert error.startswith("KeyboardInterrupt") or not error, error
            assert kernel.run("print(mine)") == ("42\n", "")
            stopped += "its state is saved, and the same again goes on from there" in error
            seed += "done 42" in text
            assert seed < 5 * interrupts, "most runs came to their end before they were stopped"
        text, error = kernel.run(f"runs.load_or_train(spec(steps={steps}, seed={seed}), OWN)")
        assert error == ""
    finally:
        kernel.close()
    record_property("trials", stopped)
    for i in range(seed + 1):
        check_is_the_straight_run(spec(steps=steps, seed=i), tmp_path / "mine", tmp_path)


IN_THE_KERNEL = """
import os
from helpers import OWN, runs, spec

folder, mine = os.environ["COURSE_RESULTS"], 42


class Speak:
    silent = True

    def __call__(self, n):
        if self.silent:
            print("at work")
        self.silent = False
"""


# --- runs that go wrong ---------------------------------------------------------------------------
@pytest.mark.promise("diverges")
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_rate_far_too_high_stops_the_run_before_its_weights_are_spoilt(optimizer):
    config = TrainConfig(
        steps=40, batch_size=2, optimizer=optimizer, learning_rate=1e20, evaluate_every=50
    )
    model = trainer.new_model(SMALL, config)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with pytest.raises(
        trainer.TrainingError, match=r"no longer a number at step \d: try a lower learning rate"
    ):
        trainer.train(model, counting(), counting(), config)
    assert same(model.state_dict(), before)


@pytest.mark.promise("diverges")
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize(("at", "noticed", "kept"), [(1, 2, 0), (30, 31, 25), (40, 40, 35)])
def test_a_number_that_is_none_stops_the_run_at_that_step(at, noticed, kept, poison, monkeypatch):
    """Poison in one weight after a step; at 30 a report would save it,
    at 40 an evaluation meets it."""
    monkeypatch.setattr(trainer, "SAVING", 1e9)  # at each report, every 5 steps here
    config = TrainConfig(steps=250, batch_size=2, learning_rate=1e-3, evaluate_every=20, patience=0)
    model, states = trainer.new_model(SMALL, config), []

    def spoil(n):
        spoil.steps += n
        if n and spoil.steps == at:
            with torch.no_grad():
                model.blocks[0].attention.qkv.weight[0, 0] = poison

    spoil.steps = 0
    save = lambda tensors, facts: states.append(tensors)  # noqa: E731
    with pytest.raises(
        trainer.TrainingError, match=f"no longer a number at step {noticed}:"
    ) as stopped:
        trainer.train(model, counting(), counting(), config, spoil, save=save)
    assert f"weights of step {kept} again" in str(stopped.value)
    assert all(torch.isfinite(tensor).all() for state in states for tensor in state.values())
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.promise("full disk")
@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can make a small disk"
)
def test_a_full_disk_keeps_the_old_and_the_new(tmp_path):
    """Nothing half-written, the training kept in memory, and written once there is room."""
    disk, wanted = tmp_path / "disk", spec(seed=3)
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", disk], capture_output=True
    ).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        old = runs.execute(spec(seed=2), OWN, disk)
        kept, before = weights(old.checkpoint), sorted(p.name for p in disk.rglob("*"))
        ballast = disk / "ballast"
        with pytest.raises(OSError, match="No space left"):
            ballast.write_bytes(bytes(2**18))
        with pytest.raises(OSError, match="No space left"):
            runs.execute(wanted, OWN, disk)
        ballast.unlink()
        assert sorted(p.name for p in disk.rglob("*")) == before
        assert same(weights(old.checkpoint), kept)
        assert runs.find(wanted, [disk]) is None

        def train_again(n):
            raise AssertionError("what is in memory need not be trained again")

        record = runs.execute(wanted, OWN, disk, on_step=train_again)
        straight = runs.execute(wanted, OWN, tmp_path / "straight")
        assert same(weights(record.checkpoint), weights(straight.checkpoint))
    finally:
        subprocess.run(
            ["umount", "--lazy", disk], check=True
        )  # weights that were read still map its files


@pytest.mark.promise("weights")
def test_a_state_that_is_damaged_is_refused_in_one_sentence(tmp_path, record_property):
    wanted = spec(seed=4)
    with pytest.raises(KeyboardInterrupt):
        runs.execute(wanted, OWN, tmp_path, on_step=CtrlC(50))
    (state,) = tmp_path.glob("checkpoints/*.state")
    whole, cuts = state.read_bytes(), range(0, 100, 1 if FULL else 20)
    record_property("trials", len(cuts))
    for percent in cuts:
        state.write_bytes(whole[: len(whole) * percent // 100])
        with pytest.raises(files.RunError, match="delete it") as refusal:
            runs.execute(wanted, OWN, tmp_path)
        assert "\n" not in str(refusal.value)
    state.write_bytes(whole)
    assert json.dumps(timeless(runs.execute(wanted, OWN, tmp_path)), default=str)


# --- early stopping -------------------------------------------------------------------------------
PATIENCES = (0, 1, 2, 3)
# losses, a digit an evaluation -> for each patience: where it stops (0: nowhere), what it keeps
TABLE = {
    "876543": [(0, 6), (0, 6), (0, 6), (0, 6)],
    "123456": [(0, 1), (2, 1), (3, 1), (4, 1)],
    "333333": [(0, 1), (2, 1), (3, 1), (4, 1)],  # equal is no improvement
    "535241": [(0, 6), (3, 2), (0, 6), (0, 6)],
    "4663555": [(0, 4), (2, 1), (3, 1), (7, 4)],  # a new best starts the count again
    "2322122": [(0, 5), (2, 1), (3, 1), (4, 1)],
    "654565": [(0, 3), (4, 3), (5, 3), (6, 3)],
}
CASES = [
    (losses, *case) for losses, row in TABLE.items() for case in zip(PATIENCES, row, strict=True)
]


def plainly(losses, patience):
    """(where it stops or 0, what it keeps), counted from 1: at each evaluation,
    how long ago was the best so far?"""
    for n in range(1, len(losses) + 1):
        best = losses.index(min(losses[:n])) + 1
        if 0 < patience <= n - best:
            return n, best
    return 0, best


def by_the_lesson(losses, patience, stopping=EarlyStopping):
    """The same, asking lesson 4's class."""
    stopping, kept = stopping(patience), 0
    for n, loss in enumerate(losses, start=1):
        if stopping.update(loss):
            kept = n
        if stopping.should_stop:
            return n, kept
    return 0, kept


# All sequences of up to six evaluations that three losses can make.
SEQUENCES = [
    (losses, patience)
    for length in range(1, 7)
    for losses in itertools.product(range(3), repeat=length)
    for patience in range(5)
]


def miscounted(stopping):
    """The sequences at which a class does not do what the plain count says."""
    return [case for case in SEQUENCES if by_the_lesson(*case, stopping) != plainly(*case)]


@pytest.mark.promise("early stopping")
def test_early_stopping_is_the_plain_count_for_every_sequence(record_property):
    record_property("trials", len(SEQUENCES))
    assert not miscounted(EarlyStopping)
    assert by_the_lesson([3, math.nan, math.nan], 2) == (3, 1), "no number is no improvement"


class Equal(EarlyStopping):
    """Takes an equal loss for a better one."""

    def update(self, loss):
        return super().update(loss if loss != self.best else math.nextafter(loss, -1))


class Late(EarlyStopping):
    """Waits for one evaluation too many."""

    should_stop = property(lambda self: 0 < self.patience < self.waited)


class Counting(EarlyStopping):
    """Counts all evaluations without improvement, not those in a row."""

    def update(self, loss):
        before = self.waited
        improved = super().update(loss)
        self.waited = before + (not improved)
        return improved


@pytest.mark.promise("broken")
@pytest.mark.parametrize("mutant", [Equal, Late, Counting])
def test_a_wrong_count_is_noticed(mutant):
    assert miscounted(mutant)


class Scripted:
    """Gives a model, before each evaluation, the weights whose loss has the wanted rank."""

    def __init__(self, model, ladder, ranks):
        self.model, self.ladder, self.ranks, self.steps = model, ladder, ranks, 0

    def __call__(self, n):
        self.steps += n
        if self.steps:
            self.model.load_state_dict(self.ladder[self.ranks[self.steps - 1]])


def scripted_run(ladder, ranks, patience, saved=None):
    """A real run of the trainer that evaluates after each step. -> (model, Training, the states
    that it saved)"""
    config = TrainConfig(steps=len(ranks), batch_size=2, evaluate_every=1, patience=patience)
    model, states = trainer.new_model(SMALL, config), []
    save = lambda tensors, facts: states.append(copy.deepcopy((tensors, facts)))  # noqa: E731
    return (
        model,
        trainer.train(
            model, counting(), counting(), config, Scripted(model, ladder, ranks), None, saved, save
        ),
        states,
    )


@pytest.fixture(scope="module")
def ladder():
    """Nine models' weights, from the lowest loss, as the trainer measures it, to the highest."""
    found = [trainer.new_model(SMALL, TrainConfig(seed=seed)).state_dict() for seed in range(9)]
    _, result, _ = scripted_run(found, range(9), patience=0)
    losses = [
        row.get("choosing_loss", row["validation_loss"]) for row in result.history
    ]  # which decides, if it is there
    assert len(set(losses)) == 9
    return [found[i] for i in sorted(range(9), key=losses.__getitem__)]


@pytest.mark.slow
@pytest.mark.promise("early stopping")
@pytest.mark.parametrize(("losses", "patience", "expected"), CASES)
def test_the_trainer_stops_where_the_table_says_and_keeps_those_weights(
    losses, patience, expected, ladder, monkeypatch
):
    """And the same when it goes on from any of its saved states."""
    monkeypatch.setattr(trainer, "SAVING", 1e9)  # at each report
    ranks, (stop, kept) = [*map(int, losses)], expected
    *straight, states = scripted_run(ladder, ranks, patience)
    resumed = [scripted_run(ladder, ranks, patience, state)[:2] for state in states]
    for model, result in [straight, *resumed]:
        assert (result.history[-1]["step"], result.best_step) == (stop or len(ranks), kept)
        assert result.stopped == (
            f"no improvement in {patience} evaluations" if stop else "all steps done"
        )
        assert same(model.state_dict(), ladder[ranks[kept - 1]])
        assert result.validation_loss == pytest.approx(evaluate(model, counting()), abs=1e-6)
    assert len(resumed) == (stop or len(ranks))


# --- several at once ------------------------------------------------------------------------------
@pytest.mark.promise("at once")
@pytest.mark.parametrize("trial", range(3 if FULL else 1))
@pytest.mark.slow
def test_eight_processes_in_one_folder_mix_nothing(trial, tmp_path, record_property):
    """Eight wait for one folder, with two texts and overlapping seeds; one is killed at work,
    the others do it all."""
    folder, corpora, texts = tmp_path / "results", [], (OWN.text, OWN.text.upper())
    for i, words in enumerate(texts):
        (tmp_path / f"{i}.txt").write_text(words, encoding="utf-8")
        corpora.append(corpus.load(tmp_path / f"{i}.txt"))
    said = [tmp_path / f"said {i}" for i in range(8)]
    train = ("train", "--recipe", "smoke", "--layers", 1, "--seeds", 2, "--out", folder)
    commands = [
        ((*train, "--seed", i // 4, "--corpus", tmp_path / f"{i % 2}.txt"), file)
        for i, file in enumerate(said)
    ]
    with files.lock(folder):
        processes = several(*commands)
        wait_until(lambda: all(file.exists() and "waiting" in file.read_text() for file in said))
        assert not list(folder.glob("*/*"))
    wait_until(lambda: any("at step" in file.read_text() for file in said))
    at_work = next(i for i, file in enumerate(said) if "at step" in file.read_text())
    time.sleep(random.Random(trial).uniform(0, 0.2))
    processes[at_work].kill()
    for process in processes:
        process.join()
    codes = [process.exitcode for process in processes]
    assert sum(code != 0 for code in codes) <= 1, [file.read_text() for file in said]
    assert codes[at_work] in (0, -signal.SIGKILL)
    records = runs.load_all(folder)
    assert sorted((r.corpus["name"], r.seed) for r in records) == [
        (f"{i}.txt", seed) for i in (0, 1) for seed in range(3)
    ]
    for record in records:
        model, tokenizer = checkpoints.load_model(record.checkpoint)
        (words,) = (one.text for one in corpora if one.sha256 == record.corpus["sha256"])
        assert tokenizer.alphabet == CharTokenizer(words).alphabet
        validation_ids = split(torch.tensor(tokenizer.encode(words)))[1]
        assert evaluate(model, validation_ids) == pytest.approx(record.validation_loss, abs=1e-5)
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    names = {f"logs/{r.name}.json" for r in records} | {
        f"checkpoints/{r.name}.safetensors" for r in records
    }
    assert written == names | {".lock"}
    trained = [len(re.findall(r"at step \d+", file.read_text())) for file in said]
    assert len(records) - 1 <= sum(trained) <= len(records), (
        "nothing is trained twice, but what the dead one had begun"
    )
    record_property("trials", len(processes))


# --- the same seed --------------------------------------------------------------------------------
def golden_curve(recipe):
    """The training losses of a recipe's first 20 steps, one window each, on a text of its own."""
    model, train = recipes.named_recipe(recipe)
    tokenizer = CharTokenizer(OWN.text)
    config = GPTConfig(**{"vocab_size": tokenizer.vocab_size, **model, "dropout": 0.0})
    train = replace(train, batch_size=1, steps=20, warmup_steps=5, seed=0)
    steps = engine.Engine(
        trainer.new_model(config, train).train(), torch.tensor(tokenizer.encode(OWN.text)), train
    )
    for _ in range(20):
        steps.step()
    return [round(loss, 5) for loss in steps.losses.tolist()]


HEAVY = ("modern", "modern-short", "nanogpt", "record", "sprint")


@pytest.mark.slow
@pytest.mark.promise("seed")
@pytest.mark.parametrize("recipe", [name for name in recipes.RECIPES if FULL or name not in HEAVY])
def test_a_golden_curve_for_each_recipe(recipe):
    """What 20 steps gave when `python tests/test_reliability.py` wrote it down;
    other processors round otherwise."""
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))[recipe]
    assert golden_curve(recipe) == pytest.approx(golden, abs=2e-3)
    assert golden[-1] < golden[0] - (0.01 if recipe == "baseline" else 0.1)


@pytest.mark.promise("broken")
def test_the_tolerance_of_the_golden_curve_notices_another_recipe():
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert golden["laptop"] != pytest.approx(golden["smoke"], abs=2e-3)
    slower = replace(recipes.RECIPES["smoke"][1], muon_momentum=0.94)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(recipes.RECIPES, "smoke", (recipes.RECIPES["smoke"][0], slower))
        assert golden_curve("smoke") != pytest.approx(golden["smoke"], abs=1e-6)


@pytest.mark.promise("seed")
def test_one_seed_one_file(tmp_path):
    """Two runs, one sha256 of the file of weights."""
    first, second = (runs.execute(spec(seed=5), OWN, tmp_path / name) for name in ("a", "b"))
    assert first.checkpoint.read_bytes() == second.checkpoint.read_bytes()


@pytest.mark.promise("seed")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("profile", ["smoke", "laptop"])
def test_neither_threads_nor_the_profile_change_which_windows_are_drawn(
    threads, profile, monkeypatch
):
    monkeypatch.setenv("COURSE_PROFILE", profile)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        windows = torch.Generator().manual_seed(3)
        drawn = [get_batch(torch.arange(1000), 4, 16, windows)[0][:, 0].tolist() for _ in range(3)]
    finally:
        torch.set_num_threads(before)
    assert drawn == [[970, 248, 553, 75], [232, 480, 432, 437], [589, 763, 802, 387]]


def test_every_promise_is_shown_by_a_test():
    """The names in the marks are those that tools/reliability.py has sentences for."""
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    marks = set(re.findall(r'mark\.promise\("(.+?)"\)', sources))
    assert marks == set(by_path("tools/reliability.py").PROMISES)


if __name__ == "__main__":
    GOLDEN.write_text(
        json.dumps({recipe: golden_curve(recipe) for recipe in recipes.RECIPES}, indent=1) + "\n"
    )


def test_the_log_of_exact_runs_says_what_was_recorded():
    recorded = json.loads((files.PUBLISHED / "exact.json").read_text(encoding="utf-8"))
    log = (ROOT / "book/log.md").read_text(encoding="utf-8")
    rows = {}  # some runs were for the bits alone, others for the times too
    for run in recorded["runs"]:
        assert f"`{run['command']}`" in log
        for row in run["rows"]:
            kind = row["recipe"], "yes" if "compiled" in row["regime"] else "no"
            assert row["different"] == 1
            assert rows.get(kind, row)["sha256"] == row["sha256"]
            rows[kind] = rows.get(kind, {}) | row
    for (recipe, compiled), row in rows.items():
        times = [f"{row[name]:.2f}" if name in row else "–" for name in ("step_ms", "ratio")]
        numbers = [row["runs"], row["different"], *times]
        cells = [f"`{recipe}`", f"{row['context']:,}", compiled, *numbers]
        assert f"| {' | '.join(map(str, cells))} |" in log
