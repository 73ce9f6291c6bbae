"""Numbers as a page shows them."""

from html import escape


def seconds(value: float) -> str:
    """A time, with three digits and a unit that suits it."""
    if value <= 0:
        return "0"
    if value < 0.001:
        return f"{value * 1e6:.3g} µs"
    return f"{_three(value * 1000)} ms" if value < 1 else f"{_three(value)} s"


def milliseconds(value: float) -> str:
    """A time without its unit."""
    return f"{value * 1000:.2f}" if value < 0.01 else f"{value * 1000:.0f}"


def number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def percent(share: float) -> str:
    """Of a share from 0 to 1."""
    return f"{100 * share:.3g} %"


def percentile(value: float) -> str:
    """The name of a percentile."""
    return f"p{value:g}"


def plain(text: str) -> str:
    """Text from the wire or a scenario: escaped for HTML, without characters that change how a page reads."""
    return escape("".join([each if each.isprintable() else "?" for each in text]))


def _three(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
