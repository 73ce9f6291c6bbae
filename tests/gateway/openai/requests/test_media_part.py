"""Addresses and base64: what is taken, and which field is at fault otherwise."""

import pytest

from actors.api.content import media_digest
from gateway.errors import BadField
from gateway.openai.requests.media_part import by_address, by_content, no_file_id
from tests.media import PNG, data_url, encoded

WHERE = "messages[2].content[1].image_url.url"


def test_a_data_url() -> None:
    part = by_address("image", WHERE, data_url(PNG), detail="low")
    assert (part.media_type, part.data, part.size, part.url) == ("image/png", encoded(PNG), len(PNG), "")
    assert (part.where, part.detail, part.digest) == (WHERE, "low", media_digest(PNG))
    odd = by_address("image", WHERE, data_url(PNG).replace("data:image/png;", "DATA:Image/PNG;charset=x; "))
    assert odd.digest == part.digest


@pytest.mark.parametrize(
    "url", ["http://a.example/x.png", "https://a.example:8443/x?sig=%20a#b", "https://[::1]/x", "HTTPS://a.example/x"]
)
def test_an_address_stays_as_it_is(url: str) -> None:
    part = by_address("image", WHERE, url)
    assert (part.url, part.data, part.size) == (url, "", 0)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://a.example/x", "must begin with http"),
        ("file:///etc/passwd", "must begin with http"),
        ("javascript:alert(1)", "must begin with http"),
        ("//a.example/x", "must begin with http"),
        ("https://", "must begin with http"),
        ("https://a.example/a b", "must begin with http"),
        ("https://a.example/\n", "must begin with http"),
        ("https://a.example:99999/", "must begin with http"),
        ("https://[::1/", "must begin with http"),
        ("", "must begin with http"),
        ("https://me:secret@a.example/", "must not contain a name or password"),
        ("https://a.example/" + "a" * 9000, "at most 8192 characters"),
        ("data:image/png,abc", "data:MEDIA/TYPE;base64"),
        ("data:image/png;base64", "data:MEDIA/TYPE;base64"),
        ("data:image/png;base64,", "is empty"),
        ("data:image/png;base64,a", "must be base64"),
        ("data:image/png;base64,ab\ncd", "must be base64"),
        ("data:image/png;base64,ä===", "must be base64"),
        ("data:image/gif;base64," + encoded(PNG), "the image/gif that it states, not image/png"),
    ],
)
def test_what_is_wrong_names_the_field(url: str, why: str) -> None:
    with pytest.raises(BadField, match=why) as refused:
        by_address("image", WHERE, url)
    body = refused.value.body
    assert (body.status, body.param, body.code) == (400, WHERE, "invalid_value")
    assert encoded(PNG) not in body.message


def test_names_and_ids_of_files() -> None:
    with pytest.raises(BadField, match="at most 256"):
        by_content("file", "f", encoded(b"text"), name="n" * 257)
    no_file_id("file.file_id", None)
    with pytest.raises(BadField, match="stores no files") as refused:
        no_file_id("file.file_id", "file-1")
    assert (refused.value.body.param, refused.value.body.code) == ("file.file_id", "unsupported_parameter")
