"""Identifies the language of a text, in 0.1 to 0.2 ms.

Where only one supported language uses a script, the script decides. For the others py3langid classifies byte n-grams
with langid's model (Lui and Baldwin 2012). The model also distinguishes related languages that are not supported, so
that Danish yields "und" and not Swedish. Loading it takes a second and about 100 MB, and happens only if the policy
uses the language: see `prepare`.
"""

from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from config.model.words import LANGUAGES

LOOKED_AT_CHARS = 200
"""Only the last part of a text is examined."""
UNKNOWN = "und"

_MIN_PROBABILITY = 0.5
"""Lower probabilities yield `UNKNOWN`."""
# Not supported, but related to supported ones: candidates for the model, reported as `UNKNOWN`.
_OTHER_LANGUAGES = ("da", "no", "fi", "uk", "bg", "fa", "ur", "cs", "ro", "hu", "sk", "hr", "ca", "gl", "id", "vi")
_SCRIPTS = (
    ("ja", 0x3040, 0x30FF),
    ("ko", 0xAC00, 0xD7AF),
    ("zh", 0x4E00, 0x9FFF),
    ("he", 0x0590, 0x05FF),
    ("hi", 0x0900, 0x097F),
    ("el", 0x0370, 0x03FF),
    ("th", 0x0E00, 0x0E7F),
)
_MAX_SCRIPT_LETTERS = 64
_MIN_LETTERS = 3


def language(text: str) -> str:
    """An ISO 639-1 code of `config.model.words.LANGUAGES`, or "und"."""
    part = text[-LOOKED_AT_CHARS:]
    by_script = _by_script(part)
    if by_script:
        return by_script
    letters = sum([char.isalpha() for char in part])
    if letters < _MIN_LETTERS or letters * 2 < len(part):
        return UNKNOWN
    code, probability = _model().classify(part)
    return code if probability >= _MIN_PROBABILITY and code in LANGUAGES else UNKNOWN


def prepare() -> None:
    """Load the model in advance, so that the first request need not wait for it."""
    _model()


@cache
def _model() -> LanguageIdentifier:
    model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    known = {str(label) for label in model.labels}
    model.set_languages([code for code in (*LANGUAGES, *_OTHER_LANGUAGES) if code in known])
    return model


def _by_script(text: str) -> str:
    letters = [char for char in text if char > "\u036f" and char.isalpha()][:_MAX_SCRIPT_LETTERS]
    if not letters or len(letters) * 4 < min(len(text), _MAX_SCRIPT_LETTERS):
        return ""
    codes = [ord(char) for char in letters]
    for code, low, high in _SCRIPTS:
        inside = sum([low <= point <= high for point in codes])
        # A few kana among many Chinese characters mean Japanese.
        if inside * (8 if code == "ja" else 2) >= len(codes):
            return code
    return ""
