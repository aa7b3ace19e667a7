/* Which guests are under high availability. */
#include "core/ha_list.h"

#include <stdio.h>
#include <string.h>

static bool line_is(const char *line, size_t length, const char *text)
{
    while (length > 0 && (line[length - 1] == ' ' || line[length - 1] == '\t' || line[length - 1] == '\r'))
        length--;
    return strlen(text) == length && strncmp(line, text, length) == 0;
}

/* The value of an indented `name value`. */
static void take(const char *line, size_t length, const char *name, char *ret_value, size_t size)
{
    size_t blank = strspn(line, " \t");
    size_t named = strlen(name);
    if (blank == 0 || blank + named >= length || strncmp(line + blank, name, named) != 0)
        return;
    const char *value = line + blank + named;
    size_t gap = strspn(value, " \t");
    size_t used = strcspn(value + gap, " \t\r\n");
    if (gap == 0 || used >= size)
        return;
    memcpy(ret_value, value + gap, used);
    ret_value[used] = '\0';
}

bool cmp_ha_listed(const char *text, const char *type, uint32_t vmid, struct cmp_ha_entry *ret_entry)
{
    char head[32];
    bool listed = false;
    bool inside = false;
    (void)snprintf(head, sizeof head, "%s: %" PRIu32, type, vmid);
    *ret_entry = (struct cmp_ha_entry){.state = "started"};
    for (const char *line = text != NULL ? text : ""; *line != '\0';) {
        size_t length = strcspn(line, "\n");
        bool header = length > 0 && line[0] != ' ' && line[0] != '\t' && line[0] != '#';
        if (header) {
            inside = line_is(line, length, head);
            listed = listed || inside;
        } else if (inside) {
            take(line, length, "state", ret_entry->state, sizeof ret_entry->state);
            take(line, length, "group", ret_entry->group, sizeof ret_entry->group);
        }
        line += length;
        line += *line == '\n';
    }
    return listed;
}
