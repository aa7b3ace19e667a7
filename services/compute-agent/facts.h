/*
 * What lists and the status view need of the guests' files of one kind. A file is read once, when it changes:
 * reading one costs tens of microseconds, and a node may have thousands of guests that are asked for every
 * few seconds.
 */
#ifndef CMP_FACTS_H
#define CMP_FACTS_H

#include "io/mirror.h"

struct cmp_facts {
    uint32_t vmid;
    bool template_;
    double cpus;   /* 0: all of the host */
    uint64_t nets; /* containers: bit n stands for net[n] */
    uint64_t maxmem;
    uint64_t maxswap;
    uint64_t maxdisk;
    char *name; /* these three: atl_strdup() or NULL */
    char *tags;
    char *lock;
};

struct cmp_facts_table;

/* Fills in everything but the id. Errors: those of the file; such a guest is not in the table. */
typedef enum atl_code cmp_facts_fn(const struct atl_file *file, struct cmp_facts *facts);

/* Follows the files "PREFIX100.conf". Never NULL. To be closed before the mirror, whose loop must not run in
 * between.
 */
struct cmp_facts_table *cmp_facts_open(struct atl_mirror *mirror, const char *prefix, cmp_facts_fn *read);
void cmp_facts_close(struct cmp_facts_table **table);

/* Sorted by id; borrowed until the next round of the loop. */
size_t cmp_facts_count(const struct cmp_facts_table *table);
const struct cmp_facts *cmp_facts_at(const struct cmp_facts_table *table, size_t index);
/* NULL: no such file, or it cannot be read. */
const struct cmp_facts *cmp_facts_find(const struct cmp_facts_table *table, uint32_t vmid);

#endif
