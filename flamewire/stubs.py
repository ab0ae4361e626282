"""Flame's messages and stubs, loaded from flamepy's files without importing flamepy.

`import flamepy` brings FastAPI, uvicorn and the runner along, about a second. The generated modules
below `flamepy.proto` need nothing but gRPC, so they are imported under an empty parent, which is
removed again: a later `import flamepy` in this process works as if nothing had happened.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

_PARENTS = ("flamepy", "flamepy.proto")


def _load() -> tuple[ModuleType, ModuleType, ModuleType, ModuleType, ModuleType]:
    stubbed = "flamepy" not in sys.modules
    if stubbed:
        found = importlib.util.find_spec("flamepy")
        if found is None or found.submodule_search_locations is None:
            raise ImportError("localflame needs flamepy 0.6.0, which is not installed")
        folder = next(iter(found.submodule_search_locations))
        for name in _PARENTS:
            parent = ModuleType(name)
            parent.__path__ = [folder if name == "flamepy" else f"{folder}/proto"]
            sys.modules[name] = parent
    try:
        return (
            importlib.import_module("flamepy.proto.types_pb2"),
            importlib.import_module("flamepy.proto.frontend_pb2"),
            importlib.import_module("flamepy.proto.frontend_pb2_grpc"),
            importlib.import_module("flamepy.proto.shim_pb2"),
            importlib.import_module("flamepy.proto.shim_pb2_grpc"),
        )
    finally:
        if stubbed:
            for name in _PARENTS:
                sys.modules.pop(name, None)


types, frontend, frontend_grpc, shim, shim_grpc = _load()
