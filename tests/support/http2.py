"""Requests of gRPC as bytes, for what no library would send."""

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    """A frame of HTTP/2, whether it makes sense or not."""
    return struct.pack("!I", len(content))[1:] + struct.pack("!BBI", kind, flags, stream) + content


def request(path: bytes, message: bytes = b"", stream: int = 1) -> bytes:
    """A call as HTTP/2 has it, in one piece: what is needed to be served without ever reading."""
    headers = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": path,
        b":authority": b"localhost",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
    }
    block = b"".join(b"\0" + bytes([len(name)]) + name + bytes([len(text)]) + text for name, text in headers.items())
    body = struct.pack("!BI", 0, len(message)) + message
    return PREFACE + frame(4, 0, 0) + frame(1, 4, stream, block) + frame(0, 1, stream, body)


def let_it_read(connection: socket.socket) -> None:
    """Wait until the other side has read all that was sent: it answers a ping behind it, or hangs up."""
    ping = b"was read"
    received = b""
    connection.settimeout(30)
    try:
        connection.sendall(b"\0\0\x08\x06\0\0\0\0\0" + ping)
        while ping not in received and (data := connection.recv(65536)):
            received += data
    except ConnectionError:
        return
