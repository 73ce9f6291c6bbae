"""OpenAI's framework for agents, with tools, on both of OpenAI's APIs."""

import asyncio
from typing import Any

import agents
from openai import AsyncOpenAI

from tests.clients.scripts.features import KEY, URL, run

agents.set_tracing_disabled(disabled=True)


@agents.function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def agent(kind: Any) -> Any:
    client = AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
    return agents.Agent(
        name="weather",
        instructions="Use the tool.",
        model=kind(model="tools", openai_client=client),
        tools=[get_weather],
    )


def loop(kind: Any) -> None:
    found = asyncio.run(agents.Runner.run(agent(kind), "Weather in Paris?"))
    assert found.final_output == "The tool said: sunny in Paris"


async def read(kind: Any) -> Any:
    result = agents.Runner.run_streamed(agent(kind), "Weather in Paris?")
    kinds = [event.type async for event in result.stream_events()]
    assert "raw_response_event" in kinds
    return result.final_output


def stream(kind: Any) -> None:
    assert asyncio.run(read(kind)) == "The tool said: sunny in Paris"


if __name__ == "__main__":
    run(
        {
            "a loop on responses": lambda: loop(agents.OpenAIResponsesModel),
            "a streamed loop on responses": lambda: stream(agents.OpenAIResponsesModel),
            "a loop on chat": lambda: loop(agents.OpenAIChatCompletionsModel),
            "a streamed loop on chat": lambda: stream(agents.OpenAIChatCompletionsModel),
        }
    )
