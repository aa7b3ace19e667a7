/* Where a migration can be cut off. */
#include "move_crash.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static const char *const names[MOVE_CRASH_POINTS] = {
    [MOVE_CRASH_REACHED] = "source-reached", [MOVE_CRASH_CHECKED] = "source-checked",
    [MOVE_CRASH_LOCKED] = "source-locked",   [MOVE_CRASH_PREPARED] = "source-prepared",
    [MOVE_CRASH_COPIED] = "source-copied",   [MOVE_CRASH_SENDING] = "source-sending",
    [MOVE_CRASH_SENT] = "source-sent",       [MOVE_CRASH_HANDED] = "source-handed",
    [MOVE_CRASH_ENDED] = "source-ended",     [MOVE_CRASH_LISTENING] = "target-listening",
    [MOVE_CRASH_MADE] = "target-made",       [MOVE_CRASH_WAITING] = "target-waiting",
    [MOVE_CRASH_WHOLE] = "target-whole",     [MOVE_CRASH_OWNED] = "target-owned",
    [MOVE_CRASH_RUNNING] = "target-running",
};

void move_crash_at(const struct work *work, enum move_crash_point point)
{
    const char *name = work->spec->move->crash_file;
    char text[64] = "";
    if (name == NULL)
        return;
    ATL_FREE_AT_EXIT char *path = atl_format("%s/compute-agent/%s", atl_task_state_dir(work->task), name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t got = read(fd, text, sizeof text - 1);
    (void)close(fd); /* was read only */
    size_t length = strcspn(text, " \n");
    if (got <= 0 || strlen(names[point]) != length || strncmp(text, names[point], length) != 0)
        return;
    (void)unlink(path);
    (void)kill(getpid(), strncmp(text + length, " hold", 5) == 0 ? SIGSTOP : SIGKILL);
}
