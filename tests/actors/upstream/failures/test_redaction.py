"""An upstream's error text without secrets of the gateway and without quotes of the prompt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.api.request import ChatMessage, ChatPrompt, TextPrompt
from actors.upstream.failures.redaction import MAX_CHARACTERS, Redactor, without_prompt_quotes
from policies.fallback.verdict import UpstreamError

OURS = Redactor(
    {
        "x-team": "team blue/1",
        "x-app": "search",
        "x-owner": "assistants",
        "x-token": "abc",
        "authorization": "Basic abcdef",
    },
    "https://host-7.example:8443/v1?key=query-secret&v=1",
    key="abcd1234",
)
INSIDE = Redactor({}, "http://model:8000/v1", key="letters")


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("no messages[123].content[0]: bad", None),
        ("use max_completion_tokens, not max_tokens", None),
        ("gpt-4o-mini-2024-07-18 and Llama-3.1-70B-Instruct take no top_k", None),
        ("see section 3.1.2 of 10.2", None),
        ("got ABCD1234", "got [hidden]"),
        # A header's value or a host that is an ordinary word is in many messages.
        ("search is no tool of assistants", None),
        ("not Basic: abcdef", "not Basic: [hidden]"),
        ("got team%20blue%2F1", "got [hidden]"),
        ("went to host-7.example", "went to [hidden]"),
        ("went to https://host-7.example:8443/v1?key=query-secret&v=1!", "went to [hidden]!"),
        ("went with query-secret", "went with [hidden]"),
        ("Authorization: Bearer xyz", "Authorization: [hidden]"),
        ("Incorrect API key provided: sk-ab***wxyz.", "Incorrect API key provided: [hidden]"),
        ("cannot reach redis.prod.internal or 192.168.0.1:6379", "cannot reach [hidden] or [hidden]"),
    ],
)
def test_what_is_hidden_and_what_is_not(words: str, left: str | None) -> None:
    assert OURS.clean(UpstreamError(message=words)).message == (words if left is None else left)


def test_a_host_of_one_word_is_hidden_with_its_port_only() -> None:
    error = INSIDE.clean(UpstreamError(code="model_is_bad", param="model", message="no model at model:8000: letters"))
    assert (error.code, error.param, error.message) == ("model_is_bad", "model", "no model at [hidden]: [hidden]")


def test_a_code_and_a_parameter_that_are_ours_are_left_out() -> None:
    error = OURS.clean(UpstreamError(code="abcd1234", param="abcd1234", message=""))
    assert (error.code, error.param) == ("", None)


@given(st.text(max_size=900), st.text(max_size=30), st.text(max_size=30))
def test_whatever_is_said_is_short_and_holds_no_key(text: str, before: str, after: str) -> None:
    words = OURS.clean(UpstreamError(message=f"{before}abcd1234{after}{text}")).message
    assert len(words) <= MAX_CHARACTERS
    assert "abcd1234" not in words


QUOTE = "this is what I have written to my doctor"


@pytest.mark.parametrize("prompt", [TextPrompt(f"So {QUOTE}, and more."), ChatPrompt((ChatMessage("user", QUOTE),))])
@given(before=st.text(max_size=60), after=st.text(max_size=60))
def test_a_quote_of_the_prompt_is_found_wherever_it_stands(
    prompt: TextPrompt | ChatPrompt, before: str, after: str
) -> None:
    error = without_prompt_quotes(UpstreamError(message=f"{before}{QUOTE}{after}"), prompt)
    assert "written to my" not in error.log_message
    assert QUOTE in error.message


def test_a_short_prompt_is_found_whole_and_a_long_one_leaves_no_words() -> None:
    assert (
        without_prompt_quotes(UpstreamError(message="bad: hello there!"), TextPrompt("hello there")).log_message
        == "bad: […]!"
    )
    assert without_prompt_quotes(UpstreamError(message="bad"), TextPrompt("x" * 100_000)).log_message == ""
    assert without_prompt_quotes(UpstreamError(message="top_k is bad"), TextPrompt("k")).log_message == "top_k is bad"
