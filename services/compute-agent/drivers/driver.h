/*
 * The engine that runs virtual machines, as one table of functions. Every function blocks and belongs to a
 * task worker or to one of the agent's own threads (engine.c), never to the loop. A handle may be used by
 * several threads at once.
 */
#ifndef CMP_DRIVER_H
#define CMP_DRIVER_H

#include "core/life.h"
#include "pure/arena.h"
#include "pure/error.h"

struct cmp_driver_options {
    const char *uri;       /* libvirt: "qemu:///system" */
    const char *state_dir; /* fake: its guests are files below it */
    uint32_t fake_guests;  /* fake: made up beside those; the agent alone says it */
    uint32_t fake_first;   /* fake: the id of the first of them */
    bool watch;            /* the agent itself: lifecycle events are wanted, and the fake one begins anew */
};

/* What the engine knows of one guest that runs. */
struct cmp_sample {
    uint32_t vmid;
    enum cmp_state state;
    int64_t pid;     /* 0: unknown */
    int64_t started; /* wall clock, seconds; 0: unknown */
    uint32_t vcpus;
    uint64_t cpu_ns;   /* used since the start */
    uint64_t maxmem;   /* bytes */
    uint64_t mem;      /* bytes the guest uses; 0: unknown */
    uint64_t memhost;  /* bytes its process holds */
    uint64_t free_mem; /* as the guest's balloon tells; 0: unknown */
    uint64_t balloon;  /* bytes it has now */
    uint64_t diskread, diskwrite, netin, netout;
};

enum cmp_device_deed { CMP_ATTACH, CMP_DETACH, CMP_CHANGE };

struct cmp_driver {
    const char *name;
    enum atl_code (*open)(const struct cmp_driver_options *options, void **ret_self, struct atl_error *err);
    void (*close)(void *self);

    /* ABSENT where no such guest runs, unless another meaning is given. */
    enum atl_code (*state)(void *self, uint32_t vmid, enum cmp_state *ret_state, struct atl_error *err);
    enum atl_code (*start)(void *self, uint32_t vmid, const char *xml, bool paused, struct atl_error *err);
    enum atl_code (*stop)(void *self, uint32_t vmid, struct atl_error *err);
    /* Ends one that nobody needs any more, memory and unwritten blocks included: its guest has gone on
     * elsewhere, or never ran here. */
    enum atl_code (*abandon)(void *self, uint32_t vmid, struct atl_error *err);
    enum atl_code (*shutdown)(void *self, uint32_t vmid, bool agent, struct atl_error *err); /* asks only */
    enum atl_code (*reset)(void *self, uint32_t vmid, struct atl_error *err);
    enum atl_code (*suspend)(void *self, uint32_t vmid, struct atl_error *err);
    enum atl_code (*resume)(void *self, uint32_t vmid, struct atl_error *err);
    /* A command of the guest agent as JSON; *ret_answer is returned (free()). UNAVAILABLE: no agent answers.
     */
    enum atl_code (*agent)(void *self, uint32_t vmid, const char *command, int timeout_s, char **ret_answer,
                           struct atl_error *err);
    enum atl_code (*monitor)(void *self, uint32_t vmid, const char *command, char **ret_answer,
                             struct atl_error *err);
    /* target: as cmp_disk_target() names the disk */
    enum atl_code (*resize)(void *self, uint32_t vmid, const char *target, uint64_t size_bytes,
                            struct atl_error *err);
    enum atl_code (*device)(void *self, uint32_t vmid, enum cmp_device_deed deed, const char *xml,
                            struct atl_error *err);
    /* limit: hundredths of a processor, 0: none; units 0: as it is */
    enum atl_code (*cpu_limits)(void *self, uint32_t vmid, uint64_t limit_percent, uint64_t units,
                                struct atl_error *err);

    /* Moving a guest that runs; NULL: this engine cannot. The domain as another host may start it, and a
     * command of QEMU's protocol with its answer, both returned (free()). */
    enum atl_code (*domain)(void *self, uint32_t vmid, char **ret_xml, struct atl_error *err);
    enum atl_code (*qmp)(void *self, uint32_t vmid, const char *command, char **ret_answer,
                         struct atl_error *err);

    /* All guests that run, sorted by vmid, in one call; the array lives in the arena. UNAVAILABLE: the engine
     * is gone, open it again. */
    enum atl_code (*sample)(void *self, struct atl_arena *arena, struct cmp_sample **ret_samples,
                            size_t *ret_count, struct atl_error *err);
    /* Waits until something may have changed, `wait` was called for, or the time has passed. */
    void (*wait)(void *self, int timeout_ms);
};

extern const struct cmp_driver cmp_libvirt_driver;
extern const struct cmp_driver cmp_fake_driver;

/* By its name; NULL: none. */
const struct cmp_driver *cmp_driver_find(const char *name);

#endif
