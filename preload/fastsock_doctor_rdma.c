/*
 * What RDMA finds: devices with their ports and addresses.
 */
#include <stdlib.h>

#include "preload/fastsock_doctor.h"
#include "preload/fastsock_tree.h"

void doctor_examine_rdma(struct doctor *d)
{
    struct tree_names *devices = malloc(sizeof(*devices));

    if (devices == NULL)
        return;
    tree_list(d->root, "/sys/class/infiniband", devices);
    if (devices->n == 0) {
        doctor_say(d, DOCTOR_MISSING, "device",
                   "/sys/class/infiniband is empty: no RDMA device");
        doctor_lacks(&d->verbs, "no device");
    }
    for (unsigned i = 0; i < devices->n; i++)
        doctor_say(d, DOCTOR_OK, "device", "%s", devices->name[i]);
    free(devices);
}
