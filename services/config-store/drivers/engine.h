/*
 * What keeps the tree over a crash: one table of functions per engine of our own (sqlite for one node, memory
 * for tests). Engines that other nodes write too have theirs in drivers/shared.h.
 *
 * One commit carries many transactions of the tree (group commit). When it returns ATL_OK all of it is safe
 * from kill -9 and power loss; when it fails, nothing of it is there.
 */
#ifndef CFG_ENGINE_H
#define CFG_ENGINE_H

#include "pure/error.h"

enum { CFG_REQUEST_ID_SIZE = 16 };

/* A path as it is to be; the bytes are borrowed. */
struct cfg_engine_change {
    const char *path;
    const void *bytes; /* NULL: it is gone */
    size_t size;
    uint64_t number;
};

/* A request that was done, so that a retry is not done again. */
struct cfg_engine_request {
    uint8_t id[CFG_REQUEST_ID_SIZE];
    uint64_t number; /* the revision it made: no two have the same */
    int64_t at;      /* wall clock, seconds */
};

struct cfg_engine_commit {
    const struct cfg_engine_change *changes; /* in order; a path may come more than once */
    size_t change_count;
    const struct cfg_engine_request *requests;
    size_t request_count;
    uint64_t number;         /* the tree's revision behind it */
    uint64_t epoch;          /* of the tree, when it may have changed; 0: as it was */
    uint64_t forget_through; /* requests up to this revision may go; 0: none now */
};

/* Where load() puts what it finds; a callback that fails ends it. */
struct cfg_engine_sink {
    void *user;
    void (*revision)(void *user, uint64_t epoch, uint64_t number); /* first */
    enum atl_code (*file)(void *user, const struct cfg_engine_change *file, struct atl_error *err);
    void (*request)(void *user, const struct cfg_engine_request *request);
};

struct cfg_engine_options {
    const char *state_dir;
    const char *vfs;  /* sqlite: name of a VFS, for tests; NULL: the machine's */
    const char *name; /* sqlite: of the file; NULL: tree.db */
    bool relaxed;     /* sqlite: power loss may take the last commits */
    bool unsafe;      /* sqlite: synchronous=OFF, to show that the tests see the difference */
};

struct cfg_engine_driver {
    const char *kind;
    /* Errors: ATL_E_IO; ATL_E_LIMIT another process holds it. */
    enum atl_code (*open)(const struct cfg_engine_options *options, void **ret_self, struct atl_error *err);
    enum atl_code (*load)(void *self, const struct cfg_engine_sink *sink, struct atl_error *err);
    /* Errors: ATL_E_IO, ATL_E_LIMIT no space. Blocks for one sync of the disk. */
    enum atl_code (*commit)(void *self, const struct cfg_engine_commit *commit, struct atl_error *err);
    void (*close)(void *self);
};

extern const struct cfg_engine_driver cfg_engine_sqlite;
extern const struct cfg_engine_driver cfg_engine_memory;

/* The engine of that name, or NULL. */
const struct cfg_engine_driver *cfg_engine_find(const char *kind);

#endif
