"""Draws the layers of the package from pyproject.toml and the import graph, as `docs/pictures/layers.svg`.

Each row is one layer with its packages. The grid to the right counts the imports from the layer in the row to the layer
in the column; an import from a lower layer to a higher one would be in the empty half, in red.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from html import escape
from pathlib import Path

import grimp

PACKAGE = "connectsoft_obs"
SVG_FILE = Path(__file__).parent / "pictures" / "layers.svg"
PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"

_MARGIN, _HEADER, _ROW_HEIGHT, _GAP = 14, 46, 44, 5
_NUMBER_WIDTH, _BOX_WIDTH, _CELL_WIDTH = 26, 130, 32
_STYLE = """
text { font-family: system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2933; font-size: 12px }
.name { font-size: 12px; font-weight: 600 } .minor { font-size: 11px; fill: #52606d } .count { font-size: 12px }
.layer { fill: #f5f7fa } .box { fill: #ffffff; stroke: #7b8794 } .allowed { fill: #2b6cb0 } .self { fill: #cbd2d9 }
.forbidden { fill: #c53030 } .violation { fill: #ffffff; font-weight: 600 }
"""


def read_layers(pyproject: Path = PYPROJECT) -> tuple[list[list[str]], bool]:
    """The layers that import-linter checks, from top to bottom, and whether it ignores imports for type checking."""
    config = tomllib.loads(pyproject.read_text())["tool"]["importlinter"]
    [contract] = [contract for contract in config["contracts"] if contract["type"] == "layers"]
    layers = [[name.strip(" ()") for name in re.split("[|:]", layer)] for layer in contract["layers"]]
    return layers, bool(config.get("exclude_type_checking_imports", False))


def count_modules_and_imports(
    layers: list[list[str]], exclude_type_checking: bool
) -> tuple[Counter[str], Counter[tuple[int, int]]]:
    """The number of modules of each package, and the number of imports between each pair of layers."""
    graph = grimp.build_graph(PACKAGE, exclude_type_checking_imports=exclude_type_checking, cache_dir=None)
    layer_of = {name: number for number, names in enumerate(layers) for name in names}
    modules = {module: module.split(".")[1] for module in graph.modules if "." in module}
    imports: Counter[tuple[int, int]] = Counter()
    for importer, importing in modules.items():
        for imported in graph.find_modules_directly_imported_by(importer):
            package = modules.get(imported, "")
            if importing != package and importing in layer_of and package in layer_of:
                imports[layer_of[importing], layer_of[package]] += 1
    return Counter(modules.values()), imports


def render(layers: list[list[str]], modules: Counter[str], imports: Counter[tuple[int, int]]) -> str:
    """The picture as SVG."""
    columns = max(map(len, layers))
    grid_left = _MARGIN + _NUMBER_WIDTH + columns * (_BOX_WIDTH + _GAP) + 14
    width = grid_left + len(layers) * _CELL_WIDTH + _MARGIN
    height = _HEADER + len(layers) * (_ROW_HEIGHT + _GAP) + _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
        f"<title>Layers of {PACKAGE}</title><style>{_STYLE}</style>",
        f'<rect width="{width}" height="{height}" rx="6" fill="#ffffff"/>',
        _text(_MARGIN, 20, "name", "Layers, from top to bottom"),
        _text(grid_left, 20, "name", "Imports from the row's layer to layer number"),
    ]
    for number, names in enumerate(layers):
        top = _HEADER + number * (_ROW_HEIGHT + _GAP)
        parts += _layer(number, names, modules, top, grid_left - _MARGIN - 14)
        parts.append(_text(grid_left + (number + 0.5) * _CELL_WIDTH, _HEADER - 8, "minor", str(number + 1), True))
        parts += [
            _cell(number, column, imports[number, column], top, grid_left + column * _CELL_WIDTH)
            for column in range(len(layers))
        ]
    return "\n".join([*parts, "</svg>", ""])


def draw() -> None:
    """Write the picture."""
    layers, exclude_type_checking = read_layers()
    SVG_FILE.parent.mkdir(exist_ok=True)
    SVG_FILE.write_text(render(layers, *count_modules_and_imports(layers, exclude_type_checking)))


def _layer(number: int, names: list[str], modules: Counter[str], top: int, width: int) -> list[str]:
    parts = [
        f'<rect class="layer" x="{_MARGIN}" y="{top}" width="{width}" height="{_ROW_HEIGHT}" rx="4"/>',
        _text(_MARGIN + _NUMBER_WIDTH / 2, top + 27, "minor", str(number + 1), True),
    ]
    for position, name in enumerate(names):
        left = _MARGIN + _NUMBER_WIDTH + position * (_BOX_WIDTH + _GAP)
        label = f"{modules[name]} module{'s' if modules[name] != 1 else ''}"
        parts += [
            f'<rect class="box" x="{left}" y="{top + 4}" width="{_BOX_WIDTH}" height="{_ROW_HEIGHT - 8}" rx="4"/>',
            _text(left + _BOX_WIDTH / 2, top + 20, "name", name, True),
            _text(left + _BOX_WIDTH / 2, top + 34, "minor", label, True),
        ]
    return parts


def _cell(row: int, column: int, count: int, top: int, left: int) -> str:
    center = (left + _CELL_WIDTH / 2, top + 27)
    square = f'x="{left + 2}" y="{top}" width="{_CELL_WIDTH - 4}" height="{_ROW_HEIGHT}" rx="3"'
    if row == column:
        return f'<rect class="self" {square}/>'
    if column < row:
        return f'<rect class="forbidden" {square}/>{_text(*center, "violation", str(count), True)}' if count else ""
    if not count:
        return ""
    opacity = min(0.08 + count / 80, 0.45)
    return f'<rect class="allowed" {square} opacity="{opacity:.2f}"/>{_text(*center, "count", str(count), True)}'


def _text(x: float, y: float, kind: str, content: str, centered: bool = False) -> str:
    anchor = ' text-anchor="middle"' if centered else ""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}"{anchor}>{escape(content)}</text>'


if __name__ == "__main__":
    draw()
