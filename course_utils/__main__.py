"""The `course` command: every subcommand is a thin call into the package. Exit codes: 0, 1 (failed), 2 (usage)."""

import argparse
import errno
import os
import sys
from dataclasses import replace
from pathlib import Path


class Parser(argparse.ArgumentParser):
    """Errors are one sentence."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}; `{self.prog} --help` explains.\n")


def number(kind, low, high=float("inf")):
    """A type for add_argument: a number between bounds."""

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            sort = "a whole number" if kind is int else "a number"
            bounds = f"of at least {low}" if high == float("inf") else f"from {low} to {high}"
            raise argparse.ArgumentTypeError(f"{text!r} is not {sort} {bounds}")
        return value

    return parse


def build_parser():
    """All subcommands and their options. Heavy imports wait until a subcommand runs."""
    parser = Parser(prog="course", description="Build, train, take apart and sample a Transformer on Tiny Shakespeare.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)

    def add(name, run, text):
        sub = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        sub.set_defaults(run=run, parser=sub)
        sub.add_argument("--profile", choices=("smoke", "laptop", "gpu"), help="how much work (default: by device)")
        sub.add_argument("--corpus", metavar="FILE", help="another UTF-8 text than Tiny Shakespeare")
        sub.add_argument("--out", metavar="DIR", type=Path, help="results folder (default: results in the checkout)")
        return sub

    def seeds(sub, default="the profile's"):
        sub.add_argument("--seed", type=number(int, 0), default=0, metavar="S", help="the first seed (default 0)")
        sub.add_argument("--seeds", type=number(int, 1), metavar="N", help=f"seeds an arm (default: {default})")
        sub.add_argument("--workers", type=number(int, 1), metavar="N", help="processes (default: one a core)")

    sub = add("run", run_all, "The whole experiment: train 2, 4 and 6 layers, compare, sample, draw, report.")
    seeds(sub)
    add("data", show_data, "Find the corpus, check it, and count what n-grams reach on it.")
    sub = add("train", train, "Train one model and keep its best weights.")
    sub.add_argument("--recipe", help="baseline (the assignment's own), laptop, modern, … (default: the profile's)")
    sub.add_argument("--layers", type=number(int, 1), metavar="N", help="(default: the recipe's)")
    sub.add_argument("--seed", type=number(int, 0), default=0, metavar="S", help="the first seed (default 0)")
    sub.add_argument("--seeds", type=number(int, 1), default=1, metavar="N", help="(default 1)")
    sub.add_argument("--steps", type=number(int, 1), metavar="N", help="(default: the recipe's)")
    sub.add_argument("--compile", action="store_true", help="on a GPU, even where it takes longer than it saves")
    sub = add("ablate", ablate, "Run one study, run by run; what is already there is kept.")
    sub.add_argument("study", nargs="?", default="depth", help="which (default: depth)")
    sub.add_argument("--recipe", help="a recipe's name (default: the profile's)")
    seeds(sub)
    add("compare", compare, "Compare the arms whose runs lie in the results folder, over paired seeds.")
    sub = add("generate", generate, "Write text with a trained model, character by character.")
    sub.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="(default: the best run in --out, else the published one)"
    )
    sub.add_argument("--prompt", default="ROMEO:\n", help="what the text begins with (default: ROMEO:)")
    sub.add_argument("--characters", type=number(int, 1), default=500, metavar="N", help="(default 500)")
    sub.add_argument("--temperature", type=number(float, 0), default=0.8, metavar="T", help="0 is greedy (default 0.8)")
    sub.add_argument("--top-k", type=number(int, 1), metavar="K", help="keep the K best characters")
    sub.add_argument("--top-p", type=number(float, 1e-9, 1), metavar="P", help="keep the smallest set of mass P")
    sub.add_argument("--seed", type=number(int, 0), default=0, metavar="S", help="(default 0)")
    sub = add("bench", bench, "Time training or writing, beside Hugging Face's GPT-2 and the machine's limits.")
    sub.add_argument("what", choices=("train", "generate", "scaling"), help="what to time")
    sub.add_argument("--preset", default="baseline", metavar="NAME", help="a recipe's name (default: baseline)")
    sub.add_argument("--json", type=Path, metavar="FILE", help="also write all that was measured to this file")
    add("verify", verify, "Check a results folder: every file is there, every checkpoint gives its recorded loss.")
    return parser


def run_all(args):
    from course_utils import experiment

    findings = experiment.run(args.profile, args.text, args.out, args.seeds, args.device, args.workers, args.seed)
    print("\nWhat was found\n" + "\n".join(f"  {sentence}" for sentence in findings))
    print(f"\nTables, figures, logs and checkpoints are in {args.out}; open {args.out / 'report.html'} first.")
    if args.text.note:
        print(args.text.note)


def show_data(args):
    from course_utils import experiment

    print(f"sha256 {args.text.sha256}\nLoss on the last tenth, counted on the rest, in nats/character:")
    for name, loss in experiment.baseline_losses(args.text).items():
        print(f"  {name:8} {loss:.4f}")


def train(args):
    from course_utils import engine, experiment, files, studies

    recipe = args.recipe or args.profile.study_recipe
    layers = args.layers or studies.named_recipe(recipe)[0].get("n_layers", 6)
    study = studies.Study("train", "", {f"{layers} layers": {"n_layers": layers}})
    specs = study.specs(recipe, range(args.seed, args.seed + args.seeds), args.text)
    if args.steps:
        specs = [replace(spec, train=replace(spec.train, steps=args.steps)) for spec in specs]
    with files.lock(args.out):
        options = {"on_record": experiment.announce, "allow": engine.PIECES if args.compile else None}
        records = studies.run(specs, args.text, args.out, args.device, **options)
    for record in records:
        print(f"{record.validation_loss:.4f} nats/character; weights: {record.checkpoint}")


def ablate(args):
    from course_utils import experiment, files, studies

    if args.study not in studies.STUDIES:
        args.parser.error(f"unknown study {args.study!r} (choose from {', '.join(studies.STUDIES)})")
    study = studies.STUDIES[args.study]
    print(study.question)
    seeds = range(args.seed, args.seed + (args.seeds or args.profile.seeds))
    specs = study.specs(args.recipe or args.profile.study_recipe, seeds, args.text)
    with files.lock(args.out):
        records = studies.run(specs, args.text, args.out, args.device, args.workers, experiment.announce)
    show_comparison(records)


def compare(args):
    from course_utils import runs

    records = runs.load_all(args.out, args.text)
    if not records:
        raise ValueError(f"{args.out} holds no run to compare; `course run` or `course ablate` makes some")
    show_comparison(records)


def show_comparison(records):
    from course_utils import studies

    for title, group in studies.by_study(records).items():
        table = studies.arm_table(studies.final_table(group))
        print(f"\n{title}\n" + table.drop(columns="corpus").to_string(index=False, float_format="{:.4g}".format))
        for comparison in studies.comparisons(group):
            print(comparison.verdict)


def generate(args):
    import torch

    from course_utils import paths, runs
    from course_utils.writer import stream

    checkpoint = args.checkpoint or runs.best([args.out, paths.PUBLISHED], args.text).checkpoint
    model, tokenizer = runs.load_model(checkpoint, args.text and "".join(sorted(set(args.text.text))))
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
    from course_utils import bench

    found = bench.run(args.what, args.preset, args.text.text, args.device)
    print(bench.in_words(found))
    if args.json:
        bench.save(found, args.json.absolute())


def verify(args):
    from course_utils import experiment

    problems = experiment.verify(args.out, args.text, args.device)
    if problems:
        raise ValueError(f"{args.out} is not as it should be: " + "; ".join(problems))
    print(f"{args.out} is whole: every file is there, and every checkpoint gives its recorded loss.")


def main(argv=None):
    """Run one subcommand; print errors as one sentence."""
    parser = build_parser()
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        allowed = " ".join(args.parser.format_usage().removeprefix("usage: ").split())
        args.parser.error(f"unknown argument {' '.join(unknown)} (allowed: {allowed})")
    try:
        from course_utils import corpus, paths, profiles

        args.profile = profiles.current(args.profile)
        args.device = profiles.device()
        args.out = (args.out or paths.results()).absolute()
        if hasattr(args, "workers"):
            args.workers = args.workers or (1 if args.device.type != "cpu" else profiles.cores())
        args.text = None
        if args.corpus or args.run not in (generate, compare):  # these two can do without a text
            args.text = corpus.load(args.corpus)
        if args.text and args.run is not generate:
            print(args.text.describe(), flush=True)
        args.run(args)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt as stop:
        done = stop.args[0] if stop.args else "stopped; finished runs are kept, and the same command goes on from them"
        print(f"\ncourse: {done}", file=sys.stderr)
        return 130
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        advice = "free some space" if error.errno == errno.ENOSPC else "choose another folder with --out"
        print(f"course: {error.strerror or error}{where}: {advice}; finished runs are kept", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"course: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
