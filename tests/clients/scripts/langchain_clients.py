"""LangChain's chat models: of OpenAI's two APIs, and of Anthropic's."""

from typing import Any, Literal

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from tests.clients.scripts.features import KEY, URL, Feature, run


class Place(BaseModel):
    """A place."""

    kind: Literal["city", "river"]
    name: str


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def chat(model: str) -> Any:
    return ChatOpenAI(model=model, base_url=f"{URL}/v1", api_key=KEY, max_retries=0, max_tokens=100)


def respond(model: str) -> Any:
    return ChatOpenAI(
        model=model, base_url=f"{URL}/v1", api_key=KEY, max_retries=0, max_tokens=100, use_responses_api=True
    )


def message(model: str) -> Any:
    return ChatAnthropic(model=model, base_url=URL, api_key=KEY, max_retries=0, max_tokens=100)


def says(made: Any) -> None:
    whole = made("large").invoke("What is 17 + 25?")
    assert whole.text
    assert whole.usage_metadata["output_tokens"] > 0
    assert "".join(each.text for each in made("large").stream("What is 17 + 25?"))


def loops(made: Any) -> None:
    bound = made("tools").bind_tools([get_weather])
    turns: list[Any] = [HumanMessage("Weather in Paris?")]
    turns.append(bound.invoke(turns))
    [call] = turns[-1].tool_calls
    assert call["args"] == {"city": "Paris"}
    result = get_weather.invoke(call)
    assert isinstance(result, ToolMessage)
    assert bound.invoke([*turns, result]).text == "The tool said: sunny in Paris"
    streamed = None
    for each in bound.stream(turns[:1]):
        streamed = each if streamed is None else streamed + each
    assert streamed.tool_calls[0]["args"] == {"city": "Paris"}


def fills(made: Any) -> None:
    assert isinstance(made("tools").with_structured_output(Place).invoke("Any place"), Place)


def embeddings() -> None:
    # LangChain counts tokens with a tokenizer of OpenAI's that it would download.
    made = OpenAIEmbeddings(model="mini", base_url=f"{URL}/v1", api_key=KEY, check_embedding_ctx_length=False)
    assert len(made.embed_documents(["hello", "abc"])) == 2


def features() -> dict[str, Feature]:
    apis = {"`ChatOpenAI`": chat, "`ChatOpenAI`, `use_responses_api=True`": respond, "`ChatAnthropic`": message}
    tried = {
        "whole and streamed": says,
        "a loop with a tool, whole and streamed": loops,
        "`with_structured_output`": fills,
    }
    return {
        f"{api}: {name}": lambda what=what, made=made: what(made)  # type: ignore[misc]
        for api, made in apis.items()
        for name, what in tried.items()
    }


if __name__ == "__main__":
    run({**features(), "`OpenAIEmbeddings`": embeddings})
