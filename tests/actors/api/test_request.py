"""What is asked, as a digest."""

from types import MappingProxyType

import msgspec

from actors.api.content import MediaPart, media_digest
from actors.api.request import ChatMessage, ChatPrompt, Credentials, InferenceRequest, ParsedBody, RequestContent
from engine.sampling.params import SamplingParams


def test_a_chat_as_the_endpoint_reads_it_has_a_digest() -> None:
    prompt = ChatPrompt((ChatMessage("user", "Hi", written=MappingProxyType({"x": 1})),))
    body = ParsedBody(model="small", prompts=(prompt,), params=SamplingParams(max_tokens=1))
    request = InferenceRequest(request_id="r", credentials=Credentials("key"), body=body, arrived_at=0.0)
    other = msgspec.structs.replace(request, request_id="s", credentials=Credentials("other"))
    assert RequestContent(request).digest == RequestContent(other).digest
    changed = msgspec.structs.replace(body, prompts=(ChatPrompt((ChatMessage("user", "Ho"),)),))
    assert RequestContent(msgspec.structs.replace(request, body=changed)).digest != RequestContent(request).digest


def test_what_is_shown_is_part_of_what_is_asked() -> None:
    """So that only the request with this image is refused after crashes, by any client and in any field."""

    def digest(content: bytes, **more: str) -> bytes:
        where = more.pop("where", "messages[0]")
        part = MediaPart(medium="image", where=where, data="same", digest=media_digest(content), **more)
        prompt = ChatPrompt((ChatMessage("user", "Hi", parts=(part,)),))
        body = ParsedBody(model="small", prompts=(prompt,), params=SamplingParams(max_tokens=1))
        return RequestContent(InferenceRequest(request_id="r", body=body, arrived_at=0.0)).digest

    assert digest(b"a") == digest(b"a", where="input[0]")
    assert len({digest(b"a"), digest(b"b"), digest(b"a", detail="low")}) == 3
