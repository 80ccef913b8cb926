"""What Jupyter Book leaves out: pictures that can be read aloud, formulas that ask no other host for a script, and
recorded measurements, drawn and tabled while the page is built."""

import json
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from shutil import copytree

import course_study
import pandas as pd
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from course_utils import figures, files
from course_utils.figures.performance import SETTINGS, by_texts, factors, rounded, share
from course_utils.training.runs import RunRecord

BENCH = files.PUBLISHED / "bench"
KINDS = {  # what `course bench` measures: its title, and what a row must have
    "train": (
        "Training",
        ["name", "median_ms", "low_ms", "high_ms", "characters_per_s", "share_of_matrix_rate"],
    ),
    "generate": ("Writing", ["name", "texts", "median_ms", "low", "high", "characters_per_s"]),
    "scaling": ("A small model's step", ["kind", "name", "median_ms", "share_of_matrix_rate"]),
}
RATES = {  # the limits of a machine: the head of the column, and its unit
    "matrix_products_flops": ("matrix products (TFLOP/s)", 1e12),
    "memory_bytes_per_s": ("memory (GB/s)", 1e9),
    "operations_per_s": ("operations (thousands/s)", 1e3),
}
NOTHING = "Nothing is recorded here yet: `python tools/performance.py cpu` (or `gpu`) measures this machine."
MATHJAX = (
    "tex-chtml.js",
    "input/tex/extensions",
    "output/chtml/fonts/woff-v2",
)  # 3 MB of the package's 15


def describe_pictures(app, doctree):
    """Give each picture of a lesson its alt text: what the figure says of itself in words, its text/plain form."""
    for output in doctree.findall(nodes.container):
        if output.get("nb_element") == "mime_bundle":
            forms = {form["mime_type"]: form for form in output.children}
            if "image/png" in forms and "text/plain" in forms:
                for image in forms["image/png"].findall(nodes.image):
                    image["alt"] = forms["text/plain"].astext()


def copy_mathjax(app, error):
    """Put the parts of MathJax that the pages can ask for beside them."""
    package = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static/mathjax"
    target = Path(app.outdir, "_static/mathjax")
    for part in () if error else MATHJAX:
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        if (package / part).is_dir():
            copytree(package / part, target / part, dirs_exist_ok=True)
        else:
            (target / part).write_bytes((package / part).read_bytes())


class Recorded(SphinxDirective):
    """`{recorded} train`, or another word of PASSAGES: what is recorded of it, as figures and tables."""

    required_arguments = 1

    def run(self):
        self.env.note_reread()  # by the next build there may be other files
        passage = nodes.container()
        try:
            for part in PASSAGES[self.arguments[0]](BENCH):
                part = folded(part) if isinstance(part, pd.DataFrame) else part
                if isinstance(part, figures.Figure):
                    passage += nodes.image(uri=part.data_uri(), alt=part.get_label())
                else:
                    self.state.nested_parse(
                        StringList(part.splitlines(), ""), self.content_offset, passage
                    )
        except ValueError as error:
            raise self.error(str(error)) from None
        return passage.children


def compared(what, folder):
    """The contenders in each file."""
    found = [bench for bench in benches(folder) if bench["what"] == what]
    for bench in found:
        rows = bench["rows"]
        cells = {"contender": rows["name"]}
        if what == "generate":
            cells["texts"] = rows["texts"].map("{:,}".format)
        cells["time of a step (ms)"] = rows["median_ms"].map(rounded)
        cells["characters a second"] = rows["characters_per_s"].map(rounded)
        cells["factor"] = pd.concat([factors(group) for _, group in by_texts(rows)]).map(
            "{:.3g}×".format
        )
        if what == "train":
            cells["share of the matrix rate"] = rows["share_of_matrix_rate"].map(share)
        yield figures.contenders(rows, title=bench["title"])
        yield folded(pd.DataFrame(cells))
    if not found:
        yield NOTHING


def grown(folder):
    """How the time of a step grows, once a machine."""
    found = {
        bench["machine"]: bench for bench in reversed(benches(folder)) if bench["what"] == "scaling"
    }
    for bench in reversed(found.values()):
        rows = bench["rows"]
        cells = {
            "setting": rows["kind"].map(lambda kind: SETTINGS[kind][0]),
            "value": rows["name"],
            "time of a step (ms)": rows["median_ms"].map(rounded),
            "share of the matrix rate": rows["share_of_matrix_rate"].map(share),
        }
        yield figures.scaling(rows, title=bench["title"])
        yield folded(pd.DataFrame(cells))
    if not found:
        yield NOTHING


def machines(folder):
    """What each file was measured on, and that machine's limits."""
    rows = [
        {"measured": f"{bench['what']}, {bench['preset']}", "machine": bench["machine"]}
        | {"PyTorch": bench["environment"]["torch"]}
        | {head: rounded(bench["limits"][rate] / unit) for rate, (head, unit) in RATES.items()}
        for bench in benches(folder)
    ]
    yield table(pd.DataFrame(rows), words=2) if rows else NOTHING


def recipes(folder):
    """What each recipe reaches on each machine, a row for all its seeds; rows of one context stand together."""
    records = [RunRecord.load(path) for path in sorted((folder / "runs").glob("*.json"))]
    groups, rows = {}, []
    for r in records:
        key = (
            r.model["context_length"],
            r.parameters,
            f"`{r.recipe}`, {r.arm}",
            machine(r.environment),
            r.regime,
        )
        groups.setdefault(key, []).append(r)
    for (context, parameters, recipe, device, regime), group in sorted(groups.items()):
        seeds = pd.DataFrame([vars(r) for r in group])
        rows.append(
            {
                "recipe": recipe,
                "machine": device,
                "regime": regime,
                "context": f"{context:,}",
                "parameters": f"{parameters / 1e6:.2f} M",
                "seeds": len(seeds),
                "mean loss": f"{seeds['validation_loss'].mean():.4f}",
                "worst": f"{seeds['validation_loss'].max():.4f}",
                "training (s)": rounded(seeds["elapsed_s"].median()),
                "setup (s)": rounded(seeds["setup_s"].median()),
                "evaluating": share(seeds["evaluating_s"].sum() / seeds["elapsed_s"].sum()),
            }
        )
    yield table(pd.DataFrame(rows), words=3) if rows else NOTHING


def promises(folder):
    """How often each promise of the page on reliability was tried, and how often it held."""
    path = folder.parent / "reliability.json"
    if not path.is_file():
        yield "Nothing is recorded here yet: `python tools/reliability.py` tries this machine."
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    rows = [
        {
            "promise": row["promise"],
            "held": f"{row['held']:,}",
            "broken": f"{row['failure'] + row['error']:,}",
            "could not be tried": f"{row['skipped']:,}",
        }
        for row in found["rows"]
    ]
    yield table(pd.DataFrame(rows))
    yield f"Tried on {machine(found['environment'])}, PyTorch {found['environment']['torch']}."


def exercises(folder):
    """How each exercise's check fares against wrong answers, and right ones in unusual clothes."""
    path = folder.parent / "checks.json"
    if not path.is_file():
        yield "Nothing is recorded here yet: `python tools/mutants.py --json` tries every check."
        return
    rows = [
        {
            "exercise": row["exercise"],
            "level": row["level"],
            "minutes": row["minutes"],
            "mutants killed": f"{row['killed']} of {row['mutants']}",
            "unusual answers accepted": f"{row['accepted']} of {row['unusual']}",
        }
        for row in json.loads(path.read_text(encoding="utf-8"))["rows"]
    ]
    yield table(pd.DataFrame(rows), words=2)


PASSAGES = {
    "train": partial(compared, "train"),
    "generate": partial(compared, "generate"),
    "scaling": grown,
    "machines": machines,
    "recipes": recipes,
    "reliability": promises,
    "checks": exercises,
    **{
        name: (lambda folder, passage=passage: passage())
        for name, passage in course_study.PASSAGES.items()
    },
}


def benches(folder):
    """Every file that `course bench` wrote, in order of their names; the rows as a DataFrame. -> list of dicts"""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            bench = json.loads(path.read_text(encoding="utf-8"))
            title, columns = KINDS[bench["what"]]
            bench["machine"] = machine(bench["environment"])
            bench["title"] = f"{title}: recipe {bench['preset']}, {bench['machine']}"
            bench["rows"], bench["limits"] = (
                pd.DataFrame(bench["rows"])[columns],
                pd.Series(bench["limits"])[[*RATES]],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path.name} is no benchmark of this course ({type(error).__name__}): delete it, or make it again "
                f"with `course bench WHAT --preset NAME --json {path.name}`"
            ) from None
        found.append(bench)
    return found


def machine(environment):
    """The device in words; on a CPU the number of threads counts."""
    device = environment["device"]
    return f"{device}, threads: {environment['threads']}" if device.startswith("cpu") else device


def folded(frame):
    return f":::{{dropdown}} The numbers, as a table\n{table(frame)}\n:::"


def table(frame, words=1):
    """A DataFrame in Markdown. words: how many columns, at the left, are not numbers."""
    rule = ["---"] * words + ["--:"] * (frame.shape[1] - words)
    return "\n".join(
        f"| {' | '.join(map(str, row))} |" for row in [frame.columns, rule, *frame.values]
    )


def setup(app):
    app.add_directive("recorded", Recorded)
    app.connect("doctree-read", describe_pictures)
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True}
