"""The rules of the house, each shown a small text that it must reject.

What libraries can say, they say: ruff, import-linter and deptry, as pyproject.toml has them.
The rest is here: what is declared is pinned, importing asks nothing of anybody, no file is
private or big.
"""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distributions

import pytest

from helpers import ROOT, by_path, tree


def within(folder):
    """The Python files of one of the checkout's folders."""
    found = [p for p in tree() if p.suffix == ".py" and p.relative_to(ROOT).parts[0] == folder]
    assert found, f"no Python file in {folder}/: nothing would be examined"
    return found


def said(*command, cwd=ROOT, **options):
    """-> exit code, all that a tool of this environment said"""
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, capture_output=True, text=True, **options
    )
    return done.returncode, done.stdout + done.stderr


def copied(target, *names):
    """Files and folders of the checkout in another folder, to be spoilt there."""
    for name in names:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, target / name)
    return target


# --- ruff -----------------------------------------------------------------------------------------
RUFF = ("-m", "ruff")
UNTIDY = """{"cells": [{"cell_type": "code", "execution_count": null, "id": "a", "metadata": {},
 "outputs": [], "source": ["import os\\n", "x = [ 1 ]"]}],
 "metadata": {}, "nbformat": 4, "nbformat_minor": 5}"""


@pytest.mark.parametrize("command", [("check",), ("format", "--check")], ids=" ".join)
def test_ruff_finds_nothing_to_say(command, tmp_path):
    code, words = said(*RUFF, *command, "--no-cache", ".")
    assert code == 0, words
    (tmp_path / "untidy.ipynb").write_text(UNTIDY, encoding="utf-8")
    code, words = said(*RUFF, *command, "--no-cache", "--config", ROOT / "pyproject.toml", tmp_path)
    assert code == 1, "a notebook is read as well"


LONG = "def f(x):\n" + "    x += 1\n" * 41 + "    return x\n"
BRANCHED = "def f(x):\n" + "    if x:\n        x += 1\n" * 10 + "    return x\n"


@pytest.mark.parametrize(
    ("path", "source", "rule"),
    [
        ("course_utils/training/runs.py", "import pickle\n", "TID251"),
        ("course_utils/training/runs.py", "import torch\n\ntorch.load('x')\n", "TID251"),
        ("course_utils/training/runs.py", "from torch import load\n\nload('x')\n", "TID251"),
        ("course_utils/training/runs.py", "import argparse\n\nargparse.Action\n", "TID251"),
        ("course_utils/training/runs.py", "import sys\n\nsys.path.append('x')\n", "TID251"),
        ("course_utils/generation/quality.py", "def f():\n    import IPython\n", "TID251"),
        ("tests/test_x.py", "from sys import path\n\npath.append('x')\n", "TID251"),
        ("course_utils/training/runs.py", "from . import engine\n\nengine.x\n", "TID252"),
        ("notebooks/03_model.py", "from torch import *\n", "F403"),
        ("course_utils/figures/text.py", LONG, "PLR0915"),
        ("course_utils/figures/text.py", BRANCHED, "C901"),
    ],
)
def test_ruff_rejects(path, source, rule):
    arguments = ("check", "--no-cache", "--output-format", "concise", "--stdin-filename", path, "-")
    code, words = said(*RUFF, *arguments, input=source)
    assert (code, f" {rule} " in words) == (1, True), words


# --- who may import whom --------------------------------------------------------------------------
LINT_IMPORTS = ("-c", "from importlinter.cli import lint_imports_command as lint; lint()")
SPOILT = {  # what would break a contract of pyproject.toml, and the beginning of its name
    "files.py": ("from course_utils import corpus", "Arrows run one way"),
    "lessons/data.py": ("from course_utils.lessons import model", "A lesson stands on earlier"),
    "lessons/model.py": ("import numpy", "Lessons need torch and nothing else"),
    "figures/text.py": ("def f():\n    import torch", "Figures draw tables"),
}


def test_arrows_run_one_way(tmp_path):
    code, words = said(*LINT_IMPORTS, "--no-cache")
    assert (code, words.count(" KEPT")) == (0, len(SPOILT)), words
    folder = copied(tmp_path, "course_utils", "pyproject.toml")
    for name, (line, _) in SPOILT.items():
        with (folder / "course_utils" / name).open("a") as file:
            file.write(f"\n{line}\n")
    code, words = said(*LINT_IMPORTS, "--no-cache", cwd=folder)
    assert code == 1
    for _, contract in SPOILT.values():
        assert re.search(rf"^{contract}.* BROKEN\b", words, re.MULTILINE), contract


def later_lessons(lesson, source):
    """The lessons that a notebook imports though they are not of an earlier notebook."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    lessons = [name.split(".")[2] for name in names if name.startswith("course_utils.lessons.")]
    return [name for name in lessons if name not in LESSONS[: LESSONS.index(lesson)]]


LESSONS = [path.stem[3:] for path in within("notebooks") if path.parent.name == "notebooks"]


def test_a_notebook_stands_on_earlier_ones():
    assert LESSONS == ["data", "attention", "model", "train", "ablation", "sampling"]
    for path in within("notebooks"):
        assert not later_lessons(path.stem[3:], path.read_text(encoding="utf-8")), path.name
    own = "from course_utils.lessons.model import GPT"
    assert later_lessons("model", own) == later_lessons("attention", own) == ["model"]
    assert later_lessons("model", "from course_utils.lessons import sampling") == ["sampling"]
    assert later_lessons("model", "import course_utils.lessons.train") == ["train"]
    assert later_lessons("train", own) == []


def test_one_module_alone_reads_a_variable():
    for variable, reader in {
        "COURSE_PROFILE": "profiles.py",
        "COURSE_LANGUAGE": "messages/__init__.py",
    }.items():
        readers = [
            p.relative_to(ROOT / "course_utils").as_posix()
            for p in within("course_utils")
            if variable in p.read_text(encoding="utf-8")
        ]
        assert readers == [reader]


# --- what is imported, declared and pinned --------------------------------------------------------
DEPTRY = ("-m", "deptry", "--no-ansi")
NO_TESTS = ("course_utils", "--ignore", "DEP002", "--optional-dependencies-dev-groups", "book,test")


def test_what_is_imported_is_declared_and_what_is_declared_is_used(tmp_path):
    for where in ((".",), NO_TESTS):
        code, words = said(*DEPTRY, *where)
        assert code == 0, words
    folder = copied(tmp_path, "course_utils", "notebooks", "tests", "tools", "book")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = project.replace("\ndependencies = [\n", '\ndependencies = [\n    "rich>=1",\n')
    (folder / "pyproject.toml").write_text(project, encoding="utf-8")
    for name in ("course_utils/files.py", "notebooks/01_data.py", "tests/test_x.py"):
        with (folder / name).open("a") as file:
            file.write("\ndef f():\n    import yaml, pytest, sklearn\n")
    code, words = said(*DEPTRY, ".", cwd=folder)
    assert (code, words.count("'yaml' imported"), words.count("'sklearn' imported")) == (1, 3, 3)
    assert "DEP002 'rich' defined as a dependency but not used" in words
    code, words = said(*DEPTRY, *NO_TESTS, cwd=folder)
    assert "'pytest' imported but declared as a dev dependency" in words


def plain(name):
    """A distribution's name as package indexes compare them."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", name)[0]).lower()


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {
    extra: {plain(name) for name in names}
    for extra, names in PROJECT["optional-dependencies"].items()
}
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
PINNED = {plain(line): line.partition("==")[2] for line in CONSTRAINTS if "==" in line}


def test_every_dependency_is_pinned():
    own = plain(PROJECT["name"])
    assert {plain(name) for name in PROJECT["dependencies"]} <= set(PINNED)
    assert set().union(*EXTRAS.values()) - {own} <= set(PINNED)
    (line,) = (name for name in PROJECT["optional-dependencies"]["all"])
    assert set(re.findall(r"\w+", line.partition("[")[2])) == set(EXTRAS) - {"all"}


def too_new(requirement, oldest):
    """Whether a Requires-Python such as ">=3.11.5" leaves out the oldest Python, (3, 11)."""
    bounds = re.findall(r">=\s*(\d+)\.(\d+)(?:\.(\d+))?", requirement or "")
    return any(tuple(int(part or 0) for part in bound) > (*oldest, 0) for bound in bounds)


def test_pins_are_there_for_the_oldest_python():
    """A pin made on 3.11.7 may leave out the 3.11.2 that Debian has."""
    major, minor = map(int, re.fullmatch(r">=(\d+)\.(\d+)", PROJECT["requires-python"]).groups())
    pinned = [
        found
        for found in distributions()
        if PINNED.get(plain(found.name)) == found.version.split("+")[0]
    ]
    assert len(pinned) > 0.9 * len(PINNED), (
        "most of what is pinned should be installed, to be looked at"
    )
    assert not [
        found.name
        for found in pinned
        if too_new(found.metadata.get("Requires-Python"), (major, minor))
    ]
    assert [
        too_new(text, (3, 11))
        for text in (">=3.11.5", "!=3.14.1, >= 3.12", ">=3.11", ">=3.8,<4", None)
    ] == [*(True, True, False, False, False)]


def test_environment_yml_is_python_pip_and_the_package():
    python = f"python{PROJECT['requires-python']}"
    expected = (
        f"name: shakespeare\ndependencies:\n  - {python}\n  - pip\n  - pip:\n      - -e .[all]\n"
    )
    assert (ROOT / "environment.yml").read_text(encoding="utf-8") == expected


WATCH = """
import sys
from importlib import import_module
def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "urllib.Request"):
        print("asked the network for", args, flush=True)
        import os
        os._exit(3)
sys.addaudithook(watch)
for name in sys.argv[1:]:
    import_module(name)
loaded = {name.split(".")[0] for name in sys.modules}
print(*sorted(loaded & {"torch", "ipywidgets", "transformers"}))
"""


def imported_alone(*names, cwd=ROOT):
    """What a fresh Python, that may not use the network, says after importing these modules."""
    done = subprocess.run(
        [sys.executable, "-c", WATCH, *names], cwd=cwd, capture_output=True, text=True
    )
    return done.returncode, done.stdout.strip(), done.stderr


@pytest.mark.slow
def test_importing_asks_nothing_of_the_network():
    modules = [path.relative_to(ROOT).with_suffix("") for path in within("course_utils")]
    names = [".".join(module.parts).removesuffix(".__init__") for module in modules]
    code, loaded, err = imported_alone(*names)
    assert (code, loaded) == (0, "torch"), (
        err
    )  # the widgets and the tests' libraries wait until they are needed


def test_figures_and_the_command_start_without_torch():
    code, loaded, err = imported_alone("course_utils.figures", "course_utils.__main__")
    assert (code, loaded) == (0, ""), err


def test_an_import_that_downloads_is_seen(tmp_path):
    source = "from urllib.request import urlopen\nurlopen('http://127.0.0.1:9')"
    (tmp_path / "fetcher.py").write_text(source, encoding="utf-8")
    code, said, _ = imported_alone("fetcher", cwd=tmp_path)
    assert (code, said[:21]) == (3, "asked the network for")


# --- nothing private, nothing big -----------------------------------------------------------------
# A path of somebody's machine, or the address of a package index other than the public ones.
PRIVATE = re.compile(
    r"(?<![\w.~+-])/(?:work|root|home/\w+|Users/\w+|opt/pypi)\b(?:/[\w.-]|$)"
    r"|https?://(?!pypi\.org|registry\.npmjs\.org)[\w.-]*(?:pypi|npm|registry|artifactory|nexus)[\w.-]*[:/]",
    re.MULTILINE,
)


def test_no_file_knows_somebodys_machine():
    examined = 0
    for path in tree():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture, or weights
        examined += 1
        found = PRIVATE.search(text)
        assert not found, f"{path.relative_to(ROOT)} has {found[0]!r}"
    assert examined > 20


@pytest.mark.parametrize(
    ("text", "private"),
    [
        ('File "|root|lib|x.py"', True),
        ("see file:|||home|zoe|course", True),
        ("cd |work|main", True),
        ("at |Users|zoe|x", True),
        ("pip install -i https:||pypi-mirror.example.org|simple", True),
        ('executable_path="|usr|bin|chromium"', False),
        ("https:||pypi.org|project|torch", False),
        ("https:||example.org|work|paper.pdf", False),
        ("the notebook's |content| on Colab", False),
        ("in the data|work| folder", False),
    ],
)
def test_private_text_is_found(text, private):
    """| stands for /, so that this file is not found itself."""
    assert bool(PRIVATE.search(text.replace("|", "/"))) == private


def heavy(sizes, each=12, published=40):
    """What is too big for a repository, of {name: bytes}; limits in MB."""
    found = [name for name, size in sizes.items() if size > each * 1e6]
    if (
        sum(size for name, size in sizes.items() if name.startswith("course_utils/published/"))
        > published * 1e6
    ):
        found.append("course_utils/published")
    return found


def test_the_repository_is_light():
    assert len(tree()) > 20
    assert not heavy({path.relative_to(ROOT).as_posix(): path.stat().st_size for path in tree()})


def test_the_manifest_is_of_the_published_files():
    publish = by_path("tools/publish.py")
    manifest = json.loads(publish.MANIFEST.read_text(encoding="utf-8"))
    sums = publish.checksums(publish.MANIFEST.parent)
    assert manifest["files"] == sums, "python tools/publish.py --manifest writes it anew"


def test_heavy_files_are_found():
    assert heavy({"a.bin": 12_000_001, "b.bin": 11_000_000}) == ["a.bin"]
    assert heavy({f"course_utils/published/{i}": 11_000_000 for i in range(4)}) == [
        "course_utils/published"
    ]
