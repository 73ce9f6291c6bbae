"""Reads an upload (`multipart/form-data`) as it comes. Pure: werkzeug's decoder, with bounds and errors."""

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from gateway.errors import BadField, HttpError

_BUFFER_BYTES = 1 << 20
_MOST_PARTS = 16
_FIELD_BYTES = 1024
_MOST_PADDING = 64
"""Spaces behind a boundary that are waited for."""
_FILE = "file"
PURPOSE = "batch"
"""The only one that is served."""
KNOWN = ("purpose", "expires_after[anchor]", "expires_after[seconds]")


class UploadReader:
    """`feed` it the body in pieces, then `end` it. It holds a piece and a few fields."""

    def __init__(self, content_type: bytes | None) -> None:
        """Raises HttpError if that is not a form."""
        kind, options = parse_options_header((content_type or b"").decode("latin1"))
        boundary = options.get("boundary", "").encode("latin1", "ignore")
        if kind != "multipart/form-data" or not boundary:
            raise HttpError(
                415,
                "unsupported_media_type",
                "An upload is a form: send 'Content-Type: multipart/form-data' with its boundary.",
            )
        self._decoder = MultipartDecoder(boundary, _BUFFER_BYTES, max_parts=_MOST_PARTS)
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        """None: the file has not begun."""
        self._field = ""
        """The part that comes: a field's name, or `_FILE`."""
        self._value = b""
        self._delimiter = b"\r\n--" + boundary
        self._held = b""
        """The end of what came, while it may be a part of a delimiter: the decoder takes the beginning of an incomplete
        one for content."""

    def feed(self, data: bytes) -> bytes:
        """What `data` holds of the file. Raises HttpError."""
        whole = self._held + data
        at = self._held_from(whole)
        self._held = whole[at:]
        try:
            self._decoder.receive_data(whole[:at])
            return self._take()
        except (ValueError, RequestEntityTooLarge) as error:
            raise _malformed(str(error) if isinstance(error, ValueError) else "a part has a head without end") from None

    def end(self) -> bytes:
        """The body has ended. Raises HttpError if a part of it, or the file, is missing."""
        try:
            self._decoder.receive_data(self._held)
            self._decoder.receive_data(None)
            rest = self._take()
        except ValueError:
            raise _malformed("it ends too early") from None
        if self.filename is None:
            raise BadField(_FILE, "The field 'file' is missing.", "missing_field")
        return rest

    def _held_from(self, data: bytes) -> int:
        """Where a delimiter begins that `data` ends within; its length: nowhere."""
        at = data.rfind(self._delimiter)
        behind = data[at + len(self._delimiter) :] if at >= 0 else None
        if behind is not None and len(behind) <= _MOST_PADDING and not behind.strip(b" \t\r\n-"):
            is_whole = behind.endswith(b"\n") or behind.startswith(b"--")
            return len(data) if is_whole else at
        at = data.rfind(b"\r")
        return at if at >= 0 and self._delimiter.startswith(data[at:]) else len(data)

    def _take(self) -> bytes:
        """Raises ValueError, RequestEntityTooLarge and HttpError."""
        found = bytearray()
        while True:
            match self._decoder.next_event():
                case File(name=name, filename=filename):
                    if name != _FILE:
                        raise _unknown(name)
                    if self.filename is not None:
                        raise BadField(_FILE, "Upload one file at a time: 'file' is given twice.", "duplicate_field")
                    self._field, self.filename = _FILE, filename
                case Field(name=name):
                    if name == _FILE:
                        raise BadField(_FILE, "The part 'file' has no filename: send it as a file.", "invalid_type")
                    if name not in KNOWN:
                        raise _unknown(name)
                    self._field, self._value = name, b""
                case Data(data=data, more_data=more):
                    if self._field == _FILE:
                        found += data
                        continue
                    self._value += data
                    if len(self._value) > _FIELD_BYTES:
                        raise BadField(self._field, f"'{self._field}' is longer than {_FIELD_BYTES} bytes.")
                    if not more:
                        self.fields[self._field] = self._value.decode("utf-8", "replace")
                case NeedData() | Epilogue():
                    return bytes(found)


def _unknown(name: str | None) -> BadField:
    shown = (name or "")[:64]
    return BadField(shown, f"Unrecognized field '{shown}'. An upload has file, {', '.join(KNOWN)}.", "unknown_field")


def _malformed(why: str) -> HttpError:
    return HttpError(400, "malformed_form", f"The body could not be read as multipart/form-data: {why}.")
