"""An instance's side of a connection, with the other side by `h2`, and with bytes that h2 would not send."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamReset, TrailersReceived
from h2.settings import SettingCodes, Settings
from hypothesis import given, settings
from hypothesis import strategies as st

from flameagent.service.process.grpc_connection import INTERNAL, OK, UNIMPLEMENTED, Answer, Call, GrpcConnection
from flamewire.limits import MESSAGE_LIMIT
from tests.support.http2 import PREFACE, frame, request

_REQUEST = {":method": "POST", ":scheme": "http", ":path": "/s/M", ":authority": "localhost", "te": "trailers"}


def enveloped(message: bytes, compressed: int = 0) -> bytes:
    return struct.pack("!BI", compressed, len(message)) + message


class Pair:
    """A client and a server, whose bytes go back and forth until neither has more to say."""

    def __init__(self, window: int = 65535) -> None:
        self.server = GrpcConnection()
        self.client = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.client.local_settings = Settings(True, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.client.initiate_connection()
        self.calls: list[Call] = []
        self.headers: dict[int, dict[str, str]] = {}
        self.data: dict[int, bytes] = {}
        self.acknowledges = True
        self.talk()

    def talk(self) -> None:
        while True:
            sent, answered = self.client.data_to_send(), self.server.to_send()
            if not sent and not answered:
                return
            self.calls += self.server.receive(sent) if sent else []
            for event in self.client.receive_data(answered):
                if isinstance(event, ResponseReceived | TrailersReceived):
                    self.headers.setdefault(event.stream_id, {}).update(event.headers)
                elif isinstance(event, DataReceived):
                    self.data[event.stream_id] = self.data.get(event.stream_id, b"") + event.data
                    if self.acknowledges:
                        self.client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def ask(self, body: bytes, end: bool = True) -> int:
        stream = self.client.get_next_available_stream_id()
        self.client.send_headers(stream, list(_REQUEST.items()))
        self.go_on(stream, body, end)
        return stream

    def go_on(self, stream: int, body: bytes, end: bool) -> None:
        while body:
            room = min(self.client.local_flow_control_window(stream), self.client.max_outbound_frame_size)
            self.client.send_data(stream, body[:room])
            body = body[room:]
            self.talk()
            if stream in self.headers:
                return
        if end:
            self.client.end_stream(stream)
        self.talk()

    def status(self, stream: int) -> int:
        return int(self.headers[stream]["grpc-status"])


@pytest.mark.parametrize("size", [0, 1, 70_000, MESSAGE_LIMIT])
@pytest.mark.parametrize("window", [1000, 65535])
def test_a_message_of_any_size_is_taken_and_answered_whole_in_any_window(size: int, window: int) -> None:
    pair = Pair(window)
    stream = pair.ask(enveloped(b"x" * size))
    assert pair.calls == [Call(stream, b"/s/M", b"x" * size)]
    assert stream not in pair.headers
    pair.server.answer(stream, Answer(b"y" * size))
    pair.talk()
    assert pair.data[stream] == enveloped(b"y" * size)
    assert pair.status(stream) == OK


def test_a_client_that_reads_later_gets_the_rest_then_and_others_are_answered_meanwhile() -> None:
    pair = Pair(1000)
    pair.acknowledges = False
    slow, quick = pair.ask(enveloped(b"")), pair.ask(enveloped(b""))
    pair.server.answer(slow, Answer(b"x" * 5000))
    pair.server.answer(quick, Answer(b"y"))
    pair.talk()
    assert len(pair.data[slow]) == 1000
    assert pair.status(quick) == OK
    pair.client.increment_flow_control_window(2000, slow)
    pair.talk()
    assert len(pair.data[slow]) == 3000
    pair.client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 60_000})
    pair.talk()
    assert pair.data[slow] == enveloped(b"x" * 5000)
    assert pair.status(slow) == OK


def test_a_message_above_the_limit_is_refused_before_it_is_whole_and_the_connection_goes_on() -> None:
    pair = Pair()
    stream = pair.ask(enveloped(b"x" * (MESSAGE_LIMIT + 100_000)))
    assert pair.headers[stream]["grpc-status"] == "8"
    assert str(MESSAGE_LIMIT) in pair.headers[stream]["grpc-message"]
    after = pair.ask(enveloped(b"next"))
    assert pair.calls == [Call(after, b"/s/M", b"next")]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", INTERNAL),
        (b"\0\0\0", INTERNAL),
        (enveloped(b"one") + enveloped(b"two"), INTERNAL),
        (enveloped(b"one")[:-1], INTERNAL),
        (enveloped(b"packed", compressed=1), UNIMPLEMENTED),
    ],
)
def test_what_is_not_one_plain_message_is_refused(body: bytes, status: int) -> None:
    pair = Pair()
    assert pair.status(pair.ask(body)) == status
    assert pair.calls == []


def test_a_refusal_says_why_in_any_language() -> None:
    pair = Pair()
    stream = pair.ask(enveloped(b""))
    pair.server.answer(stream, Answer(b"", INTERNAL, "100 % für 天\n"))
    pair.talk()
    assert pair.headers[stream]["grpc-message"] == "100 %25 f%C3%BCr %E5%A4%A9%0A"


def test_a_call_that_is_given_up_is_not_answered_and_the_connection_goes_on() -> None:
    pair = Pair(1000)
    pair.acknowledges = False
    waiting, half_sent, incomplete = pair.ask(enveloped(b"")), pair.ask(enveloped(b"")), pair.ask(b"\0", end=False)
    pair.server.answer(half_sent, Answer(b"x" * 5000))
    pair.talk()
    for stream in waiting, half_sent, incomplete:
        pair.client.reset_stream(stream)
    pair.client.increment_flow_control_window(5000)
    pair.talk()
    pair.server.answer(waiting, Answer(b"late"))
    pair.talk()
    assert waiting not in pair.headers
    assert pair.ask(enveloped(b"next")) == pair.calls[-1].stream


def test_a_call_that_is_given_up_in_the_bytes_that_complete_it_harms_nothing() -> None:
    pair = Pair()
    stream = pair.client.get_next_available_stream_id()
    pair.client.send_headers(stream, list(_REQUEST.items()))
    pair.client.send_data(stream, b"no message", end_stream=True)
    pair.client.reset_stream(stream)
    pair.talk()
    assert stream not in pair.headers
    assert not pair.server.ended
    assert pair.ask(enveloped(b"next")) == pair.calls[-1].stream


def test_a_ping_is_answered() -> None:
    server = GrpcConnection()
    server.receive(PREFACE + frame(4, 0, 0) + frame(6, 0, 0, b"12345678"))
    assert frame(6, 1, 0, b"12345678") in server.to_send()


_BROKEN = {
    "a frame longer than agreed": PREFACE + frame(4, 0, 0) + frame(0, 0, 1, b"x" * 20_000),
    "data without a call": PREFACE + frame(4, 0, 0) + frame(0, 1, 1, b"x"),
    "a window beyond its limit": request(b"/s/M") + frame(8, 0, 0, b"\x7f\xff\xff\xff") * 2,
    "a window that grows by nothing": request(b"/s/M") + frame(8, 0, 0, b"\0\0\0\0"),
    "headers that never end": PREFACE + frame(4, 0, 0) + frame(1, 0, 1) + frame(9, 0, 1, b"x") * 100,
    "headers that are no HPACK": PREFACE + frame(4, 0, 0) + frame(1, 5, 1, b"\xff" * 20),
    "large headers": PREFACE
    + frame(4, 0, 0)
    + frame(1, 0, 1, b"\0\x01a\x7f\xc1\x7d" + b"v" * 16_192)
    + frame(9, 0, 1, b"\0\x01a\x7f\xc1\x7d" + b"v" * 16_192) * 4
    + frame(9, 4, 1, b"\0\x01a\x01v"),
    "a stream of ours": PREFACE + frame(4, 0, 0) + frame(1, 5, 2, b"\x83"),
    "a setting that is none": PREFACE + frame(4, 0, 0, b"\0\x04\xff\xff\xff\xff"),
    "settings of half a length": PREFACE + frame(4, 0, 0, b"\0\x04\xff"),
}


def test_a_call_without_a_path_is_given_up_and_the_connection_goes_on() -> None:
    server = GrpcConnection()
    assert server.receive(PREFACE + frame(4, 0, 0) + frame(1, 5, 1, b"\x83")) == []
    assert frame(3, 0, 1, b"\0\0\0\1") in server.to_send()
    assert server.receive(request(b"/s/M", b"next", 3).removeprefix(PREFACE)) == [Call(3, b"/s/M", b"next")]


def test_who_does_not_speak_http2_is_hung_up_on() -> None:
    server = GrpcConnection()
    assert server.receive(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") == []
    assert server.ended


@pytest.mark.parametrize("broken", _BROKEN)
def test_what_breaks_the_rules_of_http2_ends_the_connection(broken: str) -> None:
    server = GrpcConnection()
    server.receive(_BROKEN[broken])
    assert server.ended
    assert b"\x07\0\0\0\0\0" in server.to_send()  # the head of a frame that says goodbye
    server.answer(1, Answer(b"late"))
    assert server.to_send() == b""


frames = st.builds(
    frame,
    st.integers(0, 11),
    st.integers(0, 255),
    st.sampled_from([0, 1, 1, 3, 2**31 - 1]),
    st.binary(max_size=30) | st.sampled_from([b"\0\0\0\1", b"\x83\x86\x44\x01/", b"12345678", b"\0" * 5]),
)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(begin=st.sampled_from([b"", PREFACE, request(b"/s/M")]), sent=st.lists(frames | st.binary(max_size=30)))
def test_any_bytes_are_taken_or_end_the_connection(begin: bytes, sent: list[bytes]) -> None:
    server = GrpcConnection()
    for data in [begin, *sent]:
        for call in server.receive(data):
            server.answer(call.stream, Answer(call.message))
        server.to_send()
        if server.ended:
            break


@settings(max_examples=50, derandomize=True, deadline=None)
@given(cuts=st.lists(st.integers(0, 400), max_size=20))
def test_a_call_may_come_in_pieces(cuts: list[int]) -> None:
    whole = request(b"/s/M", b"message" * 20)
    places = [0, *sorted(cuts), len(whole)]
    server = GrpcConnection()
    calls = [call for at, end in pairwise(places) for call in server.receive(whole[at:end])]
    assert calls == [Call(1, b"/s/M", b"message" * 20)]


def test_a_call_that_was_answered_early_is_ended_for_the_client_too() -> None:
    pair = Pair()
    stream = pair.ask(b"\0", end=False)
    pair.server.answer(stream, Answer(b"", INTERNAL, "no"))
    events = pair.client.receive_data(pair.server.to_send())
    assert any(isinstance(event, StreamReset) for event in events)
