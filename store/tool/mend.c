/*
 * See mend.h. In Fletcher's sum word i of n counts once in the lower half and
 * n - i times in the upper one. So when one word is off by d, the halves are
 * off by d and d (n - i), and there is one such i.
 */
#include "store/tool/mend.h"

#include "store/pm/region.h"

#include <string.h>

/* What to add to b to have a, modulo 2^32 - 1. */
static uint64_t difference(uint64_t a, uint64_t b)
{
    a %= UINT32_MAX;
    b %= UINT32_MAX;
    return (a + UINT32_MAX - b) % UINT32_MAX;
}

enum mend_result mend_sum(void *bytes, size_t len, uint64_t *check, size_t *at)
{
    uint64_t now = region_sum(bytes, len), n = len / 4, found = n;
    uint64_t low = difference((uint32_t)*check, (uint32_t)now);
    uint64_t high = difference(*check >> 32, now >> 32);
    unsigned char *words = bytes;
    uint32_t word, old;
    if (*check == now)
        return MEND_WHOLE;
    if (low == 0 || high == 0) {
        *check = now;
        *at = len;
        return MEND_CHECK;
    }
    for (uint64_t i = 0; i < n; i++)
        if (low * (n - i) % UINT32_MAX == high) {
            if (found < n)
                return MEND_NONE;
            found = i;
        }
    if (found == n)
        return MEND_NONE;
    memcpy(&old, words + 4 * found, sizeof(old));
    word = (uint32_t)((old + low) % UINT32_MAX);
    memcpy(words + 4 * found, &word, sizeof(word));
    *at = 4 * found;
    if (region_sum(bytes, len) == *check)
        return MEND_WORD;
    memcpy(words + 4 * found, &old, sizeof(old)); /* that is no sum at all */
    return MEND_NONE;
}
