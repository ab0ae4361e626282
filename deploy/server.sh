#!/usr/bin/env bash
# What the server of docker-compose.yml does: installs what it needs, and serves the registered agent over HTTP.
set -euo pipefail
cd "$(dirname "$0")/.."
EXTRAS=serve bash deploy/environment.sh
# The port is published on 127.0.0.1 of the host alone.
exec "$UV_PROJECT_ENVIRONMENT/bin/flame-agent" serve --host 0.0.0.0 --port 8000 --insecure
