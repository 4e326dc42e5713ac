# shellcheck shell=bash disable=SC2034,SC2154  # one program with setup.sh: variables are shared
# setup.sh status: every VM that is set up, and whether the machine still is as apply left it. Reads only.

verb_status() {
    local names name separator=
    need_root status
    parse_options status "--vm --json!" "$@"
    names=$vm
    if [[ -z $vm ]]; then
        other_vms
        names=$REPLY
    fi
    [[ -z ${option[--json]:-} ]] || printf '['
    for name in $names; do
        vm=$name
        describe_vm
        if [[ -n ${option[--json]:-} ]]; then
            printf '%s' "$separator"
            print_vm_as_json
            separator=,
        else
            print_vm
        fi
    done
    if [[ -n ${option[--json]:-} ]]; then
        printf ']\n'
    elif [[ -z $names ]]; then
        say "no VM is set up"
    fi
}

# In this order.
status_names=(state vf address group driver owner running journal changed)
declare -gA status=()
changed_steps=()

note_change() {
    is_pending "$@" || return 0
    local now=$REPLY
    title_of "$@"
    changed_steps+=("$REPLY is ${now:-empty} and not ${2:-empty}")
}

describe_vm() {
    status=([state]=missing)
    changed_steps=()
    [[ -d $state_root/$vm ]] || return 0
    read_journal
    status[journal]="${#journal[@]} changes"
    ! was_cut_off || { status[state]="cut off: setup.sh rollback --vm $vm"; return 0; }
    # In a process of its own, because a VF that is gone ends it.
    if ! (adopt_settings) 2>/dev/null; then
        status[state]="its VF is gone: setup.sh bind $vm, or setup.sh rollback --vm $vm"
        return 0
    fi
    adopt_settings
    each_step note_change
    status[state]="as set up"
    ((${#changed_steps[@]} == 0)) || status[state]="changed since: setup.sh bind $vm, or setup.sh apply ..."
    status[changed]=$(IFS=';'; echo "${changed_steps[*]}")
    status[vf]=${setting[vf]} status[address]=$vf_address
    group_of "$vf_address" || REPLY=none
    status[group]=$REPLY
    driver_now "$vf_address"
    status[driver]=$REPLY
    owner_now "$vf_address"
    status[owner]=$REPLY
    status[running]=no
    ! group_is_open "$vf_address" || status[running]=yes
}

print_vm() {
    local name
    say "$vm"
    for name in "${status_names[@]}"; do
        [[ -z ${status[$name]:-} ]] || printf '  %-8s %s\n' "$name" "${status[$name]}"
    done
}

print_vm_as_json() {
    local name
    json_text "$vm"
    printf '{"vm": %s' "$REPLY"
    for name in "${status_names[@]}"; do
        json_text "${status[$name]:-}"
        printf ', "%s": %s' "$name" "$REPLY"
    done
    printf '}'
}
