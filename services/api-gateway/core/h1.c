/* HTTP/1.1 request heads. */
#include "core/h1.h"

#include <string.h>
#include <strings.h>

enum { METHOD_MAX = 24, REASON_MAX = 480 };

static const struct gw_fault bare_line = {400, "lines must end in CR LF"};
static const struct gw_fault bad_line = {400, "bad request line"};
static const struct gw_fault bad_version = {505, "HTTP version not supported"};
static const struct gw_fault bad_header = {400, "bad header line"};
static const struct gw_fault bad_host = {400, "exactly one Host header is needed"};
static const struct gw_fault too_many = {431, "too many header lines (more than 64)"};
static const struct gw_fault too_large = {431, "header fields are larger than 8 KiB"};
static const struct gw_fault both_lengths = {400,
                                             "Content-Length and Transfer-Encoding contradict each other"};
static const struct gw_fault chunked = {501, "chunked transfer encoding not supported"};
static const struct gw_fault bad_expect = {417, "Expectation Failed"};

const struct gw_fault *gw_h1_find_end(struct gw_h1_scan *scan, const char *bytes, size_t length,
                                      size_t *ret_size)
{
    *ret_size = 0;
    while (scan->at < length) {
        const char *end = memchr(bytes + scan->at, '\n', length - scan->at);
        if (end == NULL) {
            scan->at = length;
            break;
        }
        size_t at = (size_t)(end - bytes);
        if (at == 0 || bytes[at - 1] != '\r')
            return &bare_line;
        scan->at = at + 1;
        if (at - 1 == scan->line_start) { /* an empty line */
            if (scan->lines > 0) {
                *ret_size = at + 1;
                return at + 1 > GW_HEAD_BYTES_MAX ? &too_large : NULL;
            }
            if (scan->skipped > 0)
                return &bad_line;
            scan->skipped = 2;
        } else if (++scan->lines > GW_HEADERS_MAX + 1) {
            return &too_many;
        }
        scan->line_start = at + 1;
    }
    return length > GW_HEAD_BYTES_MAX ? &too_large : NULL;
}

static bool is_token(const char *text)
{
    static const char allowed[] =
        "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    size_t length = strspn(text, allowed);
    return length > 0 && text[length] == '\0';
}

static const struct gw_fault *request_line(char *line, struct gw_head *head)
{
    char *target = strchr(line, ' ');
    if (target == NULL)
        return &bad_line;
    *target++ = '\0';
    char *version = strchr(target, ' ');
    if (version == NULL || target == version)
        return &bad_line;
    *version++ = '\0';
    if (!is_token(line) || strlen(line) > METHOD_MAX)
        return &bad_line;
    if (strcmp(version, "HTTP/1.1") == 0)
        head->keep_alive = true;
    else if (strncmp(version, "HTTP/", 5) != 0 || strchr(version, ' ') != NULL)
        return &bad_line;
    else if (strcmp(version, "HTTP/1.0") != 0)
        return &bad_version;
    head->method = line;
    return gw_head_target(head, target);
}

static bool is_value(const char *text)
{
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if ((c < ' ' && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

static const struct gw_fault *header_line(char *line, struct gw_header *header)
{
    char *colon = strchr(line, ':');
    if (colon == NULL)
        return &bad_header;
    *colon = '\0';
    if (!is_token(line)) /* blanks before the colon and folded lines are refused here */
        return &bad_header;
    for (char *c = line; *c != '\0'; c++)
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c | 0x20) : *c;
    char *value = colon + 1 + strspn(colon + 1, " \t");
    size_t length = strlen(value);
    while (length > 0 && (value[length - 1] == ' ' || value[length - 1] == '\t'))
        value[--length] = '\0';
    if (!is_value(value))
        return &bad_header;
    *header = (struct gw_header){.name = line, .value = value};
    return NULL;
}

/* What the headers say about the message itself. */
static const struct gw_fault *framing(struct gw_head *head, bool is_11)
{
    unsigned int hosts = 0;
    bool encoded = false;
    for (size_t i = 0; i < head->header_count; i++) {
        const struct gw_header *header = &head->headers[i];
        const struct gw_fault *fault = NULL;
        if (strcmp(header->name, "content-length") == 0)
            fault = gw_head_length(head, header->value);
        else if (strcmp(header->name, "transfer-encoding") == 0)
            encoded = true;
        else if (strcmp(header->name, "host") == 0)
            hosts++;
        else if (strcmp(header->name, "expect") == 0 && strcasecmp(header->value, "100-continue") != 0)
            fault = &bad_expect;
        else if (strcmp(header->name, "expect") == 0)
            head->expect_continue = is_11;
        else if (strcmp(header->name, "connection") == 0 && gw_list_has(header->value, "close"))
            head->keep_alive = false;
        else if (strcmp(header->name, "connection") == 0 && gw_list_has(header->value, "keep-alive"))
            head->keep_alive = true;
        if (fault != NULL)
            return fault;
    }
    if (hosts > 1 || (hosts == 0 && is_11))
        return &bad_host;
    if (encoded)
        return head->content_length >= 0 ? &both_lengths : &chunked;
    return NULL;
}

/* Cuts the line that begins at `at` off; NULL at the empty line. The block ends in CR LF CR LF. */
static char *next_line(char **at)
{
    char *line = *at;
    char *end = strchr(line, '\r');
    if (end == NULL || end[1] != '\n' || end == line)
        return NULL;
    *end = '\0';
    *at = end + 2;
    return line;
}

const struct gw_fault *gw_h1_parse(const char *bytes, size_t size, struct atl_arena *arena,
                                   struct gw_head *head)
{
    *head = (struct gw_head){.content_length = -1, .query = ""};
    if (size >= 2 && bytes[0] == '\r' && bytes[1] == '\n') {
        bytes += 2;
        size -= 2;
    }
    if (size > GW_HEAD_BYTES_MAX)
        return &too_large;
    if (memchr(bytes, '\0', size) != NULL)
        return &bad_header;
    char *at = atl_arena_alloc(arena, size + 1);
    memcpy(at, bytes, size);
    const char *end = at + size;
    char *line = next_line(&at);
    if (line == NULL)
        return &bad_line;
    const struct gw_fault *fault = request_line(line, head);
    if (fault != NULL)
        return fault;
    bool is_11 = head->keep_alive;
    head->headers = atl_arena_array(arena, struct gw_header, GW_HEADERS_MAX);
    while ((line = next_line(&at)) != NULL) {
        if (head->header_count == GW_HEADERS_MAX)
            return &too_many;
        fault = header_line(line, &head->headers[head->header_count++]);
        if (fault != NULL)
            return fault;
    }
    if (end - at != 2) /* a lone CR ended the lines early */
        return &bad_header;
    return framing(head, is_11);
}

void gw_h1_reason(struct atl_buf *out, const char *reason)
{
    size_t length = strnlen(reason, REASON_MAX);
    char *to = atl_buf_reserve(out, length);
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)reason[i];
        to[i] = c < ' ' || c == 0x7f ? ' ' : (char)c;
    }
    to[length] = '\0';
    out->length += length;
    while (length > 0 && out->data[out->length - 1] == ' ') { /* a trailing newline became a blank */
        out->data[--out->length] = '\0';
        length--;
    }
}

const char *gw_status_phrase(int status)
{
    static const struct gw_fault phrases[] = {
        {100, "Continue"},
        {101, "Switching Protocols"},
        {200, "OK"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {408, "Request Timeout"},
        {411, "Length Required"},
        {417, "Expectation Failed"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {505, "HTTP Version Not Supported"},
        {506, "Variant Also Negotiates"},
        {595, "Connection failed"},
        {596, "Connection broken"},
    };
    for (size_t i = 0; i < ATL_COUNT(phrases); i++) {
        if (phrases[i].status == status)
            return phrases[i].reason;
    }
    return "Error";
}
