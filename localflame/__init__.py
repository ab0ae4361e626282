"""localflame: the Flame 0.6.0 API on one machine, in one process, with one file.

Importing this package costs nothing worth measuring: gRPC and Arrow are loaded by the engine's
own process only. See docs/localflame.md.
"""

from localflame.control import Control
from localflame.home import EngineError, default_home
from localflame.launch import Engine, find, last_addresses, start, stop

__all__ = ["Control", "Engine", "EngineError", "default_home", "find", "last_addresses", "start", "stop"]
