# Boots Debian's kernel in an emulated machine that runs one test binary. Sourced, after deploy/lib.sh and with the folder of the
# project as the current one. Debian or Ubuntu on amd64, as root. The kernel is unpacked in the user's cache, and nothing of the
# machine's boot changes.
# shellcheck shell=bash

cache=${XDG_CACHE_HOME:-$HOME/.cache}/alula-tools/kernel
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

ensure_machine() {
    need_root
    ensure_busybox
    have qemu-system-x86_64 || apt_install qemu-system-x86
    have strip || apt_install binutils
    ensure_kernel
}

ensure_kernel() {
    kernel=$(compgen -G "$cache/boot/vmlinuz-*" | sort -V | tail -n 1) || true
    [ -z "$kernel" ] || [ ! -e "$cache/lib" ] || return 0
    heading "kernel"
    local package
    package=$(apt-cache depends linux-image-amd64 | sed -nE 's/.*Depends: (linux-image-[0-9].*)/\1/p' | head -n 1)
    [ -n "$package" ] || die "apt knows no linux-image-amd64: run apt-get update, then run this again"
    note "downloading $package"
    (cd "$work" && apt-get -q download "$package" >/dev/null 2>&1) || die "apt-get could not download $package"
    rm -rf "$cache"
    mkdir -p "$cache"
    dpkg-deb --fsys-tarfile "$work"/linux-image-*.deb | tar -x -C "$cache" --wildcards \
        ./boot './lib/modules/*/kernel/fs' './lib/modules/*/kernel/lib' './lib/modules/*/kernel/crypto' \
        './lib/modules/*/kernel/drivers/block'
    kernel=$(compgen -G "$cache/boot/vmlinuz-*" | sort -V | tail -n 1)
}

# test_binary NAME: the file of the test that cargo has built last.
test_binary() {
    cargo test --locked --test "$1" --no-run --message-format=json 2>/dev/null |
        sed -nE "s/.*\"executable\":\"([^\"]+\/$1-[^\"]+)\".*/\1/p" | tail -n 1
}

# add_program FILE [TARGET]: a program and its libraries.
add_program() {
    local library target=${2:-$1}
    mkdir -p "$work/root$(dirname "$target")"
    strip -o "$work/root$target" "$1" 2>/dev/null || cp -L "$1" "$work/root$target"
    while read -r library; do
        mkdir -p "$work/root$(dirname "$library")"
        cp -L "$library" "$work/root$library"
    done < <(ldd "$1" | grep -oE '/[^ ]+')
}

# add_module NAME...: modules of the kernel, loaded in this order.
add_module() {
    local name file
    mkdir -p "$work/root/modules"
    for name in "$@"; do
        file=$(find "$cache/lib/modules/$(basename "$kernel" | sed s/vmlinuz-//)" -name "$name.ko*" | head -n 1)
        [ -n "$file" ] || die "the kernel has no module $name"
        case $file in
        *.xz) xz -dc "$file" >"$work/root/modules/$name.ko" ;;
        *) cp "$file" "$work/root/modules/$name.ko" ;;
        esac
        echo "busybox insmod /modules/$name.ko" >>"$work/modules"
    done
}

# boot NAME MEMORY PREPARATION: runs the test NAME after the commands PREPARATION; its output is in $work/output.
boot() {
    local name=$1 memory=$2 preparation=$3 binary root=$work/root
    binary=$(test_binary "$name")
    [ -n "$binary" ] || die "the test $name cannot be built: cargo test --test $name --no-run"
    mkdir -p "$root"/{bin,proc,sys,tmp,dev,etc}
    cp "$(command -v busybox)" "$root/bin/busybox"
    ln -s busybox "$root/bin/sh"
    add_program "$binary" "/$name"
    cat >"$root/init" <<INIT
#!/bin/sh
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
$(cat "$work/modules" 2>/dev/null)
$preparation
/$name --nocapture --test-threads=1
busybox poweroff -f
INIT
    chmod +x "$root/init"
    (cd "$root" && find . | busybox cpio -o -H newc) 2>/dev/null | gzip -1 >"$work/initrd"
    timeout -k 5 240 qemu-system-x86_64 -accel tcg -cpu max -m "$memory" -nodefaults -nographic -serial stdio -no-reboot \
        -kernel "$kernel" -initrd "$work/initrd" -append "console=ttyS0 quiet panic=-1" </dev/null |
        tr -d '\r' >"$work/output" || true
    grep -aE '^(test|groups|quotas|test result)' "$work/output" || true
}

# passed TEXT: whether all tests passed, and the output has this text.
passed() { grep -qaE '^test result: ok\. [1-9]' "$work/output" && grep -qaF "$1" "$work/output"; }
