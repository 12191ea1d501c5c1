#include "tests/unit/preload/modules/module.h"

extern const struct backend_ops fastsock_backend_other SHOWN;

/* Not the name that a module of this file name has to export. */
const struct backend_ops fastsock_backend_other = {
    .name = "other", .version = BACKEND_VERSION, .create = module_create};
