/* Which process runs which guest, and since when: libvirt does not tell, /proc does. */
#ifndef CMP_PROCFS_H
#define CMP_PROCFS_H

#include "drivers/driver.h"

struct cmp_pid {
    uint32_t vmid;
    int64_t pid;
    int64_t started;      /* wall clock, seconds */
    uint64_t start_ticks; /* tells a process from another with its number */
};

/* All zero is a valid empty memory. */
struct cmp_pids {
    struct cmp_pid *list;
    size_t count;
    size_t room;
};

void cmp_pids_done(struct cmp_pids *pids);
/* Fills pid and started of samples (sorted by vmid). Looks through /proc only when a guest is new. */
void cmp_pids_fill(struct cmp_pids *pids, struct cmp_sample *samples, size_t count);

/* Kills the process of that guest on this node. True: there was one, and it has ended. */
bool cmp_kill_guest(uint32_t vmid, int timeout_ms);

int64_t cmp_now_ms(void);

#endif
