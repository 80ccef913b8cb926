"""`run.sh`, run for real: its own text, real venvs, real pip, and a tiny project for the packages.

The tiny project (no dependencies, four commands that tell how they were called) keeps a whole
set-up at seconds and off the network; where fetching is the point, the course's own pyproject.toml
and constraints.txt are used.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from importlib.util import find_spec

import pytest

from helpers import ROOT, let_ctrl_c_through, wait_until

pytestmark = pytest.mark.skipif(os.name == "nt", reason="run.sh is for Linux and macOS")

PYTHON = getattr(sys, "_base_executable", sys.executable)  # outside any venv
# All that run.sh may need, besides python3.
TOOLS = ["bash", "cat", "cksum", "cp", "dirname", "head", "mkdir", "rm", "tee", "touch"]

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "tiny"
version = "1"
optional-dependencies = { all = [] }
"""
BACKEND = """
import os, pathlib, time, zipfile
COMMANDS = ["course", "pytest", "jupyter-lab", "jupyter-book"]

def build_editable(folder, config_settings=None, metadata_directory=None):
    pathlib.Path("building").touch()
    while os.environ.get("BUILD_WAITS") and not pathlib.Path("go").exists():
        time.sleep(0.02)
    if os.environ.get("BUILD_FAILS"):
        raise RuntimeError("no compiler")
    info = "tiny-1.dist-info/"
    target = pathlib.Path(folder) / "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("tiny.pth", os.getcwd())
        wheel.writestr("filler", bytes(int(os.environ.get("FILLER", 0))))
        about = "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1\\nProvides-Extra: all\\n"
        wheel.writestr(info + "METADATA", about)
        kind = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr(info + "WHEEL", kind)
        scripts = "\\n".join(f"{name} = tiny:main" for name in COMMANDS)
        wheel.writestr(info + "entry_points.txt", "[console_scripts]\\n" + scripts)
        wheel.writestr(info + "RECORD", "")
    return "tiny-1-py3-none-any.whl"
"""
COMMAND = """
import contextlib, json, os, pathlib, sys

def main():
    with contextlib.suppress(OSError):
        os.fstat(9)
        print("the lock outlives the set-up", file=sys.stderr)
    if "nonsense" in sys.argv:
        print("nonsense is not a command", file=sys.stderr)
        return 2
    called = [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]
    print(json.dumps([*called, os.getcwd(), os.environ.get("OMP_NUM_THREADS")]))
"""


def tiny_project(folder):
    """A checkout with the real run.sh and the tiny project."""
    (folder / "notebooks").mkdir(parents=True)
    shutil.copy(ROOT / "run.sh", folder)
    for name, text in {
        "pyproject.toml": PYPROJECT,
        "backend.py": BACKEND,
        "tiny.py": COMMAND,
    }.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "constraints.txt").touch()
    return folder


# A Python that runs what run.sh asks of it (its last argument), and takes itself for an older one.
OLD = f"""for asked; do :; done
exec '{PYTHON}' -c "import sys; sys.version_info = (3, 10, 99)
$asked" """


def executable(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """The environment of a machine with `python3` and a handful of tools on PATH,
    whose pip has no settings."""
    tools = tmp_path_factory.mktemp("bin")
    for name in TOOLS:
        (tools / name).symlink_to(shutil.which(name))
    executable(tools / "python3", f"exec '{PYTHON}' \"$@\"")
    ours = ("PIP_", "PYTHON", "COURSE_", "OMP_", "COV_", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"PATH": str(tools), "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0"}


def start(checkout, *arguments, machine, cwd="/", **environment):
    """run.sh as a terminal starts it: a process group of its own, with Ctrl-C let through."""
    return subprocess.Popen(
        [checkout / "run.sh", *arguments],
        cwd=cwd,
        env=machine | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        process_group=0,
        preexec_fn=let_ctrl_c_through,
    )


def finish(process):
    """-> (exit code, stdout, lines of stderr), the announcement of a set-up not among them."""
    out, err = process.communicate()
    return (
        process.returncode,
        out,
        [line for line in err.splitlines() if not line.startswith("Setting up .venv with ")],
    )


def run(checkout, *arguments, **options):
    return finish(start(checkout, *arguments, **options))


def refusal(result):
    """The one sentence of a run that could not set up."""
    code, out, lines = result
    assert (code, out, len(lines)) == (1, "", 1), result
    return lines[0]


@pytest.fixture(scope="module")
def made(machine, tmp_path_factory):
    """A tiny checkout, set up by run.sh itself, in a folder whose name is not plain; and what
    that first run gave."""
    checkout = tiny_project(tmp_path_factory.mktemp("set-up") / "Zoë's course 课")
    return checkout, finish(start(checkout, machine=machine))


@pytest.fixture
def checkout(made):
    """`made`, with its project files and its stamp put back afterwards."""
    folder, _ = made
    before = {
        path: path.read_bytes() for path in (folder / "constraints.txt", folder / ".venv/stamp")
    }
    (folder / ".venv/marker").touch()  # gone when .venv is remade from the start
    for event in ("building", "go"):
        (folder / event).unlink(missing_ok=True)
    yield folder
    tiny = {folder / "pyproject.toml": PYPROJECT.encode()}
    for path, content in (before | tiny).items():
        path.write_bytes(content)


def test_first_run_sets_up_and_runs_the_experiment(made):
    checkout, (code, out, lines) = made
    assert (code, lines) == (0, [])
    assert json.loads(out) == ["course", "run", "/", None]
    assert "Successfully installed tiny-1" in (checkout / ".venv/setup.log").read_text(
        encoding="utf-8"
    )


def test_up_to_date_builds_nothing(checkout, machine):
    assert run(checkout, "data", machine=machine)[0] == 0
    assert not (checkout / "building").exists()


@pytest.mark.parametrize(
    ("typed", "called", "folder", "threads"),
    [
        ([], ["course", "run"], ".", None),
        (["--out", "my results"], ["course", "run", "--out", "my results"], ".", None),
        (["data", "--corpus", "a b", ""], ["course", "data", "--corpus", "a b", ""], ".", None),
        (["test"], ["pytest", "-n", "2"], "checkout", None),
        (["test", "-m", "not slow"], ["pytest", "-n", "2", "-m", "not slow"], "checkout", None),
        (["test", "-k", "one or two"], ["pytest", "-k", "one or two"], "checkout", None),
    ],
)
def test_words_become_commands(checkout, machine, tmp_path, typed, called, folder, threads):
    folder = (
        tmp_path / folder
        if folder == "."
        else checkout.parent / folder.replace("checkout", checkout.name)
    )
    code, out, lines = run(checkout, *typed, machine=machine, cwd=tmp_path)
    assert (code, lines) == (0, [])
    assert json.loads(out) == [*called, str(folder), threads]


def test_exit_code_and_sentence_are_the_commands_own(checkout, machine):
    assert run(checkout, "nonsense", machine=machine) == (2, "", ["nonsense is not a command"])


def test_help_needs_no_set_up(machine, tmp_path):
    checkout = tiny_project(tmp_path / "new")
    code, out, lines = run(checkout, "help", machine=machine, PYTHON="no-such-python")
    assert (code, lines) == (0, [])
    assert "./run.sh test" in out
    assert not (checkout / ".venv").exists()


def test_new_constraints_are_installed_into_the_same_venv(checkout, machine):
    (checkout / "constraints.txt").write_text("# newer\n", encoding="utf-8")
    assert run(checkout, machine=machine)[0] == 0
    assert (checkout / "building").exists()
    assert (checkout / ".venv/marker").exists()
    (checkout / "building").unlink()
    assert run(checkout, machine=machine)[0] == 0
    assert not (checkout / "building").exists()


def test_moved_checkout_is_set_up_again(checkout, machine, tmp_path):
    moved = tmp_path / "moved here"
    shutil.copytree(checkout, moved, symlinks=True)
    code, out, lines = run(moved, "data", machine=machine)
    assert (code, json.loads(out)[:2], lines) == (0, ["course", "data"], [])
    assert not (moved / ".venv/marker").exists()
    assert str(checkout) not in (moved / ".venv/bin/course").read_text(encoding="utf-8")


def test_interrupted_set_up_starts_over(checkout, machine):
    (checkout / "constraints.txt").write_text("# interrupted\n", encoding="utf-8")
    process = start(checkout, machine=machine, BUILD_WAITS="1")
    wait_until((checkout / "building").exists)
    os.killpg(process.pid, signal.SIGINT)
    assert finish(process) == (
        130,
        "",
        ["Interrupted: run the same command again to set up from the start."],
    )
    # The half-made .venv must not be the one that remakes itself.
    activated = f"{checkout / '.venv/bin'}:{machine['PATH']}"
    code, out, lines = run(checkout, machine=machine | {"PATH": activated})
    assert (code, json.loads(out)[:2], lines) == (0, ["course", "run"], [])
    assert not (checkout / ".venv/marker").exists()


def test_two_at_once_set_up_once(checkout, machine):
    (checkout / "constraints.txt").write_text("# two\n", encoding="utf-8")
    first = start(checkout, machine=machine, BUILD_WAITS="1")
    wait_until((checkout / "building").exists)
    second = start(checkout, machine=machine, BUILD_FAILS="1")  # it would fail if it built anything
    said = second.stderr.readline()
    assert said == "Another run is setting up .venv: waiting for it to end.\n"
    (checkout / "go").touch()
    assert finish(first)[0] == 0
    assert finish(second)[::2] == (0, [])


def test_a_killed_run_leaves_no_lock(checkout, machine):
    stamp = (checkout / ".venv/stamp").read_bytes()
    (checkout / "constraints.txt").write_text("# killed\n", encoding="utf-8")
    process = start(checkout, machine=machine, BUILD_WAITS="1")
    wait_until((checkout / "building").exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (checkout / "building").unlink()
    (checkout / ".venv/stamp").write_bytes(
        stamp
    )  # spares this test the remaking of the whole .venv
    code, _, lines = run(checkout, machine=machine)
    assert (code, lines) == (0, [])
    assert (checkout / "building").exists()


def test_old_python_is_refused(machine, tmp_path):
    checkout = tiny_project(tmp_path / "new")
    old = tmp_path / "bin"
    shutil.copytree(machine["PATH"], old, symlinks=True)
    executable(old / "python3", OLD)
    sentence = refusal(run(checkout, machine=machine | {"PATH": str(old)}))
    assert sentence.startswith(
        "python3 is Python 3.10, and the course needs Python 3.11 or newer: install it"
    )
    named = refusal(run(checkout, machine=machine, PYTHON=str(old / "python3")))
    assert named.startswith(f"{old}/python3 is Python 3.10, ")
    assert not (checkout / ".venv").exists()


def test_absent_python_is_named(machine, tmp_path):
    checkout = tiny_project(tmp_path / "new")
    bare = tmp_path / "bin"
    shutil.copytree(machine["PATH"], bare, symlinks=True)
    (bare / "python3").unlink()
    assert refusal(run(checkout, machine=machine | {"PATH": str(bare)})).startswith(
        "python3 was not found, "
    )
    assert refusal(run(checkout, machine=machine, PYTHON="/no/python")).startswith(
        "/no/python was not found, "
    )


@pytest.mark.parametrize(
    ("module", "text", "sentence"),
    [
        (
            "ensurepip",
            "raise ModuleNotFoundError(\"No module named 'ensurepip'\")",
            "has no venv and ensurepip",
        ),
        (
            "venv",
            "raise ModuleNotFoundError(\"No module named 'venv'\")",
            "has no venv and ensurepip",
        ),
        ("ensurepip", "", "makes environments without pip"),
    ],
)
def test_missing_parts_of_python_are_named(machine, tmp_path, module, text, sentence):
    checkout = tiny_project(tmp_path / "new")
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / f"{module}.py").write_text(text, encoding="utf-8")
    said = refusal(run(checkout, machine=machine, PYTHONPATH=str(hidden)))
    assert said.startswith(f"python3 {sentence}")
    assert "apt install" in said
    assert "python3-venv" in said


def test_newer_name_is_found_when_python3_is_old(machine, tmp_path):
    both = tmp_path / "bin"
    shutil.copytree(machine["PATH"], both, symlinks=True)
    (both / "python3").rename(both / "python3.12")
    executable(both / "python3", OLD)
    (tmp_path / "venv.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'venv'\")", encoding="utf-8"
    )
    here = machine | {"PATH": str(both), "PYTHONPATH": str(tmp_path)}
    said = refusal(run(tiny_project(tmp_path / "new"), machine=here))
    assert said.startswith(
        "python3.12 has no venv"
    )  # so it was python3.12 that set up, as far as it could


@pytest.mark.parametrize(
    ("setting", "value", "sentence"),
    [
        (
            "PIP_INDEX_URL",
            "http://127.0.0.1:9",
            "The packages could not be fetched: connect to the internet",
        ),
        ("PIP_NO_INDEX", "1", "pip found no fitting version of a package for Python"),
    ],
)
def test_unreachable_packages(checkout, machine, setting, value, sentence):
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, checkout)
    said = refusal(run(checkout, machine=machine | {"PIP_RETRIES": "1", setting: value}))
    assert said.startswith(sentence)
    assert said.endswith(f"pip's log is {checkout}/.venv/setup.log")
    assert "No matching distribution" in (checkout / ".venv/setup.log").read_text(encoding="utf-8")


def test_any_other_trouble_names_the_log(checkout, machine):
    (checkout / "constraints.txt").write_text("# trouble\n", encoding="utf-8")
    said = refusal(run(checkout, machine=machine, BUILD_FAILS="1"))
    assert said == (
        f"Setting up .venv failed: mend what the last lines of "
        f"{checkout}/.venv/setup.log name, then run again."
    )
    assert "no compiler" in (checkout / ".venv/setup.log").read_text(encoding="utf-8")


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a disk of so many MB; skips where that is not allowed."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(options):
        if shutil.which("mount") is None or os.geteuid() != 0:
            pytest.skip("only root can mount a small disk")
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
        return disk

    yield mount
    subprocess.run(["umount", disk], capture_output=True)


@pytest.mark.parametrize(("size", "filler"), [("48k", 0), ("8m", 0), ("60m", 60_000_000)])
@pytest.mark.slow
def test_full_disk(machine, small_disk, size, filler):
    """Full while the venv is made, while it gets pip, and while pip installs."""
    checkout = tiny_project(small_disk(f"size={size}") / "course")
    said = refusal(run(checkout, machine=machine, FILLER=str(filler)))
    assert said.startswith(f"The disk is full: free at least 2 GB in {checkout}")


def test_read_only_checkout(machine, small_disk, tmp_path):
    if os.geteuid() == 0:
        disk = small_disk("size=1m")
        checkout = tiny_project(disk / "course")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    else:
        checkout = tiny_project(tmp_path / "course")
        checkout.chmod(0o555)
    said = refusal(run(checkout, machine=machine))
    assert (
        said
        == f"Cannot write in {checkout}: copy the project to a folder of your own and run it there."
    )


def test_the_book_is_built_with_one_thread_and_the_last_line_serves_it(checkout, machine, tmp_path):
    pages, chinese = checkout / "_build/html", checkout / "_build/zh/_build/html"
    for folder, words in ((pages, "the cover"), (chinese, "封面")):
        folder.mkdir(parents=True)
        (folder / "index.html").write_text(words, encoding="utf-8")
    code, out, lines = run(checkout, "book", machine=machine, cwd=tmp_path)
    assert code == 0
    strictly, here = ["-W", "-n", "--keep-going"], [str(checkout), "1"]
    other = ["--toc", "book/zh/_toc.yml", "--path-output", "_build/zh"]
    english, second = map(json.loads, out.splitlines())
    assert english == ["jupyter-book", "build", ".", *strictly, *here]
    assert second == ["jupyter-book", "build", ".", *other, *strictly, *here]
    assert (pages / "zh/index.html").read_text(encoding="utf-8") == "封面"
    command = [*shlex.split(lines[-1]), "0"]  # a port that is free
    options = {"stdout": subprocess.PIPE, "text": True, "cwd": tmp_path}
    with subprocess.Popen(command, env=os.environ | {"PYTHONUNBUFFERED": "1"}, **options) as server:
        try:
            port = re.search(r"port (\d+)", server.stdout.readline())[1]
            directly = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with directly.open(f"http://localhost:{port}/") as answer:
                assert answer.read() == b"the cover"
        finally:
            server.terminate()


def test_a_book_that_fails_says_no_more(checkout, machine):
    assert run(checkout, "book", "nonsense", machine=machine) == (
        2,
        "",
        ["nonsense is not a command"],
    )


SEEN_IN_THE_LAB = """
import asyncio, sys
from jupyterlab.labapp import LabApp

app = LabApp.initialize_server([*sys.argv[1:], "--allow-root", "--no-browser"])
(lab,) = app.extension_manager.extension_apps["jupyterlab"]


def folder(path):
    return [one["name"] for one in asyncio.run(app.contents_manager.get(path))["content"]]


print([app.contents_manager.preferred_dir, folder("notebooks"), folder("results"), lab.news_url])
"""


@pytest.mark.skipif(not find_spec("jupyterlab"), reason="needs JupyterLab")
def test_the_lab_lists_each_lesson_once_and_reaches_the_report(checkout, machine, tmp_path):
    """What run.sh asks for, asked of the real server: its folders as a browser would see them."""
    code, out, lines = run(checkout, "lab", "--port=0", machine=machine, cwd=tmp_path)
    assert (code, lines) == (0, [])
    program, *asked, folder, _ = json.loads(out)
    assert (program, asked[-1], folder) == ("jupyter-lab", "--port=0", str(checkout / "notebooks"))

    for name in ("notebooks/01_data.ipynb", "notebooks/01_data.py", "results/report.html"):
        (checkout / name).parent.mkdir(exist_ok=True)
        (checkout / name).write_text("{}", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", SEEN_IN_THE_LAB, *asked], cwd=folder, capture_output=True, text=True
    )
    assert done.stdout == "['notebooks', ['01_data.ipynb'], ['report.html'], None]\n", done.stderr
