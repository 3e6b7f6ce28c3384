# shellcheck shell=bash
# What with-engine.sh and swarm-lab.sh share: an engine in namespaces of its own. Sourced by them; they set `self`,
# what they call themselves.
: "${self:?}"

say() { echo "$self: $*" >&2; }

# Waits up to $1 seconds until the rest of the arguments succeed.
wait_for() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

# Fails where no engine can be started, and prints why.
can_start_engine() {
    local tool
    [ "$(id -u)" -eq 0 ] || { echo "only root can start an engine" && return 1; }
    for tool in docker dockerd containerd unshare nsenter setpriv ip iptables; do
        command -v "$tool" >/dev/null || { echo "$tool is not installed to start an engine" && return 1; }
    done
}

# An engine has plugin and namespace files at fixed places below /run: from here on they are private.
hide_engine_files() {
    mkdir -p /run/docker
    mount -t tmpfs tmpfs /run/docker
}

# start_dockerd DIRECTORY HOST GROUP: an engine with all of its files in DIRECTORY and its control groups below
# GROUP, in a session of its own. Sets `dockerd`, its process id, and returns when it answers.
start_dockerd() {
    local -x DOCKER_HOST=$2
    setsid dockerd --host "$2" --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/pid" \
        --cgroup-parent "$3" >"$1/log" 2>&1 </dev/null &
    dockerd=$!
    wait_for 60 answers_or_ended || engine_failed "$1" "dockerd does not answer"
    docker info >/dev/null 2>&1 || engine_failed "$1" "dockerd did not start"
}

answers_or_ended() { timeout 10 docker info >/dev/null 2>&1 || ! kill -0 "$dockerd" 2>/dev/null; }

# engine_failed DIRECTORY REASON: the end, with the last lines of the engine's log.
engine_failed() {
    say "$2; its last lines:"
    tail -n 15 "$1/log" >&2
    exit 1
}

# The control groups that a killed engine leaves empty below GROUP.
remove_groups() {
    local group
    for group in /sys/fs/cgroup/*"$1" /sys/fs/cgroup"$1"; do
        [ -d "$group" ] && find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
    done
    return 0
}
