/* Where a migration of a container can be cut off. */
#include "crash.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const names[CMP_CRASH_POINTS] = {
    [CMP_CRASH_CT_CHECKED] = "ct-checked",
    [CMP_CRASH_CT_LOCKED] = "ct-locked",
    [CMP_CRASH_CT_STOPPED] = "ct-stopped",
    [CMP_CRASH_CT_OFFERED] = "ct-offered",
    [CMP_CRASH_CT_SENDING] = "ct-sending",
    [CMP_CRASH_CT_SENT] = "ct-sent",
    [CMP_CRASH_CT_HANDED_OVER] = "ct-handed-over",
    [CMP_CRASH_CT_AWAKE] = "ct-awake",
    [CMP_CRASH_CT_FREED] = "ct-freed",
    [CMP_CRASH_CT_TAKEN_BACK] = "ct-taken-back",
    [CMP_CRASH_CT_UP_AGAIN] = "ct-up-again",
};

const char *cmp_crash_point_to_text(enum cmp_crash_point point)
{
    atl_assert(point < CMP_CRASH_POINTS);
    atl_assert(names[point] != NULL);
    return names[point];
}

void cmp_crash_at(const struct atl_task *task, enum cmp_crash_point point)
{
    char text[512] = "";
    ATL_FREE_AT_EXIT char *path = atl_format("%s/compute-agent/crash-at", atl_task_state_dir(task));
    FILE *file = fopen(path, "r+e");
    if (file == NULL)
        return;
    size_t size = fread(text, 1, sizeof text - 1, file);
    size_t line = strcspn(text, "\n");
    const char *name = cmp_crash_point_to_text(point);
    bool armed = line == strlen(name) && strncmp(text, name, line) == 0;
    size_t rest = line < size ? line + 1 : size;
    if (armed && rest == size) {
        (void)unlink(path); /* that was the last one */
    } else if (armed) {
        rewind(file);
        armed = fwrite(text + rest, 1, size - rest, file) == size - rest && fflush(file) == 0 &&
                ftruncate(fileno(file), (off_t)(size - rest)) == 0;
    }
    (void)fclose(file); /* all is written, or it is not armed any more */
    if (armed)
        (void)kill(getpid(), SIGKILL); /* it does not come back */
}
