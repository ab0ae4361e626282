#!/usr/bin/env bash
# What the console of docker-compose.yml does: prepares the client, registers the agent, and waits for you.
set -euo pipefail
cd "$(dirname "$0")/.."
flame=("$FLAME_HOME/bin/flmctl" --config "$HOME/.flame/flame.yaml")
rm -f /run/registered

bash deploy/environment.sh

if "${flame[@]}" list -a | grep -q '^ *openai-agent '; then
  # Flame refuses to update an application that has open sessions; what is registered stays then.
  "${flame[@]}" update -a openai-agent.yaml || echo "The registered openai-agent stays as it is: it has open sessions."
else
  "${flame[@]}" register -f openai-agent.yaml
fi
touch /run/registered
echo "openai-agent is registered."
exec sleep infinity
