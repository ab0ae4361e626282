"""Applications that come as a package: fetched, unpacked and installed below FLAME_HOME before their first task.

As executor_manager/src/appmgr of Flame 0.6.0, with its folders (`data/apps/<name>/releases/…/src` and `deps`,
`data/cache`, `logs/install`) and its environment. What it does not do: remember a failure. The next instance tries
again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import sys
import sysconfig
import tarfile
import threading
import uuid
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from localflame.errors import os_error

if TYPE_CHECKING:
    from collections.abc import Mapping

#: common/src/lib.rs, for a FLAME_HOME without a Python of its own
DEFAULT_PYTHON_VERSION = "3.12"
#: The application's environment says with it which Python it wants.
PYTHON_VERSION = "FLAME_PYTHON_VERSION"
#: Seconds that a package may take to come over HTTP, and to be installed.
DOWNLOAD_TIMEOUT = 300.0
INSTALL_TIMEOUT = 900.0

_DEFAULT_CACHE_PORT = 9090
_DONE = "installed"  # the file that says that a release is complete
_PACKAGE_FILES = ("pyproject.toml", "setup.py", "setup.cfg")


class InstallError(Exception):
    """The application cannot be installed; the message says why, with the end of the installer's log."""


class PackageInstaller:
    """Installs applications into one FLAME_HOME."""

    def __init__(self, flame_home: Path) -> None:
        self._home = flame_home
        self._installed: dict[str, dict[str, str]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def environment(self, name: str, spec: Any) -> dict[str, str]:
        """The variables for instances of an installed application; none if it is not installed."""
        return self._installed.get(self._release(name, spec).name, {})

    async def install(self, name: str, spec: Any) -> None:
        """Have the application installed. Raises InstallError."""
        if not spec.HasField("installer"):
            return
        if spec.installer.lower() not in ("python", "binary"):
            raise InstallError(f"Unknown installer type: {spec.installer}. Supported types: binary, python")
        release = self._release(name, spec)
        async with self._locks.setdefault(release.name, asyncio.Lock()):
            if release.name not in self._installed:
                try:
                    self._installed[release.name] = await self._install(name, spec, release)
                except (OSError, ValueError) as error:
                    raise InstallError(f"{name} could not be installed in {release}: {error}") from error

    def forget(self, name: str) -> None:
        """The application is gone: its releases go too, so that another of its name starts from nothing."""
        for done in (self._home / "data/apps" / name / "releases").glob(f"*/{_DONE}"):
            self._installed.pop(done.parent.name, None)
            with contextlib.suppress(OSError):
                # Out of the way at once; what it takes to remove it is not waited for.
                gone = done.parent.rename(done.parent.with_name(f"gone-{uuid.uuid4().hex}"))
                threading.Thread(target=shutil.rmtree, args=(gone, True), daemon=True).start()

    def _release(self, name: str, spec: Any) -> Path:
        identity = json.dumps([name, spec.installer.lower(), spec.url, self._python(_environments(spec))])
        return self._home / "data/apps" / name / "releases" / hashlib.sha256(identity.encode()).hexdigest()

    async def _install(self, name: str, spec: Any, release: Path) -> dict[str, str]:
        environments = _environments(spec)
        if not spec.HasField("url"):  # flmrun: what FLAME_HOME itself has
            return await asyncio.to_thread(self._base_environment, environments)
        python, source = spec.installer.lower() == "python", release / "src"
        if not (release / _DONE).exists():
            package = await asyncio.to_thread(_download, spec.url, release / "download")
            await asyncio.to_thread(_extract, package, source)
            if python:
                await self._install_python(name, release, self._python(environments))
            (release / _DONE).touch()
        if python:
            return await asyncio.to_thread(self._python_environment, release, environments)
        return _binary_environment(source, environments)

    def _base_environment(self, environments: Mapping[str, str]) -> dict[str, str]:
        version = self._python(environments)
        packages = self._site_packages(version)
        if packages is None:
            return {}
        return {
            PYTHON_VERSION: version,
            "PYTHONPATH": _path(str(packages), environments.get("PYTHONPATH")),
            **_libraries(packages, environments),
        }

    async def _install_python(self, name: str, release: Path, version: str) -> None:
        source, dependencies = release / "src", release / "deps"
        if not any((source / file).exists() for file in _PACKAGE_FILES):
            raise InstallError(
                f"No Python package found in {source} (missing pyproject.toml, setup.py, or setup.cfg)"
            )
        uv = find_uv(self._home)
        if uv is None:
            raise InstallError(
                f"{name} needs uv to be installed, and there is none: not as {self._home}/bin/uv, "
                "on PATH, or beside this Python"
            )
        caches = self._caches()
        log = self._home / "logs/install" / f"{name}.log"
        for folder in (dependencies, *caches.values(), log.parent):
            folder.mkdir(parents=True, exist_ok=True)
        target = ["--python", f"python{version}", "--target", str(dependencies)]
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                str(uv),
                *("pip", "install", "--link-mode=copy", *target, "."),
                cwd=source,
                # This Python is one of those that uv can find.
                env={
                    **os.environ,
                    "UV_CACHE_DIR": str(caches["uv"]),
                    "PATH": _path(os.environ.get("PATH"), str(Path(sys.executable).parent)),
                },
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            try:
                code = await asyncio.wait_for(process.wait(), INSTALL_TIMEOUT)
            except TimeoutError:
                code = None
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        if code != 0:
            tail = "\n".join(log.read_text(errors="replace").strip().splitlines()[-12:])
            raise InstallError(f"Python installation failed for app <{name}>. See log: {log}\n{tail}")

    def _python_environment(self, release: Path, environments: Mapping[str, str]) -> dict[str, str]:
        version, dependencies, caches = self._python(environments), release / "deps", self._caches()
        packages = self._site_packages(version)
        python_path = (dependencies, release / "src", packages, environments.get("PYTHONPATH"))
        environment = {
            "PYTHONPATH": _path(*(str(folder) if folder else None for folder in python_path)),
            **_libraries(dependencies, environments),
            "UV_CACHE_DIR": str(caches["uv"]),
            "PIP_CACHE_DIR": str(caches["pip"]),
            PYTHON_VERSION: version,
        }
        if (dependencies / "bin").exists():
            environment["PATH"] = _path(str(dependencies / "bin"), environments.get("PATH"), os.environ.get("PATH"))
        return environment

    def _caches(self) -> dict[str, Path]:
        return {tool: self._home / "data/cache" / tool for tool in ("uv", "pip")}

    def _python(self, environments: Mapping[str, str]) -> str:
        """The version that an application gets: what it asks for, or the newest of FLAME_HOME."""
        wanted = environments.get(PYTHON_VERSION, "").removeprefix("python")
        if wanted:
            return wanted
        found = [
            folder.parent.name.removeprefix("python") for folder in self._home.glob("lib/python?*/site-packages")
        ]
        newest = max(
            found, key=lambda version: [int(part) for part in version.split(".") if part.isdigit()], default=""
        )
        return newest or DEFAULT_PYTHON_VERSION

    def _site_packages(self, version: str) -> Path | None:
        packages = self._home / f"lib/python{version}/site-packages"
        return packages if packages.exists() else None


def find_uv(flame_home: Path) -> Path | None:
    """uv: FLAME_HOME's, else the one on PATH, else one beside this interpreter.

    A script comes last: it is a version manager's, and what it runs depends on the folder that it is run in.
    """
    on_path = shutil.which("uv")
    beside = (Path(sys.executable).parent / "uv", Path(sys.base_prefix) / "bin/uv")
    places = (flame_home / "bin/uv", *([Path(on_path)] if on_path else []), *beside)
    found = [place for place in places if place.exists()]
    return min(found, key=_is_script, default=None)


def _is_script(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return False


def make_flame_home(path: Path) -> None:
    """Link into a FLAME_HOME of ours what Flame's has: uv, and flamepy where applications look for it.

    What somebody has put there is left alone.
    """
    uv = path / "bin/uv"
    if not uv.exists():
        _link(uv, find_uv(path))
    for packages in path.glob("lib/python*/site-packages"):
        if packages.is_symlink():
            packages.unlink()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    _link(path / f"lib/python{version}/site-packages", Path(sysconfig.get_path("purelib")))


def _link(link: Path, target: Path | None) -> None:
    if target is None:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink():
        link.unlink()
    with contextlib.suppress(FileExistsError):
        link.symlink_to(target)


def _environments(spec: Any) -> dict[str, str]:
    return {variable.name: variable.value for variable in spec.environments}


def _path(*parts: str | None) -> str:
    return os.pathsep.join(part for part in parts if part)


def _libraries(folder: Path, environments: Mapping[str, str]) -> dict[str, str]:
    """LD_LIBRARY_PATH, where there is anything to put on it: all folders with a shared object, four deep."""
    found = []
    for here, folders, files in os.walk(folder):
        if len(Path(here).relative_to(folder).parts) >= 4:
            folders.clear()
        if any(file.endswith(".so") for file in files):
            found.append(here)
    libraries = _path(*found, environments.get("LD_LIBRARY_PATH"))
    return {"LD_LIBRARY_PATH": libraries} if libraries else {}


def _binary_environment(source: Path, environments: Mapping[str, str]) -> dict[str, str]:
    libraries = [source / "libs", *([source / "lib"] if (source / "lib").exists() else [])]
    return {
        "FLAME_APP_DIR": str(source),
        "PATH": _path(str(source / "bin"), str(source), environments.get("PATH"), os.environ.get("PATH")),
        "LD_LIBRARY_PATH": _path(
            *map(str, libraries), environments.get("LD_LIBRARY_PATH"), os.environ.get("LD_LIBRARY_PATH")
        ),
    }


def _download(url: str, folder: Path) -> Path:
    """The package in `folder`, fetched where it is not there yet. Raises InstallError, OSError, ValueError."""
    place = urlsplit(url)
    package = folder / (place.path.rpartition("/")[2] or "package.tar.gz")
    if package.exists():
        return package
    folder.mkdir(parents=True, exist_ok=True)
    fresh = package.with_name(f"{package.name}.tmp")
    match place.scheme:
        case "file":
            try:
                shutil.copyfile(unquote(place.path), fresh)
            except OSError as error:
                path = unquote(place.path)
                raise InstallError(f"failed to copy package from {path}: {os_error(error, path)}") from None
        case "grpc":
            _download_object(place.hostname or "", place.port or _DEFAULT_CACHE_PORT, place.path.lstrip("/"), fresh)
        case "http" | "https":
            from urllib.request import urlopen

            try:
                with urlopen(url, timeout=DOWNLOAD_TIMEOUT) as answer, fresh.open("wb") as file:  # noqa: S310
                    shutil.copyfileobj(answer, file)
            except OSError as error:
                raise InstallError(f"failed to download package: {error}") from None
        case "grpcs":
            raise InstallError("localflame offers no TLS, and fetches no package over grpcs; use grpc")
        case "":
            raise InstallError("invalid url: relative URL without a base")
        case scheme:
            raise InstallError(f"unsupported scheme: {scheme}. Supported: file, http, https, grpc, grpcs")
    fresh.replace(package)
    return package


def _download_object(host: str, port: int, key: str, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import flight

    try:
        with flight.connect(f"grpc://{host}:{port}") as client, path.open("wb") as file:
            for chunk in client.do_get(flight.Ticket(f"{key}:0".encode())):
                for data in chunk.data.column("data"):
                    file.write(data.as_buffer())
    except (pa.ArrowException, OSError) as error:
        raise InstallError(f"do_get failed: {error}") from None
    if not path.stat().st_size:
        raise InstallError(f"object not found: {key}")


def _extract(package: Path, folder: Path) -> None:
    """Unpack into a new `folder`. Raises InstallError, OSError."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        if package.name.endswith((".tar.gz", ".tgz")):
            with tarfile.open(package, "r:gz") as archive:
                archive.extractall(folder, filter="data")
        elif package.name.endswith(".zip"):
            with zipfile.ZipFile(package) as archive:
                archive.extractall(folder)  # noqa: S202 - it drops what leads out of the folder
        else:
            raise InstallError(f"unsupported archive format: {package.name}")
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise InstallError(f"failed to extract {package.name}: {error}") from None
