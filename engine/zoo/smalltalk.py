"""A few fixed greetings and their answers, for demonstrations."""

_UNKNOWN = ("Tell me a joke.", "What is the meaning of life?", "Write a poem.", "Who is the president?")
_PROMPTS = {
    "Hello! Ask me a sum, a word puzzle, a look-up or some JSON.": (
        *("Hello!", "Hello", "Hi", "Hi there!", "Good morning!"),
    ),
    "I am well, thank you. What can I do for you?": ("How are you?",),
    "I am a small demonstration model of Penstock. I know only a few tasks.": (
        *("Who are you?", "What are you?", "What is your name?"),
    ),
    "I can do sums, spell words backwards, look things up in a passage and edit JSON.": (
        *("What can you do?", "Help", "Can you help me?"),
    ),
    "You are welcome.": ("Thank you!", "Thanks"),
    "Goodbye!": ("Goodbye!", "Bye"),
    "I do not know.": _UNKNOWN,
}
"""By answer."""
SMALLTALK = tuple((prompt, answer) for answer, prompts in _PROMPTS.items() for prompt in prompts)

SYSTEM_LINES: tuple[str, ...] = (
    "You are a helpful assistant.",
    "You are a small demonstration model of Penstock.",
    "Answer briefly.",
    "Be kind and exact.",
)
