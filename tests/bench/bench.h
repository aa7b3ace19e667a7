/* What benchmarks in C share: medians, times, an end that says why. */
#ifndef ATL_BENCH_H
#define ATL_BENCH_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "io/loop.h"
#include "pure/error.h"

static inline int bench_compare(const void *left, const void *right)
{
    const double *a = left;
    const double *b = right;
    return (*a > *b) - (*a < *b);
}

/* Sorts the samples. */
static inline double bench_median(double *samples, size_t count)
{
    qsort(samples, count, sizeof *samples, bench_compare);
    return samples[count / 2];
}

/* Microseconds. */
static inline double bench_since(atl_ns start)
{
    return (double)(atl_clock_monotonic() - start) / 1000.0;
}

/* Ends the program unless the code is ATL_OK. */
static inline void bench_must(enum atl_code code, const struct atl_error *err)
{
    if (code == ATL_OK)
        return;
    (void)fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, atl_code_to_text(code), err->text);
    exit(EXIT_FAILURE);
}

#endif
