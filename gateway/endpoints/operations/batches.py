"""Files, and batches of requests that they contain."""

from gateway.endpoints.batches.batches import DEFAULT_LISTED, MOST_LISTED
from gateway.endpoints.batches.files import MOST_FILES_LISTED, ORDERS
from gateway.endpoints.operations.common import FIND_ERRORS, MODEL, QUESTION, found
from gateway.openai.batches.answer_types import (
    BatchEntries,
    BatchEntry,
    DeletedFile,
    FileEntries,
    FileEntry,
    UploadForm,
)
from gateway.openai.batches.batch_object import BatchBody
from gateway.openai.json_text import encode
from gateway.openai.requests.json_body import whole_body
from gateway.openapi.operation import BYTES, FORM, JSON, AnswerForm, Operation, Parameter
from gateway.openapi.words import BATCHES

_ENDPOINT = "/v1/chat/completions"
_LINE = {
    "custom_id": "sum",
    "method": "POST",
    "url": _ENDPOINT,
    "body": {"model": MODEL, "messages": QUESTION, "max_tokens": 16},
}
_WORD = {"type": "string", "minLength": 1, "pattern": "^[^/]+$"}
_FILE = Parameter("file_id", "path", _WORD)
_BATCH = Parameter("batch_id", "path", _WORD)
_AFTER = Parameter("after", "query", {"type": "string"}, "An id of the list: those that follow it.")
_TO_FILE = {name: {"file_id": "$response.body#/id"} for name in ("getFile", "getFileContent", "deleteFile")}
_TO_BATCH = {name: {"batch_id": "$response.body#/id"} for name in ("getBatch", "cancelBatch")}


def _limit(most: int, default: int) -> Parameter:
    return Parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": most, "default": default})


BATCH_OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/files",
        name="uploadFile",
        tag=BATCHES,
        summary="Upload a file of requests",
        text="It is read in parts, so that it may be larger than other bodies.",
        body=UploadForm,
        body_media=FORM,
        examples={"requests": {"purpose": "batch", "file": encode(_LINE).decode() + "\n"}},
        answers={200: AnswerForm(text="The file.", content={JSON: FileEntry}, links=_TO_FILE)},
        refused=frozenset({507}),
    ),
    Operation(
        method="GET",
        path="/v1/files",
        name="listFiles",
        tag=BATCHES,
        summary="The tenant's files",
        parameters=(
            _limit(MOST_FILES_LISTED, MOST_FILES_LISTED),
            Parameter("order", "query", {"type": "string", "enum": list(ORDERS), "default": "desc"}, "By their age."),
            _AFTER,
            Parameter("purpose", "query", {"type": "string"}, "Those with this one only."),
        ),
        answers=found(FileEntries, "A page of files."),
        refused=FIND_ERRORS,
    ),
    Operation(
        method="GET",
        path="/v1/files/{file_id}",
        name="getFile",
        tag=BATCHES,
        summary="A file",
        parameters=(_FILE,),
        answers=found(FileEntry, "The file."),
        refused=FIND_ERRORS,
    ),
    Operation(
        method="GET",
        path="/v1/files/{file_id}/content",
        name="getFileContent",
        tag=BATCHES,
        summary="What a file contains",
        text="Of a file of results: a line for each request, with its `custom_id` and `response`.",
        parameters=(_FILE,),
        answers={200: AnswerForm(text="Its bytes.", content={BYTES: {"type": "string", "format": "binary"}})},
        refused=FIND_ERRORS,
    ),
    Operation(
        method="DELETE",
        path="/v1/files/{file_id}",
        name="deleteFile",
        tag=BATCHES,
        summary="Delete a file",
        parameters=(_FILE,),
        answers=found(DeletedFile, "It is gone."),
        refused=FIND_ERRORS | {409},
    ),
    Operation(
        method="POST",
        path="/v1/batches",
        name="createBatch",
        tag=BATCHES,
        summary="Answer the requests of a file",
        text="They are answered when nothing else needs the server, within the window.",
        body=whole_body(BatchBody),
        examples={
            "chat": {"input_file_id": "file-0", "endpoint": _ENDPOINT, "completion_window": "24h"},
            "kept": {
                "input_file_id": "file-0",
                "endpoint": _ENDPOINT,
                "completion_window": "24h",
                "metadata": {"topic": "sums"},
                "output_expires_after": {"anchor": "created_at", "seconds": 7200},
            },
        },
        answers={200: AnswerForm(text="The batch.", content={JSON: BatchEntry}, links=_TO_BATCH)},
        refused=FIND_ERRORS,
    ),
    Operation(
        method="GET",
        path="/v1/batches",
        name="listBatches",
        tag=BATCHES,
        summary="The tenant's batches, the newest first",
        parameters=(_limit(MOST_LISTED, DEFAULT_LISTED), _AFTER),
        answers=found(BatchEntries, "A page of batches."),
        refused=FIND_ERRORS,
    ),
    Operation(
        method="GET",
        path="/v1/batches/{batch_id}",
        name="getBatch",
        tag=BATCHES,
        summary="A batch",
        parameters=(_BATCH,),
        answers=found(BatchEntry, "The batch."),
        refused=FIND_ERRORS,
    ),
    Operation(
        method="POST",
        path="/v1/batches/{batch_id}/cancel",
        name="cancelBatch",
        tag=BATCHES,
        summary="End a batch",
        text="What was answered by then is in its files.",
        parameters=(_BATCH,),
        answers=found(BatchEntry, "The batch as it is then."),
        refused=FIND_ERRORS | {409, 415},
    ),
)
