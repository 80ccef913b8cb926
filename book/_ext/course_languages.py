"""The book in two languages: each page leads to its twin, and says where its Chinese lags behind.

With COURSE_LANGUAGE=zh the pages of book/zh/_toc.yml are built, else those of _toc.yml. The
Chinese book lies in the folder zh of the English one.
"""

import json
import os
import re
from gettext import NullTranslations
from itertools import pairwise
from pathlib import Path
from posixpath import dirname, join, normpath

import parity
import translations
from docutils import nodes
from sphinx import addnodes, locale
from sphinx.transforms import SphinxTransform

CHINESE = os.environ.get("COURSE_LANGUAGE") == "zh"
IN_CHINESE = {  # of Sphinx's settings, those that a reader sees
    "language": "zh_CN",
    "author": "本课程编者",
    "html_title": "逐层读懂莎士比亚",
    "nb_code_prompt_show": "展开代码",
    "nb_code_prompt_hide": "收起代码",
    "togglebutton_hint": "点击展开",
    "togglebutton_hint_hide": "点击收起",
}
IN_THEME = {"toc_title": "本页内容", "search_bar_text": "搜索本书……"}
IN_FRAME = {  # of what Sphinx and its themes say, that which their own Chinese lacks or has amiss
    "Breadcrumb": "当前位置",
    "Color mode": "颜色模式",
    "Copyright %(copyright)s": "版权 © %(copyright)s",
    "Launch interactive content": "在线运行",
    "Launch on": "打开于",
    "Link to this heading": "本节链接",
    "Link to this term": "本词条链接",
    "Open an issue": "提交问题",
    "Open issue": "提交问题",
    "Print to PDF": "打印成 PDF",
    "Repository": "仓库",
    "Source repositories": "源码仓库",
    "Source repository": "源码仓库",
    "System Settings": "跟随系统",
    "© Copyright %(copyright)s.": "版权 © %(copyright)s。",
}
IN_TAGS = {  # what templates hold that ask no catalogue
    'title="Toggle primary sidebar"': 'title="显示或隐藏目录"',
    'title="Toggle secondary sidebar"': 'title="显示或隐藏本页内容"',
    'aria-label="Toggle hidden content"': 'aria-label="展开或收起"',
    '<nav class="bd-links bd-docs-nav" aria-label="Main"': (
        '<nav class="bd-links bd-docs-nav" aria-label="全书目录"'
    ),
    '<nav aria-label="Page"': '<nav aria-label="本页内容"',
    'alt="Colab logo"': 'alt="Colab 标志"',
}
NEWER = "本节的英文已更新，译文还没有跟上：[看英文]({})。"
UNTRANSLATED = "本节还没有中文译文，下面是[英文]({})。"


def source(docname, root):
    """The file behind a page, or None: the text of a lesson, not its notebook."""
    found = (Path(root, docname).with_suffix(suffix) for suffix in (".py", ".md"))
    return next((path for path in found if path.is_file()), None)


def english(docname):
    """book/zh/intro -> book/intro"""
    return docname.replace("/zh/", "/")


def headings(path):
    """The ids of an English page's headings, in order."""
    found = {}
    for unit in translations.units(path):
        tokens = [] if unit.is_code else parity.PARSER.parse(unit.text)
        for token, words in pairwise(tokens):
            if token.type == "heading_open":
                kept = (t.content for t in words.children if t.type in ("text", "code_inline"))
                found.setdefault(nodes.make_id("".join(kept)))
    return [*found]


class Frame(NullTranslations):
    """What Sphinx or a theme says around the pages; after IN_FRAME its own catalogue is asked."""

    def gettext(self, message):
        return IN_FRAME.get(message) or super().gettext(message)


# --- the Chinese pages ----------------------------------------------------------------------------
def mark_stale(app, docname, content):
    """Put a note below the heading of each cell or section whose Chinese is not up to date."""
    path = source(english(docname), app.srcdir)
    if path is None or path == source(docname, app.srcdir):
        return
    current = {translations.digest(unit.text) for unit in translations.units(path)}
    address = "../" * (docname.count("/") + 1) + english(docname) + ".html"

    def noted(unit):
        about = UNTRANSLATED if not unit.is_said else NEWER if unit.english not in current else ""
        title = re.match(r"(\s*#+ .*\n)?", unit.text)[0]
        link = about.replace("]({})", "</a>").replace("[", f'<a href="{address}">')
        note = f"\n```{{note}}\n{link}\n```\n\n" if about else ""
        return title + note + unit.text[len(title) :]

    if path.suffix == ".md":
        content[0] = "".join(noted(unit) for unit in translations.sections(content[0]))
        return
    notebook = json.loads(content[0])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            stamp = cell["metadata"].get("english", "")
            cell["source"] = noted(translations.Unit("".join(cell["source"]), stamp))
    content[0] = json.dumps(notebook)


class LikeTheEnglish(SphinxTransform):
    """A Chinese page's headings bear the ids of the English ones, so that links lead to both.

    What leads to a page that has no Chinese twin leads out to the English one.
    """

    default_priority = 870  # before MyST looks for what a link names

    def apply(self):
        docname = self.env.docname
        sections, ids = (
            [*self.document.findall(nodes.section)],
            headings(source(english(docname), self.env.srcdir)),
        )
        slugs = self.document.myst_slugs
        slugs.clear()
        for section, name in zip(sections, ids, strict=False):
            section["ids"] = [name]
            self.document.ids[name] = section
            slugs[name] = (section.line, name, section[0].astext())
        for node in [*self.document.findall(addnodes.pending_xref)]:
            if address := self.outside(node):
                node.replace_self(nodes.reference("", "", *node.children, refuri=address))

    def outside(self, node):
        """Where a link to an English page without a Chinese twin leads, or None."""
        docname, page, anchor = self.env.docname, node["reftarget"], node.get("reftargetid")
        if node["refdomain"] != "doc":  # MyST found no such file
            page, _, anchor = page.partition("#")
            page = normpath(join(dirname(docname), page)).partition(".")[0]
        name = english(page)
        if page in self.env.found_docs or source(name, self.env.srcdir) is None:
            return None
        return "../" * (docname.count("/") + 1) + f"{name}.html" + (f"#{anchor}" if anchor else "")


# --- all pages ------------------------------------------------------------------------------------
def lead_to_twin(app, pagename, templatename, context, doctree):
    """A button that leads to the same page in the other language, or else to the book in it."""
    up = "../" * pagename.count("/")
    if CHINESE:
        address, words, title = (
            f"{up}../{english(pagename)}.html",
            "English",
            "This page in English",
        )
    else:
        twin = translations.twin(Path(pagename))
        here = "/" not in pagename or source(twin, app.srcdir)
        page, title = (twin, "这一页的中文版") if here else (Path("book/zh/intro"), "中文版")
        page = pagename if "/" not in pagename else page.as_posix()
        address, words = f"{up}zh/{page}.html", "中文"
    button = {"type": "link", "url": address, "text": words, "tooltip": title, "label": "language"}
    context["header_buttons"].append(button)


def translate_tags(app, error):
    """Put Chinese in the tags that each page has from templates."""
    for page in Path(app.outdir).rglob("*.html"):
        english = page.read_text(encoding="utf-8")
        chinese = english
        for words, said in IN_TAGS.items():
            chinese = chinese.replace(words, said)
        if chinese != english:
            page.write_text(chinese, encoding="utf-8")


def setup(app):
    app.connect("html-page-context", lead_to_twin, priority=900)
    if CHINESE:
        for name, words in IN_CHINESE.items():
            setattr(app.config, name, words)
        for catalogue in ("sphinx", "booktheme"):
            locale.translators["general", catalogue] = Frame()
        app._init_i18n()  # was done before extensions are asked
        app.connect("config-inited", lambda app, config: config.html_theme_options.update(IN_THEME))
        app.connect("source-read", mark_stale)
        app.connect("build-finished", translate_tags)
        app.add_transform(LikeTheEnglish)
    return {"parallel_read_safe": True}
