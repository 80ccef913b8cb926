"""The `course` command: options, and errors as one sentence.

Exit codes: 0, 1 (failed), 2 (usage), 130 (stopped by Ctrl-C).
"""

import argparse
import contextlib
import errno
import gc
import os
import signal
import sys
import textwrap
import threading
from pathlib import Path

from course_utils import commands
from course_utils.messages import N_, _, ngettext
from course_utils.research.terminal import Plain, plain

argparse._, argparse.ngettext = _, ngettext  # its own words in the reader's language too:
ITS_WORDS = (
    N_("usage: "),
    N_("positional arguments"),
    N_("options"),
    N_("show this help message and exit"),
    N_("the following arguments are required: %s"),
    N_("argument %(argument_name)s: %(message)s"),
    N_("invalid choice: %(value)r (choose from %(choices)s)"),
    N_("invalid %(type)s value: %(value)r"),
    N_("expected one argument"),
    N_("expected at least one argument"),
)

STOPPED = 130  # the exit code after Ctrl-C, as shells have it


class Help(argparse.HelpFormatter):
    """Breaks no name at a hyphen, so that each can be copied."""

    def _fill_text(self, text, width, indent):
        return textwrap.fill(
            text,
            width,
            initial_indent=indent,
            subsequent_indent=indent,
            break_on_hyphens=False,
        )


class Parser(argparse.ArgumentParser):
    """Errors are one sentence. Help ends with what can be chosen, which is looked up only then."""

    choices = ()  # pairs: what they are called, a function that gives their names

    def __init__(self, **settings):
        super().__init__(formatter_class=Help, **settings)

    def format_help(self):
        for title, names in self.choices:
            self.add_argument_group(_(title), ", ".join(names()))
        self.choices = ()
        return super().format_help()

    def error(self, message):
        self.exit(
            2,
            _(
                "{prog}: {problem}; `{prog} --help` explains.\n",
                prog=self.prog,
                problem=plain(message),
            ),
        )


def number(kind, low, high=float("inf")):
    """A type for add_argument: a number between bounds."""

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            sort = _("a whole number") if kind is int else _("a number")
            bounds = (
                _("of at least {low}", low=low)
                if high == float("inf")
                else _("from {low} to {high}", low=low, high=high)
            )
            raise argparse.ArgumentTypeError(
                _("{text!r} is not {sort} {bounds}", text=text, sort=sort, bounds=bounds)
            )
        return value

    return parse


# --- the subcommands and their options -----------------------------------------------------------
EXAMPLES = {  # of each, what follows its name
    "run": "--seeds 3 --out mine",
    "data": "--corpus my_text.txt",
    "train": "--recipe laptop --layers 2 --seeds 3",
    "ablate": "position norm --seeds 3",
    "compare": "--out mine",
    "generate": "--prompt JULIET: --temperature 0.5",
    "bench": "train --preset modern",
    "student": "grades --grade handed_in",
    "verify": "--out mine",
    "doctor": "--profile laptop",
}


def build_parser():
    """All subcommands and their options. Heavy imports wait until a subcommand runs."""
    parser = Parser(
        prog="course",
        description=_("Build, train, take apart and sample a Transformer on Tiny Shakespeare."),
    )
    subcommands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=Parser
    )
    for add in (add_run, add_data, add_train, add_ablate, add_compare):
        add(subcommands)
    for add in (add_generate, add_bench, add_student, add_verify, add_doctor):
        add(subcommands)
    return parser


def subcommand(subcommands, function, text, needs_text=True, shows_text=True):
    """A subparser of the function's name, with the options that all have.

    needs_text: whether a text is loaded even where no --corpus names one. shows_text: whether the
    first line says which.
    """
    name = function.__name__
    sub = subcommands.add_parser(name, help=text, description=text, allow_abbrev=False)
    sub.epilog = _("For example: course {name} {options}", name=name, options=EXAMPLES[name])
    sub.set_defaults(run=function, parser=sub, needs_text=needs_text, shows_text=shows_text)
    sub.add_argument(
        "--profile",
        choices=("smoke", "laptop", "gpu"),
        help=_("how much work (default: by device)"),
    )
    sub.add_argument("--corpus", metavar="FILE", help=_("another UTF-8 text than Tiny Shakespeare"))
    sub.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        help=_("results folder (default: results in the checkout)"),
    )
    return sub


def add_seeds(sub):
    words = _("the first seed (default: the study's, or 0)")
    sub.add_argument("--seed", type=number(int, 0), metavar="S", help=words)
    words = _("seeds an arm (default: the profile's)")
    sub.add_argument("--seeds", type=number(int, 1), default=0, metavar="N", help=words)
    words = _("processes (default: one a core, or one a GPU)")
    sub.add_argument("--workers", type=number(int, 1), metavar="N", help=words)


def add_asked(sub):
    """What can be asked of a GPU beyond the usual."""
    words = _("on a GPU, even where it takes longer than it saves")
    sub.set_defaults(asked=[])
    ask = {"dest": "asked", "action": "append_const"}
    sub.add_argument("--compile", const="compiled", help=words, **ask)
    words = _("on a GPU, the same bits at contexts over 256 too, for up to a fifth more time")
    sub.add_argument("--exact", const="exact", help=words, **ask)


RECIPES = N_("recipes (baseline is the assignment's own)"), commands.recipes


def add_run(subcommands):
    text = _("The whole experiment: train 2, 4 and 6 layers, compare, sample, draw, report.")
    add_seeds(subcommand(subcommands, commands.run, text))


def add_data(subcommands):
    text = _("Find the corpus, check it, and count what n-grams reach on it.")
    subcommand(subcommands, commands.data, text)


def add_train(subcommands):
    text = _("Train one model and keep its best weights.")
    sub = subcommand(subcommands, commands.train, text)
    sub.choices = (RECIPES,)
    words = _("one of the recipes below (default: the profile's)")
    sub.add_argument("--recipe", help=words)
    words = _("(default: the recipe's)")
    sub.add_argument("--layers", type=number(int, 1), metavar="N", help=words)
    sub.add_argument("--steps", type=number(int, 1), metavar="N", help=words)
    words = _("the first seed (default 0)")
    sub.add_argument("--seed", type=number(int, 0), default=0, metavar="S", help=words)
    sub.add_argument("--seeds", type=number(int, 1), default=1, metavar="N", help=_("(default 1)"))
    add_asked(sub)


def add_ablate(subcommands):
    text = _("Run studies, run by run; what is already there is kept.")
    sub = subcommand(subcommands, commands.ablate, text)
    sub.choices = (N_("studies"), commands.studies), RECIPES
    words = _("one or more of those below (default: depth); recorded is all that the book shows")
    sub.add_argument("study", nargs="*", default=["depth"], help=words)
    words = _("one of the recipes below (default: the profile's)")
    sub.add_argument("--recipe", default="", help=words)
    words = _("a Dask scheduler, whose workers run it")
    sub.add_argument("--scheduler", metavar="ADDRESS", help=words)
    add_asked(sub)
    add_seeds(sub)


def add_compare(subcommands):
    text = _("Compare the arms whose runs lie in the results folder, over paired seeds.")
    subcommand(subcommands, commands.compare, text, needs_text=False)


def add_generate(subcommands):
    text = _("Write text with a trained model, character by character.")
    sub = subcommand(subcommands, commands.generate, text, needs_text=False, shows_text=False)
    words = _("(default: the best run in --out, else the published one)")
    sub.add_argument("--checkpoint", type=Path, metavar="FILE", help=words)
    words = _("what the text begins with (default: ROMEO:, or what the model knows)")
    sub.add_argument("--prompt", help=words)
    words = _("(default 500)")
    sub.add_argument("--characters", type=number(int, 1), default=500, metavar="N", help=words)
    words = _("0 is greedy (default 0.8)")
    sub.add_argument("--temperature", type=number(float, 0), default=0.8, metavar="T", help=words)
    sub.add_argument(
        "--top-k", type=number(int, 1), metavar="K", help=_("keep the K best characters")
    )
    words = _("keep the smallest set of mass P")
    sub.add_argument("--top-p", type=number(float, 1e-9, 1), metavar="P", help=words)
    sub.add_argument("--seed", type=number(int, 0), default=0, metavar="S", help=_("(default 0)"))


def add_bench(subcommands):
    text = _("Time training or writing, beside Hugging Face's GPT-2 and the machine's limits.")
    sub = subcommand(subcommands, commands.bench, text)
    sub.add_argument("what", choices=("train", "generate", "scaling"), help=_("what to time"))
    sub.choices = (RECIPES,)
    words = _("one of the recipes below (default: baseline)")
    sub.add_argument("--preset", default="baseline", metavar="NAME", help=words)
    words = _("also write all that was measured to this file")
    sub.add_argument("--json", type=Path, metavar="FILE", help=words)


def add_student(subcommands):
    text = _("Write the lessons without solutions, or grade notebooks that came back.")
    sub = subcommand(subcommands, commands.student, text, needs_text=False)
    words = _("where the lessons, or grades.csv, are written")
    sub.add_argument("folder", metavar="DIR", type=Path, help=words)
    words = _("other numbers in the exercises (default 0)")
    sub.add_argument("--variant", type=number(int, 0), metavar="N", help=words)
    words = _("judge these: files, folders, patterns")
    sub.add_argument("--grade", nargs="+", type=Path, metavar="NOTEBOOK", help=words)
    words = _("the most a cell may take (60)")
    sub.add_argument("--seconds", type=number(float, 1), default=60, metavar="S", help=words)
    words = _("the most a notebook may take (10)")
    sub.add_argument("--minutes", type=number(float, 0.1), default=10, metavar="M", help=words)
    words = _("notebooks at a time (1); each may hold 4 GB")
    sub.add_argument("--workers", type=number(int, 1), default=1, metavar="N", help=words)
    words = _("grade without bubblewrap: notebooks then run with your rights")
    sub.add_argument("--unsafe", action="store_true", help=words)


def add_verify(subcommands):
    text = _(
        "Check a results folder: every file is there, every checkpoint gives its recorded loss. "
        "Or run published rows, or an entry for the table of records."
    )
    sub = subcommand(subcommands, commands.verify, text)
    words = _(
        "published rows to run here, such as 'depth/laptop/2 layers': does the loss come again? "
        "Or entries, such as mine.json: do their claims hold?"
    )
    sub.add_argument("rows", nargs="*", metavar="ROW", help=words)
    words = _(
        "of a row: a seed of your own (default 50), or a recorded one: do its very bits come "
        "again? Of an entry: the first seed (default: drawn from its name)"
    )
    sub.add_argument("--seed", type=number(int, 0), metavar="S", help=words)
    words = _("seeds of an entry (default 5)")
    sub.add_argument("--seeds", type=number(int, 1), default=5, metavar="N", help=words)
    words = _("cpu, where a GPU would be taken (default: the fastest that is there)")
    sub.add_argument("--device", metavar="NAME", help=words)
    add_asked(sub)


def add_doctor(subcommands):
    text = _("Say what is on this machine, what it means for the course, and what to do about it.")
    subcommand(subcommands, commands.doctor, text, needs_text=False)


# --- running one ---------------------------------------------------------------------------------
def main(argv=None):
    """Run one subcommand; print errors as one sentence. -> the exit code"""
    if hasattr(sys.stdout, "reconfigure"):  # printing never fails a run, whatever the code page
        sys.stdout.reconfigure(errors="backslashreplace")
    heed_ctrl_c()
    code = run(argv)
    if argv is None:  # the process ends here, and a late Ctrl-C changes nothing
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if argv is None and code == STOPPED:
        # Subtle: where Ctrl-C came during an `exec`, which each dataclass is as it is imported,
        # Python would not end with our code but by killing itself.
        gc.collect()  # what processes have shared is taken down as its last user goes
        sys.stdout.flush()
        os._exit(code)
    return code


def run(argv):
    try:
        args = arguments(argv)
        prepare(args)
        with contextlib.redirect_stdout(Plain(sys.stdout)):
            if args.text and args.shows_text:
                print(args.text.describe(), flush=True)
            args.run(args)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt as stop:
        done = _("stopped; finished runs are kept, and the same command goes on from them")
        print(f"\ncourse: {stop.args[0] if stop.args else done}", file=sys.stderr)
        return STOPPED
    except (OSError, ValueError) as error:
        print(plain(f"course: {in_one_sentence(error)}"), file=sys.stderr)
        return 1
    return 0


def heed_ctrl_c():
    """What a shell starts in the background, as CI systems do, ignores Ctrl-C: not this."""
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def arguments(argv):
    args, unknown = build_parser().parse_known_args(argv)
    if unknown:
        allowed = " ".join(args.parser.format_usage().removeprefix(_("usage: ")).split())
        args.parser.error(
            _(
                "unknown argument {names} (allowed: {allowed})",
                names=" ".join(unknown),
                allowed=allowed,
            )
        )
    return args


def prepare(args):
    """Say for the subcommand how much work, on which device, into which folder, on which text."""
    from course_utils import corpus, files, profiles

    args.profile = profiles.named(args.profile)
    args.device = profiles.named_device(getattr(args, "device", None))
    args.out = (args.out or files.results()).absolute()
    if hasattr(args, "workers"):
        args.workers = args.workers or profiles.parallel_runs(args.device)
    args.text = corpus.load(args.corpus) if args.corpus or args.needs_text else None


def in_one_sentence(error):
    """What went wrong, and of an OSError where, and what to do."""
    if not isinstance(error, OSError):
        return str(error)
    where = f" ({error.filename})" if error.filename else ""
    full = error.errno == errno.ENOSPC
    advice = _("free some space") if full else _("choose another folder")
    return _(
        "{reason}{where}: {advice}; finished runs are kept",
        reason=error.strerror or error,
        where=where,
        advice=advice,
    )


if __name__ == "__main__":
    sys.exit(main())
