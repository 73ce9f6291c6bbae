"""The page: whole without JavaScript, escaped, and within its own policy."""

import base64
import copy
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from gateway.endpoints.operations.all_operations import described
from gateway.openapi.page import page_of, page_policy

DOCUMENT = described(keyless=False)
VOID = {"meta", "input", "br", "wbr"}


class Reader(HTMLParser):
    """Notes ids, links, attributes and text, and whether every element is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.names: set[str] = set()
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.names |= {f"{tag}.{name}" for name in found}
        if found.get("id"):
            self.ids.append(str(found["id"]))
        if tag == "a":
            self.links.append(str(found["href"]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def page() -> str:
    return page_of(DOCUMENT)


def test_everything_is_on_it(page: str) -> None:
    read = Reader(page)
    assert read.open == []
    text = "".join(read.texts)
    for path, item in DOCUMENT["paths"].items():
        assert path in text
        for method in ("get", "post", "delete"):
            if method in item:
                assert item[method]["operationId"] in read.ids
    assert {f"schema-{name}" for name in DOCUMENT["components"]["schemas"]} <= set(read.ids)
    assert len(read.ids) == len(set(read.ids))


def test_links_lead_somewhere_on_it(page: str) -> None:
    read = Reader(page)
    inside = {link[1:] for link in read.links if link.startswith("#")}
    assert inside <= set(read.ids)
    assert {link for link in read.links if not link.startswith("#")} == {"/openapi.json"}


def test_nothing_is_loaded_or_run_that_the_policy_does_not_name(page: str) -> None:
    read = Reader(page)
    assert not {
        name for name in read.names if ".on" in name or name.endswith((".src", ".style")) or name == "link.href"
    }
    policy = page_policy()
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def spoiled(value: Any) -> Any:
    """Every text with what would be an element."""
    match value:
        case str():
            return f"{value}<img src=x onerror=alert(1)>\"'&"
        case list():
            return [spoiled(each) for each in value]
        case dict():
            return {
                name: each if name in {"$ref", "in", "type", "tags", "url"} else spoiled(each)
                for name, each in value.items()
            }
    return value


def test_every_text_is_escaped() -> None:
    document = copy.deepcopy(DOCUMENT)
    bad = spoiled(document)
    bad["tags"] = [{**tag, "description": spoiled(tag["description"])} for tag in document["tags"]]
    bad["paths"] = {spoiled(path): item for path, item in bad["paths"].items()}
    names = {name: spoiled(name) for name in document["components"]["schemas"]}
    bad["components"]["schemas"] = {names[name]: each for name, each in bad["components"]["schemas"].items()}
    read = Reader(page_of(bad))
    assert read.open == []
    assert "img.src" not in read.names
    assert "<img src=x" in "".join(read.texts)
