"""What a translation must share with its original: `faults(english, chinese, …)`.

A text falls into pieces, in order: headings, paragraphs, items, rows, directives, code. The two
texts must have the same pieces, and each piece the same numbers, formulas, code spans, links and
marks as its twin. A bold term must be the one of the table. What this can't see: a wrong meaning.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from html.parser import HTMLParser
from itertools import zip_longest
from types import MappingProxyType

from markdown_it import MarkdownIt
from mdit_py_plugins.colon_fence import colon_fence_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.myst_blocks import myst_block_plugin

PARSER = (
    MarkdownIt("commonmark")
    .enable("table")
    .use(colon_fence_plugin)
    .use(dollarmath_plugin)
    .use(myst_block_plugin)
)
BLANK = "\N{EM SPACE}"  # for a line's end between two Chinese signs, which a page shows as a blank
HAN = re.compile(r"[\u4e00-\u9fff]")
WIDE = re.compile(r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef“”…—]")
WORD = re.compile(r"[A-Za-z]+(?:['’-][A-Za-z]+)*")
NEGATION = re.compile(r"\b(not|no|never|nothing|without|neither|nor|cannot|none|nobody)\b|n['’]t\b")
ENGLISH = re.compile(r"(?:[A-Za-z][A-Za-z'’-]*[ ,;:]+){5,}")
UNITS = {
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "M": 10**6,
    "千": 10**3,
    "万": 10**4,
    "百万": 10**6,
    "亿": 10**8,
}
NUMBER = re.compile(
    r"(?:(?<![\w.)\]–-])[-−]|(?<=[\u4e00-\u9fff])−)?"  # a sign, and no hyphen
    r"\d+(?:,\d{3})*(?:\.\d+)?"
    r"(?:\s*(?:thousand|million|billion|M\b|百万|千|万|亿))?"
    r"(?:\s*(?:%|per cent))?"
)
MONTHS = "January February March April May June July August September October November December"
MONTH = re.compile(rf"(?<=\d )({MONTHS.replace(' ', '|')})|({MONTHS.replace(' ', '|')})(?= \d)")


KEPT = {  # what the parser calls it: what we call it, and where it is
    "code_inline": ("code span", ""),
    "math_inline": ("formula", ""),
    "math_inline_double": ("formula", ""),
    "link_open": ("link", "href"),
    "image": ("picture", "src"),
}


@dataclass
class Piece:
    """One piece of a text: what it is, its words, and what a translation leaves as it is."""

    kind: str
    words: str = ""
    plain: str = ""  # those outside emphasis
    kept: dict = field(default_factory=dict)  # kind of thing: Counter of things
    labels: list = field(default_factory=list)  # bold words, and those of a folded part

    def keep(self, kind, thing):
        self.kept.setdefault(kind, Counter())[thing] += 1


class Html(HTMLParser):
    """Tags in order, words, and the words of each summary."""

    def __init__(self, piece):
        super().__init__()
        self.piece, self.inside = piece, ""

    def handle_starttag(self, tag, attributes):
        self.inside = tag
        self.piece.keep("tag", f"<{tag}>")
        for name, value in attributes:
            self.piece.keep("attribute", f"{name}={value}")

    def handle_endtag(self, tag):
        self.inside = ""
        self.piece.keep("tag", f"</{tag}>")

    def handle_data(self, text):
        self.piece.words += text
        if self.inside == "summary":
            self.piece.labels.append(text)


@cache
def pieces(text):
    """The pieces of a text in MyST Markdown, in order."""
    text = re.sub(r"(?<=[^\s`|$>])\n</details>", " </details>", text)  # closed on a line of its own
    return [piece for token in PARSER.parse(text) for piece in of_token(token)]


def of_token(token):
    """The pieces that a token of the parser stands for."""
    if token.type in ("fence", "colon_fence"):
        return fenced(token.info.strip(), token.content)
    if token.type == "html_block":
        return [html(token.content)]
    if token.type == "math_block":
        return [Piece("formula", kept={"formula": Counter([formula(token.content)])})]
    if token.type == "inline":
        return [inline(token.children)]
    marks = "#" * int(token.tag[1]) if token.type == "heading_open" else token.markup
    if token.nesting == 1 and token.type != "paragraph_open":
        return [Piece(f"{token.type.removesuffix('_open')} {marks}".rstrip())]
    return [Piece(token.type)] if token.type in ("table_close", "hr") else []


def fenced(info, content):
    """A directive is its name and argument, its options and what it holds; code is itself."""
    directive = re.match(r"\{(\w[\w-]*)\}\s*(.*)", info)
    if directive is None:
        return [Piece(f"code {info}".rstrip(), kept={"code": Counter(map(bare, lines(content)))})]
    name, argument = directive.groups()
    if name == "raw":
        return [Piece(f"directive {name} {argument}"), html(content)]
    if name == "glossary":
        return [Piece(f"directive {name}"), *entries(content)]
    options = re.findall(r"^:(\w[\w-]*):\s*(.*)$", content, re.MULTILINE)
    body = re.sub(r"^:\w[\w-]*:.*\n?", "", content, flags=re.MULTILINE)
    titled = bool(re.search(r"[^\w\s-]|\s", argument)) and not argument[:1].isdigit()
    shown = PARSER.parseInline(argument)[0].children if titled or HAN.search(argument) else []
    head = Piece(f"directive {name}" + ("" if shown else f" {argument}"), kept={})
    for option in options:
        head.keep("option", option)
    return [head, *([inline(shown)] if shown else []), *pieces(body)]


def entries(content):
    """A glossary's entries: the names, the Chinese ones apart, and what is said of them."""
    for entry in re.split(r"\n(?=\S)(?<=\n\n)(?!$)", content.strip() + "\n"):
        names = [line for line in entry.splitlines() if line and line[0] != " "]
        said = "\n".join(line.strip() for line in entry.splitlines() if line[:1] == " ")
        yield Piece("entry", "\n".join(names), labels=names)
        yield from pieces(said)


def html(content):
    piece = Piece("html")
    Html(piece).feed(content)
    return piece


def inline(children):
    """A line or paragraph of words."""
    piece, depth = Piece("words"), Counter()
    for token, after in zip_longest(children, children[1:]):
        depth[token.tag] += token.nesting
        if token.type == "html_inline":
            Html(piece).feed(token.content)
        elif token.type in KEPT:
            kind, address = KEPT[token.type]
            piece.keep(kind, token.attrs[address] if address else formula(token.content))
            piece.words += f" {token.content} " if token.type == "image" else "◦" * (not address)
        elif token.type == "strong_open":
            other_name = piece.labels and piece.words.endswith(f"{piece.labels[-1]} (")
            piece.labels.append("(" if other_name else "")
        else:
            text = token.content
            if token.type == "softbreak":
                wide = WIDE.match(piece.words[-1:]) and WIDE.match(after.content)
                text = BLANK if wide else " "
            piece.words += text
            piece.plain += text * (not depth["em"])
            if depth["strong"]:
                piece.labels[-1] += text
    return piece


def lines(code):
    return code.rstrip("\n").split("\n")


def bare(line):
    """A line of code without a comment in words, which is translated, and the room before it."""
    code, _, comment = line.partition("#")
    in_words = HAN.search(comment) or re.fullmatch(r"[a-z ,:;'-]+", comment)
    return code.rstrip() if in_words else line


def formula(text):
    """A formula without its words and spaces."""
    return re.sub(r"\\text\{[^}]*\}|\s", "", text)


def numbers(text):
    """The numbers of a text by their values: "1.66 million" is "166 万", "5 per cent" is "5%"."""
    text = MONTH.sub(lambda found: str(MONTHS.split().index(found[0]) + 1), text)
    found = Counter()
    for number in NUMBER.findall(text):
        share = "%" if re.search(r"%|per cent", number) else ""
        value = Decimal(re.sub(r"[^\d.]", "", number))
        unit = re.search(r"[A-Za-z\u4e00-\u9fff]+", number.replace("per cent", ""))
        value *= UNITS[unit[0]] if unit else 1
        sign = "−" if number[0] in "-−" else ""
        found[f"{sign}{value.normalize():f}{share}"] += 1
    return found


def faults(english, chinese, link=str, terms=MappingProxyType({})):
    """What a Chinese text lacks or has too much, in short sentences.

    link: where a link of the English text leads in the Chinese one.
    terms: {English: ([Chinese, …], "everywhere" or "in bold")}.
    """
    ours, theirs = pieces(english), pieces(chinese)
    for place, (one, other) in enumerate(zip_longest(ours, theirs)):
        if one is None or other is None or one.kind != other.kind:
            kinds = [f"“{piece.kind}”" if piece else "nothing" for piece in (one, other)]
            near = (one or other).words or next((p.words for p in ours[place:] if p.words), "")
            return [f"{' became '.join(kinds)} near “{near[:40]}”"]
    return [
        fault
        for one, other in zip(ours, theirs, strict=True)
        for fault in [
            *changed(one, other, link),
            *(entry if one.kind == "entry" else prose)(one, other, terms),
        ]
    ]


def changed(one, other, link):
    """What two pieces should share and don't."""
    for kind in sorted({*one.kept, *other.kept}):
        wanted, found = one.kept.get(kind, Counter()), other.kept.get(kind, Counter())
        if kind in ("link", "picture"):
            wanted = Counter({link(target): n for target, n in wanted.items()})
        yield from difference(kind, wanted, found)
    yield from difference("number", numbers(one.words), numbers(other.words))
    few, many = (sum(label[:1] != "(" for label in piece.labels) for piece in (one, other))
    if few != many and one.kind != "entry":
        yield f"{few} bold or folded parts became {many} in “{one.words[:40]}”"


def difference(kind, wanted, found):
    for thing in wanted - found:
        yield f"{kind} lost: {thing}"
    for thing in found - wanted:
        yield f"{kind} too many: {thing}"


def prose(one, other, terms):
    yield from off_the_table(one, other, terms)
    yield from unsaid(one, other)


def off_the_table(one, other, terms):
    """Terms that are not called what the table calls them: bold ones, some wherever they stand."""
    said = "\n".join(other.labels).lower()
    for label in one.labels:
        name = re.sub(r"[\d.:?!]+$|^[\d.]+ ", "", label.strip("( ")).strip().lower()
        words, _ = terms.get(name) or terms.get(name.removesuffix("s")) or ("", "")
        if words and not any(word.lower() in said for word in words):
            yield f"“{label}” is not called {' or '.join(words)}"
    left, said = outside_quotes(one.plain).lower(), other.words.lower()
    if not HAN.search(said):
        return  # a name, or `unsaid` says so
    for name in sorted((name for name in terms if name in left), key=len, reverse=True):
        words, checked = terms[name]
        left, count = re.subn(rf"\b{re.escape(name)}(s|es)?\b", "", left)
        if count and checked == "everywhere" and not any(word.lower() in said for word in words):
            yield f"no {' or '.join(words)} for “{name}” in “{other.words[:40]}”"


def entry(one, other, terms):
    """A glossary's entry has its Chinese name, then the English ones."""
    words, _ = terms.get(one.labels[0].lower(), ("", ""))
    english = [name for name in other.labels if name in one.labels]
    rest = [name for name in other.labels if name not in one.labels]
    if (
        english != one.labels
        or (words and other.labels[0] not in words)
        or len(rest) > len(english)
    ):
        yield f"the entry “{one.labels[0]}” must have its Chinese names, then all English ones"


def outside_quotes(text):
    return re.sub(r"[“\"][^”\"]*[”\"]", "", text)


def unsaid(one, other):
    """Words that were not translated, or hardly; a "not" that nothing is left of."""
    english = len(WORD.findall(outside_quotes(one.words)))
    chinese = len(HAN.findall(other.words))
    near = f"“{one.words[:40]}”"
    if english > 3 and not chinese:
        yield f"not translated: {near}"
    elif english >= 12 and not min(1, 0.5 + english / 60) <= chinese / english < 3:
        yield f"{english} words became {chinese} signs: {near}"
    if "*" in other.words and "*" not in one.words:
        yield f"a mark that marks nothing: {near} (**term**（English）, the bracket outside)"
    if BLANK in other.words:
        at = other.words.index(BLANK)
        yield f"a line's end shows as a blank: “{other.words[max(0, at - 10) : at + 10]}”"
    if NEGATION.search(outside_quotes(one.plain)) and not re.search(
        "[不没无非未别莫勿否缺只仅]", other.words
    ):
        yield f"a “not” is lost: {near}"
    left = ENGLISH.search(outside_quotes(other.plain))
    if left and left[0] in outside_quotes(one.plain):
        yield f"left in English: “{left[0]}”"
