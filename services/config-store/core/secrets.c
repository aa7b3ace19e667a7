/* Files of secrets as text. */
#include "core/secrets.h"

#include <string.h>

static bool line_is(const char *line, const char *key, char separator)
{
    size_t length = strlen(key);
    return strncmp(line, key, length) == 0 && line[length] == separator;
}

static const char *next_line(const char *line)
{
    line += strcspn(line, "\n");
    return *line == '\n' ? line + 1 : line;
}

const char *cfg_secret_get(const char *text, const char *key, char separator, struct atl_arena *arena)
{
    const char ends[] = {separator == ':' ? ':' : ' ', '\n', '\r', '\t', '\0'};
    for (const char *line = text; *line != '\0'; line = next_line(line)) {
        if (!line_is(line, key, separator))
            continue;
        const char *value = line + strlen(key) + 1;
        return atl_arena_strndup(arena, value, strcspn(value, ends));
    }
    return NULL;
}

void cfg_secret_set(const char *text, const char *key, char separator, const char *value, struct atl_buf *out)
{
    for (const char *line = text; *line != '\0'; line = next_line(line)) {
        if (line_is(line, key, separator))
            continue;
        atl_buf_add(out, line, strcspn(line, "\n"));
        atl_buf_char(out, '\n');
    }
    if (value == NULL)
        return;
    atl_buf_text(out, key);
    atl_buf_char(out, separator);
    atl_buf_text(out, value);
    atl_buf_text(out, separator == ':' ? ":\n" : "\n");
}

void cfg_secret_drop_prefix(const char *text, const char *prefix, struct atl_buf *out)
{
    size_t length = strlen(prefix);
    for (const char *line = text; *line != '\0'; line = next_line(line)) {
        if (strncmp(line, prefix, length) == 0)
            continue;
        atl_buf_add(out, line, strcspn(line, "\n"));
        atl_buf_char(out, '\n');
    }
}
