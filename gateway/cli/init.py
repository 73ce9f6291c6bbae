"""`penstock init`: write a first configuration with comments."""

import argparse
import secrets
from pathlib import Path
from typing import Any

import msgspec

from config.profiles import STARTERS, starter
from gateway.cli.terminal import write_file
from policies.admission.keys import RANDOM_BYTES, new_key

_EPILOG = """\
examples:
  penstock init one-model --model models/qwen3-0.6b
  penstock init small-and-large --small models/qwen3-0.6b --large models/qwen3-4b
  penstock init in-front-of-vllm --url http://127.0.0.1:8000/v1 --tenant acme
"""
_MINE = "models/mine"
_WHAT = """\
one-model          one local model
small-and-large    a cascade: the small model answers first, the large one takes over when it is unsure
in-front-of-vllm   no local model: requests go to vLLM, or any other server with the OpenAI API
"""


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    parser = commands.add_parser(
        "init",
        help="write a first configuration with comments",
        description=f"Write a first configuration with comments. KIND is one of:\n\n{_WHAT}",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", choices=STARTERS, metavar="KIND", help="see above")
    parser.add_argument("file", type=Path, nargs="?", default=Path("penstock.toml"), help="file to write (%(default)s)")
    parser.add_argument(
        "--model", default=None, help="one-model: the model's folder; in-front-of-vllm: the model's name there"
    )
    parser.add_argument(
        "--small", metavar="DIR", default="models/small", help="small-and-large: the small model (%(default)s)"
    )
    parser.add_argument(
        "--large", metavar="DIR", default="models/large", help="small-and-large: the large model (%(default)s)"
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1", help="in-front-of-vllm: the address (%(default)s)")
    parser.add_argument(
        "--key-env", metavar="VARIABLE", help="in-front-of-vllm: the environment variable that holds its API key"
    )
    parser.add_argument(
        "--tenant",
        metavar="NAME",
        help="create an API key for this tenant; without keys, all local clients may use the server",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the file and print the next commands."""
    file: Path = arguments.file
    keys, raw = _keys(arguments.tenant)
    text = starter(arguments.kind).format(
        file=file,
        model=_model(arguments.kind, arguments.model),
        small=_quoted(arguments.small),
        large=_quoted(arguments.large),
        url=_quoted(arguments.url),
        upstream_key=_upstream_key(arguments.key_env),
        keys=keys,
    )
    write_file(file, text.encode(), if_new=", and nothing was written: give another name")
    print(f"wrote {file}")
    if raw is not None:
        print(f"API key of tenant {arguments.tenant}, shown only once: {raw}")
    if not _has_models(file, arguments):
        print(f"first: put your model's folder into `model` in {file}")
    print(f"next: penstock check {file}\nthen: penstock serve --config {file}")
    return 0


def _has_models(file: Path, arguments: argparse.Namespace) -> bool:
    """Whether the folders in `file` exist; relative ones count from its folder."""
    folders = {
        "one-model": (arguments.model or _MINE,),
        "small-and-large": (arguments.small, arguments.large),
        "in-front-of-vllm": (),
    }[arguments.kind]
    return all((file.parent / folder).is_dir() for folder in folders)


def _model(kind: str, given: str | None) -> str:
    if kind != "in-front-of-vllm":
        return _quoted(given or _MINE)
    if given is None:
        return (
            '# model = "NAME"                 # the name of the model there; without it, the name that the client sent'
        )
    return f"model = {_quoted(given)} # the name of the model there"


def _upstream_key(variable: str | None) -> str:
    comment = "the environment variable that holds the key; never the key itself"
    if variable is None:
        return f'# key = {{ env = "VLLM_KEY" }}    # {comment}'
    return f"key = {{ env = {_quoted(variable)} }} # {comment}"


_NO_KEYS = """
# API keys: `penstock keys new --tenant NAME` prints such lines. Without keys, all local clients may use the server.
# [[keys]]
# id = "app1"
# tenant = "NAME"
# hash = "…"
"""
_ONE_KEY = """
# API keys. Only the hash is stored; `penstock keys new --tenant NAME` creates more.
[tenants.{tenant}]
tier = "default"
# tokens = {{ per_minute = 200_000, per_day = 20_000_000 }}
# requests_per_minute = 600

[[keys]]
id = {id}
tenant = {tenant}
hash = {hash}
"""


def _keys(tenant: str | None) -> tuple[str, str | None]:
    """The file's section about API keys, and the new key if one was made."""
    if tenant is None:
        return _NO_KEYS, None
    made = new_key(tenant, secrets.token_bytes(RANDOM_BYTES))
    settings = made.settings
    return _ONE_KEY.format(tenant=_quoted(tenant), id=_quoted(settings.id), hash=_quoted(settings.hash)), made.raw


def _quoted(text: str) -> str:
    """A TOML string; every JSON string is one."""
    return msgspec.json.encode(text).decode()
