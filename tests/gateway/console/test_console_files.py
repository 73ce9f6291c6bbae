"""The console's files, without a browser: what is sent with them, and what none of them may contain."""

import re
from html.parser import HTMLParser
from pathlib import PurePosixPath

import pytest
from hatchling.builders.wheel import WheelBuilder

from gateway.console.console_files import PAGE, console_files
from tests.gateway.fakes import FakeService
from tests.gateway.harness import gateway
from tests.paths import ROOT

FILES = console_files()
TEXTS = {name: file.content.decode() for name, file in FILES.items()}
SCRIPTS = {name: text for name, text in TEXTS.items() if name.endswith(".js")}
HTML = "Accept: text/html\r\n"
_IMPORT = re.compile(r'^import .*?"([^"]+)";$', re.MULTILINE | re.DOTALL)


def address(name: str) -> str:
    return "/" if name == PAGE else f"/console/{name}"


class Page(HTMLParser):
    """The elements of the page with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inline: list[str] = []
        self.feed(TEXTS[PAGE])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] in {"script", "style"}:
            self.inline.append(data.strip())

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] or "" for _, attributes in self.elements if "id" in attributes]


async def test_every_file_is_sent_whole_once_and_then_only_if_it_changes() -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        for name, file in FILES.items():
            first = await client.get(address(name), headers=HTML)
            assert (first.status, first.body, first.headers["content-type"]) == (200, file.content, file.content_type)
            assert first.headers["cache-control"] == "no-cache"
            for known in (
                first.headers["etag"],
                f"W/{first.headers['etag']}",
                f'"other", {first.headers["etag"]}',
                "*",
            ):
                await client.send(
                    f"GET {address(name)} HTTP/1.1\r\nHost: localhost\r\n{HTML}If-None-Match: {known}\r\n\r\n".encode()
                )
                status, headers = await client.head()
                # A length would be that of the file, and a client would wait for it.
                assert (status, headers["etag"], headers.get("content-length")) == (304, first.headers["etag"], None)
            assert (await client.get(address(name), headers=f'{HTML}If-None-Match: "other"\r\n')).status == 200
            await client.send(f"HEAD {address(name)} HTTP/1.1\r\nHost: localhost\r\n{HTML}\r\n".encode())
            assert (await client.head())[1]["content-length"] == str(len(file.content))


async def test_browsers_run_nothing_but_these_files() -> None:
    async with gateway(FakeService()) as running:
        client = await running.connect()
        for name in FILES:
            headers = (await client.get(address(name), headers=HTML)).headers
            policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
            assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
            assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
            assert policy["require-trusted-types-for"] == "'script'"
            assert "unsafe" not in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["main.css", "index.html", "../main.js", "shared", "shared/", "%2e%2e/main.js", ".js"])
async def test_there_is_nothing_else(path: str) -> None:
    async with gateway(FakeService()) as running:
        assert (await (await running.connect()).get(f"/console/{path}")).status == 404


def test_the_page_holds_no_code_and_no_style() -> None:
    page = Page()
    assert not any(page.inline)
    for tag, attributes in page.elements:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            place = attributes.get(name)
            if place is not None and not place.startswith("#") and tag != "a":
                assert place.removeprefix("console/") in FILES, place


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_nothing_is_loaded_from_elsewhere(name: str) -> None:
    addresses = re.findall(r"https?://[^\s\"'`)]+|//[a-z0-9.-]+\.[a-z]{2,}/", TEXTS[name])
    assert set(addresses) <= {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_text_never_becomes_markup_or_code_and_keys_stay_in_the_tab(name: str) -> None:
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|createContextualFragment|setHTML"
    code = r"\beval\b|new Function|import\("
    assert re.findall(rf"{markup}|{code}|localStorage|cookie", SCRIPTS[name]) == []
    if name != "shared/keys.js":
        assert "sessionStorage" not in SCRIPTS[name]


def test_every_module_is_reached_and_every_import_leads_somewhere() -> None:
    reached, new = set(), {"main.js"}
    while new:
        reached |= new
        found = set()
        for name in new:
            for path in _IMPORT.findall(SCRIPTS[name]):
                parts: list[str] = []
                for part in (PurePosixPath(name).parent / path).parts:
                    parts = parts[:-1] if part == ".." else [*parts, part]
                found.add("/".join(parts))
        new = found - reached
        assert new <= SCRIPTS.keys(), new - SCRIPTS.keys()
    assert reached == SCRIPTS.keys()


def test_what_modules_look_for_is_on_the_page() -> None:
    wanted = {each for text in SCRIPTS.values() for each in re.findall(r'byId\("([\w-]+)"\)', text)}
    assert wanted
    assert wanted <= set(Page().ids)


def test_every_field_has_a_label_and_every_reference_a_target() -> None:
    page = Page()
    ids = page.ids
    assert len(ids) == len(set(ids))
    labelled = {attributes.get("for") for tag, attributes in page.elements if tag == "label"}
    for tag, attributes in page.elements:
        if tag in {"input", "select", "textarea"} and attributes.get("type") != "checkbox":
            assert attributes["id"] in labelled, attributes
        for name in ("aria-controls", "aria-describedby", "aria-labelledby", "for"):
            if name in attributes:
                assert attributes[name] in ids, attributes


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_lines_can_be_read(name: str) -> None:
    assert [line for line in TEXTS[name].splitlines() if len(line) > 120] == []


def test_the_files_are_in_the_package() -> None:
    shipped = {each.distribution_path for each in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {f"gateway/console/files/{name}" for name in FILES} <= shipped


def _colours(scheme: str) -> dict[str, str]:
    """The variables of the style, in one colour scheme."""
    light, dark = re.findall(r":root \{(.*?)\n\s*\}", TEXTS["style.css"], re.DOTALL)
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", light))
    return found | (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", dark)) if scheme == "dark" else {})


def _luminance(colour: str) -> float:
    """Of WCAG 2.2."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * each for each in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("text", "grounds"),
    [
        ("ink", ("paper", "card", "raised", "sure0", "sure1", "sure2", "sure3", "sure4")),
        ("soft", ("paper", "card", "raised")),
        ("bad", ("paper", "card", "raised")),
        ("accent", ("paper", "card")),
        ("warn", ("paper",)),
        ("on-accent", ("accent",)),
    ],
)
def test_text_stands_out_from_its_ground(scheme: str, text: str, grounds: tuple[str, ...]) -> None:
    colours = _colours(scheme)
    for ground in grounds:
        low, high = sorted((_luminance(colours[text]), _luminance(colours[ground])))
        # AA of WCAG 2.2, for text of any size.
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)
