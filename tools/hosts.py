"""Run the six lessons as a host of notebooks runs them: its versions, and the course by git.

    python tools/hosts.py colab-2026.08                 or any other name that --help lists
    python tools/hosts.py colab-2026.08 --language zh   the Chinese lessons

First comes an environment with the host's versions. In it each lesson runs alone in an empty
folder; its first cell fetches the course by git from this working tree, as a badge's reader
fetches it from the public address, and may change no package that is there. Then come those tests
that meet the host's libraries. Nothing stays behind.

PyTorch is the one that constraints.txt names, because others can be several GB on Linux: --torch
takes another. Python is the host's where this machine has it, else the one that runs this tool.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LISTS = ROOT / "tests/hosts"
MADE = ("oldest", "newest")  # these two come from pyproject.toml
TESTS = ("figures", "sampling", "runs", "widget_numbers")
LAB_TESTS = ("widget_lab",)  # where the host has JupyterLab
TOOLS = ["pytest", "hypothesis", "nbclient", "nbformat", "fonttools", "transformers"]
TOOLS += ["playwright", "axe-playwright-python", "sphinx"]  # what the tests' helpers import
RUNNER = ["nbconvert", "nbclient", "nbformat"]  # they run a lesson from outside its kernel


def names():
    return [*sorted(path.stem for path in LISTS.glob("*.txt")), *MADE]


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def bounds():
    """The oldest versions that pyproject.toml allows a reader: {name: version}."""
    wanted = project()["dependencies"] + project()["optional-dependencies"]["lab"]
    return dict(re.match(r"([\w-]+)>=([\d.]+)", line).groups() for line in wanted)


def host(name):
    """What a host has: (its Python, "3.13" or None for any; {package: version or None})."""
    if name == "oldest":
        return re.search(r"[\d.]+", project()["requires-python"])[0], bounds()
    if name == "newest":
        return None, dict.fromkeys(bounds())
    text = (LISTS / f"{name}.txt").read_text(encoding="utf-8")
    packages = re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE)
    return re.search(r"^# python ([\d.]+)$", text, re.MULTILINE)[1], dict(packages)


def pinned(package):
    """The version in constraints.txt."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return re.search(rf"^{package}==(\S+)", text, re.MULTILINE)[1]


def call(*command, check=True, **options):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, encoding="utf-8", **options
    )
    if check and done.returncode:
        sys.exit(f"{' '.join(map(str, command[:4]))} …:\n{(done.stderr or done.stdout)[-3000:]}")
    return done


def environment(folder, wanted, packages):
    """A virtual environment with these packages -> its Python."""
    base = getattr(sys, "_base_executable", sys.executable)  # outside any environment
    if wanted and wanted != f"{sys.version_info.major}.{sys.version_info.minor}":
        named = shutil.which(f"python{wanted}")
        if named and not call(named, "-c", "", check=False).returncode:  # pyenv's may be a promise
            base = named
        else:
            here = sys.version.split()[0]
            print(f"Python {here} in place of {wanted}, which is not here", flush=True)
    call(base, "-m", "venv", folder)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    lines = [f"{name}=={version}" if version else name for name, version in packages.items()]
    (folder / "host.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    call(python, "-m", "pip", "install", "--disable-pip-version-check", "-r", folder / "host.txt")
    return python


def packages_of(python):
    """{name: version} of all that is installed."""
    done = call(python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check")
    return {package["name"]: package["version"] for package in json.loads(done.stdout)}


def changed(before, after):
    """The packages that were there and are gone, or have another version."""
    return {name: after.get(name) for name in before if after.get(name) != before[name]}


def repository(folder):
    """The working tree as a repository -> the settings by which git takes it for the public one."""
    setup = (ROOT / "notebooks/01_data.py").read_text(encoding="utf-8")
    address, tag = re.search(r'"git\+(https://[^"@\s]+)(?:@([^"\s]+))?"', setup).groups()
    listed = ["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard", "-z"]
    for name in call(*listed).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    identity = ["-c", "user.name=hosts", "-c", "user.email=hosts@example.org"]
    call("git", "init", "-q", folder)
    call("git", "-C", folder, "add", "-A")
    call("git", "-C", folder, *identity, "commit", "-qm", "The working tree")
    if tag:
        call("git", "-C", folder, "tag", tag)
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{folder.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": address,
    }


def lesson(python, notebook, folder, settings):
    """Run one lesson from its first cell to its last -> (what went wrong or "", seconds)."""
    folder.mkdir()
    shutil.copy(notebook, folder)
    began = time.monotonic()
    execute = ["-m", "nbconvert", "--to", "notebook", "--execute", "--inplace", notebook.name]
    done = call(
        python,
        *execute,
        "--ExecutePreprocessor.timeout=1800",
        check=False,
        cwd=folder,
        env=settings,
    )
    colours = re.compile(r"\x1b\[[\d;]*m")
    wrong = "\n".join(colours.sub("", done.stderr).strip().splitlines()[-8:])
    return wrong if done.returncode else "", time.monotonic() - began


def run_lessons(python, folder, settings, language):
    """All six, the first alone because its first cell adds the course -> the number that failed."""
    settings = settings | repository(folder / "repository")  # lessons and package of one moment
    lessons = folder / "repository/notebooks" / ("" if language == "en" else language)
    first, *others = sorted(lessons.glob("[0-9][0-9]_*.ipynb"))
    before = packages_of(python)
    failed = 0

    def tell(notebook, result):
        wrong, seconds = result
        print(f"{notebook.stem:16}{'FAILED' if wrong else 'passed'} in {seconds:.0f} s", flush=True)
        if wrong:
            print(wrong, flush=True)
        return bool(wrong)

    failed += tell(first, lesson(python, first, folder / first.stem, settings))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running = {
            notebook: pool.submit(lesson, python, notebook, folder / notebook.stem, settings)
            for notebook in others
        }
        for notebook, result in running.items():
            failed += tell(notebook, result.result())

    after = packages_of(python)
    new = ", ".join(sorted(set(after) - set(before)))
    print(
        f"added by the first cell: {new or 'nothing'}; changed: {changed(before, after) or 'none'}"
    )
    return failed + len(changed(before, after)) + (not new)


def run_tests(python, folder, packages, settings):
    """The tests that meet the host's libraries, on this working tree -> their exit code."""
    names = TESTS + (LAB_TESTS if "jupyterlab" in packages else ())
    wanted = [f"tests/test_{name}.py" for name in names]
    pins = folder / "pins.txt"
    pins.write_text((python.parent.parent / "host.txt").read_text(encoding="utf-8"))
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    call(*pip, "-c", pins, *TOOLS)
    call(*pip, "--no-deps", "zhplot")  # the font of the Chinese figures; hosts lack it
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=", *wanted]
    return subprocess.run(list(map(str, command)), cwd=ROOT, env=settings).returncode


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=names(), metavar="NAME", help=", ".join(names()))
    parser.add_argument("--torch", metavar="VERSION", help="(default: the one in constraints.txt)")
    parser.add_argument("--language", choices=["en", "zh"], default="en", help="of the lessons")
    parser.add_argument("--short", action="store_true", help="the lessons, without the tests")
    args = parser.parse_args()

    wanted, packages = host(args.name)
    torch = args.torch or pinned("torch")
    if packages["torch"] != torch:
        print(f"torch {torch} in place of {packages['torch'] or 'the newest'}", flush=True)
    packages["torch"] = torch
    packages |= {name: packages.get(name) for name in RUNNER}

    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="host-", ignore_cleanup_errors=True) as place:
        place = Path(place)
        ours = ("COURSE_", "PYTHON", "JUPYTER_", "IPYTHON", "GIT_", "VIRTUAL_ENV")
        settings = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        settings |= {"COURSE_PROFILE": "smoke", "OMP_NUM_THREADS": "1"}
        settings |= {"COURSE_CACHE": str(place / "cache"), "IPYTHONDIR": str(place / "ipython")}
        python = environment(place / "environment", wanted, packages)
        print(f"{args.name}: set up in {time.monotonic() - began:.0f} s", flush=True)
        failed = run_lessons(python, place, settings, args.language)
        print(f"{args.name}: set-up and lessons took {time.monotonic() - began:.0f} s", flush=True)
        if not args.short:
            failed += run_tests(python, place, packages, settings)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
