"""The live view, the keyboard and narrow screens, in Chromium against real gateways."""

import pytest

pytest.importorskip("selenium", reason="selenium is not installed: `make browser` installs it and runs these tests")

from selenium.webdriver.common.keys import Keys

from tests.browser.console_page import ConsolePage
from tests.browser.gateway_config import ADMIN, KEY


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


def test_the_state_of_the_server_is_followed_until_it_is_ready(driver, keyless: str) -> None:
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
