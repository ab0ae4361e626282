#!/usr/bin/env bash
# What the console of docker-compose.yml does: prepares the client, registers the agent, and waits for you.
set -euo pipefail
cd "$(dirname "$0")/.."
flame=("$FLAME_HOME/bin/flmctl" --config "$HOME/.flame/flame.yaml")
rm -f /run/registered

bash deploy/environment.sh

applications=$("${flame[@]}" list -a)
if ! grep -q '^ *openai-agent ' <<< "$applications"; then
  "${flame[@]}" register -f openai-agent.yaml
elif known=$("${flame[@]}" view -a openai-agent) && grep -q '^Installer: *[a-z]' <<< "$known"; then
  echo "openai-agent was deployed as a package: that stays."
else
  # Flame refuses to update an application that has open sessions; what is registered stays then.
  "${flame[@]}" update -a openai-agent.yaml || echo "The registered openai-agent stays as it is: it has open sessions."
fi
touch /run/registered
echo "openai-agent is registered."
exec sleep infinity
