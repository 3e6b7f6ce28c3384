#!/usr/bin/env bash
# ./deploy_stack.sh [NAME]: deploys docker-compose.yml as the stack NAME (func unless said) and waits until all of
# it runs. Run again it updates what has changed.
#
# Images that are missing are built first, with Docker alone (Dockerfile.musl), unless FAAS_IMAGES says where they
# are. FAAS_DEPLOY_TIMEOUT, in seconds, is how long the services may take: 180 unless said.
# Exit code: 0 all runs; 1 something does not, and the last lines say what and why; 2 it cannot begin.
set -euo pipefail
cd "$(dirname "$0")"

stack=${1:-func}
timeout=${FAAS_DEPLOY_TIMEOUT:-180}
compose=docker-compose.yml

cannot() { echo "deploy_stack: $*" >&2 && exit 2; }

check_engine() {
    local answer
    command -v docker >/dev/null || cannot "docker is not installed"
    [[ $timeout =~ ^[0-9]+$ ]] || cannot "FAAS_DEPLOY_TIMEOUT: expected seconds, got \`$timeout\`"
    [[ $stack =~ ^[a-zA-Z0-9][a-zA-Z0-9_-]*$ ]] || cannot "expected a name for the stack, got \`$stack\`"
    answer=$(docker info --format '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}' 2>&1) ||
        cannot "the engine does not answer: $(tail -n 2 <<<"$answer" | paste -s -d ' ')"
    case $answer in
        *"active true") ;;
        "active "*) cannot "this node is a worker: run this on a manager" ;;
        *) cannot "the engine is not in Swarm mode: run \`docker swarm init\` first" ;;
    esac
}

# What docker-compose.yml takes from the environment.
settings() {
    local host=${DOCKER_HOST:-}
    [ -n "${FAAS_SOCKET:-}" ] || case $host in unix://*) export FAAS_SOCKET=${host#unix://} ;; esac
    FAAS_PROMETHEUS_SUM=$(cksum <monitor/prometheus.yml | cut -d' ' -f1)
    FAAS_ALERTS_SUM=$(cksum <monitor/alerts.yml | cut -d' ' -f1)
    export FAAS_STACK=$stack FAAS_PROMETHEUS_SUM FAAS_ALERTS_SUM
}

# --- images ---

build_missing() {
    local name image nodes log
    [ -z "${FAAS_IMAGES:-}" ] || return 0
    # What the client says is of interest only when it fails.
    log=$(mktemp)
    # shellcheck disable=SC2016 # the text of the file
    for name in fwatchdog $(sed -nE 's@^ *image: \$\{FAAS_IMAGES:-faas\}/([a-z-]+):.*@\1@p' "$compose"); do
        image=faas/$name:${FAAS_TAG:-latest}
        ! docker image inspect "$image" >/dev/null 2>&1 || continue
        echo "building $image"
        if [ -f "sample-functions/$name/Cargo.toml" ] || [ ! -d "sample-functions/$name" ]; then
            docker build --quiet --file Dockerfile.musl --target "$name" --tag "$image" .
        else
            docker build --quiet --tag "$image" "sample-functions/$name"
        fi >"$log" 2>&1 || { cat "$log" >&2 && echo "deploy_stack: failed to build $image" >&2 && exit 1; }
    done
    rm -f "$log"
    nodes=$(docker node ls --quiet | wc -l)
    [ "$nodes" -eq 1 ] || echo "of $nodes nodes only this one has the images: push them to a registry and set FAAS_IMAGES" >&2
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
    compose_file | docker stack deploy --compose-file - "$stack"
}

# --- progress ---

# The services that do not run as they should, one a line: name, replicas, and why, in the engine's words.
unfinished() {
    local id name replicas running wanted update
    docker stack services --format '{{.ID}} {{.Name}} {{.Replicas}}' "$stack" | while read -r id name replicas _; do
        update=$(docker service inspect --format '{{with .UpdateStatus}}{{.State}} {{.Message}}{{end}}' "$id")
        running=${replicas%/*} wanted=${replicas#*/}
        case $update in
            updating* | paused* | rollback_started* | rollback_paused*) echo "$name $replicas $(why "$id" "$update")" ;;
            *) [ "$running" = "$wanted" ] || echo "$name $replicas $(why "$id" "")" ;;
        esac
    done
}

# The newest error of a service's tasks, or how far the newest task is; of one that ended, its last words too.
why() {
    local id=$1 update=$2 tasks reason
    tasks=$(docker service ps --no-trunc --format '{{.Error}}|{{.CurrentState}}' "$id")
    reason=$(sed -nE 's/^(.+)\|.*/\1/p' <<<"$tasks" | head -n 1)
    [ -n "$reason" ] || reason=$(head -n 1 <<<"$tasks" | sed -E 's/^\|//; s/ (about |less than )?(an?|[0-9]+) [a-z]+ ago$//' | tr '[:upper:]' '[:lower:]')
    case $reason in
        *"non-zero exit"*) reason+=": $(timeout 5 docker service logs --raw --tail 1 "$id" 2>&1 | tail -n 1)" ;;
    esac
    echo "${update:+$update: }${reason:-no task yet}"
}

watch() {
    local deadline=$((SECONDS + timeout)) before="" now finished=0
    while :; do
        now=$(unfinished)
        # The engine may need a moment to notice that there is something to update.
        if [ -z "$now" ]; then finished=$((finished + 1)); else finished=0; fi
        [ "$finished" -lt 2 ] || return 0
        # What is new since the last look.
        { diff <(echo "$before") <(echo "$now") || true; } | sed -n 's/^> \(.\)/  \1/p'
        before=$now
        # An update that the engine has paused does not go on by itself.
        if [ -n "$now" ] && { [ "$SECONDS" -ge "$deadline" ] || ! grep -qvE '^[^ ]+ [^ ]+ (rollback_)?paused' <<<"$now"; }; then
            echo "$now" | sed 's/^/deploy_stack: /' >&2
            echo "deploy_stack: not all runs after $SECONDS of $timeout s (FAAS_DEPLOY_TIMEOUT); more: docker stack ps --no-trunc $stack" >&2
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

check_engine
settings
build_missing
deploy
watch
remove_old_configs
docker stack services --format '{{.Name}} {{.Replicas}} {{.Image}}' "$stack" | sort
cat <<END

Functions: curl -d hello http://localhost:${FAAS_PORT:-8080}/function/${stack}_catservice
Prometheus: http://localhost:${FAAS_PROMETHEUS_PORT:-9090}
Remove all of it: ./remove_stack.sh${1:+ $1}
END
