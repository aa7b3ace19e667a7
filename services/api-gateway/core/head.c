/* The head of a request: what both protocols share. */
#include "core/head.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "pure/number.h"

static const struct gw_fault bad_target = {400, "bad request target"};
static const struct gw_fault bad_length = {400, "bad Content-Length"};

const struct gw_fault *gw_head_target(struct gw_head *head, char *target)
{
    for (const char *at = target; *at != '\0'; at++) {
        if (*at <= ' ' || *at > '~' || *at == '#')
            return &bad_target;
    }
    if (strncasecmp(target, "https://", 8) == 0 || strncasecmp(target, "http://", 7) == 0) {
        char *authority = strchr(target, ':') + 3;
        size_t length = strcspn(authority, "/?");
        if (length == 0 || authority[length] != '/')
            return &bad_target;
        target = authority + length;
    }
    if (target[0] != '/' && strcmp(target, "*") != 0)
        return &bad_target;
    char *mark = strchr(target, '?');
    head->path = target;
    head->query = "";
    if (mark != NULL) {
        *mark = '\0';
        head->query = mark + 1;
    }
    return NULL;
}

const struct gw_fault *gw_head_length(struct gw_head *head, const char *value)
{
    size_t digits = strspn(value, "0123456789");
    if (digits == 0 || digits > 18 || value[digits] != '\0')
        return &bad_length;
    if (head->content_length >= 0)
        return &bad_length; /* given twice: two readers could disagree about where the body ends */
    int64_t length = 0;
    for (size_t i = 0; i < digits; i++)
        length = length * 10 + (value[i] - '0');
    head->content_length = length;
    return NULL;
}

const char *gw_head_find(const struct gw_head *head, const char *name)
{
    for (size_t i = 0; i < head->header_count; i++) {
        if (strcmp(head->headers[i].name, name) == 0)
            return head->headers[i].value;
    }
    return NULL;
}

/* Whether the parameters of a list item say that it is not wanted: ";q=0", ";q=0.0". */
static bool refused(const char *parameters, size_t length)
{
    const char *q = memchr(parameters, 'q', length);
    if (q == NULL)
        q = memchr(parameters, 'Q', length);
    if (q == NULL || q + 1 >= parameters + length || q[1] != '=')
        return false;
    for (const char *at = q + 2; at < parameters + length; at++) {
        if (*at >= '1' && *at <= '9')
            return false;
    }
    return true;
}

bool gw_list_has(const char *list, const char *token)
{
    size_t wanted = strlen(token);
    while (list != NULL && *list != '\0') {
        list += strspn(list, " \t,");
        size_t item = strcspn(list, ",");
        size_t name = strcspn(list, ",; \t");
        if (name == wanted && strncasecmp(list, token, wanted) == 0)
            return !refused(list + name, item - name);
        list += item;
    }
    return false;
}

bool gw_media_is(const char *value, const char *type)
{
    if (value == NULL)
        return false;
    size_t length = strlen(type);
    if (strncasecmp(value, type, length) != 0)
        return false;
    value += length;
    value += strspn(value, " \t");
    return *value == '\0' || *value == ';';
}

bool gw_percent_decode(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0'; from++) {
        char c = *from;
        if (c == '%') {
            int high = atl_hex_value(from[1]);
            int low = high < 0 ? -1 : atl_hex_value(from[2]);
            if (low < 0)
                return false;
            c = (char)(high * 16 + low);
            from += 2;
        }
        if ((unsigned char)c < ' ' || c == 0x7f)
            return false;
        *to++ = c;
    }
    *to = '\0';
    return true;
}
