/* Whose a guest is that was moving. */
#include "core/move_judge.h"

enum cmp_move_verdict cmp_move_judge(enum cmp_move_file source, bool at_target)
{
    if (source == CMP_FILE_LOCKED)
        return CMP_MOVE_OPEN;
    if (source == CMP_FILE_FREE)
        return CMP_MOVE_SOURCE;
    return at_target ? CMP_MOVE_TARGET
                     : CMP_MOVE_SOURCE; /* nowhere: it was removed; the target has no claim */
}
