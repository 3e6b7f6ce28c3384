#!/usr/bin/env bash
# Starts the gateway on the local provider with the functions that this machine can run, and says what to try.
# No root, no Docker. The settings of the gateway may be given as usual: port=9000 make run.
set -euo pipefail
cd "$(dirname "$0")/.."

# Checked before the build, which takes a minute.
if (exec 3<>"/dev/tcp/127.0.0.1/${port:-8080}") 2>/dev/null; then
    echo "run: port ${port:-8080} is taken: port=9000 make run takes another" >&2
    exit 1
fi
cargo build --release --package gateway --package fwatchdog
# Without hubstats: its TLS takes longer to build than all the others.
cargo build --release --manifest-path sample-functions/Cargo.toml --workspace --exclude hubstats
target=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)
samples=$(cd "${CARGO_TARGET_DIR:-sample-functions/target}" && pwd)/release
functions_file=$target/run-functions.json
stash=$target/run-stash
mkdir -p "$stash"

declare -a rows
# add NAME FPROCESS [CONTENT_TYPE [DIRECTORY]]
add() {
    local row="\"name\": \"$1\", \"fprocess\": \"$2\""
    [ -z "${3:-}" ] || row+=", \"environment\": {\"content_type\": \"$3\"}"
    [ -z "${4:-}" ] || row+=", \"directory\": \"$4\""
    rows+=("    {$row}")
}
have() { command -v "$1" >/dev/null; }

text="text/plain; charset=utf-8"
add catservice "$samples/catservice"
add wordcount "$samples/wordcount" "$text"
add webhookstash "$samples/webhookstash" "$text" "$stash"
add hostname-intent "$samples/hostname-intent" application/json
add resize "$samples/resize" image/png
tries=""
if have node; then
    add nodeinfo "node handler.js" "$text" "$PWD/sample-functions/nodeinfo"
    tries+="    curl -d verbose URL/function/nodeinfo"$'\n'
fi
if have python3; then
    add hello-python "python3 handler.py" "$text" "$PWD/sample-functions/hello-python"
    tries+="    curl -d Ada URL/function/hello-python"$'\n'
fi
{
    echo '{"functions": ['
    for index in "${!rows[@]}"; do
        [ "$index" -eq 0 ] || echo ","
        printf '%s' "${rows[$index]}"
    done
    printf '\n]}\n'
} >"$functions_file"

url=http://localhost:${port:-8080}
[ "${port:-8080}" != 0 ] || url=http://localhost:PORT # as the last line of the log says
cat <<END

Functions (from $functions_file):
$(printf '%s\n' "${rows[@]}")

Try, from another terminal:
    curl -d hello $url/function/catservice
    curl -d hello -H 'X-Function: catservice' $url/
    curl -d 'one two three' $url/function/wordcount
    curl -d '{"event": "fork"}' $url/function/webhookstash && ls $stash
    curl -d '{"session": {"sessionId": "1", "application": {"applicationId": "1"}}, "request": {"intent": {"name": "hostname-intent"}}}' $url/
${tries//URL/$url}    curl $url/metrics
Ctrl-C ends it.

END
provider=local functions_file=$functions_file exec "$target/release/gateway"
