# shellcheck shell=bash
# What deploy_stack.sh and remove_stack.sh share; sourced by them. They set `self`, what they call themselves.
: "${self:?}"

cannot() { echo "$self: $*" >&2 && exit 2; }

# Prints the comment that the script begins with.
help_if_asked() {
    case $1 in -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" && exit ;; esac
}

# The name of the stack: the argument, or `func`. A config's name, which begins with it, has 64 characters at most.
stack_name() {
    local name=${1:-func}
    [[ $name =~ ^[a-zA-Z0-9][a-zA-Z0-9_-]{0,39}$ ]] ||
        cannot "expected a name of at most 40 letters, digits, \`_\` and \`-\` for the stack, got \`$name\`; see --help"
    echo "$name"
}

check_manager() {
    local answer
    command -v docker >/dev/null || cannot "docker is not installed"
    # Asked for first: what `docker info` prints where there is no engine differs from client to client.
    answer=$(docker version --format '{{.Server.Version}}' 2>&1) || cannot "the engine does not answer: ${answer##*$'\n'}"
    answer=$(docker info --format '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}')
    case $answer in
        "active true") ;;
        "active "*) cannot "this node is a worker: run this on a manager" ;;
        *) cannot "the engine is not in Swarm mode: run \`docker swarm init\` first" ;;
    esac
}
