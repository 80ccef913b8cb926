"""What pages say of the course itself, as they are built: who imports whom, what its model writes.

`python book/_ext/course_pages.py` puts the recorded result's figure and such a text into both
READMEs.
"""

import ast
import re
from collections import Counter
from pathlib import Path
from statistics import mean

import torch
from course_playground import models
from course_study import baselines
from docutils import nodes
from matplotlib.patches import FancyArrowPatch
from sphinx.util.docutils import SphinxDirective

from course_utils import corpus, figures, files
from course_utils.figures.drawing import SMALL, looks, open_figure
from course_utils.generation import writer
from course_utils.research import recorded, tables
from course_utils.training import checkpoints

PACKAGE = files.PUBLISHED.parent
CHECKOUT = Path(__file__).resolve().parents[2]
WIDE = 4  # boxes side by side: as many as a phone can show
PROMPT = "ROMEO:\n"
SETTINGS = {"temperature": 0.8}
STUDY = "course_utils/published/study"
README = {  # the sentences on the figure and on the sample
    "README.md": (
        f"The [recorded study]({STUDY}), by the plain protocol, over the whole validation split, "
        "on {}.",
        "The deepest model, seed 0, at temperature 0.8, after the prompt `ROMEO:`",
    ),
    "README.zh.md": (
        "损失在整个验证集上算出，对所有随机种子取平均；"
        f"每次运行的[记录]({STUDY})都在包里，设备是 {{}}。",
        "最深的模型（种子 0，温度 0.8），提示文本是 `ROMEO:`",
    ),
}


def imported(folder):
    """Which parts of the package each part imports; a folder counts as one. -> {part: set of parts}

    What a function imports when it is called counts too, unless that would close a circle.
    """
    uses = {p.stem if p.is_file() else p.name: set() for p in folder.glob("[a-z_]*") if is_part(p)}
    del uses["__init__"]
    trees = []
    for path in sorted(folder.rglob("*.py")):
        part = path.relative_to(folder).with_suffix("").parts[0]
        if part in uses:
            trees.append((part, ast.parse(path.read_text(encoding="utf-8"))))
    for statements in (lambda tree: tree.body, ast.walk):
        for part, tree in trees:
            for used in sorted({*names(statements(tree))} & uses.keys() - {part}):
                if part not in below(uses, used):
                    uses[part].add(used)
    return uses


def is_part(path):
    return path.suffix == ".py" or (path / "__init__.py").is_file()


def names(statements):
    """The parts of the package that these import."""
    for node in statements:
        if isinstance(node, ast.ImportFrom) and node.module == "course_utils":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("course_utils."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (
                a.name.split(".")[1] for a in node.names if a.name.startswith("course_utils.")
            )


def below(uses, part):
    """All that a part stands on."""
    return uses[part].union(*(below(uses, used) for used in uses[part]))


def storeys(uses):
    """The floor of each part, from 0 up: above all that it imports, no more than WIDE on one."""
    floors = {}
    while len(floors) < len(uses):
        ready = sorted(part for part in uses if part not in floors and uses[part] <= floors.keys())
        for part in ready:
            floor = max((floors[used] + 1 for used in uses[part]), default=0)
            while Counter(floors.values())[floor] == WIDE:
                floor += 1
            floors[part] = floor
    return floors


def needed(uses):
    """The arrows that don't follow from others: a → c is left out where a → b → c."""
    return {
        part: used - set().union(*(below(uses, other) for other in used))
        for part, used in uses.items()
    }


def places_of(uses):
    """Where each part's box stands: x from 0 to 1, over what it stands on; y is its floor."""
    floors = storeys(uses)
    arrows = needed(uses)
    places = {}
    for floor in range(max(floors.values()) + 1):
        row = [part for part in uses if floors[part] == floor]
        middle = {part: mean([places[used][0] for used in arrows[part]] or [0.5]) for part in row}
        row.sort(key=lambda part, middle=middle: (middle[part], part))
        shift = 0.12 * (floor % 2)  # so that no arrow runs through a box
        for i, part in enumerate(row):
            places[part] = ((i + 0.5 + shift) / (len(row) + 0.12), floor)
    return places


def course_map(uses):
    """Parts as boxes, imports as arrows down to what is imported; narrow, for a phone. -> Figure"""
    places = places_of(uses)
    arrows = needed(uses)
    top = max(floor for _, floor in places.values())
    with open_figure(0.62 * (top + 1)) as (figure, _):
        figure.set_figwidth(4.3)
        axes = figure.subplots()
        axes.set(xlim=(0, 1), ylim=(-0.5, top + 0.5))
        axes.set_axis_off()
        styles = looks(range(top, -1, -1))
        for part, (x, y) in places.items():
            color = styles[y]["color"]
            for used in sorted(arrows[part]):
                draw_arrow(axes, (x, y - 0.22), (places[used][0], places[used][1] + 0.24), color)
            box = {"boxstyle": "round,pad=0.35", "fc": "white", "ec": color, "lw": 1.2}
            axes.text(x, y, part, ha="center", va="center", fontsize=SMALL, bbox=box, zorder=2)
        said = "; ".join(
            f"{part} uses {', '.join(sorted(used))}" for part, used in sorted(uses.items()) if used
        )
        figure.set_label(
            f"Who imports whom among the {len(uses)} parts of the package, from the top down. "
            f"{said}."
        )
    return figure


def draw_arrow(axes, start, end, color):
    """A thin arrow behind the boxes."""
    look = {"arrowstyle": "-|>", "mutation_scale": 9, "lw": 0.8, "color": color, "alpha": 0.6}
    axes.add_patch(FancyArrowPatch(start, end, shrinkA=0, shrinkB=0, zorder=1, **look))


def sample(length=300):
    """What the deepest published model writes after PROMPT, seed 0. -> its record, the text"""
    record = models(files.PUBLISHED)[-1]
    model, tokenizer = checkpoints.load_model(record.checkpoint)
    chance = torch.Generator().manual_seed(0)
    ids = writer.generate(
        model, torch.tensor([tokenizer.encode(PROMPT)]), length, generator=chance, **SETTINGS
    )
    return record, tokenizer.decode(ids[0].tolist()).rsplit("\n", 1)[0]


class Map(SphinxDirective):
    """`{course_map}`: the package as it is at this moment."""

    def run(self):
        self.env.note_reread()
        figure = course_map(imported(PACKAGE))
        look = {"width": "560px", "classes": ["no-scaled-link"]}
        return [nodes.image(uri=figure.data_uri(), alt=figure.get_label(), **look)]


class Sample(SphinxDirective):
    """`{sample}`: a text by the deepest published model, and a line on where it is from."""

    def run(self):
        self.env.note_reread()  # by the next build there may be another model
        record, text = sample()
        about = (
            f"Written while this page was built, by the recorded model with {record.arm} "
            f"({record.parameters:,} parameters, {record.validation_loss:.3f} nats/character), "
            f"seed 0, temperature {SETTINGS['temperature']}."
        )
        block = nodes.literal_block(text, text, language="text", classes=["sample"])
        return [block, nodes.paragraph("", about)]


def depth_runs():
    """The recorded runs of the depth study, by the plain protocol."""
    rows = recorded.rows(corpus.load())
    return [r for name, row in rows.items() if name.startswith("depth/baseline/") for r in row]


def fill(text, passage, content):
    """The text with what stands between <!-- passage --> and <!-- end --> made anew."""
    pattern = rf"(<!-- {passage} -->\n).*?(<!-- end -->)"
    filled, count = re.subn(
        pattern, lambda found: f"{found[1]}{content}\n{found[2]}", text, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(
            f"<!-- {passage} --> … <!-- end --> must stand there once, not {count} times"
        )
    return filled


def write_readmes():
    """The result's figure and a sample, from the published records and weights."""
    found = depth_runs()
    final = tables.final_table(found)
    arms = tables.arm_table(final)
    five_gram = {"5-gram": baselines()["5-gram"]}
    devices = ", ".join(sorted({record.environment["device"] for record in found}))
    _, text = sample(length=130)
    for name, (study, about) in README.items():
        path = CHECKOUT / name
        language = "chinese" if ".zh" in name else "english"
        filled = fill(path.read_text(encoding="utf-8"), "result", study.format(devices))
        filled = fill(filled, "sample", f"{about}:\n\n```text\n{text.rstrip()}\n```")
        path.write_text(filled, encoding="utf-8")
        figure = figures.ablation_bars(arms, final, five_gram, language)
        (CHECKOUT / f"book/_static/result_{language}.png").write_bytes(figure.png())


def setup(app):
    app.add_directive("course_map", Map)
    app.add_directive("sample", Sample)
    return {"parallel_read_safe": True}


if __name__ == "__main__":
    write_readmes()
