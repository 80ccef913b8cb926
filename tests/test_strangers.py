"""Nothing let in: files of weights from strangers run nothing, load nothing in silence,
and get one sentence each."""

import contextlib
import functools
import html
import json
import math
import pickle
import shutil
import struct
import subprocess
import sys
import unicodedata
from base64 import b64encode
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save

import helpers
from course_utils import figures, files, widgets
from course_utils.lessons.data import CharTokenizer
from course_utils.lessons.model import GPT, GPTConfig
from course_utils.lessons.sampling import filter_logits
from course_utils.lessons.train import TrainConfig
from course_utils.training import checkpoints
from helpers import FULL, ROOT, SMALL, by_path
from pages import go, serving, visit_file, watched

ALPHABET = "abcdefghijk"
tried = Counter()  # by a test: how often it tried


@pytest.fixture(autouse=True)
def how_often(record_property):
    tried.clear()
    yield
    if tried:
        record_property("trials", tried.total())


def counted(function):
    @functools.wraps(function)
    def wrapper(*arguments, **named):
        tried[function.__name__] += 1
        return function(*arguments, **named)

    return wrapper


course = counted(helpers.course)
here = counted(helpers.here)


def weights_of(model):
    return {
        name: w.detach().clone() for name, w in model.state_dict().items() if name != "head.weight"
    }


def content(weights=None, config=None, about=None, **metadata):
    """A checkpoint's bytes, as checkpoints.save_model makes them,
    with what a stranger would change."""
    about = {"format": "1", "config": asdict(SMALL) | (config or {}), "alphabet": ALPHABET} | (
        about or {}
    )
    metadata = metadata or {"course": json.dumps(about)}
    return save(weights_of(GPT(SMALL)) if weights is None else weights, metadata=metadata)


@counted
def refused(path, data):
    path.write_bytes(data)
    with pytest.raises(files.RunError) as refusal:
        checkpoints.load_model(path)
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


@pytest.mark.promise("weights")
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


@pytest.mark.promise("weights")
def test_a_good_file_loads(tmp_path):
    (tmp_path / "good").write_bytes(content())
    model, tokenizer = checkpoints.load_model(tmp_path / "good")
    assert (model.config, tokenizer.alphabet) == (SMALL, ALPHABET)


@pytest.mark.promise("weights")
def test_a_file_cut_anywhere_is_refused(tmp_path):
    whole = content()
    for percent in range(100):
        refused(tmp_path / "cut", whole[: len(whole) * percent // 100])


@pytest.mark.promise("weights")
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
        {
            name: about | {"data_offsets": [0, 4]}
            for name, about in header.items()
            if name != "__metadata__"
        },
    ]
    for lie in lies:
        text = json.dumps(header | lie).encode()
        refused(tmp_path / "lie", struct.pack("<Q", len(text)) + text + body)
    for length in (0, 1, 2**31, 2**63 - 1, 2**64 - 1):
        refused(tmp_path / "lie", struct.pack("<Q", length) + whole[8:])
    deep = b"[" * 100_000
    refused(tmp_path / "lie", struct.pack("<Q", len(deep)) + deep + body)


@pytest.mark.promise("weights")
@pytest.mark.parametrize(
    "config",
    [
        {"n_layers": 3},
        {"n_layers": 1},
        {"n_layers": 10**9},
        {"d_model": 16},
        {"d_model": 10**9},
        {"d_ff": 13},
        {"d_ff": 10**12},
        {"vocab_size": 12},
        {"vocab_size": 10**12},
        {"context_length": 17},
        {"context_length": 10**12},
        {"context_length": 10**9, "position": "rope"},
        {"context_length": 10**9, "position": "sinusoidal"},
        {"activation": "swiglu"},
        {"norm_placement": "post"},
        {"tie_embeddings": False},
        {"position": "none"},
        {"n_heads": 0},
        {"n_heads": 3},
        {"n_heads": "2"},
        {"dropout": 2.0},
        {"position": "x"},
        {"colour": "red"},
    ],
    ids=str,
)
def test_a_config_that_lies_is_refused_before_memory_is_taken(tmp_path, config):
    refused(tmp_path / "lie", content(config=config))


@pytest.mark.promise("weights")
def test_metadata_that_lies_is_refused(tmp_path):
    wrong = [
        {"alphabet": ALPHABET + "€"},
        {"alphabet": ALPHABET[:-1] + "a"},
        {"alphabet": 11},
        {"alphabet": None},
        {"alphabet": ["a"] * 11},
        {"config": None},
        {"config": []},
        {"config": {"n_layers": {}}},
    ]
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


@pytest.mark.promise("weights")
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


@pytest.mark.promise("weights")
def test_the_command_says_one_sentence(tmp_path):
    (tmp_path / "evil.safetensors").write_bytes(pickle.dumps(Evil(tmp_path / "trace")))
    done = here("generate", "--checkpoint", tmp_path / "evil.safetensors")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "trace").exists()


# --- text is never code ---------------------------------------------------------------------------
BROKEN = "document.title='broken'"
HOSTILE = [
    f'<img src=x onerror="{BROKEN}">',
    f"</script></pre></div><script>{BROKEN}</script><iframe src=//example.org></iframe>",
    "{{ 7*191 }} {% raw %} $\\frac{$ {0} %s",
    "\x1b[2J\x1b]0;owned\x07\x1b[31m \x9b2J \x08\x7f",
    "\u202eright to left\u2067 שלום\u200f",
]
NAME = f"\x1b[2J\x07\u202e<img src=x onerror={BROKEN}>{{{{7*191}}}}.txt"
TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
LIVE = """(root) => [...document.querySelectorAll(`${root} *`)].filter((element) =>
  element.matches("img[src=x], iframe, object, embed, link, script:not([type])")
  || [...element.attributes].some(({ name }) => /^on/.test(name)))
  .map((element) => element.outerHTML.slice(0, 200))"""


def acts(text):
    """The characters that a terminal obeys or that turn what follows round,
    as the Unicode database has them."""
    return {
        c for c in text if unicodedata.category(c) == "Cc" or unicodedata.bidirectional(c) in TURNS
    } - {"\n", "\t"}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A whole experiment on a text that is code, in a file whose name is code. -> folder, file,
    what was said"""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / NAME).write_text("\n".join(HOSTILE * 40), encoding="utf-8")
    done = course(
        "run", "--seeds", "1", "--workers", "1", "--corpus", folder / NAME, "--out", folder / "out"
    )
    assert done.returncode == 0, done.stderr
    return folder / "out", folder / NAME, done


@pytest.mark.promise("text")
def test_a_terminal_shows_and_does_not_obey(hostile, tmp_path):
    out, file, done = hostile
    known, lost = ("--corpus", file, "--out", out), tmp_path / NAME
    mistakes = [
        ("generate", "--checkpoint", lost),
        ("train", "--corpus", lost),
        ("train", "--out", f"README.md/{NAME}"),
        ("train", "--recipe", NAME),
        ("ablate", NAME),
        ("train", f"--{NAME}"),
        ("compare", "--out", lost),
        ("generate", "--prompt", HOSTILE[3]),
    ]
    prompt = ("--prompt", "".join(HOSTILE), "--characters", "40")
    good = (("generate", *known, *prompt), ("compare", *known))
    said = [done, *(here(*arguments) for arguments in (*good, *mistakes))]
    assert [one.returncode > 0 for one in said] == [False] * 3 + [True] * len(mistakes)
    for one in said:
        assert not acts(one.stdout + one.stderr), one.args
        assert "Traceback" not in one.stderr
    assert all("\\x1b" in one.stdout + one.stderr for one in (*said[:2], *said[3:])), (
        "it is shown instead"
    )


def live(page, root="body"):
    assert page.title() != "broken"
    return page.evaluate(LIVE, root)


@pytest.mark.promise("text")
def test_a_report_of_hostile_text_is_only_text(hostile, browser, tmp_path):
    out, _, _ = hostile
    page = visit_file(browser, out / "report.html")
    assert live(page) == page.asked == page.complaints == []
    body = page.locator("body").text_content()
    assert "<img src=x" in body
    assert "1337" not in body
    mutant = tmp_path / "mutant.html"
    mutant.write_text(html.unescape((out / "report.html").read_text("utf-8")), "utf-8")
    assert live(visit_file(browser, mutant)), "unescaped, it would be code"


def hostile_lesson():
    """A notebook as a reader's would be: hostile text printed, returned, in an error, drawn
    and described."""
    new, text = nbformat.v4, "\n".join(HOSTILE)
    with_title = figures.lines([1, 2], {text: [1, 2]}, x_label=text, y_label="y", title=text)
    (spoken, _), (data, metadata) = with_title.outputs()
    outputs = [
        new.new_output("stream", name="stdout", text=text),
        new.new_output("execute_result", data={"text/plain": text}, execution_count=1),
        new.new_output("error", ename=HOSTILE[0], evalue=text, traceback=[text]),
        new.new_output("display_data", data=spoken),
        new.new_output(
            "display_data",
            data=data | {"image/png": b64encode(data["image/png"]).decode()},
            metadata=metadata,
        ),
    ]
    cells = [
        new.new_markdown_cell("# Hostile"),
        new.new_code_cell("speak()", outputs=outputs, execution_count=1),
    ]
    return new.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    )


@pytest.mark.promise("text")
def test_a_page_of_the_book_shows_hostile_outputs_as_text(browser, tmp_path):
    """With the book's own settings and extensions; the picture's alt text is the figure's words."""
    command = shutil.which("jupyter-book", path=Path(sys.executable).parent)
    if command is None:
        pytest.skip('jupyter-book is not installed: pip install -e ".[book]"')
    shutil.copytree(ROOT / "book/_ext", tmp_path / "book/_ext")
    shutil.copytree(ROOT / "book/_static", tmp_path / "book/_static")
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    shutil.copy(ROOT / "_config.yml", tmp_path)
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: hostile\n")
    nbformat.write(hostile_lesson(), tmp_path / "hostile.ipynb")
    done = subprocess.run([command, "build", "."], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    pages = tmp_path / "_build/html"
    with serving(pages) as site:
        page = watched(browser.new_page())
        go(page, f"{site}hostile.html")
        assert live(page, "article") == []
        text = page.locator("article").text_content()
        assert text.count("<img src=x") >= 3
        assert "1337" not in text
        heard = page.locator("article svg[role=img]").first.get_attribute("aria-label")
        assert HOSTILE[0] in heard
        mutant = html.unescape((pages / "hostile.html").read_text("utf-8"))
        (pages / "mutant.html").write_text(mutant, "utf-8")
        go(page, f"{site}mutant.html")
        assert page.title() == "broken", "unescaped, it would be code"


@pytest.mark.parametrize(
    "part",
    [
        "<script>x()</script>",
        '<g onload="x()"/>',
        "<a href='/'>x</a>",
        '<use xlink:href="other.svg#x"/>',
    ],
)
def test_a_drawing_with_parts_that_no_figure_has_is_not_put_into_a_page(part, tmp_path):
    pictures = by_path("book/_ext/course_pictures.py")
    harmless = f'<text aria-label="{html.escape(part)}">{html.escape(part)}</text>'
    for content, kept in ((harmless, True), (part, False)):
        within = PngInfo()
        within.add_itxt("Drawing", f"<svg>{content}</svg>")
        Image.new("L", (1, 1)).save(tmp_path / "picture.png", pnginfo=within)
        assert bool(pictures.redrawn(tmp_path / "picture.png", "name")) == kept


WIDGET = """async () => {
  const widget = await import("/playground/widget.mjs"), heard = [];
  const on = (event, f) => event === "msg:custom" && heard.push(f);
  const model = { on, off() {}, send: async (question) => {
    const { content, buffers } = await window.python(question);
    const views = buffers.map((numbers) => new DataView(new Float32Array(numbers).buffer));
    for (const f of heard) f(content, views);
  } };
  const place = document.body.appendChild(document.createElement("main"));
  widget.default.render({ model, el: place });
}"""


@pytest.mark.promise("text")
def test_a_widget_of_hostile_models_writes_only_text(browser, site):
    """The widget of a notebook, with Python behind it: names, alphabet, prompt and an error
    that are all code."""
    alphabet = "".join(sorted(set("".join(HOSTILE))))
    model = GPT(replace(SMALL, vocab_size=len(alphabet), context_length=512)).eval()
    host = widgets.SamplerHost(
        dict.fromkeys(HOSTILE[:3], model), CharTokenizer(alphabet), {"prompt": "".join(HOSTILE)}
    )

    def python(question):
        if question["kind"] == "next" and len(question["ids"]) > 200 + len("".join(HOSTILE)):
            return {"content": {"request": question["request"], "error": HOSTILE[0]}, "buffers": []}
        content, buffers = host.reply(question)
        numbers = [np.frombuffer(data, dtype=np.float32).tolist() for data in buffers]
        return {"content": content | {"request": question["request"]}, "buffers": numbers}

    page = watched(browser.new_page())
    page.expose_function("python", python)
    page.goto(f"{site}blank.html")
    page.evaluate(WIDGET)
    page.get_by_label("Characters", exact=True).fill("300")
    page.get_by_role("button", name="Generate", exact=True).click()
    page.locator("[role=status]", has_text="<img").wait_for()
    assert page.locator(".sampler-text").text_content().startswith("".join(HOSTILE))
    assert live(page) == []


# --- at random ------------------------------------------------------------------------------------
many = settings(
    max_examples=3000 if FULL else 150,
    deadline=None,
    derandomize=not FULL,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)


@pytest.mark.promise("anything")
@many
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6))
@counted
def test_a_file_with_wrong_bytes_is_refused_or_is_a_model_of_numbers(tmp_path, changes):
    data = bytearray(content())
    for at, byte in changes:
        data[at % len(data)] = byte
    path = tmp_path / "changed"
    path.write_bytes(data)
    with contextlib.suppress(files.RunError):
        model, _ = checkpoints.load_model(path)
        assert all(w.isfinite().all() for w in model.state_dict().values())


@pytest.mark.promise("anything")
@many
@given(st.dictionaries(st.sampled_from([*GPTConfig.__dataclass_fields__]), anything, max_size=4))
@counted
def test_a_model_config_of_anything_is_a_config_or_a_value_error(changes):
    with contextlib.suppress(ValueError, TypeError):
        GPTConfig(**changes)


@pytest.mark.promise("anything")
@many
@given(st.dictionaries(st.sampled_from([*TrainConfig.__dataclass_fields__]), anything, max_size=4))
@counted
def test_a_train_config_of_anything_is_a_config_or_a_value_error(changes):
    with contextlib.suppress(ValueError, TypeError):
        TrainConfig(**changes)


@pytest.mark.promise("anything")
@many
@given(st.text(max_size=60), st.text(max_size=60))
@counted
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


@pytest.mark.promise("anything")
@many
@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=12),
    st.floats(0, exclude_min=True, allow_infinity=False)
    | st.sampled_from([0.0, 5e-324, 1e-38, 1e-6, 1.0, 1e308]),
    st.none() | st.integers(1, 20),
    st.none() | st.floats(1e-9, 1),
)
@counted
def test_a_filter_of_any_settings_leaves_a_distribution(logits, temperature, top_k, top_p):
    kept = filter_logits(torch.tensor(logits), temperature, top_k, top_p)
    p = kept.double().softmax(-1).numpy()
    assert np.isfinite(p).all()
    assert abs(p.sum() - 1) < 1e-6
    before = filter_logits(
        torch.tensor(logits), temperature
    ).numpy()  # where rounding may have made two as likely
    assert p[before == before.max()].max() > 0, "one of the likeliest is always left"


@pytest.mark.promise("anything")
@many
@given(st.integers(-3, 3) | st.floats(), st.none() | st.integers(-3, 3), st.none() | st.floats())
@counted
def test_a_filter_of_wrong_settings_says_what_is_allowed(temperature, top_k, top_p):
    allowed = temperature >= 0 and math.isfinite(temperature) and (top_k is None or top_k >= 1)
    if allowed and (top_p is None or 0 < top_p <= 1):
        filter_logits(torch.zeros(5), temperature, top_k, top_p)
    else:
        with pytest.raises(ValueError, match="must"):
            filter_logits(torch.zeros(5), temperature, top_k, top_p)
