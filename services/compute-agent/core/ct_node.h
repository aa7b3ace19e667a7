/* The node's own facts, read from the text of kernel files. Pure. */
#ifndef CMP_CT_NODE_H
#define CMP_CT_NODE_H

#include "pure/arena.h"

struct cmp_node_cpu {
    uint32_t cpus;
    uint32_t sockets;
    uint32_t cores; /* per socket */
    const char *model;
    const char *flags;
    const char *mhz;
    bool hvm;
};
/* /proc/cpuinfo. */
void cmp_node_cpuinfo(const char *text, struct atl_arena *arena, struct cmp_node_cpu *ret_cpu);

struct cmp_node_ticks { /* of the first line of /proc/stat, in clock ticks since boot */
    uint64_t busy;
    uint64_t wait;
    uint64_t total;
};
void cmp_node_ticks(const char *text, struct cmp_node_ticks *ret_ticks);

/* Bytes behind a name of /proc/meminfo; 0 when it is not there. */
uint64_t cmp_node_meminfo(const char *text, const char *name);
/* Of a file of /proc/pressure: the share of the last minute in which some task waited, 0..1; below 0: it does
 * not tell. */
double cmp_node_pressure(const char *text);

/* "0.12 0.34 0.56 1/234 567" -> three texts; missing ones are "0.00". */
void cmp_node_loadavg(const char *text, struct atl_arena *arena, char *ret_loads[3]);

struct cmp_node_resolver {
    const char *search;     /* NULL: none */
    const char *servers[3]; /* NULL: none */
};
/* /etc/resolv.conf. */
void cmp_node_resolver(const char *text, struct atl_arena *arena, struct cmp_node_resolver *ret_resolver);

/* "/usr/share/zoneinfo/Europe/Vienna" (the target of /etc/localtime) or the text of /etc/timezone -> the
 * zone. */
const char *cmp_node_zone(const char *link, const char *file, struct atl_arena *arena);

#endif
