"""Images, sounds and files in conversations: which kinds there are, and their bounds."""

from typing import Annotated, Literal, get_args

from config.model.bounds import Natural, within
from config.model.table import Bytes, PositiveBytes, Table

Medium = Literal["image", "audio", "file"]
MEDIA: tuple[Medium, ...] = get_args(Medium)


class MediaSettings(Table, frozen=True):
    """Bounds of the images, sounds and files in one request, and how many tokens one of them is taken for."""

    max_parts: Natural = 32
    """How many one request may have, together; above it 400. 0: none."""
    max_bytes: PositiveBytes = Bytes(20 * 2**20)
    """The size of one, decoded; above it 400. The request must fit into `server.max_body`, too, in which base64 takes a
    third more."""
    urls: bool = True
    """Requests may name an image or a file by its address, which the upstream fetches: this server never does. false:
    400, for upstreams that can reach addresses that clients should not."""
    image_tokens: Annotated[int, within(0, 1_000_000)] = 1000
    """How many prompt tokens an image counts for until the upstream reports its usage: in quotas, budgets, conditions
    on `prompt_tokens`, and the upstream's `context`."""
    audio_tokens: Annotated[int, within(0, 1_000_000)] = 1000
    """The same for a sound."""
    file_tokens: Annotated[int, within(0, 1_000_000)] = 5000
    """The same for a file."""
