"""Few, cheap hashes of a prompt's prefixes, by which requests are routed to a replica that may have them cached."""

from engine.messages import Submit, Weigh
from engine.scheduling.block_chain import chain_next
from engine.scheduling.sequence import chain_root_of


def prefix_marks(command: Submit | Weigh, block_size: int) -> list[tuple[bytes, int]]:
    """(hash, tokens) of the prompt's first 1, 2, 4, 8, ... full blocks, shortest first.

    Prompts share a hash only if they share these tokens and may share their KV.
    """
    prompt = command.prompt_token_ids
    name = chain_root_of(command, command.adapter.encode())
    marks: list[tuple[bytes, int]] = []
    begin, end = 0, block_size
    # As in the prefix cache, the prompt's last token is excluded, because it is always computed.
    while end < len(prompt):
        name = chain_next(name, prompt[begin:end])
        marks.append((name, end))
        begin, end = end, 2 * end
    return marks
