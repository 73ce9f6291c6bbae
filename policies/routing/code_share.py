"""How much of a text is code, in microseconds: a share of lines with the shape of a program's, rough on purpose."""

import re

LOOKED_AT_CHARS = 1000
"""Only the last part of a text is looked at."""

_CODE_LINE = re.compile(
    r"^\s*(?:(?:def|class|import|from|return|if|elif|else|for|while|try|except|with|function|const|let|var|public|private|"
    r"static|struct|enum|impl|fn|func|package|using|namespace|select|insert|update|create|#include|#define)\b.*[:;{(),=*>]"
    r"|.*[;{}]\s*$|.*\)\s*(?::|=>)\s*.*$|\s*[\w.\[\]]+\s*(?:[-+*/|&^]?=|:=)\s*\S.*$|\s*(?://|/\*|\*/|#!|<\?|</?\w+[^>]*>).*$)",
    re.IGNORECASE | re.MULTILINE,
)
_FENCE = "```"


def code_density(text: str) -> float:
    """Share of the lines that look like code, 0..1; lines between fences do."""
    part = text[-LOOKED_AT_CHARS:]
    lines = len([line for line in part.split("\n") if line.strip()])
    if not lines:
        return 0.0
    if _FENCE in part:
        inside = sum(len([line for line in each.split("\n") if line.strip()]) for each in part.split(_FENCE)[1::2])
        return min(1.0, inside / lines)
    return min(1.0, len(_CODE_LINE.findall(part)) / lines)
