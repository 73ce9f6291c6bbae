"""The frame of a page: its style, which suits light and dark, and its parts. Nothing is loaded from elsewhere."""

from collections.abc import Sequence

from loadtests.report.words import plain

_HEAT_LIGHT = ("#eef3f9", "#d6e4f2", "#b3cfe8", "#86b3da", "#5a94c8", "#3a77b0", "#265a8f", "#173f69")
_HEAT_DARK = ("#16212c", "#1c3245", "#22465f", "#2a5d7f", "#3a7ca3", "#5a9cc1", "#8bc0dc", "#c9e6f5")
_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --line: #dfe4ea; --paper: #fff; --card: #f6f8fa;
  --good: #1a7f37; --bad: #cf222e; --warn: #9a6700; --band: #cf222e;
  --c0: #2f6fb0; --c1: #c4570f; --c2: #2b8a57; --c3: #a03c8c; --c4: #8a7410; --c5: #6b7280; HEAT_LIGHT }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9aa4ae; --line: #2d333b; --paper: #0f1419;
  --card: #161c23; --good: #4ac26b; --bad: #ff7b72; --warn: #e3b341; --band: #ff7b72;
  --c0: #79b8f3; --c1: #f2a35e; --c2: #6fd39b; --c3: #df8fcd; --c4: #dcc35a; --c5: #9aa4ae; HEAT_DARK } }
* { box-sizing: border-box; }
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.55rem; margin: 0 0 .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .3rem; } h3 { font-size: .95rem; margin: 1.1rem 0 .2rem; }
p { margin: .3rem 0; color: var(--soft); overflow-wrap: anywhere; } .none { font-style: italic; }
.verdict { border-left: .35rem solid var(--good); background: var(--card); border-radius: 4px; padding: .7rem 1rem;
  margin: 1rem 0; } .verdict b { color: var(--good); font-size: 1.1rem; }
.verdict.bad { border-color: var(--bad); } .verdict.bad b { color: var(--bad); }
.verdict.warn { border-color: var(--warn); } .verdict.warn b { color: var(--warn); }
.verdict { overflow-wrap: anywhere; } .verdict ul { margin: .3rem 0 0; padding-left: 1.2rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .7rem; margin: 1rem 0; }
.tile { background: var(--card); border-radius: 6px; padding: .6rem .8rem; } .tile span { color: var(--soft);
  font-size: .82rem; display: block; } .tile strong { font-size: 1.3rem; font-weight: 600; display: block; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums;
  font-size: .87rem; }
th, td { border-bottom: 1px solid var(--line); padding: .28rem .55rem; text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } th:first-child, td:first-child, th.text { text-align: left; }
td.text { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 14rem; }
small { color: var(--soft); } .better { color: var(--good); } .worse { color: var(--bad); }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 0 1.5rem; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
.grid { stroke: var(--line); } .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.dashed { stroke-dasharray: 5 4; } .note { fill: transparent; } .note:hover { fill: var(--soft); fill-opacity: .13; }
.band { fill: var(--band); fill-opacity: .16; } .quiet { fill: var(--soft); fill-opacity: .1; }
.limit { stroke: var(--bad); stroke-dasharray: 4 3; }
svg text.mark { fill: var(--bad); }
.keys { font-size: .85rem; color: var(--soft); margin: .15rem 0 .1rem 3.6rem; } .key { margin-right: 1.1rem; }
.key i { display: inline-block; width: 1.1rem; border-top: 3px solid; vertical-align: middle; margin-right: .35rem; }
.key i.dashed { border-top-style: dashed; } COLOURS SHADES
section, section > div { overflow-x: auto; } @media (max-width: 52rem) { svg[viewBox^="0 0 1080"] { width: 54rem; } }
@media print { body { max-width: none; } h2 { break-after: avoid; } }
"""


def _style() -> str:
    colours = "".join(
        f".l{n} {{ stroke: var(--c{n}); }} .f{n} {{ fill: var(--c{n}); }} "
        f".key i.k{n} {{ border-color: var(--c{n}); }}\n"
        for n in range(6)
    )
    shades = "".join(f".h{n} {{ fill: var(--h{n}); }} " for n in range(1, 9))
    light, dark = (
        " ".join(f"--h{place}: {colour};" for place, colour in enumerate(each, 1)) for each in (_HEAT_LIGHT, _HEAT_DARK)
    )
    text = _STYLE.replace("HEAT_LIGHT", light).replace("HEAT_DARK", dark)
    return text.replace("COLOURS", colours).replace("SHADES", shades)


def document(title: str, parts: Sequence[str]) -> str:
    """A whole page. `title` is plain text; `parts` are HTML."""
    head = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    )
    return "\n".join(
        [f"{head}<title>{plain(title)}</title><style>{_style()}</style></head><body>", *parts, "</body></html>\n"]
    )


def section(title: str, note: str = "", *parts: str) -> str:
    """A heading, a sentence about what is shown, and HTML."""
    words = f"<p>{plain(note)}</p>" if note else ""
    return f"<section><h2>{plain(title)}</h2>{words}{''.join(parts)}</section>"


def figure(title: str, drawing: str) -> str:
    """A drawing under its title."""
    return f"<div><h3>{plain(title)}</h3>{drawing}</div>"


def verdict_box(kind: str, title: str, reasons: Sequence[str] = ()) -> str:
    """`kind`: "", "bad" or "warn"."""
    items = "".join([f"<li>{plain(reason)}</li>" for reason in reasons])
    return f'<div class="verdict {kind}"><b>{plain(title)}</b>{f"<ul>{items}</ul>" if items else ""}</div>'


def tiles(values: Sequence[tuple[str, str]]) -> str:
    """Names and figures, large."""
    cells = [
        f'<div class="tile"><span>{plain(name)}</span><strong>{plain(value)}</strong></div>' for name, value in values
    ]
    return f'<div class="tiles">{"".join(cells)}</div>'


def table(rows: Sequence[Sequence[str]], *, text_columns: Sequence[int] = ()) -> str:
    """A header and rows of plain text. `text_columns`: those with sentences."""
    head = "".join(
        [
            f"<th{' class=text' if column in text_columns else ''}>{plain(cell)}</th>"
            for column, cell in enumerate(rows[0])
        ]
    )
    body = []
    for row in rows[1:]:
        cells = [
            f'<td class="text">{plain(cell)}</td>' if column in text_columns else f"<td>{plain(cell)}</td>"
            for column, cell in enumerate(row)
        ]
        body.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
