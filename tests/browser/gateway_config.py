"""What the gateway of the browser's tests serves: the embedded models, a scripted upstream, keys and prices."""

from policies.admission.keys import new_key
from tests.paths import ROOT

KEY = new_key("acme", bytes(range(1, 39)), "app")
ADMIN = new_key("", bytes(range(2, 40)), "ops")
HOSTILE_NAME = "<img src=x onerror=hacked=1>"
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
