/*
 * What the gateway remembers of logins and tokens: the signed assertion that config-store gave for a
 * credential, and the newest tree revision its owner has seen. Bounded: the one unused for longest goes.
 * Nothing in here is power: an assertion is refused after five minutes, and says who, never what.
 */
#ifndef GW_CORE_SESSIONS_H
#define GW_CORE_SESSIONS_H

#include "pure/base.h"

enum { GW_SESSIONS_MAX = 4096, GW_ASSERTION_MAX = 2048, GW_DIGEST_SIZE = 32, GW_USER_MAX = 160 };

struct gw_session {
    uint8_t key[GW_DIGEST_SIZE];  /* SHA-256 of the credential */
    uint8_t csrf[GW_DIGEST_SIZE]; /* SHA-256 of the CSRF token that was checked with it; all zero: none yet */
    uint8_t assertion[GW_ASSERTION_MAX];
    size_t assertion_size;
    int64_t expires; /* wall clock, seconds: ask again from then on */
    uint64_t epoch;  /* of the newest revision seen */
    uint64_t number;
    char user[GW_USER_MAX]; /* "admin@pve" or "admin@pve!name", for the audit log */
    uint32_t newer;         /* indexes + 1 of the order of use and of the hash chain; 0: none */
    uint32_t older;
    uint32_t chain;
    bool used;
};

struct gw_sessions;

struct gw_sessions *gw_sessions_new(void); /* from the heap */
void gw_sessions_free(struct gw_sessions *sessions);

/* The session of that key, which becomes the newest, or NULL. Valid until the next gw_sessions_put(). */
struct gw_session *gw_sessions_find(struct gw_sessions *sessions, const uint8_t key[GW_DIGEST_SIZE]);

/* Finds or makes it; may forget the one unused for longest. */
struct gw_session *gw_sessions_put(struct gw_sessions *sessions, const uint8_t key[GW_DIGEST_SIZE]);

/* Forgets one: its credential was refused. */
void gw_sessions_drop(struct gw_sessions *sessions, const uint8_t key[GW_DIGEST_SIZE]);

/* Remembers a revision if it is newer than the one it has. */
void gw_session_saw(struct gw_session *session, uint64_t epoch, uint64_t number);

#endif
