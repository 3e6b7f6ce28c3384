#!/usr/bin/env bash
# ./remove_stack.sh [NAME]: removes the stack NAME (func unless said) and waits until its containers have ended.
# What Prometheus has recorded stays, in the volume NAME_prometheus; images stay too.
# So does its network while services of yours are on it.
# Exit code: 0 it is gone, also when it was not there; 1 something is left, and the last line says what.
set -euo pipefail

stack=${1:-func}
timeout=60
label=com.docker.stack.namespace=$stack

containers() { docker ps --all --filter "label=$label" --format '{{.Names}}'; }
networks() { docker network ls --filter "label=$label" --format '{{.Name}}'; }

docker info --format '{{.Swarm.ControlAvailable}}' | grep -qx true || {
    echo "remove_stack: the engine is no manager of a Swarm" >&2
    exit 1
}
docker stack rm "$stack"
deadline=$((SECONDS + timeout))
while [ -n "$(containers)" ]; do
    if [ "$SECONDS" -ge "$deadline" ]; then
        echo "remove_stack: left after $timeout s: $(containers | paste -s -d ,)" >&2
        exit 1
    fi
    sleep 0.2
done
# The engine takes a moment to let the last container go from a network; a service of yours keeps it for good.
for network in $(networks); do
    deadline=$((SECONDS + 10))
    until answer=$(docker network rm "$network" 2>&1); do
        [ "$SECONDS" -lt "$deadline" ] || { echo "the network $network is kept: $answer" && break; }
        sleep 0.2
    done
done
if docker volume inspect "${stack}_prometheus" >/dev/null 2>&1; then
    echo "Prometheus's data are kept: docker volume rm ${stack}_prometheus"
fi
