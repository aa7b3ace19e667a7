/* /access: logging in, realms, permissions, roles, rules. Users and tokens stand in rpc_users.c. */
#include <stdlib.h>
#include <string.h>

#include "atoll/access/v1/access.atl.h"
#include "core/realms.h"
#include "core/secrets.h"
#include "edit.h"
#include "identity.h"
#include "io/log.h"
#include "rpc_users.h"

/* --- logging in
 * --------------------------------------------------------------------------------------------- */

struct login { /* lives with the request */
    struct cfg *cfg;
    struct atl_request *request;
    const Atoll__Access__V1__LoginRequest *input;
    const char *user; /* with realm */
};

static void refuse_login(struct atl_request *request)
{
    cfg_refuse(request, ATL_E_UNAUTHENTICATED, NULL, "authentication failure");
}

static bool under(const char *name, const char *const *prefixes)
{
    for (; *prefixes != NULL; prefixes++)
        if (strncmp(name, *prefixes, strlen(*prefixes)) == 0)
            return true;
    return false;
}

/* "cap": for the web page, which parts of it the user has a use for. */
static char *capabilities(struct atl_subject *subject, struct atl_arena *arena)
{
    static const struct {
        const char *name;
        const char *path;
        const char *prefixes[5];
    } parts[] = {
        {"access", "/access", {"User.", "Group.", "Permissions.", "Realm.", NULL}},
        {"dc", "/", {"Sys.", "SDN.", NULL}},
        {"mapping", "/mapping", {"Mapping.", "Permissions.", NULL}},
        {"nodes", "/nodes", {"Sys.", "Permissions.", NULL}},
        {"sdn", "/sdn", {"SDN.", "Permissions.", NULL}},
        {"storage", "/storage", {"Datastore.", "Permissions.", NULL}},
        {"vms", "/vms", {"VM.", "Permissions.", NULL}},
    };
    struct atl_buf text = {0};
    atl_buf_char(&text, '{');
    for (size_t i = 0; i < ATL_COUNT(parts); i++) {
        atl_privs privs = atl_subject_granted(subject, parts[i].path).privs;
        atl_buf_printf(&text, "%s\"%s\":{", i > 0 ? "," : "", parts[i].name);
        bool first = true;
        for (size_t bit = 0; bit < atl_priv_count; bit++) {
            if ((privs >> bit & 1) == 0 || !under(atl_priv_names[bit], parts[i].prefixes))
                continue;
            atl_buf_printf(&text, "%s\"%s\":1", first ? "" : ",", atl_priv_names[bit]);
            first = false;
        }
        atl_buf_char(&text, '}');
    }
    atl_buf_char(&text, '}');
    char *copy = atl_arena_strdup(arena, text.data);
    atl_buf_done(&text);
    return copy;
}

static atl_privs privs_of_list(const char *names, struct atl_arena *arena)
{
    atl_privs privs = 0;
    char *rest = atl_arena_strdup(arena, names);
    char *next = NULL;
    for (char *name = strtok_r(rest, ",; ", &next); name != NULL; name = strtok_r(NULL, ",; ", &next)) {
        atl_privs one = atl_priv_from_text(name);
        if (one == 0)
            return 0; /* nobody has a privilege that does not exist */
        privs |= one;
    }
    return privs;
}

/* The password was right: is he still somebody? Then he gets his ticket. */
static void welcome(const struct login *login)
{
    struct cfg *cfg = login->cfg;
    struct atl_arena *arena = atl_request_arena(login->request);
    const struct atl_acl *acl = atl_keeper_acl(cfg->keeper);
    const struct atl_user *entry = atl_acl_user(acl, login->user);
    struct atl_subject subject;
    if ((entry != NULL && !entry->enabled) ||
        atl_subject_init(&subject, acl, login->user, NULL, atl_clock_wall_seconds(), arena, NULL) != ATL_OK) {
        refuse_login(login->request);
        return;
    }
    Atoll__Access__V1__LoginReply reply = ATOLL__ACCESS__V1__LOGIN_REPLY__INIT;
    reply.username = atl_arena_strdup(arena, login->user);
    if (login->input->path != NULL && login->input->privs != NULL) {
        atl_privs wanted = privs_of_list(login->input->privs, arena);
        if (wanted == 0 || !atl_subject_may(&subject, login->input->path, 0, wanted)) {
            cfg_refuse(login->request, ATL_E_DENIED, NULL, "Permission check failed (%s, %s)",
                       login->input->path, login->input->privs);
            return;
        }
        atl_request_reply(login->request, &reply.base);
        return;
    }
    reply.ticket = cfg_identity_ticket(cfg->identity, login->user, arena);
    reply.csrfpreventiontoken = cfg_identity_csrf(cfg->identity, login->user, arena);
    reply.cap = capabilities(&subject, arena);
    if (reply.ticket == NULL) {
        cfg_refuse(login->request, ATL_E_INTERNAL, NULL, "the key that signs tickets does not work");
        return;
    }
    atl_request_reply(login->request, &reply.base);
}

static void on_better_hash(const struct cfg_store_result *result, void *user)
{
    (void)user;
    if (result->code != ATL_OK)
        atl_log(ATL_WARNING, "hash-not-replaced", "%s", result->error.text);
}

/* An imported crypt hash was right: argon2id takes its place. */
static void keep_better_hash(const struct login *login, const char *hash)
{
    struct cfg_edit edit;
    cfg_edit_begin(&edit, login->cfg, login->request);
    cfg_edit_password(&edit, login->user, hash);
    const struct cfg_txn txn = {.ops = edit.ops, .op_count = edit.op_count};
    cfg_store_txn(login->cfg->store, &txn, NULL, on_better_hash, NULL);
}

static void on_checked(const struct cfg_check_result *result, void *user)
{
    const struct login *login = user;
    if (result->code != ATL_OK) {
        const struct atl_log_field fields[] = {{"ATOLL_USER", login->user}};
        atl_log_event(ATL_WARNING, "login-failed", fields, ATL_COUNT(fields), "a login failed: %s",
                      result->error.text);
        atl_request_fail(login->request, &result->error, NULL);
        return;
    }
    if (result->hash[0] != '\0')
        keep_better_hash(login, result->hash);
    welcome(login);
}

static const char *full_name(const Atoll__Access__V1__LoginRequest *input, struct atl_arena *arena)
{
    if (input->realm != NULL && input->realm[0] != '\0')
        return atl_arena_format(arena, "%s@%s", input->username, input->realm);
    return atl_arena_strdup(arena, input->username);
}

static void renew(const struct login *login)
{
    struct atl_arena *arena = atl_request_arena(login->request);
    const char *owner = NULL;
    enum atl_code code =
        cfg_identity_ticket_user(login->cfg->identity, login->input->password, arena, &owner, NULL);
    if (code != ATL_OK || strcmp(owner, login->user) != 0)
        refuse_login(login->request);
    else
        welcome(login);
}

static void handle_login(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    struct atl_arena *arena = atl_request_arena(request);
    struct login *login = atl_arena_new(arena, struct login);
    *login = (struct login){.cfg = cfg, .request = request, .input = (const void *)input};
    login->user = full_name(login->input, arena);
    (void)cfg_store_tree(cfg->store);
    if (!atl_userid_valid(login->user)) {
        refuse_login(request);
        return;
    }
    if (atl_ticket_shaped(login->input->password)) {
        renew(login);
        return;
    }
    size_t size = 0;
    const char *realm = strrchr(login->user, '@') + 1;
    const char *name = atl_arena_strndup(arena, login->user, (size_t)(realm - 1 - login->user));
    struct cfg_check check = {.user = login->user, .password = login->input->password};
    check.pam = strcmp(realm, "pam") == 0;
    if (strcmp(realm, "pve") == 0)
        check.hash = cfg_secret_get(cfg_text_ahead(cfg, CFG_SHADOW, &size), name, ':', arena);
    const struct atl_acl *acl = atl_keeper_acl(cfg->keeper);
    if (check.pam && atl_acl_user(acl, login->user) == NULL && strcmp(login->user, "root@pam") != 0)
        check.pam = false; /* not one of ours: fails as slowly as a wrong password */
    struct atl_error error;
    if (cfg_checker_run(cfg_identity_checker(cfg->identity), &check, on_checked, login, &error) != ATL_OK)
        atl_request_fail(request, &error, NULL);
}

static void handle_check_ticket(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    (void)user;
    cfg_reply_nothing(request);
}

static void handle_domains(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    struct cfg *cfg = user;
    (void)cfg_store_tree(cfg->store);
    size_t size = 0;
    const char *text = cfg_text_ahead(cfg, "domains.cfg", &size);
    Atoll__Access__V1__DomainsRow *rows[CFG_REALMS];
    struct atl_error error;
    if (cfg_realms_read(text, size, atl_request_arena(request), rows, &error) != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    Atoll__Access__V1__ListDomainsReply reply = ATOLL__ACCESS__V1__LIST_DOMAINS_REPLY__INIT;
    reply.n_entry = CFG_REALMS;
    reply.entry = rows;
    atl_request_reply(request, &reply.base);
}

/* --- permissions
 * -------------------------------------------------------------------------------------------- */

static Atoll__Access__V1__PermissionEntry *permission_entry(struct atl_subject *subject, const char *path,
                                                            struct atl_arena *arena)
{
    struct atl_granted granted = atl_subject_granted(subject, path);
    Atoll__Access__V1__PrivilegeMap *map = atl_arena_new(arena, Atoll__Access__V1__PrivilegeMap);
    atoll__access__v1__privilege_map__init(map);
    map->entry = atl_arena_array(arena, Atoll__Access__V1__PrivilegeFlag *, atl_priv_count);
    for (size_t bit = 0; bit < atl_priv_count; bit++) {
        if ((granted.privs >> bit & 1) == 0)
            continue;
        Atoll__Access__V1__PrivilegeFlag *flag = atl_arena_new(arena, Atoll__Access__V1__PrivilegeFlag);
        atoll__access__v1__privilege_flag__init(flag);
        flag->key = atl_arena_strdup(arena, atl_priv_names[bit]);
        flag->has_value = 1;
        flag->value = (granted.propagate >> bit & 1) != 0;
        map->entry[map->n_entry++] = flag;
    }
    if (map->n_entry == 0)
        return NULL;
    Atoll__Access__V1__PermissionEntry *entry = atl_arena_new(arena, Atoll__Access__V1__PermissionEntry);
    atoll__access__v1__permission_entry__init(entry);
    entry->key = atl_arena_strdup(arena, path);
    entry->value = map;
    return entry;
}

static struct atl_list interesting_paths(const struct atl_acl *acl, const char *only, struct atl_arena *arena)
{
    static const char *const always[] = {"/",      "/access", "/access/groups", "/access/realm", "/mapping",
                                         "/nodes", "/pool",   "/sdn",           "/storage",      "/vms"};
    struct atl_list paths = {0};
    if (only != NULL) {
        const char *path = atl_acl_path(only, arena);
        if (path != NULL)
            atl_list_add(&paths, path, arena);
        return paths;
    }
    for (size_t i = 0; i < ATL_COUNT(always); i++)
        atl_list_add(&paths, always[i], arena);
    for (size_t i = 0; i < acl->rule_count; i++)
        atl_list_add(&paths, acl->rules[i].path, arena);
    return paths;
}

/* Whose permissions are asked for: the caller's own, or (with Sys.Audit on /access) another's. */
static enum atl_code asked_subject(struct cfg *cfg, struct atl_request *request, const char *userid,
                                   struct atl_subject *subject, struct atl_error *err)
{
    const struct atl_principal *principal = atl_request_principal(request);
    enum atl_code code = atl_keeper_subject(cfg->keeper, principal, subject, err);
    if (code != ATL_OK || userid == NULL)
        return code;
    const char *own = subject->token != NULL ? subject->token : subject->user;
    if (strcmp(userid, own) != 0) {
        code = atl_subject_need(subject, "/access", (const char *const[]){"Sys.Audit", NULL}, err);
        if (code != ATL_OK)
            return code;
    }
    struct atl_arena *arena = atl_request_arena(request);
    const char *mark = strchr(userid, '!');
    const char *user = mark != NULL ? atl_arena_strndup(arena, userid, (size_t)(mark - userid)) : userid;
    code = atl_subject_init(subject, atl_keeper_acl(cfg->keeper), user, mark != NULL ? mark + 1 : NULL,
                            atl_clock_wall_seconds(), arena, err);
    if (code == ATL_E_UNAUTHENTICATED) /* it is not the caller who is unknown */
        return atl_fail(err, ATL_E_INVALID, "userid", "'%s' does not exist, is disabled or has expired",
                        userid);
    return code;
}

static void handle_permissions(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Access__V1__GetPermissionsRequest *wish = (const void *)input;
    struct atl_arena *arena = atl_request_arena(request);
    struct atl_subject subject;
    struct atl_error error;
    (void)cfg_store_tree(cfg->store);
    if (asked_subject(cfg, request, wish->userid, &subject, &error) != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    struct atl_list paths = interesting_paths(subject.acl, wish->path, arena);
    if (wish->path != NULL && paths.count == 0) {
        cfg_refuse(request, ATL_E_INVALID, "path", "'%s' is no access path", wish->path);
        return;
    }
    Atoll__Access__V1__GetPermissionsReply reply = ATOLL__ACCESS__V1__GET_PERMISSIONS_REPLY__INIT;
    reply.entry = atl_arena_array(arena, Atoll__Access__V1__PermissionEntry *, paths.count + 1);
    for (size_t i = 0; i < paths.count; i++) {
        Atoll__Access__V1__PermissionEntry *entry = permission_entry(&subject, paths.items[i], arena);
        if (entry != NULL)
            reply.entry[reply.n_entry++] = entry;
    }
    atl_request_reply(request, &reply.base);
}

/* --- roles and rules
 * ---------------------------------------------------------------------------------------- */

static Atoll__Access__V1__RolesRow *role_row(struct atl_arena *arena, const char *name, bool special,
                                             struct atl_buf *privs)
{
    Atoll__Access__V1__RolesRow *row = atl_arena_new(arena, Atoll__Access__V1__RolesRow);
    atoll__access__v1__roles_row__init(row);
    row->roleid = atl_arena_strdup(arena, name);
    row->privs = atl_arena_strdup(arena, privs->data != NULL ? privs->data : "");
    row->has_special = 1;
    row->special = special;
    atl_buf_reset(privs);
    return row;
}

static void add_name(struct atl_buf *text, const char *name)
{
    if (text->length > 0)
        atl_buf_char(text, ',');
    atl_buf_text(text, name);
}

static void handle_roles(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    struct cfg *cfg = user;
    struct atl_arena *arena = atl_request_arena(request);
    (void)cfg_store_tree(cfg->store);
    const struct atl_acl *acl = atl_keeper_acl(cfg->keeper);
    struct atl_buf privs = {0};
    Atoll__Access__V1__ListRolesReply reply = ATOLL__ACCESS__V1__LIST_ROLES_REPLY__INIT;
    reply.entry = atl_arena_array(arena, Atoll__Access__V1__RolesRow *, acl->role_count + 64);
    for (size_t i = 0; atl_builtin_role_at(i) != NULL; i++) {
        const struct atl_builtin_role *role = atl_builtin_role_at(i);
        for (size_t bit = 0; bit < atl_priv_count; bit++)
            if ((role->privs >> bit & 1) != 0)
                add_name(&privs, atl_priv_names[bit]);
        reply.entry[reply.n_entry++] = role_row(arena, role->name, true, &privs);
    }
    for (size_t i = 0; i < acl->role_count; i++) {
        for (size_t k = 0; k < acl->roles[i].privs.count; k++)
            add_name(&privs, acl->roles[i].privs.items[k]);
        reply.entry[reply.n_entry++] = role_row(arena, acl->roles[i].id, false, &privs);
    }
    atl_request_reply(request, &reply.base);
    atl_buf_done(&privs);
}

static Atoll__Access__V1__AclRow *rule_row(struct atl_arena *arena, const struct atl_rule *rule)
{
    static const char *const kinds[] = {
        [ATL_SUBJECT_USER] = "user", [ATL_SUBJECT_GROUP] = "group", [ATL_SUBJECT_TOKEN] = "token"};
    Atoll__Access__V1__AclRow *row = atl_arena_new(arena, Atoll__Access__V1__AclRow);
    atoll__access__v1__acl_row__init(row);
    row->path = atl_arena_strdup(arena, rule->path);
    row->roleid = atl_arena_strdup(arena, rule->role);
    row->ugid = atl_arena_strdup(arena, rule->subject);
    row->type = atl_arena_strdup(arena, kinds[rule->kind]);
    row->has_propagate = 1;
    row->propagate = rule->propagate;
    return row;
}

/* All rules with Sys.Audit on /access, else those on paths where the caller may change them. */
static void handle_list_acl(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)input;
    struct cfg *cfg = user;
    struct atl_arena *arena = atl_request_arena(request);
    struct atl_subject subject;
    if (!cfg_get_subject(cfg, request, &subject))
        return;
    atl_privs modify = atl_priv_from_text("Permissions.Modify");
    bool all = atl_subject_may(&subject, "/access", atl_priv_from_text("Sys.Audit"), 0);
    Atoll__Access__V1__ListAclReply reply = ATOLL__ACCESS__V1__LIST_ACL_REPLY__INIT;
    reply.entry = atl_arena_array(arena, Atoll__Access__V1__AclRow *, subject.acl->rule_count + 1);
    for (size_t i = 0; i < subject.acl->rule_count; i++) {
        const struct atl_rule *rule = &subject.acl->rules[i];
        if (all || atl_subject_may(&subject, rule->path, modify, 0))
            reply.entry[reply.n_entry++] = rule_row(arena, rule);
    }
    atl_request_reply(request, &reply.base);
}

struct rule_change {
    const Atoll__Access__V1__UpdateAclRequest *wish;
    struct atl_acl *acl; /* to be changed */
    const char *path;
    const char *roles;
    bool propagate;
    bool remove;
};

static enum atl_code check_subject(const struct atl_acl *acl, enum atl_subject_kind kind, const char *name,
                                   struct atl_error *err)
{
    if (kind == ATL_SUBJECT_GROUP && atl_acl_group(acl, name) == NULL)
        return atl_fail(err, ATL_E_INVALID, "groups", "no such group '%s'", name);
    if (kind == ATL_SUBJECT_TOKEN && atl_acl_token(acl, name) == NULL)
        return atl_fail(err, ATL_E_INVALID, "tokens", "no such token '%s'", name);
    if (kind == ATL_SUBJECT_USER && atl_acl_user(acl, name) == NULL)
        return atl_fail(err, ATL_E_INVALID, "users", "no such user '%s'", name);
    return ATL_OK;
}

static enum atl_code change_one(struct rule_change *change, enum atl_subject_kind kind, const char *name,
                                struct atl_error *err)
{
    struct atl_acl *acl = change->acl;
    enum atl_code code = change->remove ? ATL_OK : check_subject(acl, kind, name, err);
    char *roles = atl_arena_strdup(acl->arena, change->roles);
    char *next = NULL;
    for (char *role = strtok_r(roles, ",; ", &next); role != NULL && code == ATL_OK;
         role = strtok_r(NULL, ",; ", &next)) {
        const struct atl_rule rule = {.path = change->path,
                                      .subject = name,
                                      .role = role,
                                      .kind = kind,
                                      .propagate = change->propagate};
        if (atl_builtin_role(role) == NULL && atl_acl_role(acl, role) == NULL)
            code = atl_fail(err, ATL_E_INVALID, "roles", "no such role '%s'", role);
        else if (change->remove)
            (void)atl_acl_drop_rule(acl, &rule); /* gone already is as good */
        else
            atl_acl_add_rule(acl, &rule);
    }
    return code;
}

static enum atl_code change_list(struct rule_change *change, enum atl_subject_kind kind, const char *names,
                                 struct atl_error *err)
{
    if (names == NULL)
        return ATL_OK;
    char *copy = atl_arena_strdup(change->acl->arena, names);
    char *next = NULL;
    enum atl_code code = ATL_OK;
    for (char *name = strtok_r(copy, ",; ", &next); name != NULL && code == ATL_OK;
         name = strtok_r(NULL, ",; ", &next))
        code = change_one(change, kind, name, err);
    return code;
}

static bool change_rules(struct cfg_edit *edit, const void *user)
{
    struct rule_change change = *(const struct rule_change *)user;
    struct atl_error error;
    change.acl = edit->acl;
    enum atl_code code = change_list(&change, ATL_SUBJECT_USER, change.wish->users, &error);
    if (code == ATL_OK)
        code = change_list(&change, ATL_SUBJECT_GROUP, change.wish->groups, &error);
    if (code == ATL_OK)
        code = change_list(&change, ATL_SUBJECT_TOKEN, change.wish->tokens, &error);
    if (code != ATL_OK) {
        atl_request_fail(edit->request, &error, NULL);
        return false;
    }
    cfg_edit_users(edit);
    cfg_edit_finish(edit);
    return true;
}

static void handle_update_acl(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Access__V1__UpdateAclRequest *wish = (const void *)input;
    struct atl_arena *arena = atl_request_arena(request);
    struct rule_change change = {.wish = wish, .roles = wish->roles};
    change.propagate = !wish->has_propagate || wish->propagate;
    change.remove = wish->has_delete_ && wish->delete_;
    change.path = atl_acl_path(wish->path, arena);
    if (change.path == NULL) {
        cfg_refuse(request, ATL_E_INVALID, "path", "invalid ACL path '%s'", wish->path);
        return;
    }
    if (wish->users == NULL && wish->groups == NULL && wish->tokens == NULL) {
        cfg_refuse(request, ATL_E_INVALID, "users", "one of users, groups, tokens is needed");
        return;
    }
    cfg_edit_run(user, request, change_rules, atl_arena_copy(arena, &change, sizeof change));
}

void cfg_serve_access(struct cfg *cfg)
{
    static const struct atl_handler handlers[] = {
        {"CheckTicket", handle_check_ticket},
        {"Login", handle_login},
        {"ListDomains", handle_domains},
        {"GetPermissions", handle_permissions},
        {"ListRoles", handle_roles},
        {"ListAcl", handle_list_acl},
        {"UpdateAcl", handle_update_acl},
        {"ListUsers", cfg_handle_list_users},
        {"CreateUser", cfg_handle_create_user},
        {"GetUser", cfg_handle_get_user},
        {"UpdateUser", cfg_handle_update_user},
        {"DeleteUser", cfg_handle_delete_user},
        {"ListTokens", cfg_handle_list_tokens},
        {"GetToken", cfg_handle_get_token},
        {"CreateToken", cfg_handle_create_token},
        {"UpdateToken", cfg_handle_update_token},
        {"DeleteToken", cfg_handle_delete_token},
        {"ChangePassword", cfg_handle_change_password},
    };
    atl_bus_serve(cfg->bus, &atl_svc_access_v1_Access, handlers, ATL_COUNT(handlers), cfg);
}
