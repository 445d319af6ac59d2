"""Pictures where a chart or picture will stand, painted before the browser has loaded what draws it.

Called before all widgets of a page: what comes later waits in the browser for the parts of Streamlit that
these load.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

DRAWN = "canvas, svg.marks, img"


def show(
    key: str,
    panels: Sequence[Sequence[str]],
    *,
    shape: float,
    top: int,
    widest: float | None = None,
    gap: float = 0.0,
    centred: bool = False,
    least: int = 0,
    pixels: bool = True,
) -> None:
    """Paints panels in a row over the container of `key` for as long as nothing is drawn in it.

    Args:
        key: of a container or chart; letters, digits, hyphens.
        panels: data addresses of the pictures that lie over each other in each, the uppermost first; ""
            for none.
        shape: width / height of a panel.
        widest: a panel's width at most, in screen pixels; None for the container's, which keeps room for it.
        top: screen pixels above the panels.
        gap: between two panels, of a panel's width.
        centred: in the middle of the container's width, else at its left.
        least: width of the windows in which the panels stand in a row, in screen pixels; others are left out.
        pixels: enlarged pictures show them, as maps of a pixel a token should.
    """
    whole = len(panels) * (1 + gap) - gap
    shown = dict.fromkeys(url for urls in panels for url in filter(None, urls))
    if not shown:
        return
    names = {url: f"--picture-{number}" for number, url in enumerate(shown)}  # each is sent once
    layers = [
        f"var({names[url]}) {place:.3%} 0 / {1 / whole:.3%} 100% no-repeat"
        for place, urls in zip(_places(len(panels), gap), panels, strict=True)
        for url in filter(None, urls)
    ]
    rules = {
        **{name: f"url({url})" for url, name in names.items()},
        "content": '""',
        "position": "absolute",
        "z-index": "2",
        "top": f"{top}px",
        "left": "50%" if centred else "0",
        "transform": "translateX(-50%)" if centred else "none",
        "width": "100%" if widest is None else f"min(100%, {whole * widest:.0f}px)",
        "aspect-ratio": f"{whole * shape:.4f}",
        "background": ", ".join(layers),
        "image-rendering": "pixelated" if pixels else "auto",
    }
    text = "; ".join(f"{name}: {value}" for name, value in rules.items())
    box = f".st-key-{key}"
    empty = f"{box}:not(:has({DRAWN}))"
    painted = f"@media (min-width: {least}px) {{{empty}::before {{{text}}}}}"
    room = f"{empty} {{aspect-ratio: {whole * shape:.4f}}}" if widest is None else ""
    st.html(f"<style>{box} {{position: relative}} {room} {painted}</style>")


def _places(count: int, gap: float) -> list[float]:
    """Where the panels of a row begin as CSS counts it: of the room that one panel leaves free."""
    free = (count - 1) * (1 + gap)
    return [index * (1 + gap) / free if free else 0.0 for index in range(count)]
