"""What moves in a notebook: a picture that is redrawn, sliders, and a model to play with.

A plain script gets the sliders' first state.
"""

import re
from functools import partial
from pathlib import Path

STILL = "<p><em>Run this lesson to move the sliders.</em></p>"
PLAYGROUND = "<p><em>Run this lesson to play with your own model; the book's page Playground has ours.</em></p>"
MISSING = "<p>To play with the model, run <code>%pip install anywidget</code> and then this cell again.</p>"


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
        self.display, self.handle = notebook_display(), None

    def show(self, figure):
        if self.handle:
            self.handle.update(figure)
        elif self.display:
            self.handle = self.display(figure, display_id=True)


def sliders(function, **ranges):
    """Call function with the sliders' values, now and whenever one moves, and show the figure or text that it returns.

    ranges: name -> (low, high, step, start); a step with a point makes a slider of such numbers. Without a notebook or
    without ipywidgets the function is called once, with the starts, and its result is returned.
    """
    display = notebook_display()
    try:
        import ipywidgets
    except ImportError:
        display = None
    if not display:
        return function(**{name: start for name, (*_, start) in ranges.items()})
    controls = {name: _slider(ipywidgets, name, *limits) for name, limits in ranges.items()}
    output = ipywidgets.interactive_output(partial(_show, display, function), controls)
    box = ipywidgets.VBox([*controls.values(), output])
    display(
        box._repr_mimebundle_() | {"text/html": STILL}, raw=True
    )  # the page of the book shows the html
    return None


def _show(display, function, **values):
    result = function(**values)
    if isinstance(result, str):
        print(result)
    else:
        display(result)


def _slider(ipywidgets, name, low, high, step, start):
    kind = ipywidgets.FloatSlider if isinstance(step, float) else ipywidgets.IntSlider
    words = {"description": name.replace("_", "-"), "style": {"description_width": "8em"}}
    return kind(value=start, min=low, max=high, step=step, **words)


def sampler(models, tokenizer, prompt="ROMEO:\n", **settings):
    """Play with a model, or with several, a list or a dict by name: sliders, bars, and text that streams.

    settings: where the inputs begin: temperature, top_k, top_p, seed, length (characters to write), together.
    Nothing is shown in a plain script. The models are asked as they are at that moment, so they may train on.
    """
    display = notebook_display()
    if not display:
        return
    try:
        from anywidget import AnyWidget
    except ImportError:
        display({"text/html": MISSING}, raw=True)
        return
    host = SamplerHost(models, tokenizer, {"prompt": prompt, **settings})
    widget = type("Sampler", (AnyWidget,), {"_esm": front_end(), "_css": here("widget.css")})()
    widget.on_msg(host.answer)
    display(widget._repr_mimebundle_()[0] | {"text/html": PLAYGROUND}, raw=True)


class SamplerHost:
    """Answers the questions that widget.mjs lists; it draws, Python supplies the logits."""

    def __init__(self, models, tokenizer, settings):
        if not isinstance(models, dict):
            models = models if isinstance(models, (list, tuple)) else [models]
            names = [f"{model.config.n_layers} layers" for model in models]
            if len(set(names)) < len(names):
                names = [f"model {i}: {name}" for i, name in enumerate(names, start=1)]
            models = dict(zip(names, models, strict=True))
        self.names, self.models = list(models), list(models.values())
        self.tokenizer, self.settings = tokenizer, settings
        self.texts = [([], None)] * len(
            models
        )  # a model: the tokens that its decoder has read, and the decoder

    def answer(self, widget, question, buffers):
        try:
            content, buffers = self.reply(question)
        except Exception as error:  # the reader hears of it in the widget, not in a log
            content, buffers = {"error": f"{type(error).__name__}: {error}"}, []
        widget.send({**content, "request": question.get("request")}, buffers)

    def reply(self, question):
        """-> what is said, and buffers beside it"""
        if question["kind"] == "hello":
            return {"models": self.names, "settings": self.settings, "page": False}, []
        model = self.models[question["model"]]
        if question["kind"] == "load":
            return {
                "alphabet": "".join(self.tokenizer.alphabet),
                "context": model.config.context_length,
            }, []
        return {}, [self.logits(question["model"], question["ids"])]

    def logits(self, number, ids):
        """The bytes of float32 logits (V,) of what follows; one more token than last time is one step."""
        import torch

        from course_utils.generation.decoder import make_decoder

        read, decoder = self.texts[number]
        self.texts[number] = ([], None)  # until this has gone well
        if decoder and ids[:-1] == read:
            logits = decoder.step(torch.tensor([ids[-1:]], device=decoder.device))
        else:
            decoder = make_decoder(self.models[number])  # a new one: the weights may have changed
            logits = decoder.read(torch.tensor([ids], device=decoder.device))
        self.texts[number] = (ids, decoder)
        return logits[0].cpu().numpy().tobytes()


def here(name):
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def front_end():
    """One module of two, because anywidget takes one: the sampling rule, then the widget without its import of it."""
    return here("sampler.mjs") + re.sub(
        r'import \{[^}]*\} from "./sampler.mjs";', "", here("widget.mjs")
    )
