/* Any bytes as user.cfg: no crash; what is written is read back equal; nobody but root gets a right by
 * accident. */
#include <stdlib.h>
#include <string.h>

#include "pure/acl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 65536)
        return 0;
    struct atl_arena arena = {0};
    struct atl_errors warnings = {0};
    struct atl_acl *acl = atl_acl_parse((const char *)data, size, &arena, &warnings);
    struct atl_buf once = {0};
    struct atl_buf twice = {0};
    atl_acl_write(acl, &once);
    struct atl_acl *again = atl_acl_parse(once.data != NULL ? once.data : "", once.length, &arena, NULL);
    atl_acl_write(again, &twice);
    atl_assert(once.length == twice.length);
    atl_assert(once.length == 0 || memcmp(once.data, twice.data, once.length) == 0);
    for (size_t i = 0; i < acl->user_count && i < 8; i++) {
        struct atl_subject subject;
        if (atl_subject_init(&subject, acl, acl->users[i].id, NULL, 1000, &arena, NULL) != ATL_OK)
            continue;
        struct atl_granted granted = atl_subject_granted(&subject, "/vms/100");
        atl_assert((granted.propagate & ~granted.privs) == 0);
        atl_assert(subject.root || acl->rule_count > 0 || granted.privs == 0);
    }
    atl_buf_done(&once);
    atl_buf_done(&twice);
    atl_arena_done(&arena);
    return 0;
}
