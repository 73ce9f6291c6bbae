"""Which language a text is in, in 0.1 to 0.2 ms.

Script decides where one language of ours has it to itself; else langid's model (Lui and Baldwin 2012) of n-grams of
bytes, as py3langid keeps it. The model also knows the neighbours of our languages, so that Danish is "und" and not
Swedish. It takes a second and about 100 MB to load, and is loaded only where a policy looks at the language: see
`prepare`.
"""

from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from config.model.words import LANGUAGES

LOOKED_AT_CHARS = 200
"""Only the last part of a text is looked at."""
UNKNOWN = "und"

_SURE = 0.5
"""How probable a language must be among those that the model is asked about."""
_NEIGHBOURS = ("da", "no", "fi", "uk", "bg", "fa", "ur", "cs", "ro", "hu", "sk", "hr", "ca", "gl", "id", "vi")
_SCRIPTS = (
    ("ja", 0x3040, 0x30FF),
    ("ko", 0xAC00, 0xD7AF),
    ("zh", 0x4E00, 0x9FFF),
    ("he", 0x0590, 0x05FF),
    ("hi", 0x0900, 0x097F),
    ("el", 0x0370, 0x03FF),
    ("th", 0x0E00, 0x0E7F),
)
_LOOKED_AT_FOR_SCRIPT = 64
_FEWEST_LETTERS = 3


def language(text: str) -> str:
    """An ISO 639-1 code of `config.model.words.LANGUAGES`, or "und"."""
    part = text[-LOOKED_AT_CHARS:]
    found = _by_script(part)
    if found:
        return found
    letters = sum([char.isalpha() for char in part])
    if letters < _FEWEST_LETTERS or letters * 2 < len(part):
        return UNKNOWN
    code, probability = _model().classify(part)
    return code if probability >= _SURE and code in LANGUAGES else UNKNOWN


def prepare() -> None:
    """Load the model now, and not with the first request."""
    _model()


@cache
def _model() -> LanguageIdentifier:
    model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    known = {str(label) for label in model.labels}
    model.set_languages([code for code in (*LANGUAGES, *_NEIGHBOURS) if code in known])
    return model


def _by_script(text: str) -> str:
    letters = [char for char in text if char > "\u036f" and char.isalpha()][:_LOOKED_AT_FOR_SCRIPT]
    if not letters or len(letters) * 4 < min(len(text), _LOOKED_AT_FOR_SCRIPT):
        return ""
    codes = [ord(char) for char in letters]
    for code, low, high in _SCRIPTS:
        inside = sum([low <= each <= high for each in codes])
        # A little kana among many Chinese characters is Japanese.
        if inside * (8 if code == "ja" else 2) >= len(codes):
            return code
    return ""
