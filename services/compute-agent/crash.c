/* Where a migration can be cut off. */
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
    [CMP_CRASH_VM_REACHED] = "vm-source-reached",
    [CMP_CRASH_VM_CHECKED] = "vm-source-checked",
    [CMP_CRASH_VM_LOCKED] = "vm-source-locked",
    [CMP_CRASH_VM_PREPARED] = "vm-source-prepared",
    [CMP_CRASH_VM_COPIED] = "vm-source-copied",
    [CMP_CRASH_VM_SENDING] = "vm-source-sending",
    [CMP_CRASH_VM_SENT] = "vm-source-sent",
    [CMP_CRASH_VM_HANDED_OVER] = "vm-source-handed-over",
    [CMP_CRASH_VM_ENDED] = "vm-source-ended",
    [CMP_CRASH_VM_TAKEN_BACK] = "vm-source-taken-back",
    [CMP_CRASH_VM_GOES_ON] = "vm-source-goes-on",
    [CMP_CRASH_VM_LISTENING] = "vm-target-listening",
    [CMP_CRASH_VM_MADE] = "vm-target-made",
    [CMP_CRASH_VM_WAITING] = "vm-target-waiting",
    [CMP_CRASH_VM_WHOLE] = "vm-target-whole",
    [CMP_CRASH_VM_OWNED] = "vm-target-owned",
    [CMP_CRASH_VM_RUNNING] = "vm-target-running",
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
    size_t word = strcspn(text, " \n");
    bool hold = strncmp(text + word, " hold", 5) == 0;
    bool armed = word == strlen(name) && strncmp(text, name, word) == 0;
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
        (void)kill(getpid(), hold ? SIGSTOP : SIGKILL);
}
