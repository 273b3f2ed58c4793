#!/usr/bin/env bash
# All tests: those of one process, in two halves side by side, then those marked `mpi` on 2, 3 and 4 ranks.
# Every run has a time limit, so that a deadlock is a failure and not a wait.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
. scripts/environment.sh

serial_limit=1800 # seconds
mpi_limit=600
color=no
[ ! -t 1 ] || color=yes

work="$(mktemp -d)"
running= beside=
trap 'rm -rf "$work"' EXIT
trap 'kill $running $beside 2> /dev/null; exit 130' INT TERM

passed=0 failed=0 skipped=0 table=

# count WORD FILE: N of "N WORD" in pytest's closing line, else 0
count() {
    grep -E '[0-9]+ (passed|failed|errors?|skipped).* in [0-9.]+s' "$2" | tail -n 1 |
        grep -oE "[0-9]+ $1" | grep -oE '^[0-9]+' || echo 0
}

# run NAME SECONDS COMMAND...: show the output as it comes and add the counts to the totals.
# The command goes to the background because `timeout` hides it from Ctrl-C; the trap above ends it.
run() {
    local name="$1" limit="$2" log="$work/$1.log" status bad
    shift 2
    printf '\n== %s ==\n' "$name"
    : > "$log"
    timeout -k 10 "$limit" "$@" > "$log" 2>&1 < /dev/null &
    running=$!
    tail -n +1 -s 0.2 -f --pid="$running" "$log" &
    wait "$running"
    status=$?
    wait $! # the last lines

    bad=$(($(count failed "$log") + $(count 'errors?' "$log")))
    if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
        bad=1 # ended without a report: time limit, crash, or no test collected
    fi
    case $status in
        0) ;;
        5) echo "$name: no test was collected" ;;
        124 | 137) echo "$name: ended after the time limit of $limit s" ;;
        *) echo "$name: exit status $status" ;;
    esac
    passed=$((passed + $(count passed "$log")))
    skipped=$((skipped + $(count skipped "$log")))
    failed=$((failed + bad))
    table+="$(printf '%-9s %4d passed, %d failed, %d skipped' "$name" \
        "$(count passed "$log")" "$bad" "$(count skipped "$log")")"$'\n'
    return "$status"
}

# After a failed run: where every rank was, and the report of each rank but 0 that did not pass.
other_ranks() {
    local rank
    for rank in "$1"/rank*.test; do
        [ -e "$rank" ] || continue
        printf -- '-- %s, last in %s\n' "$(basename "$rank" .test)" "$(cat "$rank")"
        rank="${rank%.test}.log"
        if [ -e "$rank" ] && { grep -q ' failed' "$rank" || ! grep -q ' passed' "$rank"; }; then
            tail -n 60 "$rank"
            echo
        fi
    done
}

# The long half of the solver's tests and its acceptance take about as long as each other.
acceptance=tests/kswgd_hpc/test_acceptance.py
beside_log="$work/beside"
(
    timeout -k 10 "$serial_limit" python -m pytest tests/spde tests/jobs "$acceptance" -m "not mpi" --color="$color"
    echo $? > "$beside_log.status"
) > "$beside_log" 2>&1 < /dev/null &
beside=$!
run solver "$serial_limit" python -m pytest tests/kswgd_hpc --ignore="$acceptance" -m "not mpi" --color="$color"
# shellcheck disable=SC2016
run numerics "$serial_limit" bash -c 'tail -n +1 -s 0.2 -f --pid="$0" "$1"; exit "$(cat "$1.status")"' \
    "$beside" "$beside_log"
for ranks in 2 3 4; do
    mkdir "$work/$ranks"
    run "$ranks-ranks" "$mpi_limit" mpiexec -n "$ranks" \
        python scripts/mpi_pytest.py "$work/$ranks" tests --with-mpi -m mpi -x -q -rfE --color="$color" ||
        other_ranks "$work/$ranks"
done

printf '\n%s\n' "$table"
echo "total: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
