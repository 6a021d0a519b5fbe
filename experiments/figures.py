"""Figures of results as SVG."""

from html import escape

WIDTH, LEFT, RIGHT, LINE = 760, 250, 24, 26
OURS, PAPER, GREY = "#0b62a3", "#c25a00", "#8a8a8a"
COLOURS = ("#0b62a3", "#c25a00", "#2f7d32", "#8e3b8e", "#555555", "#a88000")


def text(x, y, content, anchor="start", colour="#222222"):
    style = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"'
    return f"<text {style}>{escape(content)}</text>"


def line(x1, y1, x2, y2, colour, width=1.0):
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"/>'


def drawing(height, parts):
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" '
    head += f'font-size="13"><rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    return "\n".join([head, *parts, "</svg>", ""])


def steps(low, high):
    """Round numbers from `low` to `high`, at most nine."""
    step = next(s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if (high - low) / s <= 8)
    return [n * step for n in range(round(low // step), round(high // step) + 2)]


def scale(values):
    """The marks of an axis, and the function from a value to its x."""
    marks = steps(min(values), max(values))
    span = (WIDTH - LEFT - RIGHT) / (marks[-1] - marks[0])
    return marks, lambda value: LEFT + (value - marks[0]) * span


def differences(title, rows, unit):
    """The differences from the baseline, `(name, mean, (low, high) or None, paper's or None)`."""
    values = [0.0]
    for _, mean, interval, paper in rows:
        values += [mean, *(interval or ()), *([] if paper is None else [paper])]
    marks, x = scale(values)
    bottom = 56 + LINE * len(rows)
    parts = [text(12, 22, title)]
    for mark in marks:
        parts += [line(x(mark), 40, x(mark), bottom, "#e4e4e4" if mark else GREY)]
        parts += [text(x(mark), bottom + 16, f"{mark:+g}" if mark else "0", "middle")]
    for index, (name, mean, interval, paper) in enumerate(rows):
        y = 56 + LINE * index
        parts += [text(LEFT - 12, y + 4, name, "end")]
        if interval:
            parts += [line(x(interval[0]), y, x(interval[1]), y, OURS, 3.0)]
        parts += [f'<circle cx="{x(mean):.1f}" cy="{y}" r="5" fill="{OURS}"/>']
        if paper is not None:
            style = f'fill="#ffffff" stroke="{PAPER}" stroke-width="2"'
            parts += [f'<rect x="{x(paper) - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9" {style}/>']
    key = bottom + 40
    parts += [f'<circle cx="{LEFT + 6}" cy="{key - 4}" r="5" fill="{OURS}"/>', text(LEFT + 18, key, f"here, {unit}")]
    style = f'fill="#ffffff" stroke="{PAPER}" stroke-width="2"'
    parts += [f'<rect x="{LEFT + 300}" y="{key - 9}" width="9" height="9" {style}/>', text(LEFT + 316, key, "the paper")]
    return drawing(key + 14, parts)


def curves(title, series, unit):
    """Values after each epoch, `(name, values)`."""
    top, bottom = 40, 320
    values = [value for _, curve in series for value in curve]
    marks = steps(min(values), max(values))
    epochs = max(len(curve) for _, curve in series)

    def x(epoch):
        return 52 + (epoch - 1) * (WIDTH - 290) / max(epochs - 1, 1)

    def y(value):
        return bottom - (value - marks[0]) * (bottom - top) / (marks[-1] - marks[0])

    parts = [text(12, 22, title)]
    for mark in marks:
        parts += [line(52, y(mark), x(epochs), y(mark), "#e4e4e4"), text(46, y(mark) + 4, f"{mark:g}", "end")]
    parts += [text(x(epoch), bottom + 20, str(epoch), "middle") for epoch in {1: 0, epochs: 0}]
    parts += [text((52 + x(epochs)) / 2, bottom + 20, f"epoch; {unit}", "middle")]
    for index, (name, curve) in enumerate(series):
        colour = COLOURS[index % len(COLOURS)]
        points = " ".join(f"{x(epoch):.1f},{y(value):.1f}" for epoch, value in enumerate(curve, 1))
        parts += [f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"/>']
        parts += [text(WIDTH - 222, top + 12 + 20 * index, name, colour=colour)]
    return drawing(bottom + 36, parts)
