/*
 * What the sdn-agent made on this host, in small files of RUN/sdn-agent (they go with a reboot, as the things
 * do). A thing is recorded before it is made, so that --teardown finds it even if the agent died in between.
 */
#ifndef SDN_RECORD_H
#define SDN_RECORD_H

#include "core/plan.h"

struct sdn_record {
    char *folder; /* RUN/sdn-agent */
    struct {
        char name[SDN_NAME_MAX];
        int index; /* of the link; 0: was being made */
    } bridges[SDN_WISHES_MAX];
    size_t bridge_count;
    bool forwarding;   /* we turned it on; it was off */
    char *nat_text;    /* the table as we wrote it, or NULL */
    char *nat_listing; /* how the kernel listed it then */
};

/* Makes the folder if it is missing and reads what is recorded. Errors: ATL_E_IO. */
ATL_MUST_CHECK enum atl_code sdn_record_open(const char *run_dir, struct sdn_record *ret_record,
                                             struct atl_error *err);
void sdn_record_done(struct sdn_record *record);

/* index 0: about to be made. Errors: ATL_E_LIMIT, ATL_E_IO. */
ATL_MUST_CHECK enum atl_code sdn_record_bridge(struct sdn_record *record, const char *name, int index,
                                               struct atl_error *err);
ATL_MUST_CHECK enum atl_code sdn_record_forget(struct sdn_record *record, const char *name,
                                               struct atl_error *err);
ATL_MUST_CHECK enum atl_code sdn_record_forwarding(struct sdn_record *record, bool on, struct atl_error *err);
/* text NULL: there is none any more. */
ATL_MUST_CHECK enum atl_code sdn_record_nat(struct sdn_record *record, const char *text, const char *listing,
                                            struct atl_error *err);

/* Names of the bridges that are still those we made (by their index), NULL-terminated, in the arena. */
const char *const *sdn_record_made(const struct sdn_record *record, const struct sdn_links *links,
                                   struct atl_arena *arena);

/* Replaces a file of the folder as a whole; text NULL: removes it. Errors: ATL_E_IO. */
ATL_MUST_CHECK enum atl_code sdn_write_file(const char *folder, const char *name, const char *text,
                                            struct atl_error *err);
/* A file's text, to be freed with free(); NULL: there is none, or it is longer than 1 MiB. */
char *sdn_read_file(const char *folder, const char *name);

#endif
