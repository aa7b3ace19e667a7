/* Whose a guest is that was moving, when something broke. Pure. */
#ifndef CMP_CORE_MOVE_JUDGE_H
#define CMP_CORE_MOVE_JUDGE_H

#include "pure/base.h"

/* The guest's file at the source, as the tree has it now. */
enum cmp_move_file {
    CMP_FILE_ABSENT,
    CMP_FILE_LOCKED, /* with lock: migrate */
    CMP_FILE_FREE,   /* without: it was put in order already */
};

enum cmp_move_verdict {
    CMP_MOVE_SOURCE, /* the guest is the source's: the target destroys its copy, the source goes on */
    CMP_MOVE_TARGET, /* the target's: the source destroys its copy */
    CMP_MOVE_OPEN, /* a hand-over may still be under way: it is the source's once the file was written anew */
};

/* The tree decides alone: the hand-over is one transaction that holds only for the revision that the source
 * has locked, and takes the file away from there. */
enum cmp_move_verdict cmp_move_judge(enum cmp_move_file source, bool at_target);

#endif
