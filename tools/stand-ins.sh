#!/usr/bin/env bash
# tools/stand-ins.sh [NAME...]: makes base images for the tests from the programs of this host, under the names that
# Dockerfiles and the stack use. The tests have no registry to pull from.
#
# Only on the private engine of the tests: elsewhere a stand-in would replace the real image.
# Names: alpine node python prometheus rust, by default all. The versions come from the Dockerfiles and the stack.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "stand-ins: $*" >&2; }

if [ -z "${FAAS_TEST_ENGINE_PID:-}" ]; then
    say "not an engine of the tests' own: run this in tools/with-engine.sh"
    exit 1
fi

# The image that a Dockerfile or the stack names, by the beginning of its name: `node:` is node:22-alpine.
image_called() {
    local found
    found=$(cat Dockerfile.musl docker-compose.yml sample-functions/*/Dockerfile README.md docs/*.md |
        sed -nE "s@^ *(FROM|image:) +($1[^ ]*).*@\2@p" | sort -u)
    [ -n "$found" ] || { say "no Dockerfile names $1" && return 1; }
    echo "$found"
}

# Puts files into the directory $1 under their own paths, with the shared objects that they are linked with.
put() {
    local into=$1 file
    shift
    for file in "$@"; do
        cp -a --parents "$file" "$into"
        if [ -L "$file" ]; then put "$into" "$(readlink -f "$file")"; fi
        [ -f "$file" ] || continue
        { ldd "$file" 2>/dev/null || true; } | grep -oE '/[^ )]+' | sort -u |
            while read -r object; do cp -L --parents "$object" "$into"; done
    done
}

# A shell and its programs, and the users that every base image has.
skeleton() {
    local into=$1 applet
    mkdir -p "$into"/{bin,etc,tmp,usr/bin,usr/local/bin,root}
    chmod 1777 "$into/tmp"
    cp "$(command -v busybox)" "$into/bin/busybox"
    for applet in $(busybox --list | grep -vx busybox); do ln -sf /bin/busybox "$into/bin/$applet"; done
    printf '%s\n' root:x:0:0:root:/root:/bin/sh nobody:x:65534:65534:nobody:/:/bin/false >"$into/etc/passwd"
    printf '%s\n' root:x:0: nogroup:x:65534: >"$into/etc/group"
}

# import FOLDER ARGUMENT...: the image of what is in FOLDER, under each of its names.
import() {
    local from=$1
    shift
    tar --create --directory "$from" . | import_tar "$@"
}

import_tar() {
    local image
    docker import "$@" - "${names[0]}" >/dev/null
    for image in "${names[@]}"; do
        docker tag "${names[0]}" "$image"
        say "$image"
    done
}

make_alpine() {
    skeleton "$1"
    import "$1" --change 'CMD ["/bin/sh"]'
}

make_node() {
    skeleton "$1"
    put "$1" "$(command -v node)"
    ln -s "$(command -v node)" "$1/usr/local/bin/node"
    import "$1" --change 'CMD ["node"]'
}

make_python() {
    local python library
    python=$(readlink -f /usr/bin/python3)
    skeleton "$1"
    library=/usr/lib/$(basename "$python")
    put "$1" "$python"
    tar --create --directory / "${library#/}" | tar --extract --directory "$1"
    ln -s "$python" "$1/usr/local/bin/python3"
    import "$1" --change 'CMD ["python3"]'
}

make_prometheus() {
    skeleton "$1"
    put "$1" /usr/bin/prometheus
    ln -s /usr/bin/prometheus "$1/bin/prometheus"
    mkdir -p "$1/etc/prometheus" "$1/prometheus"
    chown 65534:65534 "$1/prometheus"
    import "$1" --change 'ENTRYPOINT ["/bin/prometheus"]' --change 'USER 65534' --change 'WORKDIR /prometheus'
}

# The compilers of this host with what they need of Debian's packages, and the crates that were fetched before:
# there is no network to fetch them from. As in rust:1-alpine, builds are static by default.
make_rust() {
    local sysroot cargo_home target host
    sysroot=$(rustc --print sysroot)
    cargo_home=${CARGO_HOME:-$HOME/.cargo}
    target=$(uname -m)-unknown-linux-musl host=$(uname -m)-unknown-linux-gnu
    local -a packages=(gcc libc6-dev bash dash coreutils diffutils findutils mawk grep sed tar gzip)
    # As in tools/static.sh: Debian's compiler where rustup's has no target musl.
    if [ ! -d "$sysroot/lib/rustlib/$target" ] || [ "${FAAS_STATIC_ROUTE:-}" = debian ]; then
        packages+=(rustc-web cargo-web rust-web-src musl-tools)
    fi
    mkdir -p "$1/tmp" "$1/usr/local/bin"
    # `apk add` does nothing: this host has the packages already.
    printf '#!/bin/sh\n[ "$1" = add ]\n' >"$1/usr/local/bin/apk"
    chmod 755 "$1/usr/local/bin/apk"
    ln -s /usr/bin/gcc "$1/usr/local/bin/cc"
    ln -s /usr/bin/mawk "$1/usr/local/bin/awk"
    {
        printf '%s\n' bin lib lib64 sbin etc/passwd etc/group "${sysroot#/}/bin" "${cargo_home#/}/registry"
        find "$sysroot/lib" -type f ! -path '*/rustlib/*-linux-*' -printf '%P\n' | sed "s@^@${sysroot#/}/lib/@"
        find "$sysroot/lib/rustlib/$target" "$sysroot/lib/rustlib/$host" -type f 2>/dev/null | sed 's@^/@@'
        files_of "${packages[@]}"
    } | awk '!seen[$0]++' >"$1/files"
    say "rust: packing $(wc -l <"$1/files") files"
    tar --create --directory / --files-from "$1/files" --directory "$1" tmp usr/local/bin |
        import_tar --change "ENV PATH=$sysroot/bin:/usr/local/bin:/usr/bin:/bin" \
            --change "ENV CARGO_HOME=$cargo_home" --change "ENV CARGO_NET_OFFLINE=true" --change "ENV HOME=/tmp" \
            --change "ENV CARGO_BUILD_TARGET=$host" \
            --change "ENV CARGO_TARGET_$(tr a-z- A-Z_ <<<"$host")_RUSTFLAGS='-C target-feature=+crt-static'" \
            --change "ENV FAAS_STATIC_ROUTE=${FAAS_STATIC_ROUTE:-}"
}

# The files of installed packages and their dependencies.
files_of() {
    local -a packages
    mapfile -t packages < <(apt-cache depends --recurse --installed --no-recommends --no-suggests --no-conflicts \
        --no-breaks --no-replaces --no-enhances "$@" 2>/dev/null | grep -E '^[a-z]' | sort -u)
    # Names of virtual packages are among them. Where /bin is a link to /usr/bin, a package may say either.
    { dpkg-query --listfiles "${packages[@]}" 2>/dev/null || true; } | grep -vE '^/usr/share/(doc|man|locale|info|lintian)/' |
        sed -E 's@^/(bin|lib|lib64|sbin)/@/usr/\1/@' | sort -u |
        while read -r file; do if [ -L "$file" ] || [ -f "$file" ]; then echo "${file#/}"; fi; done
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
[ $# -gt 0 ] || set -- alpine node python prometheus rust
for name in "$@"; do
    case $name in
        alpine) mapfile -t names < <(image_called alpine) ;;
        node) mapfile -t names < <(image_called node:) ;;
        python) mapfile -t names < <(image_called python:) ;;
        prometheus) mapfile -t names < <(image_called prom/prometheus) ;;
        rust) mapfile -t names < <(image_called rust:) ;;
        *) say "expected alpine, node, python, prometheus or rust, got \`$name\`" && exit 2 ;;
    esac
    [ "${#names[@]}" -gt 0 ] || exit 1
    mkdir "$scratch/$name"
    "make_$name" "$scratch/$name"
    rm -rf "${scratch:?}/$name"
done
