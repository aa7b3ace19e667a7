/*
 * Guests that do not exist: what the fake drivers of virtual machines and of containers share.
 *
 * A guest is a one-line file in a folder, so that task workers and the agent see the same; thousands more
 * from one id on run without a file, until something is done to them. Deterministic: equal files, equal
 * guests.
 *
 * Faults are asked for by a file `faults` there, a line each: DEED ID REASON, as "start 10005 no memory is
 * left"; "*" is any id. Deeds: start stop shutdown reset suspend resume change agent unpack.
 */
#ifndef CMP_DRIVERS_FAKE_GUESTS_H
#define CMP_DRIVERS_FAKE_GUESTS_H

#include "core/life.h"
#include "pure/arena.h"
#include "pure/error.h"

struct cmp_fakes {
    char *folder;
    uint32_t first; /* made-up ids: first .. first + count - 1 */
    uint32_t count;
    int64_t begun; /* wall clock, seconds: when these started */
};

struct cmp_fake {
    uint32_t vmid;
    enum cmp_state state;
    int64_t started;
    uint64_t memory; /* bytes it may use, as it was told last; 0: never told */
};

/* The agent: how many are made up, which is written down for the workers. Errors: ATL_E_IO. */
ATL_MUST_CHECK enum atl_code cmp_fakes_make(const char *folder, uint32_t first, uint32_t count,
                                            struct cmp_fakes *ret_fakes, struct atl_error *err);
/* A worker: as the agent wrote it. Errors: ATL_E_IO. */
ATL_MUST_CHECK enum atl_code cmp_fakes_open(const char *folder, struct cmp_fakes *ret_fakes,
                                            struct atl_error *err);
void cmp_fakes_done(struct cmp_fakes *fakes);

/* A guest that does not run has the state CMP_STOPPED. */
struct cmp_fake cmp_fakes_get(const struct cmp_fakes *fakes, uint32_t vmid);
ATL_MUST_CHECK enum atl_code cmp_fakes_put(const struct cmp_fakes *fakes, const struct cmp_fake *fake,
                                           struct atl_error *err);
/* ATL_OK, or the fault that was asked for (ATL_E_STATE). */
ATL_MUST_CHECK enum atl_code cmp_fakes_fault(const struct cmp_fakes *fakes, const char *deed, uint32_t vmid,
                                             struct atl_error *err);
/* All that run, sorted by id, in the arena. Errors: ATL_E_IO. */
ATL_MUST_CHECK enum atl_code cmp_fakes_list(const struct cmp_fakes *fakes, struct atl_arena *arena,
                                            struct cmp_fake **ret_rows, size_t *ret_count,
                                            struct atl_error *err);

#endif
