/* The bounded table of sessions: a hash table over a fixed array, with a list in the order of use. */
#include "core/sessions.h"

#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 8192 };

struct gw_sessions {
    uint32_t buckets[BUCKETS]; /* index + 1 of the first of a chain */
    uint32_t newest;
    uint32_t oldest;
    uint32_t count;  /* entries of `all` that were ever used */
    uint32_t unused; /* index + 1 of the first dropped one, linked by chain */
    struct gw_session all[GW_SESSIONS_MAX];
};

struct gw_sessions *gw_sessions_new(void)
{
    return atl_new0(struct gw_sessions);
}

void gw_sessions_free(struct gw_sessions *sessions)
{
    free(sessions);
}

static uint32_t *bucket_of(struct gw_sessions *sessions, const uint8_t *key)
{
    uint32_t hash = 0; /* the key is a digest: any bytes of it are a hash */
    memcpy(&hash, key, sizeof hash);
    return &sessions->buckets[hash % BUCKETS];
}

static struct gw_session *at(struct gw_sessions *sessions, uint32_t place)
{
    return place == 0 ? NULL : &sessions->all[place - 1];
}

static void unlink_use(struct gw_sessions *sessions, struct gw_session *session)
{
    struct gw_session *newer = at(sessions, session->newer);
    struct gw_session *older = at(sessions, session->older);
    if (newer != NULL)
        newer->older = session->older;
    else
        sessions->newest = session->older;
    if (older != NULL)
        older->newer = session->newer;
    else
        sessions->oldest = session->newer;
}

static void link_newest(struct gw_sessions *sessions, struct gw_session *session)
{
    uint32_t place = (uint32_t)(session - sessions->all) + 1;
    struct gw_session *before = at(sessions, sessions->newest);
    session->newer = 0;
    session->older = sessions->newest;
    if (before != NULL)
        before->newer = place;
    else
        sessions->oldest = place;
    sessions->newest = place;
}

struct gw_session *gw_sessions_find(struct gw_sessions *sessions, const uint8_t key[GW_DIGEST_SIZE])
{
    struct gw_session *session = at(sessions, *bucket_of(sessions, key));
    while (session != NULL && memcmp(session->key, key, GW_DIGEST_SIZE) != 0)
        session = at(sessions, session->chain);
    if (session == NULL)
        return NULL;
    unlink_use(sessions, session);
    link_newest(sessions, session);
    return session;
}

static void remove_session(struct gw_sessions *sessions, struct gw_session *session)
{
    atl_assert(session->used);
    uint32_t place = (uint32_t)(session - sessions->all) + 1;
    uint32_t *link = bucket_of(sessions, session->key);
    while (*link != place) {
        atl_assert(*link != 0);
        link = &sessions->all[*link - 1].chain;
    }
    *link = session->chain;
    unlink_use(sessions, session);
    memset(session, 0, sizeof *session);
    session->chain = sessions->unused;
    sessions->unused = place;
}

void gw_sessions_drop(struct gw_sessions *sessions, const uint8_t key[GW_DIGEST_SIZE])
{
    struct gw_session *session = gw_sessions_find(sessions, key);
    if (session != NULL)
        remove_session(sessions, session);
}

struct gw_session *gw_sessions_put(struct gw_sessions *sessions, const uint8_t key[GW_DIGEST_SIZE])
{
    struct gw_session *session = gw_sessions_find(sessions, key);
    if (session != NULL)
        return session;
    if (sessions->unused == 0 && sessions->count == GW_SESSIONS_MAX) {
        struct gw_session *oldest = at(sessions, sessions->oldest);
        atl_assert(oldest != NULL);
        remove_session(sessions, oldest);
    }
    if (sessions->unused != 0) {
        session = at(sessions, sessions->unused);
        sessions->unused = session->chain;
    } else {
        session = &sessions->all[sessions->count++];
    }
    memset(session, 0, sizeof *session);
    session->used = true;
    memcpy(session->key, key, GW_DIGEST_SIZE);
    uint32_t *bucket = bucket_of(sessions, key);
    session->chain = *bucket;
    *bucket = (uint32_t)(session - sessions->all) + 1;
    link_newest(sessions, session);
    return session;
}

void gw_session_saw(struct gw_session *session, uint64_t epoch, uint64_t number)
{
    if (epoch < session->epoch || (epoch == session->epoch && number <= session->number))
        return;
    session->epoch = epoch;
    session->number = number;
}
