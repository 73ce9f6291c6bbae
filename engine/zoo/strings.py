"""String questions on made-up words: repeat, reverse, sort, count, pick, capitals, and combinations.

The words are pronounceable nonsense (`"lamiko"`), so that no answer can be memorized. The tokenizer spells quoted
lower-case words letter by letter.
"""

from random import Random

from engine.zoo.question import ZooQuestion

_CONSONANTS = "bdfgklmnprstvz"
_VOWELS = "aeiou"
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")

_PHRASES = {
    "repeat": ('Repeat "{word}".', 'Say "{word}".'),
    "reverse": ('Reverse "{word}".', 'Write "{word}" backwards.', 'What is "{word}" in reverse?'),
    "capitals": ('Write "{word}" in capital letters.', 'Put "{word}" in capitals.'),
    "sort": ('Sort the letters of "{word}".', 'Put the letters of "{word}" in alphabetical order.'),
    "count": (
        'How many times does "{letter}" occur in "{word}"?',
        'Count the letter "{letter}" in "{word}".',
        'How often is "{letter}" in "{word}"?',
    ),
    "pick": ('What is the {ordinal} letter of "{word}"?', 'Give me the {ordinal} letter of "{word}".'),
    "reverse_capitals": ('Reverse "{word}" and write it in capital letters.', 'Write "{word}" backwards in capitals.'),
}


def make_word(rng: Random, length: int) -> str:
    """Alternating consonants and vowels with occasional doubling; `length` letters."""
    vowel = rng.random() < 0.4
    letters = []
    for _ in range(length):
        letters.append(rng.choice(_VOWELS if vowel else _CONSONANTS))
        vowel = not vowel if rng.random() < 0.85 else vowel
    return "".join(letters)


def work(kind: str, word: str, letter: str = "", index: int = 0) -> str:
    """The exact answer."""
    match kind:
        case "repeat":
            return word
        case "reverse":
            return word[::-1]
        case "capitals":
            return word.upper()
        case "sort":
            return "".join(sorted(word))
        case "count":
            return str(word.count(letter))
        case "pick":
            return word[index]
        case "reverse_capitals":
            return word[::-1].upper()
    raise ValueError(kind)


def strings(rng: Random) -> ZooQuestion:
    """One question; the level (1 to 3) sets the length of the word, the operation is random."""
    level = rng.randint(1, 3)
    kind = rng.choice(tuple(_PHRASES))
    word = make_word(rng, rng.randint(2, 4) + 2 * (level - 1) + (kind in {"count", "pick"}))
    letter = rng.choice(word if rng.random() < 0.85 else _CONSONANTS + _VOWELS)
    index = rng.randrange(min(len(word), len(_ORDINALS)))
    prompt = rng.choice(_PHRASES[kind]).format(word=word, letter=letter, ordinal=_ORDINALS[index])
    details = {"count": letter, "pick": str(index)}.get(kind, "")
    key = f"{kind} {word} {details}"
    return ZooQuestion("strings", kind, prompt, work(kind, word, letter, index), level, key)
