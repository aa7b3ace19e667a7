/* The directory after the tree, and our key into the tree. */
#include "io/directory_follow.h"

#include <stdlib.h>
#include <string.h>

#include "atoll/store/v1/directory.atl.h"
#include "io/log.h"

#define ANNOUNCE_AGAIN (2 * ATL_SECOND)

struct atl_follower {
    struct atl_bus *bus;
    struct atl_mirror *mirror;
    struct atl_directory *directory;
    struct atl_call *call; /* the announcement under way */
    struct atl_timer *retry;
    bool complete; /* the mirror's first copy has replaced what came from the disk */
    bool told;     /* the log, that the key is not taken */
};

static void announce(struct atl_follower *follower);

static void announce_again(void *user)
{
    struct atl_follower *follower = user;
    follower->retry = NULL; /* it frees itself */
    announce(follower);
}

static void announced(const struct atl_reply *reply, void *user)
{
    struct atl_follower *follower = user;
    follower->call = NULL;
    if (reply->code != ATL_OK && reply->code != ATL_E_UNAVAILABLE && !follower->told) {
        atl_log(ATL_WARNING, "key-not-announced", "config-store does not take our key, trying again: %s",
                reply->error.text);
        follower->told = true;
    }
    /* Also after OK: it is looked at again whether the tree says it by then. */
    follower->retry =
        atl_loop_timer(atl_bus_loop(follower->bus), ANNOUNCE_AGAIN, 0, announce_again, follower);
}

static void announce(struct atl_follower *follower)
{
    const char *node = atl_bus_node(follower->bus);
    const uint8_t *own = atl_bus_public_key(follower->bus);
    const uint8_t *said = atl_directory_key(follower->directory, atl_bus_service(follower->bus), node);
    if (atl_directory_node(follower->directory, node) == NULL ||
        (said != NULL && memcmp(said, own, ATL_BUS_KEY_SIZE) == 0)) {
        follower->told = false;
        return;
    }
    if (!follower->complete || follower->call != NULL || follower->retry != NULL)
        return;
    uint8_t key[ATL_BUS_KEY_SIZE];
    memcpy(key, own, sizeof key);
    Atoll__Store__V1__AnnounceRequest request = ATOLL__STORE__V1__ANNOUNCE_REQUEST__INIT;
    request.public_key = (ProtobufCBinaryData){.len = sizeof key, .data = key};
    request.has_protocol_minor = 1;
    request.protocol_minor = ATL_PROTOCOL_MINOR;
    follower->call = atl_bus_call(follower->bus, &atl_rpc_store_v1_Directory_Announce, &request.base, NULL,
                                  announced, follower);
}

static void on_file(const char *path, const struct atl_file *file, void *user)
{
    const struct atl_follower *follower = user;
    atl_directory_feed(follower->directory, path + strlen(ATL_DIRECTORY_PREFIX),
                       file != NULL ? file->bytes : NULL, file != NULL ? file->size : 0);
}

/* Nodes that the copy on disk knew and the tree does not. */
static void drop_the_rest(const struct atl_follower *follower)
{
    for (size_t i = atl_directory_count(follower->directory); i > 0; i--) {
        const struct atl_directory_node *node = atl_directory_at(follower->directory, i - 1);
        ATL_FREE_AT_EXIT char *path = atl_format("%s%s", ATL_DIRECTORY_PREFIX, node->node);
        if (atl_mirror_get(follower->mirror, path) == NULL)
            atl_directory_feed(follower->directory, path + strlen(ATL_DIRECTORY_PREFIX), NULL, 0);
    }
}

static void on_batch(void *user)
{
    struct atl_follower *follower = user;
    if (!follower->complete && atl_mirror_ready(follower->mirror)) {
        drop_the_rest(follower);
        follower->complete = true;
    }
    announce(follower);
}

struct atl_follower *atl_directory_follow(struct atl_bus *bus, struct atl_mirror *mirror,
                                          struct atl_directory *directory)
{
    struct atl_follower *follower = atl_new0(struct atl_follower);
    *follower = (struct atl_follower){.bus = bus, .mirror = mirror, .directory = directory};
    atl_mirror_each(mirror, ATL_DIRECTORY_PREFIX, on_file, follower);
    atl_mirror_on_change(mirror, ATL_DIRECTORY_PREFIX, on_file, follower);
    atl_mirror_on_batch(mirror, on_batch, follower);
    on_batch(follower);
    return follower;
}

void atl_directory_unfollow(struct atl_follower **pointer)
{
    struct atl_follower *follower = *pointer;
    *pointer = NULL;
    if (follower == NULL)
        return;
    if (follower->call != NULL)
        atl_call_cancel(follower->call);
    atl_timer_free(follower->retry);
    free(follower);
}
