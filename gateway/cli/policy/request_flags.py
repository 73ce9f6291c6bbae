"""Flags that describe a request and the load at its arrival.

`gateway.cli.policy.described_request` reads them.
"""

import argparse
from pathlib import Path
from typing import get_args

from config.model.bounds import bounds_in
from config.model.conditions import Has
from config.model.expectations import GivenRequest
from config.model.words import ADDRESSES, LANGUAGES
from gateway.cli.policy.number_flag import real, whole

LOAD_KEYS = ("queue_wait", "kv_usage", "running", "healthy", "breaker")
"""Keys of `--load RUNG.KEY=VALUE`."""
_BOUNDS = bounds_in(GivenRequest)
"""Those of the tests in a file hold here, too."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Without flags the request has neutral values and the service is idle."""
    add = parser.add_argument_group("the request").add_argument
    add("--request", type=Path, metavar="FILE", help="the request body (JSON)")
    add("--model", metavar="NAME", help="the requested model, NAME or NAME:ADAPTER")
    add("--tenant", metavar="NAME", help="the tenant")
    add("--tier", metavar="NAME", help="the tier (default: the tenant's)")
    add("--tag", action="append", metavar="TAG", help="a tag; repeatable, as are --header and --has")
    add("--header", action="append", metavar="NAME=VALUE", help="an HTTP header")
    add(
        "--path",
        choices=tuple(ADDRESSES),
        metavar="PATH",
        help="such as /v1/messages (default: by the body's fields, or /v1/chat/completions)",
    )
    add("--has", action="append", choices=get_args(Has), help="what the request contains")
    add("--text", metavar="TEXT", help="the last user text, for complexity, code and language")
    add(
        "--prompt-tokens",
        type=whole(_BOUNDS["prompt_tokens"]),
        metavar="N",
        help="length of the prompt, without --text or --request",
    )
    add("--max-tokens", type=whole(_BOUNDS["max_tokens"]), metavar="N", help="the client's limit of output tokens")
    add("--turn", type=whole(_BOUNDS["turn"]), metavar="N", help="number of user turns, including this one")
    add(
        "--complexity",
        type=real(_BOUNDS["complexity"]),
        metavar="X",
        help="score from 0 to 1, instead of the one computed from the text",
    )
    add(
        "--code",
        type=real(_BOUNDS["code"]),
        metavar="X",
        help="score from 0 to 1, instead of the one computed from the text",
    )
    add(
        "--language",
        choices=tuple(LANGUAGES),
        metavar="CODE",
        help='such as "en", instead of the one found in the text',
    )
    add(
        "--budget-used",
        type=real(_BOUNDS["budget_used"]),
        metavar="X",
        help="used share of the tenant's budget, 0 to 1",
    )
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
