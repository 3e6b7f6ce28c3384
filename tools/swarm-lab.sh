#!/usr/bin/env bash
# tools/swarm-lab.sh COMMAND...: a Swarm of several nodes on this host, to be broken. As root.
#
#   up N               starts N nodes, n1 the manager, and the attachable overlay network `functions`
#   with N COMMAND...  the same for the length of COMMAND, which runs as under `run`
#   run COMMAND...     runs COMMAND in the network of n1, with DOCKER_HOST set to its engine
#   docker NODE ...    `docker` with the engine of a node
#   copy IMAGE...      copies images of n1 to the other nodes
#   kill NODE          power failure: all processes of the node end at once, without a packet
#   cut NODE           pulls the network cable; the node goes on running
#   heal NODE          restores power and cable; returns when the manager reports the node ready
#   drain NODE, activate NODE
#   down               removes everything
#
# FAAS_SWARM_LAB is the folder of the lab: by default faas-swarm-lab below TMPDIR or /tmp, for `with` a new folder.
# COMMAND finds it set.
#
# The lab has its own namespaces, as tools/with-engine.sh has; each node has further ones, and a bridge inside joins
# them. No address, bridge or mount of this host changes. Beyond the lab there is only loopback.
set -euo pipefail

self=swarm-lab
script=$(realpath "$0")
# shellcheck source=tools/engine.sh
. "$(dirname "$script")/engine.sh"

# Bounds on the start of a node and until the manager reports it ready, and on one answer of an engine.
readonly NODE_SECONDS=90 ANSWER_SECONDS=60
readonly MANAGER=n1 NETWORK=10.77.0

cannot() { say "$*" && exit 1; }
usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$script" >&2
    exit 2
}

# --- outside of the lab ---

# Starts the namespaces under the command in the arguments, then the nodes. All end with the process `rack`.
start_rack() {
    local reason
    [[ $nodes =~ ^[1-9]$ ]] || cannot "expected 1 to 9 nodes, got \`$nodes\`"
    reason=$(can_start_engine) || cannot "$reason"
    mkdir "$lab" || cannot "is there one already? \`$script down\` takes it away"
    "$@" unshare --mount --net --pid --fork --kill-child --mount-proc "$BASH" "$script" --rack \
        >"$lab/log" 2>&1 </dev/null &
    unshare=$!
    wait_for 10 rack_is_named || { kill -KILL "$unshare" && cannot "no namespaces: $(cat "$lab/log")"; }
    enter --build "$nodes"
}

# Records the process id, and its namespace: the id may belong to another process later.
rack_is_named() {
    [ -s "$lab/namespace" ] && child_of "$unshare" >"$lab/rack"
}

# The only child of a process `unshare`.
child_of() { grep -o '[0-9]*' "/proc/$1/task/$1/children"; }

rack_is_up() {
    [ -s "$lab/rack" ] && [ "$(readlink "/proc/$(cat "$lab/rack")/ns/pid")" = "$(cat "$lab/namespace")" ]
}

rack_is_down() { ! rack_is_up; }

# Runs this script with other arguments inside.
enter() {
    local target=1
    if [ "$(readlink /proc/self/ns/pid)" != "$(cat "$lab/namespace" 2>/dev/null)" ]; then
        rack_is_up || cannot "there is none in $lab"
        target=$(cat "$lab/rack")
    fi
    nsenter --target "$target" --mount --net --pid --wd="$PWD" "$BASH" "$script" "$@"
}

down() {
    if rack_is_up; then
        kill -KILL "$(cat "$lab/rack")"
        wait_for 30 rack_is_down || cannot "processes of $lab do not end"
    fi
    remove_groups "/${lab##*/}"
    rm -rf "$lab"
}

with_lab() {
    trap down EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    # When this shell is killed, the lab ends too.
    start_rack setpriv --pdeathsig KILL
    enter --run "$@" <&0 &
    local code=0
    wait $! || code=$?
    exit "$code"
}

# --- inside ---

# The first process of the namespaces. Processes whose parents have ended become its children.
rack() {
    ip link set lo up
    ip link add lab type bridge
    ip link set lab up
    # This kernel must not filter frames between the nodes.
    [ ! -e /proc/sys/net/bridge ] || echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables
    readlink /proc/self/ns/pid >"$lab/namespace"
    while :; do
        sleep infinity &
        wait $!
    done
}

build() {
    local node token
    local -a all=()
    for node in $(seq -f "n%.0f" "$1"); do
        switch_on "$node"
        all+=("$node")
    done
    for node in "${all[@]}"; do wait_for_engine "$node"; done
    docker_of $MANAGER swarm init --advertise-addr "$(address $MANAGER)" --listen-addr "$(address $MANAGER):2377" >/dev/null
    token=$(docker_of $MANAGER swarm join-token --quiet worker)
    for node in "${all[@]:1}"; do
        docker_of "$node" swarm join --advertise-addr "$(address "$node")" --token "$token" \
            "$(address $MANAGER):2377" >/dev/null
    done
    docker_of $MANAGER network create --driver overlay --attachable functions >/dev/null
    for node in "${all[@]}"; do wait_ready "$node"; done
}

address() { echo "$NETWORK.${1#n}"; }
engine() { echo "unix://$lab/$1/docker.sock"; }
docker_of() { DOCKER_HOST=$(engine "$1") timeout "$ANSWER_SECONDS" docker "${@:2}"; }

# A node lives as long as its process `power`. Process ids are those inside the lab.
is_off() { ! { [ -s "$lab/$1/power" ] && [ -d "/proc/$(cat "$lab/$1/power")" ]; }; }
first_process() { child_of "$(cat "$lab/$1/power")"; }

switch_on() {
    local dir=$lab/$1
    mkdir -p "$dir"
    # State that a real node loses with its memory.
    rm -rf "$dir/exec" "$dir/pid" "$dir/docker.sock"
    setsid unshare --mount --net --uts --pid --fork --kill-child --mount-proc \
        "$BASH" "$script" --node "$1" >"$dir/console" 2>&1 </dev/null &
    echo $! >"$dir/power"
    wait_for 10 plug_in "$1" || cannot "$1: no network: $(cat "$dir/console")"
}

# The end in the node is eth0; the end at the bridge has the name of the node.
plug_in() {
    local first
    first=$(first_process "$1") || return 1
    ip link add "$1" type veth peer name eth0 netns "$first" || return 1
    ip link set "$1" master lab up
}

# The first process of a node.
node() {
    hide_engine_files
    hostname "$1"
    ip link set lo up
    wait_for 10 ip link show eth0 >/dev/null 2>&1 || engine_failed "$lab/$1" "no cable"
    ip address add "$(address "$1")/24" dev eth0
    ip link set eth0 up
    start_dockerd "$lab/$1" "$(engine "$1")" "/${lab##*/}/$1"
    wait "$dockerd"
}

wait_for_engine() {
    wait_for "$NODE_SECONDS" answers_or_is_off "$1" && ! is_off "$1" ||
        cannot "$1: its engine does not answer: $(cat "$lab/$1/console")"
}
answers_or_is_off() { docker_of "$1" info >/dev/null 2>&1 || is_off "$1"; }

wait_ready() {
    wait_for "$NODE_SECONDS" is_ready "$1" ||
        cannot "$1 is not ready: $(docker_of $MANAGER node ls)"
}
is_ready() {
    [ "$(docker_of "$1" info --format '{{.Swarm.LocalNodeState}}')" = active ] &&
        docker_of $MANAGER node ls --format '{{.Hostname}} {{.Status}}' | grep -qx "$1 Ready"
}

switch_off() {
    # Cut the cable first: no peer must notice the end.
    cut "$1"
    kill -KILL "$(cat "$lab/$1/power")"
    wait_for 30 is_off "$1" || cannot "$1: its processes do not end"
    ip link delete "$1"
}

cut() {
    ! is_off "$1" || cannot "$1 is switched off"
    ip link set "$1" down
}

heal() {
    if is_off "$1"; then
        switch_on "$1"
        wait_for_engine "$1"
    else
        ip link set "$1" up
    fi
    wait_ready "$1"
}

copy() {
    local dir
    for dir in "$lab"/n*/; do
        dir=${dir%/}
        [ "${dir##*/}" = $MANAGER ] || docker_of $MANAGER save "$@" | docker_of "${dir##*/}" load --quiet
    done
}

run() {
    DOCKER_HOST=$(engine $MANAGER)
    export DOCKER_HOST
    exec nsenter --target "$(first_process $MANAGER)" --net env --default-signal=INT,QUIT "$@"
}

[ $# -gt 0 ] || usage
command=$1
shift
nodes="" lab=${FAAS_SWARM_LAB:-${TMPDIR:-/tmp}/faas-swarm-lab}
if [ "$command" = with ] && [ -z "${FAAS_SWARM_LAB:-}" ]; then lab+=.$$; fi
export FAAS_SWARM_LAB=$lab DOCKER_CONFIG=$lab/config
case "$command $#" in
    "up 1") nodes=$1 && start_rack setsid ;;
    "with "[2-9]*) nodes=$1 && with_lab "${@:2}" ;;
    "down 0") down ;;
    "run "[1-9]*) enter --run "$@" ;;
    "docker "[1-9]*) DOCKER_HOST=$(engine "$1") exec docker "${@:2}" ;;
    "copy "[1-9]*) copy "$@" ;;
    "kill 1" | "cut 1" | "heal 1") enter "--$command" "$@" ;;
    "drain 1") docker_of $MANAGER node update --availability drain "$1" >/dev/null ;;
    "activate 1") docker_of $MANAGER node update --availability active "$1" >/dev/null ;;
    "--rack 0") rack ;;
    "--kill 1") switch_off "$1" ;;
    "--build 1" | "--node 1" | "--cut 1" | "--heal 1" | "--run "*) "${command#--}" "$@" ;;
    *) usage ;;
esac
