#!/usr/bin/env bash
# Make an authority and a server certificate to try TLS with: ca.crt, ca.key, server.crt, server.key in a folder.
#
#   bash deploy/certificates.sh deploy/certs                      # for docker-compose.yml with deploy/tls.yml
#   bash deploy/certificates.sh certs flame.example 10.0.0.7      # for these names and addresses
#
# The object cache needs its address in there: references to objects carry it, not its name. An authority that is
# there is used again. Good for 365 days, and for trying; the key of a real authority belongs elsewhere.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
folder=$1
shift
[ $# -gt 0 ] || set -- flame-session-manager flame-object-cache localhost 127.0.0.1 172.30.90.90

names=
for name in "$@"; do
  kind=DNS
  case $name in *:* | *[0-9].*[0-9]) case $name in *[g-zG-Z]*) ;; *) kind=IP ;; esac ;; esac
  names="$names${names:+,}$kind:$name"
done

quietly() { said=$("$@" 2>&1) || { echo "$said" >&2; exit 1; }; }
umask 077
mkdir -p "$folder"
cd "$folder"
curve=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
[ -f ca.key ] || quietly openssl req -x509 "${curve[@]}" -keyout ca.key -out ca.crt -days 365 -subj "/CN=Flame test CA" \
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
quietly openssl req "${curve[@]}" -keyout server.key -out server.csr -subj "/CN=Flame"
quietly openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 365 -extfile <(
  printf '%s\n' basicConstraints=CA:FALSE extendedKeyUsage=serverAuth "subjectAltName=$names" \
    authorityKeyIdentifier=keyid
)
rm -f server.csr ca.srl
echo "$folder: ca.crt and server.crt for $*"
