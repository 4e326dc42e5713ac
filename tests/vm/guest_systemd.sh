#!/bin/busybox sh
# shellcheck shell=dash
# In a guest of the lab: starts the systemd of the lab's root, as process 1 of a namespace and of a writable copy of that
# root, in which this build is installed (/ours/installed, by cmake --install) with those libraries that the root has
# not. `in-systemd COMMAND` runs a shell command there.

set -e
mkdir -p /service
mount -t tmpfs tmpfs /service
mkdir /service/changes /service/work /service/root
mount -t overlay overlay -o lowerdir=/lab,upperdir=/service/changes,workdir=/service/work /service/root
cd /service/root
cp -a /ours/installed/. .
for library in /ours/lib/*; do
    [ -e "usr/lib/x86_64-linux-gnu/${library##*/}" ] || cp "$library" usr/lib/x86_64-linux-gnu/
done
# What takes long and nobody needs here: devices are there, nothing is new since the last boot, nobody logs in.
for unit in systemd-udevd systemd-udev-trigger systemd-networkd systemd-modules-load systemd-sysctl console-getty \
    systemd-tmpfiles-setup systemd-tmpfiles-setup-dev systemd-tmpfiles-setup-dev-early; do
    ln -sf /dev/null "etc/systemd/system/$unit.service"
done
echo 0123456789abcdef0123456789abcdef >etc/machine-id
touch etc/.updated var/.updated

cat >/bin/in-systemd <<'TEXT'
#!/bin/busybox sh
exec nsenter -t "$(cat /service/pid)" -m -p -r -w -- /bin/sh -c "$1"
TEXT
chmod +x /bin/in-systemd

# The number of process 1 there, as it is here: this /proc is still the old one.
# shellcheck disable=SC2016  # expanded inside
unshare -m -p -f sh -c '
    read -r number rest </proc/self/stat
    echo "$number" >/service/pid
    mount -t proc proc proc
    mount -t sysfs sysfs sys
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    mount --rbind /dev dev
    mount -t tmpfs tmpfs run
    mount -t tmpfs tmpfs tmp
    exec chroot . /usr/bin/env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin /usr/lib/systemd/systemd --unit=sysinit.target
' </dev/null >/tmp/systemd.log 2>&1 &
until [ -s /service/pid ]; do sleep 0.1; done
