/* The order in which guests start with the node and stop with it. */
#include "core/startup.h"

#include <stdlib.h>
#include <string.h>

static bool startup_number(const char *text, size_t length, uint32_t *ret_value)
{
    if (length == 0 || length > 9)
        return false;
    uint32_t value = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (uint32_t)(text[i] - '0');
    }
    *ret_value = value;
    return true;
}

static void startup_part(struct cmp_startup *startup, const char *text, size_t length)
{
    uint32_t value = 0;
    if (startup_number(text, length, &value) ||
        (length > 6 && strncmp(text, "order=", 6) == 0 && startup_number(text + 6, length - 6, &value))) {
        startup->has_order = true;
        startup->order = value;
    } else if (length > 3 && strncmp(text, "up=", 3) == 0 && startup_number(text + 3, length - 3, &value)) {
        startup->up_s = value;
    } else if (length > 5 && strncmp(text, "down=", 5) == 0 && startup_number(text + 5, length - 5, &value)) {
        startup->down_s = value;
    }
}

void cmp_startup_parse(const char *text, uint32_t vmid, struct cmp_startup *ret_startup)
{
    *ret_startup = (struct cmp_startup){.vmid = vmid};
    for (const char *at = text != NULL ? text : ""; *at != '\0';) {
        size_t length = strcspn(at, ", ");
        startup_part(ret_startup, at, length);
        at += length;
        at += strspn(at, ", ");
    }
}

static int startup_compare(const void *a, const void *b)
{
    const struct cmp_startup *left = a;
    const struct cmp_startup *right = b;
    if (left->has_order != right->has_order)
        return left->has_order ? -1 : 1;
    if (left->has_order && left->order != right->order)
        return left->order < right->order ? -1 : 1;
    return left->vmid < right->vmid ? -1 : left->vmid > right->vmid;
}

void cmp_startup_sort(struct cmp_startup *list, size_t count)
{
    if (count > 1)
        qsort(list, count, sizeof *list, startup_compare);
}

static bool same_group(const struct cmp_startup *a, const struct cmp_startup *b)
{
    return a->has_order == b->has_order && (!a->has_order || a->order == b->order);
}

bool cmp_startup_together(const struct cmp_startup *list, size_t next)
{
    return next == 0 || (same_group(&list[next - 1], &list[next]) && list[next - 1].up_s == 0);
}

size_t cmp_shutdown_group(const struct cmp_startup *list, size_t left)
{
    size_t size = 0;
    while (size < left && same_group(&list[left - 1], &list[left - 1 - size]))
        size++;
    return size;
}
