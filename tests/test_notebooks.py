"""The lessons as files: pairs in step, outputs stored,
and each one at home wherever a reader opens it."""

import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import jupytext
import nbformat
import pytest

from course_utils import files
from course_utils.corpus import load
from helpers import ROOT, by_path, tool

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
SCRIPTS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py"))
CHINESE = ROOT / "notebooks/zh"
NAMES = ["01_data", "02_attention", "03_model", "04_train", "05_ablation", "06_sampling"]


def run(command, cwd, **environment):
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)


def code_cells(notebook):
    return [
        cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"
    ]


def test_six_pairs_a_language_in_step_with_their_outputs():
    assert [path.stem for path in NOTEBOOKS] == [path.stem for path in SCRIPTS] == NAMES
    assert sorted(path.stem for path in CHINESE.glob("*.ipynb")) == NAMES
    done = tool("notebooks", "--check")
    assert done.returncode == 0, done.stderr


def test_exported_modules_are_in_step():
    done = tool("export", "--check")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("change", ["script", "module", "outputs", "error"])
def test_the_checks_notice(tmp_path, change):
    for part in ("notebooks", "tools", "course_utils/lessons"):
        shutil.copytree(ROOT / part, tmp_path / part)
    script, notebook = tmp_path / "notebooks/01_data.py", tmp_path / "notebooks/01_data.ipynb"
    if change == "script":
        script.write_text(script.read_text().replace("def split(", "def cut("))
        assert tool("export", "--check", root=tmp_path).returncode != 0
    elif change == "module":
        module = tmp_path / "course_utils/lessons/data.py"
        module.write_text(module.read_text() + "\n")
        assert tool("export", "--check", root=tmp_path).returncode != 0
        return
    else:
        stored = nbformat.read(notebook, as_version=4)
        for cell in stored.cells:
            if cell.cell_type == "code" and change == "outputs":
                cell.outputs, cell.execution_count = [], None
        if change == "error":
            cells = [cell for cell in stored.cells if cell.cell_type == "code"]
            cells[3].outputs.append(
                nbformat.v4.new_output("error", ename="E", evalue="", traceback=[])
            )
        nbformat.write(stored, notebook)
    assert tool("notebooks", "--check", "01_data", root=tmp_path).returncode != 0


def test_exported_cells_are_small_and_tested_shapes_of_cells_hold():
    """An exported cell is imports, a constant, a dataclass, a function or a class:
    at most 30 lines, no magics."""
    exported = [
        c for path in NOTEBOOKS for c in code_cells(path) if "export" in c.metadata.get("tags", [])
    ]
    assert len(exported) > 30
    for cell in exported:
        lines = cell.source.splitlines()
        assert len(lines) <= 30, f"{len(lines)} lines: {lines[0]}"
        assert not any(line.startswith(("%", "!", "get_ipython")) for line in lines)
        tops = [line for line in lines if re.match(r"(def|class) ", line)]
        assert len(tops) <= 1, tops
        assert tops or re.match(r"(import|from|[A-Z_]+ =)", lines[0]), lines[0]


def test_setup_cells_are_one_cell():
    cells = [
        [c for c in code_cells(path) if "setup" in c.metadata.get("tags", [])] for path in NOTEBOOKS
    ]
    assert all(len(found) == 1 for found in cells)
    assert len({found[0].source for found in cells}) == 1


def test_stored_outputs_come_from_the_real_text_in_the_laptop_profile():
    first = [json.dumps([c.outputs for c in code_cells(path)]) for path in NOTEBOOKS]
    for path, outputs in zip(NOTEBOOKS, first, strict=True):
        if path.stem != "03_model":
            assert "Tiny Shakespeare: 1,115,394 characters" in outputs, path.stem
        assert "practice" not in outputs.lower().replace("a practice run", ""), path.stem
        assert str(Path.home()) not in outputs
        assert str(ROOT) not in outputs
    assert "profile laptop" in first[3]
    assert all("image/png" in outputs for outputs in first)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The package as a user gets it, built from the tracked files alone."""
    folder = tmp_path_factory.mktemp("wheel")
    how = ["-q", "--no-deps", "--no-build-isolation", "-w", folder]
    pip = [sys.executable, "-m", "pip", "wheel", *how]
    done = run([*pip, copy_of_the_project(folder / "source")], folder)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def copy_of_the_project(target):
    """What a clone would hold: tracked files and new ones that are not ignored."""
    names = run(["git", "ls-files", "-co", "--exclude-standard", "-z"], ROOT).stdout.split("\0")
    assert "pyproject.toml" in names
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def bare_environment(folder, without=()):
    """An environment that has this one's packages, torch among them, but not the course.

    without: the names of packages that it lacks as well.
    """
    assert (
        run([sys.executable, "-m", "venv", "--without-pip", folder], folder.parent).returncode == 0
    )
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder.parent
    ).stdout.strip()
    packages = folder / "packages"
    packages.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.startswith(without):
            (packages / path.name).symlink_to(path)
    (Path(site) / "machine.pth").write_text(f"{packages}\n")  # its .pth files don't count here
    assert (
        "No module named 'course_utils'"
        in run([python, "-c", "import course_utils"], folder).stderr
    )
    return python, Path(site)


def execute(notebook, python, cwd, **environment):
    """Run a notebook's first section in a kernel of that interpreter, in that folder."""
    code = (
        "import sys, nbformat; from nbclient import NotebookClient; "
        "nb = nbformat.read(sys.argv[1], 4);"
        "second = [i for i, cell in enumerate(nb.cells) if cell.source.startswith('## ')][1];"
        "nb.cells = nb.cells[:second];"
        "nb.metadata.kernelspec.name = 'bare'; NotebookClient(nb, timeout=300).execute()"
    )
    kernel = cwd / "jupyter/kernels/bare"
    kernel.mkdir(parents=True, exist_ok=True)
    command = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(
        json.dumps({"argv": command, "display_name": "bare", "language": "python"})
    )
    paths = {"JUPYTER_PATH": str(cwd / "jupyter"), "COURSE_RESULTS": ""}
    return run([sys.executable, "-c", code, notebook], cwd, **{**paths, **environment})


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    python, site = bare_environment(folder / "venv")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel]
    assert run(pip, folder).returncode == 0
    return python


EACH_ALONE = """
import os, runpy, sys
import matplotlib.pyplot, pandas, scipy.stats, torch._dynamo  # once: they take longer than a lesson
assert sys.modules["IPython"] is None
for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        os.chdir(name)
        if os.path.exists("some.txt"):
            os.environ["COURSE_CORPUS"] = "some.txt"
        runpy.run_path(f"{name}.py", run_name="__main__")
        sys.exit()
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{name} failed")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_alone_as_plain_scripts_with_only_the_wheel(installed, tmp_path):
    """Each in an empty folder and a process of its own, with what the wheel brings, on a bare
    interpreter: sitecustomize makes IPython and ipywidgets impossible to import. The Chinese ones,
    for Colab's test and nbval run the English in kernels, and the code is the same but for words.
    All but one read a tenth of the practice text: on all of it they only measure longer. What the
    third makes of nearly nothing is seen too: its text has 300 characters."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['IPython'] = sys.modules['ipywidgets'] = None\n"
    )
    practice = lzma.decompress((files.PUBLISHED / "practice.txt.xz").read_bytes())
    for name in NAMES:
        (tmp_path / name).mkdir()
        shutil.copy(CHINESE / f"{name}.py", tmp_path / name)
        if name != "02_attention":
            length = 300 if name == "03_model" else len(practice) // 10
            (tmp_path / name / "some.txt").write_bytes(practice[:length])
    bare = {
        "PYTHONPATH": str(tmp_path),
        "COURSE_CACHE": str(tmp_path / "cache"),
        "COURSE_CORPUS": "",
        "COURSE_RESULTS": "",
        "COURSE_LANGUAGE": "zh",
    }
    done = run([installed, "-c", EACH_ALONE, *NAMES], tmp_path, **bare)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_minutes_to_read_are_those_that_the_tool_counts():
    cells, cover = by_path("tools/cells.py"), (ROOT / "book/intro.md").read_text(encoding="utf-8")
    for name in NAMES:
        lesson = jupytext.read(ROOT / f"notebooks/{name}.py").cells
        (head,) = re.findall(r"\*\*Time:\*\* (\d+) minutes", "\n".join(c.source for c in lesson))
        (card,) = re.findall(rf"^(\d+) min · \S+ in \S+{name}\.ipynb\)", cover, re.MULTILINE)
        assert int(head) == int(card) == cells.minutes_to_read(lesson), name


@pytest.mark.slow
def test_colab(tmp_path):
    """google.colab is there, torch too, the course is not, nor the font of Chinese figures: the
    set-up cell of a Chinese lesson fetches both, the course by git, and replaces nothing."""
    source = copy_of_the_project(tmp_path / "source")
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "all"]):
        assert run(["git", *command], source).returncode == 0
    python, site = bare_environment(tmp_path / "venv", without=("zhplot",))
    (site / "google/colab").mkdir(parents=True)
    (site / "google/colab/__init__.py").write_text("")
    before = {path.name for path in site.iterdir()}
    (setup,) = [c for c in code_cells(NOTEBOOKS[0]) if "setup" in c.metadata.get("tags", [])]
    address = re.search(r"git\+(https://\S+)\"", setup.source)[1]
    git = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{source.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": address,
    }
    content = tmp_path / "content"
    content.mkdir()
    shutil.copy(CHINESE / "02_attention.ipynb", content)
    done = execute(
        "02_attention.ipynb", python, content, COURSE_CACHE=str(tmp_path / "cache"), **git
    )
    assert done.returncode == 0, done.stderr[-3000:]
    new = {path.name for path in site.iterdir()} - before
    assert {re.sub(r"[-_.].*", "", name) for name in new} == {"course", "shakespeare", "zhplot"}, (
        "nothing else was installed"
    )
    where = run(
        [python, "-c", "import torch, course_utils; print(torch.__file__, course_utils.__file__)"],
        content,
    )
    torch_file, course_file = where.stdout.split()
    assert str(Path(torch_file).resolve()).startswith(sysconfig.get_path("purelib"))
    assert course_file.startswith(str(site))


@pytest.mark.slow
def test_terms_tells_what_is_used_before_it_is_explained(tmp_path):
    for part in ("notebooks", "tools", "book"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("_build"))
    glossary, script = tmp_path / "book/glossary.md", tmp_path / "notebooks/01_data.py"
    both = "```{glossary}\ngrue\n  A thing.\n\nfirst gnome, wumpus\n  Others.\n"
    glossary.write_text(glossary.read_text().replace("```{glossary}\n", both))
    text = script.read_text()
    told = "# %% [markdown]\n# A grue. The **wumpus**.\n\n# %%\ntorch.hypot(a, b).gcd(c)\n\n"
    later = "# %% [markdown]\n# The **Grues**, `torch.hypot`, a **dragon**.\n\n"
    begin = text.index("# %% [markdown]")
    script.write_text(text[:begin] + told + later + text[begin:])
    done = tool("terms", root=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = dict(line.rsplit(maxsplit=2)[::2] for line in done.stdout.splitlines() if "·" in line)
    seen = [rows[name] for name in ("grue", "wumpus", "torch.hypot", ".gcd")]
    assert seen == ["1·2", "1·0", "1·2", "–"]
    assert "first gnome" not in rows, "no lesson uses it"
    assert "dragon" in done.stdout.splitlines()[-1]
    late = tool("terms", "--late", root=tmp_path).stdout
    assert "grue " in late
    assert "wumpus" not in late


def test_a_stored_picture_has_its_words_before_it_once():
    heard = by_path("tools/notebooks.py").heard
    new = nbformat.v4.new_output
    picture = new("execute_result", {"image/png": "iVBO"}, execution_count=3)
    text = new("stream", name="stdout", text="hello")
    assert heard([text, picture]) == [text, picture], "nothing is known of it"
    picture.metadata = {"image/png": {"alt": 'a "b"'}}
    before, words, after = heard([text, picture])
    assert (before, after.data, after.metadata) == (text, picture.data, picture.metadata)
    assert 'alt="a &quot;b&quot;"' in words.data["text/html"]
    after.metadata = {"image/png": {"alt": "other words"}}
    assert "other words" in heard([words, after])[0].data["text/html"]
    assert heard(heard([picture])) == heard([picture])


@pytest.mark.parametrize(("corpus", "found"), [("", "1 failed, 2 passed"), ("other", "3 passed")])
def test_what_a_cell_shows_is_compared_unless_it_varies(corpus, found, tmp_path, corpus_file):
    """Or unless the text is another one than that of the stored outputs."""
    if not corpus and not load().is_real:
        pytest.skip("Tiny Shakespeare is not here")
    notebook = nbformat.v4.new_notebook()
    for tags, shown in (([], "2\n"), (["nbval-ignore-output"], "3\n"), ([], "3\n")):
        cell = nbformat.v4.new_code_cell("print(1 + 1)", metadata={"tags": tags}, execution_count=1)
        cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=shown)]
        notebook.cells.append(cell)
    nbformat.write(notebook, tmp_path / "sums.ipynb")
    typed = [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "-p", "conftest"]
    other = {"PYTHONPATH": str(ROOT), "COURSE_CORPUS": corpus and str(corpus_file)}
    done = run([*typed, "-p", "no:cacheprovider", "--nbval", "sums.ipynb"], tmp_path, **other)
    assert found in done.stdout, done.stdout
