# shellcheck shell=bash disable=SC2154  # of setup_checks.sh: its variables, and its way to run setup.sh
# What apply and rollback do when something fails, kills them or cuts their journal off.

# fails_at PLACE NUMBER: what VITRINE_SETUP_FAIL does there, and that all is as before.
fails_at() {
    local status=0
    VITRINE_SETUP_FAIL=$1:$2 "$setup" apply "${vm1[@]}" >"$output" 2>&1 </dev/null || status=$?
    if [[ $1 == killed-* ]]; then
        ((status == 137)) || fail "$1:$2: status $status and not 137"
        expect 3 apply "${vm1[@]}"
        says 'was cut off: .*rollback --vm vm1'
        expect 3 doctor
        says '^ vm1 +FAIL .*rollback --vm vm1'
        expect 0 rollback --vm vm1
    else
        ((status == 1)) || fail "$1:$2: status $status and not 1"
        says 'all is as it was before'
    fi
    same_as_at_first "$1:$2"
}

# injection PLACE NUMBER...
part_injection() {
    local place=$1 number
    begin
    for number in "${@:2}"; do
        fails_at "$place" "$number"
    done
    passed "$*: all as it was before"
}

# The number of steps; by it the test knows all of them.
part_steps() {
    expect 0 plan "${vm1[@]}"
    grep -cE '^# [0-9]+  ' "$output"
}

# A line of the journal that the power cut off, and a rollback that is cut off itself.
part_journal() {
    begin
    expect 0 apply "${vm1[@]}"
    printf 'disk|text|abs' >>/var/lib/vitrine/vm1/journal
    expect 0 rollback --vm vm1
    same_as_at_first "a torn journal"
    expect 0 apply "${vm1[@]}"
    touch /dev/vitrine/vm1/held
    exec 7</dev/vitrine/vm1/held
    expect 1 rollback --vm vm1
    says 'could not undo: huge pages at /dev/vitrine/vm1: .*busy'
    expect 3 doctor
    exec 7>&-
    expect 0 rollback --vm vm1
    same_as_at_first "a rollback in two goes"
    passed "a torn journal is read; what could not be undone is undone by the next rollback"
}
