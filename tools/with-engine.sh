#!/usr/bin/env bash
# tools/with-engine.sh COMMAND...: runs COMMAND where `docker` talks to a Swarm manager.
#
# Uses an engine that answers and is a manager. Otherwise root starts a private engine for the length of COMMAND, in
# its own namespaces: processes, mounts, bridges and firewall rules end with them, also after a kill, and the host
# stays as it is. Inside, the network is loopback and what the engine makes: fetch what COMMAND needs before.
#
# COMMAND finds DOCKER_HOST set, the attachable overlay network `functions`, and in FAAS_TEST_ENGINE_PID the
# process id of dockerd when it is private and may be stopped and killed.
# FAAS_TEST_ENGINE=bare always starts a private engine, as on a new host: at the default socket, in no Swarm, without
# the network `functions`.
# Without an engine and without root: one line, exit 0; with CI=true exit 1. `--available` as the command runs
# nothing: exit 0 when a command would be run, else the same line and exit 1.
set -euo pipefail

self=with-engine
# shellcheck source=tools/engine.sh
. "$(dirname "$0")/engine.sh"

readonly STOP_SECONDS=20

skip() {
    say "skipped: $*"
    if [ "${CI:-}" = true ] || [ "$only_asked" = true ]; then exit 1; fi
    exit 0
}

is_manager() {
    [ "$(timeout 10 docker info --format '{{.Swarm.ControlAvailable}}' 2>/dev/null)" = true ]
}

# --- on an engine that is there ---

use_present() {
    local made=""
    if ! docker network inspect functions >/dev/null 2>&1; then
        docker network create --driver overlay --attachable functions >/dev/null
        made=functions
    fi
    local code=0
    "$@" || code=$?
    if [ -n "$made" ]; then docker network rm "$made" >/dev/null || say "the network $made is left behind"; fi
    exit "$code"
}

# --- outside of the private engine's namespaces ---

# Ends here, with one line, where no engine can be started.
private_is_possible() {
    local reason
    reason=$(can_start_engine) || skip "no Swarm manager answers, and $reason"
}

start_private() {
    root=$(mktemp -d "${TMPDIR:-/tmp}/faas-engine.XXXXXX")
    trap cleanup EXIT
    # A shell gives a background process an ignored SIGINT, which all of them would inherit. When this shell is
    # killed outright, `unshare` goes with it, and with that all the rest.
    env --default-signal=INT,QUIT setpriv --pdeathsig KILL \
        unshare --mount --net --pid --fork --kill-child --mount-proc \
        "$BASH" "$0" --inside "$root" "$@" <&0 &
    child=$!
    trap forward INT TERM HUP
    local code=0
    while :; do
        wait "$child" && code=0 || code=$?
        kill -0 "$child" 2>/dev/null || break # else a signal of ours ended the wait
    done
    exit "$code"
}

# `unshare` itself takes no signal; its only child is the shell inside.
forward() {
    local inside
    inside=$(cat "/proc/$child/task/$child/children" 2>/dev/null) || return 0
    # shellcheck disable=SC2086 # a list of process ids
    kill -TERM $inside 2>/dev/null || true
}

# What a killed engine may leave on the host: its files and its empty control groups.
cleanup() {
    remove_groups "/${root##*/}"
    rm -rf "$root"
}

# --- inside ---

run_inside() {
    root=$1
    shift
    command_pid=""
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap stop_engine EXIT
    if [ "${FAAS_TEST_ENGINE:-}" = bare ]; then
        mount -t tmpfs tmpfs /run
    fi
    hide_engine_files
    ip link set lo up
    start_engine
    local code=0
    # Waited for in the background, so that a signal is acted upon at once.
    env --default-signal=INT,QUIT "$@" <&0 &
    command_pid=$!
    wait "$command_pid" || code=$?
    command_pid=""
    exit "$code"
}

start_engine() {
    export DOCKER_HOST=unix://$root/docker.sock
    if [ "${FAAS_TEST_ENGINE:-}" = bare ]; then DOCKER_HOST=unix:///var/run/docker.sock; fi
    export DOCKER_CONFIG=$root/config
    start_dockerd "$root" "$DOCKER_HOST" "/${root##*/}"
    export FAAS_TEST_ENGINE_PID=$dockerd
    if [ "${FAAS_TEST_ENGINE:-}" = bare ]; then
        # What `docker swarm init` finds on a host: one address that is not loopback. Its cable leads nowhere.
        ip link add eth0 type veth peer name eth0-end
        ip address add 192.0.2.1/24 dev eth0
        ip link set eth0-end up
        ip link set eth0 up
        return
    fi
    docker swarm init --advertise-addr 127.0.0.1 >/dev/null || engine_failed "$root" "no swarm"
    docker network create --driver overlay --attachable functions >/dev/null || engine_failed "$root" "no network"
}

# Orderly first, so that containers and their control groups are removed by the engine itself. What is left
# is killed by the kernel when this shell, the first process of its namespace, ends.
stop_engine() {
    trap '' INT TERM
    if [ -n "$command_pid" ]; then kill -TERM "$command_pid" 2>/dev/null || true; fi
    kill -CONT "$FAAS_TEST_ENGINE_PID" 2>/dev/null || return 0
    timeout "$STOP_SECONDS" docker swarm leave --force >/dev/null 2>&1 || true
    wait_for "$STOP_SECONDS" no_containers || say "containers were left running"
    kill -TERM "$FAAS_TEST_ENGINE_PID" 2>/dev/null || return 0
    wait_for "$STOP_SECONDS" engine_ended || say "dockerd had to be killed"
}

no_containers() { [ -z "$(timeout 10 docker ps --quiet 2>/dev/null)" ]; }
engine_ended() { ! kill -0 "$FAAS_TEST_ENGINE_PID" 2>/dev/null; }

only_asked=false
if [ $# -eq 0 ]; then
    say "expected a command to run"
    exit 2
fi
if [ "$1" = --inside ]; then
    FAAS_TEST_ENGINE_PID=""
    run_inside "${@:2}"
fi
if [ "$1" = --available ]; then only_asked=true; fi
if [ "${FAAS_TEST_ENGINE:-}" != bare ] && command -v docker >/dev/null && is_manager; then
    if $only_asked; then exit 0; fi
    use_present "$@"
fi
private_is_possible
if $only_asked; then exit 0; fi
start_private "$@"
