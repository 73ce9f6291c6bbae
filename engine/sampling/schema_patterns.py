"""Regular expressions of a JSON Schema (ECMA-262) as llguidance has to get them, which reads them as Rust's `regex`."""

import re

_SYMBOLS = re.compile(r"\\[pPxu]\{[^{}]*\}|\\[pP].|\\x[\da-fA-F]{2}|\\u[\da-fA-F]{4}|\\.|.", re.DOTALL)
_OPERATORS = "[&~"
"""In a class of Rust `[`, `&&` and `~~` are operations on sets, and so is `--`."""
_NUL = r"\x00"
_MAY_HOLD_NUL = re.compile(r"\\[xupP]|\x00")


def rust_pattern(pattern: str) -> str:
    r"""The same pattern, with character classes that have no operations on sets and do not contain U+0000.

    Where a class contains all control characters, llguidance allows `\"` and `\\` in the JSON, too, whether the class
    contains a quote and a backslash or not. U+0000 cannot be in an answer in any case.
    """
    symbols = _SYMBOLS.findall(pattern)
    written: list[str] = []
    at = 0
    while at < len(symbols):
        symbol = symbols[at]
        at += 1
        if symbol == "[":
            text, at = _character_class(symbols, at)
            written.append(text)
        else:
            written.append(rf"[{symbol}--{_NUL}]" if symbol[:2] in {r"\p", r"\P"} else symbol)
    return "".join(written)


def _character_class(symbols: list[str], at: int) -> tuple[str, int]:
    """The class whose symbols after `[` begin at `at`, and where it ends."""
    negated = symbols[at : at + 1] == ["^"]
    begins = at = at + negated
    items: list[str] = []
    range_of = "nothing"
    """What a hyphen would follow: the first item of a range, its hyphen, or nothing that begins one."""
    while at < len(symbols) and (symbols[at] != "]" or at == begins):
        symbol = symbols[at]
        at += 1
        is_hyphen = symbol == "-" and range_of == "item" and symbols[at : at + 1] != ["]"]
        if is_hyphen:
            range_of = "hyphen"
        else:
            range_of = "nothing" if range_of == "hyphen" else "item"
            symbol = f"\\{symbol}" if symbol == "-" or symbol in _OPERATORS else symbol
        items.append(symbol)
    inside = "".join(items)
    if at == len(symbols):
        return f"[{'^' * negated}{inside}", at
    if negated:
        return f"[^{inside}{_NUL}]", at + 1
    return (f"[{inside}--{_NUL}]" if _MAY_HOLD_NUL.search(inside) else f"[{inside}]"), at + 1
