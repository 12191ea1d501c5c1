/*
 * See kernel.h.
 */
#include "preload/kernel.h"

#include <dlfcn.h>

struct kernel kernel;

#define KERNEL_RESOLVE(result, name, arguments)                                \
    if (kernel.name == NULL)                                                   \
        *(void **)&kernel.name = dlsym(RTLD_NEXT, #name);

void kernel_resolve(void)
{
    KERNEL_FUNCTIONS(KERNEL_RESOLVE)
}
