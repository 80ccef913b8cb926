"""Try hard what the course promises to survive, and record how often it was tried.

About ten minutes on two cores. A test that shows a promise says so: @pytest.mark.promise("seed").
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

from course_utils import files
from course_utils.training import runs

PROMISES = {  # what a test calls it -> how the book says it
    "killed": "A checkpoint is whole or absent; a trainer that is killed (`kill -9`) goes on",
    "resumed": "A run that is stopped and resumed is the run that was not, bit for bit",
    "Ctrl-C": "Ctrl-C in a live notebook keeps the work",
    "diverges": "A run that diverges stops before its weights are spoilt",
    "early stopping": "Early stopping stops where it should, and keeps the best weights",
    "memory": "A batch that memory can't hold is read in parts, and stays the same batch",
    "full disk": "A full disk keeps the old and the new",
    "at once": "Eight processes in one folder do the work once and mix nothing",
    "corpus": "The corpus is the corpus, whatever a server sends",
    "weights": "Weights from a stranger run nothing and never load in silence",
    "text": "Text is never code, on a page, in a notebook or on a terminal",
    "seed": "The same seed gives the same result",
    "played": "A lesson survives being played with: cells run again, sections out of order",
    "anything": "Whatever is put in, only documented errors come out",
    "broken": "A promise that is broken on purpose is noticed",
}
OUTCOMES = ("held", "failure", "error", "skipped")
PACKAGES = (
    "torch",
    "numpy",
    "safetensors",
    "filelock",
    "pooch",
    "jupyter-client",
    "hypothesis",
    "playwright",
)


def cases(short):
    """Run every test that shows a promise. -> pytest's report, an element a test"""
    trials = {"COURSE_TRIALS": "" if short else "full", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "tests", "-q", "-m", "promise"]
    command += ["-n", "2", "--dist", "worksteal", "-o", "junit_family=xunit1"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        subprocess.run(
            [*command, f"--junit-xml={report}"], cwd=files.CHECKOUT, env=os.environ | trials
        )
        return list(ElementTree.parse(report).iter("testcase"))


def properties(case, name):
    """What a test has said of itself."""
    return [found.get("value") for found in case.iterfind(f"properties/property[@name='{name}']")]


def tried(case):
    """-> (what came of a test, how often it tried: what it says itself, else once)"""
    outcome = next((kind for kind in OUTCOMES[1:] if case.find(kind) is not None), "held")
    counted = properties(case, "trials")
    return outcome, int(counted[0]) if counted and outcome == "held" else 1


def table(found):
    """-> a row a promise: how many trials held, failed, met an error, were skipped"""
    counts = defaultdict(Counter)
    for case in found:
        outcome, times = tried(case)
        for name in properties(case, "promise"):
            counts[name][outcome] += times
    if unknown := counts.keys() - PROMISES.keys():
        sys.exit(f"tests show promises that PROMISES does not have: {', '.join(unknown)}")
    return [
        {"promise": sentence, **{kind: counts[name][kind] for kind in OUTCOMES}}
        for name, sentence in PROMISES.items()
    ]


def environment(seconds):
    return runs.environment("cpu") | {
        "command": "python tools/reliability.py",
        "cores": os.cpu_count(),
        "seconds": seconds,
        "packages": {name: version(name) for name in PACKAGES},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--short",
        action="store_true",
        help="try as often as ./run.sh test does, and write nothing where the book's page finds it",
    )
    short = parser.parse_args().short
    begin = time.monotonic()
    rows, where = table(cases(short)), environment(round(time.monotonic() - begin))
    print(f"\n{'':76}{'held':>9}{'broken':>9}{'not tried':>11}")
    for row in rows:
        broken = row["failure"] + row["error"]
        print(f"{row['promise']:76}{row['held']:9,}{broken:9,}{row['skipped']:11,}")
    print(f"{where['seconds']} s on {where['device']}, {where['cores']} cores")
    if not short:
        content = json.dumps({"rows": rows, "environment": where}, indent=1)
        files.write(files.PUBLISHED / "reliability.json", content.encode())
    if any(row["failure"] or row["error"] or not row["held"] for row in rows):
        sys.exit("a promise does not hold, or was not tried")


if __name__ == "__main__":
    main()
