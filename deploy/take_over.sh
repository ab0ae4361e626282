#!/usr/bin/env bash
# Change the agent under its open conversations, which Flame's `flmctl update` refuses: openai-agent takes over the
# specification of another application, registered or deployed beside it. Of the cluster of docker-compose.yml.
#
#   bash deploy/take_over.sh openai-agent-next
#
# The session manager is away for seconds meanwhile: turns that run are run again, and no answer is lost.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# = 1 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
if docker compose version >/dev/null 2>&1; then compose=(docker compose); else compose=(docker-compose); fi

"${compose[@]}" stop session-manager
# A copy with the other's name replaced, moved into place: whole or not at all.
"${compose[@]}" run --rm --no-deps -T --entrypoint bash session-manager -euc '
  cd /var/lib/flame/session/applications
  [ -f "$1/metadata" ] || { echo "No application $1 is registered." >&2; exit 1; }
  sed "s|^  \"name\": \"$1\",\$|  \"name\": \"openai-agent\",|" "$1/metadata" > openai-agent/metadata.next
  grep -q "^  \"name\": \"openai-agent\",\$" openai-agent/metadata.next
  mv openai-agent/metadata.next openai-agent/metadata
' take_over "$1" || failed=$?
"${compose[@]}" start session-manager
exit "${failed:-0}"
