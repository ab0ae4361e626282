#!/usr/bin/env bash
# Bring the cluster of docker-compose.yml up, with the agent registered, and say how to talk to it.
# Arguments go to `compose up`, such as --force-recreate.
set -euo pipefail
cd "$(dirname "$0")/.."
if docker compose version >/dev/null 2>&1; then compose=(docker compose); else compose=(docker-compose); fi

"${compose[@]}" up --detach "$@"
for ((i = 0; i < 300; i++)); do
  state=$(docker inspect --format '{{.State.Health.Status}}' "$("${compose[@]}" ps -q console)" 2>/dev/null || true)
  [ "$state" = healthy ] && break
  sleep 2
done
if [ "$state" != healthy ]; then
  "${compose[@]}" ps
  "${compose[@]}" logs --tail 20 console
  echo "The agent is not registered after ten minutes: see the lines above." >&2
  exit 1
fi
if ! "${compose[@]}" exec -T node-1 sh -c 'test -n "$OPENAI_API_KEY$OPENAI_BASE_URL$DEEPSEEK_API_KEY"'; then
  echo "No key is set: put OPENAI_API_KEY=… or DEEPSEEK_API_KEY=… into .env, and run this again." >&2
fi
cat <<END
Flame is up, and the agent is registered. Talk to it from here:

  export FLAME_ENDPOINT=http://127.0.0.1:8080
  uv run client.py -m "who are you?"

or from inside:

  ${compose[*]} exec console uv run client.py -m "who are you?"
END
