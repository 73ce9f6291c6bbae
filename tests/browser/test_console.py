"""The console, used in Chromium against real gateways. Without a browser it is skipped, with the reason."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("selenium", reason="selenium is not installed: `make browser` installs it and runs these tests")

from selenium.webdriver.common.keys import Keys

from policies.admission.keys import new_key
from tests.browser.console_page import ConsolePage, missing, start_browser
from tests.browser.scripted_upstream import ScriptedUpstream, scripted_upstream
from tests.e2e.process import GatewayProcess
from tests.paths import ROOT
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

KEY = new_key("acme", bytes(range(1, 39)), "app")
ADMIN = new_key("", bytes(range(2, 40)), "ops")
HOSTILE_NAME = "<img src=x onerror=hacked=1>"
HOSTILE = (
    "<img src=x onerror=hacked=2></script><script>hacked=3</script>\x1b[31mred \u202egnp.exe\u202c **b** &amp; 👍🏽"
)
CONFIG = f"""
schema = 1
[ledger]
path = "ledger.sqlite3"
[engines.small]
model = "{ROOT}/engine/zoo/models/small"
threads = 1
[engines.large]
model = "{ROOT}/engine/zoo/models/large"
threads = 1
[upstreams.scripted]
urls = ["URL/v1"]
supports = ["sampling"]
[models.penstock]
description = "both"
[models."{HOSTILE_NAME}"]
description = "{HOSTILE_NAME}"
[[routes]]
name = "scripted"
when = {{ model = ["{HOSTILE_NAME}"] }}
use = {{ ladder = "scripted" }}
[models.parted]
[[routes]]
name = "parted"
when = {{ model = ["parted"] }}
use = {{ cascade = "parted" }}
[[routes]]
name = "both"
use = {{ cascade = "thrifty" }}
[cascades.thrifty]
stages = ["small", "large"]
defer = {{ statistic = "min_margin", threshold = 100.0 }}
emit = {{ mode = "gate" }}
on_failure = "large"
[cascades.parted]
stages = ["small", "large"]
defer = {{ statistic = "min_margin", threshold = 8.3 }}
emit = {{ mode = "window", window = 1 }}
on_failure = "large"
[[ladders.large]]
to = "large"
[[ladders.scripted]]
to = "scripted"
[prices]
small = {{ input = 1.0, output = 2.0 }}
large = {{ input = 10.0, output = 20.0 }}
[tenants.acme]
[[keys]]
id = "app"
tenant = "acme"
hash = "{KEY.settings.hash}"
[[admin.keys]]
id = "ops"
hash = "{ADMIN.settings.hash}"
roles = ["read"]
"""


@pytest.fixture(scope="module")
def keyless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The embedded models, as `penstock serve` has them."""
    process = GatewayProcess(log=tmp_path_factory.mktemp("keyless") / "serve.log")
    yield process.url
    process.end()


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with scripted_upstream() as script:
        yield script


@pytest.fixture(scope="module")
def keyed(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("keyed")
    (folder / "config.toml").write_text(CONFIG.replace("URL", upstream.url))
    process = GatewayProcess("--config", str(folder / "config.toml"), log=folder / "serve.log")
    yield process.url
    process.end()


@pytest.fixture(scope="module")
def driver():
    started = start_browser()
    yield started
    started.quit()


@pytest.fixture
def page(driver, keyless: str) -> Iterator[ConsolePage]:
    """Without keys; nothing on it may break a rule of its own policy."""
    opened = ConsolePage(driver, keyless).open()
    yield opened
    assert opened.complaints() == []


@pytest.fixture
def locked(driver, keyed: str) -> Iterator[ConsolePage]:
    """With keys, and the scripted upstream as its model."""
    opened = ConsolePage(driver, keyed).open(api_key=KEY.raw, admin_key=ADMIN.raw)
    opened.choose("#model", HOSTILE_NAME)
    yield opened
    assert opened.complaints() == []


def test_an_answer_streams_and_says_how_it_was_made(page: ConsolePage) -> None:
    assert page.ask("What is 17 + 25?").strip()
    told = page.text(".turn.assistant .summary")
    assert "tokens" in told
    assert "first after" in told
    assert {each.text for each in page.all(".attempts b")} <= {"small", "large"}
    assert page.all(".margins svg rect")
    assert page.text("#progress") == "Done"


def test_several_turns_are_one_conversation(locked: ConsolePage, upstream: ScriptedUpstream) -> None:
    upstream.says({"content": "One"}, {"content": " two"})
    locked.write("#system", "Be brief.")
    assert locked.ask("first") == "One two"
    upstream.says({"reasoning_content": "Hm."}, {"content": "three"})
    assert locked.ask("second") == "three"
    assert upstream.asked[-1]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "One two"},
        {"role": "user", "content": "second"},
    ]
    assert locked.all(".reasoning .text")[-1].get_property("textContent") == "Hm."
    locked.one("#clear").click()
    locked.ask("third")
    assert [each["role"] for each in upstream.asked[-1]["messages"]] == ["system", "user"]


@pytest.mark.parametrize("way", ["button", "escape"])
def test_stop_closes_the_stream(locked: ConsolePage, upstream: ScriptedUpstream, way: str) -> None:
    upstream.left.clear()
    upstream.says(endless=True)
    locked.write("#prompt", "go on")
    locked.one("#prompt").send_keys(Keys.ENTER)
    locked.until(lambda: "word word" in locked.last_answer)
    if way == "button":
        locked.one("#stop").click()
    else:
        locked.press(Keys.ESCAPE)
    locked.until(lambda: not locked.busy)
    assert upstream.left.wait(PATIENCE_S)
    upstream.endless = False
    assert "stopped" in locked.all(".summary")[-1].text
    assert locked.text("#progress") == "Stopped"


def test_tools_are_called_and_their_results_sent(locked: ConsolePage, upstream: ScriptedUpstream) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'}}
    upstream.says({"tool_calls": [{"index": 0, **call}]}, finish="tool_calls")
    locked.script("document.querySelector('#tools').closest('details').open = true")
    locked.one("#example-tool").click()
    locked.ask("Weather?")
    assert upstream.asked[-1]["tools"][0]["function"]["name"] == "get_weather"
    assert "get_weather" in locked.text(".call")
    upstream.says({"content": "Sunny"})
    locked.write("#result-0", "21 degrees")
    assert "21 degrees" in locked.text("#code")
    locked.one("#send").click()
    locked.until(lambda: not locked.busy and locked.last_answer == "Sunny")
    assert upstream.asked[-1]["messages"][-1] == {"role": "tool", "tool_call_id": "call_1", "content": "21 degrees"}
    assert upstream.asked[-1]["messages"][-2]["tool_calls"][0]["id"] == "call_1"


def test_a_schema_binds_the_answer(page: ConsolePage) -> None:
    page.choose("#format", "json_schema")
    assert isinstance(json.loads(page.ask("What is 17 + 25?"))["result"], int)


@pytest.mark.parametrize(
    ("field", "text", "words"),
    [
        ("#temperature", "hot", "temperature must be a number from 0 to 2"),
        ("#max-tokens", "1.5", "max_tokens must be a whole number"),
        ("#tools", "[{]", "Tools is no JSON"),
        ("#tools", "{}", "Tools must be a list"),
        ("#tags", "東京", "Tags must be printable ASCII"),
    ],
)
def test_a_field_that_cannot_be_sent_is_named_and_nothing_is_sent(
    page: ConsolePage, field: str, text: str, words: str
) -> None:
    page.write(field, text)
    assert words in page.text("#form-problem")
    assert page.one(field).get_attribute("aria-invalid") == "true"
    page.one("#send").click()
    assert not page.all(".turn")
    assert page.driver.switch_to.active_element == page.one(field)
    page.write(field, "")
    assert not page.one("#form-problem").is_displayed()


def test_hostile_text_stays_text(locked: ConsolePage, upstream: ScriptedUpstream) -> None:
    upstream.says({"content": HOSTILE})
    said = locked.ask(HOSTILE)
    assert said.startswith("<img src=x onerror=hacked=2></script>")
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert "␛[31m" in said
    assert "⟨U+202E⟩" in said
    assert HOSTILE_NAME in locked.text(".turn.assistant h3")
    assert HOSTILE_NAME in locked.text("#model-note")
    assert not locked.all(".turn img, .turn script, option img, #model-note img")
    assert locked.script("return window.hacked === undefined")


def test_errors_are_told_in_full_with_what_to_do(locked: ConsolePage, upstream: ScriptedUpstream) -> None:
    locked.choose("#model", "penstock")
    locked.write("#max-tokens", "100000000")
    locked.ask("too much")
    shown = locked.text(".error")
    assert "HTTP 400" in shown
    assert "max_tokens" in shown
    assert "Lower Max tokens" in shown
    assert "request " in shown
    # What was asked can be sent again.
    assert locked.value("#prompt") == "too much"


def test_without_a_valid_key_it_says_what_is_missing(driver, keyed: str) -> None:
    page = ConsolePage(driver, keyed)
    driver.get(f"{keyed}/")
    driver.execute_script("sessionStorage.clear()")
    driver.get(f"{keyed}/")
    page.until(lambda: page.one("#keys").is_displayed())
    page.until(lambda: "key" in page.text("#progress"))
    page.use_keys("penstock_app_wrong")
    page.until(lambda: "Enter a valid key" in page.text("#progress"))
    page.use_keys("schlüssel")
    page.until(lambda: "characters of no key" in page.text("#progress"))
    page.use_keys(KEY.raw)
    page.until(lambda: page.all("#model option"))
    assert not page.one("#keys").is_displayed()
    assert page.complaints() == []


def test_keys_stay_in_the_tab(locked: ConsolePage) -> None:
    locked.ask("hello")
    seen = locked.script(
        "return [location.href, document.cookie, JSON.stringify(localStorage),"
        "document.documentElement.outerHTML, document.querySelector('#code').textContent,"
        "...performance.getEntries().map((entry) => entry.name)].join('\\n')"
    )
    assert KEY.raw not in seen
    assert "$PENSTOCK_KEY" in locked.text("#code")
    locked.one("#show-keys").click()
    locked.one("#forget-keys").click()
    assert locked.script("return JSON.stringify(sessionStorage)") == "{}"
    locked.until(lambda: "models could not be listed" in locked.text("#progress"))


def test_the_code_follows_the_form_and_runs(locked: ConsolePage, upstream: ScriptedUpstream, tmp_path: Path) -> None:
    upstream.says({"content": "It's fine"})
    locked.write("#prompt", f"It's {HOSTILE}")
    locked.write("#temperature", "0.5")
    locked.write("#top-k", "3")
    locked.write("#tags", "a, it's")
    for language, command in (("curl", ["bash", "-euc"]), ("python", [sys.executable, "-c"])):
        locked.one(f"#code-{language}").click()
        done = subprocess.run(
            [*command, locked.text("#code")], capture_output=True, text=True, check=False, timeout=PATIENCE_S,
            env={**os.environ, "PENSTOCK_KEY": KEY.raw}, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "It's fine" in done.stdout
        assert upstream.asked[-1]["messages"] == [{"role": "user", "content": f"It's {HOSTILE}"}]
        assert upstream.asked[-1]["temperature"] == 0.5
    locked.one("#code-javascript").click()
    assert "fetch(" in locked.text("#code")


def requests_of(page: ConsolePage, path: str) -> int:
    return page.script(
        "return performance.getEntriesByType('resource').filter((entry) => entry.name.endsWith(arguments[0])).length",
        path,
    )


COUNT_TIMERS = """
window.timers = new Set();
const [set, clear] = [window.setTimeout, window.clearTimeout];
window.setTimeout = (call, ms) => {
  const timer = set(() => { timers.delete(timer); call(); }, ms);
  timers.add(timer);
  return timer;
};
window.clearTimeout = (timer) => { timers.delete(timer); clear(timer); };
"""
SEEN = """
Object.defineProperty(document, "visibilityState", { get: () => arguments[0], configurable: true });
document.dispatchEvent(new Event("visibilitychange"));
"""


@pytest.mark.parametrize("way", ["another tab of the page", "another page"])
def test_the_live_view_shows_the_service_and_rests_when_hidden(locked: ConsolePage, way: str) -> None:
    locked.script(COUNT_TIMERS)
    locked.choose("#model", "penstock")
    locked.ask("What is 2 + 2?")
    locked.one("#tab-live").click()
    locked.until(lambda: requests_of(locked, "/metrics") >= 3)
    shown = locked.text("#live")
    for words in ("Engines", "Queues", "Rungs", "closed: in use", "Tenants", "acme", "serving", "scripted"):
        assert words in shown
    assert locked.all("#live svg polyline")
    if way == "another page":
        locked.script(SEEN, "hidden")
    else:
        locked.one("#tab-playground").click()
    # One reading may have been on its way; no other will begin.
    locked.until(lambda: locked.script("return timers.size") == 0)
    if way == "another page":
        before = requests_of(locked, "/metrics")
        locked.script(SEEN, "visible")
        locked.until(lambda: requests_of(locked, "/metrics") > before)


def test_without_an_admin_key_the_live_view_says_what_is_missing(driver, keyed: str) -> None:
    page = ConsolePage(driver, keyed).open(api_key=KEY.raw)
    page.one("#tab-live").click()
    page.until(lambda: "The live view needs an admin key" in page.text("#live-state"))
    assert "--roles read" in page.text("#live-state")
    page.use_keys(KEY.raw, KEY.raw)
    page.until(lambda: "does not open it" in page.text("#live-state") and not page.one("#keys").is_displayed())
    page.use_keys(KEY.raw, ADMIN.raw)
    page.until(lambda: page.all("#live-figures table"))


def test_everything_is_reached_by_the_keyboard_and_has_a_name(page: ConsolePage) -> None:
    page.script("document.querySelectorAll('details').forEach((each) => (each.open = true)); document.body.focus()")
    reached = []
    for _ in range(60):
        page.press(Keys.TAB)
        element = page.driver.switch_to.active_element
        if element.tag_name == "body" or element in reached:
            break
        reached.append(element)
        assert element.accessible_name, element.get_attribute("outerHTML")
        outlined = page.script("return getComputedStyle(arguments[0]).outlineStyle", element)
        assert outlined != "none", element.get_attribute("outerHTML")
    ids = [element.get_attribute("id") for element in reached]
    for earlier, later in (
        ("tab-playground", "show-keys"),
        ("prompt", "send"),
        ("send", "model"),
        ("explain", "code-curl"),
    ):
        assert ids.index(earlier) < ids.index(later)
    page.one("#tab-playground").click()
    page.press(Keys.ARROW_RIGHT)
    page.until(page.one("#live-figures").is_displayed)
    page.press(Keys.ARROW_RIGHT)
    assert page.one("#playground").is_displayed()


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_it_fits_narrow_screens(page: ConsolePage, width: int) -> None:
    page.look(width=width)
    page.ask("What is 17 + 25?")
    page.script("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    for tab in ("playground", "live"):
        page.one(f"#tab-{tab}").click()
        if tab == "live":
            page.until(lambda: page.all("#live-figures table"))
        assert page.script("return document.documentElement.scrollWidth") <= width
    page.one("#tab-playground").click()
    page.look()


def test_the_text_of_each_model_is_marked_where_a_cascade_moves_within_an_answer(locked: ConsolePage) -> None:
    locked.choose("#model", "parted")
    said = locked.ask("Hello!")
    parts = {stage: locked.text(f".by.{stage}") for stage in ("small", "large")}
    assert all(parts.values())
    assert parts["small"] + parts["large"] == said
    assert "the first" in locked.text(".margins figcaption")
    assert "cost" in locked.text(".summary")


def test_the_state_of_the_server_is_followed_until_it_is_ready(keyless: str, driver) -> None:
    """It is served while its models are loaded; here the first answers say so."""
    page = ConsolePage(driver, keyless)
    loading = """
    const fetched = window.fetch;
    let left = 2;
    window.fetch = async (path, options) =>
      String(path) === "readyz" && left-- > 0
        ? new Response(JSON.stringify({ status: "not ready", state: "loading" }), { status: 503 })
        : fetched(path, options);
    """
    added = driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": loading})
    try:
        page.open()
        page.until(lambda: "loading" in page.text("#server-state"))
        page.until(lambda: "serving" in page.text("#server-state"))
    finally:
        driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
