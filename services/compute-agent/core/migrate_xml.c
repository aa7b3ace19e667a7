/* The domain of the source, as the target has to start it. */
#include <string.h>

#include "core/migrate.h"
#include "core/xml.h"

/* As libvirt writes it between quotes and tags. */
static const char *escaped(const char *text, struct atl_arena *arena)
{
    CMP_XML_AT_EXIT struct cmp_xml xml = {0};
    cmp_xml_element(&xml, "t", text);
    const char *end = strstr(xml.out.data, "</t>");
    const char *begin = strchr(xml.out.data, '>') + 1;
    atl_assert(end != NULL);
    return atl_arena_strndup(arena, begin, (size_t)(end - begin));
}

/* The value that begins here, with what it becomes; NULL: it stays. */
static const struct cmp_move_text *find(const struct cmp_move_text *texts, size_t count, const char *at,
                                        size_t length)
{
    for (size_t i = 0; i < count; i++) {
        size_t from = strlen(texts[i].from);
        if (length < from || strncmp(at, texts[i].from, from) != 0)
            continue;
        if (length == from || (texts[i].prefix && at[from] == '/'))
            return &texts[i];
    }
    return NULL;
}

static void replace(const char *xml, const struct cmp_move_text *texts, size_t count, struct atl_buf *out)
{
    for (const char *at = xml; *at != '\0';) {
        atl_buf_char(out, *at);
        char end = *at == '>' ? '<' : *at; /* a value lies between quotes or tags */
        bool opens = *at == '\'' || *at == '"' || *at == '>';
        at++;
        const char *stop = opens ? strchr(at, end) : NULL;
        const struct cmp_move_text *text = stop != NULL ? find(texts, count, at, (size_t)(stop - at)) : NULL;
        if (text == NULL)
            continue;
        atl_buf_text(out, text->to);
        at += strlen(text->from);
    }
}

/* QEMU waits for the state of the guest, and is told later where it comes from. */
static enum atl_code add_incoming(const char *xml, struct atl_buf *out, struct atl_error *err)
{
    static const char wait[] = "<qemu:arg value='-incoming'/><qemu:arg value='defer'/>";
    static const char space[] = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'";
    const char *root = strstr(xml, "<domain ");
    const char *args = strstr(xml, "<qemu:commandline>");
    const char *end = strstr(xml, "</domain>");
    if (root == NULL || end == NULL)
        return atl_fail(err, ATL_E_INTERNAL, NULL, "what libvirt says of the guest is no domain");
    if (strstr(xml, wait) != NULL || (args != NULL && strstr(args, "value='-incoming'") != NULL)) {
        atl_buf_text(out, xml); /* it came here by a migration itself */
        return ATL_OK;
    }
    root += strlen("<domain ");
    atl_buf_add(out, xml, (size_t)(root - xml));
    if (strstr(xml, "xmlns:qemu=") == NULL)
        atl_buf_printf(out, "%s ", space);
    if (args != NULL) {
        args += strlen("<qemu:commandline>");
        atl_buf_add(out, root, (size_t)(args - root));
        atl_buf_printf(out, "%s%s", wait, args);
        return ATL_OK;
    }
    atl_buf_add(out, root, (size_t)(end - root));
    atl_buf_printf(out, "<qemu:commandline>%s</qemu:commandline>%s", wait, end);
    return ATL_OK;
}

enum atl_code cmp_move_xml(const char *xml, const struct cmp_move_text *texts, size_t count,
                           struct atl_arena *arena, struct atl_buf *out, struct atl_error *err)
{
    struct cmp_move_text *as_written = atl_arena_array(arena, struct cmp_move_text, count + 1);
    ATL_BUF_AT_EXIT struct atl_buf changed = {0};
    for (size_t i = 0; i < count; i++)
        as_written[i] = (struct cmp_move_text){.from = escaped(texts[i].from, arena),
                                               .to = escaped(texts[i].to, arena),
                                               .prefix = texts[i].prefix};
    replace(xml, as_written, count, &changed);
    return add_incoming(changed.data != NULL ? changed.data : "", out, err);
}
