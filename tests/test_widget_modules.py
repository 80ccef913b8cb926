"""The widget's modules: each parses, and together they are the one module that anywidget takes."""

import re
import shutil
import subprocess

import pytest

from course_utils import widgets
from helpers import ROOT

MODULES = [
    *sorted((ROOT / "course_utils/widgets").glob("*.mjs")),
    *sorted((ROOT / "book/_static").glob("*.mjs")),
]


@pytest.mark.parametrize("kind", widgets.KINDS)
def test_a_notebooks_front_end_is_one_module(kind):
    module = widgets.front_end(kind)
    assert not re.search(r"(?m)^(import|export (?!default))", module)
    assert module.count("export default") == 1
    names = re.findall(r"(?m)^(?:async )?(?:class|const|function|let) (\w+)", module)
    assert len(names) > 20
    assert len(set(names)) == len(names), "of two by one name, only one would be left"


@pytest.mark.skipif(not shutil.which("node"), reason="Node is not installed")
def test_every_module_parses(tmp_path):
    wholes = [tmp_path / f"{kind}.mjs" for kind in widgets.KINDS]
    for path in wholes:
        path.write_text(widgets.front_end(path.stem), encoding="utf-8")
    for path in [*MODULES, *wholes]:
        done = subprocess.run(["node", "--check", path], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_a_module_is_read_without_scrolling(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert max(map(len, lines)) <= 100
    for begin in [number for number, line in enumerate(lines) if "class " in line[:20]]:
        assert lines.index("}", begin) - begin < 150, lines[begin]
