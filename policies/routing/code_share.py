"""Estimates how much of a text is source code, in microseconds: the share of lines that match simple patterns."""

import re

LOOKED_AT_CHARS = 1000
"""Only the last part of a text is examined."""

_CODE_LINE = re.compile(
    r"^\s*(?:(?:def|class|import|from|return|if|elif|else|for|while|try|except|with|function|const|let|var|public|private|"
    r"static|struct|enum|impl|fn|func|package|using|namespace|select|insert|update|create|#include|#define)\b.*[:;{(),=*>]"
    r"|.*[;{}]\s*$|.*\)\s*(?::|=>)\s*.*$|\s*[\w.\[\]]+\s*(?:[-+*/|&^]?=|:=)\s*\S.*$|\s*(?://|/\*|\*/|#!|<\?|</?\w+[^>]*>).*$)",
    re.IGNORECASE | re.MULTILINE,
)
_FENCE = "```"


def code_density(text: str) -> float:
    """Share of the non-empty lines that look like code, 0..1. With code fences, the share of lines between them."""
    part = text[-LOOKED_AT_CHARS:]
    lines = len([line for line in part.split("\n") if line.strip()])
    if not lines:
        return 0.0
    if _FENCE in part:
        fenced = part.split(_FENCE)[1::2]
        inside = sum(len([line for line in block.split("\n") if line.strip()]) for block in fenced)
        return min(1.0, inside / lines)
    return min(1.0, len(_CODE_LINE.findall(part)) / lines)
