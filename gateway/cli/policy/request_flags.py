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
    flags = parser.add_argument_group("the request")
    flags.add_argument("--request", type=Path, metavar="FILE", help="the request body (JSON)")
    flags.add_argument("--model", metavar="NAME", help="the requested model, NAME or NAME:ADAPTER")
    flags.add_argument("--tenant", metavar="NAME", help="the tenant")
    flags.add_argument("--tier", metavar="NAME", help="the tier (default: the tenant's)")
    flags.add_argument("--tag", action="append", metavar="TAG", help="a tag; repeatable, as are --header and --has")
    flags.add_argument("--header", action="append", metavar="NAME=VALUE", help="an HTTP header")
    flags.add_argument(
        "--path", metavar="PATH", help="/v1/chat/completions, /v1/completions, /v1/embeddings or /v1/stream"
    )
    flags.add_argument("--has", action="append", choices=get_args(Has), help="what the request contains")
    flags.add_argument("--text", metavar="TEXT", help="the last user text, for complexity, code and language")
    flags.add_argument(
        "--prompt-tokens", type=int, metavar="N", help="length of the prompt, without --text or --request"
    )
    flags.add_argument("--max-tokens", type=int, metavar="N", help="the client's limit of output tokens")
    flags.add_argument("--turn", type=int, metavar="N", help="number of user turns, including this one")
    flags.add_argument(
        "--complexity", type=float, metavar="X", help="score from 0 to 1, instead of the one computed from the text"
    )
    flags.add_argument(
        "--code", type=float, metavar="X", help="score from 0 to 1, instead of the one computed from the text"
    )
    flags.add_argument("--language", metavar="CODE", help='such as "en", instead of the one found in the text')
    flags.add_argument("--budget-used", type=float, metavar="X", help="used share of the tenant's budget, 0 to 1")
    flags.add_argument("--time", metavar="TIME", help="ISO 8601 with a time zone (default: now)")
    flags.add_argument("--unit", metavar="NAME", help="id that decides the experiment arm")
    load = parser.add_argument_group("the load")
    load.add_argument(
        "--load",
        action="append",
        metavar="RUNG.KEY=VALUE",
        help=f"such as large.queue_wait=3s; keys: {', '.join(LOAD_KEYS)}",
    )
    load.add_argument(
        "--busy", action="append", metavar="CASCADE", help="assume this cascade is busy (its when_busy condition holds)"
    )
    load.add_argument("--rolled-back", action="append", metavar="EXPERIMENT", help="an experiment that was rolled back")
