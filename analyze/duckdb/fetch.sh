#!/usr/bin/env bash
# Puts the prebuilt DuckDB library into target/duckdb, once, and writes into target/duckdb/features
# what cargo must be told: nothing, or `--features analyze/bundled` where there is no prebuilt one.
#
# An archive counts only when its checksum is the one in archives.sha512; the library appears under
# its name only when it is whole. WEIR_ARCHIVES names a directory that keeps archives between
# clones; BUNDLED=1 compiles DuckDB from source wherever we are.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$root/target/duckdb
archives=${WEIR_ARCHIVES:-$out}
version=1.5.5-r.5

fail() {
    printf 'duckdb: %s\n' "$@" >&2
    exit 1
}

# What cargo is told is rewritten only when it changes, and whole.
choose() {
    printf '%s\n' "$1" >"$out/features.new"
    mv "$out/features.new" "$out/features"
}

bundled() {
    if [[ ! -f $out/features || $(<"$out/features") != --features* ]]; then
        echo "duckdb: $1"
        echo "duckdb: compiling it from source instead: 15 to 20 minutes on two cores, once."
    fi
    choose '--features analyze/bundled'
    exit 0
}

checked() {
    local sum
    sum=$(awk -v name="$(basename "$1")" '$2 == name { print $1 }' "$here/archives.sha512")
    [[ -n $sum ]] || fail "no checksum of $(basename "$1") in $here/archives.sha512"
    if command -v sha512sum >/dev/null; then
        sha512sum --check --status <<<"$sum  $1"
    else
        shasum -a 512 --check --status <<<"$sum  $1"
    fi
}

mkdir -p "$out" "$archives"
[[ ${BUNDLED:-0} != 1 ]] || bundled 'asked for the bundled build.'

host=$(rustc -vV | sed -n 's/^host: //p')
library=libduckdb.so
case $host in
x86_64-unknown-linux-gnu) platform=linux-x64 ;;
aarch64-unknown-linux-gnu) platform=linux-arm64 ;;
x86_64-apple-darwin) platform=darwin-x64 library=libduckdb.dylib ;;
aarch64-apple-darwin) platform=darwin-arm64 library=libduckdb.dylib ;;
*) bundled "there is no prebuilt library for $host." ;;
esac

# The library says which version it is, so that a newer clone does not go on with an older one.
if [[ -f $out/$library && -f $out/version && $(<"$out/version") == "$version" ]]; then
    choose ''
    exit 0
fi

scratch=$(mktemp -d "$out/fetch.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
archive=$archives/duckdb-node-bindings-$platform-$version.tgz
if [[ ! -f $archive ]] || ! checked "$archive"; then
    command -v npm >/dev/null || bundled 'npm, which fetches the prebuilt library (24 MB), is not here.'
    echo "duckdb: fetching the prebuilt library for $platform (24 MB)"
    (cd "$scratch" && npm pack --silent "@duckdb/node-bindings-$platform@$version" </dev/null >/dev/null) ||
        fail "npm could not fetch @duckdb/node-bindings-$platform@$version." \
            'Try again when the network is back, or compile it from source: BUNDLED=1 make'
    fetched=$scratch/$(basename "$archive")
    [[ -f $fetched ]] || fail "npm fetched, but not $(basename "$archive")."
    checked "$fetched" ||
        fail "the checksum of $(basename "$archive") is not the one in analyze/duckdb/archives.sha512." \
            'Nothing of it was used. Try again; if it stays so, do not trust the source.'
    # Two steps, because the archives may lie on another file system.
    cp "$fetched" "$archive.$$" && mv "$archive.$$" "$archive"
fi

tar -xzf "$archive" -C "$scratch" "package/$library" package/LICENSE
# Files in the archive are dated 1985, which would look older than everything built from them.
touch "$scratch/package/$library"
mv "$scratch/package/LICENSE" "$out/LICENSE"
mv "$scratch/package/$library" "$out/$library"
printf '%s\n' "$version" >"$out/version"
choose ''
