#!/usr/bin/env bash
# Runs tests/cgroups.rs on a kernel with control groups of version 2.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=../deploy/lib.sh
. deploy/lib.sh
# shellcheck source=machine.sh
. tests/machine.sh

ensure_machine
heading "control groups of version 2 on $(basename "$kernel")"
boot cgroups 512 'busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup'
passed 'groups: ["/sys/fs/cgroup/alula-test-' && exit 0
tail -n 60 "$work/output" >&2
die "the test failed in the machine with version 2"
