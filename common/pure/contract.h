/*
 * The tables that tools/protoc-gen-atoll writes beside protobuf-c's descriptors: what every message, field
 * and method of the contract is outside. All of it is static const data; nobody but the plugin makes it.
 */
#ifndef ATL_PURE_CONTRACT_H
#define ATL_PURE_CONTRACT_H

#include <protobuf-c/protobuf-c.h>

#include "pure/base.h"

enum atl_kind {
    ATL_KIND_BOOL,
    ATL_KIND_INT,  /* int32, int64 */
    ATL_KIND_UINT, /* uint32, uint64 */
    ATL_KIND_DOUBLE,
    ATL_KIND_STRING,
    ATL_KIND_BYTES,
    ATL_KIND_MESSAGE,
};

enum atl_style { /* as Text.Style in options.proto */
                 ATL_STYLE_OBJECT,
                 ATL_STYLE_PROPERTY,
                 ATL_STYLE_VALUE,
                 ATL_STYLE_LIST,
                 ATL_STYLE_NOTHING,
                 ATL_STYLE_MAP,
                 ATL_STYLE_SLOT,
};

enum atl_field_flag {
    ATL_F_REQUIRED = 1 << 0,
    ATL_F_REPEATED = 1 << 1,
    ATL_F_NUMBERED = 1 << 2, /* repeated slot messages {index, value}; sub is the slot's table */
    ATL_F_INLINE = 1 << 3,   /* the fields of sub stand beside ours */
    ATL_F_DEFAULT_KEY = 1 << 4,
    ATL_F_SECRET = 1 << 5,
    ATL_F_UNBUILT = 1 << 6,
    ATL_F_AS_STRING = 1 << 7,
    ATL_F_RAW_JSON = 1 << 8,
    ATL_F_ONLY_IN = 1 << 9,
    ATL_F_PATH = 1 << 10, /* a path parameter of its method */
    ATL_F_HAS_MIN = 1 << 11,
    ATL_F_HAS_MAX = 1 << 12,
    ATL_F_JSON_BOOL = 1 << 13,
};

struct atl_message;

struct atl_field {
    const char *name;     /* external */
    const char *summary;  /* may be NULL, as all texts below */
    const char *fallback; /* default, as text */
    const char *pattern;  /* Perl syntax, whole value */
    const char *format;   /* name of a check in format.h */
    const char *needs;    /* external name of another parameter ("requires") */
    const char *key_alias;
    const char *const *values;  /* NULL-terminated closed set */
    const char *const *aliases; /* NULL-terminated */
    const struct atl_message *sub;
    double min;
    double max;
    uint32_t min_length;
    uint32_t max_length; /* 0: no limit of its own */
    uint32_t max_index;
    uint32_t flags;
    uint16_t index; /* into descriptor->fields */
    uint8_t kind;   /* enum atl_kind */
    char separator; /* of a repeated scalar that is one text; 0: a real array */
};

struct atl_message {
    const char *name; /* "atoll.qemu.v1.Config" */
    const ProtobufCMessageDescriptor *descriptor;
    const struct atl_field *fields; /* in the order of the proto */
    uint32_t count;
    uint8_t style; /* enum atl_style */
};

enum atl_verb { ATL_GET, ATL_POST, ATL_PUT, ATL_DELETE, ATL_NO_VERB };

enum atl_rpc_flag {
    ATL_R_NO_TOKEN = 1 << 0,
    ATL_R_UPLOAD = 1 << 1,
    ATL_R_IDEMPOTENT = 1 << 2,
    ATL_R_TASK = 1 << 3,
};

struct atl_perm {
    const char *path;       /* with {parameters}; NULL: none of its own */
    const char *const *any; /* NULL-terminated, or NULL */
    const char *const *all;
    const struct atl_perm *const *or_; /* NULL-terminated, or NULL */
    const struct atl_perm *const *and_;
    const char *const *when;
    const char *self;
    bool world;
    bool user;
    bool code;
};

struct atl_service;

struct atl_rpc {
    const char *name; /* "atoll.qemu.v1.Qemu.Start": the method on the bus */
    const char *path; /* "/nodes/{node}/qemu/{vmid}/status/start", or NULL: bus only */
    const char *summary;
    const char *cli;
    const struct atl_service *service;
    const struct atl_message *input;
    const struct atl_message *output;
    const struct atl_perm *perm; /* NULL: users are not admitted */
    const char *const *callers;  /* NULL-terminated: services that may call without a user, or NULL */
    uint32_t flags;
    uint32_t deadline_ms; /* never 0 */
    uint16_t index;       /* into service->descriptor->methods */
    uint8_t verb;         /* enum atl_verb */
};

struct atl_service {
    const char *name;   /* "atoll.qemu.v1.Qemu" */
    const char *server; /* "compute-agent" */
    const ProtobufCServiceDescriptor *descriptor;
    const struct atl_rpc *rpcs;
    uint32_t count;
};

/* Every service of the contract, NULL-terminated; generated. */
extern const struct atl_service *const atl_contract[];

/* The method of that bus name, or NULL. */
const struct atl_rpc *atl_contract_rpc(const char *name);

/* The field of that external name or alias (numbered: of the base name), looking into inlined messages too;
 * NULL if there is none. */
const struct atl_field *atl_message_field(const struct atl_message *message, const char *name);

#endif
