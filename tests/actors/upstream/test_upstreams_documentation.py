"""docs/upstreams.md names every word and field."""

import re

from actors.upstream import request_body
from actors.upstream.reading import finish_reason
from tests.paths import DOCS


def test_the_tables_of_the_upstreams_have_every_word_and_field() -> None:
    page = (DOCS / "upstreams.md").read_text()
    words = {word.lower() for word in re.findall(r"`(\w+)`", page)}
    known = {
        *finish_reason.ENDINGS,
        *finish_reason.NO_END,
        *request_body.AS_WRITTEN,
        *request_body.SAMPLING_FIELDS,
        *request_body.EXTRAS,
    }
    assert known - words == {""}
