"""OpenAI's client for Python: its WebSocket of `/v1/responses`, which needs the package `websockets`."""

import openai

from tests.clients.scripts.features import KEY, URL, run

client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)


def two_responses() -> None:
    with client.responses.connect() as connection:
        said = []
        for question in ("What is 17 + 25?", "What is 2 + 2?"):
            connection.response.create(model="large", input=question, max_output_tokens=30, temperature=0)
            for event in connection:
                if event.type in {"response.completed", "response.incomplete"}:
                    said.append(event.response.output_text)
                    break
                assert event.type.startswith("response."), event
        assert all(said)
        assert len(said) == 2


def an_error() -> None:
    with client.responses.connect() as connection:
        connection.response.create(model="larg", input="Hello")
        for event in connection:
            assert event.type == "error"
            break
        connection.response.create(model="large", input="Hello", max_output_tokens=8)
        for event in connection:
            if event.type in {"response.completed", "response.incomplete"}:
                break


def continued() -> None:
    with client.responses.connect() as connection:
        previous = None
        for text in ("Hello", "And?"):
            connection.response.create(
                model="large",
                input=text,
                max_output_tokens=8,
                **({} if previous is None else {"previous_response_id": previous}),
            )
            for event in connection:
                if event.type in {"response.completed", "response.incomplete"}:
                    assert event.response.previous_response_id == previous
                    previous = event.response.id
                    break


if __name__ == "__main__":
    run(
        {
            "`responses.connect()`": two_responses,
            "its errors": an_error,
            "`previous_response_id` there": continued,
        }
    )
