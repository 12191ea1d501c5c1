#!/bin/sh
# OpenSSH: commands, their exit codes, large transfers both ways. The server
# runs itself anew with the connection as 0 and 1, so that stays on TCP.
. "$(dirname "$0")/frame.inc"
needs sshd ssh scp ssh-keygen
sshd=$(command -v sshd)
ssh-keygen -q -t ed25519 -N '' -f "$dir/hostkey"
ssh-keygen -q -t ed25519 -N '' -f "$dir/key"
cp "$dir/key.pub" "$dir/authorized"
if [ "$(id -u)" -eq 0 ]; then
    mkdir -p /run/sshd
fi

server() {
    cat >"$dir/sshd_config" <<END
Port $port
ListenAddress 127.0.0.1
HostKey $dir/hostkey
PidFile $dir/sshd.pid
AuthorizedKeysFile $dir/authorized
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
END
    launch sshd "$sshd" -D -e -f "$dir/sshd_config"
    wait_for_port "$port"
}

client() {
    set -- -F /dev/null -i "$dir/key" -o StrictHostKeyChecking=no \
        -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes
    there=$(id -un)@127.0.0.1
    ours ssh "$@" -p "$port" "$there" 'echo here; exit 7'
    echo "exit $?"
    ours ssh "$@" -p "$port" "$there" sha256sum <"$(blob 30000000)"
    ours ssh "$@" -p "$port" "$there" "cat $(blob 30000000)" | sum
    ours scp "$@" -q -P "$port" "$(blob 3000000)" "$there:$dir/copied"
    echo "exit $?"
    sum <"$dir/copied"
    rm -f "$dir/copied"
}

stays=shared_after_fork least=1
combine
done_with "$(ssh -V 2>&1 | cut -d ' ' -f 1)"
