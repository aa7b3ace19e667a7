/* The service's tree in a real etcd, with one member. */
#include <unistd.h>

#include "etcd_rig.h"
#include "service_engine.h"

static struct rig rig;

void service_engine_open(const char *ret_options[5])
{
    rig_open_etcd(&rig, 1, false);
    ret_options[0] = "--engine";
    ret_options[1] = "etcd";
    ret_options[2] = "--etcd";
    ret_options[3] = rig.endpoints[0];
}

/* No tree lies there. */
void service_engine_check(const char *dir)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/state/tree.db", dir);
    assert_int_not_equal(access(path, F_OK), 0);
}

void service_engine_close(void)
{
    rig_close(&rig);
}
