/* Any text as a container's file: read, compiled, settled and written again without a fault. */
#include "core/lxc_doc.h"
#include "core/lxc_make.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct atl_arena arena = {0};
    struct atl_error error;
    struct cmp_lxc_doc doc;
    if (size > 65536)
        return 0;
    char *text = atl_arena_strndup(&arena, (const char *)data, size);
    if (cmp_lxc_doc_read(text, size, &arena, &doc, &error) == ATL_OK) {
        const struct cmp_lxc_facts facts = {.vmid = 101,
                                            .cgroup_version = 1 + (unsigned int)(size & 1),
                                            .cgroup_base = "atoll",
                                            .run_dir = "/run/atoll/lxc/101",
                                            .map_first = 100000,
                                            .map_count = 65536,
                                            .host_cpus = 4,
                                            .swap_accounting = true};
        struct cmp_lxc_plan plan;
        struct atl_buf out = {0};
        const struct atl_line *raw = NULL;
        size_t raw_count = cmp_lxc_doc_raw(&doc, &raw);
        (void)cmp_lxc_doc_settle(&doc);
        if (cmp_lxc_compile(doc.now->config, raw, raw_count, &facts, &arena, &plan, &error) == ATL_OK)
            cmp_lxc_plan_text(&plan, &out);
        (void)cmp_lxc_setup_make(doc.now->config, 101, text, &arena);
        cmp_lxc_doc_write(&doc, &out);
        atl_buf_done(&out);
    }
    atl_arena_done(&arena);
    return 0;
}
