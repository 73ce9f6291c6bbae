"""What a text looks like, in microseconds: how much of it is code, and which language it is in.

Both are rough on purpose. Code is a share of lines with the shape of a program's; language is decided by script where
that tells, and by a handful of the most frequent words where it does not.
"""

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
_WORD = re.compile(r"[^\W\d_]+")
_FREQUENT_WORDS = """
en: the of and to is in that it for what you with are how this on be
de: der die und das ist nicht ein eine wie ich zu mit von auf für den was
fr: le la les et est des une que pour dans qui pas sur ce vous je du
es: el los las y es una que por para con no del se cómo qué lo su
it: il gli e è un che per con non una della come di sono questo mi si
pt: o os e é um que para com não uma da do como são isso eu se
nl: de het een en is van niet dat met voor zijn wat hoe ik op aan te
pl: i w nie na się jest to że do jak co z czy dla o po
sv: och att det som en är på för inte med jag av hur vad den ett
tr: ve bir bu için ne nasıl mi ile değil çok da de var ben olarak daha
"""
_FREQUENT = {line[:2]: frozenset(line[3:].split()) for line in _FREQUENT_WORDS.strip().splitlines()}
_SCRIPTS = (
    ("ja", 0x3040, 0x30FF),
    ("ko", 0xAC00, 0xD7AF),
    ("zh", 0x4E00, 0x9FFF),
    ("ru", 0x0400, 0x04FF),
    ("ar", 0x0600, 0x06FF),
    ("he", 0x0590, 0x05FF),
    ("hi", 0x0900, 0x097F),
    ("el", 0x0370, 0x03FF),
    ("th", 0x0E00, 0x0E7F),
)
_LOOKED_AT_FOR_SCRIPT = 64
_MOST_WORDS = 60


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


def language(text: str) -> str:
    """An ISO 639-1 code, or "und"."""
    part = text[-LOOKED_AT_CHARS:]
    found = _by_script(part)
    if found:
        return found
    words = _WORD.findall(part.lower(), 0, LOOKED_AT_CHARS)[-_MOST_WORDS:]
    best, most, second = "und", 0, 0
    for code, frequent in _FREQUENT.items():
        count = sum([word in frequent for word in words])
        if count > most:
            best, most, second = code, count, most
        elif count > second:
            second = count
    return best if most > second and most * 12 >= len(words) else "und"


def _by_script(text: str) -> str:
    letters = [char for char in text if char > "\u036f" and char.isalpha()][:_LOOKED_AT_FOR_SCRIPT]
    if not letters or len(letters) * 4 < min(len(text), _LOOKED_AT_FOR_SCRIPT):
        return ""
    codes = [ord(char) for char in letters]
    for code, low, high in _SCRIPTS:
        inside = sum([low <= each <= high for each in codes])
        # A little kana among many Chinese characters is Japanese.
        if inside * (8 if code == "ja" else 2) >= len(codes):
            return code
    return ""
