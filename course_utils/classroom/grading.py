"""Grading notebooks that came back, without believing what they print.

Each runs cell by cell in a kernel of its own. After a cell that calls `checks.check` the grader asks for itself: a
fresh copy of the checks judges the same attempt, and its answer returns as a value, not as printed text.
"""

import ast
import csv
import hashlib
import json
import os
import re
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from queue import Empty

from course_utils.classroom.handout import lessons, read

CHECKED = re.compile(r"checks\.check\(\s*[\"'](\d+\.\d+)[\"']")
RANK = (
    "",
    "not attempted",
    "error",
    "not yet",
    "right",
)  # where an exercise is answered twice the best counts

LIMIT = """
import course_utils
try:
    import resource
    resource.setrlimit(resource.RLIMIT_DATA, ({0}, {0}))
except (ImportError, ValueError, OSError):
    pass
"""
FRESH = """
import sys
def ours():
    tops = "course_utils.checks.", "course_utils.classroom."
    return [name for name in sys.modules if (name + ".").startswith(tops)]
kept = {name: sys.modules.pop(name) for name in ours()}
try:
    from course_utils.classroom.grading import judge
    answer = judge(number, attempt)
finally:
    for name in ours():
        del sys.modules[name]
    sys.modules.update(kept)
    if "course_utils.checks" in kept:
        sys.modules["course_utils"].checks = kept["course_utils.checks"]
"""


def grade(folder, notebooks, variant=None, seconds=60, megabytes=4000):
    """Run the checks of each notebook; write folder/grades.csv, a row a notebook and a column an exercise. -> the rows

    variant: the one that was handed out; None believes each notebook. seconds: of one cell; megabytes: of one kernel.
    """
    numbers = [
        number
        for path in lessons()
        for cell in read(path)["cells"]
        for number in CHECKED.findall(cell["source"])
    ]
    rows, seal = [], fingerprint()
    folder.mkdir(parents=True, exist_ok=True)
    for path in map(Path, notebooks):
        row = {
            "notebook": re.sub(r"^(?=[=+\-@])", "'", path.name)
        }  # a spreadsheet shall not take it for a formula
        try:
            notebook = read(path)
            row["variant"] = stored_variant(notebook) if variant is None else variant
            row |= Grading(notebook, row["variant"], seconds, megabytes).results()
        except (ValueError, RuntimeError, KernelLost) as error:
            row["problem"] = str(error)
        if fingerprint() != seal:
            raise ValueError(
                f"{path.name} changed the course's own files: install the course anew, and read that notebook"
            )
        rows.append(row)
        print(f"{path.name}: {row.get('problem') or summary(row)}", flush=True)
        with open(
            folder / "grades.csv", "w", newline="", encoding="utf-8"
        ) as file:  # kept, whatever comes next
            table = csv.DictWriter(
                file,
                ["notebook", "variant", "problem", *dict.fromkeys(numbers)],
                extrasaction="ignore",
            )
            table.writeheader()
            table.writerows(rows)
    return rows


def stored_variant(notebook):
    course = notebook.get("metadata", {}).get("course", {})
    return (
        course["variant"] if isinstance(course, dict) and type(course.get("variant")) is int else 0
    )


def summary(row):
    graded = [value for key, value in row.items() if key[:1].isdigit()]
    return f"{graded.count('right')} right of {len(graded)}"


def fingerprint():
    """One number for all that decides about right and wrong."""
    here = Path(__file__).parent.parent
    files = sorted([Path(__file__), *here.glob("checks/*.py"), *here.glob("lessons/*.py")])
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


class Grading:
    """One notebook: its cells in order; one that never ends or takes the kernel with it is left out of a second run."""

    def __init__(self, notebook, variant, seconds, megabytes, most_restarts=4):
        self.cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        self.variant, self.seconds, self.megabytes, self.most_restarts = (
            variant,
            seconds,
            megabytes,
            most_restarts,
        )
        self.found, self.left_out = {}, {}  # number -> answer in words; place of a cell -> why

    def results(self):
        """number -> "right", "not yet", "not attempted" or "error: …", for each exercise that the notebook checks."""
        for _ in range(1 + self.most_restarts):
            with (
                tempfile.TemporaryDirectory() as folder,
                Kernel(folder, self.variant, self.seconds) as kernel,
            ):
                kernel.run(LIMIT.format(self.megabytes * 1_000_000))
                if self.run(kernel):
                    return self.found
        for number in CHECKED.findall("\n".join(cell["source"] for cell in self.cells)):
            self.note(number, "error: too many cells that never end")
        return self.found

    def run(self, kernel):
        """All cells but those left out; whether the kernel lived to the end."""
        for place, cell in enumerate(self.cells):
            numbers = CHECKED.findall(cell["source"])
            if place in self.left_out:
                continue
            try:
                error = kernel.run(cell["source"])
                for number, attempt in calls(cell["source"]):
                    self.note(number, f"error: {error}" if error else kernel.ask(number, attempt))
            except KernelLost as lost:
                self.left_out[place] = str(lost)
                for number in numbers:
                    self.note(number, f"error: {lost}")
                return False
        return True

    def note(self, number, answer):
        rank = [RANK.index(text.partition(":")[0]) for text in (answer, self.found.get(number, ""))]
        if rank[0] > rank[1]:
            self.found[number] = "".join(c if c.isprintable() else " " for c in answer)[:300]


def calls(source):
    """What a cell hands to checks.check: [(number, the attempt's source)]; "None" where it can't be read."""
    try:
        tree = ast.parse(re.sub(r"^[%!].*$", "", source, flags=re.MULTILINE))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return [(number, "None") for number in CHECKED.findall(source)]
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and len(node.args) == 2]
    pairs = [
        (node.args[0], ast.unparse(node.args[1]))
        for node in nodes
        if ast.unparse(node.func) == "checks.check"
    ]
    return [
        (number.value, attempt) for number, attempt in pairs if isinstance(number, ast.Constant)
    ]


def judge(number, attempt):
    """What the checks say, as a line of JSON. Called in the graded notebook's kernel, on fresh checks."""
    checks = import_module("course_utils.checks")  # the attribute of that name may be an older copy
    try:
        found = checks.answer(str(number), attempt())
    except Exception as error:
        return json.dumps(f"error: {checks.plain(f'{type(error).__name__}: {error}')}")
    return json.dumps(f"error: {found.error}" if found.error else found.status)


class KernelLost(Exception):
    """The kernel died, or did not answer in time."""


class Kernel:
    """A kernel of this Python, in a folder of its own, killed at the end."""

    def __init__(self, folder, variant, seconds):
        try:
            from jupyter_client.manager import KernelManager
        except ImportError:
            raise ValueError(
                "grading needs Jupyter: pip install jupyter-client ipykernel"
            ) from None
        self.seconds, self.manager = seconds, KernelManager(kernel_name="python3")
        settings = {"PROFILE": "smoke", "RESULTS": folder, "VARIANT": str(variant)}
        settings = {f"COURSE_{name}": value for name, value in settings.items()} | {
            "OMP_NUM_THREADS": "1"
        }
        self.variant = str(variant)
        self.manager.kernel_spec.argv[0] = sys.executable  # whatever else is called python3 here
        self.manager.start_kernel(env={**os.environ, **settings}, cwd=folder)
        self.client = self.manager.blocking_client()

    def __enter__(self):
        self.client.start_channels()
        try:
            self.client.wait_for_ready(timeout=60)
        except RuntimeError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def run(self, code):
        """Run a cell: "" or its error in words."""
        reply = self.request(code)
        return (
            ""
            if reply["status"] == "ok"
            else f"{reply.get('ename', 'interrupted')}: {reply.get('evalue', '')}"
        )

    def ask(self, number, attempt):
        """The grader's own question about an attempt, answered by value."""
        scope = f"{{'number': {number!r}, 'attempt': lambda: ({attempt})}}"
        variant = f"__import__('os').environ.update(COURSE_VARIANT={self.variant!r})"
        question = (
            f"[{variant}, (lambda scope: (exec({FRESH!r}, scope), scope['answer'])[1])({scope})][1]"
        )
        reply = self.request("", user_expressions={"answer": question})
        answer = reply.get("user_expressions", {}).get("answer", {})
        if answer.get("status") != "ok":
            return f"error: {answer.get('ename', 'no answer')}: {answer.get('evalue', '')}"
        try:
            said = json.loads(ast.literal_eval(answer["data"]["text/plain"]))
            return said if said in RANK or said.startswith("error: ") else "error: no answer"
        except (ValueError, SyntaxError, KeyError, AttributeError, TypeError):
            return "error: no answer"

    def request(self, code, **options):
        """Send it, and wait for the reply: content of an execute_reply."""
        options |= {"silent": True, "stop_on_error": False, "allow_stdin": False}
        sent, end = self.client.execute(code, **options), time.monotonic() + self.seconds
        while time.monotonic() < end:
            try:
                reply = self.client.get_shell_msg(timeout=0.2)
            except Empty:
                if not self.manager.is_alive():
                    raise KernelLost("the kernel died") from None
                continue
            if reply["parent_header"].get("msg_id") == sent:
                return reply["content"]
        raise KernelLost(f"no end after {self.seconds:g} s")
