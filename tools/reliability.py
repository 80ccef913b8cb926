"""Try hard what the course promises to survive, and record how often it was tried: about ten minutes on two cores.

python tools/reliability.py            try everything, print the table, write it where the book's page finds it
python tools/reliability.py --short    try as often as `./run.sh test` does, print the table, write nothing
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

from course_utils import files
from course_utils.training import runs

PROMISES = {  # what stands in the book -> the tests that show it, by file and the beginning of their names
    "A checkpoint is whole or absent; a trainer that is killed (`kill -9`) goes on": [
        "test_reliability:a_trainer_killed"],
    "A run that is stopped and resumed is the run that was not, bit for bit": [
        "test_reliability:a_run_that_is_stopped", "test_engine:another_engine_goes_on"],
    "Ctrl-C in a live notebook keeps the work": ["test_reliability:ctrl_c_in_a_live_kernel"],
    "A run that diverges stops before its weights are spoilt": [
        "test_reliability:a_rate_far_too_high", "test_reliability:a_number_that_is_none"],
    "Early stopping stops where it should, and keeps the best weights": [
        "test_reliability:early_stopping", "test_reliability:the_trainer_stops", "test_train:early_stopping",
        "test_runs:early_stopping"],
    "A batch that memory can't hold is read in parts, and stays the same batch": ["test_engine:a_batch"],
    "A full disk keeps the old and the new": ["test_reliability:a_full_disk", "test_course:a_full_disk"],
    "Eight processes in one folder do the work once and mix nothing": [
        "test_reliability:eight_processes", "test_course:two_at_once", "test_runs:two_processes"],
    "The corpus is the corpus, whatever a server sends": ["test_corpus:"],
    "Weights from a stranger run nothing and never load in silence": [
        "test_strangers:a_pickle", "test_strangers:a_good_file", "test_strangers:a_file_cut", "test_strangers:a_header",
        "test_strangers:a_config", "test_strangers:metadata", "test_strangers:weights",
        "test_strangers:the_command_says", "test_reliability:a_state_that_is_damaged"],
    "Text is never code, on a page, in a notebook or on a terminal": [
        "test_strangers:a_terminal", "test_strangers:a_report", "test_strangers:a_page", "test_strangers:a_widget",
        "test_report:nothing_is_asked", "test_playground:unknown_characters", "test_playground:a_bad_file",
        "test_playground:a_readers_own", "test_playground:a_wild_link"],
    "The same seed gives the same result": [
        "test_reliability:a_golden", "test_reliability:one_seed", "test_reliability:neither_threads",
        "test_runs:one_seed", "test_train:one_seed"],
    "A lesson survives being played with: cells run again, sections out of order": [
        "test_played:a_lesson_survives"],
    "Whatever is put in, only documented errors come out": [
        "test_strangers:a_file_with", "test_strangers:a_model_config", "test_strangers:a_train_config",
        "test_strangers:a_tokenizer", "test_strangers:a_filter"],
    "A promise that is broken on purpose is noticed": [
        "test_reliability:a_part_that_is_not", "test_reliability:the_tolerance", "test_reliability:the_table",
        "test_engine:a_broken", "test_report:unescaped", "test_played:a_lesson_that"],
}  # fmt: skip
SHORT = "--short" in sys.argv
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


def names(file, test):
    """file, test: as pytest writes them -> the same as PROMISES writes them"""
    return f"{Path(file).stem}:{test.removeprefix('test_')}"


def shows(promise, name):
    return any(name.startswith(test) for test in PROMISES[promise])


def pytest(*arguments, **options):
    command = [sys.executable, "-m", "pytest", "-q", "-o", "junit_family=xunit1", *arguments]
    trials = {"COURSE_TRIALS": "" if SHORT else "full", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=files.CHECKOUT, env=os.environ | trials, **options)


def chosen():
    """The addresses of all tests that show a promise."""
    modules = sorted({test.split(":")[0] for tests in PROMISES.values() for test in tests})
    listed = pytest(
        "--collect-only", *(f"tests/{m}.py" for m in modules), capture_output=True, text=True
    )
    found = [line for line in listed.stdout.splitlines() if "::" in line]
    return [
        address
        for address in found
        if any(shows(p, names(*address.split("::", 1))) for p in PROMISES)
    ]


def tried(case):
    """-> (what came of a test, how often it tried: what it says itself, else once)"""
    outcome = next((kind for kind in OUTCOMES[1:] if case.find(kind) is not None), "held")
    counted = case.find("properties/property[@name='trials']")
    return outcome, 1 if counted is None or outcome != "held" else int(counted.get("value"))


def main():
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report, addresses = Path(folder, "report.xml"), Path(folder, "tests")
        addresses.write_text("\n".join(chosen()))
        pytest("-n", "2", "--dist", "worksteal", f"--junit-xml={report}", f"@{addresses}")
        cases = list(ElementTree.parse(report).iter("testcase"))
    rows = []
    for promise in PROMISES:
        count = Counter()
        for case in cases:
            if shows(promise, names(case.get("classname").replace(".", "/"), case.get("name"))):
                outcome, times = tried(case)
                count[outcome] += times
        rows.append({"promise": promise, **{kind: count[kind] for kind in OUTCOMES}})
    print(f"\n{'':76}{'held':>9}{'broken':>9}{'not tried':>11}")
    for row in rows:
        broken = row["failure"] + row["error"]
        print(f"{row['promise']:76}{row['held']:9,}{broken:9,}{row['skipped']:11,}")
    environment = runs.environment("cpu") | {
        "command": "python tools/reliability.py",
        "cores": os.cpu_count(),
    }
    environment |= {
        "seconds": round(time.monotonic() - begin),
        "packages": {name: version(name) for name in PACKAGES},
    }
    print(f"{environment['seconds']} s on {environment['device']}, {environment['cores']} cores")
    if not SHORT:
        content = json.dumps({"rows": rows, "environment": environment}, indent=1)
        files.write(files.PUBLISHED / "reliability.json", content.encode())
    if any(row["failure"] or row["error"] or not row["held"] for row in rows):
        sys.exit("a promise does not hold, or was not tried")


if __name__ == "__main__":
    main()
