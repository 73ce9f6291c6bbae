"""Pydantic's framework for agents, with a tool and a typed answer, on all three APIs."""

from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from tests.clients.scripts.features import KEY, URL, run


class Place(BaseModel):
    name: str


def chat(model: str) -> Any:
    return OpenAIChatModel(model, provider=OpenAIProvider(base_url=f"{URL}/v1", api_key=KEY))


def respond(model: str) -> Any:
    return OpenAIResponsesModel(model, provider=OpenAIProvider(base_url=f"{URL}/v1", api_key=KEY))


def message(model: str) -> Any:
    return AnthropicModel(model, provider=AnthropicProvider(base_url=URL, api_key=KEY))


def loop(made: Any) -> None:
    agent = Agent(made("tools"))

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """The weather in a city."""
        return f"sunny in {city}"

    assert agent.run_sync("Weather in Paris?").output == "The tool said: sunny in Paris"


def typed(made: Any) -> None:
    assert Agent(made("tools"), output_type=Place).run_sync("A place").output == Place(name="Paris")


def native(made: Any) -> None:
    assert Agent(made("tools"), output_type=NativeOutput(Place)).run_sync("A place").output == Place(name="Paris")


def thinks(made: Any) -> None:
    [thought, _] = Agent(made("thinks")).run_sync("Hello").all_messages()[-1].parts
    # Of responses it calls `content` a summary, which there is none of.
    said = thought.content or thought.provider_details["raw_content"][0]
    assert said == "They ask something."


if __name__ == "__main__":
    run(
        {
            f"{api}: {name}": lambda what=what, made=made: what(made)  # type: ignore[misc]
            for api, made in {"chat": chat, "responses": respond, "messages": message}.items()
            for name, what in {
                "a loop with a tool": loop,
                "a typed answer": typed,
                "a typed answer by a schema": native,
                "reasoning": thinks,
            }.items()
            if (api, name) != ("messages", "a typed answer by a schema")
        }
    )
