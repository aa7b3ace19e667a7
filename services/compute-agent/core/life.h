/* What a command to a guest means in each of its states. */
#ifndef CMP_CORE_LIFE_H
#define CMP_CORE_LIFE_H

#include "pure/error.h"

enum cmp_state { CMP_STOPPED, CMP_RUNNING, CMP_PAUSED, CMP_STATES };
enum cmp_command {
    CMP_START,
    CMP_STOP,
    CMP_SHUTDOWN,
    CMP_REBOOT,
    CMP_RESET,
    CMP_SUSPEND,
    CMP_RESUME,
    CMP_COMMANDS,
};

/* What is to be done. DONE: it is so already; the task ends well with a line in its log. */
enum cmp_deed { CMP_DO, CMP_DONE, CMP_REFUSE, CMP_RESUME_FIRST };

const char *cmp_state_to_text(enum cmp_state state);       /* "stopped", "running", "paused" */
const char *cmp_command_to_text(enum cmp_command command); /* "start" ... */

enum cmp_deed cmp_life(enum cmp_state state, enum cmp_command command);

/* The sentence for DONE and REFUSE ("VM 100 not running"); buffer of 128 bytes. */
void cmp_life_text(enum cmp_state state, enum cmp_command command, uint32_t vmid, char text[128]);

#endif
