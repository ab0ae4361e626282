"""The limits of Flame 0.6.0."""

MESSAGE_LIMIT = 4 * 1024**2
"""Bytes of a gRPC message to the frontend or to an instance (tonic's default)."""

PATCHES_LIMIT = 1000
"""Patches of an object in the cache (object_cache/src/storage/disk.rs)."""

LOCAL_OPTIONS = [("grpc.http2.bdp_probe", 0)]
"""Options of gRPC on a Unix socket: it does not measure how much is on the way, by pings that wake both sides."""
