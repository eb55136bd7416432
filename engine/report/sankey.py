"""The Sankey diagram: boxes in columns, and bands whose thickness is proportional to their rows."""

from collections import defaultdict
from collections.abc import Sequence

from markupsafe import Markup

from engine.report.draw import percent
from engine.report.funnel import Link, Node
from engine.report.labels import count

HEIGHT, SLOT, BOX = 430, 19, 0.012
COLUMNS = (0.0, 0.27, 0.57, 0.935)
TITLES = ("read", "split and cleaned", "graded into pools", "curated")


def sankey(nodes: Sequence[Node], links: Sequence[Link]) -> Markup:
    """Return the diagram from left to right; "" without boxes."""
    if not nodes:
        return Markup("")
    columns = [[node for node in nodes if node.column == column] for column in range(len(COLUMNS))]
    scale = min((HEIGHT - SLOT * len(c)) / sum(n.size for n in c) for c in columns if c and sum(n.size for n in c))
    tops = {node.key: top for column in columns for node, top in zip(column, _tops(column, scale), strict=True)}
    height = max(tops[node.key] + node.size * scale for node in nodes) + 12
    boxes = Markup("").join(_box(node, tops[node.key], node.size * scale) for node in nodes)
    titles = Markup("").join(
        Markup('<text class="tick" x="{}" y="-10">{}</text>').format(percent(COLUMNS[i]), TITLES[i])
        for i, c in enumerate(columns)
        if c
    )
    return Markup(
        '<div class="sankey"><svg role="img" aria-label="Flow from source rows to examples" width="100%" height="{0:.0f}">'
        '<svg width="100%" height="{0:.0f}" viewBox="0 0 1000 {0:.0f}" preserveAspectRatio="none">{1}</svg>{2}{3}</svg></div>'
    ).format(height, _bands(nodes, links, tops, scale), boxes, titles)


def _tops(column: Sequence[Node], scale: float) -> list[float]:
    tops, y = [], 0.0
    for node in column:
        tops.append(y)
        y += max(node.size * scale, 2) + SLOT
    return tops


def _bands(nodes: Sequence[Node], links: Sequence[Link], tops: dict[str, float], scale: float) -> Markup:
    by_key = {node.key: node for node in nodes}
    left: dict[str, float] = defaultdict(float)
    right: dict[str, float] = defaultdict(float)
    bands = []
    for link in links:
        start, end = by_key[link.start], by_key[link.end]
        thickness = max(link.size * scale, 0.8)
        y0, y1 = tops[start.key] + left[start.key], tops[end.key] + right[end.key]
        left[start.key] += link.size * scale
        right[end.key] += link.size * scale
        x0, x1 = (COLUMNS[start.column] + BOX) * 1000, COLUMNS[end.column] * 1000
        mid = (x0 + x1) / 2
        shape = (
            f"M{x0:.0f},{y0:.1f}C{mid:.0f},{y0:.1f} {mid:.0f},{y1:.1f} {x1:.0f},{y1:.1f}V{y1 + thickness:.1f}"
            f"C{mid:.0f},{y1 + thickness:.1f} {mid:.0f},{y0 + thickness:.1f} {x0:.0f},{y0 + thickness:.1f}Z"
        )
        answers_per_row = end.size / end.rows if end.rows else 1.0
        tip = f"{start.label} to {end.label}\n{count(link.size / answers_per_row)} {'rows' if end.column == 1 else 'answers'}"
        bands.append(Markup('<path class="band {}" d="{}" data-tip="{}"/>').format(_tone(link.tone), shape, tip))
    return Markup("").join(bands)


def _tone(tone: str) -> str:
    return f"tone-{tone}" if tone in ("ink", "aside", "out", "kept") else f"pool-{tone}"


def _box(node: Node, top: float, height: float) -> Markup:
    height = max(height, 2)
    return Markup(
        '<rect class="box {tone}" x="{x}" y="{y:.1f}" width="{w}" height="{h:.1f}" data-tip="{tip}"/>'
        '<text class="flowname" x="{tx}" y="{ty:.1f}"><tspan class="rows">{rows}</tspan> {label}</text>'
    ).format(
        tone=_tone(node.tone),
        x=percent(COLUMNS[node.column]),
        y=top,
        w=percent(BOX),
        h=height,
        tx=percent(COLUMNS[node.column] + BOX + 0.006),
        ty=top + (12 if height > 26 else height / 2 + 4),
        rows=count(node.rows),
        label=node.label,
        tip=f"{node.label}: {count(node.rows)}" + (f"\n{node.note}" if node.note else ""),
    )
