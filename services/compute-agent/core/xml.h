/* Writes XML that is well formed whatever bytes the texts hold. */
#ifndef CMP_CORE_XML_H
#define CMP_CORE_XML_H

#include "pure/buf.h"

enum { CMP_XML_DEPTH = 16 };

/* All zero is a valid empty document. Names are literals of ours and are not checked. */
struct cmp_xml {
    struct atl_buf out;
    const char *open[CMP_XML_DEPTH];
    unsigned int depth;
    bool in_tag; /* the start tag still takes attributes */
    bool has_text;
};

#define CMP_XML_AT_EXIT ATL_CLEANUP(cmp_xml_done)
void cmp_xml_done(struct cmp_xml *xml);

void cmp_xml_begin(struct cmp_xml *xml, const char *name);
void cmp_xml_end(struct cmp_xml *xml);
/* Attributes of the element that was begun last. NULL values are left out. */
void cmp_xml_attr(struct cmp_xml *xml, const char *name, const char *value);
void cmp_xml_attr_uint(struct cmp_xml *xml, const char *name, uint64_t value);
void cmp_xml_text(struct cmp_xml *xml, const char *text);
/* <name>text</name>; NULL: nothing. */
void cmp_xml_element(struct cmp_xml *xml, const char *name, const char *text);
void cmp_xml_element_uint(struct cmp_xml *xml, const char *name, uint64_t value);
/* <name a='1' b='2'/>: pairs of name and value, ended by NULL. A NULL value leaves its attribute out. */
void cmp_xml_empty(struct cmp_xml *xml, const char *name, ...) __attribute__((sentinel));

#endif
