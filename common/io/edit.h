/*
 * Changes of files of the tree that a request asks for: made from the newest copy, again when somebody else
 * was faster, answered when our own copy has them, so that the caller's next request finds what this one
 * wrote. All functions belong to the loop's thread.
 */
#ifndef ATL_IO_EDIT_H
#define ATL_IO_EDIT_H

#include "io/mirror.h"

struct atl_edits;

struct atl_edits *atl_edits_new(struct atl_bus *bus, struct atl_mirror *mirror);
/* Before the mirror; requests that wait end with the bus. */
void atl_edits_free(struct atl_edits **edits);
/* The mirror has moved: to be called on each batch. */
void atl_edits_moved(struct atl_edits *edits);

/* Puts the transaction together from what the mirror says now, with compares of all it was made from; none of
 * its operations: there is nothing to do. `user` is the owner of the edit. What fails is the answer. */
typedef enum atl_code atl_edit_fn(struct atl_request *request, const ProtobufCMessage *input,
                                  struct atl_txn *txn, void *user, struct atl_errors *errors,
                                  struct atl_error *err);

struct atl_edit {
    struct atl_request *request;
    const ProtobufCMessage *input;  /* of the request */
    const ProtobufCMessage *output; /* the answer; lives as long as the request */
    atl_edit_fn *make;
    void *user;
};
/* Answers the request, sooner or later. */
void atl_edit_begin(struct atl_edits *edits, const struct atl_edit *edit);

#endif
