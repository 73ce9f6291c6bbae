"""Both stages of a cascade are paid if both did their work."""

from tests.actors.books import ways_out as out
from tests.actors.books.way import Row, Way
from tests.actors.books.ways_out import asks
from tests.actors.books.world import TEXT, config
from tests.actors.fakes import says

UNSURE = {"small": says(TEXT, {3: 0.1})}
LONG_TEXT = "the quick brown fox jumps over 0123456789 naïve 東京 👍🏽 and the lazy dog"
FOX = "the quick brown fox jumps"
UNSURE_LATER = {"small": says(FOX, {4: 0.1}), "large": says(FOX)}

CASCADES = [
    Way(
        "confident",
        asks("whole"),
        (4, 6, 0),
        Row("ok", "confident", "small", 4, 6, 0, 16.0),
        10,
        reserved=(14, 24.0 + 240.0),
    ),
    Way(
        "escalated",
        asks("whole"),
        (4, 6, 0),
        Row("ok", "low_margin", "large", 4, 6, 4, (4 + 2 * 4) + (40 + 20 * 6)),
        10,
        service={"scripts": UNSURE},
        reserved=(14, 24.0 + 240.0),
    ),
    Way(
        "escalated whole",
        asks("whole", streamed=False),
        (4, 6, 0),
        Row("ok", "low_margin", "large", 4, 6, 4, (4 + 2 * 4) + (40 + 20 * 6)),
        10,
        service={"scripts": UNSURE},
    ),
    Way(
        "escalated, two choices",
        asks("whole", n=2),
        (4, 12, 0),
        Row("ok", "low_margin", "large", 4, 12, 7, (4 + 2 * 7) + (40 + 20 * 12)),
        16,
        service={"scripts": UNSURE},
    ),
    # One token was shown, up to where the text may be parted; the large model reads it as if it stood in the prompt.
    Way(
        "escalated within the window",
        asks("both"),
        (4, 6, 0),
        Row("ok", "low_margin", "large", 4, 6, 4, (4 + 2 * 5) + (10 * 5 + 20 * 5)),
        10,
        service={"scripts": UNSURE_LATER},
    ),
    Way(
        "verified",
        asks("checked"),
        (4, 6, 0),
        Row("ok", "verified", "large", 4, 6, 6, (4 + 2 * 6) + (40 + 20 * 6)),
        10,
    ),
    Way(
        "verified, drafts wrong",
        asks("checked"),
        (4, 6, 0),
        Row("ok", "verified", "large", 4, 6, 8, (4 + 2 * 8) + (40 + 20 * 6)),
        10,
        service={"scripts": {"small": says("other then")}},
    ),
    # Drafts that are wrong again and again cost more than the answer has tokens: that was set aside, too.
    Way(
        "verified, drafts wrong again and again",
        asks("checked", max_tokens=30, ignore_eos=True),
        (4, 30, 0),
        Row("ok", "verified", "large", 4, 30, 37, (4 + 2 * 37) + (40 + 20 * 30)),
        34,
        service={"scripts": {"small": out.wrong_each(3, LONG_TEXT), "large": says(LONG_TEXT)}},
    ),
    # Nobody drafts while the large engine is busy: then nobody pays for drafts.
    Way(
        "verified, never drafted",
        out.verified_beside_another,
        (4, 6, 0),
        Row("ok", "large_busy", "large", 4, 6, 0, 40 + 20 * 6),
        10,
        service={"settings": config().replace("draft_tokens = 64", "draft_tokens = 64, off_above_batch = 0")},
    ),
]
