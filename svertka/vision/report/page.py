"""A page in one file: headings, figures as SVG, tables; light and dark, narrow and wide, on screen and on paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from svertka.explain.draw import style
from svertka.explain.draw.svg import escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Section:
    """A part of a page: its name in links, its heading and what stands below that."""

    name: str
    title: str
    body: str


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The whole file.

    Args:
        title: of the page.
        lead: HTML that stands first.
        sections: follow, with links to them at the top.
    """
    links = "".join(f'<a href="#{section.name}">{escape(section.title)}</a>' for section in sections)
    parts = "".join(
        f'<section id="{section.name}"><h2>{escape(section.title)}</h2>{section.body}</section>' for section in sections
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{style.css('.svertka')}{_CSS}</style></head>"
        f'<body class="svertka"><main><header><h1>{escape(title)}</h1>{lead}</header><nav>{links}</nav>{parts}</main>'
        "</body></html>\n"
    )


def figure(drawing: Figure, caption: str = "") -> str:
    """A figure with a sentence below it that says how to read it."""
    from svertka.inspect.draw import svg

    words = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f"<figure>{svg(drawing)}{words}</figure>"


def paragraph(text: str) -> str:
    """Plain words."""
    return f"<p>{worded(text)}</p>"


def worded(text: str) -> str:
    """Escaped; a percent sign stays with its number."""
    return escape(text.replace(" %", "\u00a0%"))


def facts(found: Sequence[tuple[str, str]]) -> str:
    """Large numbers, each with what it is."""
    cells = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in found)
    return f'<div class="facts">{cells}</div>'


def points(sentences: Sequence[str]) -> str:
    """A list of sentences."""
    return f"<ul>{''.join(f'<li>{worded(sentence)}</li>' for sentence in sentences)}</ul>"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns under heads, the first `left` of them set to the left; long ones scroll."""
    head = "".join(f"<th{_side(i, left)}>{escape(text)}</th>" for i, text in enumerate(heads))
    body = "".join(
        f"<tr>{''.join(f'<td{_side(i, left)}>{escape(text)}</td>' for i, text in enumerate(row))}</tr>" for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def code(text: str) -> str:
    """A command as it is typed."""
    return f"<pre><code>{escape(text)}</code></pre>"


def folded(title: str, body: str, opened: bool = False) -> str:
    """What is shown when its title is pressed."""
    return f"<details{' open' if opened else ''}><summary>{escape(title)}</summary>{body}</details>"


def _side(column: int, left: int) -> str:
    return ' class="l"' if column < left else ""


_LIGHT = "".join(f"--{name}:{colour};" for name, colour in style.LIGHT.items())
_CSS = (
    "html{-webkit-text-size-adjust:100%}body{margin:0;background:var(--paper);color:var(--ink);font-size:16px;"
    "line-height:1.55}main{max-width:960px;margin:0 auto;padding:32px 20px 64px}"
    "h1{font-size:30px;line-height:1.2;margin:0 0 6px;overflow-wrap:anywhere}h2{font-size:22px;line-height:1.25;"
    "margin:0 0 10px}p,ul{margin:0 0 14px;max-width:72ch}ul{padding-left:1.2em}li{margin:2px 0}"
    "section{border-top:1px solid var(--line);padding-top:26px;margin-top:34px}"
    ".lead{font-size:19px;color:var(--faint);margin-bottom:18px}"
    "nav{display:flex;flex-wrap:wrap;gap:4px 18px;margin-top:22px;font-size:15px}a{color:var(--current)}"
    ".facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:20px 0 22px}"
    ".facts div{background:var(--input);border-radius:10px;padding:14px 16px}"
    ".facts b{display:block;font-size:26px;line-height:1.2;white-space:nowrap}.facts div:first-child b{color:"
    "var(--current)}.facts span{color:var(--faint);font-size:14px}"
    "figure{margin:22px 0 26px;overflow-x:auto}figure svg{display:block;max-width:100%;height:auto;overflow:visible}"
    "figure image{image-rendering:pixelated}figcaption,.note{color:var(--faint);font-size:14.5px;margin-top:10px;"
    "max-width:78ch}.wide{overflow-x:auto;margin:0 0 16px}table{border-collapse:collapse;font-size:14.5px;"
    "font-variant-numeric:tabular-nums}th{color:var(--faint);font-weight:500;border-bottom:1px solid var(--line)}"
    "th,td{padding:4px 18px 4px 0;text-align:right;white-space:nowrap}.l{text-align:left}"
    "tbody tr:nth-child(even){background:color-mix(in srgb,var(--input) 55%,transparent)}"
    "pre{background:var(--input);border-radius:8px;padding:12px 14px;overflow-x:auto;font-size:13.5px;margin:0 0 16px;"
    "white-space:pre-wrap;overflow-wrap:anywhere}summary{cursor:pointer;color:var(--current);margin:8px 0}"
    "@media print{.svertka{" + _LIGHT + "}body{font-size:11pt}nav{display:none}main{max-width:none;padding:0}"
    "figure,tr,.facts div{break-inside:avoid}h2{break-after:avoid}figure{overflow:visible}"
    "figure svg{min-width:0!important}"
    "details>*{display:block}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}"
)
