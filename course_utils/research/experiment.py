"""The whole experiment: train every depth, compare, sample, draw, and write one page about it."""

from pathlib import Path

import torch
from tqdm import tqdm

from course_utils import figures, files
from course_utils.generation import quality
from course_utils.lessons.data import baseline_losses, split
from course_utils.lessons.train import evaluate
from course_utils.research import groups, pool, report, studies
from course_utils.research.tables import arm_table, curves, final_table
from course_utils.research.terminal import say
from course_utils.training import checkpoints, runs

LOSS_TOLERANCE = 1e-3  # nats/character, between a record and the same weights on another machine
TABLES = ("final_results", "layer_ablation_results", "generation_comparison")
SUFFIXES = {  # how each figure's file ends: the assignment's names, two of them without a language
    "final_training_curve": {"english": "", "chinese": "_chinese"},
    "layer_ablation_comparison": {"english": "_english", "chinese": ""},
    "parameters_vs_perplexity": {"english": "_english", "chinese": "_chinese"},
    "sample_comparison": {"english": "_english", "chinese": "_chinese"},
}
FILES = (
    *(f"figures/{name}{end}.png" for name, ends in SUFFIXES.items() for end in ends.values()),
    *(f"tables/{name}.csv" for name in TABLES),
    "report.html",
)


def run(profile, corpus, folder, seeds=0, device="cpu", workers=1, first_seed=0):
    """Everything that the results folder holds, from what is already there on. -> sentences"""
    folder = Path(folder)
    with files.lock(folder):
        if report.is_of_another_text(folder, corpus):
            say(
                f"{folder / 'report.html'} is about another text: it, its tables and its figures "
                "will be replaced. The runs of that text are kept."
            )
        depth = studies.STUDIES["depth"]
        specs = studies.planned(depth, profile, corpus, folder, seeds=seeds, first_seed=first_seed)
        records = pool.run_specs(specs, corpus, folder, device, workers, pool.announce)

        tables = {"final_results": final_table(records), "curves": curves(records)}
        tables["layer_ablation_results"] = arm_table(tables["final_results"])
        first = [record for record in records if record.seed == first_seed]
        tables["generation_comparison"] = sample(first, corpus, profile.sample_characters, device)

        baselines = baseline_losses(corpus.text)
        findings = reached(tables["layer_ablation_results"], baselines)
        findings += groups.verdicts(groups.of_study(depth, records))
        write(folder, tables, baselines, findings, corpus, records)
    return findings


def sample(records, corpus, characters, device):
    """What each model writes, with every setting, beside as much human text: a row a text."""
    models = {r.arm: checkpoints.load_model(r.checkpoint)[0].to(device) for r in records}
    judge = quality.Judge(corpus)
    prompt = corpus.fitting_prompt()
    seed = records[0].seed
    total = len(models) * len(quality.SETTINGS)
    with tqdm(total=total, desc="sampling", unit="text", disable=None) as bar:
        return quality.compare_samples(
            models, judge, prompt, characters, seed, on_sample=bar.update
        )


def reached(arms, baselines):
    """What each arm reached, a sentence each. arms: tables.arm_table"""
    sentences = []
    n_gram, best_n_gram = min(baselines.items(), key=lambda item: item[1])
    for row in arms.itertuples():
        place = "below" if row.validation_loss < best_n_gram else "not below"
        seeds = f"mean of {row.seeds} seeds" if row.seeds > 1 else "one seed"
        loss = f"{row.validation_loss:.3f} nats/character, perplexity {row.perplexity:.2f}"
        sentences.append(f"{row.arm}: {loss} ({seeds}), {place} the {n_gram}'s {best_n_gram:.3f}.")
    return sentences


def write(folder, tables, baselines, findings, corpus, records):
    """Tables, figures in both languages, and the page."""
    for name in TABLES:
        files.write(folder / "tables" / f"{name}.csv", files.csv_bytes(tables[name]))
    drawn = draw(tables, baselines, corpus.note)
    for name, figure in drawn.items():
        files.write(folder / name, figure.png())

    pictures = {}
    for language, words in (("english", ""), ("chinese", " (in Chinese)")):
        for name in SUFFIXES:
            title = drawn[figure_file(name, "english")].get_suptitle().split("\n")[0]
            pictures[title + words] = drawn[figure_file(name, language)]
    shown = {
        "One row a depth": tables["layer_ablation_results"],
        "One row a run": tables["final_results"],
        "One row a sample": tables["generation_comparison"],
    }
    facts = {
        "corpus": corpus.describe(),
        "corpus sha256": corpus.sha256,
        "recipe": records[0].recipe,
        "seeds": ", ".join(sorted({str(r.seed) for r in records})),
        **records[0].environment,
    }
    report.write(folder, shown, pictures, findings, corpus.note, facts)


def figure_file(name, language):
    return f"figures/{name}{SUFFIXES[name][language]}.png"


def draw(tables, baselines, note):
    """Every figure of the results folder: {file name: Figure}."""
    final = tables["final_results"]
    arms = tables["layer_ablation_results"]
    texts = quality.like(tables["generation_comparison"], quality.SETTINGS[-1])
    drawn = {}
    for language in ("english", "chinese"):
        how = {"language": language, "note": note}
        made = {
            "final_training_curve": figures.training_curves(tables["curves"], baselines, **how),
            "layer_ablation_comparison": figures.ablation_bars(arms, final, baselines, **how),
            "parameters_vs_perplexity": figures.parameters_vs_perplexity(
                arms, final, baselines=baselines, **how
            ),
            "sample_comparison": figures.sample_comparison(texts, **how),
        }
        drawn |= {figure_file(name, language): figure for name, figure in made.items()}
    return drawn


def verify(folder, corpus, device="cpu"):
    """What is wrong with the runs of this text, and with a report about it, if there is one.

    Every record has its weights, and they give the recorded loss; where `run` wrote a report, all
    of its files are there. -> list of short sentences, empty if nothing is wrong
    """
    problems = []
    written = [name for name in FILES if (folder / name).is_file()]
    if written and not report.is_of_another_text(folder, corpus):
        problems += [f"{name} is missing" for name in FILES if name not in written]
        problems += [f"{name} is empty" for name in written if not (folder / name).stat().st_size]

    records = runs.load_all(folder, corpus)
    if not records:
        problems.append(f"logs holds no run of {corpus.name}")
    for record in records:
        problems += wrong_with(record, corpus, device)
    return problems


def wrong_with(record, corpus, device):
    """What is wrong with one run: no sentence, or one."""
    try:
        model, tokenizer = checkpoints.load_model(record.checkpoint)
    except files.RunError as error:
        yield str(error)
        return
    hashed = record.weights_sha256 and checkpoints.is_whole(record.checkpoint)
    if hashed and checkpoints.weights_sha256(model) != record.weights_sha256:
        yield f"{record.name} has other weights than its record says"
        return
    validation_ids = split(torch.tensor(tokenizer.encode(corpus.text)))[1]
    loss = evaluate(model.to(device), validation_ids.to(device))
    if not abs(loss - record.validation_loss) <= LOSS_TOLERANCE:  # no number is wrong too
        yield f"{record.name} gives {loss:.4f}, its record says {record.validation_loss:.4f}"


def beside(folder, corpus):
    """What else lies in the folder, which verify did not judge. -> list of sentences"""
    sentences = []
    others = [r for r in runs.load_all(folder) if r.corpus["sha256"] != corpus.sha256]
    if others:
        names = ", ".join(sorted({r.corpus["name"] for r in others}))
        sentences.append(f"Not judged: {len(others)} runs of another text ({names}).")
    if report.is_of_another_text(folder, corpus):
        sentences.append(
            "Not judged: the report, tables and figures, which are about another text."
        )
    return sentences
