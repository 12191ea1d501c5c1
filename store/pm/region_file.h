/*
 * The file that a region lies in: opened or made, and locked.
 */
#ifndef STORE_PM_REGION_FILE_H
#define STORE_PM_REGION_FILE_H

#include "store/pm/region.h"

#include <stdbool.h>

/*
 * What lies at region->path is in region->fd and locked; while it is, nobody
 * who keeps to the lock removes it. make: when there is nothing. *made: by this
 * call, which says nothing about what another opener has put into it before we
 * had the lock. 0 or -errno with a sentence.
 */
int region_file_open(struct region *region, bool make, bool *made, char *error,
                     size_t error_size);

#endif
