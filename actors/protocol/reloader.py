"""What the policy reloader is told."""

from typing import Literal

import msgspec

from actors.kernel.reply import Reply
from policies.lifecycle.reload import ReloadResult

ReloadTrigger = Literal["signal", "file", "admin"]


class Reload(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Read the configuration again, and swap the policy if it is good."""

    asked_by: ReloadTrigger
    reply: Reply[ReloadResult] | None = None
