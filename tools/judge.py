"""The judge: a model that has read other plays than Tiny Shakespeare's, and what it says of texts.

python tools/judge.py --train FOLDER   train it, in a minute on a GPU: judge.safetensors, judge.json
python tools/judge.py --ship FOLDER    make it small, and put it with what is published
python tools/judge.py --texts          what it says of all recorded texts, and of real ones
"""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import torch
from rounding import difference, rounded
from tqdm import tqdm

from course_utils import corpus, files, profiles
from course_utils.generation import quality
from course_utils.generation.plausibility import coherence, plausibility
from course_utils.lessons.data import CharTokenizer, get_batch
from course_utils.lessons.model import GPTConfig
from course_utils.research import recorded, studies
from course_utils.training import checkpoints, runs, trainer
from course_utils.training.recipes import named_recipe

CHOOSING = ("much-ado-about-nothing", "othello")  # held out; the first half chooses, as ever
DROPOUTS = (0.1, 0.2)  # one of them is chosen
STEPS = 4800
LAYERS = 5  # of the recipe `modern`: the most that stays below 5 MB
HUMAN_TEXTS = 72
KEY = ["study", "recipe", "arm", "seed", "prompt", "temperature", "top_k", "top_p"]


def text_of(names):
    return "\n".join(corpus.plays()[name] for name in names)


def settings():
    """Its model and its training, for each dropout. -> list of (GPTConfig, TrainConfig)"""
    model, train = named_recipe("modern")
    train = replace(train, steps=STEPS, evaluate_every=STEPS // 6)
    model |= {"n_layers": LAYERS, "vocab_size": len(set(corpus.load().text))}
    return [(GPTConfig(**model | {"dropout": dropout}), train) for dropout in DROPOUTS]


def train(folder):
    """Train it at each dropout, and keep what loses least on the half that chooses."""
    device = profiles.device()
    tokenizer = CharTokenizer(corpus.load().text)  # Tiny Shakespeare's alphabet, and no more of it
    learned = [name for name in studies.OTHER if name not in CHOOSING]
    ids, held_out = (torch.tensor(tokenizer.encode(text_of(n))) for n in (learned, CHOOSING))
    found = []
    for model_config, config in settings():
        model = trainer.new_model(model_config, config, device)
        with tqdm(total=config.steps, desc=f"dropout {model_config.dropout}", unit="step") as bar:
            result = trainer.train(model, ids, held_out, config, bar.update)
        said = f"{result.choosing_loss:.4f} and {result.reporting_loss:.4f} on the halves held out"
        print(f"dropout {model_config.dropout}: {said}, at step {result.best_step}", flush=True)
        found.append((model, config, result))

    model, config, result = min(found, key=lambda one: one[2].choosing_loss)
    tried = {str(m.config.dropout): r.choosing_loss for m, _, r in found}
    about = {
        "learned": learned,
        "chosen on": CHOOSING,
        "choosing loss by dropout": tried,
        "model": asdict(model.config),
        "train": asdict(config),
        "weights_sha256": checkpoints.weights_sha256(model),
        "environment": runs.environment(device),
        **asdict(result),
    }
    checkpoints.save_model(folder / "judge.safetensors", model, tokenizer.alphabet, torch.float16)
    files.write(folder / "judge.json", json.dumps(about, indent=1).encode())


def ship(folder):
    """Its matrices in whole numbers, and how far that is from what was trained."""
    model, tokenizer = checkpoints.load_model(folder / "judge.safetensors")
    T = model.config.context_length
    learned = json.loads((folder / "judge.json").read_text(encoding="utf-8"))["learned"]
    ids, held_out = (torch.tensor(tokenizer.encode(text_of(n))) for n in (learned, CHOOSING))
    seen = get_batch(ids, 32_768 // T, T, torch.Generator().manual_seed(0))[0]
    whole = rounded(model, seen)
    checkpoints.save_model(recorded.JUDGE, model, tokenizer.alphabet, torch.float16, whole)
    files.write(recorded.JUDGE.with_suffix(".json"), (folder / "judge.json").read_bytes())

    held_out = held_out[: 4 * T].view(-1, T)
    with torch.no_grad():
        exact = model(held_out).flatten(0, 1)
        kept = checkpoints.load_model(recorded.JUDGE)[0](held_out).flatten(0, 1)
    worst, same = difference(kept, exact)
    print(f"worst logit error {worst:.3f}, likeliest character equal in {same:.1%}")


def judged():
    """A row a text: whose it is, its plausibility and its coherence."""
    judge, tokenizer = checkpoints.load_model(recorded.JUDGE)
    judge = judge.to(profiles.device())
    texts = recorded.texts()
    length = int(texts["text"].str.len().min())
    real = quality.stretches(corpus.load().text, length, HUMAN_TEXTS)
    human = pd.DataFrame({"arm": quality.HUMAN, "text": real})
    together = pd.concat([texts, human])[[*KEY, "text"]]

    groups = together.groupby(["study", "arm", "temperature"], dropna=False)
    parts = []
    for _, rows in tqdm(groups, desc="judging", unit="group"):
        ids = [tokenizer.encode(text[:length]) for text in rows["text"]]
        tokens = torch.tensor(ids, device=profiles.device())
        found = {"plausibility": plausibility(judge, tokens), "coherence": coherence(judge, tokens)}
        parts.append(rows[KEY].assign(**{name: of.numpy() for name, of in found.items()}))
    table = pd.concat(parts)
    table.to_csv(recorded.JUDGED, index=False, float_format="%.4f", lineterminator="\n")
    print(table.groupby(["study", "arm", "temperature"], dropna=False)[list(found)].mean().round(3))


def main():
    match sys.argv[1:]:
        case ["--train", folder]:
            train(Path(folder))
        case ["--ship", folder]:
            ship(Path(folder))
        case ["--texts"]:
            judged()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
