# shellcheck shell=bash disable=SC2034,SC2154  # one program with setup.sh: variables are shared
# What must be true before a VF can serve a VM. Each check calls, once for each thing it looked at,
#
#   report STATE NAME DETAIL [FIX]     STATE: OK, WARN, FAIL or -
#
# doctor makes a table of it; plan and apply end at the first FAIL of those that they cannot set right by themselves.

# A PF that is down is an operator's mistake, but no reason for a service not to start: it may come up later.
demand_preconditions() {
    local starting=${1:-}
    report() {
        case $1${starting:+ $2} in
            "FAIL PF "*) warn "$2: $3${4:+: $4}" ;;
            FAIL*) quit "$exit_missing" "$2: $3${4:+: $4}" ;;
            WARN*) warn "$2: $3${4:+: $4}" ;;
        esac
    }
    check_kernel
    check_iommu
    if [[ -n $pf ]]; then
        check_pf
    fi
    check_group
    refuse_unknown_vf
}

# A card that only resembles ours is not an omission that somebody could make good.
refuse_unknown_vf() {
    report() {
        [[ $1 != FAIL ]] || quit "$exit_refused" "$2: $3${4:+: $4}"
    }
    check_vf_identity
}

check_kernel() {
    local release
    read -r release </proc/sys/kernel/osrelease
    if [[ -d $pci/drivers/vfio-pci ]] || modprobe --dry-run --quiet vfio-pci 2>/dev/null; then
        if [[ $release == *cloud* && ! -d $pci/drivers/ixgbe ]]; then
            report WARN kernel "$release has no driver for the PF (ixgbe)" "apt install linux-image-amd64, and boot it"
        else
            report OK kernel "$release, vfio-pci is there"
        fi
    else
        report FAIL kernel "$release has no vfio-pci" "apt install linux-image-amd64, and boot it"
    fi
}

# Which switch is missing, the tables of the firmware tell.
check_iommu() {
    local groups=(/sys/kernel/iommu_groups/*) command_line interrupts kind=amd
    if [[ ! -e ${groups[0]} ]]; then
        read -r command_line </proc/cmdline
        if [[ -e /sys/firmware/acpi/tables/DMAR ]]; then
            report FAIL IOMMU "VT-d is there and off" \
                "add intel_iommu=on to GRUB_CMDLINE_LINUX in /etc/default/grub, update-grub, reboot"
        elif [[ -e /sys/firmware/acpi/tables/IVRS && $command_line == *amd_iommu=off* ]]; then
            report FAIL IOMMU "amd_iommu=off on the kernel's command line" "remove it in /etc/default/grub, update-grub, reboot"
        else
            report FAIL IOMMU "none in this machine, or switched off in its firmware" "switch on VT-d or AMD-Vi (IOMMU) in the firmware set-up"
        fi
        return
    fi
    [[ ! -e /sys/firmware/acpi/tables/DMAR ]] || kind=VT-d
    [[ ! -e /sys/firmware/acpi/tables/IVRS ]] || kind=AMD-Vi
    [[ $kind != amd ]] || kind=IOMMU
    IFS= read -r -d '' interrupts </proc/interrupts || true
    if [[ $interrupts == *IR-* ]]; then
        report OK IOMMU "$kind, ${#groups[@]} groups, interrupts are remapped"
    elif read_fact /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts && [[ $REPLY == Y ]]; then
        report WARN IOMMU "$kind, ${#groups[@]} groups; interrupts are not remapped: a VM could forge them" \
            "remove intremap=off from the kernel's command line"
    else
        report FAIL IOMMU "$kind without interrupt remapping: VFIO refuses it" \
            "remove intremap=off from the kernel's command line, or accept the risk: echo Y > /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts"
    fi
}

check_pf() {
    local name="PF $pf" driver mtu carrier
    driver_of "$pf_address"
    driver=$REPLY
    read_fact "/sys/class/net/$pf/mtu" || true
    mtu=$REPLY
    if ! is_up "$pf"; then
        report FAIL "$name" "is down: its VFs hear nothing from it" "ip link set dev $pf up"
        return
    fi
    read_fact "/sys/class/net/$pf/carrier" || true
    carrier=$REPLY
    if [[ $carrier != 1 ]]; then
        report WARN "$name" "has no carrier" "plug the cable in; ethtool $pf says more"
    else
        functions_now "$pf_address"
        report OK "$name" "$pf_address, $driver, up, MTU $mtu (one limit for all of the port), $REPLY of $pf_total_vfs VFs"
    fi
    if function_is_used "$pf_address"; then
        report WARN "$name" "$REPLY: to create or change VFs can interrupt its link" "use another port, or apply --force"
    fi
}

# Before the VF is there, its PF says what it will be.
vf_identity() {
    if exists_function "$vf_address"; then
        identity_of "$vf_address"
    elif read_fact "$pci/devices/$pf_address/sriov_vf_device"; then
        REPLY=8086:$REPLY
    else
        REPLY=unknown
    fi
}

check_vf_identity() {
    local identity
    vf_identity
    identity=$REPLY
    if part_of "$identity"; then
        report OK "VF $vf_address" "$identity, a VF of an $REPLY"
    elif [[ -n ${setting[any_vf]:-}${option[--test-any-vf]:-} ]]; then
        report WARN "VF $vf_address" "$identity is none that vitrine drives; --test-any-vf"
    else
        report FAIL "VF $vf_address" "$identity is none that vitrine drives" "use a VF of an 82599, X540 or X550 (8086:10ed, 1515, 1565)"
    fi
}

check_group() {
    local group others
    exists_function "$vf_address" || return 0
    group_of "$vf_address" || return 0  # check_iommu has said so
    group=$REPLY
    others=(/sys/kernel/iommu_groups/"$group"/devices/*)
    if group_is_viable "$vf_address"; then
        REPLY=alone
        ((${#others[@]} == 1)) || REPLY="with $((${#others[@]} - 1)) that nobody drives"
        report OK "group $group" "$vf_address, $REPLY"
    else
        report FAIL "group $group" "not viable: $REPLY" "bind all of the group to vfio-pci, or use a slot with ACS"
    fi
}

check_vf_driver() {
    local fix="setup.sh apply --vf $vf_address --vm NAME"
    exists_function "$vf_address" || { report - "VF $vf_address" "not created yet"; return 0; }
    driver_of "$vf_address"
    case $REPLY in
        vfio-pci) report OK "VF $vf_address" "bound to vfio-pci" ;;
        none) report OK "VF $vf_address" "bound to no driver" ;;
        *)
            report FAIL "VF $vf_address" "bound to $REPLY, so the kernel has it" \
                "setup.sh apply --vf $vf_address --vm ${vm:-NAME} (or echo $vf_address > $pci/drivers/$REPLY/unbind)" ;;
    esac
    if function_is_used "$vf_address"; then
        report FAIL "VF $vf_address" "$REPLY" "take that away first, or choose another VF"
    fi
}

check_policy() {
    local mac vlan spoofchk trust
    [[ -n $pf && -e $pci/devices/$pf_address/virtfn$vf_index ]] || return 0
    policy_now "$pf_address" "$vf_index" mac
    mac=$REPLY
    policy_now "$pf_address" "$vf_index" vlan
    vlan=$REPLY
    policy_now "$pf_address" "$vf_index" spoofchk
    spoofchk=$REPLY
    policy_now "$pf_address" "$vf_index" trust
    trust=$REPLY
    local words="mac $mac, vlan $vlan, spoofchk $spoofchk, trust $trust"
    if [[ $mac == 00:00:00:00:00:00 ]]; then
        report WARN "VF $vf_index policy" "$words: the VM may choose its address" "setup.sh apply ... --mac ADDRESS"
    elif [[ $spoofchk == off || $trust == on ]]; then
        report WARN "VF $vf_index policy" "$words: the VM may send with any address" "setup.sh apply ... --spoofchk on --trust off"
    else
        report OK "VF $vf_index policy" "$words"
    fi
}

check_huge_pages() {
    local kib=${setting[huge_page_kib]} asked=${setting[huge_pages]} total free
    huge_pages_now "$vf_node" "$kib"
    total=$REPLY
    if [[ $total == absent ]]; then
        report FAIL "huge pages" "this kernel has none of $kib KiB" "boot a kernel with CONFIG_HUGETLBFS"
        return
    fi
    huge_page_file "$vf_node" "$kib"
    read_fact "$REPLY/free_hugepages" || true
    free=$REPLY
    if ((huge_pages_wanted > total)); then
        report FAIL "huge pages" "node $vf_node: need $asked x $kib KiB ($needs_source), free $free of $total" \
            "setup.sh apply ... (or echo $huge_pages_wanted > $(huge_page_file "$vf_node" "$kib"; echo "$REPLY")/nr_hugepages)"
    else
        report OK "huge pages" "node $vf_node: need $asked x $kib KiB ($needs_source), free $free of $total"
    fi
}

check_memlock() {
    local file=/etc/systemd/system/vitrine@$vm.service.d/limits.conf limit
    [[ -n $vm && -f $file ]] || return 0
    limit=$(sed -n 's/^LimitMEMLOCK=\([^:]*\).*/\1/p' "$file" | tail -n 1)
    [[ $limit == infinity ]] || limit=$(numfmt --from=iec -- "$limit" 2>/dev/null) || limit=0
    if [[ $limit == infinity ]] || ((limit >= setting[locked_bytes])); then
        report OK "memlock of $vm" "the unit allows $limit bytes, ${setting[locked_bytes]} are needed ($needs_source)"
    else
        report FAIL "memlock of $vm" "the unit allows $limit bytes, ${setting[locked_bytes]} are needed ($needs_source)" "setup.sh apply ... again"
    fi
}

check_vfio_nodes() {
    if [[ ! -c /dev/vfio/vfio ]]; then
        [[ ! -d $pci/drivers/vfio-pci ]] || report FAIL /dev/vfio/vfio "is not there" "modprobe vfio_iommu_type1"
        return 0
    fi
    REPLY=$(stat -c %a /dev/vfio/vfio)
    if [[ $REPLY == 666 ]]; then
        report OK /dev/vfio/vfio "open to all, as it should be: it gives no access to any device"
    else
        report FAIL /dev/vfio/vfio "mode $REPLY: only root can use VFIO" "chmod 666 /dev/vfio/vfio"
    fi
    if [[ -n $vm ]]; then
        owner_now "$vf_address"
        if [[ $REPLY == "vitrine-$vm:vitrine-$vm:600" ]]; then
            report OK "VF $vf_address" "its group belongs to vitrine-$vm alone"
        elif [[ $REPLY != absent ]]; then
            report FAIL "VF $vf_address" "its group belongs to ${REPLY%:*}, mode ${REPLY##*:}, and not to vitrine-$vm" "setup.sh bind $vm"
        fi
    fi
}

check_processors() {
    local file governor slow=0
    for file in /sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor; do
        read_fact "$file" || continue
        governor=$REPLY
        [[ $governor == performance ]] || slow=$((slow + 1))
    done
    ((slow == 0)) || report WARN processors "$slow of them save power ($governor)" "cpupower frequency-set -g performance"
}
