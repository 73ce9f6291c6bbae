r"""Where an answer may be parted, so that another model goes on with it.

Only at white space, or between characters of scripts that put none between words; not between a number and its unit.
And not inside what is worth something only as a whole:

- JSON and other brackets, from `{` or `[` to its end, strings in it included;
- code: a fence of three or more backticks or tildes to the next one like it; between single backticks;
- markup, from `<report>` to `</report>`; `\begin{x}` to `\end{x}`, `$$` to `$$`, `\(` to `\)`, and `$x$`;
- lines that belong together: of a table (`|`), of YAML (`key: value`) and of settings (`key = value`);
- what stands in double quotes.

Quotes, single backticks and single `$` that are never closed end with their line. Other things that never close, such
as a lone bracket in prose, keep the rest together: parted too late costs a wait, parted too early is an answer of two
halves.
"""

import re
import unicodedata

_CLOSERS = {"{": "}", "[": "]"}
_QUOTES = {'"': '"', "\u201c": "\u201d", "\u201e": "\u201c", "\u00ab": "\u00bb", "\u300c": "\u300d", "\u300e": "\u300f"}
_RUNS = "`~$"
_PLAIN = re.compile(r"[^{}\[\]`~$<|\\\n\"\u201c\u201e\u00ab\u300c\u300e]*")
_FENCE = 3
_TAG = re.compile(r"<(/?)([A-Za-z][\w.:-]*)(?:\s[^<>]*?)?(/?)>")
_TAG_BEGIN = re.compile(r"<(?:[A-Za-z/!?][^<]*)?")
_LONGEST_TAG = 1024
_MOST_TAGS = 256
_VOID = frozenset({"area", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"})
"""HTML's elements without an end."""
_FIELD = re.compile(r"[\"']?[\w.-]+[\"']?(?::\s|\s+=\s)")
_MAYBE_FIELD = re.compile(r"[\"']?[\w.-]*[\"']?(?::|\s+=?)?")
_NO_FIELD = re.compile(r"\s*\w+\s+(?!=)")
_LONGEST_KEY = 80
_TAIL = len("\\begin")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
)
"""Scripts that put no blank between words: Thai, Lao, Burmese, Khmer, Chinese, Japanese."""
_KATAKANA = re.compile("[\u30a1-\u30fa\u30fc-\u30ff]")
"""Mostly words from abroad, spelt out."""
_LEADING_VOWEL = re.compile("[\u0e40-\u0e44\u0ec0-\u0ec4]")
"""Of Thai and Lao: written before the consonant that it is spoken after."""


class TextSpans:
    """Feed it a text piece by piece; ask before a piece is fed whether the text may be parted in front of it.

    Not `whole`: JSON, code, markup and the like may be parted, too; words and numbers are not.
    """

    __slots__ = (
        "_closers",
        "_environments",
        "_escaped",
        "_fence",
        "_in_string",
        "_inline",
        "_line",
        "_open",
        "_run",
        "_solid",
        "_structured",
        "_tag",
        "_tags",
        "_tail",
        "_whole",
    )

    def __init__(self, *, whole: bool = True) -> None:
        self._whole = whole
        self._closers: list[str] = []
        """Of the brackets that are open, the innermost last."""
        self._in_string = False
        self._escaped = False
        self._run = ""
        """Equal characters of `_RUNS` at the end."""
        self._fence = ""
        """That closes it: what was opened by a run, over lines."""
        self._inline = ""
        """That closes it, on the same line."""
        self._tag: str | None = None
        """The text from `<` on, as long as it may become a tag."""
        self._tags: list[str] = []
        """Of elements that are open."""
        self._environments = 0
        """Environments of LaTeX that are open."""
        self._line: str | None = "" if whole else None
        """The line, as long as it is not clear whether it is one of those that belong together."""
        self._structured = False
        """The last lines belong together, and the next one may do so, too."""
        self._tail = ""
        """The last characters."""
        self._solid = ""
        """The last one that is not blank."""
        self._open = False

    def may_part_before(self, text: str) -> bool:
        """Whether the text so far may end where `text` goes on."""
        if self._open or not text or not self._tail:
            return False
        if self._line is not None and _NO_FIELD.match(self._line + text) is None:
            return False
        last, first = self._tail[-1], text[0]
        if self._solid.isdigit() and first != "\n" and last != "\n":
            return False
        if last.isspace() or first.isspace():
            return True
        if _UNSPACED.match(last) is None and _UNSPACED.match(first) is None:
            return False
        if _LEADING_VOWEL.match(last) is not None or unicodedata.category(first)[0] == "M":
            return False
        return _KATAKANA.match(last) is None or _KATAKANA.match(first) is None

    def feed(self, text: str) -> None:
        """Take `text` in."""
        if not text:
            return
        if self._whole and (self._open or self._line is not None or _PLAIN.fullmatch(text) is None):
            for character in text:
                self._read(character)
                self._tail = (self._tail + character)[-_TAIL:]
            self._open = (
                bool(self._run or self._closers or self._fence or self._inline or self._tags or self._environments)
                or self._tag is not None
                or self._structured
                or self._tail[-1] == "\\"
            )
        else:
            self._tail = (self._tail + text)[-_TAIL:]
        solid = text.rstrip()
        if solid:
            self._solid = solid[-1]

    def _read(self, character: str) -> None:
        if self._run and character != self._run[0]:
            self._end_run(character)
        if self._line is not None:
            self._read_line(character)
        if self._closers:
            self._read_brackets(character)
        elif character in _RUNS:
            self._read_run(character)
        elif self._fence:
            if self._fence == "\\)" and self._tail[-1:] + character == self._fence:
                self._fence = ""
        elif self._inline in {"`", "``", "$"}:
            pass
        elif self._tag is not None:
            self._read_tag(character)
        else:
            self._read_prose(character)
        if character == "\n":
            self._inline = ""
            self._line = "" if self._line is None or self._line.strip() else self._line

    def _read_prose(self, character: str) -> None:
        last = self._tail[-1:]
        if character in _CLOSERS:
            self._closers.append(_CLOSERS[character])
            if character == "{":
                self._environments = max(
                    self._environments + self._tail.endswith("\\begin") - self._tail.endswith("\\end"), 0
                )
        elif self._inline:
            if character == self._inline:
                self._inline = ""
        elif character in _QUOTES and not last.isalnum():
            self._inline = _QUOTES[character]
        elif character == "(" and last == "\\":
            self._fence = "\\)"
        elif character == "<" and (self._tags or not last.isalnum()):
            self._tag = "<"
        elif character == "|" and (not last or last.isspace()):
            self._structured = True

    def _read_brackets(self, character: str) -> None:
        if self._in_string:
            self._in_string = self._escaped or character != '"'
            self._escaped = character == "\\" and not self._escaped
        elif character == '"':
            self._in_string = True
        elif character in _CLOSERS:
            self._closers.append(_CLOSERS[character])
        elif character == self._closers[-1]:
            self._closers.pop()

    def _read_run(self, character: str) -> None:
        """What a run opened is closed by the next one as long, at once. How long the opening one is, its end tells."""
        self._run += character
        if self._fence and self._run == self._fence:
            self._run = self._fence = ""
        elif self._inline and self._run == self._inline:
            self._run = self._inline = ""

    def _end_run(self, following: str) -> None:
        run, self._run = self._run, ""
        if self._fence or self._inline:
            return
        if (run[0] in "`~" and len(run) >= _FENCE) or run == "$$":
            self._fence = run
        elif run[0] == "`" or (run == "$" and not following.isspace()):
            self._inline = run

    def _read_tag(self, character: str) -> None:
        assert self._tag is not None
        self._tag += character
        if character == "<":
            self._tag = "<"
        elif len(self._tag) > _LONGEST_TAG or _TAG_BEGIN.fullmatch(self._tag[:2]) is None:
            self._tag = None
        elif character == ">" and (not self._tag.startswith("<!--") or self._tag.endswith("-->")):
            found, self._tag = _TAG.fullmatch(self._tag), None
            if found is not None:
                self._take_tag(found[2], is_end=bool(found[1]), is_empty=bool(found[3]))

    def _take_tag(self, name: str, *, is_end: bool, is_empty: bool) -> None:
        if is_end:
            if name in self._tags:
                while self._tags.pop() != name:
                    pass
        elif not is_empty and name.lower() not in _VOID and len(self._tags) < _MOST_TAGS:
            self._tags.append(name)

    def _read_line(self, character: str) -> None:
        """Until it is clear what kind of line it is."""
        assert self._line is not None
        self._line += character
        begun = self._line.lstrip()
        if not begun:
            return
        if begun[0] == "|" or _FIELD.fullmatch(begun) is not None:
            self._structured, self._line = True, None
        elif self._structured and (begun != self._line.lstrip("\n") or begun[0] in "-#"):
            self._line = None
        elif len(begun) > _LONGEST_KEY or _MAYBE_FIELD.fullmatch(begun) is None or _UNSPACED.match(character):
            self._structured, self._line = False, None
