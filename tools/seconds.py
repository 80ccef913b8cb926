"""What a training step of each depth costs on a CPU: for the frontier on the page of results.

python tools/seconds.py     times the recipe `fair`, and writes course_utils/published/study/

Depths take turns, and of each the fastest step counts. It is the processor's own time of one
thread, which other programs on the machine hardly lengthen: on two cores two runs go on at once,
in so many seconds each.
"""

import json
import platform
import time
from pathlib import Path

import torch
from tqdm import tqdm

from course_utils import corpus, files
from course_utils.lessons.data import CharTokenizer
from course_utils.lessons.model import GPTConfig
from course_utils.research import recorded, studies
from course_utils.training import engine, recipes, runs, trainer

ROUNDS = 4  # the first of them warms up


def step_of(n_layers, ids):
    """A function that makes the next training step of a model of so many layers."""
    settings, config = recipes.named_recipe("fair")
    vocab_size = int(ids.max()) + 1
    model = GPTConfig(**settings | {"vocab_size": vocab_size, "n_layers": n_layers})
    return engine.Engine(trainer.new_model(model, config).train(), ids, config).step


def processor():
    """The name of this machine's processor."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
    named = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return (named or [platform.processor()])[0]


def main():
    torch.set_num_threads(1)
    text = corpus.load().text
    ids = torch.tensor(CharTokenizer(text).encode(text))
    steps = {n: step_of(n, ids) for n in studies.ALL_DEPTHS}
    seconds = {n: [] for n in steps}
    turns = [turn for _ in range(ROUNDS) for turn in steps.items()]
    for n, step in tqdm(turns, unit="step"):
        begin = time.process_time()
        step()
        seconds[n].append(round(time.process_time() - begin, 4))

    about = {
        "recipe": "fair",
        "seconds": {n: of[1:] for n, of in seconds.items()},
        "processor": processor(),
        "environment": runs.environment("cpu"),
    }
    files.write(recorded.SECONDS, json.dumps(about, indent=1).encode())
    for n, of in about["seconds"].items():
        print(f"{recipes.layers(n)}: {min(of):.3f} s a step (of {len(of)})")


if __name__ == "__main__":
    main()
