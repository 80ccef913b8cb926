"""Try hard what the course promises to survive, and record how often it was tried: about ten minutes on two cores.

python tools/reliability.py
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from course_utils import files, paths, runs

PROMISES = {  # what stands in the book -> the tests that show it, by file and the beginning of their names
    "A checkpoint is whole or absent; a killed trainer goes on (`kill -9`)": ["test_reliability:a_trainer_killed"],
    "A run that is stopped and resumed is the run that was not, bit for bit": [
        "test_reliability:a_run_that_is_stopped", "test_engine:another_engine_goes_on"],
    "A part of the state that is not restored is noticed": ["test_reliability:a_part_that_is_not_restored"],
    "Ctrl-C in a live notebook keeps the work": ["test_reliability:ctrl_c_in_a_live_kernel"],
    "A run that diverges stops before its weights are spoilt": [
        "test_reliability:a_rate_far_too_high", "test_reliability:a_number_that_is_none"],
    "Early stopping stops where it should": ["test_train:early_stopping", "test_runs:early_stopping"],
    "A batch that is read in parts is the same batch": ["test_engine:a_batch"],
    "A full disk keeps the old and the new": ["test_reliability:a_full_disk", "test_course:a_full_disk"],
    "Several processes in one folder do the work once": ["test_course:two_at_once", "test_runs:two_processes"],
    "The corpus is the corpus, whatever a server sends": ["test_corpus:"],
    "Weights from a stranger run nothing and never load in silence": [
        "test_strangers:a_pickle", "test_strangers:a_file_", "test_strangers:a_header", "test_strangers:a_config",
        "test_strangers:metadata", "test_strangers:weights", "test_reliability:a_state_that_is_damaged"],
    "Whatever is put in, only documented errors come out": [
        "test_strangers:a_model_config", "test_strangers:a_train_config", "test_strangers:a_tokenizer",
        "test_strangers:a_filter"],
    "Text is never code on the report's page": ["test_report:nothing_is_asked", "test_report:unescaped"],
    "The same seed gives the same result": [
        "test_reliability:a_golden", "test_reliability:one_seed", "test_reliability:neither_threads",
        "test_runs:one_seed"],
}  # fmt: skip
OUTCOMES = ("held", "failure", "error", "skipped")


def main():
    names = sorted({test.split(":")[0] for tests in PROMISES.values() for test in tests})
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", f"--junit-xml={report}", *(f"tests/{n}.py" for n in names)]
        subprocess.run(command, cwd=paths.CHECKOUT, env={**os.environ, "COURSE_TRIALS": "full"}, check=False)
        cases = [(case.get("classname").split(".")[-1], case) for case in ElementTree.parse(report).iter("testcase")]
    rows = []
    for promise, tests in PROMISES.items():
        count = Counter()
        for file, case in cases:
            if any(f"{file}:{case.get('name').removeprefix('test_')}".startswith(test) for test in tests):
                trials = case.find("properties/property[@name='trials']")
                outcome = next(
                    (kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None), "held"
                )
                count[outcome] += 1 if trials is None else int(trials.get("value"))
        rows.append({"promise": promise, **{kind: count[kind] for kind in OUTCOMES}})
        print(rows[-1])
    found = {"rows": rows, "environment": runs.environment("cpu") | {"command": "python tools/reliability.py"}}
    files.write(paths.PUBLISHED / "reliability.json", json.dumps(found, indent=1).encode())
    if any(row["failure"] or row["error"] or not row["held"] for row in rows):
        sys.exit("a promise does not hold, or was not tried")


if __name__ == "__main__":
    main()
