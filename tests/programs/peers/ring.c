/*
 * An MPI program: what its ranks say to each other, checked byte by byte.
 *
 * usage: mpirun ... ring
 *
 * Ping-pong and exchange with each other rank, all-to-all, broadcast and
 * reduce, with messages from nothing to 4 MB, so that an implementation's
 * short, eager and rendezvous protocols all have their turn. Rank 0 prints a
 * line for each.
 */
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST = 4000000, SIZES = 8 };

static const int sizes[SIZES] = {0, 1, 7, 1000, 10000, 100000, 500000, MOST};
static int rank, ranks;
static unsigned char *out, *in;

static unsigned char byte_at(int seed, int i)
{
    return (unsigned char)((unsigned)i * 2654435761u >> 13 ^ (unsigned)seed);
}

static void fill(unsigned char *buf, int seed, int n)
{
    for (int i = 0; i < n; i++)
        buf[i] = byte_at(seed, i);
}

static void check(const unsigned char *buf, int seed, int n, const char *what)
{
    for (int i = 0; i < n; i++)
        if (buf[i] != byte_at(seed, i)) {
            printf("rank %d: %s: byte %d of %d is wrong\n", rank, what, i, n);
            MPI_Abort(MPI_COMM_WORLD, 1);
        }
}

static void ping_pong(int n, int rounds)
{
    for (int peer = 1; peer < ranks; peer++)
        for (int r = 0; r < rounds; r++) {
            if (rank == 0) {
                fill(out, r, n);
                MPI_Send(out, n, MPI_BYTE, peer, 1, MPI_COMM_WORLD);
                MPI_Recv(in, n, MPI_BYTE, peer, 2, MPI_COMM_WORLD,
                         MPI_STATUS_IGNORE);
                check(in, r + 1, n, "pong");
            } else if (rank == peer) {
                MPI_Recv(in, n, MPI_BYTE, 0, 1, MPI_COMM_WORLD,
                         MPI_STATUS_IGNORE);
                check(in, r, n, "ping");
                fill(out, r + 1, n);
                MPI_Send(out, n, MPI_BYTE, 0, 2, MPI_COMM_WORLD);
            }
        }
}

static void exchange(int n)
{
    for (int step = 1; step < ranks; step++) {
        int to = (rank + step) % ranks, from = (rank + ranks - step) % ranks;
        MPI_Request request[2];

        fill(out, rank * 7 + to, n);
        MPI_Irecv(in, n, MPI_BYTE, from, 3, MPI_COMM_WORLD, &request[0]);
        MPI_Isend(out, n, MPI_BYTE, to, 3, MPI_COMM_WORLD, &request[1]);
        MPI_Wait(&request[0], MPI_STATUS_IGNORE);
        MPI_Wait(&request[1], MPI_STATUS_IGNORE);
        check(in, from * 7 + rank, n, "exchange");
    }
}

static void all_to_all(int n)
{
    n /= ranks;
    for (int i = 0; i < ranks; i++)
        fill(out + i * n, rank * 11 + i, n);
    MPI_Alltoall(out, n, MPI_BYTE, in, n, MPI_BYTE, MPI_COMM_WORLD);
    for (int i = 0; i < ranks; i++)
        check(in + i * n, i * 11 + rank, n, "all-to-all");
}

static void broadcast(int n)
{
    for (int root = 0; root < ranks; root++) {
        if (rank == root)
            fill(in, root + 77, n);
        MPI_Bcast(in, n, MPI_BYTE, root, MPI_COMM_WORLD);
        check(in, root + 77, n, "broadcast");
    }
}

static void reduce(int n)
{
    int count = n / (int)sizeof(int64_t);
    int64_t *mine = (int64_t *)(void *)out, *sum = (int64_t *)(void *)in;

    for (int i = 0; i < count; i++)
        mine[i] = (int64_t)(rank + 1) * i;
    MPI_Allreduce(mine, sum, count, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
    for (int i = 0; i < count; i++)
        if (sum[i] != (int64_t)ranks * (ranks + 1) / 2 * i) {
            printf("rank %d: reduce: number %d is wrong\n", rank, i);
            MPI_Abort(MPI_COMM_WORLD, 1);
        }
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    out = malloc(MOST);
    in = malloc(MOST);
    if (out == NULL || in == NULL)
        MPI_Abort(MPI_COMM_WORLD, 1);
    for (int i = 0; i < SIZES; i++) {
        ping_pong(sizes[i], sizes[i] > 50000 ? 3 : 100);
        exchange(sizes[i]);
        all_to_all(sizes[i]);
        broadcast(sizes[i]);
        reduce(sizes[i]);
        MPI_Barrier(MPI_COMM_WORLD);
        if (rank == 0)
            printf("%d bytes: right\n", sizes[i]);
    }
    free(out);
    free(in);
    MPI_Finalize();
    return 0;
}
