"""All objects of Flame's object cache, with their sizes: one call, however many there are.

It is Arrow Flight's ListFlights. What Flame 0.6.0 answers there names no descriptor, which pyarrow 26 refuses, so it
is called and read without pyarrow.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import grpc

from flameagent.flame.endpoints import CACHE_PORT, Endpoints, address

_METHOD = "/arrow.flight.protocol.FlightService/ListFlights"
_DEADLINE = 15.0
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]


def object_sizes(endpoints: Endpoints) -> dict[str, int] | None:
    """The bytes of each object, by key: those of its base and of its patches. None where the cache does not tell."""
    with _channel(endpoints) as channel:
        call = channel.unary_stream(
            _METHOD, request_serializer=bytes, response_deserializer=_flight_info().FromString
        )
        try:
            return {
                found.endpoint[0].ticket.ticket.decode(): found.total_bytes
                for found in call(b"", timeout=_DEADLINE)
                if found.endpoint
            }
        except (grpc.RpcError, UnicodeDecodeError):
            return None


def _channel(endpoints: Endpoints) -> grpc.Channel:
    target, secure = address(endpoints.cache, CACHE_PORT)
    if endpoints.cache_socket:
        target = f"unix:{endpoints.cache_socket}"
    elif secure:
        from flameagent.flame import tls

        roots = tls.roots(endpoints.cache_ca_file or endpoints.ca_file, endpoints.ca_source)
        return grpc.secure_channel(target, grpc.ssl_channel_credentials(roots), options=_OPTIONS)
    return grpc.insecure_channel(target, options=_OPTIONS)


@cache
def _flight_info() -> Any:
    """FlightInfo of Flight.proto, as far as it is needed: of its endpoints the tickets, and the bytes in total."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="flight.proto", package="flight", syntax="proto3")
    ticket = file.message_type.add(name="Ticket")
    ticket.field.add(name="ticket", number=1, type=kinds.TYPE_BYTES, label=kinds.LABEL_OPTIONAL)
    endpoint = file.message_type.add(name="FlightEndpoint")
    endpoint.field.add(
        name="ticket", number=1, type=kinds.TYPE_MESSAGE, type_name=".flight.Ticket", label=kinds.LABEL_OPTIONAL
    )
    info = file.message_type.add(name="FlightInfo")
    info.field.add(
        name="endpoint",
        number=3,
        type=kinds.TYPE_MESSAGE,
        type_name=".flight.FlightEndpoint",
        label=kinds.LABEL_REPEATED,
    )
    info.field.add(name="total_bytes", number=5, type=kinds.TYPE_INT64, label=kinds.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("flight.FlightInfo"))
