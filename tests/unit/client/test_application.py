"""The application's description."""

from pathlib import Path

import pytest

from apis import APPLICATION
from flameagent.client.application import Application, read
from flameagent.client.errors import UsageError


def test_this_projects_own_description_is_one() -> None:
    application = read()
    assert (application.name, application.delay_release) == (APPLICATION, 600)
    assert application.environments == {"TMPDIR": "/tmp"}
    assert (application.folder / "agent.py").exists()


def test_without_a_file_it_is_the_agent_under_its_own_name(tmp_path: Path) -> None:
    assert read(tmp_path) == Application(APPLICATION, tmp_path)


def test_it_names_the_variables_that_it_uses(tmp_path: Path) -> None:
    (tmp_path / "openai-agent.yaml").write_text(
        "metadata: {name: mine}\n"
        "spec: {environments: {A: '${ONE}-${TWO}', B: 3, C: null}, labels: [x, 1], description: ' d '}\n"
    )
    application = read(tmp_path)
    assert application.environments == {"A": "${ONE}-${TWO}", "B": "3", "C": ""}
    assert application.variables == {"ONE", "TWO"}
    assert (application.labels, application.description) == (("x", "1"), "d")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "text",
        "- list",
        "a: [",
        "\t",
        "metadata: {name: x}",
        "spec: {}",
        "metadata: {}\nspec: {}",
        "metadata: {name: 7}\nspec: {}",
        "metadata: {name: ..}\nspec: {}",
        "metadata: {name: .x}\nspec: {}",
        "metadata: {name: 'a/b'}\nspec: {}",
        "metadata: {name: 'a\n\nb'}\nspec: {}",
        f"metadata: {{name: {'x' * 254}}}\nspec: {{}}",
        "metadata: {name: x}\nspec: {environments: [A=B]}",
        "metadata: {name: x}\nspec: {labels: one}",
        "metadata: {name: x}\nspec: {delay_release: soon}",
        "metadata: {name: x}\nspec: {max_instances: true}",
        "metadata: {name: x}\nspec: {max_instances: -1}",
        "!!python/object/apply:os.system ['exit']",
    ],
)
def test_a_file_that_describes_no_application_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "openai-agent.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"openai-agent\.yaml") as raised:
        read(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "openai-agent.yaml").mkdir()
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path)


def test_a_file_within_which_others_multiply_is_one_sentence(tmp_path: Path) -> None:
    lines = ["a0: &a0 x", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10))]
    (tmp_path / "openai-agent.yaml").write_text(
        "\n".join([*lines, "metadata: {name: x}", "spec: {description: *a9}"])
    )
    with pytest.raises(UsageError, match=r"openai-agent\.yaml is not YAML: it stands for more than 10000 values\.$"):
        read(tmp_path)
