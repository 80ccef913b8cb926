"""The repository's address stands in one place, and `tools/address.py` takes it to all others, byte for byte."""

import json
import re
import subprocess
import sys

import pytest

from helpers import ROOT, tree

PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
ADDRESS = re.search(r'^Repository = "(.+)"', PROJECT, re.MULTILINE)[1]
OWNER_AND_NAME = ADDRESS.split("/", 3)[3]  # in every form of the address
FORK = "https://github.com/zoe/my-course"


def holders():
    """Every file of the project that holds the address in any form, whether or not the tool knows it."""
    found = {}
    for path in tree():
        content = path.read_bytes()
        if content.count(OWNER_AND_NAME.encode()):
            found[path.relative_to(ROOT).as_posix()] = content
    return found


HOLDERS = holders()


@pytest.fixture
def copy(tmp_path):
    """Those files, and the tool."""
    for name, content in {
        **HOLDERS,
        "tools/address.py": (ROOT / "tools/address.py").read_bytes(),
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def address(root, *arguments):
    """-> (exit code, all that was said)"""
    command = [sys.executable, "-S", root / "tools/address.py", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    return done.returncode, done.stdout + done.stderr


def content(root):
    return {name: (root / name).read_bytes() for name in HOLDERS}


def declare(root, new, old=ADDRESS):
    path = root / "pyproject.toml"
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))


def git(root, *arguments):
    subprocess.run(["git", "-C", root, *arguments], check=True, capture_output=True)


def test_the_address_is_the_same_in_every_place():
    assert address(ROOT, "--check") == (0, f"{ADDRESS}: in every place\n")
    assert {
        "pyproject.toml",
        "_config.yml",
        "README.md",
        "notebooks/01_data.py",
        "notebooks/06_sampling.ipynb",
    } <= set(HOLDERS)


def test_each_place_is_watched(copy):
    """Whatever holds the address anywhere in the project: spoilt in one place, it is noticed."""
    seen = 0
    for name, before in HOLDERS.items():
        for match in re.finditer(re.escape(OWNER_AND_NAME.encode()), before):
            spoilt = before[: match.end() - 1] + b"X" + before[match.end() :]
            (copy / name).write_bytes(spoilt)
            code, said = address(copy, "--check")
            assert code == 1, f"{name}, byte {match.start()}: nobody would notice"
            assert name in said or name == "pyproject.toml"
            (copy / name).write_bytes(before)
            seen += 1
    assert seen >= 6 + 6 + 6 + 2
    assert address(copy, "--check")[0] == 0


@pytest.mark.parametrize(
    "fork",
    [
        FORK,
        "https://github.com/a/b",
        "https://gitlab.com/group/sub.group/a-much-longer-name",
        "https://x.org:8443/~o/r",
    ],
)
def test_to_a_fork_and_back(copy, fork):
    before = content(copy)
    declare(copy, fork)
    code, said = address(copy)
    assert (code, said.splitlines()[0][: len(fork)]) == (0, fork)
    assert ("Colab opens what is on GitHub" in said) == (not fork.startswith("https://github.com/"))
    there = content(copy)
    assert not any(OWNER_AND_NAME.encode() in text for text in there.values())
    assert (
        f"/github/{fork.split('/', 3)[3]}/blob/main/notebooks/01_data.ipynb"
        in there["README.md"].decode()
    )
    for name in (name for name in there if name.endswith(".ipynb")):
        ours, theirs = json.loads(before[name]), json.loads(there[name])
        (source,) = [
            c["source"] for c in theirs["cells"] if "setup" in c["metadata"].get("tags", [])
        ]
        assert f'    address = "git+{fork}"\n' in source
        assert [c.get("outputs") for c in ours["cells"]] == [
            c.get("outputs") for c in theirs["cells"]
        ]
    assert address(copy, "--check")[0] == 0
    declare(copy, ADDRESS, fork)
    assert address(copy)[0] == 0
    assert content(copy) == before, "the way back leaves every byte as it was"


def test_line_ends_of_windows_stay(copy):
    declare(copy, FORK)
    for name in HOLDERS:
        (copy / name).write_bytes((copy / name).read_bytes().replace(b"\n", b"\r\n"))
    lines = {name: text.count(b"\r\n") for name, text in content(copy).items()}
    assert address(copy)[0] == 0
    assert {name: text.count(b"\r\n") for name, text in content(copy).items()} == lines
    assert not any(re.search(rb"[^\r]\n", text) for text in content(copy).values())
    assert not any(OWNER_AND_NAME.encode() in text for text in content(copy).values())


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ("https://github.com/zoe/my-course", FORK),
        ("https://github.com/zoe/my-course.git", FORK),
        ("https://github.com/zoe/my-course/", FORK),
        ("http://github.com/zoe/my-course.git", FORK),
        ("https://zoe:ghp_secret@github.com/zoe/my-course.git", FORK),
        ("git@github.com:zoe/my-course.git", FORK),
        ("github.com:zoe/my-course", FORK),
        ("ssh://git@github.com/zoe/my-course.git", FORK),
        ("ssh://git@github.com:22/zoe/my-course.git", FORK),
        ("git://github.com/zoe/my-course.git", FORK),
        ("https://git.example.org:8443/a/b.git", "https://git.example.org:8443/a/b"),
        ("git@gitlab.com:group/sub/name.git", "https://gitlab.com/group/sub/name"),
    ],
)
def test_remote(copy, remote, expected):
    git(copy, "init", "-q")
    git(copy, "remote", "add", "origin", remote)
    code, said = address(copy, "--remote")
    assert code == 0, said
    assert "secret" not in said
    assert f'\nRepository = "{expected}"\n' in (copy / "pyproject.toml").read_text(encoding="utf-8")
    assert address(copy, "--check")[0] == 0


@pytest.mark.parametrize(
    "remote",
    [
        "|srv|git|course.git",
        "..|course",
        "file:|||srv|course.git",
        "C:|Users|zoe|course",
        "https:||github.com|zoe",
        "x:y",
    ],
)
def test_remotes_that_others_cannot_use_are_refused(copy, remote):
    """| stands for /."""
    before = content(copy)
    git(copy, "init", "-q")
    git(copy, "remote", "add", "origin", remote.replace("|", "/"))
    sentence = "The address of the remote origin is not one that others can use: it must look like "
    assert address(copy, "--remote") == (1, f"{sentence}https://github.com/owner/repository\n")
    assert content(copy) == before


def test_no_remote(copy):
    before = content(copy)
    git(copy, "init", "-q")
    code, said = address(copy, "--remote")
    assert (code, said.count("\n"), said.startswith("git knows no remote named origin: ")) == (
        1,
        1,
        True,
    )
    assert content(copy) == before


@pytest.mark.parametrize(
    "wrong",
    ["", "github.com/zoe/x", "https://github.com/zoe", FORK + ".git", FORK + "/", "git@x:a/b"],
)
def test_addresses_of_another_form_are_refused(copy, wrong):
    declare(copy, wrong)
    before = content(copy)
    assert address(copy) == (
        1, f"Repository in pyproject.toml is {wrong!r}: it must look like https://github.com/owner/repository\n"
    )  # fmt: skip
    assert content(copy) == before


@pytest.mark.parametrize("name", ["_config.yml", "README.md", "notebooks/03_model.ipynb"])
def test_a_place_that_is_gone_is_named(copy, name):
    (copy / name).write_bytes(b"nothing")
    code, said = address(copy)
    assert (code, said) == (
        1,
        f"{name} has no place for the address; tools/address.py says where it looks for one\n",
    )


def test_an_unknown_word_changes_nothing(copy):
    declare(copy, FORK)
    before = content(copy)
    code, said = address(copy, "--chek")
    assert (code, "python tools/address.py --check" in said) == (1, True)
    assert content(copy) == before
