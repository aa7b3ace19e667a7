/* What kernel files tell about a running container, read from their text. Pure. */
#ifndef CMP_CT_STAT_H
#define CMP_CT_STAT_H

#include "pure/arena.h"
#include "pure/error.h"

/* "anon 12\ninactive_file 34\n" -> the number behind a name; 0 when it is not there. */
uint64_t cmp_ct_keyed(const char *text, const char *name);

/* One number, or UINT64_MAX for "max" and for what is none. */
uint64_t cmp_ct_number(const char *text);

/* Sums: v1 blkio.throttle.io_service_bytes ("8:0 Read 123"), v2 io.stat ("8:0 rbytes=1 wbytes=2 ..."). */
void cmp_ct_io(const char *text, unsigned int cgroup_version, uint64_t *ret_read, uint64_t *ret_written);

/* The share of pressure in the last ten seconds of /proc/pressure-like text: kind "some" or "full"; 0 if
 * absent. */
double cmp_ct_pressure(const char *text, const char *kind);

/*
 * The signal that asks an init to power off, from "SigBlk:" and "SigCgt:" of its /proc/PID/status: systemd
 * takes SIGRTMIN+3, sysvinit and OpenRC SIGPWR, busybox SIGUSR2.
 */
int cmp_ct_halt_signal(const char *status_text, int sigrtmin);

/* "SIGPWR", "PWR", "SIGRTMIN+3", "12" -> the number; 0 when it is none. */
int cmp_ct_signal(const char *name, int sigrtmin);

/* Counts the CPUs of a list "0-2,5" into load (cpus places); numbers past the end are left out. */
void cmp_ct_cpu_list_count(const char *list, uint32_t *load, uint32_t cpus);

/* "init 12 345\nmonitor 11 344\n", the file `run` of a container. */
struct cmp_ct_run {
    int init;
    int monitor;
    uint64_t init_start; /* clock ticks since boot: tells the process from a later one of that number */
    uint64_t monitor_start;
};
bool cmp_ct_run_from_text(const char *text, struct cmp_ct_run *ret_run);

#endif
