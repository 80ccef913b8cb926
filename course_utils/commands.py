"""What each subcommand of `course` does: thin calls into the package, imported as it is needed."""

import difflib
import sys
from importlib import import_module

from course_utils.messages import _
from course_utils.messages.lines import width
from course_utils.messages.names import translated


def run(args):
    from course_utils.research import experiment

    findings = experiment.run(
        args.profile,
        args.text,
        args.out,
        seeds=args.seeds,
        device=args.device,
        workers=args.workers,
        first_seed=args.seed or 0,
    )
    print(_("\nWhat was found"))
    for sentence in findings:
        print(f"  {sentence}")
    print(_("\nTables, figures, logs and checkpoints are in {out}.", out=args.out))
    print(_("Open {out} first.", out=args.out / "report.html"))
    if args.text.note:
        print(args.text.note)


def data(args):
    from course_utils.lessons.data import baseline_losses

    print(f"sha256 {args.text.sha256}")
    print(_("Loss on the last tenth, counted on the rest, in nats/character:"))
    for name, loss in baseline_losses(args.text.text).items():
        words = translated(name)
        print(f"  {words}{' ' * (8 - width(words))} {loss:.4f}")


def run_all(args, specs):
    """Run what is not yet in the folder, and say so as each run ends. -> list of RunRecord"""
    from course_utils import files
    from course_utils.research import pool

    with files.lock(args.out):
        return pool.run_specs(
            specs,
            args.text,
            args.out,
            device=args.device,
            on_record=pool.announce,
            asked=args.asked,
        )


def train(args):
    from course_utils.training import runs

    recipe = args.recipe or args.profile.study_recipe
    specs = [
        runs.training_spec(recipe, seed, args.text, args.layers, args.steps)
        for seed in range(args.seed, args.seed + args.seeds)
    ]
    for record in run_all(args, specs):
        print(
            _(
                "{validation_loss:.4f} nats/character; weights: {checkpoint}",
                validation_loss=record.validation_loss,
                checkpoint=record.checkpoint,
            )
        )


def ablate(args):
    from course_utils import files
    from course_utils.research import groups, pool, studies
    from course_utils.research.terminal import say

    names = list(dict.fromkeys(studies.RECORDED if args.study == ["recorded"] else args.study))
    if unknown := [name for name in names if name not in studies.STUDIES]:
        choices = ", ".join(studies.STUDIES)
        args.parser.error(
            _(
                "unknown study {unknown!r} (choose from {choices}, recorded)",
                unknown=unknown[0],
                choices=choices,
            )
        )

    chosen = [studies.STUDIES[name] for name in names]
    waiting = [study for study in chosen if study.after in names]
    ready = [study for study in chosen if study not in waiting]
    with files.lock(args.out):
        for together in filter(None, (ready, waiting)):
            specs = [
                spec
                for study in together
                for spec in studies.planned(
                    study,
                    args.profile,
                    args.text,
                    args.out,
                    recipe=args.recipe,
                    seeds=args.seeds,
                    first_seed=args.seed,
                )
            ]
            records = pool.run_specs(
                specs,
                args.text,
                args.out,
                device=args.device,
                workers=args.workers,
                on_record=pool.announce,
                asked=args.asked,
                scheduler=args.scheduler,
            )
            for study in together:
                asked = zip(specs, records, strict=True)
                group = groups.of_study(study, [r for spec, r in asked if spec.study == study.name])
                say(f"\n{study.question}\n{groups.in_words(group)}")


def compare(args):
    from course_utils.research import groups
    from course_utils.research.terminal import say
    from course_utils.training import runs

    records = runs.load_all(args.out, args.text)
    name_copies(args.out)
    if not records:
        raise ValueError(
            _(
                "{out} holds no run to compare; `course run` or `course ablate` makes some",
                out=args.out,
            )
        )
    for group in groups.of_folder(records):
        say(f"\n{groups.in_words(group)}")


def name_copies(folder):
    """Say which files among the records are none."""
    from course_utils.research.terminal import say
    from course_utils.training import runs

    for path, name in runs.misnamed(folder).items():
        say(
            _(
                "Left out: logs/{file}, as what it holds is called {name}.json.",
                file=path.name,
                name=name,
            )
        )


def generate(args):
    import torch

    from course_utils import files
    from course_utils.generation import writer
    from course_utils.research.terminal import say
    from course_utils.training import checkpoints, runs

    checkpoint = args.checkpoint
    if not checkpoint:
        record = runs.best([args.out, files.PUBLISHED], args.text)
        checkpoint = record.checkpoint
        words = _(
            "Written by {arm}, seed {seed}, {loss:.3f} nats/character: {checkpoint}",
            arm=translated(record.arm),
            seed=record.seed,
            loss=record.validation_loss,
            checkpoint=checkpoint,
        )
        say(words, sys.stderr)
    alphabet = "".join(sorted(set(args.text.text))) if args.text else None
    model, tokenizer = checkpoints.load_model(checkpoint, alphabet)
    prompt = a_prompt(tokenizer.alphabet) if args.prompt is None else args.prompt
    tokens = torch.tensor([tokenizer.encode(prompt)], dtype=torch.int64, device=args.device)
    new = writer.stream(
        model.to(args.device),
        tokens,
        args.characters,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        generator=torch.Generator(args.device).manual_seed(args.seed),
    )
    first = next(new)  # what is wrong with the prompt is said before it is printed
    print(prompt, tokenizer.decode(first[0]), sep="", end="", flush=True)
    for token in new:
        print(tokenizer.decode(token[0]), end="", flush=True)
    print()


def a_prompt(alphabet):
    """What a text may begin with, where nobody said: Romeo, else a new line, else any character."""
    known = set(alphabet)
    return "ROMEO:\n" if known >= set("ROMEO:\n") else "\n" if "\n" in known else alphabet[0]


def recipes():
    """The names of all recipes."""
    from course_utils.training.recipes import RECIPES

    return list(RECIPES)


def studies():
    """The names of all studies, and of all that are recorded together."""
    from course_utils.research.studies import STUDIES

    return [*STUDIES, "recorded"]


def bench(args):
    from course_utils.bench import timing

    result = timing.benchmark(args.what, args.preset, args.text.text, args.device)
    print(timing.in_words(result))
    if args.json:
        timing.save(result, args.json.absolute())


def student(args):
    from course_utils import corpus

    try:
        from course_utils.classroom import grading, handout, sandbox

        import_module("ipykernel")
        import_module("nbclient")
    except ImportError as error:
        raise ValueError(
            _("`course student` needs Jupyter: pip install {name}", name=error.name)
        ) from None
    if args.grade:
        text = args.text or corpus.load()
        limits = sandbox.Limits(args.seconds, args.minutes)
        options = {"limits": limits, "unsafe": args.unsafe, "workers": args.workers}
        grading.grade(args.folder, args.grade, args.variant, text, **options)
        print(_("The grades are in {folder}.", folder=args.folder / "grades.csv"))
        return
    variant = args.variant or 0
    lessons, warnings = handout.hand_out(args.folder, variant)
    for warning in warnings:
        print(_("Look before you hand it out: {warning}", warning=warning))
    print(
        _(
            "{lessons} lessons without solutions, variant {variant}, are in {folder}.",
            lessons=len(lessons),
            variant=variant,
            folder=args.folder,
        )
    )


def verify(args):
    if args.rows:
        judge = judge_entries if args.rows[0].endswith(".json") else reproduce
        judge(args)
        return
    from course_utils.research import experiment
    from course_utils.research.terminal import say

    problems = experiment.verify(args.out, args.text, args.device)
    name_copies(args.out)
    for sentence in experiment.beside(args.out, args.text):
        say(sentence)
    if problems:
        raise ValueError(
            _(
                "{out} is not as it should be: {problems}",
                out=args.out,
                problems="; ".join(problems),
            )
        )
    say(
        _(
            "{out} is whole: every run of {name} gives its recorded loss.",
            out=args.out,
            name=args.text.name,
        )
    )


def reproduce(args):
    """Run published rows with a seed of one's own, and say whether their losses come again."""
    from course_utils.research import comparisons, recorded
    from course_utils.training import runs

    rows = recorded.rows(args.text)
    if unknown := [row for row in args.rows if row not in rows]:
        near = ", ".join(difflib.get_close_matches(unknown[0], rows, cutoff=0))
        words = _(
            "no row {row!r} is published, of {n}; the nearest names are {near}",
            row=unknown[0],
            n=len(rows),
            near=near,
        )
        raise ValueError(words)

    seed = 50 if args.seed is None else args.seed
    specs = [runs.spec_of(rows[row][0], seed) for row in args.rows]
    records = run_all(args, specs)
    answers = []
    for row, record in zip(args.rows, records, strict=True):
        losses = [r.validation_loss for r in rows[row]]
        answers.append(
            comparisons.compare_bits(row, record, rows[row])
            or comparisons.compare_with_recorded(row, record.validation_loss, losses)
        )
        print(answers[-1])
    if failed := [answer.row for answer in answers if answer.verdict == "not reproduced"]:
        raise ValueError(_("not reproduced: {failed}", failed=", ".join(failed)))


def judge_entries(args):
    """Try entries for the table of records on fresh seeds, and say whether their claims hold."""
    from course_utils import files
    from course_utils.research import entries
    from course_utils.research.terminal import say

    alphabet = set(args.text.text)
    read = [entries.Entry.load(path, len(alphabet)) for path in args.rows]
    missed = []
    with files.lock(args.out):
        for entry in read:
            tried = (args.device, args.seeds, args.seed, args.asked)
            result, path = entries.verify(entry, args.text, args.out, *tried)
            say(result.in_words())
            say(_("All that was measured: {path}", path=path))
            sentence = f"{entry.name}: {result.verdict()}"
            if result.holds:
                say(f"{sentence}.")
            else:
                missed.append(sentence)
    if missed:
        raise ValueError("; ".join(missed))


def doctor(args):
    from course_utils.bench import doctor

    findings = list(doctor.examine(args.corpus))
    print(doctor.report(findings))
    if sentence := doctor.main_sentence(findings):
        raise ValueError(sentence)
