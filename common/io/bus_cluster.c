/* The bus in a cluster: its own key, and what a change of the directory means to it. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/bus_internal.h"

enum { Z85_KEY = 40 }; /* a key as text */

/* --- the key --- */

static bool write_all(int fd, const char *text, size_t size)
{
    return write(fd, text, size) == (ssize_t)size && fsync(fd) == 0;
}

/* A new key under a name of our own, then linked to its place: whoever comes second finds the first one's. */
static enum atl_code make_key(const char *path, struct atl_error *err)
{
    char public_text[Z85_KEY + 1];
    char secret_text[Z85_KEY + 1];
    if (zmq_curve_keypair(public_text, secret_text) != 0)
        return atl_fail(err, ATL_E_INTERNAL, NULL, "libzmq makes no keys: %s", zmq_strerror(zmq_errno()));
    ATL_FREE_AT_EXIT char *other = atl_format("%s.%d", path, (int)getpid());
    int fd = open(other, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool written = fd >= 0 && write_all(fd, secret_text, Z85_KEY);
    explicit_bzero(secret_text, sizeof secret_text);
    if (written)
        written = link(other, path) == 0 || errno == EEXIST;
    int error = errno;
    if (fd >= 0) {
        (void)close(fd); /* it is on disk already */
        (void)unlink(other);
    }
    if (!written)
        return atl_fail(err, ATL_E_IO, NULL, "cannot make the key '%s': %s", path, strerror(error));
    return ATL_OK;
}

/* ABSENT: there is none yet. */
static enum atl_code read_key(const char *path, char text[Z85_KEY + 1], struct atl_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return atl_fail(err, errno == ENOENT ? ATL_E_ABSENT : ATL_E_IO, NULL, "cannot read the key '%s': %s",
                        path, strerror(errno));
    char bytes[Z85_KEY + 2];
    ssize_t size = read(fd, bytes, sizeof bytes);
    struct stat status;
    bool private = fstat(fd, &status) == 0 && (status.st_mode & 077) == 0;
    (void)close(fd); /* was read only */
    if (!private)
        return atl_fail(err, ATL_E_IO, NULL, "the key '%s' can be read by others than its owner", path);
    if (size != Z85_KEY)
        return atl_fail(err, ATL_E_INVALID, NULL, "'%s' holds no key", path);
    memcpy(text, bytes, Z85_KEY);
    text[Z85_KEY] = '\0';
    explicit_bzero(bytes, sizeof bytes);
    return ATL_OK;
}

static enum atl_code load_key(struct bus_cluster *cluster, const char *path, struct atl_error *err)
{
    char secret_text[Z85_KEY + 1];
    char public_text[Z85_KEY + 1];
    enum atl_code code = read_key(path, secret_text, err);
    if (code == ATL_E_ABSENT) {
        code = make_key(path, err);
        if (code == ATL_OK)
            code = read_key(path, secret_text, err);
    }
    if (code != ATL_OK)
        return code;
    bool good = zmq_z85_decode(cluster->secret_key, secret_text) != NULL &&
                zmq_curve_public(public_text, secret_text) == 0 &&
                zmq_z85_decode(cluster->public_key, public_text) != NULL;
    explicit_bzero(secret_text, sizeof secret_text);
    return good ? ATL_OK : atl_fail(err, ATL_E_INVALID, NULL, "'%s' holds no key", path);
}

enum atl_code atl_bus_key(const char *key_file, uint8_t ret_public_key[ATL_BUS_KEY_SIZE],
                          struct atl_error *err)
{
    struct bus_cluster loaded = {.directory = NULL};
    enum atl_code code = load_key(&loaded, key_file, err);
    explicit_bzero(loaded.secret_key, sizeof loaded.secret_key);
    if (code == ATL_OK)
        memcpy(ret_public_key, loaded.public_key, sizeof loaded.public_key);
    return code;
}

/* --- changes of the directory --- */

static bool gone(const struct atl_bus *bus, const char *node)
{
    return node != NULL && atl_directory_node(bus->cluster->directory, node) == NULL;
}

static void sweep_ports(struct atl_bus *bus)
{
    for (struct bus_port **link = &bus->ports; *link != NULL;) {
        struct bus_port *port = *link;
        if (!gone(bus, port->node) || port->requests != NULL) {
            link = &port->next;
            continue;
        }
        *link = port->next;
        atl_bus_port_free(port);
    }
}

static void sweep_peers(struct atl_bus *bus)
{
    for (struct bus_peer **link = &bus->peers; *link != NULL;) {
        struct bus_peer *peer = *link;
        if (!gone(bus, peer->node) || peer->calls > 0) {
            link = &peer->next;
            continue;
        }
        *link = peer->next;
        atl_bus_peer_free(peer);
        bus->remote_count--;
    }
}

/* From the loop itself, where nobody holds any of them. */
static void sweep(void *user)
{
    struct atl_bus *bus = user;
    bus->cluster->sweep = NULL; /* it frees itself */
    sweep_ports(bus);
    sweep_peers(bus);
}

static void on_directory(void *user)
{
    struct atl_bus *bus = user;
    if (bus->publisher != NULL || bus->ports != NULL)
        atl_bus_listener_update(bus);
    for (struct bus_peer *peer = bus->peers; peer != NULL; peer = peer->next)
        if (peer->node != NULL)
            atl_bus_peer_update(peer);
    atl_bus_subscribers_update(bus);
    if (bus->cluster->sweep == NULL)
        bus->cluster->sweep = atl_loop_timer(bus->loop, 0, 0, sweep, bus);
}

enum atl_code atl_bus_join_cluster(struct atl_bus *bus, const struct atl_bus_cluster *options,
                                   struct atl_error *err)
{
    atl_assert(bus->cluster == NULL);
    atl_assert(options->directory != NULL && options->key_file != NULL);
    struct bus_cluster *cluster = atl_new0(struct bus_cluster);
    enum atl_code code = load_key(cluster, options->key_file, err);
    if (code != ATL_OK) {
        free(cluster);
        return code;
    }
    cluster->directory = options->directory;
    cluster->associate = options->associate;
    bus->cluster = cluster;
    atl_directory_on_change(cluster->directory, on_directory, bus);
    on_directory(bus);
    return ATL_OK;
}

void atl_bus_cluster_done(struct atl_bus *bus)
{
    struct bus_cluster *cluster = bus->cluster;
    if (cluster == NULL)
        return;
    bus->cluster = NULL;
    atl_directory_drop_listener(cluster->directory, on_directory, bus);
    atl_timer_free(cluster->sweep);
    explicit_bzero(cluster->secret_key, sizeof cluster->secret_key);
    free(cluster);
}

const uint8_t *atl_bus_public_key(const struct atl_bus *bus)
{
    atl_assert(bus->cluster != NULL);
    return bus->cluster->public_key;
}

const char *atl_bus_service(const struct atl_bus *bus)
{
    return bus->service;
}

const char *atl_bus_node(const struct atl_bus *bus)
{
    return bus->node;
}
