"""The frames of Feishu's long connection: nine fields of protobuf, without a protobuf package.

lark-oapi brings its own, which imports the whole package again from inside its functions: 2 s and 170 MB at the first
frame. Source: lark_oapi 1.7.5 `ws/pb/pbbp2.proto` as compiled in `pbbp2_pb2.py`; protobuf.dev "Encoding".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

CONTROL, DATA = 0, 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_NUMBERS = {1: "seq_id", 2: "log_id", 3: "service", 4: "method"}
_TEXTS = {6: "payload_encoding", 7: "payload_type", 9: "log_id_new"}
_MASK = (1 << 64) - 1


class BadFrame(ValueError):
    """The bytes are no frame."""


@dataclass(slots=True)
class Frame:
    """One frame. method: CONTROL or DATA; headers: `type`, `message_id`, `sum`, `seq`, ... in order of arrival."""

    method: int = CONTROL
    service: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    payload: bytes = b""
    seq_id: int = 0
    log_id: int = 0
    payload_encoding: str = ""
    payload_type: str = ""
    log_id_new: str = ""


def encode(frame: Frame) -> bytes:
    """The bytes of a frame; the required numbers are written even if 0."""
    parts = [_varint(number << 3) + _varint(getattr(frame, name) & _MASK) for number, name in _NUMBERS.items()]
    for key, value in frame.headers.items():
        parts.append(_field(5, _field(1, key.encode()) + _field(2, value.encode())))
    parts += [
        _field(number, getattr(frame, _TEXTS[number]).encode()) for number in (6, 7) if getattr(frame, _TEXTS[number])
    ]
    if frame.payload:
        parts.append(_field(8, frame.payload))
    if frame.log_id_new:
        parts.append(_field(9, frame.log_id_new.encode()))
    return b"".join(parts)


def decode(data: bytes) -> Frame:
    """The frame in these bytes; unknown fields are passed over.

    Raises:
        BadFrame: cut off, not UTF-8 where text must be, or without one of the required numbers.
    """
    frame, seen = Frame(), set()
    try:
        for number, value in _fields(data):
            seen.add(number)
            if number in _NUMBERS and isinstance(value, int):
                setattr(frame, _NUMBERS[number], value)
            elif isinstance(value, bytes):
                _take(frame, number, value)
    except (IndexError, UnicodeDecodeError) as error:
        raise BadFrame("cut off") from error
    if not set(_NUMBERS) <= seen:
        raise BadFrame("a required field is missing")
    return frame


def _take(frame: Frame, number: int, value: bytes) -> None:
    if number == 5:
        parts = {key: part.decode() for key, part in _fields(value) if isinstance(part, bytes)}
        frame.headers[parts.get(1, "")] = parts.get(2, "")
    elif number == 8:
        frame.payload = value
    elif number in _TEXTS:
        setattr(frame, _TEXTS[number], value.decode())


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field. Raises IndexError: cut off."""
    at = 0
    while at < len(data):
        tag, at = _number(data, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _number(data, at)
            yield tag >> 3, value
            continue
        sizes = {_FIXED64: 8, _FIXED32: 4}
        if kind == _BYTES:
            size, at = _number(data, at)
        elif kind in sizes:
            size = sizes[kind]
        else:
            raise BadFrame("an unknown kind of field")
        if at + size > len(data):
            raise IndexError
        yield tag >> 3, data[at : at + size]
        at += size


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK, at
        shift += 7
        if shift > 63:
            raise BadFrame("a number without an end")


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content
