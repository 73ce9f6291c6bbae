"""`penstock keys`: make API keys, replace them with an overlap, and list those of a configuration."""

import argparse
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec

from config.load import load_settings
from config.model.settings import AdminKey, MetricsKey, Role, Settings
from config.model.table import Moment
from config.model.tenancy import KEY_ID, KeyEndpoint, KeySettings
from config.model.units import parse_expiry, parse_span, write_duration, write_moment
from config.parse.keys_file import key_table
from gateway.cli.terminal import Page, print_data
from gateway.errors import CliError

_Key = KeySettings | AdminKey | MetricsKey
_DAY_S = 86_400.0


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    keys = commands.add_parser("keys", help="create, replace and list API keys")
    parsers = keys.add_subparsers(title="commands", metavar="COMMAND", required=True)
    new = parsers.add_parser("new", help="create a key: it is printed once, only its hash is stored")
    whose = new.add_mutually_exclusive_group(required=True)
    whose.add_argument("--tenant", help="the tenant that the key belongs to")
    whose.add_argument("--admin", action="store_true", help="a key for the admin API only")
    whose.add_argument("--metrics", action="store_true", help="a key for /metrics only")
    new.add_argument("--id", help="name of the key (default: random)")
    _add_expires(new)
    new.add_argument("--models", type=_names, metavar="NAMES", help="what it may ask for, with commas; * is a wildcard")
    words = ", ".join(get_args(KeyEndpoint))
    new.add_argument("--endpoints", type=_names, metavar="NAMES", help=f"what it may use, with commas: {words}")
    words = ", ".join(get_args(Role))
    new.add_argument("--roles", type=_names, metavar="NAMES", help=f"of a key for the admin API, with commas: {words}")
    new.set_defaults(run=run)

    rotate = parsers.add_parser("rotate", help="make the key that replaces another one; both are valid for a while")
    rotate.add_argument("id", metavar="ID", help="the key to replace")
    _add_config(rotate)
    rotate.add_argument(
        "--overlap", default="7d", metavar="TIME", help="how long the old key stays valid (default: %(default)s)"
    )
    _add_expires(rotate)
    list_ = rotate.add_mutually_exclusive_group()
    list_.add_argument("--admin", action="store_true", help="ID is a key for the admin API")
    list_.add_argument("--metrics", action="store_true", help="ID is a key for /metrics")
    rotate.set_defaults(run=run_rotate)

    listing = parsers.add_parser("list", help="the keys of a configuration, with what they permit and until when")
    _add_config(listing)
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(run=run_list)


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", required=True, help="a TOML file or a folder of them")


def _add_expires(parser: argparse.ArgumentParser) -> None:
    text = "when the new key expires: a span such as 90d, or a time such as 2027-01-31T00:00:00Z (default: never)"
    parser.add_argument("--expires", metavar="TIME", help=text)


def run(arguments: argparse.Namespace) -> int:
    """Print the key and the lines for the configuration."""
    from policies.admission.keys import RANDOM_BYTES, new_key

    if arguments.id is not None and not KEY_ID.fullmatch(arguments.id):
        raise CliError("--id must be 1 to 64 letters, digits or hyphens", 2)
    _check_words(arguments)
    prefix = _prefix(arguments)
    made = new_key(arguments.tenant or "", secrets.token_bytes(RANDOM_BYTES), arguments.id, prefix=prefix)
    expires = None if arguments.expires is None else _moment(arguments.expires, time.time())
    key: _Key
    if arguments.admin:
        key = AdminKey(id=made.settings.id, hash=made.settings.hash, expires=expires)
        if arguments.roles:
            key = msgspec.structs.replace(key, roles=arguments.roles)
    elif arguments.metrics:
        key = MetricsKey(id=made.settings.id, hash=made.settings.hash, expires=expires)
    else:
        key = msgspec.structs.replace(
            made.settings, expires=expires, models=arguments.models or (), endpoints=arguments.endpoints or ()
        )
    print(f"The key, shown only once: {made.raw}\n")
    needs = " (it also needs a [tenants.NAME] table)" if arguments.tenant else ""
    print(f"Add to the configuration{needs}:\n")
    print(key_table(_table(arguments), key), end="")
    return 0


def run_rotate(arguments: argparse.Namespace) -> int:
    """Print the new key, its lines, and the line that ends the old one."""
    from policies.admission.key_changes import replacement
    from policies.admission.keys import RANDOM_BYTES

    now = time.time()
    try:
        overlap_s = parse_span(arguments.overlap, now)
    except ValueError as error:
        raise CliError(f"--overlap: {error}", 2) from None
    settings = load_settings(arguments.config)
    keys = _list_of(arguments, settings)
    by_id = {key.id: key for key in keys}
    old = by_id.get(arguments.id)
    stored = () if arguments.admin or arguments.metrics else [key.id for key in settings.stored_keys]
    if old is None and arguments.id in stored:
        raise CliError(f"'{arguments.id}' is in {settings.admin.keys_file}: the admin API replaces it", 2)
    if old is None:
        raise CliError(f"{arguments.config} has no key '{arguments.id}' in [[{_table(arguments)}]]: {_ids(by_id)}", 2)
    change = replacement(
        old,
        {*by_id, *stored},
        secrets.token_bytes(RANDOM_BYTES),
        prefix=_prefix(arguments),
        now=now,
        overlap_s=overlap_s,
        expires=None if arguments.expires is None else _moment(arguments.expires, now),
    )
    print(f"The key, shown only once: {change.raw}\n")
    print("1. Add to the configuration; it may ask for what the old one may:\n")
    print(key_table(_table(arguments), change.new(old)), end="")
    print(f"\n2. In the table of '{old.id}', so that both are valid until then ({write_duration(overlap_s)}):\n")
    print(f"expires = {write_moment(change.until)}")
    print(f"\n3. Give the new key to its users, and remove the table of '{old.id}' when it has expired.")
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    """Print all keys, without their hashes."""
    from policies.admission.key_states import KeyState, key_states

    states = key_states(load_settings(arguments.config), time.time())
    if arguments.json:
        print_data(states)
        return 0

    def scope(key: KeyState) -> str:
        return ", ".join([*key.models, *key.endpoints, *key.roles]) or "all"

    page = Page()
    if states:
        rows = [(key.id, key.kind, key.tenant or "-", _state(key.expires_in_s), scope(key)) for key in states]
        page.table([("id", "kind", "tenant", "state", "may use"), *rows], indent=0)
    else:
        page.line("no keys: only clients on this machine may use the server")
    page.print()
    return 0


def _state(expires_in_s: float | None) -> str:
    if expires_in_s is None:
        return "valid"
    if expires_in_s <= 0:
        return "expired"
    if expires_in_s >= _DAY_S:
        return f"valid, expires in {expires_in_s / _DAY_S:.0f} d"
    return f"valid, expires in {expires_in_s / 3600:.1f} h"


def _names(text: str) -> tuple[str, ...]:
    return tuple([name for part in text.split(",") if (name := part.strip())])


def _check_words(arguments: argparse.Namespace) -> None:
    """Raises CliError for options that are not of this kind of key, and for unknown words."""
    if arguments.tenant is not None and not arguments.tenant:
        raise CliError("--tenant: the name of a tenant is missing", 2)
    if arguments.roles and not arguments.admin:
        raise CliError("--roles are those of a key for the admin API: add --admin", 2)
    for option in ("models", "endpoints"):
        if getattr(arguments, option) and not arguments.tenant:
            raise CliError(f"--{option} limits a tenant's key: give --tenant", 2)
    for option, words in (("endpoints", get_args(KeyEndpoint)), ("roles", get_args(Role))):
        for word in getattr(arguments, option) or ():
            if word not in words:
                raise CliError(f"--{option}: '{word}' is not one of {', '.join(words)}", 2)


def _moment(text: str, now: float) -> Moment:
    try:
        return parse_expiry(text, now)
    except ValueError as error:
        raise CliError(f"--expires: {error}", 2) from None


def _prefix(arguments: argparse.Namespace) -> str:
    from policies.admission.keys import ADMIN_PREFIX, METRICS_PREFIX, PREFIX

    return ADMIN_PREFIX if arguments.admin else METRICS_PREFIX if arguments.metrics else PREFIX


def _table(arguments: argparse.Namespace) -> str:
    return "admin.keys" if arguments.admin else "metrics.keys" if arguments.metrics else "keys"


def _list_of(arguments: argparse.Namespace, settings: Settings) -> Sequence[_Key]:
    if arguments.admin:
        return settings.admin.keys
    return settings.metrics.keys if arguments.metrics else settings.keys


def _ids(keys: dict[str, _Key]) -> str:
    return f"it has {', '.join(sorted(keys))}" if keys else "it has none"
