"""The application's description."""

from pathlib import Path

import pytest

from flameagent.apis import APPLICATION
from flameagent.client.application import FILE, Application, read, target_in
from flameagent.client.errors import UsageError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / FILE


def test_this_projects_own_description_is_one() -> None:
    (application,) = read(ROOT / FILE)
    assert (application.name, application.target, application.delay_release) == (APPLICATION, "agent", 600)
    assert application.environments == {"TMPDIR": "/tmp"}
    assert application.folder and (application.folder / "agent.py").exists()


def test_it_names_the_variables_that_it_uses(file: Path) -> None:
    file.write_text(
        "metadata: {name: mine}\n"
        "spec: {environments: {A: '${ONE}-${TWO}', B: 3, C: null}, labels: [x, 1], description: ' d '}\n"
    )
    (application,) = read(file)
    assert application.environments == {"A": "${ONE}-${TWO}", "B": "3", "C": ""}
    assert application.variables == {"ONE", "TWO"}
    assert (application.labels, application.description) == (("x", "1"), "d")


def test_a_file_of_several_documents_describes_several_applications(file: Path) -> None:
    file.write_text(
        "---\nmetadata: {name: desk}\nspec: {arguments: [run, python, -m, flameagent.service, 'shop:desk']}\n"
        "---\nmetadata: {name: other}\nspec: {}\n---\n"
    )
    assert read(file) == [Application("desk", file.parent, "shop:desk"), Application("other", file.parent, "agent")]


@pytest.mark.parametrize(
    ("arguments", "target"),
    [
        (["-m", "flameagent.service", "shop.team:desk"], "shop.team:desk"),
        (["-m", "flameagent.service"], ""),
        (["-m", "another", "agent"], ""),
        ("flameagent.service agent", ""),
        (None, ""),
        ([1, "flameagent.service", 2], "2"),
    ],
)
def test_what_is_run_is_read_from_the_arguments(arguments: object, target: str) -> None:
    assert target_in(arguments) == target


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
        "metadata: {name: x}\nspec: {}\n---\nmetadata: {}\nspec: {}",
        "!!python/object/apply:os.system ['exit']",
    ],
)
def test_a_file_that_describes_no_application_is_one_sentence(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(UsageError, match=r"openai-agent\.yaml") as raised:
        read(file)
    assert "\n" not in str(raised.value)


def test_a_file_that_cannot_be_read_is_one_sentence(file: Path) -> None:
    file.mkdir()
    with pytest.raises(UsageError, match="cannot be read"):
        read(file)


def test_a_file_within_which_others_multiply_is_one_sentence(file: Path) -> None:
    lines = ["a0: &a0 x", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10))]
    file.write_text("\n".join([*lines, "metadata: {name: x}", "spec: {description: *a9}"]))
    with pytest.raises(UsageError, match=r"openai-agent\.yaml is not YAML: it stands for more than 10000 values\.$"):
        read(file)
