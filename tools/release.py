"""Write a version wherever a reader takes the course from: last term's badge works next term.

    python tools/release.py 1.2.0    everything names the tag v1.2.0
    python tools/release.py main     everything follows the branch: for a fork without releases
    python tools/release.py          check: fail where two places name two versions

A badge opens a notebook at a tag, and that notebook's first cell installs the package at the same
tag: whatever changes later, the two fit each other. Then commit, tag and push; the tool says how.
"""

import argparse
import re
import sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSION = re.compile(r"\d+\.\d+\.\d+")

# Files -> what stands before the tag or branch there, the tag or branch itself, how it is written.
BADGE = (r"/blob/", r"[^/\s]+(?=/notebooks/)", "{}")
TREE = (r"codespaces\.new/[\w.~-]+/[\w.~-]+/tree/", r"[^?\s)\"]+", "{}")
ARCHIVE = (r"/archive/", r"[\w.-]+?(?=\.zip)", "{}")
PLACES = {
    "notebooks/**/[0-9][0-9]_*.py": [(r'"git\+https://[^"@\s]+', r'(?:@[^"\s]+)?', "@{}")],
    "notebooks/**/[0-9][0-9]_*.ipynb": [(r'\\"git\+https://[^\\"@\s]+', r'(?:@[^\\"\s]+)?', "@{}")],
    "README*.md": [BADGE, TREE, ARCHIVE],
    "book/**/*.md": [BADGE, TREE, ARCHIVE],
    "_config.yml": [(r"^  branch: ", r"\S+", "{}")],
}
NEEDED = {"notebooks/**/[0-9][0-9]_*.py", "notebooks/**/[0-9][0-9]_*.ipynb", "README*.md"}
NEEDED |= {"_config.yml"}  # files that must have a place; in the others there may be none


def current():
    """The tag or branch that the book's own launch buttons open."""
    text = (ROOT / "_config.yml").read_text(encoding="utf-8")
    found = re.search(r"^  branch: (\S+)", text, re.MULTILINE)
    if not found:
        sys.exit("_config.yml has no line `branch:` under `repository:`")
    return found[1]


def pointed_at(ref):
    """The files that name another tag or branch, {path: new text}."""
    changed = {}
    for pattern, places in PLACES.items():
        for path in sorted(ROOT.glob(pattern)):
            text, seen = path.read_bytes().decode(), 0
            new = text
            for before, named, form in places:
                # main stands without "@main" in a pip address: the default branch needs no name
                written = "" if form == "@{}" and ref == "main" else form.format(ref)
                new, n = re.subn(f"({before}){named}", rf"\g<1>{written}", new, flags=re.MULTILINE)
                seen += n
            if not seen and pattern in NEEDED:
                name = path.relative_to(ROOT).as_posix()
                sys.exit(
                    f"{name} names no version and no branch: tools/release.py says where it looks"
                )
            if new != text:
                changed[path] = new
    return changed


def numbered(version, today):
    """The three files that hold the number itself, where they need another: {path: new text}."""
    project, citation, log = (
        ROOT / name for name in ("pyproject.toml", "CITATION.cff", "CHANGELOG.md")
    )
    old = {path: path.read_bytes().decode() for path in (project, citation, log)}
    new = dict(old)
    new[project] = re.sub(r'(?m)^version = ".*"', f'version = "{version}"', old[project], count=1)
    dated = rf"(?m)^version: {re.escape(version)}\ndate-released: "
    if not re.search(dated, old[citation]):
        lines = f"version: {version}\ndate-released: {today}\n"
        new[citation] = re.sub(
            r"(?m)^version: .*\n(?:date-released: .*\n)?", lines, old[citation], count=1
        )
    if not re.search(rf"(?m)^## {re.escape(version)} ", old[log]):
        new[log], found = re.subn(
            r"(?m)^## Unreleased$", f"## {version} · {today}", old[log], count=1
        )
        if not found:
            sys.exit(
                f"CHANGELOG.md says nothing of {version}: write what changed under a heading "
                "`## Unreleased`, then run this again"
            )
    return {path: text for path, text in new.items() if text != old[path]}


def problems():
    """What is out of step, as short sentences."""
    ref = current()
    names = [path.relative_to(ROOT).as_posix() for path in pointed_at(ref)]
    if names:
        yield f"{', '.join(names)}: not {ref}, which _config.yml names"
    if ref != "main":
        names = [path.name for path in numbered(ref.removeprefix("v"), date.today())]
        if names:
            yield f"{', '.join(names)}: not the version of {ref}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("version", nargs="?", metavar="X.Y.Z|main")
    version = parser.parse_args().version
    if version is None:
        if found := "; ".join(problems()):
            sys.exit(f"{found}: run python tools/release.py X.Y.Z, or main")
        print(current())
        return
    if version != "main" and not VERSION.fullmatch(version):
        sys.exit(f"{version!r} is no version: give three numbers, such as 1.2.0, or main")

    ref = "main" if version == "main" else f"v{version}"
    changed = pointed_at(ref)
    if version != "main":
        changed |= numbered(version, date.today())
    for path, text in changed.items():
        path.write_bytes(text.encode())
    names = ", ".join(path.relative_to(ROOT).as_posix() for path in changed)
    print(f"{ref}: " + (f"written to {names}" if changed else "in every place"))
    if version != "main":
        print(f"Now: ./run.sh test && git commit -am 'Release {version}' && git tag {ref} &&")
        print(f"     git push origin HEAD {ref}")


if __name__ == "__main__":
    main()
