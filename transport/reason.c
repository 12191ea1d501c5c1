/*
 * The words for every reason. A token is for ever, as the value is: scripts
 * and dashboards know it. A sentence may be improved at any time.
 */
#include "transport/reason.h"

#include <assert.h>

static const struct {
    const char *token, *sentence;
} words[] = {
    [REASON_NONE] = {"none", "nothing has been decided yet"},
    [REASON_YOUNG] = {"young",
                      "too few calls yet to pay for a link: it is tried after "
                      "upgrade_after calls or kilobytes"},
    [REASON_OFF_BY_RULE] = {"off_by_rule",
                            "a rule of the settings keeps this connection on "
                            "kernel TCP"},
    [REASON_OFF_BY_SETTING] = {"off_by_setting",
                               "acceleration is switched off in the settings "
                               "or the environment"},
    [REASON_SETTINGS_MISTAKE] = {"settings_mistake",
                                 "the settings could not be read: correct the "
                                 "line named on standard error and restart"},
    [REASON_NOT_TCP] = {"not_tcp", "this is not a TCP socket"},
    [REASON_NOT_CONNECTED] = {"not_connected", "the socket is not connected"},
    [REASON_OTHER_HOST] = {"other_host",
                           "the peer is on another host and no transport that "
                           "reaches it is set up"},
    [REASON_NO_PEER_LIBRARY] = {"no_peer_library",
                                "no library answers at the peer: start it "
                                "with the library as well, or see 'fastsock "
                                "explain' there"},
    [REASON_OTHER_USER] = {"other_user",
                           "the peer runs as another user or in another user "
                           "namespace and no rule allows that"},
    [REASON_VERSION] = {"version",
                        "the two ends speak different versions: install the "
                        "same release on both"},
    [REASON_NO_MEMORY] = {"no_memory",
                          "there was no memory for a link: raise the memory "
                          "limit of the process or lower the ring size"},
    [REASON_LIMIT] = {"limit", "a limit of the settings on links, memory or "
                               "descriptors is reached"},
    [REASON_MEETING] = {"meeting", "the two ends are getting to know each "
                                   "other"},
    [REASON_BARE_READ] = {"bare_read",
                          "a thread sits in a kernel read of this socket: it "
                          "is tried again when that read returns"},
    [REASON_BUSY] = {"busy", "the other end could not switch just then: it is "
                             "tried again"},
    [REASON_HOLD_EXPIRED] = {"hold_expired",
                             "the other end did not answer in time, and the "
                             "writer was not held any longer"},
    [REASON_HALF_CLOSED] = {"half_closed",
                            "one direction is closed already: such a "
                            "connection stays on kernel TCP"},
    [REASON_UP] = {"up", "accelerated"},
    [REASON_WANTED] = {"wanted", "the return to kernel TCP was asked for"},
    [REASON_FORK] = {"fork", "the process forked, and this link cannot be "
                             "shared by two processes"},
    [REASON_EXEC] = {"exec", "the socket went to a new program image"},
    [REASON_PASSED_ON] = {"passed_on",
                          "the socket was passed to another process in a "
                          "message"},
    [REASON_STDIO] = {"stdio", "a FILE was opened on the socket, and stdio "
                               "calls the kernel past the library"},
    [REASON_UNSUPPORTED_CALL] = {"unsupported_call",
                                 "the program used a call on the socket that "
                                 "only the kernel can serve"},
    [REASON_SHARED_AFTER_FORK] = {"shared_after_fork",
                                  "several processes use the socket or its "
                                  "epoll set after a fork"},
    [REASON_NESTED_EPOLL] = {"nested_epoll",
                             "the socket is watched in a way that only the "
                             "kernel can serve, such as an epoll set with "
                             "two descriptors"},
    [REASON_LINK_BROKEN] = {"link_broken",
                            "the link failed: the connection returned to "
                            "kernel TCP"},
    [REASON_PEER_GONE] = {"peer_gone", "the process at the other end is gone"},
    [REASON_PEER_RULE] = {"peer_rule",
                          "the other end broke a rule of the protocol: the "
                          "connection was reset"},
    [REASON_FOREIGN_BYTES] = {"foreign_bytes",
                              "somebody wrote to the connection past the "
                              "library: it was reset"},
    [REASON_FOREIGN_READER] = {"foreign_reader",
                               "somebody read from the connection past the "
                               "library: it was reset"},
    [REASON_FIN_WITHOUT_END] = {"fin_without_end",
                                "the connection was shut down past the "
                                "library: it was reset"},
    [REASON_RETURN_TIMEOUT] = {"return_timeout",
                               "the return to kernel TCP did not finish "
                               "within return_timeout: the connection was "
                               "reset"},
    [REASON_LEFTOVER] = {"leftover",
                         "bytes were left in this process that their new "
                         "owner could not get: the connection was reset"},
    [REASON_SETTLE] = {"settle",
                       "it came back from a link a short while ago and waits "
                       "before the next try"},
    [REASON_CLOSED] = {"closed", "the connection was closed in order"},
    [REASON_INTERNAL] = {"internal",
                         "the library made a mistake: please report it with "
                         "the lines on standard error"},
    [REASON_OTHER] = {"other", "a reason that this release does not know: "
                               "look at the other end"},
    [REASON_MEMLOCK] = {"memlock",
                        "memory for a device could not be locked, here or at "
                        "the peer: raise RLIMIT_MEMLOCK (ulimit -l) or lower "
                        "ring_size"},
    [REASON_NO_DEVICE] = {"no_device",
                          "no RDMA device can be used here: 'fastsock doctor' "
                          "tells what is missing, then restart the program"},
    [REASON_NO_ROUTE] = {"no_route",
                         "no RDMA device leads from one address of this "
                         "connection to the other: use those that 'fastsock "
                         "doctor' lists"},
    [REASON_NO_PROOF] = {"no_proof",
                         "too few bytes yet to prove who the peer is, or the "
                         "two ends saw different ones"},
    [REASON_NO_MODULE] = {"no_module",
                          "libfastsock-verbs.so cannot be used: 'fastsock "
                          "doctor' tells why; install it beside "
                          "libfastsock.so"},
    [REASON_ADMINISTRATOR] = {"administrator",
                              "'fastsock down' keeps it on kernel TCP until "
                              "'fastsock up', here or at the other end"},
    [REASON_FILTER] = {"filter", "a process installed a filter of system calls "
                                 "(seccomp), which may forbid the library's"},
    [REASON_UNSHARED] = {"unshared",
                         "a process moved to another namespace of network or "
                         "users, or to descriptors of its own"},
    [REASON_IO_URING] = {"io_uring",
                         "an io_uring moves bytes past the library: turn it "
                         "off (MariaDB: innodb_use_native_aio=OFF)"},
};

static_assert(sizeof(words) / sizeof(words[0]) == REASON_COUNT,
              "every reason has its words");

/* On the wire and in the statistics segment: these lines are never edited. */
static_assert(REASON_NONE == 0, "fixed");
static_assert(REASON_YOUNG == 1, "fixed");
static_assert(REASON_OFF_BY_RULE == 2, "fixed");
static_assert(REASON_OFF_BY_SETTING == 3, "fixed");
static_assert(REASON_SETTINGS_MISTAKE == 4, "fixed");
static_assert(REASON_NOT_TCP == 5, "fixed");
static_assert(REASON_NOT_CONNECTED == 6, "fixed");
static_assert(REASON_OTHER_HOST == 7, "fixed");
static_assert(REASON_NO_PEER_LIBRARY == 8, "fixed");
static_assert(REASON_OTHER_USER == 9, "fixed");
static_assert(REASON_VERSION == 10, "fixed");
static_assert(REASON_NO_MEMORY == 11, "fixed");
static_assert(REASON_LIMIT == 12, "fixed");
static_assert(REASON_MEETING == 13, "fixed");
static_assert(REASON_BARE_READ == 14, "fixed");
static_assert(REASON_BUSY == 15, "fixed");
static_assert(REASON_HOLD_EXPIRED == 16, "fixed");
static_assert(REASON_HALF_CLOSED == 17, "fixed");
static_assert(REASON_UP == 18, "fixed");
static_assert(REASON_WANTED == 19, "fixed");
static_assert(REASON_FORK == 20, "fixed");
static_assert(REASON_EXEC == 21, "fixed");
static_assert(REASON_PASSED_ON == 22, "fixed");
static_assert(REASON_STDIO == 23, "fixed");
static_assert(REASON_UNSUPPORTED_CALL == 24, "fixed");
static_assert(REASON_SHARED_AFTER_FORK == 25, "fixed");
static_assert(REASON_NESTED_EPOLL == 26, "fixed");
static_assert(REASON_LINK_BROKEN == 27, "fixed");
static_assert(REASON_PEER_GONE == 28, "fixed");
static_assert(REASON_PEER_RULE == 29, "fixed");
static_assert(REASON_FOREIGN_BYTES == 30, "fixed");
static_assert(REASON_FOREIGN_READER == 31, "fixed");
static_assert(REASON_FIN_WITHOUT_END == 32, "fixed");
static_assert(REASON_RETURN_TIMEOUT == 33, "fixed");
static_assert(REASON_LEFTOVER == 34, "fixed");
static_assert(REASON_SETTLE == 35, "fixed");
static_assert(REASON_CLOSED == 36, "fixed");
static_assert(REASON_INTERNAL == 37, "fixed");
static_assert(REASON_OTHER == 38, "fixed");
static_assert(REASON_MEMLOCK == 39, "fixed");
static_assert(REASON_NO_DEVICE == 40, "fixed");
static_assert(REASON_NO_ROUTE == 41, "fixed");
static_assert(REASON_NO_PROOF == 42, "fixed");
static_assert(REASON_NO_MODULE == 43, "fixed");
static_assert(REASON_ADMINISTRATOR == 44, "fixed");
static_assert(REASON_FILTER == 45, "fixed");
static_assert(REASON_UNSHARED == 46, "fixed");
static_assert(REASON_IO_URING == 47, "fixed");

enum reason reason_from(uint32_t value)
{
    return value < REASON_COUNT ? (enum reason)value : REASON_OTHER;
}

const char *reason_token(enum reason reason)
{
    return words[reason_from((uint32_t)reason)].token;
}

const char *reason_sentence(enum reason reason)
{
    return words[reason_from((uint32_t)reason)].sentence;
}
