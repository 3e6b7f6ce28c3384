#!/usr/bin/env bash
# Runs each fuzz target for FUZZ_SECONDS (600), one after the other, and says which failed. Starts from fuzz/seeds and
# from the inputs of earlier runs in fuzz/corpus. FUZZ_TARGETS="chunked docker" runs only these.
set -euo pipefail
cd "$(dirname "$0")/.."

lacks() {
    echo "fuzz: $1" >&2
    exit 1
}
command -v cargo-fuzz >/dev/null || lacks "cargo-fuzz is not installed: cargo install cargo-fuzz --locked"
command -v c++ >/dev/null || lacks "libFuzzer needs a C++ compiler: apt-get install g++"

seconds=${FUZZ_SECONDS:-600}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || lacks "FUZZ_SECONDS=\`$seconds\`: expected a number of seconds"
all=$(cd fuzz/targets && printf '%s ' *.rs)
read -ra targets <<<"${FUZZ_TARGETS:-${all//.rs/}}"
for target in "${targets[@]}"; do
    [ -f "fuzz/targets/$target.rs" ] || lacks "no target \`$target\`, but: ${all//.rs/}"
done

# The sockets of the stand-in engine, which a fuzzer that is stopped leaves behind.
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

# Without a sanitizer the stable compiler will do; the code that is fuzzed has no unsafe code to find bugs in.
options=(--fuzz-dir fuzz --sanitizer none --features libfuzzer)
cargo fuzz build "${options[@]}"
failed=()
for target in "${targets[@]}"; do
    corpus=fuzz/corpus/$target
    log=fuzz/artifacts/$target.log
    mkdir -p "$corpus" "fuzz/artifacts/$target"
    echo "fuzz: $target for $seconds s"
    # An input takes milliseconds; a minute for one is a hang, and not a machine that stood still.
    if cargo fuzz run "${options[@]}" "$target" "$corpus" "fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -max_len=8192 -timeout=60 -print_final_stats=1 >"$log" 2>&1; then
        coverage=$(grep -o 'DONE  *cov: [0-9]*' "$log" | grep -o '[0-9]*$' || true)
        runs=$(grep -o 'number_of_executed_units: [0-9]*' "$log" | grep -o '[0-9]*$' || true)
        echo "fuzz: $target held in ${runs:-no} executions, ${coverage:-no} places covered"
    else
        failed+=("$target")
        echo "fuzz: $target failed, see $log:" >&2
        grep -E "panicked at|ERROR: libFuzzer|Test unit written to" -A 2 "$log" | head -20 >&2 || tail "$log" >&2
    fi
done
[ ${#failed[@]} -eq 0 ] || lacks "failed: ${failed[*]}"
