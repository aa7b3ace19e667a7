/* Tickets and tokens out of headers. */
#include "core/credential.h"

#include <string.h>
#include <strings.h>

static const char cookie_name[] = "PVEAuthCookie=";
static const char token_name[] = "PVEAPIToken=";

static char *decoded(const char *text, size_t length, struct atl_arena *arena)
{
    if (length == 0 || length > GW_CREDENTIAL_MAX)
        return NULL;
    char *value = atl_arena_strndup(arena, text, length);
    return gw_percent_decode(value) && value[0] != '\0' ? value : NULL;
}

/* The ticket in a Cookie header, however many attributes and other cookies stand around it. */
static char *from_cookies(const char *cookies, struct atl_arena *arena)
{
    for (const char *at = cookies; *at != '\0';) {
        at += strspn(at, " \t;,");
        size_t length = strcspn(at, ";");
        if (strncmp(at, cookie_name, sizeof cookie_name - 1) == 0) {
            const char *value = at + sizeof cookie_name - 1;
            size_t size = length - (sizeof cookie_name - 1);
            while (size > 0 && (value[size - 1] == ' ' || value[size - 1] == '\t'))
                size--;
            return decoded(value, size, arena);
        }
        at += length;
    }
    return NULL;
}

static bool from_authorization(const char *value, struct atl_arena *arena, struct gw_credential *credential)
{
    if (strncmp(value, token_name, sizeof token_name - 1) == 0) {
        credential->value =
            decoded(value + sizeof token_name - 1, strlen(value) - (sizeof token_name - 1), arena);
        credential->kind = credential->value != NULL ? GW_TOKEN : GW_NO_CREDENTIAL;
        return true;
    }
    if (strncmp(value, cookie_name, sizeof cookie_name - 1) != 0)
        return false;
    credential->value = from_cookies(value, arena);
    credential->kind = credential->value != NULL ? GW_TICKET : GW_NO_CREDENTIAL;
    return true;
}

void gw_credential_find(const struct gw_head *head, struct atl_arena *arena, struct gw_credential *ret)
{
    *ret = (struct gw_credential){.csrf = gw_head_find(head, "csrfpreventiontoken")};
    const char *authorization = gw_head_find(head, "authorization");
    if (authorization != NULL && from_authorization(authorization, arena, ret))
        return;
    for (size_t i = 0; i < head->header_count && ret->value == NULL; i++) { /* HTTP/2 may split cookies up */
        if (strcmp(head->headers[i].name, "cookie") == 0)
            ret->value = from_cookies(head->headers[i].value, arena);
    }
    ret->kind = ret->value != NULL ? GW_TICKET : GW_NO_CREDENTIAL;
}
