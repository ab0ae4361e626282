"""The engine's home: the folder that holds everything an engine keeps.

Everything in it belongs to one user: the folder is 0700 and its files 0600 whatever the umask.
One engine runs in a home at a time, which the lock on `lock` holds; `engine.json` says where that
engine's sockets are.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Unix socket paths may be 104 (macOS) or 108 (Linux) bytes long, and homes can be deep, so sockets
#: get a short folder of their own.
SOCKETS_PREFIX = "localflame-"


class EngineError(Exception):
    """The engine cannot do this; the message is one sentence that says why and what to do."""


def default_home(environ: Mapping[str, str] = os.environ) -> Path:
    """The home without an argument: `LOCALFLAME_HOME`, the checkout's `.localflame`, or the user's state folder.

    Raises EngineError where none can be told.
    """
    named = environ.get("LOCALFLAME_HOME")
    if named:
        try:
            return Path(named).expanduser().resolve()
        except (OSError, RuntimeError) as error:  # no such user, a working directory that is gone, links in a circle
            raise EngineError(f"LOCALFLAME_HOME is {named}, which is no folder: {error}") from error
    parent = Path(__file__).resolve().parent.parent
    if (parent / "pyproject.toml").is_file():
        return parent / ".localflame"
    import platformdirs  # only an installed copy needs it

    try:
        return Path(platformdirs.user_state_dir("localflame", appauthor=False))
    except RuntimeError as error:  # no HOME, and no user of this number
        raise EngineError("There is no home for the engine: set LOCALFLAME_HOME to a folder of yours.") from error


class Home:
    """Paths below one home, its lock, and the record of the engine that runs in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / "flame.db"
        self.logs = path / "logs"
        self.log = self.logs / "engine.log"
        self.temporary = path / "tmp"
        self.flame = path / "flame"
        self.instances = path / "instances"
        self.record = path / "engine.json"
        self.ports = path / "ports.json"
        self.lock = path / "lock"
        self.starting = path / "starting"

    def prepare(self) -> None:
        """Create the home, or make an existing one private. Raises EngineError where that is impossible."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.path.stat().st_uid != os.getuid():
                raise EngineError(
                    f"The home {self.path} belongs to another user; set LOCALFLAME_HOME to a folder of yours."
                )
            for folder in (self.path, self.logs, self.temporary, self.instances):
                folder.mkdir(mode=0o700, exist_ok=True)
                folder.chmod(0o700)
            if not os.access(self.path, os.W_OK | os.X_OK):
                raise PermissionError(f"{self.path} is read-only")
        except OSError as error:
            raise EngineError(
                f"The home {self.path} cannot be used ({error.strerror or error}); "
                "set LOCALFLAME_HOME to a folder of yours."
            ) from error

    @contextlib.contextmanager
    def alone(self, path: Path) -> Iterator[None]:
        """Hold the lock on `path`, waiting for it. A lock ends with its process, however that ends."""
        with private_file(path) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield

    def try_lock(self) -> int | None:
        """Take the engine's lock: the descriptor that holds it, or None where another process has it."""
        descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def locked(self) -> bool:
        """Whether an engine holds this home."""
        if not self.lock.exists():
            return False
        descriptor = self.try_lock()
        if descriptor is None:
            return True
        os.close(descriptor)
        return False

    def read(self, path: Path) -> dict[str, Any]:
        """The JSON object in `path`, or an empty one where there is none that can be read."""
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def write(self, path: Path, content: dict[str, Any]) -> None:
        """Replace the JSON object in `path`; a reader sees the old one or the new one."""
        fresh = path.with_suffix(".new")
        with private_file(fresh) as descriptor:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(content).encode())
        fresh.replace(path)

    def control_socket(self) -> Path | None:
        """Where the engine of this home listens, if one has said so."""
        sockets = self.read(self.record).get("sockets")
        return Path(sockets) / "control" if isinstance(sockets, str) else None

    def make_sockets(self) -> Path:
        """A fresh folder for sockets, mode 0700 and with a name that nobody can have taken before."""
        self.remove_sockets()
        short = "/tmp" if os.access("/tmp", os.W_OK | os.X_OK) else None  # noqa: S108 - mkdtemp makes it private
        return Path(tempfile.mkdtemp(prefix=SOCKETS_PREFIX, dir=short))

    def remove_sockets(self) -> None:
        """Remove the sockets that the record names, and the record."""
        sockets = self.read(self.record).get("sockets")
        if isinstance(sockets, str) and Path(sockets).name.startswith(SOCKETS_PREFIX):
            shutil.rmtree(sockets, ignore_errors=True)
        self.record.unlink(missing_ok=True)

    def log_tail(self, lines: int = 5) -> str:
        """The last lines of the engine's log, for the sentence that says why it died."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


@contextlib.contextmanager
def private_file(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> Iterator[int]:
    """A descriptor of `path`, created 0600 where it is absent."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
