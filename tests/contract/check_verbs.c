/* The RDMA transport, in the guest: 10.7.0.1 and 10.7.0.2 on a wire. */
#include "tests/contract/contract.h"
#include "transport/backend/verbs.h"

#include <infiniband/verbs.h>
#include <stdio.h>

static void name(unsigned n, struct connection_name *out)
{
    *out = (struct connection_name){.family = 4,
                                    .server = {10, 7, 0, 2},
                                    .client = {10, 7, 0, 1},
                                    .server_port = 7007,
                                    .client_port = (uint16_t)(10000 + n)};
}

static const struct contract verbs = {.ops = &fastsock_backend_verbs,
                                      .device = true,
                                      .name = name,
                                      .patience_ns = 20000000000,
                                      .n_links = 70};

static bool any_device(void)
{
    int n = 0;
    struct ibv_device **list = ibv_get_device_list(&n);

    if (list != NULL)
        ibv_free_device_list(list);
    return n > 0;
}

int main(void)
{
    if (!any_device()) {
        puts("there is no RDMA device: run it with make check-guest");
        return 77;
    }
    return contract_run("verbs", &verbs);
}
