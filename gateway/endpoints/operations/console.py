"""The console, a page for people, and its files."""

from gateway.console.console_files import CONTENT_TYPES
from gateway.endpoints.operations.common import FIND_ERRORS
from gateway.openapi.operation import HTML, PLAIN, AnswerForm, Operation, Parameter
from gateway.openapi.words import SERVER

_TEXT = {"type": "string"}
_KNOWN = Parameter("If-None-Match", "header", {"type": "string"}, "The `etag` of the file at hand.")
_SAME = AnswerForm(text="It is the one that `If-None-Match` names.", headers=("etag",))
CONSOLE_OPERATIONS = (
    Operation(
        method="GET",
        path="/",
        name="getConsole",
        tag=SERVER,
        summary="The console, a page for people",
        text="Programs, which do not accept `text/html`, get a text with an example of a request.",
        parameters=(_KNOWN,),
        answers={
            200: AnswerForm(text="The page, or the text.", content={HTML: _TEXT, PLAIN: _TEXT}, headers=("etag",)),
            304: _SAME,
        },
        errors="both",
        key="none",
    ),
    Operation(
        method="GET",
        path="/console/{name}",
        name="getConsoleFile",
        tag=SERVER,
        summary="A file of the console",
        parameters=(
            Parameter("name", "path", {"type": "string", "minLength": 1}, "It may contain slashes.", "main.js"),
            _KNOWN,
        ),
        answers={
            200: AnswerForm(
                text="The file.",
                content=dict.fromkeys([each.partition(";")[0] for each in CONTENT_TYPES.values()], _TEXT),
                headers=("etag",),
            ),
            304: _SAME,
        },
        refused=FIND_ERRORS,
        errors="both",
        key="none",
    ),
)
