/*
 * What people configure for high availability: ha/resources.cfg, ha/rules.cfg, ha/groups.cfg, ha/fence.cfg,
 * and changes to them. Pure; everything lives in the arena that is given. Sections and lines that this
 * version does not know are kept as they stand.
 */
#ifndef CRM_CORE_CONFIG_H
#define CRM_CORE_CONFIG_H

#include "atoll/ha/v1/ha.pb-c.h"
#include "pure/codec.h"
#include "pure/digest.h"

enum crm_file { CRM_RESOURCES, CRM_RULES, CRM_GROUPS, CRM_FENCE, CRM_FILES };

/* Where the file is in the tree. */
const char *crm_file_path(enum crm_file file);

struct crm_config {
    enum crm_file file;
    struct atl_arena *arena;
    struct atl_section *sections;
    size_t count;
    char digest[ATL_DIGEST_SIZE];
};

/* text NULL: there is no file yet. Errors: ATL_E_INVALID it is no section file. */
ATL_MUST_CHECK enum atl_code crm_config_read(enum crm_file file, const char *text, size_t length,
                                             struct atl_arena *arena, struct crm_config *ret_config,
                                             struct atl_error *err);
void crm_config_write(const struct crm_config *config, struct atl_buf *out);

/* "vm:100", the name of a rule or of a group; NULL: there is none. Belongs to the configuration. */
ProtobufCMessage *crm_config_find(const struct crm_config *config, const char *id);

/* All of a file, as the cores are given them: copies, with sid as "vm:100". */
Atoll__Ha__V1__Resource **crm_resources(const struct crm_config *config, size_t *ret_count);
Atoll__Ha__V1__Rule **crm_rules(const struct crm_config *config, size_t *ret_count);
Atoll__Ha__V1__Group **crm_groups(const struct crm_config *config, size_t *ret_count);
Atoll__Ha__V1__Fencing **crm_fencings(const struct crm_config *config, size_t *ret_count);
/* One of them, or NULL. */
Atoll__Ha__V1__Resource *crm_resource(const struct crm_config *config, const char *sid);

/*
 * A new section out of what a request gave (any message with parameters of the same names). type and id stand
 * before the colon and behind it: "vm", "100". Errors: ATL_E_EXISTS.
 */
ATL_MUST_CHECK enum atl_code crm_config_add(struct crm_config *config, const char *type, const char *id,
                                            const struct atl_message *table, const ProtobufCMessage *request,
                                            struct atl_error *err);

/*
 * What the request gives replaces what there is, what its `delete` lists goes; its `digest` is checked. id:
 * as for crm_config_find(). Errors: ATL_E_ABSENT, ATL_E_CONFLICT; errors name settings that cannot be
 * deleted.
 */
ATL_MUST_CHECK enum atl_code crm_config_set(struct crm_config *config, const char *id,
                                            const struct atl_message *table, const ProtobufCMessage *request,
                                            struct atl_errors *errors, struct atl_error *err);

/* Errors: ATL_E_ABSENT. */
ATL_MUST_CHECK enum atl_code crm_config_remove(struct crm_config *config, const char *id,
                                               struct atl_error *err);

/* Takes a resource out of all rules; a rule that is left with none goes. True: the file has changed. */
bool crm_rules_forget(struct crm_config *rules, const char *sid);

/* Is what a rule says complete and of its type? Errors name the parameter. */
ATL_MUST_CHECK enum atl_code crm_rule_complete(const Atoll__Ha__V1__Rule *rule, struct atl_errors *errors,
                                               struct atl_error *err);

/* Does a list "vm:100,ct:101" hold it? */
bool crm_list_has(const char *list, const char *word);

#endif
