"""Record what the book's page on performance shows, one command after the other; what is there already is kept.

python tools/performance.py cpu|gpu [FOLDER]
"""

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


def main():
    if sys.argv[1:2] not in (["cpu"], ["gpu"]):
        sys.exit(__doc__)
    device, folder = sys.argv[1], Path(*sys.argv[2:3] or [files.PUBLISHED / "bench"]).absolute()
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    for what, preset in BENCHES[device]:
        target = folder / f"{what}-{preset}-{device}.json"
        if not target.exists():
            course("bench", what, "--preset", preset, "--json", target.name, folder=folder)
    for recipe, seeds, *options in RUNS[device]:
        with tempfile.TemporaryDirectory() as results:
            wanted = range(FIRST_SEED, FIRST_SEED + seeds)
            name = "".join([recipe, *options]).replace("--", "-")
            targets = {seed: folder / "runs" / f"{name}-{device}-{seed}.json" for seed in wanted}
            if all(target.exists() for target in targets.values()):
                continue
            seeds = ("--seed", FIRST_SEED, "--seeds", seeds)
            course(
                "train", "--recipe", recipe, *options, *seeds, "--out", "results", folder=results
            )
            for log in Path(results, "results/logs").glob("*.json"):
                shutil.copy(log, targets[json.loads(log.read_text())["seed"]])


if __name__ == "__main__":
    main()
