"""Where an answer may be parted, so that another model goes on with it.

Not inside a word or a number; not inside JSON (from `{` or `[` to its end, strings in it included), a code block
(three backticks to the next three), or markup that the text began with (`<report>` to `</report>`). What never closes,
such as a lone bracket in prose, keeps the rest together: parted too late costs a wait, parted too early is an answer of
two halves.
"""

import re

_CLOSERS = {"{": "}", "[": "]"}
_PLAIN = re.compile(r"[^{}\[\]`<]*")
_ROOT = re.compile(r"\s*<([A-Za-z][\w.:-]*)[^<>]*?(/?)>")
_FENCE = 3
_LONGEST_ROOT = 1024
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
)
"""Scripts that put no blank between words: Thai, Lao, Burmese, Khmer, Chinese, Japanese."""


class TextSpans:
    """Feed it a text piece by piece; ask before a piece is fed whether the text may be parted in front of it.

    Not `whole`: JSON, code and markup may be parted, too; words and numbers are not.
    """

    __slots__ = (
        "_closers",
        "_end_tag",
        "_escaped",
        "_fenced",
        "_head",
        "_in_string",
        "_last",
        "_open",
        "_ticks",
        "_whole",
    )

    def __init__(self, *, whole: bool = True) -> None:
        self._whole = whole
        self._closers: list[str] = []
        """Of the brackets that are open, the innermost last."""
        self._in_string = False
        self._escaped = False
        self._ticks = 0
        """Backticks at the end."""
        self._fenced = False
        self._head: str | None = ""
        """The text, as long as it may still be the begin of markup."""
        self._end_tag = ""
        """That is waited for, and the last characters of the text, in which it may have begun."""
        self._last = ""
        self._open = False

    def may_part_before(self, text: str) -> bool:
        """Whether the text so far may end where `text` goes on."""
        if self._open or not text or not self._last:
            return False
        if self._ticks and text[0] == "`":
            return False  # it may become a fence
        return not (_in_word(self._last[-1]) and _in_word(text[0]))

    def feed(self, text: str) -> None:
        """Take `text` in."""
        if not text:
            return
        if not self._whole:
            self._last = text[-1]
            return
        markup = self._read_markup(text)
        if self._open or self._ticks or _PLAIN.fullmatch(text) is None:
            for character in text:
                self._read(character)
        self._open = bool(self._closers) or self._fenced or markup
        self._last = (self._last + text)[-max(len(self._end_tag), 1) :]

    def _read(self, character: str) -> None:
        if character == "`" and not self._closers:
            self._ticks += 1
            if self._ticks == _FENCE:
                self._fenced = not self._fenced
            return
        self._ticks = 0
        if self._fenced:
            return
        if self._in_string:
            self._in_string = self._escaped or character != '"'
            self._escaped = character == "\\" and not self._escaped
        elif character == '"':
            self._in_string = bool(self._closers)
        elif character in _CLOSERS:
            self._closers.append(_CLOSERS[character])
        elif self._closers and character == self._closers[-1]:
            self._closers.pop()

    def _read_markup(self, text: str) -> bool:
        """Whether the markup that the text began with is open."""
        if self._head is not None:
            self._head += text
            begin = self._head.lstrip()
            found = _ROOT.match(self._head)
            if found is not None:
                self._end_tag = "" if found[2] else f"</{found[1]}>"
                text, self._head = self._head[found.end() :], None
            elif begin[:1] not in {"", "<"} or len(begin) > _LONGEST_ROOT:
                self._head = None
            else:
                return bool(begin)
        if self._end_tag and self._end_tag in self._last + text:
            self._end_tag = ""
        return bool(self._end_tag)


def _in_word(character: str) -> bool:
    return character.isalnum() and _UNSPACED.match(character) is None
