"""Gateways, and a browser that is driven: without one the tests are skipped, with the reason."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.browser.gateway_config import ADMIN, CONFIG, HOSTILE_NAME, KEY
from tests.browser.scripted_upstream import ScriptedUpstream, scripted_upstream
from tests.e2e.process import GatewayProcess

if TYPE_CHECKING:
    # It imports selenium, which not every environment has.
    from tests.browser.console_page import ConsolePage


@pytest.fixture(scope="session")
def keyless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The embedded models, as `penstock serve` has them."""
    process = GatewayProcess(log=tmp_path_factory.mktemp("keyless") / "serve.log")
    yield process.url
    process.end()


@pytest.fixture(scope="session")
def upstream() -> Iterator[ScriptedUpstream]:
    with scripted_upstream() as script:
        yield script


@pytest.fixture(scope="session")
def keyed(upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("keyed")
    (folder / "config.toml").write_text(CONFIG.replace("URL", upstream.url))
    process = GatewayProcess("--config", str(folder / "config.toml"), log=folder / "serve.log")
    yield process.url
    process.end()


@pytest.fixture(scope="session")
def driver():
    from tests.browser.console_page import missing, start_browser

    if missing():
        pytest.skip(missing())
    started = start_browser()
    yield started
    started.quit()


@pytest.fixture
def page(driver, keyless: str) -> "Iterator[ConsolePage]":
    """Without keys; nothing on it may break a rule of its own policy."""
    from tests.browser.console_page import ConsolePage

    opened = ConsolePage(driver, keyless).open()
    yield opened
    assert opened.complaints() == []


@pytest.fixture
def locked(driver, keyed: str) -> "Iterator[ConsolePage]":
    """With keys, and the scripted upstream as its model."""
    from tests.browser.console_page import ConsolePage

    opened = ConsolePage(driver, keyed).open(api_key=KEY.raw, admin_key=ADMIN.raw)
    opened.choose("#model", HOSTILE_NAME)
    yield opened
    assert opened.complaints() == []
