#!/usr/bin/env bash
# usage: ./remove_stack.sh [NAME]
# Removes the stack NAME (func unless said) and waits until its containers on this node have ended. What Prometheus has
# recorded stays, in the volume NAME_prometheus; so do images, the password of /system, and the network while services
# of yours are on it.
# Exit code: 0 it is gone, also when it was not there; 1 something is left, and the last line says what; 2 it cannot begin.
set -euo pipefail
cd "$(dirname "$0")"

readonly self=remove_stack timeout=60

# shellcheck source=tools/stack.sh
source tools/stack.sh
help_if_asked "${1:-}"
stack=$(stack_name "${1:-}")
label=com.docker.stack.namespace=$stack
check_manager

containers() { docker ps --all --filter "label=$label" --format '{{.Names}}'; }
services() { docker service ls --filter "label=$label" --format '{{.Name}}'; }
networks() { docker network ls --filter "label=$label" --format '{{.Name}}'; }

# That a network is in use is a failure to the client, and none to us: what is left is looked at below.
answer=$(docker stack rm "$stack" 2>&1) || true
grep -vE 'network.*in use|^failed to remove some' <<<"$answer" || true
deadline=$((SECONDS + timeout))
while [ -n "$(services)$(containers)" ]; do
    if [ "$SECONDS" -ge "$deadline" ]; then
        echo "$self: left after $timeout s: $({ services && containers; } | paste -s -d ' ')" >&2
        exit 1
    fi
    sleep 0.2
done
# The engine takes a moment to let the last container go from a network; a service of yours keeps it for good.
for network in $(networks); do
    deadline=$((SECONDS + 10))
    until answer=$(docker network rm "$network" 2>&1); do
        [ "$SECONDS" -lt "$deadline" ] || { echo "the network $network is kept: ${answer##*desc = }" && break; }
        sleep 0.2
    done
done
if docker volume inspect "${stack}_prometheus" >/dev/null 2>&1; then
    echo "Prometheus's data are kept: docker volume rm ${stack}_prometheus"
fi
if docker secret inspect basic-auth-password >/dev/null 2>&1; then
    echo "the password of /system is kept: docker secret rm basic-auth-user basic-auth-password"
fi
