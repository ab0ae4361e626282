"""deploy/kubernetes: who may reach what, and what a wrong number would break. docs/kubernetes.md says what else was
checked, with Helm and the chart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[3] / "deploy" / "kubernetes"


def component(selector: dict[str, Any]) -> str:
    labels = selector["podSelector"]["matchLabels"]
    if labels == {"flame-client": "true"}:
        return "client"
    assert {labels["app.kubernetes.io/name"], labels["app.kubernetes.io/instance"]} == {"flame"}
    return str(labels["app.kubernetes.io/component"])


def test_only_nodes_and_clients_reach_flame_and_only_nodes_its_backend() -> None:
    reached = {
        (component(policy["spec"]), port["port"], component(peer))
        for policy in yaml.safe_load_all((FOLDER / "network-policy.yaml").read_text())
        for rule in policy["spec"]["ingress"]
        for port in rule["ports"]
        for peer in rule["from"]
    }
    assert reached == {
        ("session-manager", 8080, "client"),
        ("session-manager", 8080, "executor-manager"),
        ("session-manager", 8081, "executor-manager"),
        ("object-cache", 9090, "client"),
        ("object-cache", 9090, "executor-manager"),
    }
    policies = list(yaml.safe_load_all((FOLDER / "network-policy.yaml").read_text()))
    assert {component(policy["spec"]) for policy in policies} == {
        "session-manager",
        "object-cache",
        "executor-manager",
    }
    assert all(policy["spec"]["policyTypes"] == ["Ingress"] for policy in policies)
    console = yaml.safe_load((FOLDER / "console.yaml").read_text())
    assert console["metadata"]["labels"] == {"flame-client": "true"}


def test_the_values_keep_conversations_whole_and_keys_in_a_secret() -> None:
    values = yaml.safe_load((FOLDER / "values.yaml").read_text())
    assert values["global"]["imageTag"] == "v0.6.0"
    assert values["objectCache"]["replicas"] == 1
    assert values["sessionManager"]["persistence"]["enabled"] and values["objectCache"]["persistence"]["enabled"]
    (nodes,) = values["sessionManager"]["extraVolumeMounts"]
    assert nodes["mountPath"] == values["cluster"]["storage"].removeprefix("fs://") + "/nodes"
    for variable in values["executorManager"]["extraEnv"]:
        if "KEY" in variable["name"]:
            assert variable["valueFrom"]["secretKeyRef"] == {
                "name": "openai-agent",
                "key": variable["name"],
                "optional": True,
            }


def test_servers_are_clients_of_flame_that_end_gently_and_hold_no_keys() -> None:
    deployment, service = yaml.safe_load_all((FOLDER / "server.yaml").read_text())
    pod = deployment["spec"]["template"]
    assert pod["metadata"]["labels"]["flame-client"] == "true"
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert deployment["spec"]["replicas"] > 1 and pod["spec"]["terminationGracePeriodSeconds"] > 30
    (container,) = pod["spec"]["containers"]
    assert not any("KEY" in each["name"] for each in container["env"])
    assert (container["readinessProbe"]["httpGet"]["path"], container["livenessProbe"]["httpGet"]["path"]) == (
        "/readyz",
        "/healthz",
    )
    assert container["securityContext"]["runAsNonRoot"]
