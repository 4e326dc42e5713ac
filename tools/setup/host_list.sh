# shellcheck shell=bash disable=SC2034,SC2154  # one program with setup.sh: variables are shared
# What a VM's VF needs, as one list of steps: plan shows it, apply runs it, status compares it, bind runs what a reboot
# has undone. Every decision about WANTED is made before, in `setting`, so that the list is the same for all of them.

# Of this VM: from the options, or from its settings file.
declare -gA setting=()

setting_names=(pf_address vf vfs mac vlan spoofchk trust huge_pages huge_page_kib locked_bytes mtu queues guest_dma
    guest_memory_mib pf_is_used any_vf)

settings_text() {
    local name
    printf '# What setup.sh bind %s does again after a reboot. Written by setup.sh apply; rollback removes it.\n' "$vm"
    for name in "${setting_names[@]}"; do
        printf '%s=%s\n' "$name" "${setting[$name]:-}"
    done
}

read_settings() {
    local line
    setting=()
    [[ -f $state_root/$vm/settings ]] || return 1
    while IFS= read -r line; do
        [[ $line != [a-z]*=* ]] || setting[${line%%=*}]=${line#*=}
    done <"$state_root/$vm/settings"
}

configuration_file() {
    REPLY=/etc/vitrine/$vm.toml
}

configuration_text() {
    printf '# Options of "vitrine run" for %s. Written by setup.sh apply; add what you like: vitrine run --help\n' "$vm"
    printf 'name = "%s"\nvf = "%s"\nmtu = %s\nqueues = %s\n' "$vm" "${setting[vf]}" "${setting[mtu]}" "${setting[queues]}"
    [[ ${setting[guest_dma]} != on ]] || printf 'guest-dma = "on"\n'
}

limits_text() {
    printf '# Written by setup.sh apply: what the VF may pin of memory, by the count of "vitrine needs".\n'
    printf '[Service]\nLimitMEMLOCK=%s\n' "${setting[locked_bytes]}"
}

# text_step CALLBACK PATH WHAT
text_step() {
    local sum
    sum=$("$3" | sha256sum)
    "$1" text "${sum:0:16}" "$2" "$3"
}

# each_step CALLBACK: in this order, which is undone backwards.
each_step() {
    local callback=$1 user=vitrine-$vm pf=${setting[pf_address]} what own_mib
    "$callback" folder present /etc/vitrine 755
    "$callback" account present "$user"

    if ((setting[huge_pages] > 0)); then
        "$callback" huge_pages "$huge_pages_wanted" "$vf_node" "${setting[huge_page_kib]}"
        "$callback" devfolder present /dev/vitrine 755
        "$callback" devfolder present "/dev/vitrine/$vm" 755
        # The guest's own memory comes from wherever its VMM takes it.
        own_mib=$((setting[huge_pages] * setting[huge_page_kib] / 1024 - setting[guest_memory_mib]))
        "$callback" pages "$user:$own_mib" "/dev/vitrine/$vm" "${setting[huge_page_kib]}"
    fi

    if [[ -n $pf ]]; then
        # First, or the kernel's own driver takes the new VFs and makes interfaces of them.
        if [[ -n ${setting[vfs]} ]]; then
            "$callback" autoprobe 0 "$pf"
            "$callback" functions "${setting[vfs]}" "$pf"
        fi
        for what in mac vlan spoofchk trust; do
            [[ -z ${setting[$what]} ]] || "$callback" policy "${setting[$what]}" "$pf" "$vf_index" "$what"
        done
    fi

    "$callback" module loaded vfio_iommu_type1
    "$callback" module loaded vfio-pci
    "$callback" override vfio-pci "$vf_address"
    "$callback" driver vfio-pci "$vf_address"
    "$callback" owner "$user:$user:600" "$vf_address"

    configuration_file
    [[ -n $own_configuration ]] || text_step "$callback" "$REPLY" configuration_text
    "$callback" folder present "/etc/systemd/system/vitrine@$vm.service.d" 755
    text_step "$callback" "/etc/systemd/system/vitrine@$vm.service.d/limits.conf" limits_text
    text_step "$callback" "$state_root/$vm/settings" settings_text
}
