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


def test_a_notebooks_front_end_is_one_module():
    module = widgets.front_end()
    assert not re.search(r"(?m)^(import|export (?!default))", module)
    assert module.count("export default") == 1
    names = re.findall(r"(?m)^(?:async )?(?:class|const|function|let) (\w+)", module)
    assert len(names) > 20
    assert len(set(names)) == len(names), "of two by one name, only one would be left"


@pytest.mark.skipif(not shutil.which("node"), reason="Node is not installed")
def test_every_module_parses(tmp_path):
    (tmp_path / "front_end.mjs").write_text(widgets.front_end(), encoding="utf-8")
    for path in [*MODULES, tmp_path / "front_end.mjs"]:
        done = subprocess.run(["node", "--check", path], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_a_module_is_read_without_scrolling(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert max(map(len, lines)) <= 100
    for begin in [number for number, line in enumerate(lines) if "class " in line[:20]]:
        assert lines.index("}", begin) - begin < 150, lines[begin]
