"""`POST /v1/responses`."""

from gateway.endpoints.api_context import ApiContext
from gateway.endpoints.completions import CompletionHandler, Endpoint
from gateway.openai.requests.json_body import BodyDecoder
from gateway.responses_api.event_renderer import ResponseRenderer, break_off
from gateway.responses_api.request_body import ResponseBody, read_response
from gateway.responses_api.response_object import WholeResponse, response_body

RESPONSE = Endpoint(
    "responses",
    BodyDecoder(ResponseBody),
    read_response,
    ResponseRenderer,
    response_body,
    choice=WholeResponse,
    break_off=break_off,
)


class ResponseHandler(CompletionHandler):
    """Handles requests for responses."""

    def __init__(self, api: ApiContext) -> None:
        super().__init__(api, RESPONSE)
