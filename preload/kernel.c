/*
 * See kernel.h.
 */
#include "preload/kernel.h"

#include <dlfcn.h>

/* The calls that FAST() makes find their way at the first of them. */
#define FIRST(result, name, arguments, values)                                 \
    static result first_##name arguments                                       \
    {                                                                          \
        kernel_resolve();                                                      \
        return kernel.name values;                                             \
    }
KERNEL_FAST(FIRST)

#define FIRST_FIELD(result, name, arguments, values) .name = first_##name,
struct kernel kernel = {KERNEL_FAST(FIRST_FIELD)};

#define KERNEL_RESOLVE(result, name, arguments)                                \
    *(void **)&kernel.name = dlsym(RTLD_NEXT, #name);

void kernel_resolve(void)
{
    KERNEL_FUNCTIONS(KERNEL_RESOLVE)
}
