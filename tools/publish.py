"""Ship runs with the package: every record in one file, a few weights, a manifest of it all.

python tools/publish.py RESULTS...         their records take their places in the recorded study
python tools/publish.py --weights RESULTS  the runs themselves, for lessons and widget, made small
python tools/publish.py --texts RESULTS    what these runs write, measured
python tools/publish.py --manifest         only write the manifest anew
"""

import concurrent.futures
import functools
import hashlib
import json
import multiprocessing
import sys
from collections import defaultdict
from pathlib import Path

import pandas as pd
import torch
from rounding import difference, rounded

from course_utils import corpus, files, profiles
from course_utils.generation import quality
from course_utils.lessons.data import get_batch, split
from course_utils.research import recorded
from course_utils.training import checkpoints, runs

MANIFEST = files.PUBLISHED / "manifest.json"
LARGE = 1_500_000  # parameters; above, the blocks' matrices are kept in whole numbers
TEXT_SETTINGS = (
    quality.SETTINGS[-1],
    {"temperature": 1.0},
)  # how the lessons sample, and the model as it is


def add_records(folders):
    """A run that is there already is replaced by its new record."""
    kept = {(r.study, r.recipe, r.name): r for r in recorded.everything()}
    for folder in folders:
        kept |= {(r.study, r.recipe, r.name): r for r in runs.load_all(folder)}
    recorded.pack([kept[key] for key in sorted(kept)])
    recorded.everything.cache_clear()


def add_weights(folder):
    """Records as they are, and weights of the first seed, which are enough to write with."""
    for record in runs.load_all(folder):
        if record.checkpoint.is_file() and record.seed == 0:
            model, tokenizer = checkpoints.load_model(record.checkpoint)
            target = files.PUBLISHED / "checkpoints" / record.checkpoint.name
            seen, held_out = windows(record, tokenizer)
            whole = rounded(model, seen) if record.parameters > LARGE else {}
            checkpoints.save_model(target, model, tokenizer.alphabet, torch.float16, whole)
            with torch.no_grad():
                exact = model(held_out).flatten(0, 1)
                kept = checkpoints.load_model(target)[0](held_out).flatten(0, 1)
            worst, same = difference(kept, exact)
            about = f"worst logit error {worst:.3f}, likeliest character equal in {same:.1%}"
            print(f"{record.name}: {about}, over {len(kept):,} held-out positions")
        record.save(files.PUBLISHED)


def windows(record, tokenizer):
    """Of the text that a run was trained on, 32,768 characters, and 2,560 held out; (B, T) each."""
    text = corpus.load()
    T = record.model["context_length"]
    if text.sha256 != record.corpus["sha256"]:
        trained = f"{record.name} was trained on {record.corpus['name']}"
        sys.exit(f"{trained}, which is not the text at hand")
    train, validation = split(torch.tensor(tokenizer.encode(text.text)))
    train = train[: round(record.data_share * len(train))]
    seen = get_batch(train, 32_768 // T, T, torch.Generator().manual_seed(0))[0]
    return seen, validation[: 2560 // T * T].view(-1, T)


def add_texts(folder):
    """Three prompts, two settings, a thousand characters each; the run's own seed draws them."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(profiles.cores() // 2, context) as pool:
        new = pd.concat(
            pool.map(texts_of, [r for r in runs.load_all(folder) if r.checkpoint.is_file()])
        )
    key = ["study", "recipe", "arm", "seed", "prompt", "temperature", "top_k", "top_p"]
    table = (
        pd.concat([recorded.texts(), new])
        .drop_duplicates(key, keep="last")
        .sort_values(key, ignore_index=True)
    )
    table.to_csv(recorded.TEXTS, index=False, float_format="%.4f", lineterminator="\n")


def texts_of(record):
    torch.set_num_threads(1)
    model = checkpoints.load_model(record.checkpoint)[0].to(profiles.device())
    tables = [
        quality.compare_samples(
            {record.arm: model}, judge(), prompt, 1000, record.seed, TEXT_SETTINGS
        )
        for prompt in quality.PROMPTS
    ]
    table = pd.concat(tables)
    written = table[table["arm"] != quality.HUMAN].astype({"seed": int})
    return written.assign(study=record.study, recipe=record.recipe)


@functools.cache
def judge():
    return quality.Judge(corpus.load())


def manifest():
    """What lies here, with its checksum; and of each study what ran, where, by which command."""
    studies = defaultdict(dict)
    for r in (*recorded.everything(), *runs.load_all(files.PUBLISHED)):
        studies[f"{r.study}, recipe {r.recipe}"][r.name] = r
    about = {name: about_study(list(studies[name].values())) for name in sorted(studies)}

    sums = checksums(files.PUBLISHED)
    files.write(MANIFEST, json.dumps({"studies": about, "files": sums}, indent=1).encode())
    size = sum((files.PUBLISHED / name).stat().st_size for name in sums)
    print(f"{len(sums)} files, {size / 1e6:.1f} MB")


def checksums(folder):
    """Of all files in it but the manifest: path -> SHA-256."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST.name)
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths
    }


def about_study(records):
    """One study's entry in the manifest."""
    machines = [r.environment for r in records]
    return {
        "runs": len(records),
        "arms": len({r.arm for r in records}),
        "seconds": round(sum(r.elapsed_s + r.setup_s for r in records)),
        "device": sorted({str(machine.get("device", "")) for machine in machines}),
        "torch": sorted({str(machine.get("torch", "")) for machine in machines}),
        "date": sorted({str(machine.get("date", "")) for machine in machines}),
        "commands": sorted({machine["command"] for machine in machines}),
        "corpus_sha256": sorted({r.corpus["sha256"] for r in records}),
    }


def main():
    options = {word for word in sys.argv[1:] if word.startswith("--")}
    folders = [Path(word) for word in sys.argv[1:] if word not in options]
    if options - {"--weights", "--texts", "--manifest"} or not (options or folders):
        sys.exit(__doc__)
    for folder in folders:
        if "--weights" in options:
            add_weights(folder)
        elif "--texts" in options:
            add_texts(folder)
    if folders and not options:
        add_records(folders)
    manifest()


if __name__ == "__main__":
    main()
