"""transformers' continuous batching with the subset of the OpenAI completions API that the client needs.

    PEER/bin/python benchmarks/engine/transformers_server.py MODEL_DIR PORT THREADS

Runs in the peer's environment, so it imports nothing of this repository. Tokens are sent as the words of `make_model`'s
tokenizer.
"""

import asyncio
import itertools
import json
import sys
from typing import Any

import torch
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig

_LONGEST_STEP_TOKENS = 512
_PAGE, _POOL_TOKENS = 128, 32_768


def start_manager(directory: str) -> Any:
    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16, attn_implementation="sdpa")
    model.eval()
    manager = model.init_continuous_batching(
        generation_config=GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0),  # type: ignore[no-untyped-call]
        continuous_batching_config=ContinuousBatchingConfig(
            page_size=_PAGE,
            num_blocks=_POOL_TOKENS // _PAGE,
            max_batch_tokens=_LONGEST_STEP_TOKENS,
            max_requests_per_batch=64,
            use_cuda_graph=False,
            use_async_batching=False,
        ),
    )
    manager.start()
    return manager


async def serve(directory: str, port: int) -> None:
    manager = start_manager(directory)
    numbers = itertools.count()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        request = json.loads(await reader.readexactly(length))
        outputs: asyncio.Queue[Any] = asyncio.Queue()
        name = str(next(numbers))
        manager.register_result_handler(name, outputs.put_nowait)
        manager.add_request(
            request["prompt"], request_id=name, max_new_tokens=request["max_tokens"], streaming=True, eos_token_id=-1
        )
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        sent = 0
        while True:
            output = await outputs.get()
            tokens = output.generated_tokens
            text = "".join(f" w{token}" for token in tokens[sent:])
            sent = len(tokens)
            event = {"error": output.error} if output.error else {"choices": [{"text": text}]}
            writer.write(b"data: " + json.dumps(event).encode() + b"\n\n")
            await writer.drain()
            if output.error or output.is_finished():
                break
        writer.write(b"data: [DONE]\n\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[3]))
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
