"""Everything a run found, on one page that opens from disk: findings, pictures, tables, facts."""

import os
from base64 import b64encode
from numbers import Integral, Real
from pathlib import Path

import pandas as pd
from jinja2 import Environment

from course_utils import files

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark;
        --ink: #222; --paper: #fdfdfb; --line: #ccc; --quiet: #595959; --warn: #fff0c2; --link: #00567a; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --paper: #16181b; --line: #484c52; --quiet: #a8a8a8; --warn: #4a3800; --link: #7cc4e8; }
}
* { box-sizing: border-box; }
body { max-width: 62rem; margin: 0 auto; padding: 1rem; font: 1rem/1.55 system-ui, sans-serif;
       color: var(--ink); background: var(--paper); overflow-wrap: anywhere; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
a { color: var(--link); }
.note { background: var(--warn); padding: .6rem 1rem; border-radius: .4rem; font-weight: 600; }
nav ul { padding-left: 1.2rem; }
figure { margin: 1.5rem 0; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; padding: .5rem; border-radius: .4rem; }
dt { color: var(--quiet); }
.scroll { overflow-x: auto; margin: 1rem 0; border: 1px solid var(--line); border-radius: .4rem; }
table { border-collapse: collapse; font-size: .9rem; overflow-wrap: normal; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
         white-space: nowrap; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper); }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { white-space: pre-wrap; width: min(36rem, 75vw); max-height: 24rem; overflow-y: auto; margin: .4rem 0; }
dd { margin: 0 0 .6rem 1rem; font-family: ui-monospace, monospace; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% if note %}<p class="note">{{ note }}</p>
{% endif %}
<nav aria-label="Contents"><ul>
{% if findings %}<li><a href="#findings">What was found</a></li>
{% endif %}{% for picture in pictures %}<li><a href="#figure-{{ loop.index }}">{{ picture.name }}</a></li>
{% endfor %}{% for name in tables %}<li><a href="#table-{{ loop.index }}">{{ name }}</a></li>
{% endfor %}{% if facts %}<li><a href="#facts">How it was made</a></li>
{% endif %}</ul></nav>
<main>
{% if findings %}<h2 id="findings">What was found</h2>
<ul>
{% for finding in findings %}<li>{{ finding }}</li>
{% endfor %}</ul>
{% endif %}
{% for picture in pictures %}<h2 id="figure-{{ loop.index }}">{{ picture.name }}</h2>
<figure><img src="data:image/png;base64,{{ picture.data }}" alt="{{ picture.alt }}" lang="{{ picture.lang }}"></figure>
{% endfor %}
{% for name, table in tables.items() %}<h2 id="table-{{ loop.index }}">{{ name }}</h2>
<div class="scroll" role="region" tabindex="0" aria-label="{{ name }}"><table>
<thead><tr>{% for column in table.columns %}<th scope="col"><bdi>{{ column }}</bdi></th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.itertuples(index=False, name=None) %}<tr>{% for value in row %}
{% set text = value | shown %}<td{% if value is number %} class="number"{% endif %}>
{%- if text | length > 60 or "\\n" in text %}<details><summary><bdi>{{ text[:40] }}…</bdi></summary>
<pre dir="auto">{{ text }}</pre></details>{% else %}<bdi>{{ text }}</bdi>{% endif %}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{% endfor %}
{% if facts %}<h2 id="facts">How it was made</h2>
<dl>{% for name, fact in facts.items() %}<dt>{{ name }}</dt><dd>{{ fact }}</dd>
{% endfor %}</dl>
{% endif %}
</main>
</body>
</html>
"""


def shown(value):
    """A table's cell as text: four figures or more, thousands apart, "–" for nothing."""
    if pd.isna(value):
        return "–"
    if isinstance(value, Real) and not isinstance(value, Integral):
        digits = 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1
        return f"{value:.2g}" if 0 < abs(value) < 0.001 else f"{value:,.{digits}f}"
    return f"{value:,}" if isinstance(value, Integral) and abs(value) >= 10_000 else str(value)


def write(folder, tables, figures, findings, note="", facts=None):
    """Write report.html into the folder and give its path: one file, no script, nothing loaded from elsewhere.

    tables: title -> DataFrame. figures: title -> Figure or the path of a PNG. findings: sentences, shown first.
    note: a banner, where it isn't empty. facts: name -> value (corpus, seeds, device, command), shown last. Whatever
    the texts hold is shown as text.
    """
    pictures = []
    for name, figure in figures.items():
        if isinstance(figure, str | os.PathLike):
            data, alt, lang = Path(figure).read_bytes(), name, "en"
        else:
            data, alt, lang = (
                figure.png(),
                figure.get_label(),
                {"english": "en", "chinese": "zh"}[figure.language],
            )
        pictures.append({"name": name, "data": b64encode(data).decode(), "alt": alt, "lang": lang})
    environment = Environment(autoescape=True)
    environment.filters["shown"] = shown
    page = environment.from_string(PAGE).render(
        title="Shakespeare, Layer by Layer: results",
        note=note,
        findings=findings,
        pictures=pictures,
        tables=tables,
        facts=facts or {},
    )
    path = Path(folder) / "report.html"
    files.write(path, page.encode())
    return path
