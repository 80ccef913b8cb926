"""Pictures: what is drawn is what was given, every sign has a glyph, nothing overlaps,
nothing leaks."""

import io
import itertools
import re
import subprocess
import sys
from base64 import b64decode
from collections import Counter
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import nbclient
import nbformat
import numpy as np
import pandas as pd
import pytest
from fontTools.ttLib import TTFont
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import font_manager, rc_context
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from course_utils import figures
from course_utils.figures import drawing, labels, study, words
from course_utils.messages.names import translated
from helpers import LANGUAGES, NOTE
from pictures import badly_placed, drawn, ink, legible, luminance, texts

BASELINES = {"uniform": 4.174, "unigram": 3.347, "bigram": 2.486, "5-gram": 1.669}
SAMPLE = (
    "What, for $100 thou wouldst be $200 poorer?\nAnd so the people of the realm have said it.\n"
    * 4
)
MEASURES = ["distinct_2", "repetition", "known_words", "longest_copy", "five_gram_loss"]


def make_curves(
    arms=("2 layers", "4 layers", "6 layers"), seeds=2, steps=600, every=25, batch=2048
):
    """Learning curves that fall as real ones do, a little differently for each seed;
    no training loss at step 0."""
    rng, rows = np.random.default_rng(1), []
    for i, arm in enumerate(arms):
        for seed in range(seeds):
            step = np.arange(0, steps + 1, every)
            loss = (
                1.75
                - 0.06 * i
                + 2 * np.exp(-step / 45)
                + 0.45 * np.exp(-step / 250)
                + rng.normal(0, 0.01, len(step))
            )
            rows.append(
                pd.DataFrame({"arm": arm, "seed": seed, "step": step, "validation_loss": loss})
            )
            rows[-1]["training_loss"] = np.where(step > 0, loss - 0.08, np.nan)
            rows[-1]["characters"], rows[-1]["elapsed_s"] = (
                step * batch,
                step * (0.1 + 0.05 * i) * (1 + 0.1 * seed),
            )
    return pd.concat(rows, ignore_index=True)


def make_tables(curves, parameters=(1_655_808, 3_228_672, 4_801_536)):
    """final (a row a run) and ablation (a row an arm), as the study writes them."""
    final = curves.groupby(["arm", "seed"], sort=False, as_index=False).last()
    final["parameters"] = np.repeat(parameters, final["seed"].nunique())
    final["perplexity"] = np.exp(final["validation_loss"])
    arms = final.groupby("arm", sort=False)
    ablation = arms[["validation_loss", "parameters", "elapsed_s"]].mean().reset_index()
    half = 3 * arms["validation_loss"].sem().values
    ablation["loss_low"], ablation["loss_high"] = (
        ablation["validation_loss"] - half,
        ablation["validation_loss"] + half,
    )
    ablation["perplexity"] = np.exp(ablation["validation_loss"])
    return final, ablation


def make_generations():
    rng, rows = np.random.default_rng(2), []
    arms = ["2 layers", "4 layers", "6 layers", "human reference"]
    for arm, temperature, prompt, seed in itertools.product(
        arms, (0.8, 1.2), ("ROMEO:", "KING:\n"), (0, 1)
    ):
        human = arm == arms[-1]
        rows.append(
            {
                "arm": arm,
                "seed": seed,
                "prompt": prompt,
                "text": f"{arm} {prompt} {seed}\n" + SAMPLE,
            }
        )
        rows[-1] |= {
            "temperature": None if human else temperature,
            "top_k": None,
            "top_p": None if human else 0.9,
        }
        values = rng.uniform([0.7, 0.02, 0.8, 12, 1.5], [0.9, 0.1, 0.95, 25, 1.7])
        rows[-1] |= dict(zip(MEASURES, values, strict=True))
    return pd.DataFrame(rows)


CURVES, RECORDED = make_curves(), make_curves(steps=2000, every=50, batch=8192)
SHORT = make_curves(["2 layers"], seeds=1, steps=20, every=5)
FINAL, ABLATION = make_tables(CURVES)
GENERATIONS = make_generations()
ALPHABET = sorted(" \n$&'-.3:;?!," + "".join(map(chr, [*range(65, 91), *range(97, 123)])))
COUNTS = pd.Series((1e5 * np.exp(-0.15 * np.arange(65))).astype(int) + 1, index=ALPHABET)
WEIGHTS = np.random.default_rng(3).dirichlet(np.ones(11), size=(8, 11))
WEIGHTS[:, np.triu(np.ones((11, 11), bool), 1)] = -np.inf
BEFORE = np.random.default_rng(4).dirichlet(np.full(65, 0.25))
TOP = np.where(np.sort(BEFORE)[-5] <= BEFORE, BEFORE, 0)
NEXT = pd.DataFrame({"temperature 1": BEFORE, "top-k 5": TOP / TOP.sum()}, index=ALPHABET)
SERIES = {"sine": np.sin(np.arange(40) / 5), "cosine": np.cos(np.arange(40) / 5)}

EFFECTS = pd.DataFrame(
    [
        ("dropout 0.1", -0.05, True),
        ("GELU", -0.01, False),
        ("ReLU", 0.01, False),
        ("SwiGLU", 0.02, False),
        ("16 heads", 0.1, True),
        ("no residuals", 1.8, True),
    ],
    columns=["arm", "difference", "clear"],
).assign(low=lambda t: t["difference"] - 0.015, high=lambda t: t["difference"] + 0.015)
RATES = pd.DataFrame(
    [
        {
            "arm": "1 layer" if n == 1 else f"{n} layers",
            "learning_rate": rate,
            "choosing_loss": (loss := 1.7 - 0.02 * n + 0.1 * abs(np.log10(rate * 400))),
            "low": loss - 0.01,
            "high": loss + 0.02,
            "best": rate == 2.4e-3,
        }
        for n in (1, 2, 4, 6, 8, 12)
        for rate in (3e-4, 6e-4, 1.2e-3, 2.4e-3, 4.8e-3)
    ]
)
SHARES = pd.DataFrame(
    [
        {"arm": f"{n} layers", "share": share, "loss": 2.3 - 0.05 * n - 0.3 * np.log10(10 * share)}
        for n in (2, 4, 6)
        for share in (0.1, 0.2, 0.4, 0.7, 1)
    ]
).assign(low=lambda t: t["loss"] - 0.02, high=lambda t: t["loss"] + 0.02)

SPENT = pd.DataFrame(
    [
        {"n_layers": n, "steps": steps, "loss": 1.6 + 0.1 / n + 120 / steps}
        | {"flops": 5e10 * n * steps, "gpu_s": 4e-4 * n * steps, "cpu_s": 0.3 * n * steps}
        | {f"{price}_best": n == 3 for price in ("steps", "flops", "gpu_s", "cpu_s")}
        for steps in (600, 1200, 2400)
        for n in (1, 3, 12)
    ]
).assign(low=lambda t: t["loss"] - 0.01, high=lambda t: t["loss"] + 0.01)
TWINS = pd.DataFrame(
    [
        {"changed": f"other {part}", "group": f"{n} layers", "one": i - 1, "other": i * (2 - n)}
        for part in ("weights", "batches")
        for n in (2, 4)
        for i in range(3)
    ]
)
PAIRED = pd.DataFrame(
    {"family": ["frames", "frames", "draws of whole plays"], "r": [0.1, -0.4, 0.9]}
    | {"ratio": [1.05, 1.3, 0.4], "pairs": [6, 6, 5], "at_zero": [1.15, 1.15, 1.2]}
)
JUDGED = pd.DataFrame(
    {
        "arm": ["2 layers", "4 layers", "human reference"],
        "plausibility": [1.7, 1.6, 1.25],
        "coherence": [0.0, 0.001, 0.05],
    }
)
for measure, reach in (("plausibility", 0.04), ("coherence", 0.01)):
    JUDGED[f"{measure}_low"] = JUDGED[measure] - reach
    JUDGED[f"{measure}_high"] = JUDGED[measure] + reach

PICTURES = {
    "frontier": lambda **how: figures.frontier(SPENT, **how),
    "twins": lambda **how: figures.twins(TWINS, **how),
    "pairing": lambda **how: figures.pairing(PAIRED, **how),
    "judged": lambda **how: figures.judged(JUDGED, **how),
    "effect_ranking": lambda **how: figures.effect_ranking(EFFECTS, **how),
    "rate_sweep": lambda **how: figures.rate_sweep(RATES, **how),
    "data_scaling": lambda **how: figures.data_scaling(SHARES, **how),
    "training_curves": lambda **how: figures.training_curves(CURVES, BASELINES, **how),
    "training_curves, recorded": lambda **how: figures.training_curves(
        CURVES, BASELINES, recorded=RECORDED, x="characters", **how
    ),
    "training_curves, one run": lambda **how: figures.training_curves(SHORT, BASELINES, **how),
    "ablation_bars": lambda **how: figures.ablation_bars(ABLATION, FINAL, BASELINES, **how),
    "parameters_vs_perplexity": lambda **how: figures.parameters_vs_perplexity(
        ABLATION, FINAL, baselines=BASELINES, **how
    ),
    "sample_comparison": lambda **how: figures.sample_comparison(GENERATIONS, **how),
    "loss_bars": lambda **how: figures.loss_bars(BASELINES, **how),
    "character_counts": lambda **how: figures.character_counts(COUNTS, **how),
    "heatmaps, heads": lambda **how: figures.heatmaps(
        WEIGHTS,
        list("ROMEO:\n O m"),
        list("ROMEO:\n O m"),
        list("01234567"),
        ("query", "key", "weight (share)"),
        **how,
    ),
    "heatmaps, one": lambda **how: figures.heatmaps(
        np.eye(5), labels=("row", "column", "value (1)"), title="I", **how
    ),
    "lines": lambda **how: figures.lines(
        np.arange(40), SERIES, "position (characters)", "value (no unit)", **how
    ),
    "next_character": lambda **how: figures.next_character(NEXT, **how),
}


@cache
def gallery(picture, language="english"):
    """One of the pictures, drawn once: (figure, PNG, lines of text)."""
    figure = PICTURES[picture](language=language, note=NOTE)
    return figure, *ink(figure)


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("picture", PICTURES)
def test_every_word_is_whole_and_apart(picture, language):
    figure, *inked = gallery(picture, language)
    assert translated(NOTE, language) in [text for text, _, _ in legible(figure, *inked)]


def test_words_on_each_other_would_be_seen(monkeypatch):
    monkeypatch.setattr(
        labels, "spread", lambda values, gap, low, high: values
    )  # the mutant: labels stay put
    _, lines = ink(figures.training_curves(CURVES.assign(validation_loss=1.6), BASELINES))
    assert badly_placed(lines, 910, 900)


@cache
def glyphs():
    """The signs that the Chinese font has, and those of the other."""
    noto = Path(find_spec("zhplot").origin).parent / "fonts" / "NotoSansSC-Regular.ttf"
    return [TTFont(path).getBestCmap() for path in (noto, font_manager.findfont("DejaVu Sans"))]


@pytest.mark.slow
@pytest.mark.parametrize("picture", PICTURES)
def test_two_languages_and_a_glyph_for_every_sign(picture):
    noto, dejavu = glyphs()
    words, signs = (
        "".join(text for text, _, _ in gallery(picture, language)[2]) for language in LANGUAGES
    )
    assert [c for c in words if ord(c) not in dejavu] == []
    assert [c for c in signs if ord(c) not in (noto if ord(c) > 0x2E80 else noto | dejavu)] == []
    assert gallery(picture, "english")[0].get_label() != gallery(picture, "chinese")[0].get_label()
    if not picture.startswith(("heatmaps", "lines")):  # all of whose words are the caller's
        assert any("\u4e00" <= c <= "\u9fff" for c in signs)
        assert not any("\u4e00" <= c <= "\u9fff" for c in words)
    if not picture.startswith(("heatmaps", "lines", "sample")):
        assert not [
            word
            for word in ("loss", "layer", "step", "seed", "perplexity", "gram", "kept")
            if word in signs
        ]


def test_a_missing_glyph_would_be_seen():
    figure = figures.loss_bars(BASELINES, language="chinese")
    for text in figure.findobj(Text):
        text.set_fontfamily("DejaVu Sans")  # the mutant: no Chinese font
    with pytest.raises(UserWarning, match="missing from font"):
        ink(figure)


@pytest.mark.parametrize("language", LANGUAGES)
def test_any_text_can_be_drawn(language):
    text = "第一回 שלום 😀\U0010fffd\x07\t\u202e $x$ $y$\r\n" * 9
    strange = GENERATIONS.assign(text=text, prompt="第一回\n\U0010fffd", arm="arm \U0010fffd 一")
    lines = " ".join(
        texts(figures.sample_comparison(strange, language=language, note="红楼梦\U0010fffd.txt"))
    )
    assert all(
        part in lines
        for part in ("第一回", "U+10FFFD", "U+202E", "U+0007", "$x$", "红楼梦U+10FFFD.txt")
    )


LABELS = {  # of both axes, with units
    "frontier": [
        "training steps",
        "arithmetic (10¹⁴ FLOPs)",
        "time on a GPU (s)",
        "time on a CPU core (minutes)",
        "loss on the untouched plays",
        "(nats/character)",
    ],
    "training_curves": [
        "training step",
        "loss (nats/character)",
        "perplexity per character",
    ],
    "ablation_bars": [
        "validation loss (nats/character)",
        "perplexity per character",
        "parameters (millions)",
        "training time (s)",
    ],
    "parameters_vs_perplexity": ["parameters (millions)", "perplexity per character"],
    "sample_comparison": ["(%)", "(%)", "(%)", "(characters)", "(nats/char.)"],
    "loss_bars": ["loss (nats/character)"],
    "character_counts": ["character", "count (log scale)"],
    "heatmaps, heads": ["query", "query", *["key"] * 4, "weight (share)"],
    "lines": ["position (characters)", "value (no unit)"],
    "next_character": ["next character (outline: temperature 1)", "probability"],
}


@pytest.mark.parametrize("picture", LABELS)
def test_axes_are_labelled(picture):
    assert not Counter(LABELS[picture]) - Counter([text for text, _, _ in gallery(picture)[2]])


def test_curves_are_the_data():
    figure = figures.training_curves(CURVES, BASELINES)
    runs = CURVES[CURVES["arm"] == "4 layers"]
    for seed, run in runs.groupby("seed"):
        assert_array_equal(
            drawn(figure, f"4 layers seed {seed}").get_xydata(), run[["step", "validation_loss"]]
        )
    first, second = (run["validation_loss"].values for _, run in runs.groupby("seed"))
    assert_allclose(drawn(figure, "4 layers").get_ydata(), (first + second) / 2)
    words = texts(figure)
    for i, arm in enumerate(("2 layers", "4 layers", "6 layers")):
        assert f"{arm} {FINAL['validation_loss'].values.reshape(3, 2).mean(1)[i]:.3f}" in words
    assert "5-gram 1.669" in words
    trained = CURVES.dropna(subset="training_loss")
    first = trained.loc[trained["step"] == trained["step"].min(), "training_loss"].mean()
    off = f"off the range: uniform 4.174, unigram 3.347, training at first {first:.3f}"
    assert off in words, "what is cut off is said"
    assert drawn(figure, "5-gram").get_ydata()[0] == 1.669


def test_a_seed_that_stopped_early_leaves_the_mean():
    stopped = CURVES[(CURVES["seed"] == 0) | (CURVES["step"] <= 300)]
    assert drawn(figures.training_curves(stopped, BASELINES), "2 layers").get_xdata()[-1] == 300


def test_the_record_is_drawn_behind_in_the_same_colour():
    figure = figures.training_curves(CURVES, BASELINES, recorded=RECORDED, x="characters")
    faint, own = drawn(figure, "4 layers recorded"), drawn(figure, "4 layers")
    assert faint.get_color() == own.get_color()
    assert faint.get_alpha() < 0.5
    assert (faint.get_xdata()[-1], own.get_xdata()[-1]) == (2000 * 8192, 600 * 2048)


def test_bars_and_dots_are_the_data():
    figure = figures.ablation_bars(ABLATION, FINAL, BASELINES)
    widths = [patch.get_width() for axes in figure.axes[1:] for patch in axes.patches]
    assert_allclose(
        widths, [*ABLATION["perplexity"], *ABLATION["parameters"] / 1e6, *ABLATION["elapsed_s"]]
    )
    assert all(axes.get_xlim()[0] == 0 for axes in figure.axes[1:]), "a bar starts at zero"
    points = figures.parameters_vs_perplexity(ABLATION, FINAL)
    for arm in ABLATION.itertuples():
        seeds = FINAL[FINAL["arm"] == arm.arm]
        assert_array_equal(drawn(figure, f"{arm.arm} seeds").get_xdata(), seeds["validation_loss"])
        assert_array_equal(
            drawn(figure, f"{arm.arm} interval").get_xdata(), [arm.loss_low, arm.loss_high]
        )
        assert drawn(figure, arm.arm).get_xdata() == arm.validation_loss
        assert_array_equal(drawn(points, f"{arm.arm} seeds").get_ydata(), seeds["perplexity"])
        assert_allclose(
            drawn(points, f"{arm.arm} interval").get_ydata(), np.exp([arm.loss_low, arm.loss_high])
        )
        assert_allclose(
            drawn(points, arm.arm).get_xydata(), [[arm.parameters / 1e6, arm.perplexity]]
        )
        assert f"{arm.validation_loss:.3f}" in figure.get_label()


def test_one_evaluation_is_enough():
    for step in (0, 50):
        once = CURVES[(CURVES["step"] == step) & (CURVES["arm"] == "2 layers")]
        figure = figures.training_curves(once, BASELINES)
        assert_array_equal(drawn(figure, "2 layers").get_xdata(), [step])
        assert badly_placed(ink(figure)[1], 910, 900) == []
    ink(figures.lines([1], {"one": [2.0]}, "x", "y"))


def test_the_key_names_what_is_drawn_and_no_more():
    def key(curves, has_record=False):
        return study.curves_key(curves, has_record, words.speaker("english"))

    once = CURVES[CURVES["step"] == 600]
    figure = figures.training_curves(CURVES, BASELINES, recorded=RECORDED, x="characters")
    assert key(CURVES, has_record=True) in texts(figure)
    assert key(CURVES, has_record=True) == f"{key(CURVES)} · faint: recorded study"
    assert key(CURVES) == "line: validation, mean of seeds · thin: each seed · dashed: training"
    assert key(CURVES[CURVES["seed"] == 0]) == "line: validation · dashed: training"
    assert key(once) == "mark: validation, mean of seeds · ring: each seed · dashed: training"
    assert key(once[once["seed"] == 0]) == "mark: validation · dashed: training"


def test_an_axis_begins_where_it_is_told():
    near, from_0 = (
        figures.lines([1, 2], {"a": [3, 4]}, "x", "y", low=low).axes[0].get_ylim()
        for low in (None, 0)
    )
    assert near[0] > 2
    assert from_0 == (0, near[1])


def test_one_seed_has_no_interval():
    curves = make_curves(seeds=1)
    final, ablation = make_tables(curves)
    assert ablation["loss_low"].isna().all()
    ink(figures.ablation_bars(ablation, final, BASELINES))
    ink(figures.parameters_vs_perplexity(ablation, final, baselines=BASELINES))


def test_samples_share_one_setting():
    figure = figures.sample_comparison(GENERATIONS)
    words = texts(figure)
    assert "What the models write after “ROMEO:”" in words
    assert "temperature 0.8 · top-k off · top-p 0.9" in words
    assert words.count("What, for $100 thou wouldst be $200 poorer?") >= 4
    assert {"2 layers ROMEO: 0", "human reference ROMEO: 0"} <= set(words)
    cool = GENERATIONS[(GENERATIONS["arm"] == "4 layers") & (GENERATIONS["temperature"] == 0.8)]
    for i, measure in enumerate(MEASURES):
        in_unit = cool[measure] * (100 if i < 3 else 1)  # three shares, in per cent
        assert_array_equal(drawn(figure, "4 layers samples", i).get_xdata(), in_unit)
        assert_allclose(drawn(figure, "4 layers", i).get_xdata(), in_unit.mean())


def test_a_model_without_one_word_is_drawn_too():
    silent = GENERATIONS.assign(known_words=np.nan, text=" \n")
    figure = figures.sample_comparison(silent)
    ink(figure)
    assert figure.get_label().endswith("2 layers –, 4 layers –, 6 layers –, human reference –.")


def test_lesson_pictures_are_the_data():
    figure = figures.heatmaps(WEIGHTS)
    for i, weights in enumerate(WEIGHTS):
        panel = drawn(figure, f"panel {i}")
        assert_array_equal(panel.get_array().filled(-np.inf), weights)
        assert panel.get_clim() == (WEIGHTS[WEIGHTS >= 0].min(), WEIGHTS.max()), (
            "one scale for all panels"
        )
    figure = figures.next_character(NEXT, n=65)
    order = np.argsort(-BEFORE, kind="stable")
    after, before = ([bar.get_height() for bar in bars] for bars in figure.axes[0].containers)
    assert_array_equal(before, BEFORE[order])
    assert_array_equal(after, NEXT["top-k 5"].values[order])
    assert not any(bar.get_fill() for bar in figure.axes[0].containers[1]), (
        "what is cut stays hollow"
    )
    assert "top-k 5 · 5 of 65 characters kept" in texts(figure)
    figure = figures.character_counts(COUNTS)
    heights = np.concatenate([drawn(figure, "counts", i).get_ydata() for i in range(2)])
    assert_array_equal(heights, COUNTS)
    figure = figures.lines(np.arange(40), SERIES, "position", "value", BASELINES | {"half": 0.5})
    assert_array_equal(drawn(figure, "sine").get_ydata(), SERIES["sine"])
    assert drawn(figure, "half").get_ydata()[0] == 0.5
    figure = figures.loss_bars({"bigram": 2.5, "uniform": 4.2})
    assert [text for text in texts(figure) if text in ("uniform", "bigram")] == [
        "uniform",
        "bigram",
    ]
    assert figure.get_label() == "Loss in nats/character, worst first: uniform 4.200, bigram 2.500."
    as_built = figures.loss_bars({"bigram": 2.5, "uniform": 4.2}, ranked=False)
    assert as_built.get_label() == "Loss in nats/character: bigram 2.500, uniform 4.200."


def test_spaces_and_line_breaks_are_seen():
    assert {"␣", "⏎", "$"} <= set(texts(figures.character_counts(COUNTS)))


@pytest.mark.parametrize("n", [2, 3, 6])
def test_order_reads_in_grey(n):
    styles = list(drawing.looks(range(n)).values())
    greys = np.array([luminance(look["color"]) for look in styles])
    assert (np.diff(greys) < 0).all()
    assert (1.05 / (greys + 0.05) >= 3).all(), (
        "three to one against white, as WCAG asks of graphics"
    )
    assert len({look["marker"] for look in styles}) == n


@settings(deadline=None)  # a busy machine is no fault
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_labels_spread(values):
    places = labels.spread(values, 0.08, 0, 1)
    order = np.argsort(values, kind="stable")
    assert (np.diff(places[order]) >= 0.08 * 0.98).all()
    assert places.min() >= -0.01
    assert places.max() <= 1.01
    if len(values) == 1 or np.diff(np.sort(values)).min() > 0.08:
        assert_allclose(places, values)


def test_nothing_leaks_into_pyplot_and_no_torch_comes_in():
    code = """
import sys
from matplotlib import rcParams
before = rcParams.copy()
from course_utils import figures
figures.loss_bars({"uniform": 4.2}, language="chinese").png()
assert rcParams.copy() == before
assert not {"torch", "zhplot", "matplotlib.pyplot"} & set(sys.modules), "imported"
import matplotlib.pyplot as plt
plt.style.use("dark_background")
figures.loss_bars({"uniform": 4.2}).png()
assert plt.get_fignums() == []
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_readers_own_style_changes_nothing():
    plain = figures.loss_bars(BASELINES).png()
    with rc_context({"font.size": 30, "axes.facecolor": "black", "text.parse_math": True}):
        assert figures.loss_bars(BASELINES).png() == plain
        assert figures.loss_bars(BASELINES, note="x").png() != plain


def test_a_notebook_shows_it_once_with_its_alt_text():
    draw = "from course_utils import figures\nfigures.loss_bars({'uniform': 4.2})"
    sources = draw, draw, "import sys; sys.modules.keys() & {'matplotlib.pyplot'}"
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbclient.NotebookClient(nbformat.v4.new_notebook(cells=cells)).execute()
    (words, first), again, (pyplot,) = (cell.outputs for cell in notebook.cells)
    assert again == [words, first]
    alt = "Loss in nats/character, worst first: uniform 4.200."
    assert first["metadata"] == {"image/png": {"alt": alt, "width": 910}}
    assert b64decode(first["data"]["image/png"]) == figures.loss_bars({"uniform": 4.2}).png()
    assert pyplot["data"]["text/plain"] == "set()"


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: figures.loss_bars(BASELINES, language="French"), "allowed are english, chinese"),
        (
            lambda: figures.training_curves(CURVES, BASELINES, x="hour"),
            "allowed are step, characters, epoch, elapsed_s",
        ),
    ],
)
def test_bad_input_is_told_in_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_a_ranking_shows_each_difference_and_marks_what_is_clear():
    (axes,) = figures.effect_ranking(EFFECTS).axes
    drawn = {line.get_label(): line for line in axes.get_lines()}
    for arm in EFFECTS.itertuples():
        if arm.arm == "no residuals":
            assert drawn[arm.arm].get_marker() == ">", "far outside: an arrow at the edge"
            continue
        assert_allclose(drawn[arm.arm].get_xdata(), arm.difference)
        assert_allclose(drawn[f"{arm.arm} interval"].get_xdata(), [arm.low, arm.high])
        assert (drawn[arm.arm].get_markerfacecolor() == "white") != arm.clear
    assert [text.get_text() for text in axes.get_yticklabels()] == list(EFFECTS["arm"])
    written = "−0.050 −0.010 +0.010 +0.020 +0.100 +1.800"
    assert {text.get_text() for text in axes.texts} == set(written.split())


def test_a_sweep_and_a_scaling_show_the_numbers_that_they_are_given():
    (axes,) = figures.rate_sweep(RATES).axes
    drawn = {line.get_label(): line for line in axes.get_lines()}
    seeds = {bars.get_label(): bars.get_segments() for bars in axes.collections}
    for arm, rows in RATES.groupby("arm"):
        assert_allclose(drawn[arm].get_ydata(), rows["choosing_loss"])
        assert_allclose(np.array(seeds[arm])[..., 1], rows[["low", "high"]])
        assert_allclose(drawn[f"{arm} best"].get_xdata(), 2.4e-3)
    (axes,) = figures.data_scaling(SHARES).axes
    drawn = {line.get_label(): line for line in axes.get_lines()}
    for arm, rows in SHARES.groupby("arm"):
        assert_allclose(drawn[arm].get_ydata(), rows["loss"])


def test_as_svg_a_figure_keeps_its_words_and_mixes_with_no_other():
    hostile = {"<img src=x onerror=alert(1)>": 2.486, "uniform": 4.174}
    for language in ("english", "chinese"):
        how = {"language": language, "title": '"Losses" & more'}
        figure = figures.loss_bars(hostile, **how)
        first, second = figure.svg("first"), figure.svg("second")
        tree = ElementTree.fromstring(first)
        words = " ".join(tree.itertext())
        assert "<img src=x" in words
        assert "2.486" in words, "words stay words, to be searched and selected"
        assert tree.get("aria-label") == figure.get_label()
        assert "<img" not in first
        assert "<style" not in first, "it would hold for the whole page"
        named = [set(re.findall(r'id="([^"]+)"', picture)) for picture in (first, second)]
        assert named[0]
        assert not named[0] & named[1]
        used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', first))
        assert used <= named[0], "what a part refers to is there"
        assert figures.loss_bars(hostile, **how).svg("first") == first, "as the data, so the file"


def test_a_png_is_as_it_was_drawn_and_holds_its_drawing():
    grid = np.random.default_rng(0).random((2, 16, 16))
    drawn, again = (figures.heatmaps(grid, title="Losses") for _ in range(2))
    file, plain = io.BytesIO(drawn.png()), io.BytesIO()
    again.savefig(plain, format="png", dpi=drawing.FINE * again.dpi)
    pixels = [np.asarray(Image.open(one).convert("RGB"), int) for one in (file, plain)]
    assert np.abs(pixels[0] - pixels[1]).max() <= 8, "a palette that nobody sees"
    found = drawing.drawing(file, "here")
    assert ">Losses</text>" in found
    assert 'id="here-' in found
    assert drawing.drawing(plain, "here") is None


TURN = 2 * np.array([[0.213, 0.715, 0.072]] * 3) - np.eye(3)  # CSS's hue-rotate(180deg)


@pytest.mark.parametrize("ground", ["#121212", "#16181b"])
def test_turned_over_on_a_dark_page_every_colour_can_be_read(ground):
    """As the pages' style sheets do it: inverted, its hue turned back, screened over the ground."""
    colors = [drawing.AMBER, drawing.BLUE, drawing.NIGHT, drawing.RUST, drawing.RED]
    for color in [*colors, drawing.GREY, drawing.INK]:
        light = np.clip(TURN @ (1 - np.array(to_rgb(color))), 0, 1)
        seen = 1 - (1 - light) * (1 - np.array(to_rgb(ground)))
        contrast = (luminance(seen) + 0.05) / (luminance(ground) + 0.05)
        assert contrast > 4.5, color
    assert (luminance(drawing.NIGHT) + 0.05) / (luminance(ground) + 0.05) < 3, (
        "left alone it is lost"
    )


def test_a_band_lies_around_its_line():
    band = np.array([1.0, 2.0]), np.array([3.0, 9.0])
    figure = figures.lines([1, 2], {"a": [2, 4], "b": [2, 2]}, "x", "y", bands={"a": band})
    (axes,) = figure.axes
    (shade,) = axes.collections
    corners = {tuple(corner) for corner in shade.get_paths()[0].vertices.tolist()}
    assert {(1, 1), (2, 2), (1, 3), (2, 9)} <= corners
    assert axes.get_ylim()[1] > 9, "all of it is seen"
    assert_allclose(shade.get_facecolor()[0][:3], to_rgb(axes.get_lines()[0].get_color()))


def test_a_line_marks_its_points_or_nothing_and_the_axis_ends_at_the_data():
    few = figures.lines([1, 2, 4, 8], {"a": [3, 2, 1, 0.5]}, "x", "y")
    many = figures.lines(range(300), {"a": np.arange(300)}, "x", "y")
    for figure, mark, last in ((few, "o", 8), (many, "", 299)):
        (axes,) = figure.axes
        (line,) = axes.get_lines()
        assert line.get_marker() == mark
        assert line.get_markevery() is None
        assert axes.spines["bottom"].get_bounds()[1] == last
        assert max(axes.get_xticks()) <= last


def words_in(figure):
    return [text.get_text() for text in figure.findobj(Text)]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("known", [True, False])
def test_what_could_not_be_measured_is_said_and_the_rest_is_drawn(language, known):
    """On a text that is too short, a loss may be no number: alone among others, or every one."""
    nothing = {"a model": np.nan, "another": np.inf}
    words = {"english": "could not be measured", "chinese": "未能测得"}[language]

    bars = figures.loss_bars(nothing | ({"bigram": 2.5} if known else {}), language=language)
    assert sum(words == text for text in words_in(bars)) == bars.get_label().count(words) == 2
    assert ("2.500" in bars.get_label()) == known
    assert len(bars.axes[0].lines) == known  # a dot for each that is drawn
    bars.png()

    series = {name: np.full(9, loss) for name, loss in nothing.items()}
    series |= {"bigram": np.linspace(3, 2.5, 9)} if known else {}
    lines = figures.lines(
        np.arange(9), series, "step (1)", "loss (nats/character)", language=language
    )
    assert lines.get_label().count(words) == 2
    assert len(lines.axes[0].lines) == known
    assert sum(text.count(words) for text in words_in(lines)) == 2
    lines.png()


def test_of_ranked_losses_the_unmeasured_come_last():
    losses = {"none": np.nan, "low": 1.0, "also none": np.nan, "high": 2.0}
    ticks = figures.loss_bars(losses).axes[0].get_yticklabels()
    assert [tick.get_text() for tick in ticks] == ["high", "low", "none", "also none"]
