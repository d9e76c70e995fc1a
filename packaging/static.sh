#!/usr/bin/env bash
# Builds the program as one file that needs no library of the system: `packaging/static.sh [FOLDER]` writes it into FOLDER
# (target/static). It runs on any Linux of its architecture from 5.10 on, in a container with nothing else in it.
#
# PROFILE=dev builds fast. Needs libc6-dev (libc.a), file and binutils.

set -Eeuo pipefail
trap 'echo "packaging/static.sh: line $LINENO: failed: $BASH_COMMAND" >&2' ERR
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for needed in cargo file strip nm; do
    command -v "$needed" >/dev/null || { echo "$needed is missing: apt-get install file binutils" >&2 && exit 1; }
done

profile=${PROFILE:-release}
target=${CARGO_TARGET_DIR:-$PWD/target}
out=$(realpath -m "${1:-$target/static}")
host=$(rustc -vV | sed -n 's/^host: //p')

# The target is named, so that build scripts and macros, which must load, are not linked like that. A static program cannot
# look functions up, and without the other setting would take /dev/urandom for a kernel without getrandom(2).
RUSTFLAGS="${RUSTFLAGS-} -C target-feature=+crt-static --cfg getrandom_backend=\"linux_getrandom\" --remap-path-prefix=$PWD=/usr/src/latchway --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/usr/src/cargo" \
    CARGO_TARGET_DIR=$target/static-build cargo build --locked --profile "$profile" --target "$host" --bin latchway
built=$target/static-build/$host/${profile/#dev/debug}/latchway

file --brief "$built" | grep -E 'static(-pie|ally) linked' >/dev/null || { file "$built" >&2 && exit 1; }
# glibc answers these by loading libraries, also in a static program: none of them may be left in it.
if nm "$built" | grep -E ' [A-Za-z] _*(getaddrinfo|getnameinfo|gethostby(name|addr)|get(pw|gr)(nam|uid|gid)|getgrouplist|initgroups)2?(_r)?$'; then
    echo "the program would load libraries of the system" >&2
    exit 1
fi
install -D --strip -m 755 "$built" "$out/latchway"
echo "$out/latchway: $(file --brief "$out/latchway" | cut -d, -f1-4), $(stat -c %s "$out/latchway") octets"
