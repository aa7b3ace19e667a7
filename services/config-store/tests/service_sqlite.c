/* The service's tree in SQLite, as it is without options. */
#include "service_engine.h"

#include <sys/stat.h>

#include "atl_test.h"

void service_engine_open(const char *ret_options[5])
{
    (void)ret_options;
}

void service_engine_check(const char *dir)
{
    char path[128];
    struct stat status;
    (void)snprintf(path, sizeof path, "%s/state/tree.db", dir);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
}

void service_engine_close(void)
{
}
