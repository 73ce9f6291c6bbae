"""A few fixed greetings and their answers, for demonstrations."""

_HELLO = "Hello! Ask me a sum, a word puzzle, a look-up or some JSON."
_WHO = "I am a small demonstration model of Penstock. I know only a few tasks."
_CAN = "I can do sums, spell words backwards, look things up in a passage and edit JSON."

SMALLTALK: tuple[tuple[str, str], ...] = (
    ("Hello!", _HELLO),
    ("Hello", _HELLO),
    ("Hi", _HELLO),
    ("Hi there!", _HELLO),
    ("Good morning!", _HELLO),
    ("How are you?", "I am well, thank you. What can I do for you?"),
    ("Who are you?", _WHO),
    ("What are you?", _WHO),
    ("What is your name?", _WHO),
    ("What can you do?", _CAN),
    ("Help", _CAN),
    ("Can you help me?", _CAN),
    ("Thank you!", "You are welcome."),
    ("Thanks", "You are welcome."),
    ("Goodbye!", "Goodbye!"),
    ("Bye", "Goodbye!"),
    ("Tell me a joke.", "I do not know."),
    ("What is the meaning of life?", "I do not know."),
    ("Write a poem.", "I do not know."),
    ("Who is the president?", "I do not know."),
)

SYSTEM_LINES: tuple[str, ...] = (
    "You are a helpful assistant.",
    "You are a small demonstration model of Penstock.",
    "Answer briefly.",
    "Be kind and exact.",
)
