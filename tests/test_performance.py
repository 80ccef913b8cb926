"""The page of measurements: its figures draw the rows, its tables say what a hand computes,
odd files are told of."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from course_utils import figures
from course_utils.figures import performance
from course_utils.figures.words import three_digits
from course_utils.training import runs
from helpers import ROOT, by_path
from pictures import drawn, legible, luminance, texts

OURS, PEER = "engine: cuda, bf16, compiled, CUDA graph", "Hugging Face GPT-2"
TRAIN = [  # batches of 1,000 characters
    {
        "kind": "contender",
        "name": name,
        "median_ms": ms,
        "low_ms": 0.9 * ms,
        "high_ms": 1.25 * ms,
        "characters_per_s": 1e6 / ms,
        "share_of_matrix_rate": 0.2 / ms,
    }
    for name, ms in {"plain loop": 10.0, OURS: 2.0, PEER: 8.0}.items()
]
WRITE = [
    {
        "kind": "contender",
        "name": name,
        "texts": n,
        "characters_per_s": speed,
        "low": 0.9 * speed,
        "high": 1.1 * speed,
        "median_ms": 1e3 * n / speed,
    }
    for name, n, speed in [
        ("ours, float32", 1, 5000.0),
        ("without a cache", 1, 400.0),
        ("lesson 6", 1, 300.0),
        (PEER, 1, 150.0),
        ("ours, bfloat16", 256, 9e5),
        (PEER, 256, 3e4),
        ("ours, bfloat16", 1024, 1.5e6),
    ]
]
GROWTH = [
    {
        "kind": kind,
        "name": str(value),
        "median_ms": 0.3 + value * each,
        "share_of_matrix_rate": value * part,
    }
    for kind, values, each, part in [
        ("n_layers", (1, 2, 4, 8), 0.1, 0.03),
        ("d_model", (64, 128, 256, 512), 0.002, 1e-6),
        ("context_length", (32, 64, 128, 256, 512), 0.01, 0.0015),
        ("batch_size", (1, 2, 4, 8, 16, 32), 0.02, 0.02),
    ]
    for value in values
]
PICTURES = {
    "train": lambda **how: figures.contenders(TRAIN, **how),
    "generate": lambda **how: figures.contenders(WRITE, **how),
    "one": lambda **how: figures.contenders(WRITE[:1], **how),
    "scaling": lambda **how: figures.scaling(GROWTH, **how),
    "one point": lambda **how: figures.scaling(GROWTH[:1], **how),
}


@pytest.mark.parametrize("picture", PICTURES)
def test_words_are_whole_apart_and_in_both_languages(picture):
    words = {}
    for language in ("english", "chinese"):
        figure = PICTURES[picture](language=language, title="recipe 1", note="a note")
        lines = legible(figure)
        assert figure.get_label().startswith("recipe 1. ")
        words[language] = "".join([text for text, _, _ in lines])
    assert not any("\u4e00" <= c <= "\u9fff" for c in words["english"])
    assert any("\u4e00" <= c <= "\u9fff" for c in words["chinese"])
    english = "engine|compiled|ours|lesson|cache|text|second|slow|time|layer|share"
    assert not re.search(english, words["chinese"])


def test_contenders_are_the_data_with_their_factors():
    figure = figures.contenders(TRAIN)
    assert figure.get_label() == (
        "Characters a second, slowest first: plain loop 100,000 · 0.8×, "
        "Hugging Face GPT-2 125,000 · 1×, engine: cuda, bf16, compiled, CUDA graph 500,000 · 4× "
        "(×: times the speed of Hugging Face GPT-2)."
    )
    (axes,) = figure.axes
    assert axes.get_xscale() == "linear"
    assert axes.get_xlim()[0] == 0, "a stem starts at zero"
    assert drawn(figure, OURS).get_xydata().tolist() == [[5e5, 2]]
    ends = drawn(figure, f"{OURS} interval").get_segments()[0][:, 0]
    np.testing.assert_allclose(ends, [1e6 / 2.5, 1e6 / 1.8])
    alone = figures.contenders(TRAIN[:2])
    assert "plain loop 100,000 · 1×" in alone.get_label()
    assert "×: times the speed of the slowest" in texts(alone)


def test_one_text_and_many_are_compared_apart():
    figure = figures.contenders(WRITE)
    one, many = figure.axes
    assert one.get_xscale() == many.get_xscale() == "log"
    for words in ("one text at a time", "many texts at a time"):
        assert f"{words} · ×: times the speed of Hugging Face GPT-2" in texts(figure)
    assert "ours, float32 5,000 · 33.3×" in figure.get_label()
    assert "ours, bfloat16, 256 texts 900,000 · 30×" in figure.get_label()
    assert "ours, bfloat16, 1,024 texts 1,500,000 · 50×" in figure.get_label()
    assert {"characters a second (log scale)", "1,024 texts"} <= set(texts(figure))


def test_growth_is_the_data_beside_the_arithmetic():
    figure, rows = figures.scaling(GROWTH), pd.DataFrame(GROWTH)
    for kind, found in rows.groupby("kind"):
        measured, dashed = drawn(figure, kind), drawn(figure, f"{kind} in proportion")
        np.testing.assert_array_equal(measured.get_ydata(), found["median_ms"])
        work = found["median_ms"] * found["share_of_matrix_rate"]
        np.testing.assert_allclose(dashed.get_ydata() / dashed.get_ydata()[0], work / work.iloc[0])
        assert (dashed.get_ydata() <= measured.get_ydata() * (1 + 1e-9)).all(), (
            "the best point lies on it"
        )
        assert np.isclose(dashed.get_ydata(), measured.get_ydata()).any()
    assert {
        "layers",
        "width (channels)",
        "context (characters)",
        "batch (windows)",
        "time of a step (ms)",
    } <= set(texts(figure))
    assert (
        "layers: 1 0.4 ms (3.0 %), 2 0.5 ms (6.0 %), 4 0.7 ms (12 %), 8 1.1 ms (24 %)"
        in figure.get_label()
    )
    assert "width (channels): 64 0.428 ms (< 0.1 %)" in figure.get_label()
    assert len({axes.get_ylim() for axes in figure.axes}) == 1, "one scale for all panels"


def test_colours_read_in_grey():
    assert 1.05 / (luminance(performance.BLUE) + 0.05) >= 3
    hollow, full = (drawn(figures.contenders(TRAIN), name) for name in (PEER, "plain loop"))
    assert hollow.get_markerfacecolor() != full.get_markerfacecolor()


@pytest.mark.parametrize(
    ("value", "text"), [(43152.9, "43,200"), (99.51, "99.5"), (0.19612, "0.196"), (0, "0")]
)
def test_three_digits_mean_something(value, text):
    assert three_digits(value) == text


# The page's extension, and files for it


@pytest.fixture(scope="module")
def extension():
    pytest.importorskip("sphinx", reason='the book is not installed: pip install -e ".[book]"')
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "book/_ext")  # where its own parts lie
        return by_path("book/_ext/course_bench.py")


CPU = {"device": "cpu (x86_64)", "threads": 2, "torch": "2.9.0", "command": "a test"}
GPU = {"device": "NVIDIA H100", "threads": 8, "torch": "2.9.0", "command": "a test"}
LIMITS = {
    "matrix_products_flops": 7.12e14,
    "memory_bytes_per_s": 2.5e12,
    "operations_per_s": 312_000.0,
}


def bench(what, rows, environment=GPU):
    found = {
        "what": what,
        "preset": "baseline",
        "rows": rows,
        "limits": LIMITS,
        "environment": environment,
    }
    return json.dumps(found | {"peak_memory_mb": float("nan")})


def record(seed, loss, elapsed_s, environment=GPU, setup_s=30.0):
    """The file of a published record, with other settings and costs."""
    (path, *_) = sorted((ROOT / "course_utils/published/logs").glob("*.json"))
    found = json.loads(path.read_text(encoding="utf-8"))
    found |= {"recipe": "sprint", "arm": "4 layers", "parameters": 1_234_567, "seed": seed}
    found |= {"validation_loss": loss, "elapsed_s": elapsed_s, "setup_s": setup_s}
    found |= {"evaluating_s": 2.0, "regime": "cuda, bf16", "environment": environment}
    found["model"]["context_length"], found["train"]["seed"] = 1024, seed
    settings = (found["model"], found["train"], found["corpus"]["sha256"], found["data_share"])
    return json.dumps(found | {"fingerprint": runs.fingerprint(*settings)})


@pytest.fixture
def folder(tmp_path, extension, monkeypatch):
    monkeypatch.setattr(extension, "BENCH", tmp_path)
    (tmp_path / "train-baseline-gpu.json").write_text(bench("train", TRAIN), encoding="utf-8")
    (tmp_path / "generate-baseline-gpu.json").write_text(bench("generate", WRITE), encoding="utf-8")
    (tmp_path / "scaling-baseline-cpu.json").write_text(
        bench("scaling", GROWTH, CPU), encoding="utf-8"
    )
    (tmp_path / "scaling-baseline-gpu.json").write_text(bench("scaling", GROWTH), encoding="utf-8")
    (tmp_path / "scaling-nanogpt-gpu.json").write_text(
        bench("scaling", GROWTH[:9]), encoding="utf-8"
    )
    (tmp_path / "runs").mkdir()
    for i, run in enumerate(
        [
            record(0, 1.5, 10),
            record(1, 1.6, 14),
            record(2, 1.4, 60),
            record(0, 1.7, 80, CPU, setup_s=8.25e-4),
        ]
    ):
        (tmp_path / f"runs/{i}.json").write_text(run, encoding="utf-8")
    return tmp_path


def test_tables_match_a_hand_computation(extension, folder):
    figure, table = extension.PASSAGES["train"]()
    assert figure.get_label().startswith(
        "Training: recipe baseline, NVIDIA H100. Characters a second"
    )
    assert table.split("\n")[1:-1] == [
        (
            "| contender | time of a step (ms) | characters a second | "
            "factor | share of the matrix rate |"
        ),
        "| --- | --: | --: | --: | --: |",
        "| plain loop | 10 | 100,000 | 0.8× | 2.0 % |",
        "| engine: cuda, bf16, compiled, CUDA graph | 2 | 500,000 | 4× | 10 % |",
        "| Hugging Face GPT-2 | 8 | 125,000 | 1× | 2.5 % |",
    ]
    _, table = extension.PASSAGES["generate"]()
    assert "| ours, float32 | 1 | 0.2 | 5,000 | 33.3× |" in table
    assert "| ours, bfloat16 | 1,024 | 0.683 | 1,500,000 | 50× |" in table
    cpu, _, gpu, table = extension.PASSAGES["scaling"]()
    assert [f.get_label().split(". ")[0] for f in (cpu, gpu)] == [
        "A small model's step: recipe baseline, cpu (x86_64), threads: 2",
        "A small model's step: recipe baseline, NVIDIA H100",
    ], "once a machine"
    assert "| batch (windows) | 32 | 0.94 | 64 % |" in table
    (table,) = extension.PASSAGES["machines"]()
    assert "| scaling, baseline | cpu (x86_64), threads: 2 | 2.9.0 | 712 | 2,500 | 312 |" in table
    (table,) = extension.PASSAGES["recipes"]()
    sprint, cpu = "| `sprint`, 4 layers", "cpu (x86_64), threads: 2"
    assert table.split("\n")[2:] == [
        f"{sprint} | NVIDIA H100; cuda, bf16 | 1,024 | 1.23 M | 3 "
        "| 1.5000 (1.6000) | 14 | 30 | 7.1 % |",
        f"{sprint} | {cpu}; cuda, bf16 | 1,024 | 1.23 M | 1 "
        "| 1.7000 (1.7000) | 80 | < 0.1 | 2.5 % |",
    ]


def test_without_files_the_page_names_the_command(extension, tmp_path, monkeypatch):
    monkeypatch.setattr(extension, "BENCH", tmp_path / "none")
    for name, passage in extension.PASSAGES.items():
        (said,) = passage()
        (command,) = re.findall(r"python (tools/\S+?)[ `]", said)
        assert (ROOT / command).is_file(), name


BROKEN = {
    "not JSON": "{",
    "a list": "[]",
    "another kind": bench("cook", TRAIN),
    "a row too poor": bench("train", [{"name": "plain loop"}]),
    "no rows": bench("train", []),
    "no limits": bench("train", TRAIN).replace("memory_bytes_per_s", "memory"),
    "no machine": bench("train", TRAIN, {}),
}


@pytest.mark.parametrize("why", BROKEN)
def test_a_malformed_file_is_told_in_a_sentence(extension, folder, why):
    (folder / "train-x-cpu.json").write_text(BROKEN[why], encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"^train-x-cpu\.json is no benchmark of this course .*make it again with"
    ):
        list(extension.PASSAGES["train"]())


def test_a_malformed_record_is_told_in_a_sentence(extension, folder):
    (folder / "runs/x.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"x\.json is not a run record of this course"):
        list(extension.PASSAGES["recipes"]())


@pytest.mark.slow
def test_a_strict_build_shows_what_can_be_read_and_stops_at_what_cannot(folder, tmp_path_factory):
    """The page alone, by Sphinx: tables, pictures, a passage with nothing, a broken file."""
    (folder / "runs/x.json").write_text("{", encoding="utf-8")
    for path in folder.glob("scaling-*"):
        path.unlink()
    root = tmp_path_factory.mktemp("book")
    shutil.copy(ROOT / "book/performance.md", root / "index.md")
    (root / "log.md").write_text("---\norphan: true\n---\n# Log\n", encoding="utf-8")
    settings = f"""
from pathlib import Path
import course_bench
course_bench.BENCH = Path({str(folder)!r})
extensions = ["myst_parser", "sphinx_design", "course_book"]
myst_enable_extensions = ["colon_fence"]
"""
    (root / "conf.py").write_text(settings, encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", ".", "html"]
    path = {"PYTHONPATH": str(ROOT / "book/_ext")}
    done = subprocess.run(command, cwd=root, env=os.environ | path, capture_output=True, text=True)
    said, page = done.stdout + done.stderr, (root / "html/index.html").read_text(encoding="utf-8")
    assert done.returncode != 0
    assert "x.json is not a run record of this course" in said
    assert "Traceback" not in said
    assert page.count("Nothing is recorded here yet") == 1
    assert (
        'aria-label="Writing: recipe baseline, NVIDIA H100. Characters a second, slowest first'
        in page
    )
    assert '<td class="text-right"><p>1,500,000</p></td>' in page
