#!/bin/sh
# Open MPI and MPICH over their TCP paths on loopback. "Server" is rank 0,
# "client" the other one; where both carry the library mpirun does, too, and
# Open MPI has four ranks. MPICH 4.0 with UCX hangs in MPI_Finalize now and
# then, on kernel TCP alone as well (2 of 30 runs with two ranks, 5 of 12 with
# four): it has two, and another try.
. "$(dirname "$0")/frame.inc"
needs mpicc.openmpi mpirun.openmpi ompi_info mpicc.mpich mpirun.mpich
mkdir "$dir/mpi"
for kind in openmpi mpich; do
    "mpicc.$kind" -O2 -o "$dir/$kind" "$here/peers/ring.c" 2>"$dir/compiled" ||
        fail "mpicc.$kind: $(tail -n 3 "$dir/compiled")"
done

server() {
    :
}

carrier() { # kernel|shim
    if [ "$1" = shim ]; then
        # shellcheck disable=SC2086
        echo env $carry $settings LD_PRELOAD="$shim"
    else
        echo env -u LD_PRELOAD
    fi
}

client() {
    others=1 both=
    [ "$at_server:$at_client" != shim:shim ] || both=yes
    case $variant in
    openmpi)
        [ -z "$both" ] || others=3
        set -- mpirun.openmpi --oversubscribe --mca btl tcp,self \
            --mca btl_tcp_if_include lo --mca plm_rsh_agent /bin/false ;;
    mpich) set -- mpirun.mpich -launcher fork ;;
    esac
    # shellcheck disable=SC2046
    [ -z "$both" ] || set -- $(carrier shim) "$@"
    for try in 1 2 3 4; do
        # shellcheck disable=SC2046
        timeout -k 2 $((20 * SLOW)) env TMPDIR="$dir/mpi" \
            OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
            UCX_TLS=tcp,self UCX_NET_DEVICES=lo FI_PROVIDER=tcp \
            MPIR_CVAR_NOLOCAL=1 MPIR_CVAR_CH3_NOLOCAL=1 "$@" \
            -np 1 $(carrier "$at_server") "$dir/$variant" : \
            -np $others $(carrier "$at_client") "$dir/$variant" >"$dir/said"
        rc=$?
        [ "$variant" = mpich ] && [ $rc -eq 124 ] || break
        echo "try $try of mpich hung" >&2
    done
    cat "$dir/said"
    echo "exit $rc"
}

least=50000000 combine openmpi
# UCX has an epoll set for each interface inside that of its worker.
least=10000000 combine mpich
done_with "Open MPI $(ompi_info --version | sed -n '1s/.* v//p'), MPICH $(mpichversion | awk 'NR == 1 { print $3 }')"
