#!/usr/bin/env bash
# Demonstrates alula on this machine: installs and starts a server, and keeps it running. Bash, Debian or Ubuntu, as root.
#
#   deploy/quickstart.sh           run it; a second run continues where the first one ended
#   deploy/quickstart.sh --stop    stop the daemon; the game server keeps running
#   deploy/quickstart.sh --clean   remove everything that it created, except the packages that it installed
#
# ALULA=PATH uses that program instead of building one. ALULA_ROOT=DIR uses another folder than /var/lib/alula-quickstart, which
# must be empty or missing.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/lib.sh
. "$here/lib.sh"

default_root=/var/lib/alula-quickstart
root=${ALULA_ROOT:-$default_root}
# Marks the folder of the quick start: `made` if it created the folder, `found` if the folder was empty.
marker=$root/.alula-quickstart
alula=${ALULA:-${CARGO_TARGET_DIR:-$project/target}/release/alula}
server=11111111-2222-4333-8444-555555555555
network=alula_quickstart
game="alula-quickstart/game:1"
installer="alula-quickstart/installer:1"
# The longest time until the server runs, in seconds.
timeout=180
# Events before this time belong to an earlier run.
since=''

# ---- The daemon ----

daemon_pid() {
    local pid
    pid=$(cat "$root/quickstart.pid" 2>/dev/null) || return 1
    # Another process may have this pid by now.
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$(basename "$alula" | cut -c 1-15)" ] && echo "$pid"
}

stop_daemon() {
    local pid
    pid=$(daemon_pid) || return 0
    note "stopping the daemon (pid $pid); containers keep running"
    kill "$pid" 2>/dev/null || true
    for _ in $(seq 100); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    rm -f "$root/quickstart.pid"
}

# Whether a daemon answers. Without one the same command reads the files, and prints a note about it.
answers() {
    local notes
    notes=$("$alula" --root "$root" get 2>&1 >/dev/null) && [[ $notes != *' runs on '* ]]
}

start_daemon() {
    setsid nohup "$alula" run --config "$root/config.yml" >>"$root/quickstart.out" 2>&1 </dev/null &
    echo $! >"$root/quickstart.pid"
    disown
    for _ in $(seq 100); do
        if answers; then return; fi
        if ! daemon_pid >/dev/null; then break; fi
        sleep 0.1
    done
    tail -n 20 "$root/quickstart.out" >&2
    die "the daemon does not answer; its output is above"
}

# ---- Images ----

# make_image NAME [CHANGE...]: an image of the files in $folder.
folder=''
make_image() {
    local name=$1 changes=() change
    shift
    for change in "$@"; do changes+=(--change "$change"); done
    tar -C "$folder" -c . | docker import "${changes[@]}" - "$name" >/dev/null
}

make_images() {
    heading "two small images of busybox"
    folder=$(mktemp -d)
    mkdir -p "$folder"/{bin,etc,tmp,home/container,mnt/server,mnt/install}
    cp "$(command -v busybox)" "$folder/bin/busybox"
    local name
    for name in $("$folder/bin/busybox" --list); do
        [ "$name" = busybox ] || ln -sf busybox "$folder/bin/$name"
    done
    echo 'root:x:0:0:root:/:/bin/sh' >"$folder/etc/passwd"
    make_image "$installer" 'CMD ["sh"]'
    cp "$here/quickstart/entrypoint.sh" "$folder/entrypoint.sh"
    make_image "$game" 'ENTRYPOINT ["/entrypoint.sh"]' 'WORKDIR /home/container'
    rm -rf "$folder"
    note "$game, $installer"
}

# ---- Watching ----

state_of() { "$alula" --root "$root" get "$server" -o json 2>/dev/null | tr -d ' \n' | grep -o '"state":"[a-z]*"' | head -n 1 | cut -d'"' -f4; }

followers=()
# follow FILTER COMMAND...: prints the output of a command through a filter, in the background.
follow() {
    local filter=$1
    shift
    "$@" 2>/dev/null </dev/null > >("$filter") &
    followers+=($!)
}

line() { printf '    %s%-8s%s %s\n' "$dim" "$1" "$plain" "$2"; }

# Events of this run: the time of day, the reason, the message.
events() {
    local at text
    while read -r at _ text; do
        if [[ ! $at < $since ]]; then line event "${at:11:8}  $text"; fi
    done
}

# The output of an install script, without the header of its log.
install_log() {
    local text begun=''
    while IFS= read -r text; do
        if [ -n "$begun" ] && [[ $text != '| ---'* ]]; then line install "${text%$'\r'}"; fi
        if [[ $text == *'Script Output'* ]]; then begun=1; fi
    done
}

console() {
    local text
    while IFS= read -r text; do line console "${text%$'\r'}"; done
}

stop_following() {
    [ ${#followers[@]} = 0 ] && return
    # Wait for the last lines.
    sleep 1
    kill "${followers[@]}" 2>/dev/null || true
    wait "${followers[@]}" 2>/dev/null || true
    followers=()
}

watch_it_start() {
    for _ in $(seq "$timeout"); do
        if [ "$(state_of)" = running ]; then return 0; fi
        if ! daemon_pid >/dev/null; then return 1; fi
        sleep 1
    done
    return 1
}

# ---- Commands ----

is_empty() { [ -z "$(ls -A "$root" 2>/dev/null)" ]; }

# --clean removes the folder, so it must belong to the quick start.
check_folder() {
    if [ -e "$marker" ] || is_empty; then return; fi
    # An earlier release wrote no marker. No other program has a folder of this name.
    if [ "$root" = "$default_root" ] && [ -e "$root/quickstart.out" ]; then
        echo made >"$marker"
        return
    fi
    note "if an earlier quick start created it, and everything in it may be removed: echo made >$marker"
    die "$root is not empty and does not belong to the quick start: name an empty or missing folder with ALULA_ROOT=DIR"
}

remove_folder() {
    if [ ! -e "$marker" ]; then return; fi
    if [ "$(cat "$marker")" = made ]; then
        rm -rf "$root"
        note "$root is removed"
    else
        find -H "$root" -mindepth 1 -delete
        note "$root is empty again"
    fi
}

clean() {
    check_folder
    heading "cleaning up"
    stop_daemon
    if docker_answers; then
        docker rm -f "$server" "${server}_installer" >/dev/null 2>&1 || true
        docker network rm "$network" >/dev/null 2>&1 || true
        docker rmi "$game" "$installer" >/dev/null 2>&1 || true
        note "containers, network and images are removed"
        if [ -z "$(docker ps -q)" ]; then stop_our_dockerd; fi
    fi
    remove_folder
    note "packages, Rust and $project/target stay"
}

prepare() {
    heading "requirements"
    ensure_busybox
    ensure_docker
    if [ -n "${ALULA:-}" ]; then
        [ -x "$alula" ] || die "ALULA=$alula is not a program"
    else
        # shellcheck disable=SC2119
        ensure_rust
        heading "building alula (the first time this takes some minutes)"
        (cd "$project" && cargo build --release --locked) || die "the build failed"
    fi
    make_images
    # Docker selects a free address range.
    docker network inspect "$network" >/dev/null 2>&1 || docker network create "$network" >/dev/null ||
        note "alula will create the network $network"
}

lay_out() {
    check_folder
    if [ -d "$root/servers/$server" ]; then
        heading "the state folder $root exists from an earlier run"
        return
    fi
    heading "the state folder: $root, a copy of state/"
    if [ ! -d "$root" ]; then
        mkdir -p "$root"
        chmod 700 "$root"
        echo made >"$marker"
    elif [ ! -e "$marker" ]; then
        echo found >"$marker"
    fi
    cp -r "$project/state/." "$root/"
    (cd "$root" && find . -name '*.yml' | sort | sed 's/^/    /')
}

run_daemon() {
    heading "starting the daemon"
    stop_daemon
    if answers; then die "another daemon runs on $root: stop it first"; fi
    since=$(date -u +%Y-%m-%dT%H:%M:%S)
    local installed=''
    if [ -e "$root/install/$server.log" ]; then installed=1; fi
    start_daemon
    note "pid $(daemon_pid), log $root/wings.log, no port: it listens on $root/alula.sock"
    heading "output (event: the daemon's events, install: the install container, console: the game)"
    trap stop_following EXIT
    follow events "$alula" --root "$root" events "$server" --follow
    if [ -z "$installed" ]; then follow install_log tail -n +1 -F "$root/install/$server.log"; fi
    follow console tail -n 3 -F "$root/servers/$server/logs/console.log"
    if ! watch_it_start; then
        stop_following
        "$alula" --root "$root" describe "$server" || true
        die "the server does not run after $timeout seconds; its conditions are above, the log is $root/wings.log"
    fi
    stop_following
}

what_next() {
    local file=$root/servers/$server/config.yml
    cat <<TEXT

${green}The server runs.${plain} Its status:

$("$alula" --root "$root" get)

${bold}What to try next${plain}

  alias alula="$alula --root $root"
  alula events --follow                  watch, in another terminal
  alula describe 1111                    details of the server; a prefix of the UUID is enough
  alula plan                             the next steps: none, since the server is as its manifest says

  \$EDITOR $file
                                         changed limits apply when you save; a changed restartedAt restarts the server,
                                         a changed install.version installs it again; an invalid file changes nothing
  docker kill $server
                                         a crash: it is started again (unless it is the second within 10 seconds)
  docker rm -f $server
                                         the same, with a new container
  kill -9 \$(cat $root/quickstart.pid)
                                         the daemon dies, the server keeps running; $0 starts the daemon again
  alula power stop 1111                  also start, restart, kill

  tail -f $root/servers/$server/logs/console.log
  curl --unix-socket $root/alula.sock -d '{"commands": ["list"]}' http://alula/api/servers/$server/commands
                                         the game's console, and a command for it (help, list, crash, stop)

  $0 --stop                stop the daemon
  $0 --clean               remove everything
TEXT
}

need_root
case ${1:-} in
'') ;;
--stop) stop_daemon; exit ;;
--clean) clean; exit ;;
*) die "unknown argument $1; see the head of $0" ;;
esac
# Before the build, which takes minutes.
check_folder
prepare
lay_out
run_daemon
what_next
