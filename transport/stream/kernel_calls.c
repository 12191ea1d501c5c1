/*
 * See kernel_calls.h.
 */
#include "transport/stream/kernel_calls.h"

#include "transport/kernel_calls.h"
#include "transport/pause.h"

const struct tcp_calls tcp_calls_kernel = {
    .recv = kernel_recv,
    .recvmsg = kernel_recvmsg,
    .send = kernel_send,
    .sendmsg = kernel_sendmsg,
    .shutdown = kernel_shutdown,
    .getsockopt = kernel_getsockopt,
    .setsockopt = kernel_setsockopt,
    .ioctl = kernel_ioctl,
    .connect = kernel_connect,
    .poll = kernel_poll,
    .now_ns = clock_ns,
};
