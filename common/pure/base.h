/* What every C file of Atoll starts from: attributes, assertions that stay on, time units, cleanup macros. */
#ifndef ATL_PURE_BASE_H
#define ATL_PURE_BASE_H

#include <assert.h>
#include <inttypes.h> /* IWYU pragma: export */
#include <stdbool.h>  /* IWYU pragma: export */
#include <stddef.h>   /* IWYU pragma: export */
#include <stdint.h>   /* IWYU pragma: export */

typedef int64_t atl_ns; /* a time or a span, in nanoseconds */

#define ATL_US                ((atl_ns)1000)
#define ATL_MS                (1000 * ATL_US)
#define ATL_SECOND            (1000 * ATL_MS)
#define ATL_MINUTE            (60 * ATL_SECOND)
#define ATL_HOUR              (60 * ATL_MINUTE)

#define ATL_MUST_CHECK        __attribute__((warn_unused_result))
#define ATL_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define ATL_NORETURN          __attribute__((noreturn))
#define ATL_UNUSED            __attribute__((unused))
#define ATL_CLEANUP(fn)       __attribute__((cleanup(fn)))
#define ATL_COUNT(array)      (sizeof(array) / sizeof((array)[0]))

/* Hands a pointer or an fd over: the variable loses it, so its cleanup does nothing. */
#define ATL_STEAL(variable)                                                                                  \
    __extension__({                                                                                          \
        __typeof__(variable) atl_stolen_ = (variable);                                                       \
        (variable) = NULL;                                                                                   \
        atl_stolen_;                                                                                         \
    })
#define ATL_STEAL_FD(variable)                                                                               \
    __extension__({                                                                                          \
        int atl_stolen_ = (variable);                                                                        \
        (variable) = -1;                                                                                     \
        atl_stolen_;                                                                                         \
    })

/* Asserts what only a bug can break; never data from outside. Stays on in every build. */
#define atl_assert(condition)                                                                                \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            atl_assert_failed(#condition, __FILE__, __LINE__);                                               \
    } while (0)

/* Prints the broken assertion to stderr and aborts. A test may link its own. */
ATL_NORETURN void atl_assert_failed(const char *condition, const char *file, int line);

/* Heap for shells: abort when memory is out (the supervisor restarts us; state is in config-store). */
void *atl_alloc0(size_t size);
void *atl_realloc(void *memory, size_t size);
char *atl_strdup(const char *text);
char *atl_strndup(const char *text, size_t length);
ATL_PRINTF(1, 2) char *atl_format(const char *format, ...);
#define atl_new0(type) ((type *)atl_alloc0(sizeof(type)))

/* Cleanup of `ATL_FREE_AT_EXIT char *text = NULL;`. */
void atl_free_ptr(void *pointer_to_pointer);
#define ATL_FREE_AT_EXIT ATL_CLEANUP(atl_free_ptr)

/* Copies text into a fixed array; false when it was cut. The array is always terminated. */
bool atl_copy(char *to, size_t size, const char *text);

/* Compares in time that depends on the length alone. */
bool atl_equal_secret(const void *a, const void *b, size_t size);

#endif
