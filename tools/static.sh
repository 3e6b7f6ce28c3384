#!/usr/bin/env bash
# Builds the named binaries, or all of them: gateway, fwatchdog and every sample function in Rust. They are
# musl, static, stripped, and the same to the byte wherever the same commit is built with the same toolchain.
#
#   tools/static.sh                      everything, into dist/
#   tools/static.sh gateway fwatchdog    the two that are shipped
#   FAAS_STATIC_TARGET=aarch64-unknown-linux-musl tools/static.sh gateway     into dist/aarch64/
#
# The standard library is compiled with the rest, without what prints stack traces: that alone is some 230 KB
# of each binary, and a panic still says where it happened. Three ways lead there:
#   rustup    a toolchain with the musl target and the component rust-src, fetched if need be
#   prebuilt  the same without rust-src: the library as it comes, larger binaries
#   debian    Debian's rustc-web, cargo-web, rust-web-src and musl-tools; for another architecture also its
#             musl-dev, which brings the cross compiler
# FAAS_STATIC_ROUTE asks for one of them; otherwise the first that works is taken. `--available` builds nothing
# and says with its exit code whether one of the first two will do.
# FAAS_STATIC_OUT is another folder than dist/; FAAS_STATIC_ROOT is where musl-dev was unpacked, if not in /.
set -euo pipefail
cd "$(dirname "$0")/.."
project=$(pwd -P)

case "$(uname -m)" in
    armv7l) native=armv7-unknown-linux-musleabihf ;;
    *) native=$(uname -m)-unknown-linux-musl ;;
esac
target=${FAAS_STATIC_TARGET:-$native}
arch=${target%%-*}
if [ "$target" = "$native" ]; then destination=dist; else destination=dist/$arch; fi
destination=${FAAS_STATIC_OUT:-$destination}
target_dir=${CARGO_TARGET_DIR:-$project/target}
cargo_home=${CARGO_HOME:-$HOME/.cargo}
support_dir=$target_dir/static-debian/support-$arch
route_file=$target_dir/static-route-$arch
# How Debian names the target: its architecture, its cross compiler, and its musl.
case $arch in
    x86_64) debian_arch=amd64 debian_gcc=x86_64-linux-gnu-gcc debian_musl=x86_64-linux-musl ;;
    aarch64) debian_arch=arm64 debian_gcc=aarch64-linux-gnu-gcc debian_musl=aarch64-linux-musl ;;
    armv7) debian_arch=armhf debian_gcc=arm-linux-gnueabihf-gcc debian_musl=arm-linux-musleabihf ;;
    *) debian_arch="" debian_gcc="" debian_musl="" ;;
esac
[ "$target" != "$native" ] || debian_gcc=gcc
musl_root=${FAAS_STATIC_ROOT:-}

in_vain=""

say() { echo "static: $*" >&2; }

# Whether the musl target is there; fetches it if not. A mirror that does not answer costs a minute, once.
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
    [[ $in_vain != *"|$*|"* ]] || return 1
    say "rustup $*"
    RUST_BACKTRACE=0 RUSTUP_MAX_RETRIES=0 timeout 60 rustup "$@" >&2 && return
    in_vain+="|$*|"
    return 1
}

# The files that the toolchain's own musl target would have brought.
debian_support() {
    local tool specs
    [ -n "$debian_arch" ] || { say "no target $target: rustup target add $target" && return 1; }
    for tool in /usr/bin/rustc /usr/bin/cargo musl-gcc gcc; do
        if ! command -v "$tool" >/dev/null; then
            say "no target $target and no $tool: rustup target add $target, or" \
                "apt-get install rustc-web cargo-web rust-web-src musl-tools"
            return 1
        fi
    done
    [ -e "$musl_root/usr/lib/$debian_musl/libc.a" ] || musl_root=""
    if [ ! -e "$musl_root/usr/lib/$debian_musl/libc.a" ] || ! command -v "$debian_gcc" >/dev/null; then
        say "no target $target and no musl-dev:$debian_arch with $debian_gcc: rustup target add $target, or" \
            "dpkg --add-architecture $debian_arch && apt-get update && apt-get install musl-dev:$debian_arch"
        return 1
    fi
    mkdir -p "$support_dir"
    # musl-gcc for this target: gcc, with musl's headers and start files in the place of glibc's.
    specs=$(sed -n 's/.* -specs "\(.*\)"$/\1/p' "$(command -v musl-gcc)")
    sed "s#$(basename "$(dirname "$specs")")#$debian_musl#g; s#/usr/#$musl_root/usr/#g" "$specs" \
        >"$support_dir/specs" || return 1
    printf '#!/bin/sh\nexec %s "$@" -specs "%s"\n' "$debian_gcc" "$support_dir/specs" >"$support_dir/musl-gcc"
    chmod +x "$support_dir/musl-gcc"
    # The unwinder: the standard library asks for libunwind, gcc's has another name.
    echo 'INPUT(-lgcc_eh -lgcc)' >"$support_dir/libunwind.a"
    # Named by its content: cargo links anew when a flag changes, not when a file behind one does.
    unwinder=$support_dir/unwinder-$(cksum <tools/unwinder_on_musl.c | cut -d' ' -f1).o
    [ -e "$unwinder" ] || "$support_dir/musl-gcc" -O2 -Wall -c tools/unwinder_on_musl.c -o "$unwinder"
}

# The name of a path inside the binary. rustc takes the last match.
call() {
    local real
    real=$(realpath --canonicalize-missing "$1")
    flags+=("--remap-path-prefix=$1=$2")
    [ "$real" = "$1" ] || flags+=("--remap-path-prefix=$real=$2")
    c_flags+=" -ffile-prefix-map=$1=$2"
}

# Sets `cargo`, `rustc`, `settings` and `build_std` for the chosen route.
set_up() {
    cargo=cargo rustc=rustc settings=(RUSTC_BOOTSTRAP=1) build_std=()
    # The one use of unstable options; the code itself is stable Rust.
    [ "$route" = prebuilt ] || build_std=(-Z "build-std=std,panic_unwind" -Z build-std-features=optimize_for_size)
    [ "$route" != debian ] || cargo=/usr/bin/cargo rustc=/usr/bin/rustc
    settings+=("RUSTC=$rustc" "CARGO_TARGET_DIR=$out")
}

# Sets `flags` and `c_flags`. Position-independent code is left out: it costs resident pages. So is the code that
# formats values for debugging, since nothing that is shipped prints one; a panic shows no value then.
set_flags() {
    local registry
    flags=(-C relocation-model=static -C target-feature=+crt-static -Z fmt-debug=none) c_flags=""
    # Functions that no panic passes need no description for the unwinder; nothing here prints stack traces.
    flags+=(-C force-unwind-tables=no)
    if [ "$route" = debian ]; then
        flags+=(-C "linker=$support_dir/musl-gcc" -C link-self-contained=no)
        flags+=(-L "native=$support_dir")
        flags+=(-L "native=$(dirname "$("$debian_gcc" -print-file-name=libgcc_eh.a)")")
        # The C library again, after the object that needs it.
        flags+=(-C "link-arg=$unwinder" -C link-arg=-l:libc.a)
    else
        # The toolchain's own linker and start files: no C compiler is needed, and none leaves its mark.
        flags+=(-C linker=rust-lld -C link-self-contained=yes)
        # Keeps functions with the same code once; no code here compares their addresses.
        flags+=(-C link-arg=--icf=all -C link-arg=-O2)
        # musl's printf is 10 KB that never run: only the unwinder asks for it, to say why it is about to abort,
        # and pthread_setname_np, for another thread than its own.
        flags+=(-C link-arg=--defsym=fprintf=abort -C link-arg=--defsym=snprintf=abort)
    fi
    call "$project" /faas
    call "$target_dir" /target
    call "$cargo_home" /cargo
    # Each registry's folder has a name of its own.
    for registry in "$cargo_home"/registry/src/*/; do
        [ ! -d "$registry" ] || call "${registry%/}" /cargo/registry
    done
    call "$("$rustc" --print sysroot)/lib/rustlib/src/rust" /rust
}

# Builds what the arguments say, and lists in `messages` what it was built from.
build() {
    local manifest=$1 messages=$2
    shift 2
    # Fetch first: set_flags names the folders of the registry.
    env "${settings[@]}" "$cargo" fetch --quiet --locked --manifest-path "$manifest" --target "$target" \
        "${build_std[@]:0:2}"
    set_flags
    env "${settings[@]}" "CFLAGS_${target//-/_}=$c_flags" \
        "CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && echo "${flags[*]}")" \
        "$cargo" build --locked --release --manifest-path "$manifest" --target "$target" \
        "${build_std[@]}" --message-format=json-render-diagnostics "$@" >"$messages"
}

# Some samples bring C code along, for which cargo is told the compiler.
find_c_compiler() {
    local compiler package=musl-tools
    local -a candidates=("$support_dir/musl-gcc" musl-gcc gcc)
    if [ "$target" != "$native" ]; then
        candidates=("$support_dir/musl-gcc" "$debian_gcc") package=gcc-${debian_gcc%-gcc}
    fi
    for compiler in "${candidates[@]}"; do
        if command -v "$compiler" >/dev/null; then
            settings+=("CC_${target//-/_}=$compiler")
            return
        fi
    done
    if grep -q '^name = "cc"$' sample-functions/Cargo.lock; then
        say "samples with C code need a C compiler for $target: apt-get install $package"
        return 1
    fi
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

# A caught panic shows that the unwinder is complete; a foreign one is shown by qemu, where that is installed.
check_unwinding() {
    local emulator=""
    build Cargo.toml "$out/unwinds.json" --package kit --example unwinds
    if [ "$target" != "$native" ]; then
        emulator=qemu-${arch/armv7/arm}-static
        command -v "$emulator" >/dev/null || return 0
    fi
    if ! $emulator "$out/$target/release/examples/unwinds"; then
        say "a panic cannot be caught in this build: the unwinder is missing"
        return 1
    fi
}

# Puts one binary into its folder and refuses what would not run in an empty image.
install_binary() {
    local built=$1 name=${1##*/}
    if readelf --program-headers "$built" | grep -q INTERP; then
        say "$built asks for a dynamic loader"
        return 1
    fi
    # Left alone when equal: images are built from dist/, and an unchanged file keeps their cache.
    cmp --silent "$built" "$destination/$name" || install -m 755 "$built" "$destination/$name"
    installed+=("$destination/$name")
}

install_built() {
    local built
    while read -r built; do
        install_binary "$built"
    done < <(grep -o '"executable":"[^"]*"' "$1" | cut -d'"' -f4)
}

# What the SBOM says of the parts that no lock file names.
write_toolchain() {
    local musl unwinder
    if [ "$route" = debian ]; then
        musl=$musl_root/usr/lib/$debian_musl/libc.a
        unwinder="libgcc $("$debian_gcc" -dumpfullversion)"
    else
        musl=$("$rustc" --print target-libdir --target "$target")/self-contained/libc.a
        unwinder="libunwind $("$rustc" -vV | sed -n 's/^LLVM version: //p')"
    fi
    printf '%s\n' "target $target" "route $route" "rust $("$rustc" --version | cut -d' ' -f2)" \
        "musl $(strings "$musl" | grep -m1 -xE '1\.[0-9]+\.[0-9]+')" "$unwinder"
}

if [ "${1:-}" = --available ]; then
    if rustup_route || prebuilt_route; then exit 0; else exit 1; fi
fi
choose_route || exit 1
say "building for $target with the $route toolchain"
# A folder for each route: another route rebuilds nothing of this one.
out=$target_dir/static-$route
mkdir -p "$out" "$destination"
set_up

shipped=() samples=() installed=()
for name in "$@"; do
    if [ -e "sample-functions/$name/Cargo.toml" ]; then
        samples+=(--package "$name")
    elif [ -e "$name/src/main.rs" ]; then
        shipped+=(--package "$name")
    else
        say "expected gateway, fwatchdog or a sample function in Rust, got \`$name\`"
        exit 2
    fi
done
[ $# -gt 0 ] || shipped=(--package gateway --package fwatchdog) samples=(--workspace)

if [ ${#shipped[@]} -gt 0 ]; then
    build Cargo.toml "$destination/built-from.json" "${shipped[@]}" --bins
    write_toolchain >"$destination/built-with.txt"
    install_built "$destination/built-from.json"
    check_unwinding
fi
if [ ${#samples[@]} -gt 0 ]; then
    find_c_compiler
    build sample-functions/Cargo.toml "$out/samples.json" "${samples[@]}" --bins
    install_built "$out/samples.json"
fi
# Files of an image besides the binary.
if [ -e "$destination/webhookstash" ]; then
    rootfs=$destination/rootfs/webhookstash
    mkdir -p "$rootfs/stash" "$rootfs/bin"
    # A tmpfs mounted here belongs to root and takes this mode.
    chmod 1777 "$rootfs/stash"
    ln -sfn /webhookstash "$rootfs/bin/find"
fi
[ ${#installed[@]} -gt 0 ]
ls -l "${installed[@]}" | awk '{ printf "%9d %s\n", $5, $9 }'
