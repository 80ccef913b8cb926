"""Move the project to another public address, such as a fork's, or check that it has one only.

    python tools/address.py                                  check: does everything name the same?
    python tools/address.py https://github.com/OWNER/NAME    write this one in all that git tracks

The address's home is [project.urls] Repository in pyproject.toml. Readers meet it in the buttons
that open a lesson, in the lessons' first cells, and in the lines to clone.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = r"[\w.~-]+(?:/[\w.~-]+)+"  # owner/repository, or a longer path on other hosts
FORM = re.compile(rf"https://[\w.-]+(?::\d+)?/({NAME})(?<!\.git)")
MUST = "it must look like https://github.com/owner/repository"
END = r"(?![\w~-]|\.(?!git\b)\w)"  # the name ends here: a longer one is another repository

# Where somebody fetches the course from, by the address or by owner/repository alone.
FETCHED = re.compile(
    rf"(?:git\+|git clone |\?src=)(?P<long>https://[\w.:-]+/{NAME}?)(?=/blob/|[@\s\"\\]|$)"
    rf"|(?:/github/|codespaces\.new/)(?P<short>[\w.~-]+/[\w.~/-]+?)(?=/blob/|/tree/|[?\s)\"])"
)


def declared():
    """The address in pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'^Repository = "(.*)"', text, re.MULTILINE)
    address = found[1] if found else ""
    if not FORM.fullmatch(address):
        sys.exit(f"Repository in pyproject.toml is {address!r}: {MUST}")
    return address


def texts():
    """Text files that git tracks, {name: text}, but for the tests, which try other addresses."""
    listed = ["git", "-C", str(ROOT), "ls-files", "-z"]
    try:
        done = subprocess.run(listed, capture_output=True, check=True, encoding="utf-8")
    except (OSError, subprocess.CalledProcessError):
        sys.exit(f"{ROOT} is not a git checkout: clone the project, and move the clone")
    names = [name for name in done.stdout.split("\0") if name and not name.startswith("tests/")]
    names.sort(key=lambda name: name == "pyproject.toml")  # last: a move cut short can be repeated
    found = {}
    for name in names:
        try:
            found[name] = (ROOT / name).read_bytes().decode()
        except (UnicodeDecodeError, FileNotFoundError):  # weights or a picture; deleted by hand
            continue
    return found


def moved(text, old, new):
    """The text with the one address in place of the other, in both of its forms."""
    text = re.sub(re.escape(old) + END, lambda _: new, text)
    short = re.escape(FORM.fullmatch(old)[1])
    return re.sub(
        rf"(?<=/github/){short}(?=/blob/)|(?<=codespaces\.new/){short}{END}",
        lambda _: FORM.fullmatch(new)[1],
        text,
    )


def strays(address):
    """The places that fetch the course from elsewhere, as "file: address"."""
    own = {address, FORM.fullmatch(address)[1]}
    for name, text in texts().items():
        for match in FETCHED.finditer(text):
            found = match["long"] or match["short"]
            if found not in own:
                yield f"{name}: {found}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("address", nargs="?", help="https://github.com/owner/repository")
    new, old = parser.parse_args().address, declared()
    if new is None:
        if found := sorted(set(strays(old))):
            sys.exit(f"not {old}: {'; '.join(found)}")
        print(f"{old}: in every place")
        return
    if not FORM.fullmatch(new):
        sys.exit(f"{new!r} is not an address that others can use: {MUST}")

    written = []
    for name, text in texts().items():
        if (changed := moved(text, old, new)) != text:
            (ROOT / name).write_bytes(changed.encode())
            written.append(name)
    print(f"{new}: " + (f"written to {', '.join(written)}" if written else "in every place"))
    if not new.startswith("https://github.com/"):
        print("Colab, Kaggle and Codespaces open what is on GitHub: take launch_buttons out of")
        print("_config.yml, and the buttons out of README.md.")


if __name__ == "__main__":
    main()
