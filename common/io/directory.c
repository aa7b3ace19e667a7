/* The table of nodes and keys, and the copy of it on disk. */
#include "io/directory.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atoll/store/v1/directory.pb-c.h"
#include "io/log.h"

enum { LISTENERS_MAX = 4, FIRST_PORT = 8100 };

struct listener {
    atl_directory_fn *fn;
    void *user;
};

struct atl_directory {
    struct atl_directory_node *nodes[ATL_DIRECTORY_NODES]; /* sorted by name */
    size_t count;
    struct listener listeners[LISTENERS_MAX];
    size_t listener_count;
    char *path; /* of the copy, or NULL */
    bool told;  /* the log, that the copy cannot be written */
};

struct atl_directory *atl_directory_new(void)
{
    return atl_new0(struct atl_directory);
}

void atl_directory_free(struct atl_directory **pointer)
{
    struct atl_directory *directory = *pointer;
    *pointer = NULL;
    if (directory == NULL)
        return;
    for (size_t i = 0; i < directory->count; i++)
        free(directory->nodes[i]);
    free(directory->path);
    free(directory);
}

/* --- looking up --- */

/* Where the node stands, or would stand. */
static size_t place_of(const struct atl_directory *directory, const char *node)
{
    size_t low = 0;
    size_t high = directory->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(directory->nodes[middle]->node, node) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct atl_directory_node *atl_directory_node(const struct atl_directory *directory, const char *node)
{
    size_t at = place_of(directory, node);
    bool there = at < directory->count && strcmp(directory->nodes[at]->node, node) == 0;
    return there ? directory->nodes[at] : NULL;
}

const uint8_t *atl_directory_key(const struct atl_directory *directory, const char *service, const char *node)
{
    const struct atl_directory_node *record = atl_directory_node(directory, node);
    for (size_t i = 0; record != NULL && i < record->key_count; i++)
        if (strcmp(record->keys[i].service, service) == 0)
            return record->keys[i].public_key;
    return NULL;
}

bool atl_directory_owner(const struct atl_directory *directory, const uint8_t key[ATL_BUS_KEY_SIZE],
                         const char **ret_service, const char **ret_node)
{
    unsigned int owners = 0;
    for (size_t i = 0; i < directory->count; i++) {
        const struct atl_directory_node *node = directory->nodes[i];
        for (size_t k = 0; k < node->key_count; k++) {
            if (memcmp(node->keys[k].public_key, key, ATL_BUS_KEY_SIZE) != 0)
                continue;
            owners++;
            *ret_service = node->keys[k].service;
            *ret_node = node->node;
        }
    }
    return owners == 1;
}

size_t atl_directory_count(const struct atl_directory *directory)
{
    return directory->count;
}

const struct atl_directory_node *atl_directory_at(const struct atl_directory *directory, size_t index)
{
    atl_assert(index < directory->count);
    return directory->nodes[index];
}

uint16_t atl_directory_port(const char *service)
{
    static const char *const services[] = {"config-store", "compute-agent", "storage-agent", "sdn-agent",
                                           "ha-crm",       "ha-lrm",        "backup-agent",  "api-gateway"};
    for (size_t i = 0; i < ATL_COUNT(services); i++)
        if (strcmp(services[i], service) == 0)
            return (uint16_t)(FIRST_PORT + 2 * i);
    return 0;
}

/* --- feeding --- */

static bool good_address(const char *text)
{
    unsigned char bytes[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

/* Names become parts of user ids and of paths: "compute-agent", "pve1". */
static bool good_name(const char *text)
{
    size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");
    return length > 0 && text[length] == '\0';
}

static bool take_key(struct atl_directory_node *node, const Atoll__Store__V1__ServiceKey *key)
{
    if (node->key_count == ATL_DIRECTORY_KEYS || key->public_key.len != ATL_BUS_KEY_SIZE ||
        !good_name(key->service) || strcmp(key->service, "cli") == 0) /* root's door is on ipc only */
        return false;
    for (size_t i = 0; i < node->key_count; i++)
        if (strcmp(node->keys[i].service, key->service) == 0)
            return false;
    struct atl_directory_key *own = &node->keys[node->key_count++];
    memcpy(own->public_key, key->public_key.data, ATL_BUS_KEY_SIZE);
    return atl_copy(own->service, sizeof own->service, key->service);
}

/* NULL: it is no record. */
static struct atl_directory_node *read_record(const char *name, const void *bytes, size_t size)
{
    if (bytes == NULL || size > ATL_DIRECTORY_RECORD || !good_name(name))
        return NULL;
    Atoll__Store__V1__DirectoryNode *record =
        atoll__store__v1__directory_node__unpack(NULL, size, (const uint8_t *)bytes);
    if (record == NULL)
        return NULL;
    struct atl_directory_node *node = atl_new0(struct atl_directory_node);
    node->protocol_minor = record->protocol_minor;
    node->associate = record->has_associate && record->associate;
    bool good = atl_copy(node->node, sizeof node->node, name) &&
                atl_copy(node->address, sizeof node->address, record->address) && good_address(node->address);
    for (size_t i = 0; i < record->n_key && good; i++)
        good = take_key(node, record->key[i]);
    atoll__store__v1__directory_node__free_unpacked(record, NULL);
    if (!good) {
        free(node);
        return NULL;
    }
    return node;
}

static void take_out(struct atl_directory *directory, size_t at)
{
    free(directory->nodes[at]);
    directory->count--;
    memmove(&directory->nodes[at], &directory->nodes[at + 1],
            (directory->count - at) * sizeof(struct atl_directory_node *));
}

static void put_in(struct atl_directory *directory, size_t at, struct atl_directory_node *node)
{
    memmove(&directory->nodes[at + 1], &directory->nodes[at],
            (directory->count - at) * sizeof(struct atl_directory_node *));
    directory->nodes[at] = node;
    directory->count++;
}

static bool same_record(const struct atl_directory_node *a, const struct atl_directory_node *b)
{
    bool same = strcmp(a->address, b->address) == 0 && a->protocol_minor == b->protocol_minor &&
                a->associate == b->associate && a->key_count == b->key_count;
    for (size_t i = 0; i < a->key_count && same; i++)
        same = strcmp(a->keys[i].service, b->keys[i].service) == 0 &&
               memcmp(a->keys[i].public_key, b->keys[i].public_key, ATL_BUS_KEY_SIZE) == 0;
    return same;
}

/* Whether anything is different now. Takes `node`, which may be NULL. */
static bool replace(struct atl_directory *directory, const char *name, struct atl_directory_node *node)
{
    size_t at = place_of(directory, name);
    bool there = at < directory->count && strcmp(directory->nodes[at]->node, name) == 0;
    bool same = there && node != NULL && same_record(directory->nodes[at], node);
    bool full = !there && directory->count == ATL_DIRECTORY_NODES;
    if (same || full || (!there && node == NULL)) {
        if (full && node != NULL)
            atl_log(ATL_ERROR, "directory-full", "the directory has room for %d nodes, leaving out %s",
                    ATL_DIRECTORY_NODES, name);
        free(node);
        return false;
    }
    if (there)
        take_out(directory, at);
    if (node != NULL)
        put_in(directory, at, node);
    return true;
}

static void tell(const struct atl_directory *directory)
{
    for (size_t i = 0; i < directory->listener_count; i++)
        directory->listeners[i].fn(directory->listeners[i].user);
}

static void save(struct atl_directory *directory);

void atl_directory_feed(struct atl_directory *directory, const char *node, const void *bytes, size_t size)
{
    struct atl_directory_node *record = read_record(node, bytes, size);
    if (bytes != NULL && record == NULL)
        atl_log(ATL_WARNING, "directory-record-bad",
                "the directory's record of a node is none, leaving it out");
    if (!replace(directory, node, record))
        return;
    save(directory);
    tell(directory);
}

void atl_directory_on_change(struct atl_directory *directory, atl_directory_fn *fn, void *user)
{
    atl_assert(directory->listener_count < LISTENERS_MAX);
    directory->listeners[directory->listener_count++] = (struct listener){.fn = fn, .user = user};
}

void atl_directory_drop_listener(struct atl_directory *directory, atl_directory_fn *fn, const void *user)
{
    for (size_t i = 0; i < directory->listener_count; i++) {
        if (directory->listeners[i].fn != fn || directory->listeners[i].user != user)
            continue;
        directory->listeners[i] = directory->listeners[--directory->listener_count];
        return;
    }
}

/* --- the copy on disk: per node its name, the size of its record in two bytes, and the record --- */

static void pack_record(const struct atl_directory_node *node, uint8_t packed[ATL_DIRECTORY_RECORD],
                        size_t *ret_size)
{
    struct atl_directory_node own = *node; /* protobuf-c has no const texts */
    Atoll__Store__V1__DirectoryNode record = ATOLL__STORE__V1__DIRECTORY_NODE__INIT;
    Atoll__Store__V1__ServiceKey keys[ATL_DIRECTORY_KEYS];
    Atoll__Store__V1__ServiceKey *pointers[ATL_DIRECTORY_KEYS];
    record.address = own.address;
    record.has_protocol_minor = 1;
    record.protocol_minor = own.protocol_minor;
    record.has_associate = own.associate;
    record.associate = own.associate;
    for (size_t i = 0; i < own.key_count; i++) {
        atoll__store__v1__service_key__init(&keys[i]);
        keys[i].service = own.keys[i].service;
        keys[i].public_key = (ProtobufCBinaryData){.len = ATL_BUS_KEY_SIZE, .data = own.keys[i].public_key};
        pointers[i] = &keys[i];
    }
    record.n_key = own.key_count;
    record.key = pointers;
    size_t size = atoll__store__v1__directory_node__get_packed_size(&record);
    atl_assert(size <= ATL_DIRECTORY_RECORD);
    *ret_size = atoll__store__v1__directory_node__pack(&record, packed);
}

static bool write_copy(const struct atl_directory *directory, FILE *file)
{
    for (size_t i = 0; i < directory->count; i++) {
        const struct atl_directory_node *node = directory->nodes[i];
        uint8_t packed[ATL_DIRECTORY_RECORD];
        size_t size = 0;
        pack_record(node, packed, &size);
        uint8_t length[2] = {(uint8_t)(size >> 8), (uint8_t)size};
        if (fwrite(node->node, 1, sizeof node->node, file) != sizeof node->node ||
            fwrite(length, 1, sizeof length, file) != sizeof length || fwrite(packed, 1, size, file) != size)
            return false;
    }
    return fflush(file) == 0 && fdatasync(fileno(file)) == 0;
}

static void save(struct atl_directory *directory)
{
    if (directory->path == NULL)
        return;
    ATL_FREE_AT_EXIT char *other = atl_format("%s.new", directory->path);
    int fd = open(other, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    bool written = file != NULL && write_copy(directory, file);
    if (file != NULL)
        written = fclose(file) == 0 && written;
    written = written && rename(other, directory->path) == 0;
    if (!written && !directory->told)
        atl_log(ATL_WARNING, "directory-not-kept", "cannot keep a copy of the directory in %s: %s",
                directory->path, strerror(errno));
    directory->told = !written;
}

/* False: what follows makes no sense. */
static bool read_one(struct atl_directory *directory, FILE *file, bool *ret_end)
{
    char name[sizeof directory->nodes[0]->node];
    uint8_t length[2];
    uint8_t packed[ATL_DIRECTORY_RECORD];
    size_t got = fread(name, 1, sizeof name, file);
    *ret_end = got == 0;
    if (got == 0)
        return true;
    if (got != sizeof name || name[sizeof name - 1] != '\0' ||
        fread(length, 1, sizeof length, file) != sizeof length)
        return false;
    size_t size = (size_t)length[0] << 8 | length[1];
    if (size > sizeof packed || fread(packed, 1, size, file) != size)
        return false;
    struct atl_directory_node *node = read_record(name, packed, size);
    bool good = node != NULL;
    (void)replace(directory, name, node); /* told below, once */
    return good;
}

void atl_directory_keep(struct atl_directory *directory, const char *path)
{
    atl_assert(directory->path == NULL);
    directory->path = atl_strdup(path);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        if (errno != ENOENT)
            atl_log(ATL_WARNING, "directory-not-read", "cannot read %s, starting without it: %s", path,
                    strerror(errno));
        return;
    }
    bool end = false;
    while (!end && read_one(directory, file, &end))
        continue;
    if (!end)
        atl_log(ATL_WARNING, "directory-damaged", "%s is damaged, ignoring what follows the damage", path);
    (void)fclose(file); /* it was read only */
    tell(directory);
}
