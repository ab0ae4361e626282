"""Packages that localflame installs, beyond what conformance/test_running.py holds it and Flame to."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from flamewire.stubs import frontend as messages
from flamewire.stubs import types
from localflame.packages import InstallError, PackageInstaller, find_uv
from tests.integration.engine.client import localflame
from tests.integration.engine.conformance.test_running import BACKEND, PROJECT, archive

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.engine.client import Client, Engines

VERSION = {"FLAME_PYTHON_VERSION": f"{sys.version_info.major}.{sys.version_info.minor}"}


def test_a_built_in_application_without_its_program_says_so(client: Client) -> None:
    for name in ("flmping", "flmexec"):
        message = client.failure(client.session(name))
        assert message.startswith("shim creation failed: failed to start service by command <")
        assert f"/bin/{name}-service>: No such file or directory" in message


async def test_without_uv_an_installation_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localflame.packages.find_uv", lambda home: None)
    url = archive(tmp_path / "packed.tar.gz", **{"pyproject.toml": PROJECT, "backend.py": BACKEND})
    spec = types.ApplicationSpec(url=url, installer="python")
    with pytest.raises(InstallError, match="packed needs uv to be installed, and there is none"):
        await PackageInstaller(tmp_path).install("packed", spec)


def test_an_installation_that_fails_ends_with_its_log(client: Client, tmp_path: Path) -> None:
    broken = "def build_wheel(*arguments):\n    raise SystemExit('it cannot be built')\n"
    url = archive(tmp_path / "packed.tar.gz", **{"pyproject.toml": PROJECT, "backend.py": broken})
    application = client.register(url=url, installer="python", environments=VERSION)
    message = client.failure(client.session(application))
    assert f"Python installation failed for app <{application}>. See log: " in message
    assert "it cannot be built" in message


def test_a_package_is_installed_once_and_again_when_its_application_was_gone(
    engines: Engines, tmp_path: Path
) -> None:
    home = engines.home()
    client = engines.start(home)
    files = {"pyproject.toml": PROJECT, "backend.py": BACKEND}
    spec = types.ApplicationSpec(
        command=sys.executable,
        arguments=["-c", "raise SystemExit(__import__('packed').VALUE)"],
        url=archive(tmp_path / "packed.tar.gz", **files),
        installer="python",
        environments=[types.Environment(name=name, value=value) for name, value in VERSION.items()],
    )
    register = messages.RegisterApplicationRequest(name="packed", application=spec)
    assert client.frontend.RegisterApplication(register).return_code == 0

    def value(client: Client) -> str:
        session = client.session("packed")
        message = client.failure(session)
        client.close_session(session)
        return message

    assert "from the wheel" in value(client)
    archive(tmp_path / "packed.tar.gz", **{**files, "backend.py": BACKEND.replace("from the wheel", "changed")})
    assert localflame(home, "stop").returncode == 0
    client = engines.start(home)
    assert "from the wheel" in value(client)
    unregister = messages.UnregisterApplicationRequest(name="packed")
    assert client.frontend.UnregisterApplication(unregister).return_code == 0
    assert client.frontend.RegisterApplication(register).return_code == 0
    assert "changed" in value(client)


def test_an_inherited_flame_home_wins(engines: Engines, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "flmping-service"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho ours >&2; exit 9\n")
    program.chmod(0o755)
    client = engines.start(engines.home(), FLAME_HOME=str(tmp_path))
    message = client.failure(client.session("flmping"))
    assert "exited with code 9" in message
    assert "ours" in message
    answer = client.run(client.session(client.register()), names=["FLAME_HOME"])
    assert json.dumps(answer["environment"]) == json.dumps({"FLAME_HOME": str(tmp_path)})


def test_uv_is_a_program_rather_than_a_script_around_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, path, interpreter = tmp_path / "home", tmp_path / "path", tmp_path / "interpreter"
    for folder, content in ((path, "#!/bin/sh\n"), (interpreter / "bin", "a program")):
        folder.mkdir(parents=True)
        (folder / "uv").write_text(content)
        (folder / "uv").chmod(0o755)
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(sys, "base_prefix", str(interpreter))
    assert find_uv(home) == interpreter / "bin/uv"
    (interpreter / "bin/uv").unlink()
    assert find_uv(home) == path / "uv"
    (path / "uv").unlink()
    assert find_uv(home) is None
