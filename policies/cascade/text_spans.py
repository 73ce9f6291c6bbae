r"""Finds positions where an answer may be split, so that another model continues it there.

A split is allowed only at white space, or between characters of scripts that use none between words, and not between a
number and its unit. It is not allowed inside structures that are useful only as a whole:

- JSON and other brackets, from `{` or `[` to the closing one, with the strings inside;
- code: from a fence of three or more backticks or tildes to the next equal one, and between single backticks;
- markup, from `<report>` to `</report>`; `\begin{x}` to `\end{x}`, `$$` to `$$`, `\(` to `\)`, and `$x$`;
- consecutive lines of a table (`|`), of YAML (`key: value`) or of settings (`key = value`);
- text in double quotes.

Quotes, single backticks and single `$` that are not closed end with their line. Other structures that are not closed,
such as a single bracket in prose, prevent any later split: a late split delays text, a wrong one breaks the structure.
"""

import re
import unicodedata

import msgspec

_CLOSERS = {"{": "}", "[": "]"}
_QUOTES = {'"': '"', "\u201c": "\u201d", "\u201e": "\u201c", "\u00ab": "\u00bb", "\u300c": "\u300d", "\u300e": "\u300f"}
_RUNS = "`~$"
_PLAIN = re.compile(r"[^{}\[\]`~$<|\\\n\"\u201c\u201e\u00ab\u300c\u300e]*")
_FENCE = 3
_TAG = re.compile(r"<(/?)([A-Za-z][\w.:-]*)(?:\s[^<>]*?)?(/?)>")
_TAG_BEGIN = re.compile(r"<(?:[A-Za-z/!?][^<]*)?")
_MAX_TAG_CHARS = 1024
_MAX_OPEN_TAGS = 256
_VOID = frozenset({"area", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"})
"""HTML elements without an end tag."""
_FIELD = re.compile(r"[\"']?[\w.-]+[\"']?(?::\s|\s+=\s)")
_MAYBE_FIELD = re.compile(r"[\"']?[\w.-]*[\"']?(?::|\s+=?)?")
_NO_FIELD = re.compile(r"\s*\w+\s+(?!=)")
_MAX_FIELD_CHARS = 80
_TAIL = len("\\begin")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
)
"""Scripts without spaces between words: Thai, Lao, Burmese, Khmer, Chinese, Japanese."""
_KATAKANA = re.compile("[\u30a1-\u30fa\u30fc-\u30ff]")
"""Consecutive katakana are mostly one loanword."""
_LEADING_VOWEL = re.compile("[\u0e40-\u0e44\u0ec0-\u0ec4]")
"""Thai and Lao vowels that are written before their consonant."""


class TextSpans(msgspec.Struct, eq=False, kw_only=True):
    """Tracks the open structures of a text that arrives in pieces: call `may_split_before` and then `feed` for a piece.

    With `structures_whole=False` JSON, code, markup and the like may be split; words and numbers still may not.
    """

    structures_whole: bool = True
    _closers: list[str] = []
    """Closing brackets of the open ones, innermost last."""
    _in_string: bool = False
    _escaped: bool = False
    _run: str = ""
    """Equal characters of `_RUNS` at the end of the text so far."""
    _fence: str = ""
    """What closes the open structure that may span lines; "" if none is open."""
    _inline: str = ""
    """What closes the open structure that ends with its line at the latest; "" if none is open."""
    _tag: str | None = None
    """The text since `<` while it may still become a tag."""
    _tags: list[str] = []
    """Names of open elements, innermost last."""
    _environments: int = 0
    """Number of open LaTeX environments."""
    _line: str | None = ""
    """The current line while it is undecided whether it belongs to a table or a list of fields."""
    _structured: bool = False
    """The last lines belong to a table or a list of fields, which the next line may continue."""
    _tail: str = ""
    _last_visible: str = ""
    """The last character that is not white space."""
    _open: bool = False

    def __post_init__(self) -> None:
        if not self.structures_whole:
            self._line = None

    def may_split_before(self, text: str) -> bool:
        """Whether the text fed so far may end where `text` continues it."""
        if self._open or not text or not self._tail:
            return False
        if self._line is not None and _NO_FIELD.match(self._line + text) is None:
            return False
        last, first = self._tail[-1], text[0]
        if self._last_visible.isdigit() and first != "\n" and last != "\n":
            return False
        if last.isspace() or first.isspace():
            return True
        if _UNSPACED.match(last) is None and _UNSPACED.match(first) is None:
            return False
        if _LEADING_VOWEL.match(last) is not None or unicodedata.category(first)[0] == "M":
            return False
        return _KATAKANA.match(last) is None or _KATAKANA.match(first) is None

    def feed(self, text: str) -> None:
        if not text:
            return
        if self.structures_whole and (self._open or self._line is not None or _PLAIN.fullmatch(text) is None):
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
        visible = text.rstrip()
        if visible:
            self._last_visible = visible[-1]

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
        """A run closes at once what an equal run opened; the length of an opening run is known only at its end."""
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
        elif len(self._tag) > _MAX_TAG_CHARS or _TAG_BEGIN.fullmatch(self._tag[:2]) is None:
            self._tag = None
        elif character == ">" and (not self._tag.startswith("<!--") or self._tag.endswith("-->")):
            tag, self._tag = _TAG.fullmatch(self._tag), None
            if tag is not None:
                self._end_tag(tag[2], is_end=bool(tag[1]), is_empty=bool(tag[3]))

    def _end_tag(self, name: str, *, is_end: bool, is_empty: bool) -> None:
        if is_end:
            if name in self._tags:
                while self._tags.pop() != name:
                    pass
        elif not is_empty and name.lower() not in _VOID and len(self._tags) < _MAX_OPEN_TAGS:
            self._tags.append(name)

    def _read_line(self, character: str) -> None:
        """Decide what kind of line it is as soon as its first characters allow."""
        assert self._line is not None
        self._line += character
        start = self._line.lstrip()
        if not start:
            return
        if start[0] == "|" or _FIELD.fullmatch(start) is not None:
            self._structured, self._line = True, None
        elif self._structured and (start != self._line.lstrip("\n") or start[0] in "-#"):
            self._line = None
        elif len(start) > _MAX_FIELD_CHARS or _MAYBE_FIELD.fullmatch(start) is None or _UNSPACED.match(character):
            self._structured, self._line = False, None
