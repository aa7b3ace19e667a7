/* atoll-witness: options and verbs. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cluster/crash.h"
#include "witness/witness.h"

static const char usage[] =
    "usage: atoll-witness [--state-dir DIR] [--launcher PATH] serve\n"
    "       atoll-witness [--state-dir DIR] join WORD\n"
    "\n"
    "The witness of a cluster of Atoll. 'serve' runs as a service; 'join' makes the machine the witness of "
    "the\n"
    "cluster that made WORD with 'atoll cluster witness add ADDRESS'.\n"
    "\n"
    "  --state-dir DIR    where its files are (default: /var/lib/atoll-witness)\n"
    "  --launcher PATH    what starts corosync-qnetd (default: atoll-qdevice beside this program)\n";

static char *beside(const char *name)
{
    char self[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length <= 0)
        return atl_strdup(name);
    self[length] = '\0';
    *strrchr(self, '/') = '\0';
    return atl_format("%s/%s", self, name);
}

static int refuse(void)
{
    (void)fputs(usage, stderr);
    return 2;
}

int main(int argc, char **argv)
{
    char *launcher ATL_FREE_AT_EXIT = beside("atoll-qdevice");
    struct witness_options options = {
        .state_dir = "/var/lib/atoll-witness", .launcher = launcher, .crash_file = cfg_crash_file()};
    struct atl_error error = {0};
    int at = 1;
    for (; at + 1 < argc && strncmp(argv[at], "--", 2) == 0; at += 2) {
        if (strcmp(argv[at], "--state-dir") == 0)
            options.state_dir = argv[at + 1];
        else if (strcmp(argv[at], "--launcher") == 0)
            options.launcher = argv[at + 1];
        else
            return refuse();
    }
    enum atl_code code = ATL_OK;
    if (at + 1 == argc && strcmp(argv[at], "--help") == 0)
        return fputs(usage, stdout) == EOF;
    if (at + 1 == argc && strcmp(argv[at], "serve") == 0)
        code = witness_serve(&options, &error);
    else if (at + 2 == argc && strcmp(argv[at], "join") == 0)
        code = witness_join(&options, argv[at + 1], &error);
    else
        return refuse();
    if (code == ATL_OK)
        return 0;
    (void)fprintf(stderr, "atoll-witness: %s\n", error.text);
    return 1;
}
