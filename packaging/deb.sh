#!/usr/bin/env bash
# Builds the Debian package: `packaging/deb.sh [FOLDER]` writes latchway_VERSION_ARCHITECTURE.deb into FOLDER (target/debian).
#
# Two builds of one commit on one release of Debian with one Rust give the same octets: times come from the commit, paths
# are cut off. PROFILE=dev builds fast, for trying the package itself. Needs dpkg-dev and binutils.

set -Eeuo pipefail
trap 'echo "packaging/deb.sh: line $LINENO: failed: $BASH_COMMAND" >&2' ERR
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for needed in cargo ar dpkg-deb dpkg-shlibdeps ld nm objcopy strip; do
    command -v "$needed" >/dev/null || { echo "$needed is missing: apt-get install dpkg-dev binutils" >&2 && exit 1; }
done

profile=${PROFILE:-release}
target=${CARGO_TARGET_DIR:-$PWD/target}
out=$(realpath -m "${1:-$target/debian}")
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
architecture=$(dpkg --print-architecture)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

main() {
    root=$(mktemp -d)
    trap 'rm -rf "$root"' EXIT
    chmod 755 "$root"
    build
    binary_and_manual
    library
    units
    configuration
    documentation
    control
    # Modes and times do not depend on who builds, or when.
    find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
    mkdir -p "$out"
    dpkg-deb --root-owner-group -Zxz --build "$root" "$out/latchway_${version}_$architecture.deb"
}

# In a folder of its own: the flags would have everything else built again.
build() {
    local flags="${RUSTFLAGS-} --remap-path-prefix=$PWD=/usr/src/latchway --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/usr/src/cargo" of
    for of in "--package latchway --bin latchway" "--package latchway-capi --lib"; do
        # shellcheck disable=SC2086
        RUSTFLAGS=$flags CARGO_TARGET_DIR=$target/deb cargo build --locked --profile "$profile" $of
    done
    built=$target/deb/${profile/#dev/debug}/latchway
    # A thread that is cancelled leaves through this one, which wants a profile of its own for a release.
    of=${profile/#release/shim}
    RUSTFLAGS=$flags CARGO_TARGET_DIR=$target/deb cargo build --locked --profile "$of" --package latchway-view --lib
    shim=$target/deb/${of/#dev/debug}/liblatchway_shim.so
}

binary_and_manual() {
    install -D --strip -m 755 "$built" "$root/usr/bin/latchway"
    mkdir -p "$root"/usr/share/{man/man1,bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d}
    "$built" man --out "$root/usr/share/man/man1"
    gzip -9n "$root"/usr/share/man/man1/*
    "$built" completions bash >"$root/usr/share/bash-completion/completions/latchway"
    "$built" completions zsh >"$root/usr/share/zsh/vendor-completions/_latchway"
    "$built" completions fish >"$root/usr/share/fish/vendor_completions.d/latchway.fish"
    chmod 644 "$root"/usr/share/man/man1/* "$root"/usr/share/*/{completions,vendor-completions,vendor_completions.d}/*
}

# The C library, for programs and for those who build them. Of the static one only the functions of the header are to be seen.
library() {
    local lib=usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH) page functions
    install -D --strip --strip-program=strip -m 644 "${built%/*}/liblatchway.so" "$root/$lib/liblatchway.so.0"
    ln -s liblatchway.so.0 "$root/$lib/liblatchway.so"
    functions=$(nm -D --defined-only --format=just-symbols "${built%/*}/liblatchway.so")
    # shellcheck disable=SC2086
    ld --relocatable --gc-sections ${functions//ipsec_/--undefined=ipsec_} "${built%/*}/liblatchway.a" -o "$root/latchway.o"
    objcopy --wildcard --keep-global-symbol='ipsec_*' --strip-debug \
        --remove-section=.llvmbc --remove-section=.llvmcmd "$root/latchway.o"
    ar rcD "$root/$lib/liblatchway.a" "$root/latchway.o"
    rm "$root/latchway.o"
    chmod 644 "$root/$lib/liblatchway.a"
    mkdir -p "$root/$lib/pkgconfig" "$root/usr/share/man/man3"
    sed "s#@PREFIX@#/usr#; s#@LIBDIR@#/$lib#; s#@VERSION@#$version#" ulp-shim/capi/latchway.pc.in >"$root/$lib/pkgconfig/latchway.pc"
    install -D -m 644 ulp-shim/capi/include/latchway/ipsec.h "$root/usr/include/latchway/ipsec.h"
    install -D --strip --strip-program=strip -m 644 "$shim" "$root/$lib/liblatchway-shim.so.0"
    install -D -m 644 ulp-shim/view/include/latchway/shim.h "$root/usr/include/latchway/shim.h"
    mkdir -p "$root/usr/share/man/man7"
    gzip -9n <ulp-shim/view/man/latchway_shim.7 >"$root/usr/share/man/man7/latchway_shim.7.gz"
    for page in ulp-shim/capi/man/*.3; do
        gzip -9n <"$page" >"$root/usr/share/man/man3/${page##*/}.gz"
    done
    chmod 644 "$root/$lib/pkgconfig/latchway.pc" "$root"/usr/share/man/man[37]/*
}

units() {
    install -D -m 644 -t "$root/usr/lib/systemd/system" packaging/systemd/*.service
    install -D -m 644 packaging/systemd/latchway.sysusers "$root/usr/lib/sysusers.d/latchway.conf"
}

# An example under a name that no unit takes for a gateway.
configuration() {
    install -d -m 700 "$root/etc/latchway"
    install -m 600 examples/gateway.toml "$root/etc/latchway/example.toml.disabled"
}

documentation() {
    local doc=$root/usr/share/doc/latchway
    install -D -m 644 -t "$doc/examples" examples/*.toml
    install -D -m 644 packaging/grafana/latchway.json "$doc/examples/grafana.json"
    install -D -m 644 -t "$doc" README.md docs/*.md
    gzip -9n <CHANGELOG.md >"$doc/changelog.gz"
    copyright >"$doc/copyright"
    # What is linked in, and under which licences: deny.toml says which those may be.
    cargo tree --locked --package latchway --package latchway-capi --package latchway-view --edges normal --prefix none --format '{p} {l}' |
        sed 's/ ([^)]*)//' | sort -u >"$doc/crates"
    chmod 644 "$doc"/{changelog.gz,copyright,crates}
}

copyright() {
    echo "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"
    echo "Upstream-Name: latchway"
    echo "Source: $(sed -n 's/^repository = "\(.*\)"/\1/p' Cargo.toml)"
    echo
    echo "Files: *"
    echo "Copyright: $(sed -n 's/^Copyright (c) //p' LICENSE-MIT)"
    echo "License: MIT or Apache-2.0"
    echo
    echo "License: MIT"
    sed '1,/^Copyright/d; s/^$/./; s/^/ /' LICENSE-MIT | sed '1{/^ \.$/d}'
    echo
    echo "License: Apache-2.0"
    echo " The text is in /usr/share/common-licenses/Apache-2.0."
}

control() {
    local scratch depends
    install -d -m 755 "$root/DEBIAN"
    install -m 755 packaging/debian/{postinst,prerm,postrm} "$root/DEBIAN"
    echo "activate-noawait ldconfig" >"$root/DEBIAN/triggers"
    printf '%s 0 latchway (>= %s)\n' liblatchway "$version" liblatchway-shim "$version" >"$root/DEBIAN/shlibs"
    chmod 644 "$root"/DEBIAN/{triggers,shlibs}
    echo /etc/latchway/example.toml.disabled >"$root/DEBIAN/conffiles"
    chmod 644 "$root/DEBIAN/conffiles"
    scratch=$(mktemp -d)
    mkdir "$scratch/debian" && touch "$scratch/debian/control"
    depends=$(cd "$scratch" && dpkg-shlibdeps -O -e"$root/usr/bin/latchway" -e"$(echo "$root"/usr/lib/*/liblatchway.so.0)" -e"$(echo "$root"/usr/lib/*/liblatchway-shim.so.0)" 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
    rm -r "$scratch"
    cat >"$root/DEBIAN/control" <<CONTROL
Package: latchway
Version: $version
Architecture: $architecture
Maintainer: The Latchway maintainers <maintainers@latchway.invalid>
Installed-Size: $(du -k --apparent-size --summarize --exclude DEBIAN "$root" | cut -f1)
Depends: $depends
Recommends: iproute2
Section: net
Priority: optional
Homepage: $(sed -n 's/^repository = "\(.*\)"/\1/p' Cargo.toml)
Description: IPsec gateway in userspace with connection latching
 A gateway that speaks standard ESP on a TUN device, for network namespaces,
 containers and kernels whose own IPsec is absent or not allowed. Each
 connection keeps the peer and the protection that it began with, or breaks.
CONTROL
}

main
