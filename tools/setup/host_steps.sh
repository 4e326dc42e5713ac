# shellcheck shell=bash disable=SC2034,SC2154  # one program with setup.sh: variables are shared
# The one function that shows a step, the one that runs it, and the one that undoes it. A step is
#
#   KIND WANTED ARGUMENT...
#
# and host_kinds.sh says for each KIND: KIND_now ARGUMENT... (REPLY: how it is), KIND_set WANTED ARGUMENT... (makes it
# so, only by `change`), perhaps KIND_undo OLD WANTED ARGUMENT... and KIND_done with the same, and in kind_place whether a
# reboot undoes it.
# Because plan and apply run the same KIND_set, and `change` prints or does, the plan shows what apply does.

showing=         # set: change prints
step_number=0    # the steps that changed something, in this run
step_label=      # what runs now, for messages
failure=         # why the last change failed

declare -gA kind_place=()   # KIND -> disk or boot
declare -gA kind_title=()   # KIND -> for people; %s is the first argument

# change COMMAND...
change() {
    policy_lines=
    if [[ -n $showing ]]; then
        shell_line "$@"
    else
        failure=$("$@" 2>&1 >/dev/null </dev/null) || { failure=${failure##*$'\n'}; return 1; }
    fi
}

# change_file VALUE FILE: a file of the kernel's.
change_file() {
    if [[ -n $showing ]]; then
        printf 'echo %s > %s\n' "$1" "$2"
    else
        failure=$({ printf '%s\n' "$1" >"$2"; } 2>&1) || { failure=${failure##*: }; failure="$2: ${failure:-refused}"; return 1; }
    fi
}

# change_text FILE WORDS: whole or not at all.
change_text() {
    if [[ -n $showing ]]; then
        printf "cat > %s <<'END'\n%s\nEND\n" "$1" "$2"
    else
        replace_file "$1" "$2" || { failure="cannot write $1"; return 1; }
    fi
}

shell_line() {
    local word line=
    for word in "$@"; do
        # The group of a VF is known when it is there; until then the line finds it as a shell would.
        [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ || $word == /dev/vfio/\$* ]] || word=${word@Q}
        line+="${line:+ }$word"
    done
    printf '%s\n' "$line"
}

title_of() {
    local kind=$1
    # shellcheck disable=SC2059  # the title is the format; it need not use all arguments
    printf -v REPLY "${kind_title[$kind]}%.0s%.0s%.0s" "${@:3}"
}

# is_pending KIND WANTED ARGUMENT...
is_pending() {
    "${1}_now" "${@:3}"
    [[ $REPLY != "$2" ]]
}

# The steps that are to be done, by the look before the first of them. Of policies all are set, also one that a new VF
# happens to have (spoofchk on): what the plan shows is what happens, and does not depend on the PF's driver.
declare -gA pending=() pending_kind=()

note_pending() {
    ! is_pending "$@" || pending["$*"]=yes pending_kind[$1]=yes
}

# find_pending LIST
find_pending() {
    pending=() pending_kind=()
    "$1" note_pending
}

# For plan.
show_step() {
    local old title
    title_of "$@"
    title=$REPLY
    if ! is_pending "$@"; then
        say "#    $title: $2 already"
        return
    fi
    old=$REPLY
    step_number=$((step_number + 1))
    if [[ $1 == text ]]; then
        say "# $step_number  $title: $([[ $old == absent ]] && echo new || echo "other words")"
    else
        say "# $step_number  $title: ${old:-empty} -> ${2:-empty}"
    fi
    showing=yes
    "${1}_set" "${@:2}" || true
    showing=
}

# For apply and bind: journal, change, look.
run_step() {
    local old
    is_pending "$@" || [[ $1 == policy && -n ${pending["$*"]:-} ]] || return 0
    old=$REPLY
    title_of "$@"
    step_label=$REPLY
    step_number=$((step_number + 1))
    if declare -F "${1}_keep" >/dev/null; then
        "${1}_keep" "$old" "${@:3}" || fail_step "cannot keep what is there now"
        old=$REPLY
    fi
    record_step "$old" "$@" || fail_step "cannot write the journal in $state_root/$vm"
    test_hook journalled
    "${1}_set" "${@:2}" || fail_step "$failure"
    test_hook changed
    ! is_pending "$@" || fail_step "it is ${REPLY:-empty} afterwards and not $2"
    if declare -F "${1}_done" >/dev/null; then
        "${1}_done" "$old" "${@:2}" || fail_step "cannot write the journal in $state_root/$vm"
    fi
    say "  $step_number  $step_label: $2"
}

record_step() {
    local old=$1 kind=$2 place=${kind_place[$2]}
    [[ $place == disk ]] || place=$boot
    record "$place" "$kind" "$old" "${@:3}"
}

# Ends the run; what undoes it runs at its end, as after a signal (host_apply.sh).
fail_step() {
    quit "$exit_failed" "$step_label: $1"
}

# For tests: VITRINE_SETUP_FAIL=PLACE:NUMBER fails or kills this run at one point of its NUMBERth change. PLACE is
# journalled or changed: fails there; killed-journalled or killed-changed: as a power cut.
test_hook() {
    case ${VITRINE_SETUP_FAIL:-} in
        "$1:$step_number") fail_step "failure injected by VITRINE_SETUP_FAIL" ;;
        "killed-$1:$step_number") kill -KILL $$ ;;
        "signal-$1:$step_number") kill -TERM $$ ;;
    esac
}

# undo_to NUMBER: all later lines of the journal, latest first. A line that cannot be undone stays; so do none of the others.
undo_to() {
    local number start=$1 status=0 fields stuck=()
    for ((number = ${#journal[@]} - 1; number >= start; --number)); do
        IFS='|' read -r -a fields <<<"${journal[number]}"
        [[ ${fields[0]} == disk || ${fields[0]} == "$boot" ]] || continue
        undo_line "$number" || { stuck=("${journal[number]}" "${stuck[@]}"); status=1; }
    done
    journal=("${journal[@]:0:start}" "${stuck[@]}")
    return "$status"
}

# undo_line NUMBER
undo_line() {
    local fields result=0
    IFS='|' read -r -a fields <<<"${journal[$1]}"
    local kind=${fields[1]} old=${fields[2]} wanted=${fields[3]} arguments=("${fields[@]:4}")
    unset "arguments[-1]"  # the end mark
    journal_line=$1
    title_of "$kind" "$wanted" "${arguments[@]}"
    step_label=$REPLY
    failure=
    if declare -F "${kind}_undo" >/dev/null; then
        "${kind}_undo" "$old" "$wanted" "${arguments[@]}" || result=$?
    else
        undo_by_setting "$kind" "$old" "${arguments[@]}" || result=$?
    fi
    if ((result == 0)); then
        say "  undone: $step_label: ${old:-empty}"
    elif ((result == still_needed)); then
        if ! hand_on "$REPLY" "${journal[$1]}"; then
            warn "could not note that $REPLY needs it: $step_label"
            return 1
        fi
        say "  left as it is: $step_label: $REPLY needs it and will undo it"
    else
        warn "could not undo: $step_label: ${failure:-it is not ${old:-empty} again}"
        return 1
    fi
}

readonly still_needed=3  # an undo answers so, with the VM in REPLY

undo_by_setting() {
    local kind=$1 old=$2
    "${kind}_now" "${@:3}"
    # What is gone, or was never changed, needs no undoing.
    [[ $REPLY != absent && $REPLY != "$old" ]] || return 0
    "${kind}_set" "$old" "${@:3}" || return 1
    "${kind}_now" "${@:3}"
    [[ $REPLY == "$old" || $REPLY == absent ]]
}
