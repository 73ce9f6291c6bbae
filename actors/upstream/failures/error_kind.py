"""Classification of an upstream's error by its status, codes and message. Pure.

A specific code (`context_length_exceeded`, `insufficient_quota`, `content_filter` ...) takes precedence over the
status, because servers agree on such codes but not on statuses. The status takes precedence over general codes
(`invalid_request_error` comes with 400, 401, 404 and 429), which decide only where there is no status, in an error
event of a stream.
"""

import re
from collections.abc import Iterable
from typing import Literal

from actors.upstream.failures.error_object import ErrorObject

FailureKind = Literal[
    "upstream_unreachable",
    "upstream_error",
    "upstream_failed",
    "upstream_truncated",
    "upstream_garbled",
    "upstream_misconfigured",
    "upstream_quota_spent",
    "upstream_busy",
    "upstream_resting",
    "upstream_rejected",
    "prompt_too_long",
    "content_filter",
]
_NOT_A_LETTER = re.compile(r"[^a-z0-9]")


def _codes(kind: FailureKind, codes: str) -> dict[str, FailureKind]:
    return {_bare(code): kind for code in codes.split()}


def _bare(code: str) -> str:
    """Normalize a code: `BadRequestError`, `bad_request_error` and `BAD-REQUEST-ERROR` are equal."""
    return _NOT_A_LETTER.sub("", code.lower())


_SPECIFIC: dict[str, FailureKind] = {
    **_codes(
        "prompt_too_long",
        "context_length_exceeded exceed_context_size_error context_window_exceeded context_window_exceeded_error "
        "model_context_window_exceeded prompt_too_long input_too_long request_too_large "
        "model_max_prompt_tokens_exceeded input_length_exceeded",
    ),
    **_codes(
        "content_filter",
        "safety prohibited_content blocklist spii invalid_prompt guardrail_intervened refusal image_safety "
        "data_inspection_failed sensitive_content content_blocked censorship_blocked",
    ),
    **_codes(
        "upstream_quota_spent",
        "insufficient_quota insufficient_balance insufficient_credits insufficient_funds billing_error "
        "payment_required billing_hard_limit_reached billing_not_active account_deactivated "
        "exceeded_current_quota_error budget_spent budget_exceeded Arrearage AccountOverdueError",
    ),
    **_codes(
        "upstream_misconfigured",
        "invalid_api_key incorrect_api_key model_not_found model_not_found_error DeploymentNotFound "
        "unsupported_country_region_territory invalid_authentication invalid_authentication_error "
        "authentication_error api_key_invalid invalid_organization not_supported_error",
    ),
    **_codes(
        "upstream_busy",
        "rate_limit_exceeded rate_limit_error rate_limit_exceeded_error rate_limit_reached rate_limited "
        "too_many_requests resource_exhausted overloaded overloaded_error engine_overloaded "
        "engine_overloaded_error capacity_exceeded slow_down ThrottlingException throttling request_throttled "
        "queue_full wait_too_long queue_requests_full saturated "
        "tokens_per_minute tokens_per_day requests_per_minute concurrent",
    ),
}
_FILTERS = (
    "contentfilter",
    "policyviolation",
    "moderation",
    "prohibitedcontent",
    "responsibleai",
    "guardrail",
    "sensitivecontent",
    "riskcontent",
)
"""Parts of codes, anywhere in the code."""
_GENERAL: dict[str, FailureKind] = {
    **_codes(
        "upstream_rejected",
        "invalid_request_error bad_request_error bad_request invalid_request invalid_argument validation_error "
        "validation value_error type_error invalid_value invalid_type invalid_parameter invalid_parameter_error "
        "invalid_input unsupported_parameter unsupported_value unsupported_model_feature "
        "missing_required_parameter unknown_parameter unprocessable_entity unprocessable_entity_error "
        "failed_precondition out_of_range string_above_max_length array_above_max_length integer_below_min_value "
        "integer_above_max_value decimal_above_max_value upstream_rejected not_expressible",
    ),
    **_codes(
        "upstream_misconfigured",
        "permission_error permission_denied permission_denied_error unauthenticated unauthorized forbidden "
        "not_found not_found_error access_denied",
    ),
}
_REJECTIONS = ("invalidrequest", "badrequest", "unsupported", "missingrequired", "unprocessable")
"""Prefixes of codes."""
_TOO_LONG = re.compile(
    r"(?i)maximum (context|sequence|model|input|prompt|allowed)\b.{0,30}\blength"
    r"|(context|prompt|input|request|sequence|token count)\b.{0,40}\b(is |are )?too (long|large|many tokens)"
    r"|exceed\w*.{0,60}\b(context (size|length|window)|max(imum)?[ _](model|context|seq|input|prompt)\w*[ _]len"
    r"|(maximum|max) (number of |allowed )?(input |prompt )?tokens)"
    r"|(input|prompt|total|token)\w*\W{1,2}(length|tokens|count)\b.{0,60}(exceed|longer than|must be <=)"
    r"|must have less than \d+ tokens|too many (input |prompt )?tokens|tokens .{0,20}> \d+ maximum"
    r"|longer than .{0,40}\b(context|model|maximum)\w* length|context (length|window|size) .{0,20}exceeded"
    r"|context ?window ?exceeded|range of input length|exceeded model token limit|超长"
    r"|context.{0,10} overflow|context length of only|reduce the length of the (messages|prompt|input)"
)
_OTHER_LIMIT = re.compile(
    r"(?i)(max_(completion_|new_|output_)?tokens\b|maxOutputTokens|\b(n|best_of|image|audio|video|file|picture|document"
    r"|description|schema|name|id|stop|metadata|seed|tools?|functions?|logprobs)\b)"
    r".{0,60}(too (large|long|big|many)|exceed|longer than)"
    r"|\.(id|name|arguments|description)\b.{0,20}too long|(can|may|able to) (output|generate|produce)"
)
"""Something else than the prompt is too long ..."""
_CONTEXT = re.compile(r"(?i)context|\b(prompt|input|messages)\W.{0,30}\b(too (long|many)|exceed)|input tokens|超长")
"""... unless the words are about the context."""
_PROMPT_PARAM = re.compile(r"(messages|prompt|input)(\[\d+\])*(\.content)?(\[\d+\])*(\.text)?")
_NEVER_FITS = re.compile(r"(?i)request too large|must be reduced in order to run")
_FILTERED = re.compile(
    r"(?i)content ?(management |usage )?polic(y|ies)|usage (policy|policies|guidelines)|content filter"
    r"|flagged (as|by|for)(?! (an? )?(unsupported|unknown|unexpected|invalid|deprecated|not ))"
    r"|safety system|safety[ _]check"
    r"|(new_|contains? )sensitive|sensitive (content|information|words?)|敏感内容|不安全"
)
_UNPAID = re.compile(
    r"(?i)credit balance is too low|insufficient (account )?(balance|credits?|funds)|out of credits"
    r"|free tier .{0,40}exhausted|欠费"
)
# Messages of error events in a stream, where no status is known:
_BUSY = re.compile(r"(?i)rate ?limit|too many requests|request limit reached|overloaded|\bbusy\b")
_NO_KEY = re.compile(
    r"(?i)(invalid|incorrect|missing|wrong) (api[ _-]?key|token)\b|\b(token|api key) (is )?invalid|login fail"
)
_BAD_PARAM = re.compile(r"(?i)\binvalid param")
_NO_MODEL = re.compile(r"(?i)\bmodel\b.{0,100}\b(not found|does not exist|not exist)|no such model")


def kind_of(error: ErrorObject, status: int | None) -> FailureKind:
    """`status`: of the response; None: the error is in a stream, or in another response with status 200."""
    if error.status is not None and (status is None or (status >= 500 > error.status)):
        # A proxy's 5xx around the server's own 4xx.
        status = error.status
    codes = [_bare(code) for code in error.codes]
    telling = _specific_kind(codes, error, status)
    if telling is not None:
        return telling
    if status is not None:
        return _kind_of_status(status)
    general = next((_GENERAL[code] for code in codes if code in _GENERAL), None)
    if general is not None:
        return general
    if any(code.startswith(_REJECTIONS) for code in codes) or _BAD_PARAM.search(error.words):
        return "upstream_rejected"
    return "upstream_busy" if _BUSY.search(error.words) else "upstream_failed"


def _specific_kind(codes: Iterable[str], error: ErrorObject, status: int | None) -> FailureKind | None:
    words = error.words
    if error.moderated or any(word in code for code in codes for word in _FILTERS):
        return "content_filter"
    kind = next((_SPECIFIC[code] for code in codes if code in _SPECIFIC), None)
    if kind == "upstream_busy" and (status == 413 or _NEVER_FITS.search(words)):
        # A request larger than the account's limit per minute never succeeds.
        return "prompt_too_long"
    if kind is not None:
        return kind
    if "stringabovemaxlength" in codes:
        return "prompt_too_long" if _PROMPT_PARAM.fullmatch(error.param or "") else None
    if status is None or status in {400, 402, 403, 429}:
        if _UNPAID.search(words):
            return "upstream_quota_spent"
        if status != 429 and _FILTERED.search(words):
            return "content_filter"
    if (status is None or status in {400, 413, 422, 500}) and _is_about_the_prompt(words):
        return "prompt_too_long"
    if status is None and (_NO_MODEL.search(words) or _NO_KEY.search(words)):
        return "upstream_misconfigured"
    return None


def _is_about_the_prompt(words: str) -> bool:
    return bool(_TOO_LONG.search(words)) and (not _OTHER_LIMIT.search(words) or bool(_CONTEXT.search(words)))


def _kind_of_status(status: int) -> FailureKind:
    match status:
        case 402:
            return "upstream_quota_spent"
        case 451:
            return "content_filter"
        case 409 | 423 | 425 | 429 | 498 | 529:
            return "upstream_busy"
        case 408 | 424 | 499:
            return "upstream_error"
        case 401 | 403 | 404 | 405 | 406 | 407 | 410 | 411 | 415 | 421 | 426 | 501 | 505:
            return "upstream_misconfigured"
    if status < 400:
        return "upstream_misconfigured"
    return "upstream_rejected" if status < 500 else "upstream_error"
