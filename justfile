# What is done here again and again; `just` without more lists it. Each line works without just, too.

_list:
    @just --list

# Style, types and layers
check:
    .ci/check

# The tests that take half a minute
fast:
    uv run pytest -m fast

# All tests that need no cluster
test:
    uv run pytest

# Kill whatever there is for a while, and look what became of the conversations
chaos *options:
    uv run python -m tests.chaos {{ options }}

# Make the pages anew that are made from the program
docs:
    uv run python docs/tree.py
    uv run python docs/tables.py
    uv run typer flameagent.cli.app utils docs --name "uv run client.py" --title Commands --output docs/commands.md

# Measure, and write docs/benchmarks.md
bench *options:
    uv run python -m benchmarks {{ options }}

# Everything that has to hold before a change lands
ci:
    .ci/run
