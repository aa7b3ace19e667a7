/* Methods of the contract by name. */
#include "pure/contract.h"

#include <string.h>

static const struct atl_rpc *find_in(const struct atl_service *service, const char *name)
{
    size_t length = strlen(service->name);
    if (strncmp(name, service->name, length) != 0 || name[length] != '.')
        return NULL;
    for (uint32_t i = 0; i < service->count; i++)
        if (strcmp(service->rpcs[i].name + length + 1, name + length + 1) == 0)
            return &service->rpcs[i];
    return NULL;
}

const struct atl_rpc *atl_contract_rpc(const char *name)
{
    for (const struct atl_service *const *service = atl_contract; *service != NULL; service++) {
        const struct atl_rpc *rpc = find_in(*service, name);
        if (rpc != NULL)
            return rpc;
    }
    return NULL;
}
