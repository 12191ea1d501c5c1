/* Decimal numbers in values. No locale, no terminator needed. */
#include "store/engine/number.h"

#include <string.h>

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

bool number_read(const void *text, size_t len, uint64_t *out)
{
    const char *at = text, *end = at + len;
    bool negative = false;
    uint64_t number = 0;

    while (at < end && is_space(*at))
        at++;
    if (at < end && (*at == '+' || *at == '-'))
        negative = *at++ == '-';
    if (at == end || *at < '0' || *at > '9')
        return false;
    for (; at < end && *at >= '0' && *at <= '9'; at++) {
        unsigned digit = (unsigned)(*at - '0');
        if (__builtin_mul_overflow(number, 10u, &number) ||
            __builtin_add_overflow(number, digit, &number))
            return false;
    }
    if (at < end && !is_space(*at) && *at != '\0')
        return false;
    if (negative) {
        number = 0 - number;
        if (number >> 63)
            return false;
    }
    *out = number;
    return true;
}

size_t number_write(uint64_t number, char out[NUMBER_MAX_DIGITS])
{
    char reversed[NUMBER_MAX_DIGITS];
    size_t n = 0;
    do {
        reversed[n++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    for (size_t i = 0; i < n; i++)
        out[i] = reversed[n - 1 - i];
    return n;
}

uint64_t number_step(uint64_t number, bool incr, uint64_t delta)
{
    if (incr)
        return number + delta;
    return delta > number ? 0 : number - delta;
}

size_t number_step_text(char *text, size_t len, bool incr, uint64_t delta,
                        uint64_t *number)
{
    size_t digits;
    if (!number_read(text, len, number))
        return 0;
    *number = number_step(*number, incr, delta);
    digits = number_write(*number, text);
    if (digits >= len)
        return digits;
    memset(text + digits, ' ', len - digits);
    return len;
}
