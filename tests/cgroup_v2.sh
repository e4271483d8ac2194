#!/usr/bin/env bash
# Boots Debian's kernel, which has control groups of version 2, in an emulated machine, and runs tests/cgroups.rs there.
# Debian or Ubuntu on amd64, as root. The kernel is unpacked in the user's cache, and nothing of the machine's boot changes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=../deploy/lib.sh
. deploy/lib.sh

test=cgroups
cache=${XDG_CACHE_HOME:-$HOME/.cache}/alula-tools/kernel
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

ensure_kernel() {
    kernel=$(compgen -G "$cache/boot/vmlinuz-*" | sort -V | tail -n 1) || true
    [ -z "$kernel" ] || return 0
    heading "kernel"
    local package
    package=$(apt-cache depends linux-image-amd64 | sed -nE 's/.*Depends: (linux-image-[0-9].*)/\1/p' | head -n 1)
    [ -n "$package" ] || die "apt knows no linux-image-amd64: run apt-get update, then run this again"
    note "downloading $package"
    (cd "$work" && apt-get -q download "$package" >/dev/null 2>&1) || die "apt-get could not download $package"
    mkdir -p "$cache"
    dpkg-deb --fsys-tarfile "$work"/linux-image-*.deb | tar -x -C "$cache" ./boot
    kernel=$(compgen -G "$cache/boot/vmlinuz-*" | sort -V | tail -n 1)
}

# The file of the test that cargo has built last.
test_binary() {
    cargo test --locked --test "$test" --no-run --message-format=json 2>/dev/null |
        sed -nE "s/.*\"executable\":\"([^\"]+\/$test-[^\"]+)\".*/\1/p" | tail -n 1
}

# Everything that the machine has: busybox, the test and its libraries.
pack() {
    local root=$work/root library
    mkdir -p "$root"/{bin,proc,sys,tmp,dev}
    cp "$(command -v busybox)" "$root/bin/busybox"
    ln -s busybox "$root/bin/sh"
    strip -o "$root/$test" "$1"
    while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done < <(ldd "$1" | grep -oE '/[^ ]+')
    cat >"$root/init" <<INIT
#!/bin/sh
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup
/$test --nocapture --test-threads=1
busybox poweroff -f
INIT
    chmod +x "$root/init"
    (cd "$root" && find . | busybox cpio -o -H newc) 2>/dev/null | gzip -1 >"$work/initrd"
}

need_root
ensure_busybox
have qemu-system-x86_64 || apt_install qemu-system-x86
have strip || apt_install binutils
ensure_kernel
binary=$(test_binary)
[ -n "$binary" ] || die "the test $test cannot be built: cargo test --test $test --no-run"
pack "$binary"

heading "control groups of version 2 on $(basename "$kernel")"
timeout -k 5 180 qemu-system-x86_64 -accel tcg -cpu max -m 512 -nodefaults -nographic -serial stdio -no-reboot \
    -kernel "$kernel" -initrd "$work/initrd" -append "console=ttyS0 quiet panic=-1" </dev/null | tr -d '\r' >"$work/output" || true
grep -aE '^(test|groups|test result)' "$work/output" || true
if grep -qaE '^test result: ok\. [1-9]' "$work/output" && grep -qaF 'groups: ["/sys/fs/cgroup/alula-test-' "$work/output"; then
    exit 0
fi
tail -n 60 "$work/output" >&2
die "the test failed in the machine with version 2"
