/*
 * Counting for people: rows of the statistics segment, and the report that is
 * written at exit when the setting `report` names a file.
 */
#ifndef PRELOAD_STATS_H
#define PRELOAD_STATS_H

#include "preload/endpoint.h"

/* A row for a stream; NULL when there is none left. */
struct stats_row *stats_open_row(struct endpoint *e);
/* Stage, reason, peer: after something changed. Stream locks held or not. */
void stats_update(struct endpoint *e);
/* Why that transport did not serve; REASON_NONE: it does. */
void stats_not_over(struct endpoint *e, const char *transport, enum reason why);
void stats_close_row(struct endpoint *e);

enum stats_event {
    STATS_UP,
    STATS_RETURN,
    STATS_BROKEN,
    STATS_BANISHED,
    STATS_SLEEP,
    STATS_SPIN_HIT,
    STATS_SPIN_MISSED
};
void stats_count(enum stats_event event);
/* So many threads more spin from now on. */
void stats_spinners(int more);
/* One has spun so long, and may spin so long the next time. */
void stats_spun(bool hit, uint64_t ns, uint32_t budget_ns);
/* 1/100 of a CPU; 0: no limit. */
void stats_cpu_quota(unsigned percent);
/* From now on all is the kernel's. */
void stats_withdrawn(enum reason why);

/* Of the segment, by which others find it; 0: there is none. */
uint64_t stats_inode(void);
void stats_report(void);
void stats_after_fork(void);

#endif
