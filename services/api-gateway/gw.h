/* The gateway: HTTP on one side, the bus on the other. It decides nothing about permissions and keeps no
 * data. */
#ifndef GW_GW_H
#define GW_GW_H

#include "core/answer.h"
#include "core/credential.h"
#include "core/params.h"
#include "core/router.h"
#include "core/sessions.h"
#include "core/status.h"
#include "core/throttle.h"
#include "http/http.h"
#include "io/bus.h"
#include "io/directory.h"

enum { GW_WORKING_MAX = 4096, GW_DELAYED_MAX = 1024 };

struct gw_options {
    struct atl_loop *loop;
    struct atl_bus *bus;
    const char *node;                      /* this machine's name */
    const struct atl_directory *directory; /* which other nodes there are; NULL: none */
    bool associate;                        /* no node: nobody on this host answers */
    const char *openapi_file;              /* served as /openapi.json; NULL or absent: 404 */
    atl_ns refusal_delay;                  /* before each 401 */
};

struct gw {
    struct gw_options options;
    struct atl_arena arena; /* the router */
    struct gw_router *router;
    struct gw_sessions *sessions;
    size_t working; /* requests between on_head and their answer */
    size_t delayed; /* refusals that wait */
    size_t relays;  /* uploads to other nodes, each with a thread */
    struct gw_throttle throttle;
};

/* Texts of the options are borrowed until gw_free(). contract: as atl_contract. */
struct gw *gw_new(const struct gw_options *options, const struct atl_service *const *contract);
void gw_free(struct gw *gw); /* after gw_http_free() */

/* To be given to gw_http_new(). */
struct gw_http_handler gw_handler(struct gw *gw);

/* --- shared by the gateway's own files --- */

struct gw_upload;

/* One API request. Lives in its request's arena. */
struct gw_work {
    struct gw *gw;
    struct gw_request *request;
    enum gw_form form;
    enum atl_verb verb;
    struct gw_match match;
    const char *api_path; /* behind the prefix */
    const char *node;     /* another node that is meant, or NULL: this one */
    const char *user;     /* for the audit log: "admin@pve", "admin@pve!token", or the name that logs in */
    struct gw_credential credential;
    uint8_t key[GW_DIGEST_SIZE]; /* of the credential */
    const uint8_t *assertion;
    size_t assertion_size;
    bool was_cached;                    /* the assertion came from the table of sessions */
    bool retried;                       /* a refused one was replaced once */
    void (*then)(struct gw_work *work); /* once it is known who asks */
    struct gw_pending *pending;         /* the call on the bus */
    struct atl_timer *delay;
    struct gw_upload *upload;
    struct gw_params params;
    struct gw_failure failure; /* that waits for its delay */
};

/* A call on the bus, which may outlive the request: what changes things goes on when its client leaves. */
struct gw_pending {
    struct gw *gw;
    struct gw_work *work; /* NULL: nobody waits any more */
    struct atl_call *call;
    void (*done)(struct gw_work *work, const struct atl_reply *reply);
};

/* Finds out who asks; then calls `then`, or answers. */
void gw_authenticate(struct gw_work *work, void (*then)(struct gw_work *work));

/* Calls a method with the work's assertion; done is called unless the client left. */
void gw_call(struct gw_work *work, const struct atl_rpc *rpc, const ProtobufCMessage *input,
             void (*done)(struct gw_work *work, const struct atl_reply *reply));
/* As gw_call for the gateway itself: without a user. */
void gw_call_own(struct gw_work *work, const struct atl_rpc *rpc, const ProtobufCMessage *input,
                 void (*done)(struct gw_work *work, const struct atl_reply *reply));

/* The params are complete and the caller is known: decodes, calls, answers. */
void gw_dispatch(struct gw_work *work);

/* Splits the body by its content type; answers and says false when it cannot be read. */
bool gw_collect_params(struct gw_work *work, const struct gw_params *body);

/* "localhost" is this node; another node must be one of the cluster: else answers and says false. */
bool gw_settle_node(struct gw_work *work);

void gw_fail(struct gw_work *work, const struct gw_failure *failure);
ATL_PRINTF(3, 4) void gw_fail_text(struct gw_work *work, int status, const char *format, ...);
void gw_fail_reply(struct gw_work *work, const struct atl_reply *reply);
void gw_answer(struct gw_work *work, const struct atl_rpc *rpc, const struct atl_reply *reply);

/* Takes a multipart body over: called when the head of a request for an upload method is there. */
void gw_upload_begin(struct gw_work *work);
void gw_upload_free(struct gw_work *work); /* the client left, or it is answered; NULL upload is fine */

/* One line for each request that may change something: who, what, from where, how it ended. Never a
 * parameter. */
void gw_audit(const struct gw_work *work, int status);

#endif
