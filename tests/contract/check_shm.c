/* Shared memory within a host. */
#include "tests/contract/contract.h"
#include "transport/backend/shm.h"

static void name(unsigned n, struct connection_name *out)
{
    uint32_t pid = (uint32_t)getpid();

    *out = (struct connection_name){
        .family = 4,
        .server = {127, pid >> 16 & 255, pid >> 8 & 255, pid & 255},
        .client = {127, 0, 0, 2},
        .server_port = 7,
        .client_port = (uint16_t)(10000 + n)};
}

int main(void)
{
    static const struct contract shm = {.ops = &fastsock_backend_shm,
                                        .name = name,
                                        .asks = true,
                                        .patience_ns = 4000000000,
                                        .n_links = 550};

    return contract_run("shm", &shm);
}
