"""The rules of the house, each shown a small text that it must reject.

What is installed is what is declared; who may import whom; no module too long; formatted, portable, and not too big.
"""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
LESSONS = [
    "data",
    "attention",
    "model",
    "train",
    "ablation",
    "sampling",
]  # as the notebooks are numbered

# Third parties that only these parts of course_utils may import, and what some parts may import at all.
ONLY = {
    "ipywidgets": "widgets",
    "anywidget": "widgets",
    "IPython": "widgets",
    "argparse": "__main__",
}
THIRD_PARTIES = {"lessons": {"torch"}, "figures": {"numpy", "matplotlib", "pandas", "zhplot"}}
OURS = {  # `lessons` are held to earlier ones besides
    "lessons": {"lessons"},
    "figures": {"figures"},
    "checks": {"checks", "lessons"},
    "student": {"paths", "grading"},
    "grading": {"student", "checks"},
    "engine": {"lessons"},
    "decoder": {"lessons"},
    "writer": {"lessons", "decoder"},
    "peers": {"lessons"},
    "evaluation": set(),
    "trainer": {"lessons", "engine", "evaluation"},
    "recipes": {"lessons"},
    "effects": {"statistics"},
    "studies": {"lessons", "recipes", "runs", "effects"},
    "schedule": {"lessons", "engine", "files", "profiles", "runs", "trainer"},
    "tables": {"effects", "statistics"},
}
UNSAFE = (
    "pickle",
    "dill",
    "shelve",
    "torch.load",
    "torch.save",
)  # loading a pickle runs whatever it says

# Declared, and never imported: each has its use elsewhere.
COMMANDS = {
    "jupyterlab": "./run.sh lab",
    "ipykernel": "the kernel of the notebooks",
    "jupyter-book": "./run.sh book",
    "sphinx-book-theme": "the book's look",
    "pytest-xdist": "pytest -n 2",
    "nbval": "runs the notebooks under pytest",
    "ruff": "formats and lints, below",
    "setuptools": "builds the package",
}
ELSEWHERE = {"google"}  # google.colab is there on Colab, and only there


def tree():
    """The files of the project: what git tracks or would, else (a downloaded copy) all that no tool has left behind."""
    listed = ["git", "-C", CHECKOUT, "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        names = subprocess.run(
            listed, capture_output=True, check=True, text=True, encoding="utf-8"
        ).stdout.split("\0")
        paths = [CHECKOUT / name for name in set(names) if name]
    except (FileNotFoundError, subprocess.CalledProcessError):
        left = re.compile(
            r"\.venv|\.git/|_build/|build/|results/|data/|.*(__pycache__|_cache/|_checkpoints/|\.hypothesis|egg-info)"
        )
        paths = [
            path
            for path in CHECKOUT.rglob("*")
            if not left.match(path.relative_to(CHECKOUT).as_posix())
        ]
    return sorted(path for path in paths if path.is_file())


FILES = tree()
SOURCES = [path for path in FILES if path.suffix == ".py"]


def within(folder):
    found = [path for path in SOURCES if path.relative_to(CHECKOUT).parts[0] == folder]
    assert found, f"no Python file in {folder}/: nothing would be examined"
    return found


def imports(code):
    """All that a syntax tree imports, as (dotted name, may be absent)."""
    tries = [node for node in ast.walk(code) if isinstance(node, ast.Try)]
    optional = {
        id(inner)
        for node in tries
        if any(
            "ImportError" in ast.dump(handler) or "ModuleNotFound" in ast.dump(handler)
            for handler in node.handlers
        )
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(code):
        match node:
            case ast.Import(names):
                yield from ((alias.name, id(node) in optional) for alias in names)
            case ast.ImportFrom(module, names, level):
                yield from (
                    ("." * level + f"{module}.{alias.name}", id(node) in optional)
                    for alias in names
                )
            case ast.Call(
                ast.Attribute(attr="find_spec" | "import_module"), [ast.Constant(str(name)), *_]
            ):
                yield name, True
            case ast.Call(ast.Name("find_spec" | "import_module"), [ast.Constant(str(name)), *_]):
                yield name, True


def is_under(name, *packages):
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def broken_rules(path, source):
    """The import rules that a file breaks. path: from the checkout, as in "course_utils/figures/text.py"."""
    code = ast.parse(source)
    imported = [name for name, _ in imports(code)]
    names = list(imported)
    for node in ast.walk(code):  # `torch.load(…)` counts as much as `from torch import load`
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names.append(f"{node.value.id}.{node.attr}")
    folder, *rest = Path(path).with_suffix("").parts
    for name in names:
        if name.endswith(".*"):
            yield f"import * from {name[:-2]}"
        if name.startswith("."):
            yield f"a relative import, {name}"
        if is_under(name, "sys.path"):
            yield "sys.path is touched"
    yield from (
        f"a notebook is imported, by {name}" for name in imported if is_under(name, "notebooks")
    )
    if folder == "tests":
        return
    for name in names:
        if is_under(name, *UNSAFE):
            yield f"{name} runs what it loads"
    if folder == "notebooks":
        earlier = LESSONS[: int(rest[0][:2]) - 1]
        for name in names:
            if is_under(name, "course_utils.lessons") and name.split(".")[2] not in earlier:
                yield f"{name} is not an earlier lesson"
    if folder != "course_utils":
        return
    part = rest[0]
    words = [node.value for node in ast.walk(code) if isinstance(node, ast.Constant)]
    if "COURSE_PROFILE" in words and part != "profiles":
        yield "COURSE_PROFILE is read outside profiles"
    for name in imported:
        top, *inner = name.split(".")
        if part != ONLY.get(top, part):
            yield f"{top} is imported outside {ONLY[top]}"
        third_party = top != "course_utils" and top not in sys.stdlib_module_names
        if third_party and top not in THIRD_PARTIES.get(part, {top}):
            yield f"{part} imports {top}"
        if top == "course_utils" and inner and inner[0] not in OURS.get(part, {inner[0]}):
            yield f"{part} imports {name}"
        if (
            part == "lessons"
            and inner[:1] == ["lessons"]
            and inner[1] not in LESSONS[: LESSONS.index(rest[1])]
        ):
            yield f"{name} is not an earlier lesson"


def test_every_file_keeps_the_import_rules():
    examined = [
        path
        for folder in ("course_utils", "notebooks", "tests", "tools")
        for path in within(folder)
    ]
    found = {
        f"{path.relative_to(CHECKOUT)}: {rule}"
        for path in examined
        for rule in broken_rules(
            path.relative_to(CHECKOUT).as_posix(), path.read_text(encoding="utf-8")
        )
    }
    assert not found, "\n".join(sorted(found))
    assert {path.stem[3:] for path in within("notebooks")} == set(LESSONS)


@pytest.mark.parametrize(
    ("path", "source", "rule"),
    [
        ("course_utils/lessons/model.py", "import numpy", "lessons imports numpy"),
        (
            "course_utils/lessons/model.py",
            "from course_utils import corpus",
            "lessons imports course_utils.corpus",
        ),
        (
            "course_utils/lessons/model.py",
            "from course_utils.lessons.train import f",
            "is not an earlier lesson",
        ),
        (
            "course_utils/lessons/model.py",
            "import course_utils.lessons.model",
            "is not an earlier lesson",
        ),
        ("course_utils/figures/text.py", "def f():\n    import torch", "figures imports torch"),
        ("course_utils/figures/text.py", "from torch import nn", "figures imports torch"),
        (
            "course_utils/figures/text.py",
            "from course_utils import runs",
            "figures imports course_utils.runs",
        ),
        (
            "course_utils/studies.py",
            "from course_utils.figures import lines",
            "studies imports course_utils.figures",
        ),
        (
            "course_utils/trainer.py",
            "from course_utils import figures",
            "trainer imports course_utils.figures",
        ),
        (
            "course_utils/checks/train.py",
            "from course_utils import trainer",
            "checks imports course_utils.trainer",
        ),
        (
            "course_utils/quality.py",
            "try:\n    import ipywidgets\nexcept ImportError: 0",
            "outside widgets",
        ),
        ("course_utils/quality.py", "from anywidget import AnyWidget", "outside widgets"),
        ("course_utils/runs.py", "import argparse", "outside __main__"),
        (
            "course_utils/runs.py",
            "import os\nos.environ['COURSE_PROFILE']",
            "read outside profiles",
        ),
        ("course_utils/runs.py", "import os\nos.getenv('COURSE_PROFILE')", "read outside profiles"),
        ("course_utils/runs.py", "import pickle", "runs what it loads"),
        ("course_utils/runs.py", "import torch\ntorch.load('x')", "runs what it loads"),
        ("course_utils/runs.py", "from torch import load", "runs what it loads"),
        ("course_utils/runs.py", "from . import paths", "a relative import"),
        (
            "notebooks/03_model.py",
            "from course_utils.lessons.model import GPT",
            "is not an earlier lesson",
        ),
        (
            "notebooks/03_model.py",
            "from course_utils.lessons import sampling",
            "is not an earlier lesson",
        ),
        ("notebooks/03_model.py", "from torch import *", "import * from torch"),
        ("tools/export.py", "import sys\nsys.path.append('x')", "sys.path is touched"),
        ("tests/test_x.py", "from sys import path", "sys.path is touched"),
        (
            "tests/test_x.py",
            "import importlib\nimportlib.import_module('notebooks.01_data')",
            "a notebook is imported",
        ),
    ],
)
def test_import_rules_reject(path, source, rule):
    assert any(rule in broken for broken in broken_rules(path, source))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "course_utils/lessons/model.py",
            "import math, torch\nfrom course_utils.lessons.attention import split_heads",
        ),
        (
            "course_utils/figures/text.py",
            "import numpy, pandas\nfrom course_utils.figures.drawing import Figure",
        ),
        (
            "course_utils/widgets.py",
            "try:\n    import ipywidgets\nexcept ImportError:\n    ipywidgets = None",
        ),
        ("course_utils/profiles.py", "import os\nos.environ.get('COURSE_PROFILE')"),
        ("notebooks/03_model.py", "from course_utils.lessons.data import split"),
    ],
)
def test_import_rules_accept(path, source):
    assert not list(broken_rules(path, source))


def plain(name):
    """A distribution's name as package indexes compare them."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", name)[0]).lower()


PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {
    extra: {plain(name) for name in names}
    for extra, names in PROJECT["optional-dependencies"].items()
}
NEEDED = {plain(name) for name in PROJECT["dependencies"]}
CONSTRAINTS = (CHECKOUT / "constraints.txt").read_text(encoding="utf-8").splitlines()
PINNED = {plain(line): line.partition("==")[2] for line in CONSTRAINTS if "==" in line}
MAY_IMPORT = {  # folder -> (what is always there, what may be absent)
    "course_utils": (NEEDED, EXTRAS["lab"] | EXTRAS["bench"] | EXTRAS["cluster"]),
    "notebooks": (NEEDED | EXTRAS["lab"], set()),
    "tools": (NEEDED | EXTRAS["lab"] | EXTRAS["test"], EXTRAS["book"]),
    "tests": (NEEDED | EXTRAS["lab"] | EXTRAS["test"], EXTRAS["book"]),
}
OUR_OWN = {"course_utils", "notebooks", "tests"}
OUR_OWN |= {path.stem for path in SOURCES if path.parent.name in ("tests", "tools")}
DISTRIBUTIONS = packages_distributions()


def third_parties(source):
    """The distributions that a file imports, as (name, may be absent)."""
    for name, optional in imports(ast.parse(source)):
        top = name.split(".")[0]
        if top and top not in sys.stdlib_module_names | OUR_OWN | ELSEWHERE:
            yield plain(DISTRIBUTIONS.get(top, [top])[0]), optional


def undeclared(folder, source):
    always, optional = MAY_IMPORT[folder]
    return {
        name
        for name, absent in third_parties(source)
        if name not in always | (optional if absent else set())
    }


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_every_import_is_declared_and_pinned(folder):
    for path in within(folder):
        source = path.read_text(encoding="utf-8")
        assert not undeclared(folder, source), (
            f"{path.relative_to(CHECKOUT)}: pyproject.toml does not declare it"
        )
        assert {name for name, _ in third_parties(source)} <= set(PINNED), (
            f"{path.relative_to(CHECKOUT)}: not pinned"
        )


@pytest.mark.parametrize(
    ("folder", "source", "name"),
    [
        ("course_utils", "def f():\n    import yaml", "pyyaml"),
        ("course_utils", "import ipywidgets", "ipywidgets"),  # only where its absence is met
        ("course_utils", "import pytest", "pytest"),
        ("course_utils", "from importlib.util import find_spec\nfind_spec('sklearn')", "sklearn"),
        ("notebooks", "import hypothesis", "hypothesis"),
        ("tests", "import jupyter_book", "jupyter-book"),
        ("tests", "from PIL import Image", "pillow"),
    ],
)
def test_undeclared_imports_are_found(folder, source, name):
    assert undeclared(folder, source) == {name}


def test_every_dependency_is_used_and_pinned():
    declared = (
        NEEDED
        | EXTRAS["lab"]
        | EXTRAS["book"]
        | EXTRAS["bench"]
        | EXTRAS["cluster"]
        | EXTRAS["test"]
    ) - {plain(PROJECT["name"])}
    imported = {
        name for path in SOURCES for name, _ in third_parties(path.read_text(encoding="utf-8"))
    }
    assert declared - imported == set(COMMANDS), "declared and unused, or COMMANDS is out of date"
    assert declared <= set(PINNED)
    assert EXTRAS["all"] == {plain(PROJECT["name"])}
    assert {"lab", "book", "bench", "cluster", "test"} == set(EXTRAS) - {"all"}


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
        found.name for found in pinned if too_new(found.metadata["Requires-Python"], (major, minor))
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
    assert (CHECKOUT / "environment.yml").read_text(encoding="utf-8") == expected


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
print(*sorted({name.split(".")[0] for name in sys.modules} & {"torch", "ipywidgets", "transformers"}))
"""


def imported_alone(*names, cwd=CHECKOUT):
    """What a fresh Python, that may not use the network, says after importing these modules."""
    done = subprocess.run(
        [sys.executable, "-c", WATCH, *names], cwd=cwd, capture_output=True, text=True
    )
    return done.returncode, done.stdout.strip(), done.stderr


def test_importing_asks_nothing_of_the_network():
    modules = [path.relative_to(CHECKOUT).with_suffix("") for path in within("course_utils")]
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


def too_long(lengths, most=230):
    return {name: lines for name, lines in lengths.items() if lines > most}


def test_hand_written_modules_are_short():
    helpers = [path for path in within("course_utils") if path.parent.name != "lessons"]
    names = {path.relative_to(CHECKOUT).as_posix(): path for path in helpers}
    lengths = {
        name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in names.items()
    }
    print(f"{sum(lengths.values())} lines in {len(lengths)} hand-written modules")
    assert not too_long(lengths)
    assert too_long({"a": 230, "b": 231}) == {"b": 231}


def ruff(*arguments, cwd=CHECKOUT):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments], cwd=cwd, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def test_ruff_finds_nothing_to_say(tmp_path):
    for arguments in (["check", "--no-cache", "."], ["format", "--no-cache", "--check", "."]):
        code, said = ruff(*arguments)
        assert code == 0, said
        (tmp_path / "untidy.ipynb").write_text(UNTIDY, encoding="utf-8")
        config = CHECKOUT / "pyproject.toml"
        assert (
            ruff(*arguments, "--config", str(config), cwd=tmp_path)[0] == 1
        )  # a notebook is read as well


UNTIDY = """{"cells": [{"cell_type": "code", "execution_count": null, "id": "a", "metadata": {}, "outputs": [],
 "source": ["import os\\n", "x = [ 1 ]"]}], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}"""

# A path of somebody's machine, or the address of a package index other than the public ones.
PRIVATE = re.compile(
    r"(?<![\w.~+-])/(?:work|root|home/\w+|Users/\w+|opt/pypi)\b(?:/[\w.-]|$)"
    r"|https?://(?!pypi\.org|registry\.npmjs\.org)[\w.-]*(?:pypi|npm|registry|artifactory|nexus)[\w.-]*[:/]",
    re.MULTILINE,
)


def test_no_file_knows_somebodys_machine():
    examined = 0
    for path in FILES:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture, or weights
        examined += 1
        found = PRIVATE.search(text)
        assert not found, f"{path.relative_to(CHECKOUT)} has {found[0]!r}"
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
    assert len(FILES) > 20
    assert not heavy({path.relative_to(CHECKOUT).as_posix(): path.stat().st_size for path in FILES})


def test_heavy_files_are_found():
    assert heavy({"a.bin": 12_000_001, "b.bin": 11_000_000}) == ["a.bin"]
    assert heavy({f"course_utils/published/{i}": 11_000_000 for i in range(4)}) == [
        "course_utils/published"
    ]
