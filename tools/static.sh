#!/usr/bin/env bash
# Builds dist/gateway, dist/fwatchdog and dist/catservice: musl, static, stripped.
#
# The standard library is compiled with the rest, without what prints stack traces: that alone is some 230 KB
# of each binary, and a panic still says where it happened. Three ways lead there:
#   rustup    a toolchain with the musl target and the component rust-src, fetched if need be
#   prebuilt  the same without rust-src: the library as it comes, larger binaries
#   debian    Debian's rustc-web, cargo-web, rust-web-src and musl-tools
# FAAS_STATIC_ROUTE asks for one of them; otherwise the first that works is taken. `--available` builds nothing
# and says with its exit code whether one of the first two will do.
set -euo pipefail
cd "$(dirname "$0")/.."

case "$(uname -m)" in
    armv7l) arch=armv7 abi=musleabihf ;;
    *) arch=$(uname -m) abi=musl ;;
esac
target=${FAAS_STATIC_TARGET:-$arch-unknown-linux-$abi}
target_dir=${CARGO_TARGET_DIR:-$PWD/target}
support_dir=$target_dir/static-debian/support
route_file=$target_dir/static-route
env_target=$(tr 'a-z-' 'A-Z_' <<<"$target")

say() { echo "static: $*" >&2; }

# Whether the musl target is there, fetched now if need be. A mirror that does not answer costs a minute, once.
prebuilt_route() {
    local libdir
    libdir=$(rustc --print target-libdir --target "$target" 2>/dev/null) || return 1
    compgen -G "$libdir/libstd-*.rlib" >/dev/null && return 0
    fetch target add "$target"
}

rustup_route() {
    prebuilt_route || return 1
    [ -e "$(rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock" ] || fetch component add rust-src
}

fetch() {
    command -v rustup >/dev/null || return 1
    say "rustup $*"
    RUSTUP_MAX_RETRIES=0 timeout 60 rustup "$@" >&2
}

# The files that the toolchain's own musl target would have brought.
debian_support() {
    local tool
    for tool in /usr/bin/rustc /usr/bin/cargo musl-gcc gcc; do
        if ! command -v "$tool" >/dev/null; then
            say "no target $target and no $tool: rustup target add $target, or" \
                "apt-get install rustc-web cargo-web rust-web-src musl-tools"
            return 1
        fi
    done
    mkdir -p "$support_dir"
    # The unwinder: the standard library asks for libunwind, gcc's has another name.
    echo 'INPUT(-lgcc_eh -lgcc)' >"$support_dir/libunwind.a"
    # Named by its content: cargo links anew when a flag changes, not when a file behind one does.
    unwinder=$support_dir/unwinder-$(cksum <tools/unwinder_on_musl.c | cut -d' ' -f1).o
    [ -e "$unwinder" ] || gcc -O2 -Wall -c tools/unwinder_on_musl.c -o "$unwinder"
}

# Runs cargo on the chosen route. Position-independent code is left out: it costs resident pages.
cargo_static() {
    local flags="-C relocation-model=static -C target-feature=+crt-static"
    local -a settings=() build_std=(-Z "build-std=std,panic_unwind" -Z build-std-features=)
    local cargo=cargo
    case $route in
        # The one use of an unstable option; the code itself is stable Rust.
        rustup) settings+=(RUSTC_BOOTSTRAP=1) ;;
        prebuilt) build_std=() ;;
        debian)
            cargo=/usr/bin/cargo
            settings+=(RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc "CARGO_TARGET_${env_target}_LINKER=musl-gcc")
            flags+=" -C link-self-contained=no -L native=$support_dir"
            flags+=" -L native=$(dirname "$(gcc -print-file-name=libgcc_eh.a)")"
            # The C library again, after the object that needs it.
            flags+=" -C link-arg=$unwinder -C link-arg=-l:libc.a"
            ;;
    esac
    env "${settings[@]}" "CARGO_TARGET_${env_target}_RUSTFLAGS=$flags" \
        "$cargo" "$@" --target "$target" "${build_std[@]}"
}

choose_route() {
    local asked=${FAAS_STATIC_ROUTE:-} candidate
    # A fetch that failed once is not repeated at every build; `make clean` forgets it.
    [ -n "$asked" ] || asked=$(cat "$route_file" 2>/dev/null) || asked="rustup prebuilt debian"
    for candidate in $asked; do
        case $candidate in
            rustup) rustup_route || continue ;;
            prebuilt) prebuilt_route || continue ;;
            debian) debian_support || continue ;;
            *) say "FAAS_STATIC_ROUTE: expected rustup, prebuilt or debian, got \`$candidate\`" && return 1 ;;
        esac
        route=$candidate
        mkdir -p "$target_dir"
        [ -n "${FAAS_STATIC_ROUTE:-}" ] || echo "$route" >"$route_file"
        return
    done
    return 1
}

# Puts one binary into dist/ and refuses what would not run in an empty image.
install_binary() {
    local built=$1 name=${1##*/}
    if readelf --program-headers "$built" | grep -q INTERP; then
        say "$built asks for a dynamic loader"
        return 1
    fi
    # Left alone when equal: images are built from dist/, and an unchanged file keeps their cache.
    cmp --silent "$built" "dist/$name" || install -m 755 "$built" "dist/$name"
}

if [ "${1:-}" = --available ]; then
    if rustup_route || prebuilt_route; then exit 0; else exit 1; fi
fi
choose_route || exit 1
say "building for $target with the $route toolchain"
# Each route's artefacts live apart, so that changing it rebuilds nothing of the others.
out=$target_dir/static-$route
export CARGO_TARGET_DIR=$out
cargo_static build --release --package gateway --package fwatchdog --bins
cargo_static build --release --package kit --example unwinds
cargo_static build --release --manifest-path sample-functions/Cargo.toml --package catservice
if [ "$arch-unknown-linux-$abi" = "$target" ] && ! "$out/$target/release/examples/unwinds"; then
    say "a panic cannot be caught in this build: the unwinder is missing"
    exit 1
fi
mkdir -p dist
for name in gateway fwatchdog catservice; do
    install_binary "$out/$target/release/$name"
done
ls -l dist/gateway dist/fwatchdog dist/catservice | awk '{ printf "%9d %s\n", $5, $9 }'
