/* Writes XML that is well formed whatever bytes the texts hold. */
#include "core/xml.h"

#include <stdarg.h>
#include <string.h>

void cmp_xml_done(struct cmp_xml *xml)
{
    atl_buf_done(&xml->out);
    *xml = (struct cmp_xml){0};
}

static void xml_indent(struct cmp_xml *xml)
{
    for (unsigned int i = 0; i < xml->depth; i++)
        atl_buf_text(&xml->out, "  ");
}

static void xml_close_tag(struct cmp_xml *xml)
{
    if (!xml->in_tag)
        return;
    atl_buf_char(&xml->out, '>');
    xml->in_tag = false;
}

/* Length of the UTF-8 sequence at text when it is valid and XML 1.0 may hold it, else 0. */
static size_t xml_sequence(const unsigned char *text)
{
    if (text[0] < 0x80)
        return text[0] >= 0x20 || text[0] == '\t' || text[0] == '\n' || text[0] == '\r' ? 1 : 0;
    size_t length = text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : 2;
    if (text[0] < 0xc2 || text[0] > 0xf4)
        return 0;
    uint32_t point = text[0] & (0xffU >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80) /* also stops at the terminating NUL */
            return 0;
        point = point << 6 | (text[i] & 0x3fU);
    }
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (point < least[length] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
        return 0;
    return point == 0xfffe || point == 0xffff ? 0 : length;
}

static void xml_escape(struct cmp_xml *xml, const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    while (*at != '\0') {
        size_t length = xml_sequence(at);
        switch (length == 1 ? *at : 0) {
        case '&':
            atl_buf_text(&xml->out, "&amp;");
            break;
        case '<':
            atl_buf_text(&xml->out, "&lt;");
            break;
        case '>':
            atl_buf_text(&xml->out, "&gt;");
            break;
        case '\'':
            atl_buf_text(&xml->out, "&apos;");
            break;
        case '"':
            atl_buf_text(&xml->out, "&quot;");
            break;
        case '\t':
        case '\n':
        case '\r':
            atl_buf_printf(&xml->out, "&#%u;", (unsigned int)*at);
            break;
        default:
            if (length == 0)
                atl_buf_char(&xml->out, '?');
            else
                atl_buf_add(&xml->out, at, length);
            break;
        }
        at += length == 0 ? 1 : length;
    }
}

void cmp_xml_begin(struct cmp_xml *xml, const char *name)
{
    atl_assert(xml->depth < CMP_XML_DEPTH);
    xml_close_tag(xml);
    if (xml->out.length > 0)
        atl_buf_char(&xml->out, '\n');
    xml_indent(xml);
    atl_buf_char(&xml->out, '<');
    atl_buf_text(&xml->out, name);
    xml->open[xml->depth++] = name;
    xml->in_tag = true;
    xml->has_text = false;
}

void cmp_xml_end(struct cmp_xml *xml)
{
    atl_assert(xml->depth > 0);
    const char *name = xml->open[--xml->depth];
    if (xml->in_tag) {
        atl_buf_text(&xml->out, "/>");
        xml->in_tag = false;
    } else {
        if (!xml->has_text) {
            atl_buf_char(&xml->out, '\n');
            xml_indent(xml);
        }
        atl_buf_text(&xml->out, "</");
        atl_buf_text(&xml->out, name);
        atl_buf_char(&xml->out, '>');
    }
    xml->has_text = false;
    if (xml->depth == 0)
        atl_buf_char(&xml->out, '\n');
}

void cmp_xml_attr(struct cmp_xml *xml, const char *name, const char *value)
{
    atl_assert(xml->in_tag);
    if (value == NULL)
        return;
    atl_buf_char(&xml->out, ' ');
    atl_buf_text(&xml->out, name);
    atl_buf_text(&xml->out, "='");
    xml_escape(xml, value);
    atl_buf_char(&xml->out, '\'');
}

void cmp_xml_attr_uint(struct cmp_xml *xml, const char *name, uint64_t value)
{
    atl_assert(xml->in_tag);
    atl_buf_char(&xml->out, ' ');
    atl_buf_text(&xml->out, name);
    atl_buf_text(&xml->out, "='");
    atl_buf_uint(&xml->out, value);
    atl_buf_char(&xml->out, '\'');
}

void cmp_xml_text(struct cmp_xml *xml, const char *text)
{
    atl_assert(xml->depth > 0);
    xml_close_tag(xml);
    xml_escape(xml, text);
    xml->has_text = true;
}

void cmp_xml_element(struct cmp_xml *xml, const char *name, const char *text)
{
    if (text == NULL)
        return;
    cmp_xml_begin(xml, name);
    cmp_xml_text(xml, text);
    cmp_xml_end(xml);
}

void cmp_xml_element_uint(struct cmp_xml *xml, const char *name, uint64_t value)
{
    cmp_xml_begin(xml, name);
    xml_close_tag(xml);
    atl_buf_uint(&xml->out, value);
    xml->has_text = true;
    cmp_xml_end(xml);
}

void cmp_xml_empty(struct cmp_xml *xml, const char *name, ...)
{
    cmp_xml_begin(xml, name);
    va_list list;
    va_start(list, name);
    for (;;) {
        const char *attribute = va_arg(list, const char *);
        if (attribute == NULL)
            break;
        cmp_xml_attr(xml, attribute, va_arg(list, const char *));
    }
    va_end(list);
    cmp_xml_end(xml);
}
