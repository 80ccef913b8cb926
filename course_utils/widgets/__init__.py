"""What moves in a notebook: a picture that is redrawn, sliders, and a model to play with.

A plain script gets the sliders' first state.
"""

import itertools
import json
import re
from html import escape
from pathlib import Path

from course_utils.messages import N_, _, language
from course_utils.widgets.host import InsideHost, SamplerHost

VIEW = "application/vnd.jupyter.widget-view+json"
STILL = N_("Run this lesson to move the sliders.")
PLAYGROUND = N_("Run this lesson to play with your own model; the book's page Playground has ours.")
MISSING = N_(
    "<p>To play with the model, run <code>%pip install anywidget</code> "
    "and then this cell again.</p>"
)
KINDS = {  # of front ends: the last of their modules, and how they look
    "sampler": ("widget.mjs", ["widget.css"]),
    "inside": ("inside.mjs", ["widget.css", "inside.css"]),
}
# What a page of the book loads beside them: the threads that write and train, and a training.
PAGE_PARTS = ("worker.mjs", "training.mjs", "trainer.mjs", "crew.mjs")
WORDS = "words.mjs"  # where the pages' side finds what it says
TEXT = re.compile(r"(?<!\w)_`([^`]*)`")  # what it says
VALUE = re.compile(r"\$\{[^}]*\}")
IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w.]+)";\n', re.MULTILINE)  # of our own files


def notebook_display():
    """IPython's display where this runs in a notebook; None in a plain script."""
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        return None
    return display if get_ipython() else None


class Live:
    """One place in the output where each new figure replaces the one before."""

    def __init__(self):
        self.display = notebook_display()
        self.handles = []  # of what is shown

    def show(self, figure):
        if not self.display:
            return
        outputs = figure.outputs()
        if not self.handles:
            self.handles = [self.display({}, raw=True, display_id=True) for _ in outputs]
        for handle, (forms, about) in zip(self.handles, outputs, strict=True):
            handle.update(forms, metadata=about, raw=True)


def show_widget(display, widget, still, html=""):
    """Show a widget where there is a kernel, and a sentence where there is none: on a page.

    By the widget's own description of its view: how it shows itself differs between ipywidgets 7,
    which Colab has, and 8. html: what a page shows, if it is more than the sentence.
    """
    sentence = {"text/plain": still, "text/html": html or f"<p><em>{still}</em></p>"}
    display(sentence | {VIEW: widget.get_view_spec()}, raw=True)


def sliders(function, **ranges):
    """Call function with the sliders' values, now and whenever one moves, and show its result.

    function: values by name -> a figure of the course, or text. ranges: name -> (low, high, step,
    start); a step with a point makes a slider of such numbers. Without a notebook or without
    ipywidgets the function is called once, with the starts, and its result is returned.
    """
    result = function(**{name: start for name, (*_, start) in ranges.items()})
    display = notebook_display()
    try:
        import ipywidgets
    except ImportError:
        display = None
    if not display:
        return result

    controls = {name: _slider(ipywidgets, name, *limits) for name, limits in ranges.items()}
    # Not an Output widget, which stays blank in Notebook 6 with today's widgets for it.
    place = ipywidgets.HTML(as_html(result))

    def move(change):
        try:
            moved = function(**{name: control.value for name, control in controls.items()})
        except Exception as error:  # the reader sees it here, not in a log
            moved = f"{type(error).__name__}: {error}"
        place.value = as_html(moved)

    for control in controls.values():
        control.observe(move, "value")
    show_widget(display, ipywidgets.VBox([*controls.values(), place]), _(STILL))
    return None


def as_html(result):
    """A figure on white paper, whatever the notebook's ground is, or text as it stands, as HTML."""
    if isinstance(result, str):
        return f'<pre style="margin: 0; line-height: 1.3">{escape(result)}</pre>'
    return f'<div style="background: white; max-width: 57em">{result.svg("moved")}</div>'


def _slider(ipywidgets, name, low, high, step, start):
    kind = ipywidgets.FloatSlider if isinstance(step, float) else ipywidgets.IntSlider
    return kind(
        value=start,
        min=low,
        max=high,
        step=step,
        description=name.replace("_", "-"),
        style={"description_width": "8em"},
        layout={"width": "32em", "max_width": "100%"},
    )


def sampler(models, tokenizer, prompt="ROMEO:\n", **settings):
    """Play with a model: sliders, bars, and text that streams.

    models: one, a list of them, or name -> model.
    settings: where the inputs begin: temperature, top_k, top_p, seed, length (characters to write),
    together. Nothing is shown in a plain script, and on a page of the book the page's own widget.
    The models are asked as they are at that moment, so they may train on.
    """
    _play("sampler", SamplerHost(models, tokenizer, {"prompt": prompt, **settings}))


def inside(models, tokenizer, text="ROMEO:\nBut soft, what light", **settings):
    """Look inside a model: point at a character of a text, switch heads and layers off.

    models: as for sampler. text: at most the context long; it can be edited.
    settings: model, the number of the one to begin with; together, whether all stand side by side.
    """
    _play("inside", InsideHost(models, tokenizer, {"text": text, **settings}))


def _play(kind, host):
    """Show one of KINDS, with Python's side of it, where there is a notebook."""
    display = notebook_display()
    if not display:
        return
    try:
        from anywidget import AnyWidget
    except ImportError:
        display({"text/html": _(MISSING)}, raw=True)
        return
    front = {"_esm": front_end(kind), "_css": styles(kind)}
    widget = type(kind.capitalize(), (AnyWidget,), front)()
    widget.on_msg(host.answer)
    show_widget(display, widget, _(PLAYGROUND), place_on_a_page(host.settings, kind))


def place_on_a_page(settings, kind="sampler"):
    """Where a page of the book puts its own widget, with these settings, as HTML.

    book/_static/mount.mjs finds it by its class. Anywhere else it holds a sentence.
    """
    attributes = ""
    for name, value in settings.items():
        words = str(value).lower() if isinstance(value, bool) else str(value)  # as JavaScript says
        attributes += f' data-{name}="{escape(words)}"'.replace("\n", "&#10;")
    return f'<div class="{kind}-place"{attributes}><p><em>{_(PLAYGROUND)}</em></p></div>'


def here(name):
    """The text of one of the pages' files, in the reader's language."""
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return text.replace("SAID = {}", f"SAID = {said()}") if name == WORDS else text


def said():
    """The catalogue of what all modules say, as JSON; English needs none."""
    if language() == "en":
        return "{}"
    modules = Path(__file__).parent.glob("*.mjs")
    found = {text for file in modules for text in texts(file.read_text(encoding="utf-8"))}
    return json.dumps({text: _(text) for text in sorted(found)}, ensure_ascii=False)


def texts(module):
    """What a module says, values as {0}, {1}, …: as its own `_` looks it up."""
    for text in TEXT.findall(module.replace("\\\n", "")):  # a line that goes on
        number = itertools.count()
        yield VALUE.sub(lambda value, number=number: f"{{{next(number)}}}", text)


def modules(name):
    """The .mjs files that one of them needs, each after those that it imports; it is last."""
    found = {}
    for imported in IMPORT.findall(here(name)):
        found |= dict.fromkeys(modules(imported))
    return [*found, name]


def front_end(kind="sampler"):
    """A widget as one module, because anywidget takes one: no imports, and one export."""
    whole = "".join(here(name) for name in modules(KINDS[kind][0]))
    return re.sub(r"^export (?!default)", "", IMPORT.sub("", whole), flags=re.MULTILINE)


def styles(kind):
    return "".join(here(name) for name in KINDS[kind][1])
