# shellcheck shell=bash disable=SC2034,SC2154  # one program with setup.sh: variables are shared
# setup.sh plan, apply and rollback.

readonly vm_options="--pf --vf --vm --mac --vlan --spoofchk --trust --vfs --mtu --queues --guest-dma --guest-memory --force! --test-any-vf!"

changing=   # set: this run has changed something or is about to

# prepare VERB ITS-OPTION ARGUMENT...
prepare() {
    parse_options "$1" "$vm_options $2" "${@:3}"
    [[ -n $vm && -n ${option[--vf]:-} ]] || usage_error "$1 needs --pf PF --vf NUMBER (or --vf ADDRESS) and --vm NAME"
    need_programs ip useradd userdel flock mount umount
}

verb_plan() {
    prepare plan --json! "$@"
    refuse_cut_off
    settings_from_options
    demand_preconditions
    find_pending each_step
    refuse_what_is_used
    if [[ -n ${option[--json]:-} ]]; then
        print_plan_as_json
        return 0
    fi
    say "# ${setting[vf]} ($vf_address) for $vm; ${setting[huge_pages]} huge pages and ${setting[locked_bytes]} locked bytes, $needs_source"
    [[ -z $own_configuration ]] || say "# /etc/vitrine/$vm.toml is yours and stays as it is"
    each_step show_step
    ((step_number > 0)) || say "# nothing to change"
}

print_plan_as_json() {
    local words separator=
    json_text "$vm"
    words="{\"vm\": $REPLY"
    json_text "$vf_address"
    printf '%s, "address": %s, "huge_pages": %s, "locked_bytes": %s, "steps": [' \
        "$words" "$REPLY" "${setting[huge_pages]}" "${setting[locked_bytes]}"
    each_step print_step_as_json
    printf '\n]}\n'
}

print_step_as_json() {
    local part parts
    is_pending "$@" || return 0
    parts=("old:$REPLY" "wanted:$2")
    title_of "$@"
    parts=("step:$REPLY" "${parts[@]}")
    showing=yes
    parts+=("commands:$("${1}_set" "${@:2}")")
    showing=
    printf '%s\n  {' "$separator"
    separator=
    for part in "${parts[@]}"; do
        json_text "${part#*:}"
        printf '%s"%s": %s' "$separator" "${part%%:*}" "$REPLY"
        separator=', '
    done
    printf '}'
    separator=,
}

verb_apply() {
    need_root apply
    prepare apply --yes! "$@"
    lock_host
    refuse_cut_off
    settings_from_options
    demand_preconditions
    find_pending each_step
    if ((${#pending[@]} == 0)); then
        say "$vm: nothing to change"
        return 0
    fi
    refuse_what_is_used
    confirm
    begin_changes
    each_step run_step
    verify_vf
    end_changes
    say "$vm: ${setting[vf]} ($vf_address) is ready: systemctl start vitrine@$vm"
}

refuse_cut_off() {
    ! was_cut_off || quit "$exit_missing" "an earlier run for $vm was cut off: sudo $0 rollback --vm $vm"
}

# Somebody who sits there is asked; a script has decided.
confirm() {
    local answer
    [[ -t 0 && -z ${option[--yes]:-} ]] || return 0
    each_step show_step
    step_number=0
    # Other runs wait for this one: a service that starts must not wait for somebody who has gone home.
    read -r -t 30 -p "Do this? [y/N] " answer || true
    [[ $answer == [yY]* ]] || quit "$exit_refused" "nothing was changed"
}

begin_changes() {
    # Ctrl-C, a stopped service, a lost terminal: all end at end_of_run, which undoes.
    trap end_of_run EXIT
    trap 'warn "interrupted"; exit 1' INT TERM HUP
    trap '' PIPE
    changing=yes
    begin_journal
}

end_changes() {
    end_journal
    changing=
}

# The kernel may have put the VF, or its neighbours, elsewhere than we thought.
verify_vf() {
    step_label="VF $vf_address"
    same_vf || fail_step "$failure"
    group_is_viable "$vf_address" || fail_step "$REPLY: bind it to vfio-pci, too, or use a slot with ACS"
}

end_of_run() {
    [[ -n $changing ]] || return 0
    trap '' INT TERM HUP
    changing=
    set +e
    if ((${#journal[@]} > journal_start)); then
        warn "undoing what was done"
    fi
    if undo_to "$journal_start" && write_journal; then
        end_journal
        ((${#journal[@]} > 0)) || remove_state
        warn "all is as it was before"
    else
        write_journal
        warn "not all could be undone: when the cause is gone, sudo $0 rollback --vm $vm"
    fi
    exit "$exit_failed"
}

verb_rollback() {
    need_root rollback
    parse_options rollback "--vm --force!" "$@"
    [[ -n $vm ]] || usage_error "rollback needs --vm NAME"
    lock_host
    if [[ ! -d $state_root/$vm ]]; then
        say "$vm: nothing to undo"
        return 0
    fi
    read_settings || true
    address_of_vf "${setting[vf]:-}" && vf_address=$REPLY
    refuse_running_vm
    read_journal
    refuse_to_take_vfs_from_used_pf
    trap '' INT TERM HUP PIPE
    : >>"$state_root/$vm/running"
    if undo_to 0 && write_journal; then
        remove_state
        say "$vm: all is as it was before"
    else
        write_journal
        quit "$exit_failed" "not all could be undone: when the cause is gone, sudo $0 rollback --vm $vm"
    fi
}

refuse_to_take_vfs_from_used_pf() {
    local address=${setting[pf_address]:-}
    [[ -n $address && -z ${option[--force]:-}${setting[pf_is_used]:-} ]] || return 0
    [[ " ${journal[*]} " == *"$boot|functions|"* ]] || return 0
    ! pf_still_needed "$address" || return 0
    ! function_is_used "$address" ||
        quit "$exit_refused" "$REPLY by now, and to remove the VFs can interrupt its link: say --force"
}
