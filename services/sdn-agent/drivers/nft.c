/* The table `ip atoll_nat`, through libnftables. */
#include <stdlib.h>
#include <string.h>

#include "drivers/linux.h"

static const char *first_line(const char *text, struct atl_arena *arena)
{
    return atl_arena_strndup(arena, text, strcspn(text, "\n"));
}

static int run(struct sdn_linux *host, const char *command)
{
    (void)nft_ctx_buffer_output(host->nft);
    (void)nft_ctx_buffer_error(host->nft);
    return nft_run_cmd_from_buffer(host->nft, command);
}

static void end(struct sdn_linux *host)
{
    (void)nft_ctx_unbuffer_output(host->nft);
    (void)nft_ctx_unbuffer_error(host->nft);
}

char *sdn_nft_list(void *self)
{
    struct sdn_linux *host = self;
    char *listing = NULL;
    if (run(host, "list table ip atoll_nat") == 0)
        listing = atl_strdup(nft_ctx_get_output_buffer(host->nft));
    end(host);
    return listing;
}

enum atl_code sdn_nft_load(void *self, const char *text, char **ret_listing, struct atl_error *err)
{
    struct sdn_linux *host = self;
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    /* Naming the table first makes its deletion succeed whether it is there or not; all of it is one
     * transaction. */
    const char *command = atl_arena_format(&arena, "table ip atoll_nat\ndelete table ip atoll_nat\n%s",
                                           text != NULL ? text : "");
    int result = run(host, command);
    const char *why = first_line(nft_ctx_get_error_buffer(host->nft), &arena);
    end(host);
    if (result != 0)
        return atl_fail(err, ATL_E_IO, NULL, "nftables refuses the table 'atoll_nat': %s", why);
    *ret_listing = text != NULL ? sdn_nft_list(self) : NULL;
    return ATL_OK;
}
