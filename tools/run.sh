#!/usr/bin/env bash
# Starts the gateway on the local provider with the functions that this machine can run, and says what to try.
# No root, no Docker. The settings of the gateway may be given as usual: port=9000 make run.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --package gateway --package fwatchdog
cargo build --release --manifest-path sample-functions/Cargo.toml
target=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)
samples=${CARGO_TARGET_DIR:-sample-functions/target}
samples=$(cd "$samples" && pwd)
functions_file=$target/run-functions.json

declare -a rows
add() { rows+=("    {\"name\": \"$1\", \"fprocess\": \"$2\"}"); }
have() { command -v "$1" >/dev/null; }

add catservice "$samples/release/catservice"
have wc && add wordcount "wc -w"
have sha256sum && add sha256 "sha256sum"
# The quotes are escaped once for JSON; fwatchdog splits the line as a shell would.
if have node; then
    add upper "node -e 'process.stdin.on(\\\"data\\\", d => process.stdout.write(String(d).toUpperCase()))'"
elif have python3; then
    add upper "python3 -c 'import sys; sys.stdout.write(sys.stdin.read().upper())'"
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
cat <<END

Functions (from $functions_file):
$(printf '%s\n' "${rows[@]}")

Try, from another terminal:
    curl -d hello $url/function/catservice
    curl -d hello -H 'X-Function: catservice' $url/
    curl -d '{"session": {"sessionId": "1", "application": {"applicationId": "1"}}, "request": {"intent": {"name": "catservice"}}}' $url/
    curl $url/metrics
Ctrl-C ends it.

END
provider=local functions_file=$functions_file exec "$target/release/gateway"
