"""A chart as a PNG: stacked bars with digits and capitals, drawn here because no library that draws is among ours.

Small on purpose (some 3 KB): an indexed picture, one byte a pixel before compression. Source: "PNG (Portable Network
Graphics) Specification", chunks IHDR, PLTE and IDAT; the letters are the 5 by 7 dots of character displays.
"""

from __future__ import annotations

import re
import struct
import zlib

from notifiers.card import Chart

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 64, 36
SCALE = 2
ADVANCE = 6 * SCALE
GRID_LINES = 4

WHITE, INK, LINE, GOOD, BAD, OTHER = range(6)
PALETTE = bytes.fromhex("ffffff3f3f46e4e4e72eb67de01e5a36c5f0")
COLOURS = {"succeeded": GOOD, "failed": BAD}

_DOTS = """
%2313086462 -0808080808 .0060600000 /2010080402 :0036360000 (001c224100 )0041221c00 ,0050300000
03e5149453e 100427f4000 24261514946 32141454b31 41814127f10 52745454539 63c4a494930 70171090503 83649494936 9064949291e
A7e1111117e B7f49494936 C3e41414122 D7f4141221c E7f49494941 F7f09090901 G3e4149497a H7f0808087f I00417f4100
J2040413f01 K7f08142241 L7f40404040 M7f020c027f N7f0408107f O3e4141413e P7f09090906 Q3e4151215e R7f09192946
S4649494931 T01017f0101 U3f4040403f V1f2040201f W3f4038403f X6314081463 Y0708700807 Z6151494543
"""
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
GLYPHS = {one[0]: bytes.fromhex(one[1:]) for one in _DOTS.split()}
"""Character -> five columns, the lowest bit on top."""


class Canvas:
    """Rows of colour numbers."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.rows = [bytearray(width) for _ in range(height)]

    def fill(self, left: int, top: int, right: int, bottom: int, colour: int) -> None:
        """A rectangle, right and bottom not included; what is outside is left out."""
        left = min(self.width, max(0, left))
        right = min(self.width, max(left, right))
        for row in self.rows[max(0, top) : max(0, bottom)]:
            row[left:right] = bytes((colour,)) * (right - left)

    def write(self, left: int, top: int, text: str, colour: int = INK) -> None:
        """Capitals and digits; other characters are left blank."""
        for number, character in enumerate(text.upper()):
            for x, column in enumerate(GLYPHS.get(character, b"")):
                for y in range(7):
                    if column >> y & 1:
                        at, below = left + number * ADVANCE + x * SCALE, top + y * SCALE
                        self.fill(at, below, at + SCALE, below + SCALE, colour)

    def png(self) -> bytes:
        """The picture as a file."""
        head = struct.pack(">IIBBBBB", self.width, len(self.rows), 8, 3, 0, 0, 0)
        body = zlib.compress(b"".join(b"\0" + row for row in self.rows), 9)
        parts = ((b"IHDR", head), (b"PLTE", PALETTE), (b"IDAT", body), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(chart: Chart) -> bytes:
    """The picture of a chart."""
    canvas = Canvas(WIDTH, HEIGHT)
    title = chart.title if chart.title.isascii() else " ".join(_DATE.findall(chart.title))
    canvas.write(LEFT, 12, title[: (WIDTH - LEFT) // ADVANCE])
    _legend(canvas, chart)
    totals = [sum(values) for values in zip(*(one.values for one in chart.series), strict=True)]
    step = _step(max(totals, default=0))
    _grid(canvas, step)
    width = (WIDTH - LEFT - RIGHT) / max(1, len(chart.labels))
    every = max(1, -(-ADVANCE * 6 // max(1, int(width))))
    for number, label in enumerate(chart.labels):
        left = int(LEFT + number * width)
        _bar(canvas, chart, number, left + int(width * 0.2), left + int(width * 0.8), step * GRID_LINES)
        if number % every == 0:
            middle = left + int(width / 2) - len(label) * ADVANCE // 2
            canvas.write(middle, HEIGHT - BOTTOM + 12, label)
    return canvas.png()


def _legend(canvas: Canvas, chart: Chart) -> None:
    left = LEFT
    for one in chart.series:
        canvas.fill(left, 38, left + 14, 52, COLOURS.get(one.state, OTHER))
        canvas.write(left + 20, 38, one.name)
        # Of a name in other letters only its colour is seen.
        left += 20 + (len(one.name) + 2) * ADVANCE if one.name.isascii() else 34


def _step(most: int) -> int:
    """A round number between two lines, so that the highest bar fits."""
    step, power = 1, 1
    while step * GRID_LINES < most:
        step = next((each * power for each in (1, 2, 5) if each * power * GRID_LINES >= most), 0)
        power *= 10
    return step


def _grid(canvas: Canvas, step: int) -> None:
    height = HEIGHT - TOP - BOTTOM
    for number in range(GRID_LINES + 1):
        y = HEIGHT - BOTTOM - height * number // GRID_LINES
        canvas.fill(LEFT, y, WIDTH - RIGHT, y + 1, INK if number == 0 else LINE)
        label = str(step * number)
        canvas.write(LEFT - 8 - len(label) * ADVANCE, y - 7, label)


def _bar(canvas: Canvas, chart: Chart, number: int, left: int, right: int, most: int) -> None:
    height, base, total = HEIGHT - TOP - BOTTOM, HEIGHT - BOTTOM, 0
    for one in chart.series:
        low, total = total, total + one.values[number]
        canvas.fill(
            left, base - height * total // most, right, base - height * low // most, COLOURS.get(one.state, OTHER)
        )
