#!/bin/bash
# The first process of the virtual machine. Puts its root on a tmpfs, for nothing can pivot out of an initramfs; makes
# cgroup version 2 alone, laid out as systemd does; and runs the steps, in a session and in the root group.
export PATH=/usr/sbin:/usr/bin TINE_ROOT=/var/pool
cgroups=/sys/fs/cgroup

if [ "${1-}" != moved ]; then
    mkdir -p /new && mount -t tmpfs -o size=700m,mode=755 tmpfs /new
    cp -a /usr /etc /root /bin /sbin /lib /lib64 /init /steps.sh /tiny.tar /new/
    mkdir -p /new/proc /new/sys /new/dev /new/run /new/tmp /new/var
    exec switch_root /new /init moved 2>/dev/null
fi

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
mount -t tmpfs run /run
mount -t cgroup2 -o nosuid,nodev,noexec,nsdelegate cgroup2 "$cgroups"
exec </dev/null >/dev/console 2>&1
echo "UP $(cut -d' ' -f1 /proc/uptime) kernel $(uname -r)"
for module in loop crc32c btrfs veth bridge nf_tables; do
    modprobe "$module" || echo "no module $module"
done

# As in a systemd host: no process in the root group, controllers handed down, the user in a scope of its own.
session=$cgroups/user.slice/session-1.scope
mkdir -p "$cgroups/init.scope" "$session"
for process in $(cat "$cgroups/cgroup.procs"); do
    { echo "$process" >"$cgroups/init.scope/cgroup.procs"; } 2>/dev/null
done
echo "+memory +pids" >"$cgroups/cgroup.subtree_control"
echo "+memory +pids" >"$cgroups/user.slice/cgroup.subtree_control"
export SESSION=$session
bash -c 'echo 0 >"$SESSION/cgroup.procs" && exec bash /steps.sh session'

# The end of the session takes everything along that is in it.
bash -c 'echo 0 >"$SESSION/cgroup.procs" && exec sleep 1000' &
sleep 0.2
echo 1 >"$session/cgroup.kill"
wait
rmdir "$session"
bash /steps.sh after_logout

echo 0 >"$cgroups/cgroup.procs"
bash /steps.sh root
echo "DOWN $(cut -d' ' -f1 /proc/uptime)"
sync
echo b >/proc/sysrq-trigger
sleep 10
