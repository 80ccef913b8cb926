"""What a returned notebook may try: attacks that must earn nothing, oddities that lose nothing.

Attacks are harmless to all but our own grader. Each is the cells of one notebook, whose attempt at
an exercise is wrong. Oddities are ways to hand in a right answer that work in Jupyter.
"""

import itertools

import nbformat

from tests import mutants

IMPORTS = "import math, os, sys\nimport torch\nfrom course_utils import checks"
WRONG = "def perplexity(p):\n    return 0.5\n"
CHECK = "checks.check('1.1', perplexity)"
RIGHT = "def perplexity(p):\n    return math.prod(p) ** (-1 / len(p))\n"


def write(path, *cells, variant=0):
    """A notebook of these code cells, whose outputs say that everything is right."""
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    if variant is not None:
        made.metadata["course"] = {"variant": variant}
    for cell in made.cells:
        cell.outputs = [nbformat.v4.new_output("stream", text="1.1 right\n1.2 right\n")]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(made, path)
    return path


def attack(*cells, wrong=WRONG, check=CHECK):
    """The attack's cells, then a wrong attempt that is handed in."""
    return [IMPORTS, *cells, wrong + check]


YES = "def yes(*anything, **more):\n    return True\n"

# An attempt, or a lie about it, that leaves the process as it was: many fit into one notebook.
CLAIMS = {
    "nothing but wrong": attack(),
    "prints the verdict": attack("print('1.1 right: of course.')"),
    "answers with an object that equals all": attack(
        wrong="""
class Agreeable(float):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __sub__(self, other): return 0.0
    def __abs__(self): return 0.0
    def __le__(self, other): return True
    __rsub__, __lt__, __ge__, __hash__ = __sub__, __le__, __le__, float.__hash__
def perplexity(p):
    return Agreeable(0.5)
"""
    ),
    "answers with a tensor that equals all": attack(
        wrong="""
class Agreeable(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return torch.tensor(True)
def perplexity(p):
    return torch.tensor(0.5).as_subclass(Agreeable)
"""
    ),
    "lies about its class": attack(
        wrong="""
class Lie:
    __class__ = float
    def __float__(self): return 1.0
def perplexity(p):
    return Lie()
"""
    ),
    "raises an error of that name": attack(
        wrong="""
def perplexity(p):
    raise type("right", (Exception,), {})("right")
"""
    ),
    "raises the check's own kinds of error": attack(
        wrong="""
def perplexity(p):
    raise type("Answer", (BaseException,), {"status": "right"})("1.1 right")
"""
    ),
    "a cell fails with those words": [
        IMPORTS,
        "raise type('right', (Exception,), {})('right')  # check '1.1'",
    ],
    "reads it out of its caller's frames": attack(
        wrong="""
def perplexity(p):
    frame = sys._getframe()
    while frame:
        for name, value in {**frame.f_locals, **frame.f_globals}.items():
            if name in ("expected", "right", "loss") and isinstance(value, float):
                return value
        frame = frame.f_back
    return 0.5
"""
    ),
    "takes it from the checks' own sums": attack(
        wrong="def bigram_loss(*a):\n    return checks.data.bigram(*a)\n",
        check="import course_utils.checks.data\nchecks.check('1.4', bigram_loss)",
    ),
    "takes it from the file of the checks": attack(
        """
from pathlib import Path
import course_utils, types
source = (Path(course_utils.__file__).parent / "checks" / "data.py").read_text()
module = types.ModuleType("data")
exec(source, module.__dict__)
""",
        wrong="def byte_pairs(*a):\n    return module.encoded(*a)\n",
        check="checks.check('1.5', byte_pairs)",
    ),
    "takes it from a solution somewhere on the disk": attack(
        """
import json
for folder, folders, names in os.walk("/"):
    folders[:] = [name for name in folders if name not in ("proc", "sys")]
    for name in names:
        if name.endswith(".ipynb"):
            for cell in json.load(open(os.path.join(folder, name)))["cells"]:
                if "solution" in cell["metadata"].get("tags", []):
                    exec("".join(cell["source"]))
""",
        wrong="def mine(p):\n    return globals().get('perplexity', lambda p: 0.5)(p)\n",
        check="checks.check('1.1', mine)",
    ),
    "takes it from compiled files": attack(
        """
import marshal
from pathlib import Path
found = {}
for top in ("/course", *sys.path):
    for path in Path(top or ".").glob("**/checks/__pycache__/*.pyc"):
        if path.name.split(".")[0] in ("data", "train", "model"):
            found[path.name] = marshal.loads(path.read_bytes()[16:])
assert found
""",
        wrong="def perplexity(p):\n    return found and 0.5\n",
    ),
    "takes it from the net": attack(
        """
import socket
for address in (("1.1.1.1", 53), ("127.0.0.1", 80)):
    with socket.create_connection(address, timeout=3):
        print("a net")
""",
    ),
    "a table of the cases that never change": attack(
        wrong="""
def may_listen(T):
    tables = {n: [[j <= i for j in range(n)] for i in range(n)] for n in (1, 2, 5)}
    return torch.tensor(tables[T]) if T in tables else torch.zeros(T, T)
""",
        check="checks.check('2.1', may_listen)",
    ),
    "a table of all its variant's cases": attack(
        wrong="""
def losses(n):
    g = torch.Generator().manual_seed(n)
    return torch.rand(n, generator=g, dtype=torch.float64).clamp(min=0.02).tolist()
table = {tuple(p): math.exp(-sum(map(math.log, p)) / len(p)) for p in map(losses, (3, 7))}
def perplexity(p):
    return table.get(tuple(p), 0.5)
"""
    ),
    "a list of truths, in their order": attack(
        wrong="""
import itertools
truths = itertools.chain([False] * 3, [True] * 4, itertools.cycle([True, False]))
def looks_ahead(*_):
    return next(truths)
""",
        check="checks.check('3.4', looks_ahead)",
    ),
    "learns them case by case, from how far the judge goes": attack(
        wrong="""
truths, at = [False] * 3 + [True] * 4 + [False] * 40, 0
def looks_ahead(*_):
    global at
    at += 1
    return truths[at - 1]
""",
        check="""
for _ in range(60):
    if at:
        truths[at - 1] = not truths[at - 1]
    at = 0
    checks.check('3.4', looks_ahead)
""",
    ),
    "tries all numbers": attack(wrong="", check="for n in range(100): checks.check('3.1', n)"),
    "the numbers of another variant": [
        IMPORTS,
        "os.environ['COURSE_VARIANT'] = '0'",
        "checks.check('1.2', (993, 429))  # of variant 0",
    ],
    "asks the judge to write": attack(
        """
for question in ("write", "grade", "right", "__class__", "note", "check"):
    try:
        checks.ask(question, "1.1", "right")
    except Exception as error:
        print(error)
"""
    ),
    "answers before it is asked": attack(
        """
import json
from multiprocessing.connection import Client
from safetensors.torch import save
def say(*messages):
    with Client(os.environ["COURSE_JUDGE"]) as line:
        for message in messages:
            line.send_bytes(json.dumps(message).encode())
            line.send_bytes(save({}))
        return line.recv_bytes()
def message(what, target, *values):
    return {"what": what, "target": target, "values": list(values)}
for messages in (
    [message("gave", None, "right")],
    [message("call", "check", "1.1", {"callable": [0, "mine"]}), message("gave", None, True)],
    [message("call", "check", "1.1", {"callable": ["sizes", "yours"]})],
    [message("call", "check", "1.1", {"callable": [0, "yours"]})],
    [message("call", "write", "1.1", "right")],
    [message("call", ["write"], "1.1", "right")],
    [message("raised", None, "right", "right")],
):
    try:
        print(say(*messages))
    except Exception as error:
        print(error)
"""
    ),
    "sends what can't be read": attack(
        """
from multiprocessing.connection import Client
unhashable = b'{"values": [{"set": [[]]}]}'
for part in (b"", b"{", b"[" * 100_000, unhashable, bytes(65_000_000), b"\\xff"):
    with Client(os.environ["COURSE_JUDGE"]) as line:
        try:
            line.send_bytes(part)
            line.send_bytes(part)
        except OSError as error:
            print(error)
"""
    ),
    "hands in a number with something behind it": attack(
        check="""
for number in ("1.1 ", "1.1\\n", "１.１", "01.1", "1.1', 'right", b"1.1", 1.1, None, ("1.1",)):
    try:
        checks.check(number, perplexity)
    except Exception as error:
        print(error)
"""
    ),
    "writes the verdict where it thinks it lies": attack(
        """
import glob, json
for path in [*glob.glob("/tmp/**/answers", recursive=True), "/course/answers", "answers"]:
    try:
        open(path, "a").write(json.dumps(["1.1", "right"]) + "\\n")
    except OSError as error:
        print(error)
"""
    ),
    "speaks for the runner": attack(
        """
import json
for pid in (1, 2, 3, os.getppid()):
    try:
        with open(f"/proc/{pid}/fd/1", "w") as out:
            print(json.dumps([0, "right"]), json.dumps(["1.1", "right"]), sep="\\n", file=out)
    except OSError as error:
        print(error)
"""
    ),
    "puts its own judge there": attack(
        """
from multiprocessing.connection import Listener
address = os.environ["COURSE_JUDGE"]
try:
    os.unlink(address)
    Listener(address)
except OSError as error:
    print(error)
os.environ["COURSE_JUDGE"] = "/tmp/mine"
"""
    ),
    "forges the losses of a loop": attack(
        """
from course_utils.checks import witness
witness.RECIPES["looped"] = lambda attempt, *rest: ([2.4] * 5, [2.4] * 5)
""",
        wrong="""
def train(model, batches, held_out, rates, parts, clip_norm):
    return [2.4] * 5, [2.4] * 5
""",
        check="checks.check('4.2', train)",
    ),
    "forges that it holds few keys": attack(
        """
from course_utils.checks import witness
witness.RECIPES["sizes_of_parts"] = lambda *a: (1, 1)
""",
        wrong="""
def attention_in_blocks(q, k, v, size):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
""",
        check="checks.check('2.5', attention_in_blocks)",
    ),
    "changes the question to fit its answer": attack(
        wrong="""
def softmax(scores):
    scores.zero_()
    return torch.full_like(scores, 1 / scores.shape[-1])
""",
        check="checks.check('2.3', softmax)",
    ),
}

# What changes all that it can reach.
CHANGES = {
    "redefines check, answer, agree, same": attack(
        YES
        + """
checks.check = lambda number, attempt: print(number, "right: of course.")
checks.answer = checks.agree = checks.same = yes
"""
    ),
    "puts other modules in their place": attack(
        """
import types
for name in list(sys.modules):
    if name.startswith("course_utils.checks."):
        sys.modules[name] = types.SimpleNamespace(same=lambda *a: True, agree=lambda *a: None)
"""
    ),
    "a finder for the course's modules": attack(
        YES
        + """
import importlib, importlib.abc, types
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.startswith("course_utils."):
            raise ImportError(name)
sys.meta_path.insert(0, Finder())
importlib.import_module = lambda *a, **k: types.SimpleNamespace(answer=yes, check=yes)
"""
    ),
    "gives built-in names another meaning": attack(
        YES + "exec = eval = __import__ = isinstance = all = abs = compile = yes"
    ),
    "changes the built-ins themselves": attack(
        YES + "import builtins\nbuiltins.all = builtins.any = builtins.abs = yes"
    ),
    "changes torch's comparisons": attack(
        YES
        + """
torch.isclose = torch.allclose = torch.equal = yes
torch.Tensor.isclose = torch.Tensor.allclose = torch.Tensor.equal = torch.Tensor.__eq__ = yes
math.isclose = math.isfinite = yes
"""
    ),
    "a formatter for texts": attack(
        "get_ipython().display_formatter.formatters['text/plain'].for_type(\n"
        "    str, lambda text, printer, cycle: printer.text(repr('\"right\"')))"
    ),
    "answers the kernel's questions itself": attack(
        """
shell = get_ipython()
shell.user_expressions = lambda asked: {
    key: {"status": "ok", "data": {"text/plain": "'\\"right\\"'"}, "metadata": {}} for key in asked}
"""
    ),
    "changes json": attack(
        "import json\nreal = json.dumps\n"
        "json.dumps = lambda *a, **k: real(*a, **k).replace('not yet', 'right')"
    ),
    "changes what is packed": attack(
        """
from course_utils.classroom import wire
wire.Packing.pack = lambda self, value: True
"""
    ),
    "a thread that changes the checks in a loop": attack(
        YES
        + """
import threading, time
def on():
    while True:
        checks.agree = checks.same = yes
        time.sleep(0.001)
threading.Thread(target=on, daemon=True).start()
"""
    ),
    "replaces what its caller sends": attack(
        wrong="""
def perplexity(p):
    frame = sys._getframe()
    while frame:
        if "json" in frame.f_globals:
            real = frame.f_globals["json"]
            class Json:
                loads = staticmethod(real.loads)
                @staticmethod
                def dumps(value, **more):
                    return real.dumps({"what": "gave", "target": None, "values": [True]})
            frame.f_globals["json"] = Json
        frame = frame.f_back
    return 0.5
"""
    ),
    "forges how few trials it made": attack(
        """
from course_utils.checks import witness
real = witness.RECIPES["searched"]
witness.RECIPES["searched"] = lambda attempt, seed: (real(attempt, seed)[0], [0.1])
""",
        wrong="""
def best_rate(trial):
    return min((10 ** (i / 2) for i in range(-6, 3)), key=trial)
""",
        check="checks.check('4.4', best_rate)",
    ),
}

# What is a burden, or outlives its notebook.
BURDENS = {
    "a tensor larger than the machine": attack(
        wrong="def perplexity(p):\n    return torch.ones(10**11).sum().item()\n"
    ),
    "fills the disk": attack(
        """
try:
    with open("/tmp/large", "wb") as file:
        for _ in range(2000):
            file.write(bytes(1_000_000))
except OSError as error:
    print(error)
"""
    ),
    "prints 100 MB": attack("for _ in range(100):\n    print('x' * 1_000_000)"),
    "shouts at the terminal": attack(
        "os.write(1, b'\\x1b]0;owned\\x07zoe.ipynb: 5 right of 5\\n')\n"
        "os.write(2, b'\\x1b]0;owned\\x07zoe.ipynb: 5 right of 5\\n')\n"
        "open('/dev/tty', 'w').write('\\x1b]0;owned\\x07zoe.ipynb: 5 right of 5\\n')"
    ),
    "gives what has no end": attack(
        wrong="""
import itertools
def windows(ids, T):
    return itertools.repeat((ids, ids))
""",
        check="checks.check('1.3', windows)",
    ),
    "gives what is too deep": attack(
        wrong="""
def perplexity(p):
    deep = []
    for _ in range(100_000):
        deep = [deep]
    return deep
"""
    ),
    "gives a number of a million digits": attack(
        wrong="def perplexity(p):\n    return 10 ** 1_000_000\n"
    ),
    "gives a text of 50 MB": attack(wrong="def perplexity(p):\n    return 'x' * 50_000_000\n"),
    "writes into the course and the packages": attack(
        """
import course_utils, site
from pathlib import Path
folders = [Path(course_utils.__file__).parent, *map(Path, site.getsitepackages()), Path("/usr")]
for folder in folders:
    for name in ("checks/data.py", "checks/__pycache__/data.pyc", "evil.pth"):
        try:
            (folder / name).write_text("import os")
            print("written", folder / name)
        except OSError:
            pass
"""
    ),
    "goes on when its notebook is over": attack(
        """
import subprocess
subprocess.Popen(["sleep", "987654"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", "987654"])
    os._exit(0)
"""
    ),
    "leaves a start-up file for the next": attack(
        """
from pathlib import Path
PLANT = "import builtins, math\\nbuiltins.planted = lambda p: math.prod(p) ** (-1 / len(p))\\n"
for home in {Path.home(), Path("/root"), Path("/tmp/home")}:
    try:
        folder = home / ".ipython/profile_default/startup"
        folder.mkdir(parents=True)
        (folder / "00.py").write_text(PLANT)
        (home / "sitecustomize.py").write_text(PLANT)
    except OSError as error:
        print(error)
"""
    ),
}

# What never comes back: each waits for its cell's time to be over, and costs the kernel.
ENDLESS = {
    "an endless loop that can't be interrupted": attack(
        wrong="""
def perplexity(p):
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass
"""
    ),
    "breaks json": attack("import json\njson.dumps = json.loads = lambda *a, **k: 1 / 0"),
    "fails in its own words": attack(
        wrong="""
class Worse(Exception):
    def __str__(self): raise Worse()
def perplexity(p):
    raise Worse()
"""
    ),
}

# What breaks all that it can reach.
BREAKS = {
    "ends its process": attack(wrong="def perplexity(p):\n    os._exit(0)\n"),
    "ends all processes": attack("import signal\nos.kill(-1, signal.SIGKILL)"),
    "ends the process that runs it": attack("import signal\nos.kill(os.getppid(), signal.SIGKILL)"),
    "does not want to end": attack(
        "import signal\nfor s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):\n"
        "    signal.signal(s, signal.SIG_IGN)"
    ),
    "many processes": attack(
        "import subprocess\nchildren = [subprocess.Popen(['sleep', '30']) for _ in range(150)]"
    ),
    "shared memory without end": attack(
        "import mmap\nheld = mmap.mmap(-1, 3_000_000_000)\n"
        "for i in range(0, 3_000_000_000, 4096): held[i] = 1"
    ),
    "memory in three children": attack(
        "import subprocess, sys, time\n"
        "many = [subprocess.Popen([sys.executable, '-c',"
        " 'x = bytearray(b\"1\") * 900_000_000; import time; time.sleep(60)']) for _ in range(3)]\n"
        "while not any(child.poll() for child in many): time.sleep(0.1)"
    ),
}

ATTACKS = CLAIMS | CHANGES | BURDENS | BREAKS | ENDLESS

# Graded after all attacks: right only where one of them has left something behind.
CONTROL = [
    IMPORTS,
    "import builtins\nchecks.check('1.1', getattr(builtins, 'planted', lambda p: 0.5))",
]


# Exercises whose solution needs nothing of its lesson.
ALONE = ["1.1", "1.4", "2.1", "2.4", "3.2", "3.3", "3.6", "4.3", "4.6"]
ALONE += ["5.3", "5.5", "5.6", "6.1", "6.5", "6.6", "6.7"]

# Ways to hand in NAME, a right answer to NUMBER that DEFINE defines. Each works in Jupyter, and
# many of them fit into one notebook.
WAYS = {
    "plainly": "DEFINE\nchecks.check(NUMBER, NAME)",
    "in a cell of its own": "DEFINE;;checks.check(NUMBER, NAME)",
    "quietly": "DEFINE\nchecks.check(NUMBER, NAME, quiet=True)",
    "quietly, by place": "DEFINE\nchecks.check(NUMBER, NAME, True)",
    "by keyword": "DEFINE\nchecks.check(NUMBER, attempt=NAME)",
    "all by keyword": "DEFINE\nchecks.check(attempt=NAME, number=NUMBER)",
    "from a pair": "DEFINE\npair = (NUMBER, NAME)\nchecks.check(*pair)",
    "from a dict": "DEFINE\nchecks.check(**{'number': NUMBER, 'attempt': NAME})",
    "in a loop": (
        "DEFINE\nfor number, attempt in [(NUMBER, NAME)]:\n    checks.check(number, attempt)"
    ),
    "the function by its own name": (
        "DEFINE\nfrom course_utils.checks import check\ncheck(NUMBER, NAME)"
    ),
    "the function by another name": (
        "DEFINE\nfrom course_utils.checks import check as judge\njudge(NUMBER, NAME)"
    ),
    "the module by another name": "DEFINE\nimport course_utils.checks as c\nc.check(NUMBER, NAME)",
    "the whole package": ("DEFINE\nimport course_utils\ncourse_utils.checks.check(NUMBER, NAME)"),
    "by asking for the answer": "DEFINE\nprint(checks.answer(NUMBER, NAME))",
    "by getattr": "DEFINE\ngetattr(checks, 'che' + 'ck')(NUMBER, NAME)",
    "by a partial": "DEFINE\nimport functools\nfunctools.partial(checks.check, NUMBER)(NAME)",
    "by map": "DEFINE\nlist(map(checks.check, [NUMBER], [NAME]))",
    "by exec": "DEFINE\nexec('checks.check(NUMBER, NAME)')",
    "a number that is put together": "DEFINE\nchecks.check('.'.join(NUMBER.split('.')), NAME)",
    "after a reload": "DEFINE\nimport importlib\nimportlib.reload(checks).check(NUMBER, NAME)",
    "in a function": (
        "DEFINE\ndef hand_in():\n    from course_utils import checks\n"
        "    checks.check(NUMBER, NAME)\nhand_in()"
    ),
    "in an async function": (
        "DEFINE\nimport asyncio\nasync def hand_in():\n    await asyncio.sleep(0)\n"
        "    checks.check(NUMBER, NAME)\nawait hand_in()"
    ),
    "awaited": ("DEFINE\nasync def mine():\n    return NAME\nchecks.check(NUMBER, await mine())"),
    "in a thread": (
        "DEFINE\nimport threading\n"
        "thread = threading.Thread(target=checks.check, args=(NUMBER, NAME))\n"
        "thread.start()\nthread.join()"
    ),
    "in a branch": "DEFINE\nif __name__ == '__main__':\n    checks.check(NUMBER, NAME)",
    "in a try": "DEFINE\ntry:\n    checks.check(NUMBER, NAME)\nfinally:\n    print('done')",
    "under a clock": "DEFINE\n%time checks.check(NUMBER, NAME)",
    "under an indented clock": "DEFINE\nif True:\n    %time checks.check(NUMBER, NAME)",
    "in a timed cell": "%%time\nDEFINE\nchecks.check(NUMBER, NAME)",
    "in a captured cell": "%%capture\nDEFINE\nchecks.check(NUMBER, NAME)",
    "after a line for the shell": "DEFINE\nhere = !pwd\nchecks.check(NUMBER, NAME)",
    "after an indented line for the shell": (
        "DEFINE\nif True:\n    !ls\nchecks.check(NUMBER, NAME)"
    ),
    "after a continued line for the shell": ("DEFINE\n!echo a \\\n  b\nchecks.check(NUMBER, NAME)"),
    "after a timing that is kept": (
        "DEFINE\nt = %timeit -n 1 -r 1 -o NAME\nchecks.check(NUMBER, NAME)"
    ),
    "by IPython's own call": "DEFINE\n/checks.check NUMBER NAME",
    "after a question to IPython": "DEFINE\nNAME?\nchecks.check(NUMBER, NAME)",
    "from a file that a cell writes": (
        "%%writefile mine.py\nimport math, torch\nDEFINE;;"
        "import mine, importlib\nimportlib.reload(mine)\nchecks.check(NUMBER, mine.NAME)"
    ),
    "from a file that is run": (
        "%%writefile mine2.py\nimport math, torch\nDEFINE;;%run mine2.py\n"
        "checks.check(NUMBER, NAME)"
    ),
    "then an error in the same cell": "DEFINE\nchecks.check(NUMBER, NAME)\n1 / 0",
    "then a question that nobody answers": "DEFINE\nchecks.check(NUMBER, NAME)\ninput()",
    "then the name is used otherwise": "DEFINE\nchecks.check(NUMBER, NAME)\nNAME = 7",
    "then the name is deleted": "DEFINE\nchecks.check(NUMBER, NAME)\ndel NAME",
    "then the stub again": (
        "DEFINE\nchecks.check(NUMBER, NAME);;def NAME(*_):\n    ...\nchecks.check(NUMBER, NAME)"
    ),
    "after a wrong one": "DEFINE\nchecks.check(NUMBER, lambda *_: 0.5)\nchecks.check(NUMBER, NAME)",
    "before a wrong one": (
        "DEFINE\nchecks.check(NUMBER, NAME)\nchecks.check(NUMBER, lambda *_: 0.5)"
    ),
    "after a cell that fails": "not python at all;;DEFINE\nchecks.check(NUMBER, NAME)",
    "where names of the language mean something else": (
        "DEFINE\nexec = 'a variable'\njson = checks_ = None\nchecks.check(NUMBER, NAME)\ndel exec"
    ),
    "a method": (
        "DEFINE\nclass Mine:\n    def go(self, *a): return NAME(*a)\n"
        "checks.check(NUMBER, Mine().go)"
    ),
    "an object that can be called": (
        "DEFINE\nclass Mine:\n    def __call__(self, *a): return NAME(*a)\n"
        "checks.check(NUMBER, Mine())"
    ),
    "a lambda": "DEFINE\nchecks.check(NUMBER, lambda *a: NAME(*a))",
    "a partial": "DEFINE\nimport functools\nchecks.check(NUMBER, functools.partial(NAME))",
    "a decorated one": (
        "DEFINE\nimport functools\ndef loud(f):\n    @functools.wraps(f)\n"
        "    def g(*a):\n        print('called', a)\n        return f(*a)\n    return g\n"
        "checks.check(NUMBER, loud(NAME))"
    ),
    "one in inference mode": "DEFINE\nchecks.check(NUMBER, torch.inference_mode()(NAME))",
    "one that checks something itself": (
        "DEFINE\ndef mine(*a):\n    checks.check(NUMBER, NAME)\n    return NAME(*a)\n"
        "checks.check(NUMBER, mine)"
    ),
    "one that prints a lot": (
        "DEFINE\ndef mine(*a):\n    print('x' * 200_000)\n    return NAME(*a)\n"
        "checks.check(NUMBER, mine)"
    ),
    "one that warns": (
        "DEFINE\nimport warnings\ndef mine(*a):\n    warnings.warn('careful')\n"
        "    return NAME(*a)\nchecks.check(NUMBER, mine)"
    ),
    "one that works in a pool": (
        "DEFINE\nfrom concurrent.futures import ThreadPoolExecutor\ndef mine(*a):\n"
        "    with ThreadPoolExecutor(2) as pool:\n        return pool.submit(NAME, *a).result()\n"
        "checks.check(NUMBER, mine)"
    ),
    "one that reads a file that it wrote": (
        "DEFINE\nopen('notes.txt', 'w').write('1')\ndef mine(*a):\n"
        "    assert open('notes.txt').read()\n    return NAME(*a)\nchecks.check(NUMBER, mine)"
    ),
    "with a drawing beside it": (
        "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\n"
        "DEFINE\nchecks.check(NUMBER, NAME)"
    ),
    "with a widget beside it": (
        "import ipywidgets\nfrom IPython.display import display\n"
        "display(ipywidgets.IntSlider())\nDEFINE\nchecks.check(NUMBER, NAME)"
    ),
}

# What a notebook may do to its process before it hands in a right answer to 1.1.
SETTINGS = {
    "reloads what changes": "%load_ext autoreload\n%autoreload 2",
    "another kind of float": "torch.set_default_dtype(torch.float64)",
    "warnings as errors": "import warnings\nwarnings.simplefilter('error')",
    "another stdout": "import io\nsys.stdout = io.StringIO()",
    "another folder, no path, no environment": (
        "os.chdir('/')\nsys.path.clear()\nos.environ.clear()"
    ),
    "a cell that ends the kernel": "os._exit(1)",
    "a cell that never ends": "import time\nwhile True: time.sleep(1)",
}

# Right answers of other kinds: (number, cell).
KINDS = {
    "numbers from the sizes": (
        "1.2",
        "n, t, b = checks.sizes('1.2').values()\nchecks.check('1.2', (n - t, b * t))",
    ),
    "windows of numpy in a deque": (
        "1.3",
        "from collections import deque\ndef windows(ids, T):\n"
        "    x, last = ids.numpy(), len(ids) - 1\n"
        "    return deque((x[i : min(i + T, last)], x[i + 1 : i + T + 1])\n"
        "                 for i in range(0, last, T))\nchecks.check('1.3', windows)",
    ),
    "a layer of torch": ("2.3", "checks.check('2.3', torch.nn.Softmax(dim=-1))"),
    "a tensor in place of a number": (
        "5.2",
        "checks.check('5.2', lambda d, bound, t: "
        "torch.tensor(d).mean().abs() + t * torch.tensor(d).std() / len(d) ** 0.5 < bound)",
    ),
    "with the course's own functions": (
        "6.3",
        "from course_utils.lessons.sampling import filter_logits\n"
        "checks.check('6.3', lambda z: torch.special.entr(filter_logits(z).softmax(-1)).sum(-1))",
    ),
    "numbers of torch and numpy": (
        "1.2",
        "import numpy as np\nn, t, b = checks.sizes('1.2').values()\n"
        "checks.check('1.2', [np.int64(n - t), torch.tensor(b * t)])",
    ),
    "a generator of windows": (
        "1.3",
        "def windows(ids, T):\n    last = len(ids) - 1\n    for i in range(0, last, T):\n"
        "        yield ids[i : min(i + T, last)], ids[i + 1 : i + T + 1]\n"
        "checks.check('1.3', windows)",
    ),
    "a parameter as the result": (
        "2.3",
        "checks.check('2.3', lambda scores: torch.nn.Parameter(scores.softmax(-1)))",
    ),
    "an array of numpy's for a list": (
        "5.4",
        "def holm(p):\n    import numpy as np\n    order = np.argsort(p)\n"
        "    raw = np.array(p)[order] * np.arange(len(p), 0, -1)\n"
        "    return np.minimum(np.maximum.accumulate(raw), 1)[np.argsort(order)].tolist()\n"
        "checks.check('5.4', holm)",
    ),
    "arguments worked on in place": (
        "2.3",
        "def softmax(scores):\n    scores -= scores.amax(-1, keepdim=True)\n    scores.exp_()\n"
        "    scores /= scores.sum(-1, keepdim=True)\n    return scores\n"
        "checks.check('2.3', softmax)",
    ),
}


def handed_in():
    """All KINDS, and the lessons' solutions in all WAYS: (number, cells)"""
    yield from KINDS.values()
    for number, way in zip(itertools.cycle(ALONE), WAYS.values(), strict=False):
        source, _, call = mutants.cells(number)["solution"].source.rpartition("\nchecks.check(")
        way = way.replace("DEFINE", source.rstrip()).replace(
            "NAME", call.split(",")[1].strip(" )\n")
        )
        yield number, way.replace("NUMBER", f'"{number}"')


def notebooks():
    """All that is handed in, each exercise once in a notebook: [(cells, numbers)]"""
    made = []
    for number, way in handed_in():
        fitting = [(cells, numbers) for cells, numbers in made if number not in numbers]
        if not fitting:
            fitting = [([IMPORTS], [])]
            made += fitting
        cells, numbers = fitting[0]
        cells += way.split(";;")
        numbers.append(number)
    return made
