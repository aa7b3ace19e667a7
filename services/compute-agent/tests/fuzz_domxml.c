/* Any guest text becomes XML that a parser takes. */
#include <libxml/parser.h>

#include "core/config.h"
#include "core/domxml.h"
#include "core/update.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct cmp_file file;
    if (size > 65536)
        return 0;
    char *text = atl_arena_strndup(&arena, (const char *)data, size);
    if (cmp_file_read(text, size, &arena, &file, NULL) != ATL_OK)
        return 0;
    const struct cmp_volume volumes[] = {
        {.name = "scsi0", .path = "/srv/a.qcow2", .format = "qcow2", .shared = size % 3 == 0},
        {.name = "ide2", .path = "/srv/b'<.iso", .format = "raw", .no_direct = true}};
    const struct cmp_machine machine = {.accel = size % 2 == 0 ? "kvm" : "tcg",
                                        .emulator = "/usr/bin/qemu-system-x86_64",
                                        .run_dir = "/run/atoll/qemu/100",
                                        .volumes = volumes,
                                        .volume_count = 2};
    const struct cmp_guest guest = {
        .vmid = 100, .config = file.main->config, .machine = &machine, .arena = &arena};
    CMP_XML_AT_EXIT struct cmp_xml xml = {0};
    cmp_domain_xml(&guest, &xml);
    xmlDocPtr document =
        xmlReadMemory(xml.out.data, (int)xml.out.length, "domain.xml", NULL,
                      XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_HUGE);
    atl_assert(document != NULL);
    xmlFreeDoc(document);
    struct cmp_update_plan plan = {0};
    cmp_pending_apply(&file, &plan);
    ATL_BUF_AT_EXIT struct atl_buf out = {0};
    cmp_file_write(&file, &out);
    return 0;
}
