"""The sampling widget in a notebook: Python's side of it, and JupyterLab in a real browser."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from http.cookiejar import CookieJar
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from course_utils import files, widgets
from course_utils.figures import loss_bars
from course_utils.lessons.data import CharTokenizer
from course_utils.training import checkpoints, evaluation
from course_utils.widgets.host import named
from helpers import ROOT, loud, small_model, wait_until
from pages import PATIENCE_MS, Reader, published


@pytest.fixture
def host():
    return widgets.SamplerHost(
        [small_model(), small_model(norm="rmsnorm")], CharTokenizer("abcdefghijk"), {"seed": 3}
    )


def test_python_answers_what_the_widget_asks(host):
    assert host.reply({"kind": "hello"})[0] == {
        "models": ["model 1: 3 layers", "model 2: 3 layers"],
        "settings": {"seed": 3},
        "page": False,
    }
    assert host.reply({"kind": "load", "model": 1})[0] == {"alphabet": "abcdefghijk", "context": 13}
    assert list(named({"mine": small_model()})) == ["mine"]
    assert list(named(small_model())) == ["3 layers"]
    assert list(named([small_model(n_layers=1), small_model()])) == ["1 layer", "3 layers"]


def logits(host, number, ids):
    _, (data,) = host.reply({"kind": "next", "model": number, "ids": ids})
    return torch.from_numpy(np.frombuffer(data, dtype=np.float32).copy())


@torch.no_grad()
def test_python_supplies_the_models_logits(host):
    for text in ([1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4, 5], [2, 3], [2, 3, 0], [9], list(range(11))):
        for number in (0, 1):
            right = host.models[number](torch.tensor([text]))[0, -1]
            assert torch.allclose(logits(host, number, text), right, atol=1e-4)


@torch.no_grad()
def test_a_model_that_has_trained_on_is_asked_anew(host):
    before = logits(host, 0, [1, 2])
    host.models[0].train()
    host.models[0].embedding.weight.mul_(2)
    after = logits(host, 0, [1, 2])
    assert not torch.allclose(before, after)
    assert host.models[0].training
    assert torch.allclose(after, host.models[0].eval()(torch.tensor([[1, 2]]))[0, -1], atol=1e-4)


@torch.no_grad()
def trained_on_in_place(model):
    for weight in model.parameters():
        weight.mul_(1.5)


def trained_on_by_a_step(model):
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.tensor([[1, 2, 3]])).logsumexp(-1).sum().backward()
    optimiser.step()


def trained_on_where_nobody_counts(model):
    """As a CUDA graph does it: the numbers change, PyTorch's count of changes does not."""
    count = model.embedding.weight._version
    model.embedding.weight.detach().numpy()[:] *= 2
    assert model.embedding.weight._version == count


def replaced(model):
    weights = {name: weight + 1 for name, weight in model.state_dict().items()}
    model.load_state_dict(weights, assign=True)


@pytest.mark.parametrize(
    "change",
    [trained_on_in_place, trained_on_by_a_step, trained_on_where_nobody_counts, replaced],
    ids=lambda change: change.__name__,
)
def test_a_model_that_trains_between_two_characters_is_asked_anew(change):
    model = loud(context_length=13)
    host = widgets.SamplerHost(model, CharTokenizer("abcdefghijk"), {})
    logits(host, 0, [1, 2])
    change(model)
    with torch.no_grad():
        right = model.eval()(torch.tensor([[1, 2, 3]]))[0, -1]
    assert torch.allclose(logits(host, 0, [1, 2, 3]), right, atol=1e-4)


def test_a_character_costs_one_step_while_the_model_rests(host):
    logits(host, 0, [1, 2])
    decoder = host.texts[0].decoder
    logits(host, 0, [1, 2, 3])
    assert host.texts[0].decoder is decoder


def test_what_goes_wrong_is_said_in_the_widget(host):
    said = []

    class Wire:
        send = staticmethod(lambda content, buffers: said.append(content))

    host.answer(Wire, {"kind": "next", "model": 0, "ids": [99], "request": "a-1"}, [])
    assert said[0]["request"] == "a-1"
    assert said[0]["error"].startswith("IndexError")


def test_a_plain_script_goes_on(capsys):
    assert widgets.sampler(small_model(), CharTokenizer("abcdefghijk")) is None
    assert capsys.readouterr().out == ""


FIRST = """
from course_utils import files, widgets
from course_utils.training import checkpoints
pairs = [checkpoints.load_model(files.PUBLISHED / name) for name in {names}]
tokenizer = pairs[0][1]
widgets.sampler([model for model, _ in pairs], tokenizer, "ROMEO:")
"""
SECOND = "widgets.sampler(pairs[0][0], tokenizer, 'KING', length=30)"
THIRD = """
from course_utils import figures

def told(power):
    if power == 4:
        raise ValueError("no more")
    return f"power {power} < 4"

def drawn(power):
    curve = {"y": [x**power for x in (1, 2, 3)]}
    return figures.lines([1, 2, 3], curve, x_label="x", y_label="y", title=f"power {power}")

for function in (told, drawn):
    widgets.sliders(function, power=(1, 4, 1, 2))
"""
FOURTH = """
model = pairs[0][0].train()
widgets.inside(model, tokenizer, "ROMEO:\\nBut soft, what light")
"""
BUSY = """
import time
time.sleep(globals().get("nap", 0))
nap = 11  # seconds, when the cell is run again: more than the widget waits in silence
"""


class Address(str):
    """Where a server listens, and the folder that it serves."""

    def __new__(cls, address, folder):
        made = super().__new__(cls, address)
        made.folder = folder
        return made


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of JupyterLab, with one notebook, away from the reader's own settings."""
    root = tmp_path_factory.mktemp("lab")
    names = [record.checkpoint.relative_to(files.PUBLISHED).as_posix() for record in published()]
    sources = (BUSY, FIRST.format(names=names), SECOND, THIRD, FOURTH)
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in sources]
    )
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    (root / "work").mkdir()
    nbformat.write(notebook, root / "work/a.ipynb")
    shutil.copytree(ROOT / "notebooks", root / "work/notebooks")
    shutil.copy(ROOT / "pyproject.toml", root / "work")
    folders = ["JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"]
    folders += ["JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR"]
    # A kernel with a second thread for widgets answers while a cell runs; others, such as Colab's,
    # let them wait. JupyterLab 4.4 draws only cells that are in sight, unless it is told otherwise.
    for name, settings in {
        "apputils-extension/kernels-settings": '{"commsOverSubshells": "disabled"}',
        "notebook-extension/tracker": '{"windowingMode": "none"}',
    }.items():
        setting = root / f"JUPYTERLAB_SETTINGS_DIR/@jupyterlab/{name}.jupyterlab-settings"
        setting.parent.mkdir(parents=True)
        setting.write_text(settings, encoding="utf-8")
    env = os.environ | {name: str(root / name) for name in folders}
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root"]
    command += ["--ip=127.0.0.1", "--port=0", "--IdentityProvider.token="]
    command += [f"--ServerApp.root_dir={root / 'work'}", "--LabApp.news_url=None"]
    with (root / "log").open("w") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        yield Address(wait_for_address(root / "log", server), root / "work")
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()  # its kernels notice


def wait_for_address(log, server):
    def answers():
        found = re.search(r"(http://127\.0\.0\.1:\d+/)lab", log.read_text())
        if not found:
            return False
        with contextlib.suppress(urllib.error.URLError):  # it names its address before it listens
            urllib.request.urlopen(found[1] + "api").close()
            return True

    wait_until(answers, log, server)
    return re.search(r"(http://127\.0\.0\.1:\d+/)lab", log.read_text())[1]


@pytest.fixture
def notebook(lab, browser):
    """The notebook in JupyterLab, all its cells run."""
    context = browser.new_context(viewport={"width": 1280, "height": 1200})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.problems, ours = [], (lab, "data:", "blob:")
    say = page.problems.append
    page.on("request", lambda sent: sent.url.startswith(ours) or say(f"asks {sent.url}"))
    page.on("pageerror", lambda error: say(f"script: {error}"))
    page.goto(f"{lab}lab/tree/a.ipynb")
    is_idle(page)
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()  # before that, Run asks for a kernel
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text(re.compile("^Run All( Cells)?$")).click()  # its name differs between versions
    for place in (0, 1):
        page.locator(".sampler-pane:not(.sampler-empty)").nth(place).wait_for()
    yield page
    context.close()


def is_idle(page):
    page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']").wait_for()


def test_jupyterlab(notebook, browser, site):
    """One notebook from its first cell to the end of its kernel."""
    widgets = [notebook.locator(".sampler").nth(place) for place in (0, 1)]
    two_widgets_write_as_the_page_does_and_do_not_mix(widgets, Reader(browser, site))
    sliders_move_a_text_and_a_picture_with_its_words(notebook)
    a_notebook_looks_inside_as_the_page_does(notebook.locator(".inside"))
    a_widget_waits_for_a_busy_kernel(notebook, widgets[0])
    a_widget_stops(widgets[0])
    a_restart_is_told(notebook, widgets)
    assert not notebook.problems


def press(widget, name):
    widget.get_by_role("button", name=name, exact=True).click()


def hears(widget, words):
    widget.locator("[role=status]", has_text=words).wait_for()


def text_of(widget):
    return widget.locator(".sampler-text").evaluate("(text) => text.textContent")


def two_widgets_write_as_the_page_does_and_do_not_mix(widgets, reader):
    one, _ = widgets
    rows = one.locator("ol").inner_text()
    one.get_by_label("Temperature", exact=True).fill("1.2")
    assert one.locator("ol").inner_text() != rows, "a slider moves the bars"
    one.get_by_label("Characters", exact=True).fill("60")
    for widget in widgets:
        press(widget, "Generate")
    for widget in widgets:
        hears(widget, "written")
    print(one.locator("[role=status]").inner_text())
    texts = [text_of(widget) for widget in widgets]
    assert texts[0].startswith("ROMEO:")
    assert texts[1].startswith("KING")
    assert [len(text) for text in texts] == [66, 34]
    assert reader.generate(Temperature=1.2, Characters=60) == texts[:1]
    reader.close()


def sliders_move_a_text_and_a_picture_with_its_words(page):
    text = page.locator(".jp-OutputArea-output pre", has_text="power 2")
    picture = page.locator(".jp-OutputArea-output svg[aria-label*='from 1 to 9']")
    text.wait_for()
    picture.wait_for()
    for handle in page.locator(".noUi-handle").all():
        handle.focus()
        page.keyboard.press("ArrowRight")
    page.locator(".jp-OutputArea-output svg[aria-label*='from 1 to 27']").wait_for()
    page.locator(".jp-OutputArea-output pre", has_text="power 3 < 4").wait_for()
    assert text.count() == picture.count() == 0, "in the same place"
    page.locator(".noUi-handle").first.focus()
    page.keyboard.press("ArrowRight")
    failed = page.locator(".jp-OutputArea-output pre", has_text="ValueError: no more")
    failed.wait_for()


def a_notebook_looks_inside_as_the_page_does(inside):
    model, tokenizer = checkpoints.load_model(published()[0].checkpoint)
    tokens = torch.tensor([tokenizer.encode("ROMEO:\nBut soft, what light")])
    loss = {}
    for off in ((), ("L2:H3",)):
        lens, _ = evaluation.look(model, tokens, off)
        loss[off] = F.cross_entropy(lens[-1, :-1], tokens[0, 1:]).item()
    place = inside.locator(".inside-loss")
    place.filter(has_text=f"The whole text: {loss[()]:.3f} nats").wait_for()
    press(inside, "2·3, switch off")
    place.filter(has_text=f"Without L2:H3: {loss['L2:H3',]:.3f} nats").wait_for()
    inside.locator(".inside-letters").focus()
    inside.page.keyboard.press("End")
    heard = inside.locator(".inside-note").first.inner_text()
    assert heard.startswith("After “,␣what␣light”: layer 2's first guess ")
    press(inside, "Write on")
    hears(inside, "40 characters written.")
    assert len(inside.locator(".inside-written dd").inner_text()) == 40


def a_widget_waits_for_a_busy_kernel(page, widget):
    before = text_of(widget)
    page.locator(".jp-CodeCell .cm-content", has_text="nap = 11").click()
    page.keyboard.press("Shift+Enter")
    page.locator(".jp-Notebook-ExecutionIndicator[data-status='busy']").wait_for()
    press(widget, "Generate")
    hears(widget, "No answer from Python yet: the kernel is busy")
    hears(widget, "60 characters written")
    assert text_of(widget) == before, "it went on"


def a_widget_stops(widget):
    widget.get_by_label("Characters", exact=True).fill("5000")
    widget.get_by_role("checkbox").check()
    widget.locator(".sampler-pane").nth(2).wait_for()
    press(widget, "Generate")
    widget.locator("[data-at='5']").first.wait_for()
    press(widget, "Stop")
    assert widget.locator("[role=status]").inner_text() == "Stopped."


def a_restart_is_told(page, widgets):
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.get_by_text("Restart Kernel…", exact=True).click()
    page.locator(".jp-Dialog .jp-mod-accept").click()
    for widget in widgets:
        hears(widget, "the kernel was restarted")
        assert widget.get_by_role("button", name="Generate").is_disabled()
    is_idle(page)  # the server can't end a kernel that is just starting


WORK = "tokens = 'what a reader wrote in VS Code'"


def ask(lab, path, content=None):
    """What JupyterLab asks of its server to open a notebook, or to save it. -> the notebook"""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar := CookieJar()))
    opener.open(f"{lab}lab").close()
    headers = {"X-XSRFToken": next(cookie.value for cookie in jar if cookie.name == "_xsrf")}
    body = json.dumps({"type": "notebook", "format": "json", "content": content})
    request = urllib.request.Request(f"{lab}api/contents/{path}", headers=headers)
    if content:
        request.method, request.data = "PUT", body.encode()
    with opener.open(request) as answer:
        return json.load(answer)["content"]


def written_elsewhere(path):
    """Change the first cell of code as another program does, which knows of no pair."""
    notebook = nbformat.read(path, as_version=4)
    next(cell for cell in notebook.cells if cell.cell_type == "code").source = WORK
    nbformat.write(notebook, path)


@pytest.mark.parametrize(
    "later_s", [-3600, -1, 0, 30], ids=lambda later: f"{later} s after its .py"
)
@pytest.mark.parametrize("folder", ["notebooks", "class-a"])
def test_a_reader_s_notebook_is_what_stands_in_it_whatever_the_clock_says(lab, folder, later_s):
    if folder == "class-a":  # handed out, or copied
        shutil.copytree(ROOT / "notebooks", lab.folder / folder, dirs_exist_ok=True)
    notebook, script = (lab.folder / folder / f"01_data{kind}" for kind in (".ipynb", ".py"))
    text = script.read_bytes()
    written_elsewhere(notebook)
    now = script.stat().st_mtime
    os.utime(notebook, (now + later_s, now + later_s))

    opened = ask(lab, f"{folder}/01_data.ipynb")
    assert WORK in [cell["source"] for cell in opened["cells"]]
    ask(lab, f"{folder}/01_data.ipynb", opened)
    assert WORK in [cell.source for cell in nbformat.read(notebook, as_version=4).cells]
    assert script.read_bytes() == text, "a reader's save is not for the authors' text"


def test_a_paired_notebook_would_have_lost_it(lab):
    """The server has jupytext's part: what the lessons' metadata leaves out is what counts."""
    shutil.copytree(ROOT / "notebooks", lab.folder / "paired", dirs_exist_ok=True)
    notebook = lab.folder / "paired/01_data.ipynb"
    stored = nbformat.read(notebook, as_version=4)
    stored.metadata["jupytext"]["formats"] = "ipynb,py:percent"
    nbformat.write(stored, notebook)
    written_elsewhere(notebook)
    later = Path(notebook).stat().st_mtime + 60
    os.utime(notebook.with_suffix(".py"), (later, later))
    assert WORK not in [cell["source"] for cell in ask(lab, "paired/01_data.ipynb")["cells"]]


@pytest.mark.slow
def test_a_page_has_a_place_for_its_own_widget():
    settings = {"prompt": 'ROMEO:\n"I', "temperature": 1, "top_p": 0.95, "together": True}
    place = widgets.place_on_a_page(settings)
    assert place.startswith(
        '<div class="sampler-place" data-prompt="ROMEO:&#10;&quot;I" data-temperature="1"'
        ' data-top_p="0.95" data-together="true">'
    )
    assert widgets.PLAYGROUND in place, "where no page fills it"


def images(page):
    """What a screen reader is given of the pictures on a page: their names."""
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    return [node["name"]["value"] for node in tree if node["role"].get("value") == "image"]


def test_a_figure_is_heard_once_in_jupyterlab_and_in_what_nbconvert_makes(lab, browser, tmp_path):
    """Of a notebook from elsewhere, that JupyterLab does not trust and nobody has run."""
    figure = loss_bars({"<uniform>": 4.2})
    (words, _), (picture, about) = figure.outputs()
    picture["image/png"] = b64encode(picture["image/png"]).decode()
    outputs = [
        nbformat.v4.new_output("display_data", words),
        nbformat.v4.new_output("display_data", picture, metadata=about),
    ]
    cell = nbformat.v4.new_code_cell("draw()", outputs=outputs, execution_count=1)
    heard = nbformat.v4.new_notebook(cells=[cell])
    nbformat.write(heard, lab.folder / "heard.ipynb")
    names = {"lab": f"{lab}lab/workspaces/heard/tree/heard.ipynb"}
    for kind in ("html", "slides"):
        command = [sys.executable, "-m", "jupyter", "nbconvert", "--to", kind, "heard.ipynb"]
        command += ["--output", tmp_path / kind]
        subprocess.run(command, cwd=lab.folder, check=True, capture_output=True)
    names |= {page.name: page.as_uri() for page in tmp_path.glob("*.html")}
    assert len(names) == 3
    context = browser.new_context()
    for name, address in names.items():
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(address)
        page.locator("img[src^='data:image/png']").wait_for()
        assert images(page).count(figure.get_label()) == 1, name
        unseen = page.locator("img[src^='data:image/gif']")
        assert unseen.evaluate("(image) => image.parentElement.clientHeight") == 0, name
    context.close()
