#!/usr/bin/env bash
# Install the project and what it needs into UV_PROJECT_ENVIRONMENT, in the versions that pyproject.toml names, with
# its extras EXTRAS.
# For the containers of docker-compose.yml: the project is read-only there and has no lock file, and an environment
# that stays starts the agent twice as fast as a new one for each start.
set -euo pipefail
cd "$(dirname "$0")/.."
uv="$FLAME_HOME/bin/uv"
installed="$UV_PROJECT_ENVIRONMENT/installed.toml"
cmp -s <(cat pyproject.toml; echo "# ${EXTRAS:-}") "$installed" && exit
"$uv" venv --quiet --clear --python python3 "$UV_PROJECT_ENVIRONMENT"
"$uv" pip install --quiet --python "$UV_PROJECT_ENVIRONMENT" --compile-bytecode --editable ".${EXTRAS:+[$EXTRAS]}"
(cat pyproject.toml; echo "# ${EXTRAS:-}") > "$installed"
