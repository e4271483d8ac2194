#!/usr/bin/env bash
# Shows alula at work on this machine: a server is installed, started, and looked after. Bash, Debian or Ubuntu, as root.
#
#   deploy/quickstart.sh           run it; a second run goes on where the first one stands
#   deploy/quickstart.sh --stop    end the daemon; the game server goes on running
#   deploy/quickstart.sh --clean   remove everything that it made, but not the packages that it installed
#
# ALULA=PATH uses that program instead of building one, ALULA_ROOT=DIR another folder than /var/lib/alula-quickstart, which
# is empty or not there yet.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/lib.sh
. "$here/lib.sh"

default_root=/var/lib/alula-quickstart
root=${ALULA_ROOT:-$default_root}
# Says that the folder is the quick start's, and whether it was `made` or `found` empty.
marker=$root/.alula-quickstart
alula=${ALULA:-$project/target/release/alula}
server=11111111-2222-4333-8444-555555555555
network=alula_quickstart
game="alula-quickstart/game:1"
installer="alula-quickstart/installer:1"
# So long may the server need until it runs, seconds.
patience=180
# Events before this time are of an earlier run.
since=''

# ---- The daemon ----

daemon_pid() {
    local pid
    pid=$(cat "$root/quickstart.pid" 2>/dev/null) || return 1
    # The number may have become somebody else's.
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = alula ] && echo "$pid"
}

stop_daemon() {
    local pid
    pid=$(daemon_pid) || return 0
    note "ending the daemon (pid $pid); containers go on running"
    kill "$pid" 2>/dev/null || true
    for _ in $(seq 100); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    rm -f "$root/quickstart.pid"
}

# Whether a daemon answers: where none does, the same command reads the files, and says so.
answers() {
    local said
    said=$("$alula" --root "$root" get 2>&1 >/dev/null) && [[ $said != *' runs on '* ]]
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
    die "the daemon does not answer; its words are above"
}

# ---- Images ----

# make_image NAME [CHANGE...] with a root file system that holds busybox, and what lies in $folder.
folder=''
make_image() {
    local name=$1 changes=() change
    shift
    for change in "$@"; do changes+=(--change "$change"); done
    tar -C "$folder" -c . | docker import "${changes[@]}" - "$name" >/dev/null
}

make_images() {
    say "two small images, made of busybox"
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
# follow FILTER COMMAND...: shows in the background what a command prints, through a filter.
follow() {
    local filter=$1
    shift
    "$@" 2>/dev/null </dev/null > >("$filter") &
    followers+=($!)
}

line() { printf '    %s%-8s%s %s\n' "$dim" "$1" "$plain" "$2"; }

# Events of this run: the time of day, the reason, the message.
events() {
    local at rest
    while read -r at _ rest; do
        if [[ ! $at < $since ]]; then line event "${at:11:8}  $rest"; fi
    done
}

# The log of an installation, without what stands above the script's output.
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
    # What is still on its way to the screen.
    sleep 1
    kill "${followers[@]}" 2>/dev/null || true
    wait "${followers[@]}" 2>/dev/null || true
    followers=()
}

watch_it_start() {
    for _ in $(seq "$patience"); do
        if [ "$(state_of)" = running ]; then return 0; fi
        if ! daemon_pid >/dev/null; then return 1; fi
        sleep 1
    done
    return 1
}

# ---- What can be asked for ----

is_empty() { [ -z "$(ls -A "$root" 2>/dev/null)" ]; }

# What lies in the folder may be removed one day: it is all the quick start's, or nobody's.
check_folder() {
    if [ -e "$marker" ] || is_empty; then return; fi
    # An earlier release left no marker. Nobody else has a folder of this name.
    if [ "$root" = "$default_root" ] && [ -e "$root/quickstart.out" ]; then
        echo made >"$marker"
        return
    fi
    note "if an earlier quick start made it, and all that is in it may be removed: echo made >$marker"
    die "$root is not empty, and not the quick start's: name a folder that is empty or not there with ALULA_ROOT=DIR"
}

remove_folder() {
    if [ ! -e "$marker" ]; then return; fi
    if [ "$(cat "$marker")" = made ]; then
        rm -rf "$root"
        note "$root is gone"
    else
        find -H "$root" -mindepth 1 -delete
        note "$root is empty again"
    fi
}

clean() {
    check_folder
    say "cleaning up"
    stop_daemon
    if docker_answers; then
        docker rm -f "$server" "${server}_installer" >/dev/null 2>&1 || true
        docker network rm "$network" >/dev/null 2>&1 || true
        docker rmi "$game" "$installer" >/dev/null 2>&1 || true
        note "containers, network and images are gone"
        if [ -z "$(docker ps -q)" ]; then stop_our_dockerd; fi
    fi
    remove_folder
    note "packages, Rust and $project/target stay"
}

prepare() {
    say "what it needs"
    ensure_busybox
    ensure_docker
    if [ -n "${ALULA:-}" ]; then
        [ -x "$alula" ] || die "ALULA=$alula is no program"
    else
        # shellcheck disable=SC2119
        ensure_rust
        say "building alula (the first time this takes some minutes)"
        (cd "$project" && cargo build --release --locked) || die "the build failed"
    fi
    make_images
    # Docker chooses a range of addresses that is free.
    docker network inspect "$network" >/dev/null 2>&1 || docker network create "$network" >/dev/null ||
        note "alula will make the network $network itself"
}

lay_out() {
    check_folder
    if [ -d "$root/servers/$server" ]; then
        say "the state folder $root is there from an earlier run"
        return
    fi
    say "the state folder: $root, a copy of state/"
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

show() {
    say "starting the daemon"
    stop_daemon
    if answers; then die "a daemon that the quick start did not start runs on $root: end it first"; fi
    since=$(date -u +%Y-%m-%dT%H:%M:%S)
    local installed=''
    if [ -e "$root/install/$server.log" ]; then installed=1; fi
    start_daemon
    note "pid $(daemon_pid), log $root/wings.log, no port: it listens on $root/alula.sock"
    say "what happens (event: the daemon's events, install: the install container, console: the game)"
    trap stop_following EXIT
    follow events "$alula" --root "$root" events "$server" --follow
    if [ -z "$installed" ]; then follow install_log tail -n +1 -F "$root/install/$server.log"; fi
    follow console tail -n 3 -F "$root/servers/$server/logs/console.log"
    if ! watch_it_start; then
        stop_following
        "$alula" --root "$root" describe "$server" || true
        die "the server does not run after $patience seconds; its conditions are above, the log is $root/wings.log"
    fi
    stop_following
}

what_next() {
    local file=$root/servers/$server/config.yml
    cat <<TEXT

${green}The server runs.${plain} Here it is, as the daemon sees it:

$("$alula" --root "$root" get)

${bold}What to try next${plain}

  alias alula="$alula --root $root"
  alula events --follow                  watch, in a terminal of its own
  alula describe 1111                    everything about the server; a UUID's beginning is enough
  alula plan                             what would be done now: nothing, since all is as it should be

  \$EDITOR $file
                                         other limits come into force when you save; a new power id restarts
                                         the server, a new install token installs it again; a mistake changes nothing
  docker kill $server
                                         a crash: it is started again (unless it is the second within 10 seconds)
  docker rm -f $server
                                         the same, with a new container
  kill -9 \$(cat $root/quickstart.pid)
                                         the daemon dies, the server does not notice; $0 starts it again
  alula power stop 1111                  also start, restart, kill

  tail -f $root/servers/$server/logs/console.log
  curl --unix-socket $root/alula.sock -d '{"commands": ["list"]}' http://alula/api/servers/$server/commands
                                         the game's console, and a line typed into it (help, list, crash, stop)

  $0 --stop                end the daemon
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
# Before the build, which takes its time.
check_folder
prepare
lay_out
show
what_next
