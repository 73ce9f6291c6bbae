"""All operations, in the order in which the document has them."""

import importlib.metadata
from functools import cache
from typing import Any

from gateway.endpoints.operations.admin import ADMIN_OPERATIONS
from gateway.endpoints.operations.batches import BATCH_OPERATIONS
from gateway.endpoints.operations.chat import CHAT_OPERATIONS
from gateway.endpoints.operations.console import CONSOLE_OPERATIONS
from gateway.endpoints.operations.judging import JUDGING_OPERATIONS
from gateway.endpoints.operations.kept_answers import KEPT_OPERATIONS
from gateway.endpoints.operations.messages import MESSAGE_OPERATIONS
from gateway.endpoints.operations.responses import RESPONSE_OPERATIONS
from gateway.endpoints.operations.server import SERVER_OPERATIONS
from gateway.endpoints.operations.vllm import VLLM_OPERATIONS
from gateway.openapi.document import api_document

OPERATIONS = (
    *CHAT_OPERATIONS,
    *RESPONSE_OPERATIONS,
    *MESSAGE_OPERATIONS,
    *VLLM_OPERATIONS,
    *JUDGING_OPERATIONS,
    *BATCH_OPERATIONS,
    *KEPT_OPERATIONS,
    *SERVER_OPERATIONS,
    *CONSOLE_OPERATIONS,
    *ADMIN_OPERATIONS,
)


@cache
def described(*, keyless: bool) -> dict[str, Any]:
    """The OpenAPI document of this server, made once. `keyless`: it needs no key."""
    return api_document(OPERATIONS, importlib.metadata.version("penstock"), keyless=keyless)
