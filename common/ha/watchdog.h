/*
 * The words between ha-lrm and the watchdog multiplexer (services/watchdog), and the client's side of them.
 *
 * One SOCK_SEQPACKET socket, RUN/watchdog/mux.sock; one packet asks, one answers, in order. Host byte order:
 * both ends are programs of one build on one machine. Times are CLOCK_BOOTTIME. Whoever connects is known by
 * the kernel (SO_PEERCRED). The client's functions belong to the loop's thread.
 */
#ifndef ATL_HA_WATCHDOG_H
#define ATL_HA_WATCHDOG_H

#include "io/loop.h"
#include "pure/error.h"

enum atl_watchdog_verb {
    ATL_WATCHDOG_HELLO = 1,  /* how do things stand? */
    ATL_WATCHDOG_ARM = 2,    /* begins to watch with timeout_ms, unless the deadline has passed; feeds when it
                                watches already */
    ATL_WATCHDOG_FEED = 3,   /* feeds, unless the deadline has passed */
    ATL_WATCHDOG_DISARM = 4, /* ends watching in order */
};

enum { ATL_WATCHDOG_MAGIC = 0x41574431, ATL_WATCHDOG_TEXT = 96 };

struct atl_watchdog_ask {
    uint32_t magic;
    uint32_t verb;
    uint64_t deadline_ms; /* not done at or after this moment */
    uint32_t timeout_ms;  /* ARM */
    uint32_t unused;
};

struct atl_watchdog_answer {
    uint32_t magic;
    uint32_t verb;                /* of the ask */
    uint32_t code;                /* enum atl_code; ATL_E_DEADLINE: too late, nothing was done */
    uint32_t timeout_ms;          /* that the device has now; 0: it does not watch */
    char text[ATL_WATCHDOG_TEXT]; /* of an error */
};

/* Is it one that may be acted on? size: of the packet. */
bool atl_watchdog_ask_valid(const struct atl_watchdog_ask *ask, size_t size);

struct atl_watchdog;

struct atl_watchdog_state {
    bool connected;
    bool armed;                    /* as of the last answer */
    uint64_t last_fed_ms;          /* CLOCK_BOOTTIME of the last feed that was answered well; 0: none */
    char error[ATL_WATCHDOG_TEXT]; /* of the last answer; "" */
};

/* Connects, and again whenever the connection is lost. fn is called after each change of the state
 * but last_fed_ms. */
struct atl_watchdog *atl_watchdog_open(struct atl_loop *loop, const char *path, void (*fn)(void *user),
                                       void *user);
/* What is armed stays armed. */
void atl_watchdog_close(struct atl_watchdog **watchdog);
const struct atl_watchdog_state *atl_watchdog_now(const struct atl_watchdog *watchdog);

/* Sent at once; false: there is no connection, or it takes nothing. The answer shows in the state. */
bool atl_watchdog_arm(struct atl_watchdog *watchdog, uint32_t timeout_ms, uint64_t deadline_ms);
bool atl_watchdog_feed(struct atl_watchdog *watchdog, uint64_t deadline_ms);
bool atl_watchdog_disarm(struct atl_watchdog *watchdog);

#endif
