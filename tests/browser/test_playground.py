"""The playground, used in Chromium against real gateways. Without a browser it is skipped, with the reason."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("selenium", reason="selenium is not installed: `make browser` installs it and runs these tests")

from selenium.webdriver.common.keys import Keys

from tests.browser.console_page import ConsolePage
from tests.browser.gateway_config import HOSTILE_NAME, KEY
from tests.browser.scripted_upstream import ScriptedUpstream
from tests.patience import PATIENCE_S

HOSTILE = (
    "<img src=x onerror=hacked=2></script><script>hacked=3</script>\x1b[31mred \u202egnp.exe\u202c **b** &amp; 👍🏽"
)


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


def test_the_text_of_each_model_is_marked_where_a_cascade_moves_within_an_answer(locked: ConsolePage) -> None:
    locked.choose("#model", "parted")
    said = locked.ask("Hello!")
    parts = {stage: locked.text(f".by.{stage}") for stage in ("small", "large")}
    assert all(parts.values())
    assert parts["small"] + parts["large"] == said
    assert "the first" in locked.text(".margins figcaption")
    assert "cost" in locked.text(".summary")
