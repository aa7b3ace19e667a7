/* Where create, join, removal and the change of secrets can be cut off. */
#include "cluster/crash.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const names[CFG_CRASH_POINTS] = {
    [CFG_CRASH_CREATE_WIPED] = "create-wiped",
    [CFG_CRASH_CREATE_FILES] = "create-files",
    [CFG_CRASH_CREATE_PLACES] = "create-places",
    [CFG_CRASH_CREATE_DECIDED] = "create-decided",
    [CFG_CRASH_MOVE_STARTED] = "move-started",
    [CFG_CRASH_MOVE_CLEANED] = "move-cleaned",
    [CFG_CRASH_MOVE_LOADING] = "move-loading",
    [CFG_CRASH_MOVE_LOADED] = "move-loaded",
    [CFG_CRASH_MOVE_VERIFIED] = "move-verified",
    [CFG_CRASH_MOVE_SWITCHED] = "move-switched",
    [CFG_CRASH_MOVE_MEMBER] = "move-member",
    [CFG_CRASH_JOIN_WIPED] = "join-wiped",
    [CFG_CRASH_JOIN_ANSWERED] = "join-answered",
    [CFG_CRASH_JOIN_FILES] = "join-files",
    [CFG_CRASH_JOIN_DECIDED] = "join-decided",
    [CFG_CRASH_JOIN_ETCD] = "join-etcd",
    [CFG_CRASH_JOIN_VOTE] = "join-vote",
    [CFG_CRASH_BRING_STARTED] = "bring-started",
    [CFG_CRASH_BRING_STORED] = "bring-stored",
    [CFG_CRASH_BRING_MEMBER] = "bring-member",
    [CFG_CRASH_ADMIT_LEARNER] = "admit-learner",
    [CFG_CRASH_ADMIT_RECORDED] = "admit-recorded",
    [CFG_CRASH_ADMIT_PROMOTED] = "admit-promoted",
    [CFG_CRASH_REMOVE_MEMBER] = "remove-member",
    [CFG_CRASH_REMOVE_STORED] = "remove-stored",
    [CFG_CRASH_ROTATE_MADE] = "rotate-made",
    [CFG_CRASH_ROTATE_SPREAD] = "rotate-spread",
    [CFG_CRASH_ROTATE_USED] = "rotate-used",
    [CFG_CRASH_ROTATE_RESEALED] = "rotate-resealed",
    [CFG_CRASH_ROTATE_DROPPED] = "rotate-dropped",
    [CFG_CRASH_WITNESS_LEARNER] = "witness-learner",
    [CFG_CRASH_WITNESS_RECORDED] = "witness-recorded",
    [CFG_CRASH_WITNESS_PROMOTED] = "witness-promoted",
    [CFG_CRASH_WITNESS_REMOVED] = "witness-removed",
    [CFG_CRASH_WITNESS_FORGOTTEN] = "witness-forgotten",
    [CFG_CRASH_ENTER_ASKS] = "enter-asks",
    [CFG_CRASH_ENTER_ANSWERED] = "enter-answered",
    [CFG_CRASH_ENTER_FILES] = "enter-files",
    [CFG_CRASH_ENTER_COMPLETE] = "enter-complete",
    [CFG_CRASH_TAKE_EMPTIED] = "take-emptied",
    [CFG_CRASH_TAKE_COPIED] = "take-copied",
    [CFG_CRASH_TAKE_DECIDED] = "take-decided",
    [CFG_CRASH_TAKE_DONE] = "take-done",
    [CFG_CRASH_RENEW_CA] = "renew-ca",
    [CFG_CRASH_RENEW_CERTIFICATE] = "renew-certificate",
    [CFG_CRASH_QUIT_DECIDED] = "quit-decided",
};

const char *cfg_crash_point_to_text(enum cfg_crash_point point)
{
    atl_assert(point < CFG_CRASH_POINTS);
    atl_assert(names[point] != NULL);
    return names[point];
}

const char *cfg_crash_file(void)
{
    return getenv("ATOLL_CRASH_FILE");
}

void cfg_crash_at(const struct cfg_place *place, enum cfg_crash_point point)
{
    struct atl_buf text ATL_BUF_AT_EXIT = {0};
    if (place->crash_file == NULL || cfg_place_read(place, place->crash_file, &text, NULL) != ATL_OK ||
        text.length == 0)
        return;
    text.data[strcspn(text.data, "\n")] = '\0';
    if (strcmp(text.data, cfg_crash_point_to_text(point)) != 0)
        return;
    cfg_place_remove(place, place->crash_file);
    (void)kill(getpid(), SIGKILL); /* it does not come back */
}
