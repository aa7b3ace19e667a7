/* Ids of tasks. */
#include "pure/upid.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_node(const char *text)
{
    size_t length = strlen(text);
    if (length == 0 || !is_alnum(text[0]) || !is_alnum(text[length - 1]))
        return false;
    for (size_t i = 0; i < length; i++)
        if (!is_alnum(text[i]) && text[i] != '-')
            return false;
    return true;
}

/* Bytes that may stand between the colons; the whole is also the name of a folder. */
static bool is_part(const char *text)
{
    for (; *text != '\0'; text++)
        if (*text == ':' || *text == '/' || (unsigned char)*text <= 0x20 || *text == 0x7f)
            return false;
    return true;
}

static bool is_upid(const struct atl_upid *upid)
{
    return is_node(upid->node) && upid->type[0] != '\0' && is_part(upid->type) && is_part(upid->id) &&
           upid->user[0] != '\0' && is_part(upid->user);
}

/* Takes the text up to the next colon; false when there is none or it does not fit. */
static bool take_text(const char **at, char *to, size_t size)
{
    const char *end = strchr(*at, ':');
    if (end == NULL || (size_t)(end - *at) >= size)
        return false;
    memcpy(to, *at, (size_t)(end - *at));
    to[end - *at] = '\0';
    *at = end + 1;
    return true;
}

static bool take_hex(const char **at, size_t least, size_t most, uint64_t *ret_value)
{
    char digits[12];
    if (!take_text(at, digits, sizeof digits))
        return false;
    size_t length = strlen(digits);
    for (size_t i = 0; i < length; i++)
        if (!is_hex(digits[i]))
            return false;
    if (length < least || length > most)
        return false;
    *ret_value = strtoull(digits, NULL, 16);
    return true;
}

enum atl_code atl_upid_from_text(const char *text, struct atl_upid *ret_upid, struct atl_error *err)
{
    struct atl_upid upid = {0};
    uint64_t pid = 0;
    uint64_t start = 0;
    const char *at = text;
    bool good = strnlen(text, ATL_UPID_MAX) < ATL_UPID_MAX && strncmp(at, "UPID:", 5) == 0;
    at += good ? 5 : 0;
    good = good && take_text(&at, upid.node, sizeof upid.node) && take_hex(&at, 8, 8, &pid) &&
           take_hex(&at, 8, 9, &upid.pstart) && take_hex(&at, 8, 8, &start) &&
           take_text(&at, upid.type, sizeof upid.type) && take_text(&at, upid.id, sizeof upid.id) &&
           take_text(&at, upid.user, sizeof upid.user) && *at == '\0' && is_upid(&upid);
    if (!good)
        return atl_fail(err, ATL_E_INVALID, "upid", "unable to parse worker upid '%.*s'", ATL_UPID_MAX, text);
    upid.pid = (uint32_t)pid;
    upid.start = (uint32_t)start;
    *ret_upid = upid;
    return ATL_OK;
}

enum atl_code atl_upid_to_text(const struct atl_upid *upid, char ret_text[ATL_UPID_MAX],
                               struct atl_error *err)
{
    char text[ATL_UPID_MAX];
    if (!is_upid(upid) || upid->pstart > UINT64_C(0xFFFFFFFFF))
        return atl_fail(err, ATL_E_INVALID, "upid", "'%s', '%s' or '%s' cannot be part of a task's id",
                        upid->type, upid->id, upid->user);
    int length =
        snprintf(text, sizeof text, "UPID:%s:%08" PRIX32 ":%08" PRIX64 ":%08" PRIX32 ":%s:%s:%s:", upid->node,
                 upid->pid, upid->pstart, upid->start, upid->type, upid->id, upid->user);
    if (length < 0 || (size_t)length >= sizeof text)
        return atl_fail(err, ATL_E_INVALID, "upid", "the task's id would be longer than %d bytes",
                        ATL_UPID_MAX - 1);
    memcpy(ret_text, text, sizeof text);
    return ATL_OK;
}

const char *atl_upid_outcome(const char *exit)
{
    if (exit[0] == '\0')
        return "unknown";
    if (strcmp(exit, "OK") == 0)
        return "ok";
    return strncmp(exit, "WARNINGS: ", 10) == 0 ? "warning" : "error";
}

static bool in_list(const char *list, const char *word)
{
    static const char separators[] = ",; \t";
    size_t wanted = strlen(word);
    for (const char *at = list; *at != '\0';) {
        at += strspn(at, separators);
        size_t length = strcspn(at, separators);
        if (length == wanted && strncmp(at, word, length) == 0)
            return true;
        at += length;
    }
    return false;
}

static bool passes_texts(const struct atl_upid_filter *filter, const struct atl_upid *upid)
{
    return (filter->node == NULL || strcmp(filter->node, upid->node) == 0) &&
           (filter->user == NULL || strstr(upid->user, filter->user) != NULL) &&
           (filter->only_user == NULL || strcmp(filter->only_user, upid->user) == 0) &&
           (filter->type == NULL || strcmp(filter->type, upid->type) == 0) &&
           (filter->id == NULL || strcmp(filter->id, upid->id) == 0);
}

bool atl_upid_passes(const struct atl_upid_filter *filter, const struct atl_upid *upid, const char *exit)
{
    const char *outcome = atl_upid_outcome(exit);
    bool ended = exit[0] != '\0';
    if (!passes_texts(filter, upid))
        return false;
    if ((filter->since != 0 && upid->start < filter->since) ||
        (filter->until != 0 && upid->start > filter->until))
        return false;
    if ((filter->active && ended) || (filter->ended && !ended))
        return false;
    if (filter->errors && strcmp(outcome, "error") != 0)
        return false;
    return filter->status == NULL || filter->status[0] == '\0' || in_list(filter->status, outcome);
}
