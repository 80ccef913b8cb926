"""The whole experiment: train every depth, compare, sample, draw, and write one page about it."""

from dataclasses import replace
from pathlib import Path

import torch

from course_utils import figures, files
from course_utils.generation import quality
from course_utils.lessons.data import baseline_losses, split
from course_utils.lessons.train import evaluate
from course_utils.messages import _, ngettext
from course_utils.messages.names import translated
from course_utils.research import (
    comparisons,
    costs,
    groups,
    pool,
    report,
    report_sheets,
    report_text,
    studies,
)
from course_utils.research.report_text import Material
from course_utils.research.tables import (
    arm_table,
    baseline_table,
    comparison_table,
    curves,
    final_table,
)
from course_utils.research.terminal import say
from course_utils.training import checkpoints, runs

LOSS_TOLERANCE = 1e-3  # nats/character, between a record and the same weights on another machine
CURVE_POINTS = 10  # exact evaluations a run, at even distances, so that a curve is one
TABLES = (
    "final_results",
    "layer_ablation_results",
    "generation_comparison",
    "comparisons",
    "baselines",
)
SUFFIXES = {  # how each figure's file ends: the assignment's names, two of them without a language
    "final_training_curve": {"english": "", "chinese": "_chinese"},
    "layer_ablation_comparison": {"english": "_english", "chinese": ""},
    "parameters_vs_perplexity": {"english": "_english", "chinese": "_chinese"},
    "sample_comparison": {"english": "_english", "chinese": "_chinese"},
}
FIGURES = {  # what the report calls them
    "curve": "final_training_curve",
    "bars": "layer_ablation_comparison",
    "parameters": "parameters_vs_perplexity",
    "texts": "sample_comparison",
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
                _(
                    "{folder} is about another text: it, its tables and its figures will be "
                    "replaced. The runs of that text are kept.",
                    folder=folder / "report.html",
                )
            )
        depth = studies.STUDIES["depth"]
        specs = studies.planned(depth, profile, corpus, folder, seeds=seeds, first_seed=first_seed)
        specs = [replace(spec, curve_points=CURVE_POINTS) for spec in specs]
        records = pool.run_specs(specs, corpus, folder, device, workers, pool.announce)

        first = [record for record in records if record.seed == first_seed]
        models = {r.arm: checkpoints.load_model(r.checkpoint)[0].to(device) for r in first}
        final = final_table(records)
        costs_here = costs.of_arms(models, first, corpus, profile.sample_characters)
        group = groups.of_study(depth, records)
        material = Material(
            corpus=corpus,
            records=records,
            curves=by_epoch(curves(records), corpus),
            final=final,
            arms=arm_table(final).merge(costs_here, on="arm"),
            texts=sample(models, corpus, profile.sample_characters, first_seed),
            baselines=baseline_losses(corpus.text),
            comparisons=[] if group.silent else comparisons.adjacent(records),
            others=others(folder, corpus, records),
        )
        write(folder, material)
    return [*reached(material.arms, material.baselines), *groups.verdicts(group)]


def others(folder, corpus, records):
    """What else of this text lies in the folder: groups of arms that are not all among these."""
    try:
        found = groups.of_folder(runs.load_all(folder, corpus))
    except files.RunError as error:  # a damaged record of another study: these runs are sound
        say(error)
        return []
    told = {r.name for r in records}
    return [g for g in found if len(g.arms) > 1 and not told >= {r.name for r in g.records}]


def by_epoch(curves, corpus):
    """The curves with how many times the training text's characters were read by then."""
    return curves.assign(epoch=curves["characters"] / len(split(corpus.text)[0]))


def sample(models, corpus, characters, seed):
    """What each model writes, with every setting, beside as much human text: a row a text."""
    prompt = corpus.fitting_prompt()
    return quality.compare_samples(models, quality.Judge(corpus), prompt, characters, seed)


def reached(arms, baselines):
    """What each arm reached, a sentence each. arms: tables.arm_table"""
    sentences = []
    n_gram, best_n_gram = min(baselines.items(), key=lambda item: item[1])
    for row in arms.itertuples():
        better = row.validation_loss < best_n_gram
        sentence = _(
            "{arm}: {loss:.3f} nats/character, perplexity {perplexity:.2f} ({seeds}), {place} the "
            "best n-gram model ({n_gram}: {best:.3f}).",
            arm=translated(row.arm),
            loss=row.validation_loss,
            perplexity=row.perplexity,
            seeds=ngettext("one seed", "mean of {n} seeds", row.seeds),
            place=_("better than") if better else _("worse than"),
            n_gram=translated(n_gram),
            best=best_n_gram,
        )
        sentences.append(sentence)
    return sentences


def write(folder, material):
    """Tables, figures in both languages, and the page. material: report_text.Material"""
    tables = {
        "final_results": material.final,
        "layer_ablation_results": material.arms,
        "generation_comparison": material.texts,
        "comparisons": comparison_table(material.comparisons),
        "baselines": baseline_table(material.baselines),
    }
    for name, table in tables.items():
        files.write(folder / "tables" / f"{name}.csv", files.csv_bytes(table))
    others = folder / "tables" / "other_ablations.csv"
    others.unlink(missing_ok=True)  # of runs that lie here no more
    if material.others:
        files.write(others, files.csv_bytes(report_sheets.study_table(material.others)))
    drawn = draw(material)
    for name, figure in drawn.items():
        files.write(folder / name, figure.png())

    pictures = {
        name: {language: drawn[figure_file(file, language)] for language in ("english", "chinese")}
        for name, file in FIGURES.items()
    }
    report.write(folder, material, pictures)


def figure_file(name, language):
    return f"figures/{name}{SUFFIXES[name][language]}.png"


def draw(material):
    """Every figure of the results folder: {file name: Figure}. material: report_text.Material"""
    final, arms, baselines = material.final, material.arms, material.baselines
    texts = quality.like(material.texts, quality.SETTINGS[-1])
    drawn = {}
    for language in ("english", "chinese"):
        how = {"language": language, "note": material.corpus.note}
        title = {
            name: getattr(said, language) for name, said in report_text.titles(material).items()
        }
        made = {
            "final_training_curve": figures.training_curves(
                material.curves, baselines, x="epoch", title=title["curve"], **how
            ),
            "layer_ablation_comparison": figures.ablation_bars(
                arms, final, baselines, title=title["bars"], **how
            ),
            "parameters_vs_perplexity": figures.parameters_vs_perplexity(
                arms, final, baselines=baselines, title=title["parameters"], **how
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
        problems += [_("{name} is missing", name=name) for name in FILES if name not in written]
        problems += [
            _("{name} is empty", name=name)
            for name in written
            if not (folder / name).stat().st_size
        ]

    records = runs.load_all(folder, corpus)
    if not records:
        problems.append(_("logs holds no run of {name}", name=corpus.name))
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
        yield _("{name} has other weights than its record says", name=record.name)
        return
    validation_ids = split(torch.tensor(tokenizer.encode(corpus.text)))[1]
    loss = evaluate(model.to(device), validation_ids.to(device))
    if not abs(loss - record.validation_loss) <= LOSS_TOLERANCE:  # no number is wrong too
        yield _(
            "{name} gives {loss:.4f}, its record says {validation_loss:.4f}",
            name=record.name,
            loss=loss,
            validation_loss=record.validation_loss,
        )


def beside(folder, corpus):
    """What else lies in the folder, which verify did not judge. -> list of sentences"""
    sentences = []
    others = [r for r in runs.load_all(folder) if r.corpus["sha256"] != corpus.sha256]
    if others:
        names = ", ".join(sorted({r.corpus["name"] for r in others}))
        sentences.append(
            _(
                "Not judged: {others} runs of another text ({names}).",
                others=len(others),
                names=names,
            )
        )
    if report.is_of_another_text(folder, corpus):
        sentences.append(
            _("Not judged: the report, tables and figures, which are about another text.")
        )
    return sentences
