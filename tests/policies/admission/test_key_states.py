"""What operators see of the keys of a configuration."""

import msgspec

from config.model.settings import AdminKey, AdminSettings, MetricsKey, MetricsSettings
from config.model.table import Moment
from config.model.tenancy import KeySettings
from policies.admission.key_states import KeyState, key_states
from tests.actors.configuration import settings_of

HASH = "0" * 64


def test_each_key_has_a_state() -> None:
    settings = msgspec.structs.replace(
        settings_of(),
        keys=(
            KeySettings(id="a", tenant="acme", hash=HASH, models=("small",), endpoints=("chat",)),
            KeySettings(id="b", tenant="acme", hash=HASH, expires=Moment(100.0)),
        ),
        admin=AdminSettings(keys=(AdminKey(id="ops", hash=HASH, roles=("read",), expires=Moment(1000.0)),)),
        metrics=MetricsSettings(keys=(MetricsKey(id="scraper", hash=HASH),)),
    )
    states = key_states(settings, 100.0)
    assert states == [
        KeyState(id="a", kind="tenant", tenant="acme", state="valid", models=("small",), endpoints=("chat",)),
        KeyState(
            id="b", kind="tenant", tenant="acme", state="expired", expires="1970-01-01T00:01:40Z", expires_in_s=0.0
        ),
        KeyState(
            id="ops", kind="admin", state="valid", expires="1970-01-01T00:16:40Z", expires_in_s=900.0, roles=("read",)
        ),
        KeyState(id="scraper", kind="metrics", state="valid"),
    ]
    assert HASH not in msgspec.json.encode(states).decode()
