"""Draw `panels-and-tiles.svg`: how a matrix product is cut so that each piece stays in a cache or in registers.

    python docs/pictures/panels_and_tiles.py

The sizes are those of `kernels/cpu/engine/products.py` in float32 with AVX-512; a test draws it again and compares.
"""

from __future__ import annotations

from pathlib import Path

from vae_np.kernels.cpu.engine.products import BLOCK_ROWS, PANEL_K
from vae_np.kernels.cpu.engine.tile import TILE_VECTORS

PATH = Path(__file__).with_name("panels-and-tiles.svg")
# With AVX-512: rows of a register tile, and numbers per vector.
TILE_ROWS, LANES = 14, 16
WIDTH, HEIGHT = 800, 660
INK, MUTED, FRAME = "#1f2933", "#55606c", "#c5ccd4"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"


def box(x: float, y: float, wide: float, high: float, fill: str, opacity: float = 1.0, edge: str = "none") -> str:
    """A rectangle."""
    look = f'fill="{fill}" fill-opacity="{opacity:g}" stroke="{edge}"'
    return f'<rect x="{x:g}" y="{y:g}" width="{wide:g}" height="{high:g}" {look}/>'


def words(x: float, y: float, text: str, colour: str = INK, *, anchor: str = "start", bold: bool = False) -> str:
    """A line of text."""
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" fill="{colour}" text-anchor="{anchor}"{weight}>{text}</text>'


def line(x0: float, y0: float, x1: float, y1: float, colour: str = MUTED) -> str:
    """A thin line from a label to what it names."""
    return f'<path d="M{x0:g},{y0:g}L{x1:g},{y1:g}" stroke="{colour}" fill="none"/>'


def matrices() -> list[str]:
    """A to the left of C, and B above C: what a row of A and a column of B give lies where they meet."""
    columns = TILE_VECTORS * LANES
    panel_kilobytes = round(4 * PANEL_K * columns / 1000)
    block_kilobytes = round(4 * BLOCK_ROWS * PANEL_K / 1000)
    left, top, k = 60, 258, 200
    across, down, depth = 330, 220, 130
    right, above = left + k + 60, top - depth - 50
    panel_x, tile_y = right + 90, top + 56
    return [
        words(right, above - 10, "B, k rows of n columns", bold=True),
        box(right, above, across, depth, "#f5f7fa", edge=FRAME),
        box(right, above, across, depth / 2, BLUE, 0.10),
        box(panel_x, above, 34, depth / 2, BLUE, 0.75),
        words(panel_x + 60, above + 24, f"a panel, {PANEL_K} × {columns}", BLUE),
        words(panel_x + 60, above + 42, f"{panel_kilobytes} kB: a first cache", BLUE),
        line(panel_x + 34, above + 20, panel_x + 56, above + 20, BLUE),
        words(left, top - 10, "A, m rows of k columns", bold=True),
        box(left, top, k, down, "#f5f7fa", edge=FRAME),
        box(left, top, k / 2, down * 0.62, GREEN, 0.25),
        box(left, tile_y, k / 2, 14, GREEN, 0.85),
        words(left, top + down + 22, f"a block, {BLOCK_ROWS} × {PANEL_K}", GREEN),
        words(left, top + down + 40, f"{block_kilobytes} kB, in the second cache", GREEN),
        words(right, top - 10, "C, m rows of n columns", bold=True),
        box(right, top, across, down, "#f5f7fa", edge=FRAME),
        box(panel_x, top, 34, down * 0.62, ORANGE, 0.18),
        box(panel_x, tile_y, 34, 14, ORANGE),
        words(panel_x + 60, tile_y + 5, f"a tile, {TILE_ROWS} × {columns}", ORANGE),
        words(panel_x + 60, tile_y + 23, "its sums in registers", ORANGE),
        line(panel_x + 34, tile_y + 7, panel_x + 56, tile_y, ORANGE),
        words(right, top + down + 22, "One tile of rows of A meets the panel; then the next tile,", MUTED),
        words(right, top + down + 40, "to the block's end; then the next panel, for the same block.", MUTED),
    ]


def tile() -> list[str]:
    """The registers of one tile, and what one step along k does with them."""
    left, top, cell, high = 250, 590, 17, 16
    found = [words(60, 560, "Inside a tile, for each of the k:", bold=True)]
    for vector in range(TILE_VECTORS):
        found += [
            box(left + row * cell, top + vector * (high + 3), cell - 3, high, ORANGE, 0.85) for row in range(TILE_ROWS)
        ]
        found.append(box(left - 60, top + vector * (high + 3), 44, high, BLUE, 0.75))
    found += [box(left + row * cell + 4, top - 16, cell - 11, 10, GREEN, 0.85) for row in range(TILE_ROWS)]
    end = left + TILE_ROWS * cell + 14
    found += [
        words(60, top - 7, f"{TILE_ROWS} numbers of A, spread", GREEN),
        words(60, top + 13, f"{TILE_VECTORS} vectors of B", BLUE),
        words(end, top + 13, f"{TILE_ROWS * TILE_VECTORS} registers of sums,", ORANGE),
        words(end, top + 32, f"as many multiply-adds for {TILE_VECTORS + TILE_ROWS} loads", ORANGE),
    ]
    return found


def drawing() -> str:
    """The whole file."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="15" role="img" aria-label="Panels, blocks and tiles of a product">'
    )
    parts = [head, box(0, 0, WIDTH, HEIGHT, "white"), *matrices(), *tile(), "</svg>"]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PATH.write_text(drawing(), encoding="utf-8")
