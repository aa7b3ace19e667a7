/* Any interfaces file: read, shown, planned; names stay names of links. */
#include <string.h>

#include "core/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sdn_wishes wishes;
    static struct sdn_plan plan;
    struct atl_arena arena = {0};
    struct sdn_file file = {0};
    if (sdn_interfaces_read((const char *)data, size, &arena, &file, NULL) == ATL_OK) {
        Atoll__Network__V1__Interface **list = NULL;
        struct sdn_links links = {0};
        struct sdn_ports ports = {0};
        struct sdn_state state = {0};
        const struct sdn_dhcp_paths paths = {.run = "/run", .state = "/var"};
        size_t count = 0;
        sdn_show(&file, &links, &arena, &list, &count);
        for (size_t i = 0; i < file.count; i++)
            atl_assert(sdn_name_ok(file.ifaces[i].name, strlen(file.ifaces[i].name)));
        sdn_wishes_read(&file, &arena, &wishes);
        sdn_ports_read((const char *)data, size, 100, false, &arena, &ports);
        sdn_plan_make(&wishes, &ports, &state, &paths, &arena, &plan);
        for (size_t i = 0; i < plan.count; i++)
            atl_assert(plan.steps[i].text == NULL || strstr(plan.steps[i].text, "\n\n") == NULL);
    }
    atl_arena_done(&arena);
    return 0;
}
