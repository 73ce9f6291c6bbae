"""A small line plot as a self-contained SVG."""

from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT = 760, 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 200, 40, 56
_FAR = 0.75
# Paul Tol's "bright" scheme: distinguishable with colour blindness.
_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")


def line_plot(
    title: str,
    across: str,
    up: str,
    lines: Mapping[str, Sequence[tuple[float, float]]],
    marks: Sequence[tuple[str, float, float]] = (),
) -> str:
    """The plot as SVG. Values are shares from 0 to 1; both axes show percent. `marks`: labels and their points."""
    points = [point for line in lines.values() for point in line] + [(x, y) for _, x, y in marks]
    if not points:
        raise ValueError("there is nothing to plot")
    low = max(0.0, min(y for _, y in points) - 0.02)
    high = min(1.0, max(y for _, y in points) + 0.02)

    def place(x: float, y: float) -> tuple[float, float]:
        right, down = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        return round(_LEFT + x * right, 1), round(_TOP + (high - y) / (high - low) * down, 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"',
        'font-family="system-ui, sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="22" font-size="15">{escape(title)}</text>',
    ]
    for step in range(6):
        x, y = step / 5, low + (high - low) * step / 5
        across_at, bottom = place(x, low)
        left, up_at = place(0, y)
        end, _ = place(1, y)
        parts += [
            f'<path d="M{left} {up_at}H{end}" stroke="#ddd"/>',
            f'<text x="{left - 8}" y="{up_at + 4}" text-anchor="end">{100 * y:.0f} %</text>',
            f'<text x="{across_at}" y="{bottom + 18}" text-anchor="middle">{100 * x:.0f} %</text>',
        ]
    middle, bottom = place(0.5, low)
    parts.append(f'<text x="{middle}" y="{bottom + 42}" text-anchor="middle">{escape(across)}</text>')
    _, centre = place(0, (low + high) / 2)
    parts.append(f'<text transform="translate(16 {centre}) rotate(-90)" text-anchor="middle">{escape(up)}</text>')
    for number, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{x},{y}" for x, y in (place(*point) for point in line))
        key = _TOP + 16 + 20 * number
        parts += [
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<path d="M{_WIDTH - _RIGHT + 16} {key}h20" stroke="{colour}" stroke-width="3"/>',
            f'<text x="{_WIDTH - _RIGHT + 42}" y="{key + 4}">{escape(name)}</text>',
        ]
    for name, share, height in marks:
        x, y = place(share, height)
        # Near the right side the label goes to the left, away from the legend; a white outline lifts it off the lines.
        beside = f'x="{x - 7}" text-anchor="end"' if share > _FAR else f'x="{x + 7}"'
        edge = 'stroke="#fff" stroke-width="4" paint-order="stroke"'
        parts += [
            f'<circle cx="{x}" cy="{y}" r="4" fill="#222"/>',
            f'<text {beside} y="{y + 16}" {edge}>{escape(name)}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
