"""The playground: published models and the widgets' parts beside the pages; stills for print."""

import json
from dataclasses import asdict
from pathlib import Path
from shutil import copyfile

import pandas as pd
import torch
from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from course_utils import corpus, figures, files, widgets
from course_utils.lessons.model import GPTConfig
from course_utils.lessons.sampling import filter_logits
from course_utils.messages import _
from course_utils.messages.names import translated
from course_utils.training import checkpoints, evaluation, recipes, runs

PRACTICE = "practice.txt"
TRAINING_LESSON = "04_train"
STILLS = {
    "temperature 0.5": {"temperature": 0.5},
    "temperature 1.5": {"temperature": 1.5},
    "top_k 3": {"top_k": 3},
    "top_p 0.8": {"top_p": 0.8},
}


def models(folder):
    """The published depth study's models by the plain protocol, seed 0, fewest layers first."""
    records = [
        r for r in runs.load_all(folder) if (r.study, r.recipe, r.seed) == ("depth", "baseline", 0)
    ]
    return sorted((r for r in records if r.checkpoint.is_file()), key=lambda r: r.model["n_layers"])


def copy_parts(target):
    """Put all that the page asks for into a folder: models.json is the list of its models."""
    target.mkdir(parents=True, exist_ok=True)
    styles = set()
    for kind, (name, its_styles) in widgets.KINDS.items():
        (target / name).write_text(widgets.front_end(kind), encoding="utf-8")
        styles.update(its_styles)
    parts = {name for part in widgets.PAGE_PARTS for name in widgets.modules(part)}
    for name in sorted(styles | parts | {"training.css"}):
        (target / name).write_text(widgets.here(name), encoding="utf-8")
    listed = models(files.PUBLISHED)
    for record in listed:
        copyfile(record.checkpoint, target / record.checkpoint.name)
    manifest = [{"name": translated(r.arm), "file": r.checkpoint.name} for r in listed]
    (target / "models.json").write_text(json.dumps(manifest), encoding="utf-8")
    (target / "training.json").write_text(json.dumps(training()), encoding="utf-8")
    (target / PRACTICE).write_bytes(corpus.practice_bytes())


def training():
    """What the page trains: the laptop's recipe, and where its text is to be found."""
    model, train = recipes.named_recipe("laptop")
    places = {"sha256": corpus.SHA256, "mirrors": corpus.MIRRORS, "practice": PRACTICE}
    return {"model": asdict(GPTConfig(**model)), "train": asdict(train), "corpus": places}


def finished(app, error):
    if not error and app.builder.format == "html":
        copy_parts(Path(app.outdir, "playground"))


def offer_training(app, doctree, docname):
    """Where the lesson on training names the playground, let it train in its own page."""
    if not docname.endswith(TRAINING_LESSON) or app.builder.format != "html":
        return
    for link in doctree.findall(nodes.reference):
        address = link.get("refuri", "").partition("#")[0]
        if not address.endswith("playground.html"):
            continue
        words = _("Train it in this page")
        place = f'<a href="{address}#train-one-yourself">{words}</a>'
        offer = nodes.raw("", f'<div class="training-place">{place}</div>', format="html")
        paragraph = link.parent
        paragraph.parent.insert(paragraph.parent.index(paragraph) + 1, offer)
        return
    logging.getLogger(__name__).warning(f"{docname} names no playground, so it can't train there")


class Still(SphinxDirective):
    """`{playground_still}` and a prompt in JSON: what settings make of a model's guess."""

    has_content = True

    def run(self):
        self.env.note_reread()  # by the next build there may be other models
        prompt = json.loads("".join(self.content))
        title = _("What follows {prompt!r}", prompt=prompt)
        return [drawn(figures.next_character(guesses(prompt), title=title), "still")]


def guesses(prompt):
    """How the deepest model goes on after a prompt: a row a character, a column a setting."""
    model, tokenizer = deepest()
    with torch.no_grad():
        logits = model(torch.tensor([tokenizer.encode(prompt)]))[0, -1]
    columns = {"before": logits.softmax(-1)}
    for name, settings in STILLS.items():
        columns[name] = filter_logits(logits, **settings).softmax(-1)
    return pd.DataFrame(columns, index=list(tokenizer.alphabet))


class Lens(SphinxDirective):
    """`{lens_still}` and a text in JSON: what a model would say of it after each layer."""

    has_content = True

    def run(self):
        self.env.note_reread()  # by the next build there may be other models
        return [drawn(lens(json.loads("".join(self.content))), "lens")]


def lens(text):
    """The guesses of the deepest model's layers for each character of a text but the first."""
    model, tokenizer = deepest()
    tokens = torch.tensor([tokenizer.encode(text)])
    p = evaluation.look(model, tokens)[0][:, :-1].softmax(-1)
    guesses = [tokenizer.decode(stage.argmax(-1).tolist()) for stage in p]
    right = torch.stack([stage.gather(-1, tokens[0, 1:, None])[:, 0] for stage in p])
    return figures.logit_lens(
        guesses, right, text, title=_("What the model would say, layer by layer")
    )


def drawn(figure, name):
    import course_pictures  # Sphinx finds it; who only wants copy_parts doesn't

    return course_pictures.drawn(figure, name)


def deepest():
    """The deepest published model, and its tokenizer."""
    return checkpoints.load_model(models(files.PUBLISHED)[-1].checkpoint)


def setup(app):
    app.add_directive("playground_still", Still)
    app.add_directive("lens_still", Lens)
    app.connect("doctree-resolved", offer_training)
    app.connect("build-finished", finished)
    return {"parallel_read_safe": True}
