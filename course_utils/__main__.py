"""The `course` command: every subcommand is a thin call into the package. Exit codes: 0, 1 (failed), 2 (usage)."""

import argparse
import contextlib
import errno
import os
import sys
from pathlib import Path

from course_utils import commands

# What is printed is read, never obeyed: no escape code in a prompt, a text or a file's name reaches a terminal.
OBEYED = {*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)} - set(
    b"\t\n"
)
SHOWN = {code: chr(code).encode("unicode_escape").decode() for code in OBEYED}


def plain(text):
    """The text, its control characters and turns of direction shown as Python writes them, "\\x1b"."""
    return str(text).translate(SHOWN)


class Plain:
    """A stream to which everything is written in plain text."""

    def __init__(self, stream):
        self.stream = stream

    def write(self, text):
        return self.stream.write(plain(text))

    def __getattr__(self, name):
        return getattr(self.stream, name)


class Parser(argparse.ArgumentParser):
    """Errors are one sentence."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {plain(message)}; `{self.prog} --help` explains.\n")


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
    parser = Parser(
        prog="course",
        description="Build, train, take apart and sample a Transformer on Tiny Shakespeare.",
    )
    subcommands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=Parser
    )

    def add(name, run, text):
        sub = subcommands.add_parser(name, help=text, description=text, allow_abbrev=False)
        sub.set_defaults(run=run, parser=sub)
        sub.add_argument(
            "--profile",
            choices=("smoke", "laptop", "gpu"),
            help="how much work (default: by device)",
        )
        sub.add_argument(
            "--corpus", metavar="FILE", help="another UTF-8 text than Tiny Shakespeare"
        )
        sub.add_argument(
            "--out",
            metavar="DIR",
            type=Path,
            help="results folder (default: results in the checkout)",
        )
        return sub

    def seeds(sub, default="the profile's"):
        sub.add_argument(
            "--seed",
            type=number(int, 0),
            metavar="S",
            help="the first seed (default: the study's, or 0)",
        )
        sub.add_argument(
            "--seeds", type=number(int, 1), metavar="N", help=f"seeds an arm (default: {default})"
        )
        words = "processes (default: one a core, or one a GPU)"
        sub.add_argument("--workers", type=number(int, 1), metavar="N", help=words)

    def compiled(sub):
        sub.add_argument(
            "--compile",
            action="store_true",
            help="on a GPU, even where it takes longer than it saves",
        )

    sub = add(
        "run",
        commands.run_all,
        "The whole experiment: train 2, 4 and 6 layers, compare, sample, draw, report.",
    )
    seeds(sub)
    add(
        "data", commands.show_data, "Find the corpus, check it, and count what n-grams reach on it."
    )
    sub = add("train", commands.train, "Train one model and keep its best weights.")
    sub.add_argument(
        "--recipe",
        help="baseline (the assignment's own), laptop, modern, … (default: the profile's)",
    )
    sub.add_argument("--layers", type=number(int, 1), metavar="N", help="(default: the recipe's)")
    sub.add_argument(
        "--seed", type=number(int, 0), default=0, metavar="S", help="the first seed (default 0)"
    )
    sub.add_argument("--seeds", type=number(int, 1), default=1, metavar="N", help="(default 1)")
    sub.add_argument("--steps", type=number(int, 1), metavar="N", help="(default: the recipe's)")
    compiled(sub)
    sub = add("ablate", commands.ablate, "Run studies, run by run; what is already there is kept.")
    words = "which (default: depth); recorded is all that the book shows"
    sub.add_argument("study", nargs="*", default=["depth"], help=words)
    sub.add_argument("--recipe", help="a recipe's name (default: the profile's)")
    sub.add_argument(
        "--scheduler", metavar="ADDRESS", help="a Dask scheduler, whose workers run it"
    )
    compiled(sub)
    seeds(sub)
    add(
        "compare",
        commands.compare,
        "Compare the arms whose runs lie in the results folder, over paired seeds.",
    )
    sub = add(
        "generate", commands.generate, "Write text with a trained model, character by character."
    )
    sub.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="(default: the best run in --out, else the published one)",
    )
    sub.add_argument(
        "--prompt", default="ROMEO:\n", help="what the text begins with (default: ROMEO:)"
    )
    sub.add_argument(
        "--characters", type=number(int, 1), default=500, metavar="N", help="(default 500)"
    )
    sub.add_argument(
        "--temperature",
        type=number(float, 0),
        default=0.8,
        metavar="T",
        help="0 is greedy (default 0.8)",
    )
    sub.add_argument("--top-k", type=number(int, 1), metavar="K", help="keep the K best characters")
    sub.add_argument(
        "--top-p", type=number(float, 1e-9, 1), metavar="P", help="keep the smallest set of mass P"
    )
    sub.add_argument("--seed", type=number(int, 0), default=0, metavar="S", help="(default 0)")
    sub = add(
        "bench",
        commands.bench,
        "Time training or writing, beside Hugging Face's GPT-2 and the machine's limits.",
    )
    sub.add_argument("what", choices=("train", "generate", "scaling"), help="what to time")
    sub.add_argument(
        "--preset", default="baseline", metavar="NAME", help="a recipe's name (default: baseline)"
    )
    sub.add_argument(
        "--json", type=Path, metavar="FILE", help="also write all that was measured to this file"
    )
    sub = add(
        "student",
        commands.student,
        "Write the lessons without solutions, or grade notebooks that came back.",
    )
    sub.add_argument(
        "folder", metavar="DIR", type=Path, help="where the lessons, or grades.csv, are written"
    )
    sub.add_argument(
        "--variant",
        type=number(int, 0),
        metavar="N",
        help="other numbers in the exercises (default 0)",
    )
    sub.add_argument(
        "--grade", nargs="+", type=Path, metavar="NOTEBOOK", help="run the checks of these"
    )
    sub.add_argument(
        "--seconds",
        type=number(float, 1),
        default=60,
        metavar="S",
        help="the most a cell may take (60)",
    )
    words = "Check a results folder: every file is there, every checkpoint gives its recorded loss. Or run published rows."
    sub = add("verify", commands.verify, words)
    words = "published rows to run here, such as 'depth/laptop/2 layers': does the loss come again?"
    sub.add_argument("rows", nargs="*", metavar="ROW", help=words)
    sub.add_argument(
        "--seed",
        type=number(int, 0),
        default=50,
        metavar="S",
        help="a seed of your own (default 50)",
    )
    words = "Say what is on this machine, what it means for the course, and what to do about it."
    add("doctor", commands.doctor, words)
    return parser


def main(argv=None):
    """Run one subcommand; print errors as one sentence."""
    if hasattr(sys.stdout, "reconfigure"):  # printing never fails a run, whatever the code page
        sys.stdout.reconfigure(errors="backslashreplace")
    parser = build_parser()
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        allowed = " ".join(args.parser.format_usage().removeprefix("usage: ").split())
        args.parser.error(f"unknown argument {' '.join(unknown)} (allowed: {allowed})")
    try:
        from course_utils import corpus, files, profiles

        args.profile = profiles.current(args.profile)
        args.device = profiles.device()
        args.out = (args.out or files.results()).absolute()
        if hasattr(args, "workers"):
            args.workers = args.workers or profiles.parallel_runs(args.device)
        args.text = None
        without = (
            commands.generate,
            commands.compare,
            commands.student,
            commands.doctor,
        )  # these can do without a text
        if args.corpus or args.run not in without:
            args.text = corpus.load(args.corpus)
        with contextlib.redirect_stdout(Plain(sys.stdout)):
            if args.text and args.run is not commands.generate:
                print(args.text.describe(), flush=True)
            args.run(args)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt as stop:
        done = (
            stop.args[0]
            if stop.args
            else "stopped; finished runs are kept, and the same command goes on from them"
        )
        print(f"\ncourse: {done}", file=sys.stderr)
        return 130
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        advice = (
            "free some space" if error.errno == errno.ENOSPC else "choose another folder with --out"
        )
        print(
            plain(f"course: {error.strerror or error}{where}: {advice}; finished runs are kept"),
            file=sys.stderr,
        )
        return 1
    except ValueError as error:
        print(plain(f"course: {error}"), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
