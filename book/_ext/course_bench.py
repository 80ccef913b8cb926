"""What was measured and tried, as figures and tables: speeds, recipes, promises, exercises."""

import json
from functools import partial

import pandas as pd

from course_utils import figures, files
from course_utils.figures.performance import (
    SETTINGS,
    by_texts,
    factors,
    percent,
)
from course_utils.figures.words import three_digits
from course_utils.messages import N_, _
from course_utils.training.runs import RunRecord

BENCH = files.PUBLISHED / "bench"
TITLES = {  # of what `course bench` measures
    "train": "Training",
    "generate": "Writing",
    "scaling": "A small model's step",
}
COLUMNS = {  # that a row must have
    "train": ["low_ms", "high_ms", "characters_per_s", "share_of_matrix_rate"],
    "generate": ["texts", "low", "high", "characters_per_s"],
    "scaling": ["kind", "share_of_matrix_rate"],
}
RATES = {  # the limits of a machine: the head of the column, and its unit
    "matrix_products_flops": ("matrix products (TFLOP/s)", 1e12),
    "memory_bytes_per_s": ("memory (GB/s)", 1e9),
    "operations_per_s": ("operations (thousands/s)", 1e3),
}
NOTHING = "Nothing is recorded here yet: `python tools/{}"


def compared(what):
    """The contenders in each file."""
    found = [bench for bench in benches() if bench["what"] == what]
    for bench in found:
        rows = bench["rows"]
        cells = {"contender": rows["name"]}
        if what == "generate":
            cells["texts"] = rows["texts"].map("{:,}".format)
        cells["time of a step (ms)"] = rows["median_ms"].map(three_digits)
        cells["characters a second"] = rows["characters_per_s"].map(three_digits)
        multiples = pd.concat([factors(group) for _, group in by_texts(rows)])
        cells["factor"] = multiples.map("{:.3g}×".format)
        if what == "train":
            cells["share of the matrix rate"] = rows["share_of_matrix_rate"].map(percent)
        yield figures.contenders(rows, title=bench["title"])
        yield folded(pd.DataFrame(cells))
    if not found:
        yield not_measured()


def grown():
    """How the time of a step grows, once a machine."""
    found = {}
    for bench in benches():
        if bench["what"] == "scaling":
            found.setdefault(bench["machine"], bench)
    for bench in found.values():
        rows = bench["rows"]
        cells = {
            "setting": rows["kind"].map(lambda kind: _(SETTINGS[kind])),
            "value": rows["name"],
            "time of a step (ms)": rows["median_ms"].map(three_digits),
            "share of the matrix rate": rows["share_of_matrix_rate"].map(percent),
        }
        yield figures.scaling(rows, title=bench["title"])
        yield folded(pd.DataFrame(cells))
    if not found:
        yield not_measured()


def machines():
    """What each file was measured on, and that machine's limits."""
    rows = []
    for bench in benches():
        row = {
            "measured": f"{bench['what']}, {bench['preset']}",
            "machine": bench["machine"],
            "PyTorch": bench["environment"]["torch"],
        }
        for rate, (head, unit) in RATES.items():
            row[head] = three_digits(bench["limits"][rate] / unit)
        rows.append(row)
    yield table(pd.DataFrame(rows), words=2) if rows else not_measured()


def recipes():
    """What each recipe reaches on each machine, a row for all its seeds; by context, then size."""
    records = [RunRecord.load(path) for path in sorted((BENCH / "runs").glob("*.json"))]
    if not records:
        yield not_measured()
        return
    runs = pd.DataFrame([vars(record) for record in records])
    keys = {
        "context": [record.model["context_length"] for record in records],
        "parameters": runs["parameters"],
        "recipe": [f"`{record.recipe}`, {record.arm}" for record in records],
        "machine": [machine(record.environment) for record in records],
        "regime": runs["regime"],
    }
    rows = []
    for (context, parameters, recipe, device, regime), seeds in runs.groupby(list(keys.values())):
        losses = seeds["validation_loss"]
        rows.append(
            {
                "recipe": recipe,
                "machine": f"{device}; {regime}",
                "context": f"{context:,}",
                "parameters": f"{parameters / 1e6:.2f} M",
                "seeds": len(seeds),
                "loss (worst)": f"{losses.mean():.4f} ({losses.max():.4f})",
                "training (s)": seconds(seeds["elapsed_s"].median()),
                "setup (s)": seconds(seeds["setup_s"].median()),
                "evaluating": percent(seeds["evaluating_s"].sum() / seeds["elapsed_s"].sum()),
            }
        )
    yield table(pd.DataFrame(rows), words=2)


def promises():
    """How often each promise of the page on reliability was tried, and how often it held."""
    found = tried("reliability.json")
    if found is None:
        yield NOTHING.format("reliability.py` tries this machine.")
        return
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


def exercises():
    """How each exercise's check fares against wrong answers, and right ones in unusual clothes."""
    found = tried("checks.json")
    if found is None:
        yield NOTHING.format("mutants.py --json` tries every check.")
        return
    rows = [
        {
            N_("exercise"): exercise_named(row["exercise"]),
            N_("level"): _(row["level"]),
            N_("minutes"): row["minutes"],
            N_("mutants killed"): part_of(row["killed"], row["mutants"]),
            N_("unusual answers accepted"): part_of(row["accepted"], row["unusual"]),
        }
        for row in found["rows"]
    ]
    yield table(pd.DataFrame(rows), words=2)


def exercise_named(words):
    """Its number and its title: "1.1 From probabilities to perplexity"."""
    number, title = words.split(" ", 1)
    return f"{number} {_(title)}"


def part_of(some, n):
    return _("checks|{some} of {n}", some=some, n=n)


PASSAGES = {  # a word after `{recorded}` -> what gives its figures and tables
    "train": partial(compared, "train"),
    "generate": partial(compared, "generate"),
    "scaling": grown,
    "machines": machines,
    "recipes": recipes,
    "reliability": promises,
    "checks": exercises,
}


def not_measured():
    """What stands where no measurement is."""
    return NOTHING.format("performance.py cpu` (or `gpu`) measures this machine.")


def tried(name):
    """What a tool left beside the measurements, or None."""
    path = BENCH.parent / name
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def benches():
    """Every file that `course bench` wrote, in order of their names; the rows as a DataFrame."""
    return [read_bench(path) for path in sorted(BENCH.glob("*.json"))]


def read_bench(path):
    """One such file, with a title and its machine in words."""
    try:
        bench = json.loads(path.read_text(encoding="utf-8"))
        what = bench["what"]
        bench["machine"] = machine(bench["environment"])
        bench["title"] = f"{TITLES[what]}: recipe {bench['preset']}, {bench['machine']}"
        bench["rows"] = pd.DataFrame(bench["rows"])[["name", "median_ms", *COLUMNS[what]]]
        bench["limits"] = pd.Series(bench["limits"])[[*RATES]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path.name} is no benchmark of this course ({type(error).__name__}): delete it, "
            f"or make it again with `course bench WHAT --preset NAME --json {path.name}`"
        ) from None
    return bench


def machine(environment):
    """The device in words; on a CPU the number of threads counts."""
    device = environment["device"]
    return f"{device}, threads: {environment['threads']}" if device.startswith("cpu") else device


def seconds(value):
    """A time to three digits; what is shorter than a tenth of a second is no time here."""
    return "< 0.1" if value < 0.1 else three_digits(value)


def folded(frame):
    """A table behind a line that opens it."""
    title = _("The numbers, as a table")
    return f":::{{dropdown}} {title}\n{table(frame)}\n:::"


def table(frame, words=1):
    """A DataFrame in Markdown, its heads in the reader's language.

    words: how many columns, at the left, are not numbers.
    """
    rule = ["---"] * words + ["--:"] * (frame.shape[1] - words)
    rows = [map(_, frame.columns), rule, *frame.values]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)
