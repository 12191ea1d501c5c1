/*
 * main() of every fuzz target: makes inputs and hands them over.
 *
 * A target defines LLVMFuzzerTestOneInput(), and may define fuzz_seed_input()
 * to give valid inputs. An input is random bytes, a valid one, a valid one
 * with some damage, two valid ones joined, or the one before with some more
 * damage. The seed and the number decide all of it, so a failure repeats.
 *
 *     target [number of inputs]       50000 without; slow targets have a most
 *     FUZZ_SEED=n                     the inputs of an earlier run
 *     FUZZ_ONLY=n                     input n of that run only
 *
 * On a crash, a sanitizer's finding, or an input that takes longer than 20 s,
 * its number and the seed are on standard error.
 */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/* The target. It returns 0; what it has to say it says by abort(). */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/*
 * Optional: writes the n-th valid input, at most max bytes of it, to buf and
 * returns its length. n is any number.
 */
size_t fuzz_seed_input(uint64_t n, uint8_t *buf, size_t max)
    __attribute__((weak));

/*
 * Optional: as many inputs as a target that is slow makes of a run at most.
 * FUZZ_ONLY knows no such end.
 */
extern const uint64_t fuzz_inputs_max __attribute__((weak));

/* Hooks of the sanitizers, where the target was built with one. */
void __sanitizer_set_death_callback(void (*callback)(void))
    __attribute__((weak));
__attribute__((visibility("default"))) const char *
__ubsan_default_options(void);

enum { INPUT_MOST = 4096, SECONDS_MOST = 20 };

static uint64_t seed, state;
static volatile uint64_t number; /* of the input under way */

static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1d;
}

static size_t below(size_t n)
{
    return n ? (next_random() >> 11) % n : 0;
}

/* A state that depends on every bit of the seed and the number. */
static void restart_random(uint64_t n)
{
    uint64_t z = seed + (n + 1) * 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    z ^= z >> 31;
    state = z ? z : 1;
}

static char *append_number(char *at, uint64_t value)
{
    char digits[20];
    int n = 0;

    do
        digits[n++] = (char)('0' + value % 10);
    while (value /= 10);
    while (n > 0)
        *at++ = digits[--n];
    return at;
}

/* Async-signal-safe. */
static void tell(void)
{
    static const char a[] = "fuzz: stopped at input ", b[] = "; repeat with ",
                      c[] = "FUZZ_SEED=", d[] = " FUZZ_ONLY=";
    char line[160], *at = line;

    at = (char *)memcpy(at, a, sizeof(a) - 1) + sizeof(a) - 1;
    at = append_number(at, number);
    at = (char *)memcpy(at, b, sizeof(b) - 1) + sizeof(b) - 1;
    at = (char *)memcpy(at, c, sizeof(c) - 1) + sizeof(c) - 1;
    at = append_number(at, seed);
    at = (char *)memcpy(at, d, sizeof(d) - 1) + sizeof(d) - 1;
    at = append_number(at, number);
    *at++ = '\n';
    if (write(STDERR_FILENO, line, (size_t)(at - line)) < 0)
        _exit(2);
}

static void tell_and_die(int sig)
{
    tell();
    signal(sig, SIG_DFL);
    raise(sig);
}

/* Undefined behaviour ends the run, as every other finding does. */
const char *__ubsan_default_options(void)
{
    return "halt_on_error=1:abort_on_error=1:print_stacktrace=1";
}

/* A sanitizer keeps its own handlers, and calls back when it is done. */
static void watch_signals(void)
{
    static const int watched[] = {SIGSEGV, SIGBUS,  SIGILL,  SIGFPE,
                                  SIGABRT, SIGTRAP, SIGALRM, SIGTERM};
    struct sigaction act = {.sa_handler = tell_and_die, .sa_flags = SA_NODEFER};

    for (size_t i = 0; i < sizeof(watched) / sizeof(watched[0]); i++) {
        struct sigaction old;

        if (sigaction(watched[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
            sigaction(watched[i], &act, NULL);
    }
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(tell);
}

static size_t valid_input(uint8_t *buf, size_t max)
{
    size_t len;

    if (!fuzz_seed_input)
        return 0;
    len = fuzz_seed_input(next_random() >> 16, buf, max);
    return len < max ? len : max;
}

static size_t random_input(uint8_t *buf)
{
    /* Short ones more often: most of what is interesting is short. */
    size_t len = below((size_t)1 << below(13));

    for (size_t i = 0; i < len; i++)
        buf[i] = (uint8_t)(next_random() >> 40);
    return len;
}

/* Removes or repeats a piece; the new length. */
static size_t move_piece(uint8_t *buf, size_t len)
{
    size_t from = below(len), piece = below(len - from) + 1;

    if (next_random() & 1) {
        memmove(buf + from, buf + from + piece, len - from - piece);
        return len - piece;
    }
    if (piece > INPUT_MOST - len)
        return len;
    memmove(buf + from + piece, buf + from, len - from);
    return len + piece;
}

/* One piece of damage; the new length. */
static size_t damage(uint8_t *buf, size_t len)
{
    static const uint8_t edges[] = {0,    1,    0x7f, 0x80, 0xff, ' ',
                                    '\r', '\n', '0',  '9',  '-',  '"'};
    size_t at = below(len), run;

    if (len == 0)
        return random_input(buf);
    switch (below(7)) {
    case 0:
        buf[at] ^= (uint8_t)(1 << below(8));
        return len;
    case 1:
        buf[at] = (uint8_t)next_random();
        return len;
    case 2:
        buf[at] = edges[below(sizeof(edges))];
        return len;
    case 3:
        buf[at] += (uint8_t)(below(9) - 4);
        return len;
    case 4:
        return at;
    case 5:
        run = below(len - at < 9 ? len - at : 9);
        memset(buf + at, edges[below(5)], run);
        return len;
    default:
        return move_piece(buf, len);
    }
}

/* Makes input n over the one before it in buf; its length. */
static size_t make_input(uint64_t n, uint8_t *buf, size_t len)
{
    size_t kind, times;

    restart_random(n);
    kind = below(8);
    if (kind == 0 && n > 0 && len > 0)
        return damage(buf, len);
    if (kind == 1 || !fuzz_seed_input)
        return random_input(buf);
    len = valid_input(buf, INPUT_MOST);
    if (kind == 2)
        return len;
    if (kind == 3)
        len += valid_input(buf + len, INPUT_MOST - len);
    for (times = 1 + below(4); times > 0; times--)
        len = damage(buf, len);
    return len;
}

/* From the heap, exactly as long as it is, so that sanitizers see its end. */
static void run_one(const uint8_t *buf, size_t len)
{
    uint8_t *exact = malloc(len ? len : 1);

    if (!exact) {
        fputs("fuzz: no memory for an input: free some and repeat\n", stderr);
        exit(2);
    }
    memcpy(exact, buf, len);
    alarm(SECONDS_MOST);
    LLVMFuzzerTestOneInput(exact, len);
    free(exact);
}

/* 0 and *value, or -EINVAL. */
static int read_number(const char *text, uint64_t *value)
{
    char *end;
    unsigned long long read;

    errno = 0;
    read = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || *text == '-')
        return -EINVAL;
    *value = read;
    return 0;
}

/* What a slow target does of so many inputs; says when that is less. */
static uint64_t limit_inputs(uint64_t inputs)
{
    if (!&fuzz_inputs_max || inputs <= fuzz_inputs_max)
        return inputs;
    printf("%llu inputs are asked for, %llu are this slow target's most\n",
           (unsigned long long)inputs, (unsigned long long)fuzz_inputs_max);
    return fuzz_inputs_max;
}

int main(int argc, char **argv)
{
    static uint8_t buf[INPUT_MOST];
    const char *again = getenv("FUZZ_SEED"), *only = getenv("FUZZ_ONLY");
    uint64_t inputs = 50000, one = UINT64_MAX;
    size_t len = 0;

    if (getrandom(&seed, sizeof(seed), 0) < 0)
        seed = (uint64_t)getpid();
    if ((argc > 1 && read_number(argv[1], &inputs) < 0) ||
        (again && read_number(again, &seed) < 0) ||
        (only && read_number(only, &one) < 0)) {
        fputs("fuzz: expected whole numbers: [FUZZ_SEED=n] [FUZZ_ONLY=n] "
              "target [inputs]\n",
              stderr);
        return 2;
    }
    printf("FUZZ_SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    watch_signals();
    if (only)
        inputs = one < UINT64_MAX ? one + 1 : one;
    else
        inputs = limit_inputs(inputs);
    for (number = 0; number < inputs; number++) {
        len = make_input(number, buf, len);
        if (!only || number == one)
            run_one(buf, len);
    }
    alarm(0);
    printf("%llu inputs, FUZZ_SEED=%llu\n", (unsigned long long)inputs,
           (unsigned long long)seed);
    return 0;
}
