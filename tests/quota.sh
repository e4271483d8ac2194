#!/usr/bin/env bash
# Runs tests/quotas.rs on a kernel with project quotas, on XFS and on ext4, and on an ext4 without them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=../deploy/lib.sh
. deploy/lib.sh
# shellcheck source=machine.sh
. tests/machine.sh

ensure_machine
have mkfs.xfs || apt_install xfsprogs
have mkfs.ext4 || apt_install e2fsprogs
heading "project quotas on $(basename "$kernel")"
add_program "$(command -v mkfs.xfs)" /bin/mkfs.xfs
add_program "$(command -v mkfs.ext4)" /bin/mkfs.ext4
add_program "$(command -v chattr)" /bin/chattr
[ ! -e /etc/mke2fs.conf ] || { mkdir -p "$work/root/etc" && cp /etc/mke2fs.conf "$work/root/etc/"; }
add_module crc32c_generic libcrc32c crc16 mbcache jbd2 ext4 xfs loop quota_tree quota_v2
boot quotas 1536 '
export PATH=/bin ALULA_QUOTA_DISKS=/disks
busybox mkdir -p /images /disks/xfs /disks/ext4 /disks/plain
busybox mount -t tmpfs -o size=1200m images /images
for name in xfs ext4 plain; do busybox truncate -s 384M /images/$name; done
mkfs.xfs -q /images/xfs
mkfs.ext4 -q -O project,quota -E quotatype=prjquota /images/ext4
mkfs.ext4 -q /images/plain
busybox mount -t xfs -o loop,prjquota /images/xfs /disks/xfs
busybox mount -t ext4 -o loop,prjquota /images/ext4 /disks/ext4
busybox mount -t ext4 -o loop /images/plain /disks/plain'
passed 'quotas: xfs ext4 plain' && exit 0
tail -n 60 "$work/output" >&2
die "the test failed in the machine with project quotas"
