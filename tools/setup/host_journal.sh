# shellcheck shell=bash disable=SC2034,SC2154  # one program with setup.sh: variables are shared
# What was before, on the disk before it changes. One directory per VM:
#
#   journal   one line per change, oldest first: BOOT|KIND|OLD|WANTED|ARGUMENT...|.
#             BOOT is the kernel's id of this boot, or "disk" for what a reboot does not undo.
#   running   there while apply or bind runs: the number of lines before it. Left behind: it was cut off.
#   settings  what bind must do again after a reboot (host_list.sh)
#   old.N     files that were replaced

state_root=/var/lib/vitrine
journal=()       # the lines of the VM at hand
read -r boot </proc/sys/kernel/random/boot_id

# One run at a time on this machine. The lock goes with the process.
lock_host() {
    local mask
    mask=$(umask)
    umask 077  # who can open it can hold it
    exec 9>/run/vitrine-setup.lock
    umask "$mask"
    flock -w 45 9 || quit "$exit_failed" "another setup.sh has been at work for 45 s: see ps -C setup.sh"
}

# read_journal: the last line may be torn by a power cut; then its change was not begun.
read_journal() {
    local number
    journal=()
    [[ -f $state_root/$vm/journal ]] || return 0
    mapfile -t journal <"$state_root/$vm/journal"
    for number in "${!journal[@]}"; do
        [[ ${journal[number]} == *'|.' ]] && continue
        ((number == ${#journal[@]} - 1)) ||
            quit "$exit_failed" "$state_root/$vm/journal, line $((number + 1)) is damaged: look at it before anything else"
        unset "journal[number]"
    done
}

# replace_file FILE WORDS: whole or not at all.
replace_file() {
    printf '%s\n' "$2" >"$1.new" && sync "$1.new" && mv "$1.new" "$1" && sync "${1%/*}"
}

write_journal() {
    if ((${#journal[@]} > 0)); then
        local IFS=$'\n'
        replace_file "$state_root/$vm/journal" "${journal[*]}"
    else
        rm -f "$state_root/$vm/journal"
    fi
}

# begin_journal: from here on, a run that is cut off can be told from one that ended.
begin_journal() {
    if [[ ! -d $state_root ]]; then
        mkdir -m 700 "$state_root"
        : >"$state_root/made-by-setup"
        sync "${state_root%/*}"
    fi
    if [[ ! -d $state_root/$vm ]]; then
        mkdir -m 700 "$state_root/$vm"
        sync "$state_root"
    fi
    read_journal
    forget_old_boots
    # Without a torn line, to which the next would be glued.
    [[ ! -f $state_root/$vm/journal ]] || write_journal
    journal_start=${#journal[@]}
    replace_file "$state_root/$vm/running" "$journal_start"
}

# A reboot has undone what was not on the disk.
forget_old_boots() {
    local line kept=()
    for line in "${journal[@]}"; do
        [[ $line != disk\|* && $line != "$boot"\|* ]] || kept+=("$line")
    done
    journal=("${kept[@]}")
}

# record BOOT KIND OLD WANTED ARGUMENT...: on the disk when it returns.
record() {
    local line
    printf -v line '%s|' "$@"
    line+=.
    printf '%s\n' "$line" >>"$state_root/$vm/journal" && sync "$state_root/$vm/journal" || return 1
    journal+=("$line")
}

end_journal() {
    rm -f "$state_root/$vm/running"
    sync "$state_root/$vm"
}

was_cut_off() {
    [[ -e $state_root/$vm/running ]]
}

# The other VMs that are set up on this machine.
other_vms() {
    local path
    REPLY=
    for path in "$state_root"/*/; do
        path=${path%/}
        [[ -d $path && ${path##*/} != "$vm" ]] || continue
        REPLY+="${REPLY:+ }${path##*/}"
    done
}

# setting_of VM NAME: without making it ours.
setting_of() {
    local line
    REPLY=
    [[ -f $state_root/$1/settings ]] || return 1
    while IFS= read -r line; do
        [[ $line != "$2="* ]] || REPLY=${line#*=}
    done <"$state_root/$1/settings"
    [[ -n $REPLY ]]
}

# hand_on VM LINE: that VM still needs what this line would undo, so it undoes it. First, since it is older than all of its own.
hand_on() {
    local target=$1 line=$2
    [[ -f $state_root/$target/journal ]] || : >"$state_root/$target/journal"
    grep -qxF -- "$line" "$state_root/$target/journal" ||
        replace_file "$state_root/$target/journal" "$line"$'\n'"$(<"$state_root/$target/journal")"
}

# Nothing of ours is left. The folder of all VMs may be that of an installation.
remove_state() {
    rm -f "$state_root/$vm"/{journal,running,settings} "$state_root/$vm"/*.new "$state_root/$vm"/old.* "/run/vitrine/$vm.env"
    rmdir "$state_root/$vm" "/run/vitrine/$vm" 2>/dev/null || true
    other_vms
    if [[ -z $REPLY && -e $state_root/made-by-setup ]]; then
        rm "$state_root/made-by-setup"
        rmdir "$state_root"
    fi
}
