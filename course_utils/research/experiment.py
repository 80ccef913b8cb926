"""The whole experiment in one go: train every depth, compare, sample, draw, and write one page about it."""

from pathlib import Path

import torch
from tqdm import tqdm

from course_utils import figures, files
from course_utils.generation import quality
from course_utils.lessons.data import baseline_losses, split
from course_utils.lessons.train import evaluate
from course_utils.research import pool, report, studies
from course_utils.research.tables import arm_table, comparisons, curves, final_table
from course_utils.training import checkpoints, runs

LOSS_TOLERANCE = (
    1e-3  # nats/character, between a recorded loss and the same weights on another machine
)
SUFFIXES = {  # the assignment's names: its two first figures have no suffix in one language
    ("final_training_curve", "english"): "",
    ("final_training_curve", "chinese"): "_chinese",
    ("layer_ablation_comparison", "english"): "_english",
    ("layer_ablation_comparison", "chinese"): "",
    **{(name, language): f"_{language}" for name in ("parameters_vs_perplexity", "sample_comparison")
       for language in ("chinese", "english")},
}  # fmt: skip
FILES = (
    *(f"figures/{name}{suffix}.png" for (name, _), suffix in SUFFIXES.items()),
    *(
        f"tables/{name}.csv"
        for name in ("final_results", "layer_ablation_results", "generation_comparison")
    ),
    "report.html",
)


def depth_specs(profile, corpus, seeds=None, first_seed=0):
    """The runs of 2, 4 and 6 layers that this profile asks for."""
    all_seeds = range(first_seed, first_seed + (seeds or profile.seeds))
    return studies.STUDIES["depth"].specs(profile.study_recipe, all_seeds, corpus)


def run(profile, corpus, folder, seeds=None, device="cpu", workers=1, first_seed=0):
    """Everything that the results folder holds, from what is already there on. -> findings, a list of sentences"""
    folder = Path(folder)
    with files.lock(folder):
        records = pool.run(
            depth_specs(profile, corpus, seeds, first_seed),
            corpus,
            folder,
            device,
            workers,
            pool.announce,
        )
        tables = {"final_results": final_table(records), "curves": curves(records)}
        tables["layer_ablation_results"] = arm_table(tables["final_results"])
        first = {
            r.arm: checkpoints.load_model(r.checkpoint)[0].to(device)
            for r in records
            if r.seed == first_seed
        }
        judge, total = quality.Judge(corpus), len(first) * len(quality.SETTINGS)
        with tqdm(total=total, desc="sampling", unit="text", disable=None) as bar:
            tables["generation_comparison"] = quality.compare_samples(
                first,
                judge,
                corpus.fitting_prompt(),
                profile.sample_characters,
                first_seed,
                on_sample=bar.update,
            )
        baselines = baseline_losses(corpus.text)
        findings = conclude(records, tables, baselines)
        write(folder, tables, baselines, findings, corpus, records)
    return findings


def conclude(records, tables, baselines):
    """What was found, in words that the numbers allow."""
    said = []
    n_gram, best_n_gram = min(baselines.items(), key=lambda item: item[1])
    for row in tables["layer_ablation_results"].itertuples():
        place = "below" if row.validation_loss < best_n_gram else "not below"
        seeds = f"mean of {row.seeds} seeds" if row.seeds > 1 else "one seed"
        reached = (
            f"{row.validation_loss:.3f} nats/character, perplexity {row.perplexity:.2f} ({seeds})"
        )
        said.append(f"{row.arm}: {reached}, {place} the {n_gram}'s {best_n_gram:.3f}.")
    return said + [comparison.verdict for comparison in comparisons(records)]


def write(folder, tables, baselines, findings, corpus, records):
    """Tables, figures in both languages, and the page."""
    for name in ("final_results", "layer_ablation_results", "generation_comparison"):
        files.write(
            folder / "tables" / f"{name}.csv", tables[name].to_csv(index=False).encode("utf-8-sig")
        )
    drawn = draw(tables, baselines, corpus.note)
    for name, figure in drawn.items():
        files.write(folder / name, figure.png())
    facts = {
        "corpus": corpus.describe(),
        "corpus sha256": corpus.sha256,
        "recipe": records[0].recipe,
    }
    facts |= {"seeds": ", ".join(sorted({str(r.seed) for r in records})), **records[0].environment}
    shown = {
        "One row a depth": tables["layer_ablation_results"],
        "One row a run": tables["final_results"],
    }
    shown["One row a sample"] = tables["generation_comparison"]
    english, chinese = (
        [f for f in drawn.values() if f.language == language] for language in ("english", "chinese")
    )
    titles = [figure.get_suptitle().split("\n")[0] for figure in english]
    pictures = dict(
        zip(titles + [f"{title} (in Chinese)" for title in titles], english + chinese, strict=True)
    )
    report.write(folder, shown, pictures, findings, corpus.note, facts)


def draw(tables, baselines, note):
    """Every figure of the results folder: {file name: Figure}."""
    final, arms = tables["final_results"], tables["layer_ablation_results"]
    kept = quality.like(tables["generation_comparison"], quality.SETTINGS[-1])
    drawn = {}
    for language in ("english", "chinese"):
        both = {"language": language, "note": note}
        made = {
            "final_training_curve": figures.training_curves(tables["curves"], baselines, **both),
            "layer_ablation_comparison": figures.ablation_bars(arms, final, baselines, **both),
            "parameters_vs_perplexity": figures.parameters_vs_perplexity(
                arms, final, baselines=baselines, **both
            ),
            "sample_comparison": figures.sample_comparison(kept, **both),
        }
        drawn |= {
            f"figures/{name}{SUFFIXES[name, language]}.png": figure for name, figure in made.items()
        }
    return drawn


def verify(folder, corpus, device="cpu"):
    """What is wrong with a results folder, as a list of short sentences: empty if nothing is.

    Every file is there, every record has its weights, and the weights give the recorded loss on the validation split.
    """
    problems = [
        f"{name} is missing"
        for name in FILES
        if not (folder / name).is_file() or not (folder / name).stat().st_size
    ]
    records = runs.load_all(folder)
    if not records:
        problems.append("logs holds no run")
    ids = None
    for record in records:
        if record.corpus["sha256"] != corpus.sha256:
            problems.append(f"{record.name} was trained on another text ({record.corpus['name']})")
            continue
        try:
            model, tokenizer = checkpoints.load_model(record.checkpoint)
        except files.RunError as error:
            problems.append(str(error))
            continue
        if ids is None:
            ids = split(torch.tensor(tokenizer.encode(corpus.text)))[1].to(device)
        loss = evaluate(model.to(device), ids)
        if abs(loss - record.validation_loss) > LOSS_TOLERANCE:
            problems.append(
                f"{record.name} gives {loss:.4f}, its record says {record.validation_loss:.4f}"
            )
    return problems
