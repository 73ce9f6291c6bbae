"""The console in a real browser, as a person uses it."""

import shutil
import time
from collections.abc import Callable
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.patience import PATIENCE_S

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def browser_path() -> str | None:
    return next((path for name in BROWSERS if (path := shutil.which(name)) is not None), None)


def missing() -> str:
    """Why no browser can be driven here; "": one can."""
    if browser_path() is None:
        return "no Chromium is installed: on Debian, apt install chromium chromium-driver"
    return (
        "" if shutil.which("chromedriver") else "chromedriver is not installed: on Debian, apt install chromium-driver"
    )


def start_browser(width: int = 1280, height: int = 900) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = browser_path() or ""
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{argument}")
    options.add_argument(f"--window-size={width},{height}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_script_timeout(PATIENCE_S)
    return driver


class ConsolePage:
    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver = driver
        self.url = url

    def open(self, *, api_key: str = "", admin_key: str = "") -> "ConsolePage":
        """Anew, with these keys, and wait until the models are there."""
        self.driver.get(f"{self.url}/")
        if api_key or admin_key:
            self.driver.execute_script("sessionStorage.clear()")
            self.driver.get(f"{self.url}/")
            self.until(lambda: self.one("#keys").is_displayed())
            self.use_keys(api_key, admin_key)
        self.until(lambda: self.all("#model option"))
        return self

    def use_keys(self, api_key: str, admin_key: str = "") -> None:
        if not self.one("#keys").is_displayed():
            self.one("#show-keys").click()
        self.write("#api-key", api_key)
        self.write("#admin-key", admin_key)
        self.one("#keys button[type=submit]").click()

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return self.one(selector).get_property("textContent")

    def value(self, selector: str) -> str:
        return self.one(selector).get_property("value")

    def script(self, code: str, *arguments: Any) -> Any:
        return self.driver.execute_script(code, *arguments)

    def write(self, selector: str, text: str) -> None:
        """Instead of what is there, with the event that typing makes; any character, those beyond a keyboard too."""
        self.script(
            "const [field, text] = arguments; field.closest('details')?.setAttribute('open', '');"
            "field.value = text; field.dispatchEvent(new Event('input', { bubbles: true }))",
            self.one(selector),
            text,
        )

    choose = write
    """An option of a list, by its value."""

    def until(self, holds: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while not (found := holds()):
            assert time.monotonic() < deadline, self.text("body")
        return found

    def press(self, *keys: str) -> None:
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def ask(self, text: str) -> str:
        """Send it by the keyboard; what the answer says when it has ended."""
        before = len(self.all(".turn.assistant"))
        self.write("#prompt", text)
        self.one("#prompt").send_keys(Keys.ENTER)
        self.until(lambda: len(self.all(".turn.assistant")) > before and not self.busy)
        return self.last_answer

    @property
    def busy(self) -> bool:
        return self.one("#stop").is_displayed()

    @property
    def last_answer(self) -> str:
        return self.all(".turn.assistant > .text")[-1].get_property("textContent")

    def complaints(self) -> list[str]:
        """What the browser says of the page: violations of its policy, exceptions; not of answers that are errors."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] in {"SEVERE", "WARNING"} and "Failed to load resource" not in entry["message"]
        ]

    def look(self, *, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
