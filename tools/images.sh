#!/usr/bin/env bash
# tools/images.sh [NAME...]: builds the images localhost/faas/NAME on the engine that DOCKER_HOST names, from what
# `make static` put into dist/; all that are FROM scratch unless said. Nothing is pulled.
# The stages are those of Dockerfile.musl; in the place of its builder is dist/.
# FAAS_IMAGES and FAAS_TAG are the names' first and last part, as in docker-compose.yml: localhost/faas, latest. A name
# that begins with localhost is nobody's: `faas/NAME` alone would be an image of the Docker Hub, which the engine asks
# for before it takes its own.
set -euo pipefail
cd "$(dirname "$0")/.."

images=${FAAS_IMAGES:-localhost/faas} tag=${FAAS_TAG:-latest}
# Print the output of the client only when it fails.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
stages() { sed -nE 's/^FROM [^ ]+ AS ([a-z0-9-]+)$/\1/p' Dockerfile.musl | grep -v '^builder$'; }

mapfile -t names < <(if [ $# -gt 0 ]; then printf '%s\n' "$@"; else stages; fi)
for name in "${names[@]}"; do
    if [ ! -x "dist/$name" ]; then
        echo "images: no dist/$name: run \`make static\` first" >&2
        exit 1
    fi
    { printf 'FROM scratch AS builder\nCOPY . /src/dist/\n'; sed '1,/^# --- images$/d' Dockerfile.musl; } |
        docker build --quiet --file - --target "$name" --tag "$images/$name:$tag" dist >"$log" 2>&1 ||
        { cat "$log" >&2 && exit 1; }
    # Without a size: engines count different things. The tests measure the files.
    echo "$images/$name:$tag"
done
