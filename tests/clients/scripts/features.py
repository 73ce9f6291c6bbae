"""How a script says what became of each feature: one line of JSON, on stdout."""

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

URL = os.environ["PENSTOCK_URL"]
KEY = "not-needed"

Feature = Callable[[], str | None]
"""None: it works. A text: it was refused as it should be, and why. It raises if it does not do as it should."""


def refused(kind: type[Exception], ask: Callable[[], object]) -> Any:
    """The error that it raises."""
    try:
        ask()
    except kind as error:
        return error
    raise AssertionError("it was taken")


def run(features: Mapping[str, Feature]) -> None:
    """Try each one, and end the process: with 1 if one raised."""
    failed = False
    for name, feature in features.items():
        row = {"feature": name, "refused": "", "fault": ""}
        try:
            row["refused"] = feature() or ""
        except Exception as error:  # noqa: BLE001  (whatever a client does)
            failed = True
            traceback.print_exc()
            row["fault"] = f"{type(error).__name__}: {error}"
        print(json.dumps(row), flush=True)  # noqa: T201
    sys.exit(int(failed))
