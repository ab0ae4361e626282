"""docker-compose.yml: what keeps Flame 0.6.0 from wedging, and what must never be reachable or written there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
FILES = {
    "docker-compose.yml": ROOT / "docker-compose.yml",
    "tls": ROOT / "deploy" / "tls.yml",
}
RELEASE = "v0.6.0"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load(FILES["docker-compose.yml"].read_text()))


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    """Those that are started with `up`."""
    return {name: service for name, service in compose["services"].items() if "profiles" not in service}


def nodes(services: dict[str, Any]) -> dict[str, Any]:
    return {name: service for name, service in services.items() if "executor-manager" in service["image"]}


def target(volume: str) -> str:
    return volume.split(":")[1]


def test_the_images_are_those_of_the_release(services: dict[str, Any]) -> None:
    parts = ("session-manager", "object-cache", "executor-manager", "console")
    assert {service["image"] for service in services.values()} == {f"xflops/flame-{part}:{RELEASE}" for part in parts}
    assert len(nodes(services)) == 2


def test_ports_are_of_this_machine_alone_and_the_backend_is_not_one(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {
        "session-manager": ["127.0.0.1:8080:8080"],
        "object-cache": ["127.0.0.1:9090:9090"],
        "server": ["127.0.0.1:8000:8000"],
    }
    for file in FILES.values():
        assert "8081:" not in file.read_text()


def test_each_part_is_restarted_has_an_init_and_a_name_of_its_own_that_stays(services: dict[str, Any]) -> None:
    for service in services.values():
        assert service["init"] is True
        assert service["restart"] == "unless-stopped"
        assert "deploy" not in service
        assert "healthcheck" in service
    names = [service["hostname"] for service in services.values()]
    assert len(set(names)) == len(names)


def test_parts_start_when_what_they_need_is_healthy(services: dict[str, Any]) -> None:
    for node in nodes(services).values():
        assert node["depends_on"] == {
            part: {"condition": "service_healthy"} for part in ("session-manager", "object-cache")
        }
    assert set(services["console"]["depends_on"]) == set(nodes(services))


def test_conversations_are_in_volumes_and_nodes_are_forgotten(
    compose: dict[str, Any], services: dict[str, Any]
) -> None:
    config = yaml.safe_load((ROOT / "deploy" / "flame-cluster.yaml").read_text())
    for service, volume, storage in (
        ("session-manager", "sessions", config["cluster"]["storage"]),
        ("object-cache", "objects", config["cache"]["storage"]),
    ):
        assert f"{volume}:{storage.removeprefix('fs://')}" in services[service]["volumes"]
        assert volume in compose["volumes"]
    sessions = config["cluster"]["storage"].removeprefix("fs://")
    assert f"{sessions}/nodes" in services["session-manager"]["tmpfs"]
    assert services["session-manager"]["working_dir"] == sessions  # where `events/` goes


def test_the_cache_has_an_address_that_stays(compose: dict[str, Any], services: dict[str, Any]) -> None:
    address = services["object-cache"]["networks"]["flame"]["ipv4_address"]
    (pool,) = compose["networks"]["flame"]["ipam"]["config"]
    assert address.rpartition(".")[0] == pool["subnet"].rpartition(".")[0]
    assert address in services["object-cache"]["healthcheck"]["test"][-1]


def test_the_project_is_read_only_with_an_environment_elsewhere(services: dict[str, Any]) -> None:
    for name in ("node-1", "node-2", "console", "server"):
        service = services[name]
        (project,) = [volume for volume in service["volumes"] if volume.startswith(".:")]
        assert project.endswith(":ro")
        environment = service["environment"]["UV_PROJECT_ENVIRONMENT"]
        own = next(volume for volume in service["volumes"] if environment.startswith(target(volume) + "/"))
        assert own.startswith(f"{name}:")
        assert not environment.startswith(target(project))


def test_keys_are_passed_through_and_written_nowhere(services: dict[str, Any]) -> None:
    for node in nodes(services).values():
        passed = {name for name, value in node["environment"].items() if value is None}
        assert {"OPENAI_API_KEY", "OPENAI_BASE_URL", "DEEPSEEK_API_KEY", "AGENT_MODEL"} <= passed
    for name in ("session-manager", "object-cache", "console", "server"):
        assert not any(variable.endswith("_KEY") for variable in services[name].get("environment", {}))
    application = yaml.safe_load((ROOT / "openai-agent.yaml").read_text())["spec"]["environments"]
    assert not any("KEY" in variable for variable in application)
    for file in [ROOT / "docker-compose.yml", ROOT / "openai-agent.yaml", *(ROOT / "deploy").rglob("*.y*ml")]:
        assert not re.search(r"sk-\w|KEY: *\S", file.read_text()), file


def test_the_programs_find_their_configuration_and_scripts(services: dict[str, Any]) -> None:
    for service in services.values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).is_file(), source
        for argument in service.get("entrypoint", []):
            if argument.startswith("/opt/project/"):
                assert (ROOT / argument.removeprefix("/opt/project/")).is_file()


def test_with_tls_the_configuration_is_the_same_but_for_tls() -> None:
    plain = yaml.safe_load((ROOT / "deploy" / "flame-cluster.yaml").read_text())
    secure = yaml.safe_load((ROOT / "deploy" / "flame-cluster-tls.yaml").read_text())
    for part in ("cluster", "cache"):
        assert set(secure[part].pop("tls")) == {"cert_file", "key_file", "ca_file"}
        scheme, rest = plain[part].pop("endpoint").split("://")
        assert secure[part].pop("endpoint") == f"{scheme}s://{rest}"
    assert secure == plain
    overridden = yaml.safe_load(FILES["tls"].read_text())["services"]
    services = yaml.safe_load(FILES["docker-compose.yml"].read_text())["services"]
    for name, service in overridden.items():
        mounted = {target(volume) for volume in service["volumes"]}
        configured = {target(volume) for volume in services[name]["volumes"] if "/root/.flame/" in volume}
        assert mounted == configured | {"/etc/flame/certs"}
    assert set(overridden) == {name for name, service in services.items() if "profiles" not in service}


@pytest.mark.parametrize("files", [["docker-compose.yml"], ["docker-compose.yml", "deploy/tls.yml"]])
def test_compose_takes_the_files_as_they_are_cloned(tmp_path: Path, files: list[str]) -> None:
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not installed")
    (tmp_path / "deploy").mkdir()
    for file in files:
        shutil.copy(ROOT / file, tmp_path / file)
    checked = subprocess.run(
        [program, *(argument for file in files for argument in ("-f", file)), "config", "--quiet"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_a_session_is_never_given_more_executors_than_it_may_have() -> None:
    # Flame 0.6.0 with drf goes on binding executors to a session whose first one is slow to start.
    for file in ("flame-cluster.yaml", "flame-cluster-tls.yaml", "kubernetes/values.yaml"):
        config = yaml.safe_load((ROOT / "deploy" / file).read_text())
        assert config["cluster"]["policies"] == ["priority", "gang"]
