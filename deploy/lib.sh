# Installs what the quick start and the tests require; both source it. Bash, Debian or Ubuntu, root.
# It asks no questions and prints everything that it installs or starts.
# shellcheck shell=bash

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PATH="$HOME/.cargo/bin:$PATH:/usr/sbin:/sbin"
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1

# The pid of a container engine that these scripts have started.
dockerd_pid=/run/alula-dockerd.pid
dockerd_log=/var/log/alula-dockerd.log
# Set if this run has started it.
dockerd_started=''

# shellcheck disable=SC2034
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
else
    bold='' dim='' red='' green='' plain=''
fi

heading() { printf '%s==> %s%s\n' "$bold" "$*" "$plain"; }
note() { printf '    %s\n' "$*"; }
die() {
    printf '%serror: %s%s\n' "$red" "$*" "$plain" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

need_root() { [ "$(id -u)" = 0 ] || die "this installs packages and runs containers: run it as root (sudo $0)"; }

# apt_install PACKAGE...
apt_install() {
    have apt-get || die "$* is missing, and there is no apt-get: install it, then run this again"
    note "installing with apt-get: $*"
    local log
    log=$(mktemp)
    local options=(-q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
    # The package lists of a new machine may be missing or old.
    if ! apt-get "${options[@]}" update >"$log" 2>&1 ||
        ! apt-get "${options[@]}" install --no-install-recommends "$@" >>"$log" 2>&1; then
        tail -n 30 "$log" >&2
        rm -f "$log"
        die "apt-get could not install $*; its output is above"
    fi
    rm -f "$log"
}

has_package() { apt-cache show "$1" >/dev/null 2>&1; }

# A static busybox, for the images.
ensure_busybox() {
    have busybox && ! ldd "$(command -v busybox)" >/dev/null 2>&1 && return
    heading "busybox"
    apt_install busybox-static
}

# ---- Container engine ----

docker_answers() { have docker && timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

ensure_docker() {
    if docker_answers; then
        note "container engine: Docker $(docker version --format '{{.Server.Version}}')"
        return
    fi
    heading "container engine"
    if ! have dockerd || ! have docker; then
        local packages=(docker.io ca-certificates)
        if have apt-cache && has_package docker-cli; then packages+=(docker-cli); fi
        apt_install "${packages[@]}"
    fi
    if docker_answers; then return; fi
    if [ -d /run/systemd/system ]; then
        note "starting it with systemd"
        systemctl enable --now docker >/dev/null 2>&1 || true
    else
        start_dockerd
    fi
    local second
    for second in $(seq 60); do
        if docker_answers; then
            note "Docker $(docker version --format '{{.Server.Version}}') answers after $second s"
            return
        fi
        if [ -e "$dockerd_pid" ] && ! kill -0 "$(cat "$dockerd_pid")" 2>/dev/null; then break; fi
        sleep 1
    done
    if [ -e "$dockerd_log" ]; then tail -n 20 "$dockerd_log" >&2; fi
    die "the container engine does not answer; start dockerd by hand, then run this again"
}

# Without systemd: starts it in the background, detached from this script.
start_dockerd() {
    if ! grep -qE ' cgroup2? ' /proc/mounts; then
        note "mounting control groups"
        have cgroupfs-mount || apt_install cgroupfs-mount
        cgroupfs-mount
    fi
    note "no systemd here: starting dockerd in the background (log: $dockerd_log)"
    # A crashed dockerd leaves this file, which prevents the start of another one.
    if [ -e /run/docker.pid ] && ! kill -0 "$(cat /run/docker.pid)" 2>/dev/null; then rm -f /run/docker.pid; fi
    setsid nohup dockerd >"$dockerd_log" 2>&1 </dev/null &
    echo $! >"$dockerd_pid"
    dockerd_started=1
    disown
}

# Stops the engine if these scripts have started it.
stop_our_dockerd() {
    [ -e "$dockerd_pid" ] || return 0
    local pid
    pid=$(cat "$dockerd_pid")
    if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ]; then
        note "stopping the dockerd that was started for this"
        kill "$pid" 2>/dev/null || true
        for _ in $(seq 60); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.5
        done
    fi
    rm -f "$dockerd_pid"
}

# with_podman COMMAND...: runs it with DOCKER_HOST at the socket of a Podman that is started for it, with storage of its own. A `have
# podman` comes before it.
with_podman() {
    local folder pid status=0
    folder=$(mktemp -d /var/tmp/alula-podman.XXXXXX)
    cat >"$folder/containers.conf" <<'END'
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
END
    # The runtime that Debian prefers, crun, does not work with every cgroup v1.
    [ -e /sys/fs/cgroup/cgroup.controllers ] || sed -i '/^\[engine\]/a runtime = "runc"' "$folder/containers.conf"
    TMPDIR=$folder CONTAINERS_CONF=$folder/containers.conf setsid nohup podman --root "$folder/storage" --runroot "$folder/run" \
        system service --time=0 "unix://$folder/socket" >"$folder/log" 2>&1 </dev/null &
    pid=$!
    for _ in $(seq 100); do
        [ -S "$folder/socket" ] && break
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.2
    done
    DOCKER_HOST=unix://$folder/socket "$@" || status=$?
    [ "$status" = 0 ] || tail -n 20 "$folder/log" >&2
    kill "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
    # Podman mounts its storage on itself, and leaves that.
    awk -v folder="$folder/" 'index($5, folder) == 1 {print $5}' /proc/self/mountinfo | sort -r | xargs -r umount -l
    rm -rf "$folder"
    return "$status"
}

# ---- Rust ----

# version_at_least FOUND WANTED
version_at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

rust_version() { rustc --version 2>/dev/null | awk '{print $2}'; }

# ensure_rust [COMPONENT...]: a toolchain that is new enough, with components such as clippy and rustfmt.
ensure_rust() {
    local wanted missing=() component
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$project/Cargo.toml")
    if ! have cc; then
        heading "C compiler"
        apt_install gcc libc6-dev make
    fi
    if have cargo && version_at_least "$(rust_version)" "$wanted"; then
        note "Rust $(rust_version)"
    else
        heading "Rust, $wanted or later"
        if have cargo; then note "there is Rust $(rust_version), which is too old"; fi
        install_rust
        version_at_least "$(rust_version)" "$wanted" || die "Rust $(rust_version) is too old; run: rustup update stable"
    fi
    for component in "$@"; do
        case $component in
        rustfmt) cargo fmt --version >/dev/null 2>&1 || missing+=(rustfmt) ;;
        clippy) cargo clippy --version >/dev/null 2>&1 || missing+=(clippy) ;;
        esac
    done
    if [ ${#missing[@]} -gt 0 ]; then
        have rustup || die "this Rust lacks ${missing[*]}, and was not installed with rustup: install them"
        note "adding ${missing[*]}"
        rustup --quiet component add "${missing[@]}"
    fi
}

# Uses rustup: the toolchain of Debian and Ubuntu is older than the crates require.
install_rust() {
    if have rustup; then
        note "installing the stable toolchain with rustup"
        rustup --quiet toolchain install stable --profile minimal && rustup --quiet default stable
        return
    fi
    local target folder base
    case $(uname -m) in
    x86_64) target=x86_64-unknown-linux-gnu ;;
    aarch64) target=aarch64-unknown-linux-gnu ;;
    *) die "there is no prepared Rust for $(uname -m): install it from https://rustup.rs, then run this again" ;;
    esac
    have curl || apt_install curl ca-certificates
    base=https://static.rust-lang.org/rustup/dist/$target
    note "installing rustup and the stable toolchain into $HOME/.cargo and $HOME/.rustup, from $base"
    folder=$(mktemp -d)
    curl --proto '=https' --tlsv1.2 -sSf --retry 3 -o "$folder/rustup-init" "$base/rustup-init" ||
        die "rustup cannot be downloaded; install Rust from https://rustup.rs, then run this again"
    chmod +x "$folder/rustup-init"
    if ! "$folder/rustup-init" --quiet -y --profile minimal --no-modify-path >"$folder/log" 2>&1; then
        cat "$folder/log" >&2
        die "rustup failed; its output is above"
    fi
    note "to use it in this shell too: . \"$HOME/.cargo/env\""
    rm -rf "$folder"
}
