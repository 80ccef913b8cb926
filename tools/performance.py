"""Record what the book's page on performance shows, one command after the other.

What is there already is kept.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from course_utils import files

FIRST_SEED = 20  # no recipe was chosen on these seeds
BENCHES = {  # device -> (what, preset), the quick ones first
    "cpu": [
        ("generate", "baseline"),
        ("train", "nanogpt-cpu"),
        ("train", "laptop"),
        ("scaling", "laptop"),
    ],
    "gpu": [
        ("generate", "baseline"),
        ("train", "baseline"),
        ("train", "nanogpt"),
        ("scaling", "laptop"),
    ],
}
RUNS = {  # device -> (recipe, seeds, options)
    "cpu": [("laptop", 3), ("laptop-long", 3)],
    "gpu": [("sprint", 5), ("sprint", 5, "--compile"), ("modern", 3), ("record", 3)],
}


def course(*arguments, folder):
    """Run a command there, so that what it records of itself names no folder of this machine."""
    print("course", *arguments, flush=True)
    search = [str(files.CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(search)}
    command = [sys.executable, "-m", "course_utils", *map(str, arguments)]
    subprocess.run(command, check=True, cwd=folder, env=environment)


def record_benches(device, folder):
    """A file for each benchmark that is not there."""
    for what, preset in BENCHES[device]:
        target = folder / f"{what}-{preset}-{device}.json"
        if not target.exists():
            course("bench", what, "--preset", preset, "--json", target.name, folder=folder)


def record_runs(device, folder):
    """The records of each recipe's runs, one a seed, where any of them is not there."""
    for recipe, seeds, *options in RUNS[device]:
        name = "".join([recipe, *options]).replace("--", "-")
        targets = {
            seed: folder / "runs" / f"{name}-{device}-{seed}.json"
            for seed in range(FIRST_SEED, FIRST_SEED + seeds)
        }
        if all(target.exists() for target in targets.values()):
            continue
        command = ["train", "--recipe", recipe, *options, "--seed", FIRST_SEED, "--seeds", seeds]
        with tempfile.TemporaryDirectory() as results:
            course(*command, "--out", "results", folder=results)
            for log in Path(results, "results/logs").glob("*.json"):
                shutil.copy(log, targets[json.loads(log.read_text())["seed"]])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("device", choices=BENCHES, help="what this machine computes with")
    there = files.PUBLISHED / "bench"
    parser.add_argument("folder", nargs="?", type=Path, default=there, help="where records go")
    args = parser.parse_args()
    folder = args.folder.absolute()
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    record_benches(args.device, folder)
    record_runs(args.device, folder)


if __name__ == "__main__":
    main()
