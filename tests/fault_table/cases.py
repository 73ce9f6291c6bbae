"""All cases, in the order of the page. A new one is a line in one of these tables."""

from tests.fault_table.clients import CLIENTS
from tests.fault_table.engines import ENGINES
from tests.fault_table.machines import MACHINES
from tests.fault_table.product import BOUND, ENGINE_KILLED, UPSTREAM_KILLED
from tests.fault_table.providers import PROVIDERS

CASES = [*PROVIDERS, *ENGINES, *MACHINES, *CLIENTS, *ENGINE_KILLED, *UPSTREAM_KILLED, *BOUND]
"""Those that run on the simulated clock; the rest is in `processes`."""
