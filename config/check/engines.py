"""Checks engines, their adapters and the prices, and that required tables are not empty."""

from config.model.settings import Settings
from config.model.words import is_adapter_name
from config.problems.problems import Problems


def check_engines(settings: Settings, problems: Problems) -> None:
    """Check that required tables have entries, and that the settings of every engine are consistent."""
    for table in ("models", "tiers", "routes"):
        if not getattr(settings, table):
            problems.add((table,), "nothing is defined", expected="at least one", at_key=True, breaks=True)
    if not settings.engines and not settings.upstreams:
        problems.add(("engines",), "nothing is defined", expected="at least one", at_key=True, breaks=True)
    for name, engine in settings.engines.items():
        if engine.quantization_group is not None and engine.quantization != "int4":
            problems.add(
                ("engines", name, "quantization_group"),
                "only int4 weights have scales by groups",
                expected='quantization = "int4" beside it, or nothing',
            )
        if engine.max_step_tokens < engine.max_running:
            problems.add(
                ("engines", name, "max_step_tokens"),
                f"{engine.max_step_tokens} tokens of a step cannot hold one token of each running sequence",
                expected=f"at least max_running, {engine.max_running}",
            )
        ranks = engine.replicas * engine.tensor_parallel
        if engine.devices and len(engine.devices) != ranks:
            problems.add(
                ("engines", name, "devices"),
                f"{len(engine.devices)} devices for {engine.replicas} replicas of {engine.tensor_parallel} ranks",
                expected=f"replicas · tensor_parallel, {ranks}: one for each rank",
            )
        if not engine.devices and engine.tensor_parallel > 1 and engine.device != "cpu":
            problems.add(
                ("engines", name, "tensor_parallel"),
                f"{engine.tensor_parallel} ranks cannot share the device {engine.device}",
                expected='devices = ["cuda:0", "cuda:1", …], one for each rank',
            )


def check_adapters(settings: Settings, problems: Problems) -> None:
    """Check the names of adapters, and that their number is within `max_adapters`."""
    for name, engine in settings.engines.items():
        for adapter in engine.adapters:
            if not is_adapter_name(adapter):
                problems.add(
                    ("engines", name, "adapters", adapter),
                    f"'{adapter}' cannot be an adapter's name",
                    expected="1 to 64 letters, digits, '.', '_' and '-', the first a letter or digit",
                    at_key=True,
                )
        if engine.adapters and engine.tensor_parallel > 1:
            problems.add(
                ("engines", name, "adapters"),
                "adapters are not served by an engine whose model is split",
                expected="tensor_parallel = 1, or no adapters",
                at_key=True,
            )
        if len(engine.adapters) > engine.max_adapters:
            problems.add(
                ("engines", name, "max_adapters"),
                f"{len(engine.adapters)} adapters are given, and {engine.max_adapters} can be loaded",
                expected=f"at least {len(engine.adapters)}",
            )


def check_prices(settings: Settings, problems: Problems) -> None:
    """Check that prices are of rungs, and that cached input does not cost more than uncached input."""
    rungs = settings.engines.keys() | settings.upstreams.keys()
    for name, price in settings.prices.items():
        if name not in rungs and not (problems.is_broken(("engines",)) or problems.is_broken(("upstreams",))):
            problems.unknown_name(("prices", name), "engine or upstream", name, rungs, at_key=True)
        if price.cached_input is not None and price.cached_input > price.input:
            problems.warn(
                ("prices", name, "cached_input"),
                f"{price.cached_input:g} for tokens in the cache is more than {price.input:g} for those that are not",
            )
