"""Nothing let in: files of weights from strangers run nothing, load nothing in silence, and get one sentence each."""

import contextlib
import json
import math
import os
import pickle
import struct
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from course_utils import runs
from course_utils.lessons.data import CharTokenizer
from course_utils.lessons.model import GPT, GPTConfig
from course_utils.lessons.sampling import filter_logits
from course_utils.lessons.train import TrainConfig

FULL = os.environ.get("COURSE_TRIALS") == "full"
ALPHABET = "abcdefghijk"
SMALL = GPTConfig(vocab_size=11, context_length=16, n_layers=2, n_heads=2, d_model=8, d_ff=12)


def weights_of(model):
    return {name: w.detach().clone() for name, w in model.state_dict().items() if name != "head.weight"}


def content(weights=None, config=None, about=None, **metadata):
    """A checkpoint's bytes, as runs.save_model makes them, with what a stranger would change."""
    about = {"format": "1", "config": asdict(SMALL) | (config or {}), "alphabet": ALPHABET} | (about or {})
    metadata = metadata or {"course": json.dumps(about)}
    return save(weights_of(GPT(SMALL)) if weights is None else weights, metadata=metadata)


def refused(path, data):
    path.write_bytes(data)
    with pytest.raises(runs.RunError) as refusal:
        runs.load_model(path)
    said = str(refusal.value)
    assert said.startswith(str(path))
    assert "\n" not in said
    return said


class Evil:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (Path.write_text, (Path(self.target), "executed"))


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt", "model.bin"])
def test_a_pickle_by_any_name_runs_nothing(tmp_path, name):
    trace = tmp_path / "trace"
    evil = [pickle.dumps(Evil(trace), protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    with (tmp_path / "archive").open("wb") as file:
        torch.save({"weights": Evil(trace)}, file)
    evil.append((tmp_path / "archive").read_bytes())
    for data in evil:
        refused(tmp_path / name, data)
        refused(tmp_path / name, struct.pack("<Q", len(data)) + data)
    assert not trace.exists()
    pickle.loads(evil[2])
    assert trace.read_text() == "executed", "the trap works"


def test_a_good_file_loads(tmp_path):
    (tmp_path / "good").write_bytes(content())
    model, tokenizer = runs.load_model(tmp_path / "good")
    assert (model.config, tokenizer.alphabet) == (SMALL, ALPHABET)


def test_a_file_cut_anywhere_is_refused(tmp_path):
    whole = content()
    for percent in range(100):
        refused(tmp_path / "cut", whole[: len(whole) * percent // 100])


def test_a_header_that_lies_is_refused(tmp_path):
    whole = content()
    (size,) = struct.unpack("<Q", whole[:8])
    header, body = json.loads(whole[8 : 8 + size]), whole[8 + size :]
    first = next(name for name in header if name != "__metadata__")
    lies = [
        {first: header[first] | {"shape": [10**9, 10**9]}},
        {first: header[first] | {"shape": [-1, 8]}},
        {first: header[first] | {"data_offsets": [0, 2**63]}},
        {first: header[first] | {"data_offsets": [8, 0]}},
        {first: header[first] | {"dtype": "F64"}},
        {first: header[first] | {"dtype": "OBJECT"}},
        {name: about | {"data_offsets": [0, 4]} for name, about in header.items() if name != "__metadata__"},
    ]
    for lie in lies:
        text = json.dumps(header | lie).encode()
        refused(tmp_path / "lie", struct.pack("<Q", len(text)) + text + body)
    for length in (0, 1, 2**31, 2**63 - 1, 2**64 - 1):
        refused(tmp_path / "lie", struct.pack("<Q", length) + whole[8:])
    deep = b"[" * 100_000
    refused(tmp_path / "lie", struct.pack("<Q", len(deep)) + deep + body)


@pytest.mark.parametrize(
    "config",
    [
        {"n_layers": 3}, {"n_layers": 1}, {"n_layers": 10**9}, {"d_model": 16}, {"d_model": 10**9}, {"d_ff": 13},
        {"d_ff": 10**12}, {"vocab_size": 12}, {"vocab_size": 10**12}, {"context_length": 17},
        {"context_length": 10**12},
        {"context_length": 10**9, "position": "rope"}, {"context_length": 10**9, "position": "sinusoidal"},
        {"activation": "swiglu"}, {"norm_placement": "post"}, {"tie_embeddings": False}, {"position": "none"},
        {"n_heads": 0}, {"n_heads": 3}, {"n_heads": "2"}, {"dropout": 2.0}, {"position": "x"}, {"colour": "red"},
    ],
    ids=str,
)  # fmt: skip
def test_a_config_that_lies_is_refused_before_memory_is_taken(tmp_path, config):
    refused(tmp_path / "lie", content(config=config))


def test_metadata_that_lies_is_refused(tmp_path):
    wrong = [
        {"alphabet": ALPHABET + "€"}, {"alphabet": ALPHABET[:-1] + "a"}, {"alphabet": 11}, {"alphabet": None},
        {"alphabet": ["a"] * 11}, {"config": None}, {"config": []}, {"config": {"n_layers": {}}},
    ]  # fmt: skip
    for about in wrong:
        refused(tmp_path / "lie", content(about=about))
    for format_ in ("2", 1, None, ["1"]):
        assert "format 1" in refused(tmp_path / "lie", content(about={"format": format_}))
    for course in (
        "",
        "null",
        "[]",
        "3",
        "[" * 100_000,
        '{"format": "1"}',
        "\ud83d".encode("utf-8", "replace").decode(),
    ):
        refused(tmp_path / "lie", content(course=course))
    refused(tmp_path / "lie", content(other="a model of another project"))


def test_weights_that_do_not_fit_or_are_not_numbers_are_refused(tmp_path):
    good = weights_of(GPT(SMALL))
    name = "blocks.1.attention.qkv.weight"
    for value in (float("nan"), float("inf"), -float("inf")):
        bad = good | {name: good[name].clone()}
        bad[name][3, 3] = value
        assert "not numbers" in refused(tmp_path / "bad", content(bad))
    refused(tmp_path / "bad", content({k: w for k, w in good.items() if k != name}))
    refused(tmp_path / "bad", content(good | {"blocks.1.attention.extra": torch.zeros(3)}))
    refused(tmp_path / "bad", content(good | {name: good[name].T.contiguous()}))
    refused(tmp_path / "bad", content(good | {name: torch.zeros(0, 8)}))
    refused(tmp_path / "bad", content({}))


def test_the_command_says_one_sentence(tmp_path):
    (tmp_path / "evil.safetensors").write_bytes(pickle.dumps(Evil(tmp_path / "trace")))
    command = [sys.executable, "-m", "course_utils", "generate", "--checkpoint", tmp_path / "evil.safetensors"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent, timeout=120)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "trace").exists()


# --- at random -------------------------------------------------------------------------------------------------------
many = settings(
    max_examples=3000 if FULL else 150,
    deadline=None,
    derandomize=not FULL,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)


@many
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_file_with_wrong_bytes_is_refused_or_is_a_model_of_numbers(tmp_path, changes):
    data = bytearray(content())
    for at, byte in changes:
        data[at % len(data)] = byte
    path = tmp_path / "changed"
    path.write_bytes(data)
    with contextlib.suppress(runs.RunError):
        model, _ = runs.load_model(path)
        assert all(w.isfinite().all() for w in model.state_dict().values())


@many
@given(st.dictionaries(st.sampled_from([*GPTConfig.__dataclass_fields__]), anything, max_size=4))
def test_a_model_config_of_anything_is_a_config_or_a_value_error(changes):
    with contextlib.suppress(ValueError, TypeError):
        GPTConfig(**changes)


@many
@given(st.dictionaries(st.sampled_from([*TrainConfig.__dataclass_fields__]), anything, max_size=4))
def test_a_train_config_of_anything_is_a_config_or_a_value_error(changes):
    with contextlib.suppress(ValueError, TypeError):
        TrainConfig(**changes)


@many
@given(st.text(max_size=60), st.text(max_size=60))
def test_a_tokenizer_of_any_text_gives_it_back_or_names_what_it_lacks(known, text):
    if not known:
        with pytest.raises(ValueError, match="at least one character"):
            CharTokenizer(known)
        return
    tokenizer = CharTokenizer(known)
    if set(text) <= set(known):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    else:
        with pytest.raises(ValueError, match="allowed are"):
            tokenizer.encode(text)


@many
@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=12),
    st.floats(1e-6, 1e4) | st.sampled_from([0.0, 1e-6, 1.0]),
    st.none() | st.integers(1, 20),
    st.none() | st.floats(1e-9, 1),
)
def test_a_filter_of_any_settings_leaves_a_distribution(logits, temperature, top_k, top_p):
    kept = filter_logits(torch.tensor(logits), temperature, top_k, top_p)
    p = kept.double().softmax(-1).numpy()
    assert np.isfinite(p).all()
    assert abs(p.sum() - 1) < 1e-6
    assert p[np.equal(logits, max(logits))].max() > 0, "one of the likeliest is always left"


@many
@given(st.integers(-3, 3) | st.floats(), st.none() | st.integers(-3, 3), st.none() | st.floats())
def test_a_filter_of_wrong_settings_says_what_is_allowed(temperature, top_k, top_p):
    allowed = temperature >= 0 and math.isfinite(temperature) and (top_k is None or top_k >= 1)
    if allowed and (top_p is None or 0 < top_p <= 1):
        filter_logits(torch.zeros(5), temperature, top_k, top_p)
    else:
        with pytest.raises(ValueError, match="must"):
            filter_logits(torch.zeros(5), temperature, top_k, top_p)
