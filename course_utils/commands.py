"""What each subcommand of `course` does: thin calls into the package, which is imported as it is needed."""

import difflib
from dataclasses import replace


def run_all(args):
    from course_utils.research import experiment

    findings = experiment.run(
        args.profile, args.text, args.out, args.seeds, args.device, args.workers, args.seed or 0
    )
    print("\nWhat was found\n" + "\n".join(f"  {sentence}" for sentence in findings))
    print(
        f"\nTables, figures, logs and checkpoints are in {args.out}; open {args.out / 'report.html'} first."
    )
    if args.text.note:
        print(args.text.note)


def show_data(args):
    from course_utils.lessons.data import baseline_losses

    print(
        f"sha256 {args.text.sha256}\nLoss on the last tenth, counted on the rest, in nats/character:"
    )
    for name, loss in baseline_losses(args.text.text).items():
        print(f"  {name:8} {loss:.4f}")


def train(args):
    from course_utils import files
    from course_utils.research import pool, studies
    from course_utils.training import engine, recipes

    recipe = args.recipe or args.profile.study_recipe
    layers = args.layers or recipes.named_recipe(recipe)[0].get("n_layers", 6)
    study = studies.Study("train", "", {f"{layers} layers": {"n_layers": layers}})
    specs = study.specs(recipe, range(args.seed, args.seed + args.seeds), args.text)
    if args.steps:
        specs = [replace(spec, train=replace(spec.train, steps=args.steps)) for spec in specs]
    with files.lock(args.out):
        options = {"on_record": pool.announce, "allow": engine.PIECES if args.compile else None}
        records = pool.run(specs, args.text, args.out, args.device, **options)
    for record in records:
        print(f"{record.validation_loss:.4f} nats/character; weights: {record.checkpoint}")


def ablate(args):
    from course_utils import files
    from course_utils.research import pool, studies
    from course_utils.training import engine

    names = list(dict.fromkeys(studies.RECORDED if args.study == ["recorded"] else args.study))
    if unknown := [name for name in names if name not in studies.STUDIES]:
        args.parser.error(
            f"unknown study {unknown[0]!r} (choose from {', '.join(studies.STUDIES)}, recorded)"
        )
    chosen = [studies.STUDIES[name] for name in names]
    waves = [s for s in chosen if s.after not in names], [s for s in chosen if s.after in names]
    with files.lock(args.out):
        for wave in filter(None, waves):
            specs = [spec for study in wave for spec in study_specs(study, args)]
            options = {"on_record": pool.announce, "scheduler": args.scheduler}
            options["allow"] = engine.PIECES if args.compile else None
            records = pool.run(specs, args.text, args.out, args.device, args.workers, **options)
            for study in wave:
                print(f"\n{study.question}")
                show_comparison(
                    [r for r, spec in zip(records, specs, strict=True) if spec.study == study.name]
                )


def study_specs(study, args):
    """The published study's runs on a GPU; on less, the same arms of the profile's own recipe, over its seeds."""
    from course_utils.research import recorded
    from course_utils.training import runs

    published = args.profile.name == "gpu" and study.recipe
    recipe = args.recipe or (study.recipe if published else args.profile.study_recipe)
    first = study.seeds.start if args.seed is None else args.seed
    count = args.seeds or (len(study.seeds) if published else args.profile.seeds)
    earlier = []
    if study.after:
        mine = [
            r
            for r in runs.load_all(args.out, args.text)
            if (r.study, r.recipe) == (study.after, recipe)
        ]
        earlier = mine or recorded.load(study.after, corpus=args.text)
    return study.specs(recipe, range(first, first + count), args.text, earlier)


def compare(args):
    from course_utils.training import runs

    records = runs.load_all(args.out, args.text)
    if not records:
        raise ValueError(
            f"{args.out} holds no run to compare; `course run` or `course ablate` makes some"
        )
    show_comparison(records)


def show_comparison(records):
    from course_utils.research import effects, studies, tables

    for title, group in tables.by_study(records).items():
        table = tables.arm_table(tables.final_table(group))
        print(
            f"\n{title}\n"
            + table.drop(columns="corpus").to_string(index=False, float_format="{:.4g}".format)
        )
        if any(r.arm == studies.REFERENCE for r in group):
            found = effects.effects(group, studies.REFERENCE)
            print(
                f"\nAgainst {studies.REFERENCE}\n"
                + found.to_string(index=False, float_format="{:.3g}".format)
            )
        else:
            for comparison in tables.comparisons(group):
                print(comparison.verdict)


def generate(args):
    import torch

    from course_utils import files
    from course_utils.generation.writer import stream
    from course_utils.training import checkpoints, runs

    checkpoint = args.checkpoint or runs.best([args.out, files.PUBLISHED], args.text).checkpoint
    model, tokenizer = checkpoints.load_model(
        checkpoint, args.text and "".join(sorted(set(args.text.text)))
    )
    tokens = torch.tensor([tokenizer.encode(args.prompt)], dtype=torch.int64, device=args.device)
    generator = torch.Generator(args.device).manual_seed(args.seed)
    settings = (args.characters, args.temperature, args.top_k, args.top_p, generator)
    new = stream(model.to(args.device), tokens, *settings)
    first = next(new)  # what is wrong with the prompt is said before it is printed
    print(args.prompt, tokenizer.decode(first[0]), sep="", end="", flush=True)
    for token in new:
        print(tokenizer.decode(token[0]), end="", flush=True)
    print()


def bench(args):
    from course_utils.bench import timing

    found = timing.benchmark(args.what, args.preset, args.text.text, args.device)
    print(timing.in_words(found))
    if args.json:
        timing.save(found, args.json.absolute())


def student(args):
    from course_utils.classroom import grading, handout

    if args.grade:
        grading.grade(args.folder, args.grade, args.variant, args.seconds)
        print(f"The grades are in {args.folder / 'grades.csv'}.")
    else:
        lessons = handout.hand_out(args.folder, args.variant or 0)
        print(
            f"{len(lessons)} lessons without solutions, variant {args.variant or 0}, are in {args.folder}."
        )


def verify(args):
    from course_utils.research import experiment

    if args.rows:
        return reproduce(args)
    problems = experiment.verify(args.out, args.text, args.device)
    if problems:
        raise ValueError(f"{args.out} is not as it should be: " + "; ".join(problems))
    print(
        f"{args.out} is whole: every file is there, and every checkpoint gives its recorded loss."
    )


def reproduce(args):
    """Run published rows with a seed of one's own, and say whether their losses come again."""
    from course_utils import files
    from course_utils.research import effects, pool, recorded
    from course_utils.training import runs

    rows = recorded.rows(args.text)
    if unknown := [row for row in args.rows if row not in rows]:
        near = difflib.get_close_matches(unknown[0], rows, cutoff=0)
        raise ValueError(
            f"no row {unknown[0]!r} is published, of {len(rows)}; the nearest names are {', '.join(near)}"
        )
    specs = [runs.spec_of(rows[row][0], args.seed) for row in args.rows]
    with files.lock(args.out):
        records = pool.run(specs, args.text, args.out, args.device, 1, pool.announce)
    answers = [
        effects.compare_with_recorded(
            row, record.validation_loss, [r.validation_loss for r in rows[row]]
        )
        for row, record in zip(args.rows, records, strict=True)
    ]
    print("\n".join(map(str, answers)))
    if failed := [answer.row for answer in answers if answer.verdict == "not reproduced"]:
        raise ValueError(f"not reproduced: {', '.join(failed)}")


def doctor(args):
    from course_utils.bench import doctor

    findings = list(doctor.examine(args.corpus))
    print(doctor.report(findings))
    if sentence := doctor.main_sentence(findings):
        raise ValueError(sentence)
