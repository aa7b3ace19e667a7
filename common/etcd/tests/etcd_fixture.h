/* Real etcd for tests: one or three members on loopback, with or without TLS, in a folder of their own. */
#ifndef ETCD_FIXTURE_H
#define ETCD_FIXTURE_H

#include "grpc/grpc.h"
#include "io/process.h"

enum { ETCD_MEMBERS_MAX = 5 };

struct etcd_member {
    char name[8];
    char endpoint[32]; /* of clients */
    char client_url[48];
    char peer_url[48];
    bool learner;                /* joins a cluster that is there */
    struct atl_process *process; /* NULL: does not run */
    bool ended;
};

struct etcd_fixture {
    struct atl_loop *loop;
    char dir[64];
    bool tls;
    uint64_t quota_bytes; /* 0: etcd's own */
    struct etcd_member members[ETCD_MEMBERS_MAX];
    size_t count;
    char ca[96];
    char cert[96];
    char key[96];
    struct atl_grpc_tls files; /* of a client */
};

/* Ends the test as skipped where there is no etcd. Waits until a member answers. */
struct etcd_fixture *etcd_fixture_new(struct atl_loop *loop, size_t count, bool tls);
void etcd_fixture_free(struct etcd_fixture **fixture); /* kills what runs, removes the folder */
/* Makes the next member's addresses; it is not started. */
struct etcd_member *etcd_fixture_add(struct etcd_fixture *fixture);
void etcd_fixture_start(struct etcd_fixture *fixture, size_t member);
void etcd_fixture_kill(struct etcd_fixture *fixture, size_t member); /* SIGKILL, and waits for its end */
void etcd_fixture_pause(struct etcd_fixture *fixture, size_t member);
void etcd_fixture_resume(struct etcd_fixture *fixture, size_t member);
/* Options for a channel to all members. */
struct atl_grpc_options etcd_fixture_options(struct etcd_fixture *fixture,
                                             const char *endpoints[ETCD_MEMBERS_MAX]);
/* Steps the loop until *done, at most 60 s; false: it did not come. */
bool etcd_fixture_wait(struct etcd_fixture *fixture, const bool *done);
/* The index of the leader; asks each member. */
size_t etcd_fixture_leader(struct etcd_fixture *fixture);

#endif
