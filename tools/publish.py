"""Ship runs with the package: every depth run's record, and the weights of the first seed in half precision.

python tools/publish.py [RESULTS]
"""

import sys
from pathlib import Path

import torch

from course_utils import paths, runs


def main():
    source = Path(sys.argv[1]) if sys.argv[1:] else paths.results()
    for path in sorted((source / "logs").glob("*.json")):
        record = runs.RunRecord.load(path)
        if record.study != "depth":
            continue
        if record.seed == 0:
            model, tokenizer = runs.load_model(record.checkpoint)
            target = paths.PUBLISHED / "checkpoints" / record.checkpoint.name
            runs.save_model(target, model, tokenizer.alphabet, torch.float16)
        record.save(paths.PUBLISHED)
        print(f"published {record.name}")


if __name__ == "__main__":
    main()
