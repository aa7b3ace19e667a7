/* What a command to a guest means in each of its states. */
#include "core/life.h"

#include <stdio.h>

static const enum cmp_deed deeds[CMP_STATES][CMP_COMMANDS] = {
    [CMP_STOPPED] =
        {
            [CMP_START] = CMP_DO,
            [CMP_STOP] = CMP_DONE,
            [CMP_SHUTDOWN] = CMP_DONE,
            [CMP_REBOOT] = CMP_REFUSE,
            [CMP_RESET] = CMP_REFUSE,
            [CMP_SUSPEND] = CMP_REFUSE,
            [CMP_RESUME] = CMP_REFUSE,
        },
    [CMP_RUNNING] =
        {
            [CMP_START] = CMP_DONE,
            [CMP_STOP] = CMP_DO,
            [CMP_SHUTDOWN] = CMP_DO,
            [CMP_REBOOT] = CMP_DO,
            [CMP_RESET] = CMP_DO,
            [CMP_SUSPEND] = CMP_DO,
            [CMP_RESUME] = CMP_DONE,
        },
    [CMP_PAUSED] =
        {
            [CMP_START] = CMP_RESUME_FIRST, /* starting what sleeps means waking it */
            [CMP_STOP] = CMP_DO,
            [CMP_SHUTDOWN] = CMP_RESUME_FIRST, /* a sleeping guest cannot hear */
            [CMP_REBOOT] = CMP_RESUME_FIRST,
            [CMP_RESET] = CMP_DO,
            [CMP_SUSPEND] = CMP_DONE,
            [CMP_RESUME] = CMP_DO,
        },
};

const char *cmp_state_to_text(enum cmp_state state)
{
    static const char *const names[CMP_STATES] = {"stopped", "running", "paused"};
    atl_assert(state < CMP_STATES);
    return names[state];
}

const char *cmp_command_to_text(enum cmp_command command)
{
    static const char *const names[CMP_COMMANDS] = {"start", "stop",    "shutdown", "reboot",
                                                    "reset", "suspend", "resume"};
    atl_assert(command < CMP_COMMANDS);
    return names[command];
}

enum cmp_deed cmp_life(enum cmp_state state, enum cmp_command command)
{
    atl_assert(state < CMP_STATES);
    atl_assert(command < CMP_COMMANDS);
    return deeds[state][command];
}

void cmp_life_text(enum cmp_state state, enum cmp_command command, uint32_t vmid, char text[128])
{
    enum cmp_deed deed = cmp_life(state, command);
    if (deed == CMP_REFUSE)
        (void)snprintf(text, 128, "VM %" PRIu32 " not running", vmid);
    else
        (void)snprintf(text, 128, "VM %" PRIu32 " is %s already, nothing to do", vmid,
                       cmp_state_to_text(state));
}
