/*
 * kvserver: a memcached-protocol server that keeps its data in a pool file.
 *
 * Start-up, each step undone in reverse order when a later one fails: options;
 * go to the background; become another user; listen; open the pool; tell the
 * ports and the pid; serve. In the background the parent stays until all of
 * that has worked, so a mistake is still printed and still the exit status.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "config/log.h"
#include "store/engine/engine.h"
#include "store/server/acceptor.h"
#include "store/server/options.h"
#include "store/server/shard.h"

#define SPARE_DESCRIPTORS 64 /* besides those of connections */
#define ITEM_OVERHEAD     60 /* bytes of an item that are not its value */

/* The child goes on; the parent waits for its word and exits. *tell is where
 * the child says that it has started. 0 or -errno. */
static int go_background(int *tell)
{
    int ends[2], status = EXIT_FAILURE;
    char word;
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    pid = fork();
    if (pid < 0)
        return -errno;
    if (pid > 0) {
        close(ends[1]);
        if (read(ends[0], &word, 1) == 1)
            _exit(EXIT_SUCCESS);
        if (waitpid(pid, &status, 0) == pid && WIFEXITED(status))
            _exit(WEXITSTATUS(status));
        _exit(EXIT_FAILURE);
    }
    close(ends[0]);
    if (setsid() < 0)
        return -errno;
    *tell = ends[1];
    return 0;
}

static bool is_relative(const char *path)
{
    return path != NULL && path[0] != '/';
}

/* Goes to /. Files that are removed at the end may be named relative to the
 * folder that is left: then it is returned, else -1. */
static int leave_folder(const struct options *options)
{
    int folder = -1;

    if (is_relative(options->pid_file) || is_relative(options->unix_path)) {
        folder = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (folder < 0) {
            log_warn("cannot change to /: the way back is closed: %s",
                     strerror(errno));
            return -1;
        }
    }
    if (chdir("/") < 0)
        log_warn("cannot change to /: %s", strerror(errno));
    return folder;
}

/* Back to where leave_folder() was called, and the pid file goes. */
static void remove_pid(const struct options *options, int folder)
{
    if (folder >= 0 && fchdir(folder) < 0)
        log_warn("cannot return to the folder of the start: %s",
                 strerror(errno));
    else if (options->pid_file != NULL)
        unlink(options->pid_file);
    if (folder >= 0)
        close(folder);
}

/* Let the parent go and leave its terminal. */
static void tell_started(int tell, bool quiet)
{
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null_fd >= 0) {
        dup2(null_fd, STDIN_FILENO);
        dup2(null_fd, STDOUT_FILENO);
        if (quiet)
            dup2(null_fd, STDERR_FILENO);
        close(null_fd);
    }
    if (write(tell, "", 1) != 1)
        log_warn("the process that started this one is gone");
    close(tell);
}

/* INT, TERM and USR1 are read from the returned descriptor. */
static int take_signals(void)
{
    sigset_t set;
    int fd;

    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGUSR1);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -errno;
    fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static void raise_descriptor_limit(unsigned connections)
{
    struct rlimit limit;
    rlim_t want = (rlim_t)connections + SPARE_DESCRIPTORS;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= want)
        return;
    limit.rlim_cur = want;
    if (limit.rlim_max < want)
        limit.rlim_max = want;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
        return;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    log_warn("only %llu descriptors are allowed: expected %llu for -c %u; "
             "raise the limit (ulimit -n) or lower -c",
             (unsigned long long)limit.rlim_max, (unsigned long long)want,
             connections);
}

/* -u: 0 or an exit status. */
static int become_user(const struct options *options)
{
    const struct passwd *user;

    if (geteuid() != 0 && getuid() != 0)
        return 0;
    if (options->user == NULL) {
        log_info("running as root; choose a user with -u");
        return 0;
    }
    user = getpwnam(options->user);
    if (user == NULL) {
        log_error("can't find the user %s to switch to", options->user);
        return EX_NOUSER;
    }
    if (setgroups(0, NULL) < 0 || setgid(user->pw_gid) < 0 ||
        setuid(user->pw_uid) < 0) {
        log_error("failed to assume identity of user %s: %s", options->user,
                  strerror(errno));
        return EX_OSERR;
    }
    return 0;
}

static int open_pool(const struct options *options, struct kv **kv)
{
    struct kv_options kv_options = {
        .size = options->pool_size,
        .durability = options->durability,
        .evict = options->evict,
        .guard = KV_GUARD_EXIT,
        .max_value = (uint32_t)(options->item_max - ITEM_OVERHEAD)};
    char error[512] = "";
    int rc = kv_open(options->pool, &kv_options, kv, error, sizeof(error));

    if (rc < 0)
        log_error("%s%s", error[0] != '\0' ? error : strerror(-rc),
                  rc == -ENOENT ? "; create its folder, or choose another "
                                  "file with --pool"
                                : "");
    return rc;
}

static void write_pid(const char *path)
{
    FILE *file = fopen(path, "we");

    if (file == NULL || fprintf(file, "%ld\n", (long)getpid()) < 0)
        log_warn("cannot write the pid to %s: %s", path, strerror(errno));
    if (file != NULL && fclose(file) != 0)
        log_warn("cannot write the pid to %s: %s", path, strerror(errno));
}

static void tell_settings(const struct options *options,
                          const struct acceptor *acceptor)
{
    if (options->ignored[0] != '\0')
        log_info("accepted without effect:%s", options->ignored);
    if (options->threads > 1)
        log_info("-t %u: one shard serves all connections", options->threads);
    for (unsigned i = 0; i < acceptor->n; i++)
        log_info("listening on %s", acceptor->listener[i].address);
}

/* Everything is open: serve until told to stop. Returns an exit status. */
static int serve(const struct options *options, struct acceptor *acceptor,
                 struct kv *kv, int signal_fd, int tell)
{
    const char *port_file = getenv("MEMCACHED_PORT_FILENAME");
    struct shard *shard = malloc(sizeof(*shard));
    int rc = -ENOMEM, folder = -1;

    if (shard == NULL)
        goto report;
    rc = shard_init(shard, kv, acceptor, options, signal_fd);
    if (rc < 0)
        goto free_shard;
    if (port_file != NULL) {
        rc = acceptor_write_ports(acceptor, port_file);
        if (rc < 0)
            log_warn("cannot write the ports to %s: %s", port_file,
                     strerror(-rc));
    }
    if (options->daemon && options->pid_file != NULL)
        write_pid(options->pid_file);
    tell_settings(options, acceptor);
    if (options->daemon) {
        folder = leave_folder(options);
        tell_started(tell, options->verbosity == 0);
    }
    rc = shard_run(shard);
    log_info("Exiting normally");
    if (options->daemon)
        remove_pid(options, folder);
    shard_fini(shard);
free_shard:
    free(shard);
report:
    if (rc < 0)
        log_error("the server has stopped: %s", strerror(-rc));
    return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* From listening to serving; what is opened here is closed here. */
static int run(const struct options *options, int tell)
{
    struct acceptor *acceptor = malloc(sizeof(*acceptor));
    int signal_fd = take_signals(), status = EX_OSERR, rc;
    char error[512] = "";
    struct kv *kv;

    if (acceptor == NULL || signal_fd < 0)
        goto free_acceptor;
    status = become_user(options);
    if (status != 0)
        goto close_signals;
    status = EX_OSERR;
    rc = acceptor_open(acceptor, options, error, sizeof(error));
    if (rc < 0) {
        log_error("%s", error[0] != '\0' ? error : strerror(-rc));
        goto close_signals;
    }
    status = EXIT_FAILURE;
    if (open_pool(options, &kv) < 0)
        goto close_acceptor;
    if (options->lock_memory && mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
        log_warn("-k: cannot lock memory: %s", strerror(errno));
    status = serve(options, acceptor, kv, signal_fd, tell);
    rc = kv_close(kv);
    if (rc < 0) {
        log_error("the pool could not be closed: %s", strerror(-rc));
        status = EXIT_FAILURE;
    }
close_acceptor:
    acceptor_close(acceptor);
close_signals:
    close(signal_fd);
free_acceptor:
    free(acceptor);
    return status;
}

int main(int argc, char **argv)
{
    struct options options;
    int status, rc, tell = -1;

    log_init("kvserver", LOG_WARN);
    status = options_parse(&options, argc, argv, stdout, stderr);
    if (status >= 0)
        return status;
    log_threshold = (enum log_level)(LOG_WARN + options.verbosity);
    raise_descriptor_limit(options.max_connections);
    if (options.daemon) {
        rc = go_background(&tell);
        if (rc < 0) {
            log_error("cannot go to the background: %s", strerror(-rc));
            return EX_OSERR;
        }
    }
    return run(&options, tell);
}
