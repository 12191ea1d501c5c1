#include "tests/unit/preload/modules/module.h"

extern const struct backend_ops fastsock_backend_verbs SHOWN;

const struct backend_ops fastsock_backend_verbs = {
    .name = "verbs", .version = BACKEND_VERSION, .create = module_create};
