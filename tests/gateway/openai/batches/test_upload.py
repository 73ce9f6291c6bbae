"""What a form holds, however it comes in pieces; and what is wrong with one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.api.errors import Refusal
from gateway.openai.batches.answer_types import UploadForm
from gateway.openai.batches.upload import KNOWN, UploadReader

TYPE = b'multipart/form-data; boundary="b-1"'


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    more = "" if filename is None else f'; filename="{filename}"\r\nContent-Type: application/jsonl'
    return f'--b-1\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--b-1--\r\n"


def read(data: bytes, sizes: list[int]) -> tuple[UploadReader, bytes]:
    reader, at, found = UploadReader(TYPE), 0, b""
    for size in [*sizes, len(data)]:
        if data[at : at + size]:
            found += reader.feed(data[at : at + size])
        at += size
    return reader, found + reader.end()


def test_the_fields_of_a_form_are_described() -> None:
    assert {"file", *KNOWN} == set(UploadForm.__struct_encode_fields__)


@given(st.binary(max_size=300), st.lists(st.integers(1, 40)))
def test_a_file_and_its_fields(content: bytes, sizes: list[int]) -> None:
    data = form(
        part("purpose", b"batch"),
        part("file", content.replace(b"--b-1", b""), "in.jsonl"),
        part("expires_after[seconds]", b"3600"),
    )
    reader, found = read(data, sizes)
    assert found == content.replace(b"--b-1", b"")
    assert reader.filename == "in.jsonl"
    assert reader.fields == {"purpose": "batch", "expires_after[seconds]": "3600"}


@pytest.mark.parametrize("content", [b"", b"a", b"a\r", b"\r\n", b"a\n\r"])
def test_a_form_that_is_cut_anywhere_is_the_same(content: bytes) -> None:
    data = form(part("file", content, "in.jsonl"), part("purpose", b"batch"), part("expires_after[seconds]", b"3600"))
    data = data.replace(b"--b-1\r\n", b"--b-1 \t\r\n")
    for at in range(len(data)):
        for more in (1, 2, len(data)):
            reader, found = read(data, [at, more])
            assert found == content, data[:at]
            assert reader.fields == {"purpose": "batch", "expires_after[seconds]": "3600"}, data[:at]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (form(part("purpose", b"batch")), "missing_field"),
        (form(part("file", b"x")), "invalid_type"),
        (form(part("file", b"x", "a"), part("file", b"y", "b")), "duplicate_field"),
        (form(part("other", b"x")), "unknown_field"),
        (form(part("other", b"x", "a")), "unknown_field"),
        (form(part("purpose", b"x" * 2000)), "invalid_value"),
        (part("file", b"x", "a"), "malformed_form"),
        (b"no form at all", "malformed_form"),
        (b"--b-1\r\nX: y\r\n\r\nz\r\n--b-1--\r\n", "malformed_form"),
        (b"--b-1\r\n" + b"X: y\r\n" * 200_000, "malformed_form"),
        (form(*[part("purpose", b"batch")] * 40), "malformed_form"),
        (b"", "malformed_form"),
    ],
)
def test_what_is_wrong_with_a_form(data: bytes, code: str) -> None:
    with pytest.raises(Refusal) as refused:
        read(data, [])
    assert refused.value.body.code == code
    assert refused.value.body.message


@pytest.mark.parametrize("kind", [None, b"application/json", b"multipart/form-data", b"multipart/mixed; boundary=x"])
def test_another_type_is_refused(kind: bytes | None) -> None:
    with pytest.raises(Refusal) as refused:
        UploadReader(kind)
    assert refused.value.body.status == 415
