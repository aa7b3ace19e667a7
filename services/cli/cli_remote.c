/* Calls through REST, with an API token. libcurl does HTTP. */
#include "cli.h"

#include <curl/curl.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_MAX = 64 << 20 };

struct remote {
    CURL *curl;
    char *base;          /* "https://host:8006/api2/json" */
    char *authorization; /* header line with the token */
    struct atl_buf answer;
};

static void remote_close(void *self)
{
    struct remote *remote = self;
    if (remote->curl != NULL)
        curl_easy_cleanup(remote->curl);
    if (remote->authorization != NULL)
        explicit_bzero(remote->authorization, strlen(remote->authorization));
    free(remote->authorization);
    free(remote->base);
    atl_buf_done(&remote->answer);
    free(remote);
}

static size_t on_data(char *bytes, size_t size, size_t count, void *user)
{
    struct remote *remote = user;
    if (remote->answer.length + size * count > ANSWER_MAX)
        return 0;
    atl_buf_add(&remote->answer, bytes, size * count);
    return size * count;
}

static bool in_path(const struct atl_rpc *rpc, const char *name)
{
    const struct atl_field *field = atl_message_field(rpc->input, name);
    return field != NULL && (field->flags & ATL_F_PATH);
}

static void add_escaped(struct remote *remote, struct atl_buf *out, const char *text)
{
    char *escaped = curl_easy_escape(remote->curl, text, 0);
    atl_assert(escaped != NULL);
    atl_buf_text(out, escaped);
    curl_free(escaped);
}

/* The path with its parameters put in; false if one is missing. */
static bool build_url(struct remote *remote, const struct atl_rpc *rpc, const struct atl_param *params,
                      size_t count, struct atl_buf *url, struct atl_error *err)
{
    atl_buf_text(url, remote->base);
    for (const char *at = rpc->path; *at != '\0';) {
        if (*at != '{') {
            atl_buf_char(url, *at++);
            continue;
        }
        size_t length = strcspn(at, "}") - 1;
        const char *value = NULL;
        for (size_t i = 0; i < count; i++)
            if (strlen(params[i].name) == length && strncmp(params[i].name, at + 1, length) == 0)
                value = params[i].value;
        if (value == NULL) {
            (void)atl_fail(err, ATL_E_INVALID, NULL, "the parameter %.*s is missing", (int)length, at + 1);
            return false;
        }
        add_escaped(remote, url, value);
        at += length + 2;
    }
    return true;
}

static void build_form(struct remote *remote, const struct atl_rpc *rpc, const struct atl_param *params,
                       size_t count, struct atl_buf *form)
{
    for (size_t i = 0; i < count; i++) {
        if (in_path(rpc, params[i].name))
            continue;
        if (form->length > 0)
            atl_buf_char(form, '&');
        add_escaped(remote, form, params[i].name);
        atl_buf_char(form, '=');
        add_escaped(remote, form, params[i].value);
    }
}

static enum atl_code code_of_status(long status, const char *message)
{
    switch (status) {
    case 400:
        return ATL_E_INVALID;
    case 401:
        return ATL_E_UNAUTHENTICATED;
    case 403:
        return ATL_E_DENIED;
    case 501:
        return ATL_E_UNIMPLEMENTED;
    case 595:
    case 596:
        return ATL_E_UNAVAILABLE;
    default:
        return strstr(message, "does not exist") != NULL ? ATL_E_ABSENT : ATL_E_UNKNOWN;
    }
}

static enum atl_code read_answer(struct remote *remote, long status, struct atl_buf *ret_json,
                                 struct atl_errors *errors, struct atl_error *err)
{
    json_object *answer = remote->answer.data != NULL ? json_tokener_parse(remote->answer.data) : NULL;
    json_object *part = NULL;
    if (status == 200 && json_object_is_type(answer, json_type_object)) {
        part = json_object_object_get(answer, "data");
        atl_buf_text(ret_json, json_object_to_json_string_ext(part, JSON_C_TO_STRING_PLAIN));
        (void)json_object_put(answer);
        return ATL_OK;
    }
    const char *message = "the answer has no message";
    if (json_object_is_type(answer, json_type_object) && json_object_object_get_ex(answer, "message", &part))
        message = json_object_get_string(part);
    enum atl_code code = atl_fail(err, code_of_status(status, message), NULL, "%s", message);
    if (json_object_is_type(answer, json_type_object) && json_object_object_get_ex(answer, "errors", &part) &&
        json_object_is_type(part, json_type_object)) {
        json_object_object_foreach(part, name, reason)
            atl_errors_add(errors, name, "%s", json_object_get_string(reason));
    }
    (void)json_object_put(answer);
    return code;
}

static enum atl_code perform(struct remote *remote, const char *url, struct atl_buf *ret_json,
                             struct atl_errors *errors, struct atl_error *err)
{
    long status = 0;
    atl_buf_reset(&remote->answer);
    struct curl_slist *headers = curl_slist_append(NULL, remote->authorization);
    (void)curl_easy_setopt(remote->curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(remote->curl, CURLOPT_HTTPHEADER, headers);
    CURLcode done = curl_easy_perform(remote->curl);
    curl_slist_free_all(headers);
    if (done != CURLE_OK)
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "%s: %s", remote->base, curl_easy_strerror(done));
    (void)curl_easy_getinfo(remote->curl, CURLINFO_RESPONSE_CODE, &status);
    return read_answer(remote, status, ret_json, errors, err);
}

static int on_progress(void *user, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
    const struct cli_file *file = user;
    (void)down_total;
    (void)down;
    (void)up_total;
    if (up > 0 && (uint64_t)up < file->size)
        cli_file_progress(file, (uint64_t)up);
    return 0;
}

/* All parameters that are not in the path, as fields of a multipart body, and the file as the last of them.
 */
static curl_mime *build_body(const struct remote *remote, const struct atl_rpc *rpc,
                             const struct atl_param *params, size_t count, const struct cli_file *file)
{
    curl_mime *mime = curl_mime_init(remote->curl);
    for (size_t i = 0; i < count; i++) {
        if (in_path(rpc, params[i].name) || strcmp(params[i].name, "filename") == 0)
            continue;
        curl_mimepart *field = curl_mime_addpart(mime);
        (void)curl_mime_name(field, params[i].name);
        (void)curl_mime_data(field, params[i].value, CURL_ZERO_TERMINATED);
    }
    curl_mimepart *part = curl_mime_addpart(mime);
    (void)curl_mime_name(part, "filename");
    (void)curl_mime_filedata(part, file->path);
    (void)curl_mime_filename(part, file->name); /* after the data, which would set a name of its own */
    return mime;
}

static enum atl_code upload(struct remote *remote, curl_mime *body, struct cli_file *file, const char *url,
                            struct atl_buf *ret_json, struct atl_errors *errors, struct atl_error *err)
{
    CURL *curl = remote->curl;
    (void)curl_easy_setopt(curl, CURLOPT_MIMEPOST, body);
    (void)curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, "POST");
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, 0L);
    (void)curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L); /* a minute without a byte is the end */
    (void)curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, 60L);
    (void)curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    (void)curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    (void)curl_easy_setopt(curl, CURLOPT_XFERINFODATA, file);
    enum atl_code code = perform(remote, url, ret_json, errors, err);
    (void)curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, 0L);
    (void)curl_easy_setopt(curl, CURLOPT_MIMEPOST, NULL);
    cli_file_progress(file, file->size);
    return code;
}

static enum atl_code remote_call(void *self, const struct atl_rpc *rpc, const struct atl_param *params,
                                 size_t count, struct atl_buf *ret_json, struct atl_errors *errors,
                                 struct atl_error *err)
{
    struct remote *remote = self;
    if (rpc->path == NULL)
        return atl_fail(err, ATL_E_INVALID, NULL,
                        "this works only as root at the machine itself, without --host");
    ATL_BUF_AT_EXIT struct atl_buf url = {0};
    if (!build_url(remote, rpc, params, count, &url, err))
        return ATL_E_INVALID;
    if ((rpc->flags & ATL_R_UPLOAD) != 0) {
        struct cli_file file;
        enum atl_code code = cli_file_open(params, count, &file, err);
        if (code != ATL_OK)
            return code;
        curl_mime *body = build_body(remote, rpc, params, count, &file);
        code = upload(remote, body, &file, url.data, ret_json, errors, err);
        curl_mime_free(body);
        cli_file_close(&file);
        return code;
    }
    ATL_BUF_AT_EXIT struct atl_buf form = {0};
    build_form(remote, rpc, params, count, &form);
    bool body = rpc->verb == ATL_POST || rpc->verb == ATL_PUT;
    if (!body && form.length > 0)
        atl_buf_printf(&url, "?%s", form.data);
    static const char *const verbs[] = {"GET", "POST", "PUT", "DELETE"};
    (void)curl_easy_setopt(remote->curl, CURLOPT_POSTFIELDS,
                           body ? (form.data != NULL ? form.data : "") : NULL);
    if (!body)
        (void)curl_easy_setopt(remote->curl, CURLOPT_HTTPGET, 1L);
    (void)curl_easy_setopt(remote->curl, CURLOPT_CUSTOMREQUEST, verbs[rpc->verb]);
    (void)curl_easy_setopt(remote->curl, CURLOPT_TIMEOUT_MS, (long)rpc->deadline_ms + 5000L);
    return perform(remote, url.data, ret_json, errors, err);
}

static enum atl_code read_token(const struct cli_args *args, char **ret_token, struct atl_error *err)
{
    const char *token = getenv("ATOLL_TOKEN");
    if (args->token_file == NULL && token != NULL) {
        *ret_token = atl_strdup(token);
        return ATL_OK;
    }
    if (args->token_file == NULL)
        return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL,
                        "no token: set ATOLL_TOKEN=USER@REALM!NAME=SECRET, or use --token-file FILE");
    FILE *file = fopen(args->token_file, "re");
    char line[512];
    bool read = file != NULL && fgets(line, sizeof line, file) != NULL;
    if (file != NULL)
        (void)fclose(file);
    if (!read)
        return atl_fail(err, ATL_E_UNAUTHENTICATED, "token-file", "cannot read a token from '%s'",
                        args->token_file);
    line[strcspn(line, "\r\n")] = '\0';
    *ret_token = atl_strdup(line);
    explicit_bzero(line, sizeof line);
    return ATL_OK;
}

static char *base_of(const char *host)
{
    if (strncmp(host, "https://", 8) != 0) {
        bool port = strchr(host, ':') != NULL;
        return atl_format("https://%s%s/api2/json", host, port ? "" : ":8006");
    }
    size_t length = strlen(host);
    while (length > 0 && host[length - 1] == '/')
        length--;
    return atl_format("%.*s/api2/json", (int)length, host);
}

enum atl_code cli_remote_open(const struct cli_args *args, struct cli_transport *ret_transport,
                              struct atl_error *err)
{
    ATL_FREE_AT_EXIT char *token = NULL;
    enum atl_code code = read_token(args, &token, err);
    if (code != ATL_OK)
        return code;
    atl_assert(token != NULL);
    struct remote *remote = atl_new0(struct remote);
    remote->base = base_of(args->host);
    remote->authorization = atl_format("Authorization: PVEAPIToken=%s", token);
    explicit_bzero(token, strlen(token));
    remote->curl = curl_easy_init();
    atl_assert(remote->curl != NULL);
    (void)curl_easy_setopt(remote->curl, CURLOPT_WRITEFUNCTION, on_data);
    (void)curl_easy_setopt(remote->curl, CURLOPT_WRITEDATA, remote);
    (void)curl_easy_setopt(remote->curl, CURLOPT_PROTOCOLS_STR, "https");
    (void)curl_easy_setopt(remote->curl, CURLOPT_CONNECTTIMEOUT, 10L);
    (void)curl_easy_setopt(remote->curl, CURLOPT_NOSIGNAL, 1L);
    const char *cacert = args->cacert != NULL ? args->cacert : getenv("ATOLL_CACERT");
    if (cacert != NULL)
        (void)curl_easy_setopt(remote->curl, CURLOPT_CAINFO, cacert);
    *ret_transport = (struct cli_transport){.self = remote, .call = remote_call, .close = remote_close};
    return ATL_OK;
}
