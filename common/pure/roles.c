/* Privileges and built-in roles. */
#include "pure/roles.h"

#include <stdlib.h>
#include <string.h>

/* Sorted as strcmp() sorts. The order is also the bit: it is never stored, so it may change with the list. */
#define PRIVILEGES(X)                                                                                        \
    X(DATASTORE_ALLOCATE, "Datastore.Allocate")                                                              \
    X(DATASTORE_SPACE, "Datastore.AllocateSpace")                                                            \
    X(DATASTORE_TEMPLATE, "Datastore.AllocateTemplate")                                                      \
    X(DATASTORE_AUDIT, "Datastore.Audit")                                                                    \
    X(GROUP_ALLOCATE, "Group.Allocate")                                                                      \
    X(MAPPING_AUDIT, "Mapping.Audit")                                                                        \
    X(MAPPING_MODIFY, "Mapping.Modify")                                                                      \
    X(MAPPING_USE, "Mapping.Use")                                                                            \
    X(PERMISSIONS_MODIFY, "Permissions.Modify")                                                              \
    X(POOL_ALLOCATE, "Pool.Allocate")                                                                        \
    X(POOL_AUDIT, "Pool.Audit")                                                                              \
    X(REALM_ALLOCATE, "Realm.Allocate")                                                                      \
    X(REALM_USER, "Realm.AllocateUser")                                                                      \
    X(SDN_ALLOCATE, "SDN.Allocate")                                                                          \
    X(SDN_AUDIT, "SDN.Audit")                                                                                \
    X(SDN_USE, "SDN.Use")                                                                                    \
    X(SYS_NETWORK, "Sys.AccessNetwork")                                                                      \
    X(SYS_AUDIT, "Sys.Audit")                                                                                \
    X(SYS_CONSOLE, "Sys.Console")                                                                            \
    X(SYS_INCOMING, "Sys.Incoming")                                                                          \
    X(SYS_MODIFY, "Sys.Modify")                                                                              \
    X(SYS_POWER, "Sys.PowerMgmt")                                                                            \
    X(SYS_SYSLOG, "Sys.Syslog")                                                                              \
    X(USER_MODIFY, "User.Modify")                                                                            \
    X(VM_ALLOCATE, "VM.Allocate")                                                                            \
    X(VM_AUDIT, "VM.Audit")                                                                                  \
    X(VM_BACKUP, "VM.Backup")                                                                                \
    X(VM_CLONE, "VM.Clone")                                                                                  \
    X(VM_CDROM, "VM.Config.CDROM")                                                                           \
    X(VM_CPU, "VM.Config.CPU")                                                                               \
    X(VM_CLOUDINIT, "VM.Config.Cloudinit")                                                                   \
    X(VM_DISK, "VM.Config.Disk")                                                                             \
    X(VM_HWTYPE, "VM.Config.HWType")                                                                         \
    X(VM_MEMORY, "VM.Config.Memory")                                                                         \
    X(VM_NETWORK, "VM.Config.Network")                                                                       \
    X(VM_OPTIONS, "VM.Config.Options")                                                                       \
    X(VM_CONSOLE, "VM.Console")                                                                              \
    X(AGENT_AUDIT, "VM.GuestAgent.Audit")                                                                    \
    X(AGENT_READ, "VM.GuestAgent.FileRead")                                                                  \
    X(AGENT_FS, "VM.GuestAgent.FileSystemMgmt")                                                              \
    X(AGENT_WRITE, "VM.GuestAgent.FileWrite")                                                                \
    X(AGENT_ALL, "VM.GuestAgent.Unrestricted")                                                               \
    X(VM_MIGRATE, "VM.Migrate")                                                                              \
    X(VM_POWER, "VM.PowerMgmt")                                                                              \
    X(VM_REPLICATE, "VM.Replicate")                                                                          \
    X(VM_SNAPSHOT, "VM.Snapshot")                                                                            \
    X(VM_ROLLBACK, "VM.Snapshot.Rollback")

enum privilege {
#define X(symbol, name) P_##symbol,
    PRIVILEGES(X)
#undef X
        PRIVILEGE_COUNT
};
static_assert((int)PRIVILEGE_COUNT <= (int)ATL_PRIV_MAX, "a set of privileges is one word");

const char *const atl_priv_names[] = {
#define X(symbol, name) name,
    PRIVILEGES(X)
#undef X
};
const size_t atl_priv_count = PRIVILEGE_COUNT;

#define BIT(symbol) ((atl_privs)1 << P_##symbol)
#define ALL         ((((atl_privs)1 << (PRIVILEGE_COUNT - 1)) - 1) | ((atl_privs)1 << (PRIVILEGE_COUNT - 1)))
#define DATASTORE                                                                                            \
    (BIT(DATASTORE_ALLOCATE) | BIT(DATASTORE_SPACE) | BIT(DATASTORE_TEMPLATE) | BIT(DATASTORE_AUDIT))
#define MAPPING (BIT(MAPPING_AUDIT) | BIT(MAPPING_MODIFY) | BIT(MAPPING_USE))
#define SDN     (BIT(SDN_ALLOCATE) | BIT(SDN_AUDIT) | BIT(SDN_USE))
#define NOT_ADMIN                                                                                            \
    (BIT(PERMISSIONS_MODIFY) | BIT(REALM_ALLOCATE) | BIT(SYS_MODIFY) | BIT(SYS_POWER) | BIT(SYS_INCOMING) |  \
     BIT(SYS_NETWORK))
#define VM_ALL (ALL & ~((BIT(VM_ALLOCATE)) - 1)) /* the names that begin with VM are the last ones */

static const struct atl_builtin_role roles[] = {
    {"Administrator", ALL, false},
    {"NoAccess", 0, true},
    {"PVEAdmin", ALL & ~NOT_ADMIN, false},
    {"PVEAuditor",
     BIT(DATASTORE_AUDIT) | BIT(MAPPING_AUDIT) | BIT(POOL_AUDIT) | BIT(SDN_AUDIT) | BIT(SYS_AUDIT) |
         BIT(VM_AUDIT) | BIT(AGENT_AUDIT),
     false},
    {"PVEDatastoreAdmin", DATASTORE, false},
    {"PVEDatastoreUser", BIT(DATASTORE_SPACE) | BIT(DATASTORE_AUDIT), false},
    {"PVEMappingAdmin", MAPPING, false},
    {"PVEMappingAuditor", BIT(MAPPING_AUDIT), false},
    {"PVEMappingUser", BIT(MAPPING_AUDIT) | BIT(MAPPING_USE), false},
    {"PVEPoolAdmin", BIT(POOL_ALLOCATE) | BIT(POOL_AUDIT), false},
    {"PVEPoolUser", BIT(POOL_AUDIT), false},
    {"PVESDNAdmin", SDN, false},
    {"PVESDNUser", BIT(SDN_AUDIT) | BIT(SDN_USE), false},
    {"PVESysAdmin", BIT(SYS_AUDIT) | BIT(SYS_CONSOLE) | BIT(SYS_SYSLOG), false},
    {"PVETemplateUser", BIT(VM_AUDIT) | BIT(VM_CLONE), false},
    {"PVEUserAdmin", BIT(GROUP_ALLOCATE) | BIT(REALM_USER) | BIT(USER_MODIFY), false},
    {"PVEVMAdmin", VM_ALL, false},
    {"PVEVMUser",
     BIT(VM_AUDIT) | BIT(VM_BACKUP) | BIT(VM_CDROM) | BIT(VM_CLOUDINIT) | BIT(VM_CONSOLE) | BIT(VM_POWER) |
         BIT(AGENT_AUDIT),
     false},
};

static int compare_name(const void *key, const void *item)
{
    return strcmp(key, *(const char *const *)item);
}

atl_privs atl_priv_from_text(const char *name)
{
    const char *const *found =
        bsearch(name, atl_priv_names, PRIVILEGE_COUNT, sizeof atl_priv_names[0], compare_name);
    return found == NULL ? 0 : (atl_privs)1 << (found - atl_priv_names);
}

atl_privs atl_privs_all(void)
{
    return ALL;
}

static int compare_role(const void *key, const void *item)
{
    return strcmp(key, ((const struct atl_builtin_role *)item)->name);
}

const struct atl_builtin_role *atl_builtin_role(const char *name)
{
    return bsearch(name, roles, ATL_COUNT(roles), sizeof roles[0], compare_role);
}

const struct atl_builtin_role *atl_builtin_role_at(size_t index)
{
    return index < ATL_COUNT(roles) ? &roles[index] : NULL;
}
