"""The benchmark: what it times, what it counts,
and what it says when there is nothing to compare with."""

import contextlib
import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from course_utils import files
from course_utils.__main__ import main
from course_utils.bench import engines, peers, timing
from course_utils.lessons.model import GPT, GPTConfig
from course_utils.lessons.train import TrainConfig, next_character_loss
from course_utils.training import checkpoints, recipes
from helpers import ROOT, loud, prompt
from helpers import SPEECH as TEXT

CPU = torch.device("cpu")
SMALL = GPTConfig(
    vocab_size=11, context_length=8, n_layers=2, n_heads=2, d_model=12, d_ff=20, dropout=0.0
)
GPT_2_SHAPED = {"context_length": 8, "n_layers": 1, "n_heads": 2, "d_model": 12, "d_ff": 20}


class Hasty(Timer):
    """A timer that settles for a hundredth of a second."""

    def blocked_autorange(self, callback=None, min_run_time=0.2):
        return super().blocked_autorange(callback, min(min_run_time, 0.01))


@pytest.fixture(autouse=True)
def in_haste(monkeypatch):
    monkeypatch.setattr(timing, "Timer", Hasty)
    monkeypatch.setattr(timing, "ROUNDS", 2)
    monkeypatch.setattr(
        timing, "SCALING", {"n_layers": (1, 2), "d_model": (64,), "context_length": (16,)}
    )
    monkeypatch.setitem(recipes.RECIPES, "like GPT-2", (GPT_2_SHAPED, TrainConfig(batch_size=2)))


def names(found):
    return {row["name"] for row in found["rows"]}


# --- what is timed --------------------------------------------------------------------------------
@pytest.mark.parametrize(("preset", "has_peer"), [("smoke", False), ("like GPT-2", True)])
def test_training_is_timed_beside_hugging_face_where_it_has_such_a_model(preset, has_peer):
    found = timing.benchmark("train", preset, TEXT, CPU)
    assert names(found) == {"plain loop", "engine: cpu, fp32"} | (
        {"Hugging Face GPT-2"} if has_peer else set()
    )
    settings, config = recipes.RECIPES[preset]
    model = GPTConfig(**{"vocab_size": len(set(TEXT)), **settings})
    flops, best = (
        timing.training_flops(model, config.batch_size),
        found["limits"]["matrix_products_flops"],
    )
    for row in found["rows"]:
        assert 0 < row["low_ms"] <= row["median_ms"] <= row["high_ms"]
        characters = config.batch_size * model.context_length
        assert row["characters_per_s"] == pytest.approx(1e3 * characters / row["median_ms"])
        assert row["share_of_matrix_rate"] == pytest.approx(1e3 * flops / row["median_ms"] / best)
        assert row["share_of_matrix_rate"] < 1, "nothing multiplies faster than multiplication"


ALPHABET = checkpoints.load_model(next(files.PUBLISHED.glob("checkpoints/4-layers*")))[1].alphabet
ALONE = {"without a cache", "lesson 6"} | (
    {"the page's WebAssembly"} if engines.Page.is_there else set()
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "text", "others", "one_text"),
    [
        ("smoke", TEXT, set(), set()),
        ("like GPT-2", TEXT, {"Hugging Face GPT-2"}, {"NumPy"}),
        ("laptop", ALPHABET * 40, set(), {"ours, float32, speculative"}),
    ],
)
def test_writing_is_timed_beside_those_who_have_such_a_model(preset, text, others, one_text):
    """And with a draft where the published weights have learnt this alphabet."""
    found = timing.benchmark("generate", preset, text, CPU)
    for texts in (1, 16):
        rows = [row for row in found["rows"] if row["texts"] == texts]
        alone = ALONE | one_text if texts == 1 else set()
        assert {row["name"] for row in rows} == {"ours, float32"} | others | alone
        for row in rows:
            assert 0 < row["low"] <= row["characters_per_s"] <= row["high"]
            assert row["characters_per_s"] == pytest.approx(1e3 * texts / row["median_ms"])


@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_other_engines_are_the_same_model(tie_embeddings):
    sizes = {
        "n_layers": 2,
        "n_heads": 3,
        "d_model": 36,
        "d_ff": 20,
        "tie_embeddings": tie_embeddings,
    }
    model = loud(context_length=9, **sizes).eval()
    ids = prompt(9, 1)
    with torch.no_grad():
        expected = model(ids)[0].numpy()
    numpy = engines.NumpyGPT(model)
    found = [numpy.step(token, at) for at, token in enumerate(ids[0].tolist())]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    new = numpy.write(3, 8, np.random.default_rng(0))
    assert new[0] == 3
    assert len(new) == 9
    if engines.Page.is_there:
        with contextlib.closing(engines.Page(model)) as page:
            new = page.write(3, 8)
            assert new == page.write(3, 8)
        assert len(new) == 9
        assert set(new[1:]) <= set(range(model.config.vocab_size))
        assert page.process.returncode == 0


def test_a_page_that_ended_is_told_of_and_not_timed(tmp_path, monkeypatch):
    """An empty answer would be the fastest of all."""
    node = tmp_path / "node"
    node.write_text("#!/bin/sh\nexit 1\n")
    node.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with contextlib.closing(engines.Page(loud().eval())) as page:
        page.process.wait()
        for _again in range(2):
            with pytest.raises(peers.PeerError, match="Node ended"):
                page.write(3, 8)


def test_no_other_engine_is_asked_for_what_gpt_2_lacks():
    assert engines.in_numpy(loud(position="rope"), 1, 5) is None


def test_scaling_changes_one_setting_at_a_time_and_a_result_says_what_it_depends_on():
    found = timing.benchmark("scaling", "smoke", TEXT, CPU)
    assert (found["what"], found["preset"]) == ("scaling", "smoke")
    assert {"device", "threads", "torch", "python", "command"} <= found["environment"].keys()
    assert all(value > 0 for value in found["limits"].values())
    measured = [(row["kind"], row["name"]) for row in found["rows"]]
    assert measured == [
        (setting, str(value)) for setting, values in timing.SCALING.items() for value in values
    ]
    assert all(row["median_ms"] > 0 for row in found["rows"])
    words = timing.in_words(found)
    assert all(
        name in words for name in [*names(found), *found["limits"], found["environment"]["torch"]]
    )


def test_contenders_run_in_turn():
    calls = []
    found = timing.time_in_turn(
        {"a": lambda: calls.append("a"), "none": None, "b": lambda: calls.append("b")}, 1e-4
    )
    assert "".join(name for name, _ in itertools.groupby(calls)) == "ab" + "ab" * timing.ROUNDS
    assert list(found) == ["a", "b"]
    assert all(0 < low <= median <= high for low, median, high in found.values())


# --- what is counted ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"activation": "swiglu"},
        {"tie_embeddings": False, "position": "rope", "qk_norm": True},
        {"n_layers": 3, "n_heads": 4, "context_length": 5, "vocab_size": 7},
    ],
    ids=str,
)
def test_the_operations_are_those_that_torch_counts(changes):
    """Forward and backward, product by product. Torch counts attention as if it were not causal:
    twice as much."""
    config, batch_size = replace(SMALL, **changes), 3
    tokens = torch.randint(config.vocab_size, (batch_size, config.context_length))
    model = GPT(config)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        next_character_loss(model, tokens, tokens).backward()
    pairs = batch_size * config.context_length**2
    attention = (
        3 * config.n_layers * 2 * 2 * pairs * config.d_model
    )  # scores and sums; backward costs twice forward
    assert timing.training_flops(config, batch_size) == counter.get_total_flops() - attention // 2


# --- the peer -------------------------------------------------------------------------------------
def test_the_peer_learns(monkeypatch):
    made, make = [], peers.gpt2
    monkeypatch.setattr(peers, "gpt2", lambda config: made.append(make(config)) or made[-1])
    ids, config = torch.arange(80) % 7, TrainConfig(batch_size=4, learning_rate=0.01)
    torch.manual_seed(0)
    step = peers.training(SMALL, config, ids)
    (model,) = made

    def loss():
        with torch.no_grad():
            return next_character_loss(
                lambda tokens: model(tokens).logits, ids[None, :8], ids[None, 1:9]
            ).item()

    before = loss()
    for _ in range(40):
        step()
    assert before > 2
    assert loss() < 0.5 * before


def test_the_peer_writes_as_many_characters_as_asked():
    tokens = torch.tensor([[3], [1]])
    text = peers.writing(SMALL, tokens, 7)()
    assert text.shape == (2, 8)
    assert torch.equal(text[:, :1], tokens)


@pytest.mark.parametrize(
    "changes",
    [
        {"position": "rope"},
        {"norm": "rmsnorm"},
        {"norm_placement": "post"},
        {"activation": "swiglu"},
        {"qk_norm": True},
        {"residual": False},
        {"tie_embeddings": False},
    ],
    ids=str,
)
def test_what_is_no_gpt_2_has_no_peer(changes):
    config = replace(SMALL, **changes)
    assert peers.gpt2(config) is None
    assert peers.training(config, TrainConfig(), torch.arange(20)) is None
    assert peers.writing(config, torch.zeros(1, 1, dtype=torch.int64), 3) is None


def test_the_peer_has_no_muon():
    assert peers.gpt2(SMALL) is not None
    assert peers.training(SMALL, TrainConfig(optimizer="muon"), torch.arange(20)) is None


# --- the command ----------------------------------------------------------------------------------
def test_the_command_writes_what_it_measured(corpus_file, tmp_path, capsys):
    path = tmp_path / "new folder" / "bench.json"
    assert (
        main(
            [
                "bench",
                "generate",
                "--preset",
                "smoke",
                "--corpus",
                str(corpus_file),
                "--json",
                str(path),
            ]
        )
        == 0
    )
    found = json.loads(path.read_text(), parse_constant=pytest.fail)  # NaN is not JSON
    assert found["environment"]["torch"] == torch.__version__
    assert found["what"] == "generate"
    printed = capsys.readouterr().out
    assert all(name in printed for name in names(found))


@pytest.mark.slow
def test_without_transformers_the_command_says_so_in_one_sentence(corpus_file):
    program = (
        "import sys; sys.modules['transformers'] = None\n"
        "from course_utils.bench import timing\n"
        "timing.ROUNDS = 1\n"
        "from course_utils.__main__ import main\n"
        "sys.exit(main(['bench', 'generate', '--preset', 'smoke', '--corpus', sys.argv[1]]))"
    )
    command = [sys.executable, "-c", program, str(corpus_file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "transformers" in done.stderr
    assert "pip install" in done.stderr


def test_what_compares_with_nothing_needs_no_transformers(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert "plain loop" in names(timing.benchmark("train", "smoke", TEXT, CPU)), "Muon has no peer"
    with pytest.raises(peers.PeerError, match="transformers"):
        timing.benchmark("train", "like GPT-2", TEXT, CPU)
