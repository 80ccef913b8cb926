"""The table of records: entries that are tried, those that nobody could try, and the page."""

import hashlib
import json
import math
import os
import re
import signal
from dataclasses import replace
from statistics import stdev

import numpy as np
import pytest
import torch

from course_utils.corpus import SHA256
from course_utils.lessons.data import CharTokenizer, split
from course_utils.lessons.model import GPT, GPTConfig, count_parameters
from course_utils.research import entries
from course_utils.training import recipes, trainer
from helpers import ROOT, SPEECH, by_path, here, start, wait_until

ENTRY = {"name": "smoke (one teacher)", "recipe": "smoke", "teachers": 1, "claim": 3.5}
V = len(set(SPEECH))


def entry_file(folder, **changes):
    path = folder / "entry.json"
    path.write_text(json.dumps(ENTRY | changes), encoding="utf-8")
    return path


def verify(corpus_file, out, *options, **changes):
    path = entry_file(out, **changes)
    return here("verify", path, "--corpus", corpus_file, "--out", out, *options)


def result_in(out):
    (path,) = (out / "records").glob("*.json")
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tried(corpus_file, tmp_path_factory):
    """A folder in which an entry was tried on five seeds, and what the command said."""
    out = tmp_path_factory.mktemp("records")
    return out, verify(corpus_file, out)


def test_a_claim_holds_or_not_by_the_seeds_of_the_name_alone(tried, corpus_file):
    out, done = tried
    assert done.returncode == 0, done.stderr
    before = result_in(out)
    losses = [trial["loss"] for trial in before["trials"]]
    assert len(re.findall(r"seed \d+: ", done.stdout)) == len(set(losses)) == 5
    assert f"mean {np.mean(losses):.4f}, worst {max(losses):.4f}" in done.stdout
    border = np.mean(losses) + 3 * stdev(losses) / math.sqrt(5)
    assert verify(corpus_file, out, claim=border + 1e-6).returncode == 0
    missed = verify(corpus_file, out, claim=border - 1e-6)
    assert missed.returncode == 1
    assert f"the claim of {border:.4f} does not hold" in missed.stderr
    few = verify(corpus_file, out, "--seeds", 2, "--seed", 7)
    assert few.returncode == 1
    assert "2 seeds, and 5 are asked for" in few.stderr
    assert "seeds from 7 on (chosen)" in " ".join(few.stdout.split())
    for path in (out / "records").glob("*_seed-7_*"):
        path.unlink()
    assert result_in(out) == before, "nothing was trained again"


def test_a_trial_is_the_recipes_training_with_the_seed_of_the_name(corpus_file, tmp_path):
    done = verify(corpus_file, tmp_path, "--seeds", 1, "--device", "cpu", teachers=0)
    assert done.returncode == 1, "one seed is no verdict"
    (trial,) = result_in(tmp_path)["trials"]
    sizes, training = recipes.named_recipe("smoke")
    ids = torch.tensor(CharTokenizer(SPEECH).encode(SPEECH))
    training = replace(training, seed=trial["seed"])
    model = trainer.new_model(GPTConfig(**sizes | {"vocab_size": V}), training)
    assert trainer.train(model, *split(ids), training).validation_loss == trial["loss"]
    assert f"context 32, {count_parameters(GPT(model.config)):,} parameters" in done.stdout


def changed(where, **values):
    """An entry in full, with fields changed in one of its parts; None takes one away."""
    entry = entries.Entry.from_values(ENTRY, V).content()
    part = entry[where] if where else entry
    part |= values
    for name in [name for name, value in values.items() if value is None]:
        del part[name]
    return entry


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "Expecting value"),
        ("[" * 100_000, "recursion"),
        ("[]", "the entry is not a JSON object"),
        (changed("", claim=None), "the entry lacks claim"),
        (changed("", seeds=3), "has 'seeds', which is none of claim, model, name"),
        (changed("", claim="low"), "claim is 'low'"),
        (changed("", claim=float("nan")), "claim must be a loss"),
        (changed("", name="<b>|"), "name: 1 to 60 letters"),
        (changed("", teachers=2000), "teachers in 0 … 1000"),
        (changed("", share=1.5), "share must lie in [0, 1]"),
        (changed("", teaching=[1]), "teaching is not a JSON object"),
        (changed("", model="large"), "model is not a JSON object"),
        (changed("model", d_ff=None), "model lacks d_ff"),
        (changed("model", n_embd=64), "model has 'n_embd'"),
        (changed("model", qk_norm=1), "model: qk_norm is 1"),
        (changed("model", n_heads=3), "model: d_model must be a multiple of n_heads (3)"),
        (changed("model", vocab_size=65), f"vocab_size must be the text's, {V}"),
        (changed("model", d_ff=10**12), "at most 268,435,456 weights"),
        (changed("model", n_layers=10**9), "n_layers must be at most 256"),
        (changed("training", seed=1), "training has 'seed'"),
        (changed("training", steps=10**15), "steps, and the characters of a batch"),
        (changed("training", batch_size=10**9), "steps, and the characters of a batch"),
        (changed("training", learning_rate=float("inf")), "not all in it are numbers"),
        (changed("training", optimizer="sgd"), "training: optimizer must be adamw or muon"),
        (json.dumps(ENTRY | {"recipe": "secret"}), "choose from baseline"),
        (json.dumps(ENTRY | {"recipe": ["smoke"]}), "recipe is ['smoke']"),
        (json.dumps(ENTRY | {"model": {}}), "the entry has 'model'"),
    ],
)
def test_what_nobody_could_try_gets_one_sentence(tmp_path, corpus_file, content, words):
    path = tmp_path / "mine.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    done = here("verify", path, "--corpus", corpus_file, "--out", tmp_path / "out")
    assert done.returncode == 1, done.stdout
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_ctrl_c_loses_no_finished_seed_and_the_same_again_goes_on(corpus_file, tmp_path):
    command = ("verify", entry_file(tmp_path), "--corpus", corpus_file, "--out", tmp_path)
    process = start(*command, "--seeds", "60")
    wait_until(lambda: list(tmp_path.glob("records/*.json")), process=process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "the same command goes on" in errors
    kept = result_in(tmp_path)["trials"]
    assert 1 <= len(kept) < 60
    here(*command, "--seeds", len(kept) + 1)
    after = result_in(tmp_path)["trials"]
    assert after[:-1] == kept
    assert after[-1]["seed"] == kept[-1]["seed"] + 1

    (path,) = tmp_path.glob("records/*.json")
    path.write_text(path.read_text().replace('"torch": "', '"torch": "0.'))
    assert "other versions" in here(*command).stderr


def test_the_page_shows_the_file(tried, tmp_path, monkeypatch):
    """Some results, put there by the tool: what keeps the rules in order, the rest with why not."""
    out, _ = tried
    result = result_in(out) | {"corpus": {"name": "Tiny Shakespeare", "sha256": SHA256}}
    large = result["entry"]["model"] | {"d_model": 640, "d_ff": 2560}
    about = {
        "long": {"model": result["entry"]["model"] | {"context_length": 64}, "teachers": 0},
        "short": {"claim": 3.4},
        "bold": {"claim": 1.5},
        "large": {"model": large},
        "lucky": {},
    }
    files = []
    for name, changes in about.items():
        files.append(tmp_path / f"{name}.json")
        entry = result["entry"] | {"name": name} | changes
        first = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) + (name == "lucky")
        trials = [trial | {"seed": first + i} for i, trial in enumerate(result["trials"])]
        content = json.dumps(result | {"entry": entry, "trials": trials})
        files[-1].write_text(content, encoding="utf-8")
    monkeypatch.setattr(entries, "FILE", tmp_path / "records.json")
    monkeypatch.syspath_prepend(ROOT / "book/_ext")
    extension = by_path("book/_ext/course_records.py")
    assert [*extension.records()] == ["No entry is recorded yet."]
    for _again in range(2):  # a second time they take their own places
        monkeypatch.setattr("sys.argv", ["records.py", *map(str, files)])
        by_path("tools/records.py").main()

    table, _, rest = extension.records()
    rows = [re.split(r" *\| *", line.strip("| ")) for line in table.splitlines()]
    machine = f"{result['environment']['device']}, threads: {result['environment']['threads']}"
    losses = [trial["loss"] for trial in result["trials"]]
    numbers = [f"{np.mean(losses):.4f}\xa0±\xa0{np.std(losses, ddof=1):.4f}"]
    assert [row[0] for row in rows[2:]] == [f"short (1 teacher); {machine}", f"long; {machine}"]
    for row, context in zip(rows[2:], ("32", "64"), strict=True):
        assert row[1:6] == [*numbers, f"{max(losses):.4f}", context, "0.03 M", "5"]
        training, slowest = map(float, re.findall(r"[\d.]+", row[6]))
        times = [
            sum(trial[f"{name}_s"] for name in ("training", "setup", "teachers"))
            for trial in result["trials"]
        ]
        assert slowest == pytest.approx(max(times), rel=0.01)
        assert training < slowest
    reasons = dict(re.findall(r"\* (\w+).*?threads: \d+: (.*)", rest))
    assert "does not hold" in reasons.pop("bold")
    assert reasons == {
        "large": "more than 10,750,000 parameters.",
        "lucky": "other seeds than those drawn from its name.",
    }


def test_the_recorded_table_can_be_read():
    assert all(len(result.trials) >= entries.LEAST_SEEDS for result in entries.load_all())


@pytest.mark.parametrize("page", ["book/records.md", "book/zh/records.md"])
def test_the_pages_examples_are_entries(page):
    examples = re.findall(
        r"```json\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL
    )
    short, full = (entries.Entry.from_values(json.loads(text), 65) for text in examples)
    assert short.model.context_length != full.model.context_length
    assert max(short.parameters, full.parameters) <= entries.MOST_PARAMETERS
