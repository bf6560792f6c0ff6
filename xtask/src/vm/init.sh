#!/bin/busybox sh
# The first process in the virtual machine: mounts what a node has, runs the checks, tells of them
# on the second serial line, and switches the machine off.
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /usr/local/bin
export PATH=/usr/bin:/usr/local/bin HOME=/root TMPDIR=/tmp LC_ALL=C.UTF-8 LIMITER_BIN=/limiter/limiter LIMITER_TEST_EMULATED=1
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm /dev/net
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf -o mode=0700 bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
ln -sf /proc/self/fd /dev/fd
mkdir -p /run/netns
[ -c /dev/net/tun ] || mknod /dev/net/tun c 10 200
ip link set lo up
# A terminal ends lines in another way, and echoes.
stty -F /dev/ttyS1 raw -echo
exec >/dev/ttyS1 2>&1 </dev/null

now() {
    cut -d' ' -f1 /proc/uptime
}

# check NAME SECONDS COMMAND...
check() {
    name=$1 limit=$2
    shift 2
    echo "@begin $name at $(now)"
    timeout -s KILL "$limit" "$@"
    status=$?
    echo
    echo "@end $name $status at $(now)"
}

echo "@up $(uname -r) $(now)"
cd /limiter || exit
. /limiter/checks
echo "@done $(now)"
# The line is slow: what was written has to be out before the machine stops.
sync
sleep 1
echo o >/proc/sysrq-trigger
sleep 10
