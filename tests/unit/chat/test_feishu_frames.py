"""Our frames are lark-oapi's frames, whatever is in them; rubbish is an error of one kind."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.chat.feishu_frames import BadFrame, Frame, decode, encode

FRAMES = st.builds(
    Frame,
    method=st.integers(0, 1),
    service=st.integers(0, 2**31 - 1),
    headers=st.dictionaries(st.text(max_size=20), st.text(max_size=40), max_size=8),
    payload=st.binary(max_size=300),
    seq_id=st.integers(0, 2**64 - 1),
    log_id=st.integers(0, 2**64 - 1),
    payload_encoding=st.text(max_size=10),
    payload_type=st.text(max_size=10),
    log_id_new=st.text(max_size=20),
)

ORACLE = """
import json, sys
from lark_oapi.ws.pb.pbbp2_pb2 import Frame
for line in json.load(sys.stdin):
    frame = Frame()
    frame.ParseFromString(bytes.fromhex(line))
    headers = [[one.key, one.value] for one in frame.headers]
    numbers = [frame.SeqID, frame.LogID, frame.service, frame.method]
    rest = [frame.payload_encoding, frame.payload_type, frame.payload.hex(), frame.LogIDNew]
    print(json.dumps([*numbers, headers, *rest, frame.SerializeToString().hex()]))
"""


@given(FRAMES)
def test_a_frame_survives_the_way(frame: Frame) -> None:
    """There and back."""
    assert decode(encode(frame)) == frame


@given(st.binary(max_size=200))
def test_rubbish_is_one_kind_of_error(data: bytes) -> None:
    """The connection must live on, so nothing else may be raised, and nothing may take for ever."""
    with contextlib.suppress(BadFrame):
        decode(data)


@pytest.mark.parametrize("cut", [one for one in range(1, 36) if one != 21])
def test_a_frame_cut_short_is_an_error(cut: int) -> None:
    """Never half of an event; without its last 21 bytes it is a whole frame, with no payload."""
    whole = encode(Frame(1, 33, {"type": "event"}, b"payload of an event"))
    with pytest.raises(BadFrame):
        decode(whole[:-cut])


def test_lark_oapi_reads_and_writes_the_same() -> None:
    """Judged by code that nobody here wrote, in a process of its own because it costs 170 MB."""
    frames = [
        Frame(1, 33, {"type": "event", "message_id": "m1", "sum": "2", "seq": "0"}, "行".encode() * 100, 7, 2**64 - 1),
        Frame(0, 2**31 - 1, {"type": "ping"}),
        Frame(1, 0, {"": "", "ключ": "值"}, b"\x00\xff", 2**63, 1, "gzip", "json", "new"),
    ]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ORACLE],
        input=json.dumps([encode(one).hex() for one in frames]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for frame, line in zip(frames, done.stdout.splitlines(), strict=True):
        seq, log, service, method, headers, encoding, kind, payload, new, again = json.loads(line)
        assert (seq, log, service, method) == (frame.seq_id, frame.log_id, frame.service, frame.method)
        assert dict(headers) == frame.headers
        assert (encoding, kind, bytes.fromhex(payload), new) == (
            frame.payload_encoding,
            frame.payload_type,
            frame.payload,
            frame.log_id_new,
        )
        assert decode(bytes.fromhex(again)) == frame
