/* Records of the directory, and the questions of ZAP: from any bytes, nobody comes in who has no key there.
 */
#include <stdlib.h>
#include <string.h>

#include "io/bus_internal.h"

static void must(bool holds)
{
    if (!holds)
        abort();
}

/* What a record says is in bounds, and each key leads back to its owner or, claimed twice, to nobody. */
static void look(const struct atl_directory *directory)
{
    for (size_t i = 0; i < atl_directory_count(directory); i++) {
        const struct atl_directory_node *node = atl_directory_at(directory, i);
        char endpoint[BUS_PATH_MAX + 8];
        must(atl_directory_node(directory, node->node) == node);
        must(node->key_count <= ATL_DIRECTORY_KEYS);
        must(atl_bus_tcp_endpoint(node->address, 8100, endpoint));
        for (size_t k = 0; k < node->key_count; k++) {
            const char *service = NULL;
            const char *name = NULL;
            must(strcmp(node->keys[k].service, "cli") != 0);
            must(atl_directory_key(directory, node->keys[k].service, node->node) == node->keys[k].public_key);
            if (atl_directory_owner(directory, node->keys[k].public_key, &service, &name))
                must(strcmp(name, node->node) == 0 && strcmp(service, node->keys[k].service) == 0);
        }
    }
}

static void feed(struct atl_directory *directory, const uint8_t *data, size_t size)
{
    char name[8] = "n0";
    if (size == 0)
        return;
    name[1] = (char)('0' + data[0] % 4);
    atl_directory_feed(directory, data[0] & 64 ? "bad/name" : name, data[0] & 128 ? NULL : data + 1,
                       size - 1);
    look(directory);
}

/* Parts: a byte for the size, then so many bytes. */
static void ask(const uint8_t *data, size_t size)
{
    struct bus_bytes parts[BUS_ZAP_PARTS] = {{0}};
    size_t count = 0;
    while (size > 0) {
        size_t length = data[0];
        data++;
        size--;
        length = length < size ? length : size;
        if (count < BUS_ZAP_PARTS)
            parts[count] = (struct bus_bytes){.data = data, .size = length};
        count++;
        data += length;
        size -= length;
    }
    const uint8_t *key = atl_bus_zap_key(parts, count);
    if (key == NULL)
        return;
    must(count == 7 && key == parts[6].data && parts[6].size == ATL_BUS_KEY_SIZE);
    must(parts[5].size == 5 && memcmp(parts[5].data, "CURVE", 5) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte says which of the two; the directory lives through all inputs. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct atl_directory *directory;
    if (directory == NULL)
        directory = atl_directory_new();
    if (size == 0)
        return 0;
    if (data[0] & 1)
        ask(data + 1, size - 1);
    else
        feed(directory, data + 1, size - 1);
    return 0;
}
