"""Names of a prompt's beginnings, few and cheap: by them replicas are told apart that may hold some of its KV."""

from engine.core.messages import Submit
from engine.scheduling.block_chain import chain_next
from engine.scheduling.sequence import chain_root_of


def prefix_marks(command: Submit, block_size: int) -> list[tuple[bytes, int]]:
    """(name, tokens) of the prompt's first 1, 2, 4, 8 ... full blocks, shortest first.

    Prompts share a name only if they share these tokens and may share their KV.
    """
    prompt = command.prompt_token_ids
    name = chain_root_of(command, command.adapter.encode())
    marks: list[tuple[bytes, int]] = []
    begin, end = 0, block_size
    # As in the prefix cache itself, the last token is computed in any case.
    while end < len(prompt):
        name = chain_next(name, prompt[begin:end])
        marks.append((name, end))
        begin, end = end, 2 * end
    return marks
