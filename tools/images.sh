#!/usr/bin/env bash
# Builds the images faas/gateway, faas/fwatchdog and faas/catservice from dist/ on the engine that DOCKER_HOST
# names. Nothing is pulled: the first two are FROM scratch, the third is FROM the second.
set -euo pipefail
cd "$(dirname "$0")/.."

for name in gateway fwatchdog catservice; do
    if [ ! -x "dist/$name" ]; then
        echo "images: no dist/$name: run \`make static\` first" >&2
        exit 1
    fi
done
build() { docker build --quiet --tag "$1" --file "$2" dist; }
build faas/gateway tools/images/gateway.Dockerfile
build faas/fwatchdog tools/images/fwatchdog.Dockerfile
build faas/catservice sample-functions/catservice/Dockerfile
docker images --format '{{.Repository}}:{{.Tag}} {{.Size}}' 'faas/*'
