"""Write the practice corpus: a million characters from a trained model, for want of another text.

course train --recipe record --layers 6 --seed 21
python tools/practice.py results/checkpoints/6-layers_seed-21_….safetensors

Each character of the alphabet begins one stretch of text, so that all of them occur. Writes
course_utils/published/practice.txt.xz, and practice.json that says how it was made.
"""

import hashlib
import json
import lzma
import sys
from pathlib import Path

import torch

from course_utils import files, profiles
from course_utils.generation.writer import stream
from course_utils.training import checkpoints, runs

SETTINGS = {"temperature": 0.9, "top_p": 0.98}
SEED = 0


def write(checkpoint, characters=1_100_000):
    """One row a character of the alphabet, all sampled at once, then laid end to end."""
    device = profiles.device()
    model, tokenizer = checkpoints.load_model(checkpoint)
    rows = torch.arange(tokenizer.vocab_size, device=device)[:, None]
    generator = torch.Generator(device).manual_seed(SEED)
    new = stream(model.to(device), rows, characters // len(rows), generator=generator, **SETTINGS)
    ids = torch.cat([rows, *new], dim=1)
    return "\n\n".join(tokenizer.decode(row) for row in ids.tolist()) + "\n"


def main():
    checkpoint = Path(sys.argv[1])
    run = json.loads((checkpoint.parent.parent / "logs" / f"{checkpoint.stem}.json").read_text())
    text = write(checkpoint, *map(int, sys.argv[2:3]))
    train = f"course train --recipe {run['recipe']} --layers {run['model']['n_layers']}"
    about = {
        "what": "text written by the course's own model; not Shakespeare",
        "the same again": [
            f"{train} --seed {run['seed']}",
            f"python tools/practice.py results/checkpoints/{checkpoint.name}",
        ],
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "characters": len(text),
        "run": run,
        "checkpoint_sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "settings": SETTINGS | {"seed": SEED},
        "environment": runs.environment(profiles.device()),
    }
    packed = lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME)
    files.write(files.PUBLISHED / "practice.txt.xz", packed)
    written = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
    files.write(files.PUBLISHED / "practice.json", written.encode())
    print(written)


if __name__ == "__main__":
    main()
