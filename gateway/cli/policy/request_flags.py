"""Flags that describe a request and the load at its arrival.

`gateway.cli.policy.described_request` reads them.
"""

import argparse
from pathlib import Path
from typing import get_args

from config.model.conditions import Has

LOAD_KEYS = ("queue_wait", "kv_usage", "running", "healthy", "breaker")
"""Keys of `--load RUNG.KEY=VALUE`."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Without flags the request has neutral values and the service is idle."""
    add = parser.add_argument_group("the request").add_argument
    add("--request", type=Path, metavar="FILE", help="the request body (JSON)")
    add("--model", metavar="NAME", help="the requested model, NAME or NAME:ADAPTER")
    add("--tenant", metavar="NAME", help="the tenant")
    add("--tier", metavar="NAME", help="the tier (default: the tenant's)")
    add("--tag", action="append", metavar="TAG", help="a tag; repeatable, as are --header and --has")
    add("--header", action="append", metavar="NAME=VALUE", help="an HTTP header")
    add("--path", metavar="PATH", help="such as /v1/messages (default: by the body's fields, or /v1/chat/completions)")
    add("--has", action="append", choices=get_args(Has), help="what the request contains")
    add("--text", metavar="TEXT", help="the last user text, for complexity, code and language")
    add("--prompt-tokens", type=int, metavar="N", help="length of the prompt, without --text or --request")
    add("--max-tokens", type=int, metavar="N", help="the client's limit of output tokens")
    add("--turn", type=int, metavar="N", help="number of user turns, including this one")
    add("--complexity", type=float, metavar="X", help="score from 0 to 1, instead of the one computed from the text")
    add("--code", type=float, metavar="X", help="score from 0 to 1, instead of the one computed from the text")
    add("--language", metavar="CODE", help='such as "en", instead of the one found in the text')
    add("--budget-used", type=float, metavar="X", help="used share of the tenant's budget, 0 to 1")
    add("--time", metavar="TIME", help="ISO 8601 with a time zone (default: now)")
    add("--unit", metavar="NAME", help="id that decides the experiment arm")
    add = parser.add_argument_group("the load").add_argument
    add(
        "--load",
        action="append",
        metavar="RUNG.KEY=VALUE",
        help=f"such as large.queue_wait=3s; keys: {', '.join(LOAD_KEYS)}",
    )
    add(
        "--busy", action="append", metavar="CASCADE", help="assume this cascade is busy (its when_busy condition holds)"
    )
    add("--rolled-back", action="append", metavar="EXPERIMENT", help="an experiment that was rolled back")
