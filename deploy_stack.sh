#!/usr/bin/env bash
# usage: ./deploy_stack.sh [NAME]
# Deploys docker-compose.yml as the stack NAME (func unless said) and waits until all of it runs. Run again it updates
# what has changed. Images that are missing are built first, with Docker alone, unless FAAS_IMAGES says where they are.
#
# Settings: FAAS_PORT (8080), FAAS_PROMETHEUS_PORT (9090), FAAS_IMAGES (localhost/faas), FAAS_TAG (latest),
# FAAS_SOCKET, FAAS_HUB_URL, FAAS_TRUSTED_PROXIES, FAAS_DEPLOY_TIMEOUT (180, in seconds); docs/swarm.md explains them.
# Exit code: 0 all runs; 1 something does not, and the last lines say what and why; 2 it cannot begin.
set -euo pipefail
cd "$(dirname "$0")"

readonly self=deploy_stack compose=docker-compose.yml
# How long a task must have run to count, and how long a port may be taken by what is just ending, in seconds.
readonly stable=5 port_patience=15

# shellcheck source=tools/stack.sh
source tools/stack.sh
help_if_asked "${1:-}"
stack=$(stack_name "${1:-}")
timeout=${FAAS_DEPLOY_TIMEOUT:-180}
[[ $timeout =~ ^[0-9]{1,5}$ ]] || cannot "FAAS_DEPLOY_TIMEOUT: expected seconds, got \`$timeout\`"
timeout=$((10#$timeout))

check_port() {
    [[ $2 =~ ^[0-9]{1,5}$ ]] && ((10#$2 >= 1 && 10#$2 <= 65535)) || cannot "$1: expected a port, got \`$2\`"
}
check_port FAAS_PORT "${FAAS_PORT:-8080}"
check_port FAAS_PROMETHEUS_PORT "${FAAS_PROMETHEUS_PORT:-9090}"
check_manager
exec 9<"$compose"
flock --nonblock 9 || cannot "another deployment from this folder is running"

# What the client says is of interest only when it fails.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# What docker-compose.yml takes from the environment.
settings() {
    local host=${DOCKER_HOST:-}
    [ -n "${FAAS_SOCKET:-}" ] || case $host in unix://*) export FAAS_SOCKET=${host#unix://} ;; esac
    FAAS_PROMETHEUS_SUM=$(cksum <monitor/prometheus.yml | cut -d' ' -f1)
    FAAS_ALERTS_SUM=$(cksum <monitor/alerts.yml | cut -d' ' -f1)
    export FAAS_STACK=$stack FAAS_PROMETHEUS_SUM FAAS_ALERTS_SUM
}

# --- images ---

build() {
    local name=$1 image=$2
    if [ -f "sample-functions/$name/Cargo.toml" ] || [ ! -d "sample-functions/$name" ]; then
        docker build --quiet --file Dockerfile.musl --target "$name" --tag "$image" .
    else
        docker build --quiet --build-arg "FWATCHDOG=localhost/faas/fwatchdog:${FAAS_TAG:-latest}" \
            --tag "$image" "sample-functions/$name"
    fi
}

build_missing() {
    local name image nodes said=""
    [ -z "${FAAS_IMAGES:-}" ] || return 0
    # shellcheck disable=SC2016 # the text of the file
    for name in fwatchdog $(sed -nE 's@^ *image: \$\{FAAS_IMAGES:-localhost/faas\}/([a-z-]+):.*@\1@p' "$compose"); do
        image=localhost/faas/$name:${FAAS_TAG:-latest}
        ! docker image inspect "$image" >/dev/null 2>&1 || continue
        [ -n "$said" ] || echo "building the images that are missing, from source: the first one takes some minutes"
        said=yes
        echo "  $image"
        build "$name" "$image" >"$log" 2>&1 || { cat "$log" >&2 && echo "$self: failed to build $image" >&2 && exit 1; }
    done
    nodes=$(docker node ls --quiet | wc -l)
    [ "$nodes" -eq 1 ] || echo "of $nodes nodes only this one has the images: push them to a registry and set FAAS_IMAGES" >&2
}

# --- the password of /system and /ui ---

has_secret() { docker secret inspect "$1" >/dev/null 2>&1; }

make_secret() {
    docker secret create "$1" - >"$log" 2>&1 ||
        { cat "$log" >&2 && echo "$self: failed to create the secret $1" >&2 && exit 1; }
}

write_password() {
    local password
    password=$(od -A n -N 16 -t x1 /dev/urandom | tr -d ' \n') && [ "${#password}" -eq 32 ] || return
    (umask 077 && mkdir -p "${1%/*}" && printf %s "$password" >"$1.new") && mv "$1.new" "$1"
}

# A Swarm without a password gets one. The engine never shows a secret again, so a file keeps it too.
make_password() {
    local home=${XDG_CONFIG_HOME:-${HOME:+$HOME/.config}}
    password_file=""
    has_secret basic-auth-user || printf admin | make_secret basic-auth-user
    ! has_secret basic-auth-password || return 0
    [ -n "$home" ] || cannot "HOME is not set: it is where the password of /system is to be kept"
    password_file=$home/faas/basic-auth-password
    # The file of an earlier Swarm is used again rather than overwritten.
    [ -s "$password_file" ] || write_password "$password_file" || cannot "$password_file cannot be written"
    make_secret basic-auth-password <"$password_file"
}

# --- deployment ---

# The file as the engine gets it: a network `functions` that is not this stack's own is used as it is.
compose_file() {
    local owner
    owner=$(docker network inspect --format '{{index .Labels "com.docker.stack.namespace"}}' functions 2>/dev/null) || owner=$stack
    if [ "$owner" = "$stack" ]; then
        cat "$compose"
    else
        sed -E 's/^(    )driver: overlay .*/\1external: true/; /^    attachable: true$/d' "$compose"
    fi
}

deploy() {
    # Images that were built here are in no registry, and none is to be asked for them.
    local resolve=never
    [ -z "${FAAS_IMAGES:-}" ] || resolve=changed
    compose_file | docker stack deploy --resolve-image "$resolve" --compose-file - "$stack" >"$log" 2>&1 ||
        { cat "$log" >&2 && echo "$self: failed to deploy $stack" >&2 && exit 1; }
}

# --- progress ---

# The names of the services in the file.
expected() { sed -nE '/^services:/,/^[a-z]+:/s/^  ([a-z-]+):( &function)?$/\1/p' "$compose" | sed "s/^/${stack}_/"; }

# The services that do not run as they should, one a line: name, replicas, and why, in the engine's words.
unfinished() {
    local name id replicas services
    services=$(docker stack services --format '{{.Name}} {{.ID}} {{.Replicas}}' "$stack" 2>&1) ||
        { echo "$stack ?/? the engine does not answer: ${services##*$'\n'}" && return; }
    expected | while read -r name; do
        read -r id replicas _ <<<"$(sed -n "s/^$name //p" <<<"$services")"
        if [ -z "$id" ]; then
            echo "$name 0/? has been removed"
        else
            unfinished_service "$name" "$id" "$replicas" || echo "$name $replicas the engine does not answer"
        fi
    done
}

# Fails when the engine does.
unfinished_service() {
    local name=$1 id=$2 replicas=$3 update tasks running
    update=$(docker service inspect --format '{{with .UpdateStatus}}{{.State}} {{.Message}}{{end}}' "$id" 2>/dev/null) || return
    tasks=$(docker service ps --quiet --no-trunc "$id" 2>/dev/null) || return
    # shellcheck disable=SC2086 # a list of ids; of a task that was forgotten since there is no line
    [ -z "$tasks" ] || tasks=$(docker inspect --type task --format \
        '{{.CreatedAt.Unix}}|{{.DesiredState}}|{{.Status.State}}|{{.Status.Timestamp.Unix}}|{{.Status.Err}}' \
        $tasks 2>/dev/null) || true
    running=$(awk -F '|' -v now="$(date +%s)" -v stable="$stable" \
        '$2 == "running" && $3 == "running" && now - $4 >= stable' <<<"$tasks" | wc -l)
    case $update in
        updating* | paused* | rollback_started* | rollback_paused*) ;;
        *) [ "$running" -lt "${replicas#*/}" ] || return 0 ;;
    esac
    echo "$name $replicas $(why "$name" "$id" "$update" "$tasks")"
}

# The newest error of the tasks of this deployment, or how far the newest task is.
why() {
    local name=$1 id=$2 update=$3 tasks=$4 reason
    reason=$(awk -F '|' -v began="$began" '$1 >= began && $5 != "" { print $5; exit }' <<<"$tasks")
    [ -n "$reason" ] || reason=$(awk -F '|' '$2 == "running" { print ($3 == "running" ? "has just started" : $3); exit }' <<<"$tasks")
    case $reason in
        *"port already in use"* | *"address already in use"*) taken "$name" && return ;;
        # The same in the words of different engines, and of registries: docs/errors.md.
        *[Nn]"o such image"* | *"failed to resolve reference"* | *"manifest unknown"* | *"pull access denied"* | \
            *"no matching manifest"* | *"no match for platform"*)
            reason="image $(image_of "$id") is missing: $reason; build it on the node, or set FAAS_IMAGES and FAAS_TAG"
            ;;
        *"non-zero exit"*) reason+=": $(timeout 5 docker service logs --raw --tail 1 "$id" 2>&1 | tail -n 1)" ;;
    esac
    case $update in *paused*) reason="${update#* }${reason:+; $reason}" ;; esac
    echo "${reason:-no task yet}"
}

image_of() { docker service inspect --format '{{.Spec.TaskTemplate.ContainerSpec.Image}}' "$1" 2>/dev/null || true; }

taken() {
    case $1 in
        *_gateway) echo "port ${FAAS_PORT:-8080} is taken on this node: set FAAS_PORT" ;;
        *) echo "port ${FAAS_PROMETHEUS_PORT:-9090} is taken on this node: set FAAS_PROMETHEUS_PORT" ;;
    esac
}

# Whether what is unfinished will not be finished by waiting: an update that was paused, a port that stays taken.
is_hopeless() {
    if ! grep -qv ' update paused due to ' <<<"$1"; then return 0; fi
    if grep -q ' is taken on this node: ' <<<"$1"; then taken_for=$((taken_for + 1)); else taken_for=0; fi
    [ "$taken_for" -ge "$port_patience" ]
}

watch() {
    local deadline=$((SECONDS + timeout)) started=$SECONDS before="" now finished=0 taken_for=0
    while :; do
        now=$(unfinished)
        # The engine may need a moment to notice that there is something to update.
        if [ -z "$now" ]; then finished=$((finished + 1)); else finished=0; fi
        [ "$finished" -lt 2 ] || return 0
        # What is new since the last look.
        { diff <(echo "$before") <(echo "$now") || true; } | sed -n 's/^> \(.\)/  \1/p'
        before=$now
        if [ -n "$now" ] && { [ "$SECONDS" -ge "$deadline" ] || is_hopeless "$now"; }; then
            sed "s/^/$self: /" <<<"$now" >&2
            echo "$self: not all runs after $((SECONDS - started)) of $timeout s (FAAS_DEPLOY_TIMEOUT); more: docker stack ps --no-trunc $stack" >&2
            return 1
        fi
        sleep 1
    done
}

# An older deployment's configurations; one that is still in use is refused.
remove_old_configs() {
    local name
    for name in $(docker config ls --filter "label=com.docker.stack.namespace=$stack" --format '{{.Name}}'); do
        case $name in
            "$stack-prometheus-$FAAS_PROMETHEUS_SUM" | "$stack-alerts-$FAAS_ALERTS_SUM") ;;
            *) docker config rm "$name" >/dev/null 2>&1 || true ;;
        esac
    done
}

settings
build_missing
make_password
began=$(date +%s)
deploy
watch
remove_old_configs
docker stack services --format '{{.Name}} {{.Replicas}} {{.Image}}' "$stack" | sort
cat <<END

Functions: curl -d hello http://localhost:${FAAS_PORT:-8080}/function/${stack}_catservice
Management: /system asks for the user and the password of the secrets basic-auth-user and basic-auth-password
Prometheus: http://localhost:${FAAS_PROMETHEUS_PORT:-9090}
Remove all of it: ./remove_stack.sh${1:+ $1}
END
[ -z "$password_file" ] || cat <<END

A password was made, which is said this once. It is in a file that only you can read:
  curl --user "admin:\$(cat $password_file)" http://localhost:${FAAS_PORT:-8080}/system/functions
END
