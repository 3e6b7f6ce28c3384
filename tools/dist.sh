#!/usr/bin/env bash
# Makes dist/release/: for each architecture an archive of the shipped binaries, the licences of all that is
# inside them and a list of it (SBOM), and SHA256SUMS beside them. The same commit and the same toolchain give
# the same bytes: `--check` makes it twice, in two clones in different places, and compares.
#
# FAAS_DIST_ARCHES names the architectures, FAAS_DIST_DIRTY=1 allows what is not committed, and
# SOURCE_DATE_EPOCH is the time that the files carry in place of the commit's.
set -euo pipefail
cd "$(dirname "$0")/.."

read -ra arches <<<"${FAAS_DIST_ARCHES:-x86_64 aarch64 armv7}"
# Not `prebuilt`: nothing lists the packages of that library.
export FAAS_STATIC_ROUTE=${FAAS_STATIC_ROUTE:-rustup debian}
release=dist/release
# The same order of names on every machine.
export LC_ALL=C

say() { echo "dist: $*" >&2; }

triple() {
    case $1 in
        x86_64 | aarch64) echo "$1-unknown-linux-musl" ;;
        armv7) echo armv7-unknown-linux-musleabihf ;;
        *) say "FAAS_DIST_ARCHES: expected x86_64, aarch64 or armv7, got \`$1\`" && return 2 ;;
    esac
}

# The binaries of one architecture, in dist/ARCH.
build() {
    local arch=$1 target others
    target=$(triple "$arch") || return
    if ! FAAS_STATIC_TARGET=$target FAAS_STATIC_OUT=dist/$arch tools/static.sh gateway fwatchdog >&2; then
        others=" ${arches[*]} "
        others=$(xargs <<<"${others/ $arch / }")
        say "$arch cannot be built here, for the reason above${others:+; FAAS_DIST_ARCHES=\"$others\" leaves it out}"
        return 1
    fi
}

# One archive: sorted names, fixed times, owners and modes.
pack() {
    local arch=$1 name=faas-$version-$1 stage
    stage=$(mktemp -d)
    mkdir "$stage/$name"
    install -m 755 "dist/$arch/gateway" "dist/$arch/fwatchdog" "$stage/$name"
    install -m 644 LICENSE README.md "$stage/$name"
    cargo run --quiet --locked --package release -- "dist/$arch" "$stage/$name" "$version" \
        "$(date --utc --date="@$epoch" +%FT%TZ)"
    (cd "$stage/$name" && sha256sum -- * >../sums && mv ../sums SHA256SUMS)
    tar --create --directory="$stage" --format=ustar --sort=name --mtime="@$epoch" --mode=u=rwX,go=rX \
        --owner=0 --group=0 --numeric-owner "$name" | gzip --no-name -9 >"$release/$name.tar.gz"
    rm -r "$stage"
}

make_release() {
    local arch
    if [ -n "$(git status --porcelain)" ] && [ "${FAAS_DIST_DIRTY:-}" != 1 ]; then
        say "there are changes that are not committed; FAAS_DIST_DIRTY=1 goes on all the same"
        return 1
    fi
    # Ten digits: git would choose more in a larger repository.
    version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
    version+=-$(git rev-parse HEAD | cut -c1-10)
    epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
    for arch in "${arches[@]}"; do
        build "$arch"
    done
    rm -rf "$release"
    mkdir -p "$release"
    for arch in "${arches[@]}"; do
        pack "$arch"
    done
    (cd "$release" && sha256sum -- *.tar.gz | tee SHA256SUMS)
}

# A clone of this commit in the folder $1, with its own copy of what was downloaded, and the release from it.
release_in_clone() {
    local place=$1 cargo_home=${CARGO_HOME:-$HOME/.cargo} part
    mkdir -p "$place/cargo"
    for part in registry/cache registry/index config.toml; do
        [ ! -e "$cargo_home/$part" ] || (cd "$cargo_home" && cp --archive --parents "$part" "$place/cargo")
    done
    git clone --quiet . "$place/faas"
    git -C "$place/faas" checkout --quiet --detach "$(git rev-parse HEAD)"
    env --unset=CARGO_TARGET_DIR CARGO_HOME="$place/cargo" "$place/faas/tools/dist.sh" >"$place/sums"
}

check() {
    checked=$(mktemp -d)
    trap 'rm -rf "$checked"' EXIT
    release_in_clone "$checked/one"
    release_in_clone "$checked/another/place"
    if ! diff "$checked/one/sums" "$checked/another/place/sums"; then
        say "two builds of one commit differ"
        return 1
    fi
    cat "$checked/one/sums"
    say "two builds in different folders are the same"
}

case ${1:-} in
    --check) check ;;
    "") make_release ;;
    *) say "expected --check or nothing, got \`$1\`" && exit 2 ;;
esac
