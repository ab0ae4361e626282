"""The engine's home: the folder that holds everything an engine keeps.

Everything in it belongs to one user: the folder is 0700 and its files 0600 whatever the umask.
One engine runs in a home at a time, which the lock on `lock` holds; `engine.json` says where that
engine's sockets are, and of which home it speaks: a copy of a home is another home, without an engine.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Unix socket paths may be 104 (macOS) or 108 (Linux) bytes long, and homes can be deep, so sockets
#: get a short folder of their own.
SOCKETS_PREFIX = "localflame-"
#: Bytes of engine.log above which it is set aside.
LOG_LIMIT = 1_000_000


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
            with private_file(self.lock):
                pass
        except OSError as error:
            raise EngineError(self.describe_error(error)) from error

    @contextlib.contextmanager
    def hold_lock(self, path: Path) -> Iterator[None]:
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

    def is_locked(self) -> bool:
        """True if an engine holds this home."""
        if not self.lock.exists():
            return False
        descriptor = self.try_lock()
        if descriptor is None:
            return True
        os.close(descriptor)
        return False

    def read_json(self, path: Path) -> dict[str, Any]:
        """The JSON object in `path`, or an empty one where there is none that can be read."""
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def write_json(self, path: Path, content: dict[str, Any]) -> None:
        """Replace the JSON object in `path`; a reader sees the old one or the new one."""
        fresh = path.with_suffix(".new")
        with private_file(fresh) as descriptor:
            os.ftruncate(descriptor, 0)
            with open(descriptor, "wb", closefd=False) as file:  # unlike os.write, all of it or an error
                file.write(json.dumps(content).encode())
        fresh.replace(path)

    def identity(self) -> list[int]:
        """The numbers that tell a prepared home from a copy of it, and from another one at the same place.

        An engine holds its `lock` open, so that no other file can have the same number while it lives.
        """
        folder, lock = self.path.stat(), self.lock.stat()
        return [folder.st_dev, folder.st_ino, lock.st_ino]

    def read_engine_record(self) -> dict[str, Any]:
        """The record of the engine of this home: `pid`, `sockets`, `home`. Empty where there is none.

        It may have died since. What a copied folder brought along is another home's.
        """
        record = self.read_json(self.record)
        try:
            # An engine of an older release does not say whose it is; then it must hold the lock.
            ours = record["home"] == self.identity() if "home" in record else self.is_locked()
        except OSError:
            return {}
        return record if ours else {}

    def control_socket(self) -> Path | None:
        """The socket on which the engine of this home listens, by its record.

        Where the folder was swept away, somebody else can have taken its name, to be told what an engine is told.
        """
        sockets = self.read_engine_record().get("sockets")
        return Path(sockets) / "control" if isinstance(sockets, str) and is_private(Path(sockets)) else None

    def make_sockets(self) -> Path:
        """A fresh folder for sockets, mode 0700 and with a name that nobody can have taken before."""
        self.remove_sockets(self.read_engine_record())
        short = "/tmp" if os.access("/tmp", os.W_OK | os.X_OK) else None  # noqa: S108 - mkdtemp makes it private
        return Path(tempfile.mkdtemp(prefix=SOCKETS_PREFIX, dir=short))

    def remove_sockets(self, record: Mapping[str, Any]) -> None:
        """Remove the sockets that an engine's record names, and the record where it is that one."""
        sockets = record.get("sockets")
        if isinstance(sockets, str) and Path(sockets).name.startswith(SOCKETS_PREFIX) and is_private(Path(sockets)):
            shutil.rmtree(sockets, ignore_errors=True)
        if self.read_json(self.record) == record:
            self.record.unlink(missing_ok=True)

    def is_held_by(self, lock: int) -> bool:
        """True if this descriptor is of the lock that lies here now: it was neither removed nor moved."""
        with contextlib.suppress(OSError):
            return os.path.samestat(self.lock.stat(), os.fstat(lock))
        return False

    def rotate_log(self) -> None:
        """Go on in a new log where this one is long, or was removed: for a process whose standard output it is.

        Output of libraries, which do not log by Python, comes along.
        """
        with contextlib.suppress(OSError):  # a home that is gone, a full disk: as before
            written = os.fstat(2)
            if written.st_nlink:
                if written.st_size <= LOG_LIMIT:
                    return
                self.log.replace(self.log.with_suffix(".log.1"))
            with private_file(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as fresh:
                for standard in (1, 2):
                    os.dup2(fresh, standard)

    def describe_error(self, error: OSError) -> str:
        """The sentence about an error of this home's files."""
        return (
            f"The home {self.path} cannot be used ({error.strerror or error}); "
            "make room there, or set LOCALFLAME_HOME to another folder of yours."
        )

    def log_tail(self, lines: int = 5) -> str:
        """The last lines of the engine's log, for the sentence that says why it died."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


def is_private(folder: Path) -> bool:
    """True for a folder of our user that nobody else can reach into."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & 0o077


@contextlib.contextmanager
def private_file(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> Iterator[int]:
    """A descriptor of `path`, created 0600 where it is absent."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
