#!/usr/bin/env bash
# Runs tests/filesystems.rs on btrfs, XFS and ext4, the latter two with project quotas: in an emulated machine. With --here it runs on
# this kernel without quotas, and interrupts replacements on btrfs, too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=../deploy/lib.sh
. deploy/lib.sh
# shellcheck source=machine.sh
. tests/machine.sh

have mkfs.btrfs || apt_install btrfs-progs
have mkfs.xfs || apt_install xfsprogs
have mkfs.ext4 || apt_install e2fsprogs
server=servers/550e8400-e29b-41d4-a716-000000000001/data

if [ "${1:-}" = --here ]; then
    need_root
    disks=$work/disks
    trap 'umount -q "$disks"/*/ "$disks/mounted/$server" 2>/dev/null || true; rm -rf "$work"' EXIT
    for name in btrfs xfs ext4; do
        mkdir -p "$disks/$name"
        truncate -s 384M "$work/$name"
        "mkfs.$name" -q "$work/$name" 2>/dev/null
        mount -o loop "$work/$name" "$disks/$name"
    done
    mkdir -p "$disks/mounted/$server" "$work/other"
    mount --bind "$work/other" "$disks/mounted/$server"
    ALULA_FILESYSTEMS=$disks cargo test --locked --test filesystems -- --nocapture
    ALULA_REPLACEMENTS=$disks/btrfs cargo test --locked --lib interrupted_everywhere
    exit
fi

ensure_machine
heading "file systems on $(basename "$kernel")"
for program in mkfs.btrfs mkfs.xfs mkfs.ext4 btrfs; do add_program "$(command -v "$program")" "/bin/$program"; done
[ ! -e /etc/mke2fs.conf ] || { mkdir -p "$work/root/etc" && cp /etc/mke2fs.conf "$work/root/etc/"; }
add_module crc32c_generic libcrc32c crc16 mbcache jbd2 ext4 xfs loop quota_tree quota_v2 xxhash_generic zstd_compress \
    blake2b_generic xor raid6_pq btrfs
boot filesystems 2048 '
export PATH=/bin ALULA_FILESYSTEMS=/disks
busybox mkdir -p /images/other /disks/btrfs /disks/xfs /disks/ext4 /disks/mounted/'"$server"'
busybox mount -t tmpfs -o size=1600m images /images
busybox mkdir /images/other
for name in btrfs xfs ext4; do busybox truncate -s 384M /images/$name; done
mkfs.btrfs -q /images/btrfs
mkfs.xfs -q -m reflink=1 /images/xfs
mkfs.ext4 -q -O project,quota -E quotatype=prjquota /images/ext4
busybox mount -t btrfs -o loop /images/btrfs /disks/btrfs
busybox mount -t xfs -o loop,prjquota /images/xfs /disks/xfs
busybox mount -t ext4 -o loop,prjquota /images/ext4 /disks/ext4
busybox mount -o bind /images/other /disks/mounted/'"$server"
grep -aE '^filesystems' "$work/output" || true
passed 'xfs with quotas, ext4 with quotas' && grep -qaF 'filesystems: all' "$work/output" && exit 0
tail -n 60 "$work/output" >&2
die "the test failed in the machine"
