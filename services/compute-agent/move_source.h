/* The worker at the source of a migration: what its files share. */
#ifndef CMP_MOVE_SOURCE_H
#define CMP_MOVE_SOURCE_H

#include "move.h"
#include "move_tunnel.h"

struct source {
    struct work work;
    struct cmp_move_input input;
    struct atl_stream_offer offer;
    struct move_link link;
    struct move_tunnel *ram;
    struct move_tunnel *nbd;
    const Atoll__Qemu__V1__Word *ready; /* what the target has made */
    struct move_jobs jobs;              /* volumes on their way to the target */
    bool was_running;                   /* not paused by somebody */
    bool locked;                        /* the file holds our lock, or may */
    bool committed;
    atl_ns stopped_at; /* when the guest began to stand still; 0: it did not */
};

/* Waits for a word of that kind. Errors: as move_hear(); STATE the target has refused; CANCELLED (unless it
 * is to be waited for to the end). */
ATL_MUST_CHECK enum atl_code source_hear(struct source *source, const char *kind, bool to_the_end,
                                         const Atoll__Qemu__V1__Word **ret_word, struct atl_error *err);

/* Bytes/s; 0: no limit. */
uint64_t source_limit(const struct source *source);

/* Sends disks and memory of the running guest until it stands still here and everything has been sent. */
ATL_MUST_CHECK enum atl_code source_transfer(struct source *source, struct atl_error *err);

#endif
