"""What several test files need: the checkout, small texts, models and runs,
and how to wait for an event."""

import contextlib
import functools
import importlib.util
import inspect
import io
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from course_utils import files
from course_utils.__main__ import main
from course_utils.corpus import Corpus
from course_utils.lessons.model import GPT, GPTConfig
from course_utils.lessons.train import TrainConfig
from course_utils.training import runs

ROOT = Path(__file__).resolve().parent.parent
COURSE = [sys.executable, "-m", "course_utils"]
FULL = os.environ.get("COURSE_TRIALS") == "full"  # as often as tools/reliability.py tries
WITH_TESTS = os.environ | {  # of a child that imports from this folder
    "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT / "tests"), os.environ.get("PYTHONPATH"))))
}
LANGUAGES = ("english", "chinese")
NOTE = "Practice text, written by the course's own model: not Shakespeare."


@functools.cache
def tree():
    """The project's files: what git tracks or would, else (a download) all
    that no tool has left behind."""
    listed = ["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        names = subprocess.run(
            listed, capture_output=True, check=True, text=True, encoding="utf-8"
        ).stdout.split("\0")
        paths = [ROOT / name for name in set(names) if name]
    except (FileNotFoundError, subprocess.CalledProcessError):
        left = re.compile(
            r"\.venv|\.git/|_build/|build/|results/|data/"
            r"|.*(__pycache__|_cache/|_checkpoints/|\.hypothesis|egg-info)"
        )
        paths = [
            path for path in ROOT.rglob("*") if not left.match(path.relative_to(ROOT).as_posix())
        ]
    return sorted(path for path in paths if path.is_file())


def by_path(name):
    """The module in a file of a checkout that no package holds, such as "tools/export.py"."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, ROOT / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def course(*arguments, cwd=ROOT, **environment):
    """Run the command as a reader would. -> what subprocess.run found"""
    command = [*COURSE, *map(str, arguments)]
    env = os.environ | environment
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)


def here(*arguments, cwd=ROOT, **environment):
    """The same without a process of its own: what it says and its exit code, with torch at hand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        for name, value in environment.items():
            patch.setenv(name, value)
        return heard(main, [*map(str, arguments)])


def tool(name, *arguments, root=ROOT):
    """What a checkout's tools/NAME.py says and its exit code, in this process too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *arguments])
        return heard(by_path(root / f"tools/{name}.py").main)


def heard(command, *arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = command(*arguments)
        except SystemExit as end:
            code = end.code
    if isinstance(code, str):
        err.write(code)
        code = 1
    return subprocess.CompletedProcess(arguments, code or 0, out.getvalue(), err.getvalue())


def start(*arguments, **options):
    """Start the command as a terminal does: Ctrl-C reaches it, though the suite may ignore it."""
    options = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    command = [*COURSE, *map(str, arguments)]
    return subprocess.Popen(command, text=True, preexec_fn=let_ctrl_c_through, **options)


def several(*commands):
    """Start commands at once, each (arguments, its file for what it says), in a process of its own.

    They are forked from one that has PyTorch and its compiler at hand, which take seconds to load.
    """
    context = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
    context.set_forkserver_preload(["torch._dynamo", "course_utils.research.experiment", __name__])
    processes = [context.Process(target=as_command, args=command) for command in commands]
    for process in processes:
        process.start()
    return processes


def as_command(arguments, said):
    """Be the command from here on."""
    with open(said, "w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    let_ctrl_c_through()
    os.chdir(ROOT)
    sys.exit(main([*map(str, arguments)]))


def let_ctrl_c_through():
    """In a child: what a suite started in the background has ignored, as it inherits,
    counts again."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class CtrlC:
    """A real Ctrl-C after so many steps of this process; 0: before the first."""

    def __init__(self, after):
        self.left = after

    def __call__(self, n):
        self.left -= n
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)


def wait_until(true, log=None, process=None, seconds=300):
    """Return when true() holds. Fail with the log, a file, if the process ends before
    or nothing happens at all."""
    deadline = time.monotonic() + seconds
    while not true():
        over = process is not None and process.poll() is not None and not true()
        if over or time.monotonic() > deadline:
            said = log.read_text()[-3000:] if log else ""
            raise AssertionError(f"it {'ended' if over else 'hung'} before it came to that. {said}")
        time.sleep(0.01)


def mutant(made, right, wrong):
    """A lesson's function or class as it would be with one passage of the lesson's text changed."""
    module = inspect.getmodule(made)
    source = inspect.getsource(module)
    found = source.count(right)
    assert found == 1, f"{right!r} stands {found} times in {module.__name__}: change the mutant"
    namespace = {"__name__": module.__name__}
    exec(compile(source.replace(right, wrong), f"mutant of {module.__name__}", "exec"), namespace)
    return namespace[made.__name__]


# --- texts ----------------------------------------------------------------------------------------
QUESTION = "To be, or not to be: that is the question.\n"
SPEECH = (QUESTION + "Whether 'tis nobler in the mind to suffer\n") * 40
OWN = Corpus(QUESTION * 60, "Hamlet", "0" * 64, "a test", "a note")


def counting(n=500):
    """Ids that count to ten with a jump now and then: there is something to learn."""
    jumps = torch.randint(50, (n,), generator=torch.Generator().manual_seed(3))
    return torch.where(jumps < 10, jumps, 1).cumsum(0) % 11


def seeded(seed=0, device="cpu"):
    return torch.Generator(device).manual_seed(seed)


def prompt(length, batch=3):
    """Ids of a text that the models below can read."""
    return torch.randint(SMALL.vocab_size, (batch, length), generator=seeded(length))


# --- models and runs ------------------------------------------------------------------------------
SMALL = GPTConfig(vocab_size=11, context_length=16, n_layers=2, n_heads=2, d_model=8, d_ff=12)


def loud(config=SMALL, kind=GPT, **changes):
    """A GPT whose weights are large enough that it has something to say, and no two norms alike."""
    torch.manual_seed(0)
    model = kind(replace(config, **changes))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 1.2 * parameter.shape[1] ** -0.5)
            else:
                parameter.normal_(1, 0.3)
    return model


def small_model(**switches):
    """A loud model of primes and odd sizes, where one switch can be told from another."""
    sizes = {"context_length": 13, "n_layers": 3, "n_heads": 5, "d_model": 30, "d_ff": 17}
    return loud(**sizes | switches).eval()


def spec(**changes):
    """A run on OWN of a moment, with TrainConfig's fields changed."""
    train = {"steps": 150, "batch_size": 4, "warmup_steps": 5, "decay": 0.5, "evaluate_every": 20}
    model = replace(SMALL, vocab_size=len(set(OWN.text)))
    return runs.RunSpec(
        "depth", "smoke", "2 layers", model, TrainConfig(**train | changes), OWN.sha256
    )


def weights(path):
    return files.read_tensors(path, "checkpoint")[0]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def timeless(record):
    """What a record says, but for the time that it took and where."""
    clock = {"elapsed_s", "evaluating_s", "setup_s", "characters_per_s"}
    clock |= {"peak_memory_mb", "step_memory_mb", "environment", "folder"}
    found = {key: value for key, value in vars(record).items() if key not in clock}
    found["history"] = [
        {key: row[key] for key in row if key != "elapsed_s"} for row in record.history
    ]
    return found
