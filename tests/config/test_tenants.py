"""Who the tenants are, and under which names their requests wait."""

from pathlib import Path

from config.load import parse_settings
from config.model.tenancy import Budget, TenantSettings
from config.tenants import ANONYMOUS, cache_domain, known_tenants, tenant_queue_name, tenant_queues
from tests.actors.configuration import CONFIG

KEYS = '[[keys]]\nid = "k"\ntenant = "acme"\nhash = "' + "0" * 64 + '"\n[tenants.acme]\n'


def test_without_keys_everybody_is_one_tenant() -> None:
    settings = parse_settings(CONFIG, Path("/nowhere/service.toml"))
    assert known_tenants(settings) == {ANONYMOUS: TenantSettings()}
    spoken_of = parse_settings(CONFIG + "[tenants.anonymous]\nconcurrent = 3\n", Path("/nowhere/service.toml"))
    assert known_tenants(spoken_of)[ANONYMOUS].concurrent == 3


def test_with_keys_only_those_of_the_file_are_known() -> None:
    assert known_tenants(parse_settings(CONFIG + KEYS, Path("/nowhere/service.toml"))).keys() == {"acme"}


def test_who_may_be_downgraded_waits_under_a_name_of_its_own_there() -> None:
    budget = Budget(amount=1.0, per="day", when_spent="downgrade", downgrade_to="slow")
    tenants = {"acme": TenantSettings(tier="fast", budget=budget), "free": TenantSettings()}
    lines = tenant_queues(tenants)
    assert {name: each.tier for name, each in lines.items()} == {
        "acme": "fast",
        "acme in slow": "slow",
        "free": "default",
    }
    assert tenant_queue_name("acme", tenants["acme"], "slow") in lines
    assert tenant_queue_name("acme", tenants["acme"], "fast") == "acme"


def test_a_budget_that_refuses_moves_nobody() -> None:
    tenants = {"acme": TenantSettings(budget=Budget(amount=1.0, per="day"))}
    assert tenant_queues(tenants) == tenants


def test_no_tenant_shares_a_cache_by_the_words_of_its_name() -> None:
    own, legal = TenantSettings(), TenantSettings(cache_domain="legal")
    alone = {cache_domain(name, own) for name in ("a", "b", "legal", "domain legal", "tenant a")}
    assert len(alone) == 5
    assert cache_domain("a", legal) == cache_domain("b", legal)
    assert cache_domain("a", legal) not in alone
    assert cache_domain("a", TenantSettings(cache_domain="a")) not in alone
