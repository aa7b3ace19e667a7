/*
 * /etc/network/interfaces, as ifupdown and ifupdown2 write it: which interfaces the host has and how they
 * come up.
 *
 * Reading never fails on a line: what is not understood is kept, in order, so that the file can be shown and
 * written back. The host comes up by this file without Atoll; we read it, and act on the words that begin
 * with "atoll-".
 */
#ifndef SDN_CORE_INTERFACES_H
#define SDN_CORE_INTERFACES_H

#include "pure/arena.h"
#include "pure/error.h"

enum {
    SDN_NAME_MAX = 16,      /* of an interface, with its NUL: as the kernel's IFNAMSIZ */
    SDN_TEXT_MAX = 1 << 20, /* bytes of a file */
    SDN_IFACES_MAX = 1024,
    SDN_OPTIONS_MAX = 512, /* of one stanza */
};

enum sdn_family { SDN_INET, SDN_INET6, SDN_FAMILIES };

struct sdn_option {
    const char *key;   /* as written: "bridge-ports" and "bridge_ports" are the same to sdn_stanza_get() */
    const char *value; /* rest of the line, without outer blanks */
};

/* One `iface NAME FAMILY METHOD` with its lines. An interface may have several of one family. */
struct sdn_stanza {
    enum sdn_family family;
    const char *method; /* "static", "dhcp", "manual", "auto", "loopback" */
    struct sdn_option *options;
    size_t option_count;
    const char
        *comments; /* lines that began with '#', without it, each with its newline; "" when there are none */
};

struct sdn_iface {
    const char *name;
    bool autostart; /* `auto` or `allow-hotplug` names it */
    bool described; /* it has a stanza */
    struct sdn_stanza *stanzas;
    size_t stanza_count;
};

struct sdn_file {
    struct sdn_iface *ifaces; /* in the order in which they are first named */
    size_t count;
    const char *
        *sources; /* patterns of `source` and `source-directory` lines ("/etc/network/interfaces.d/ *") */
    size_t source_count;
    const char **unknown; /* lines at the top that are none of the above, in order */
    size_t unknown_count;
    size_t dropped; /* stanzas and lines past the limits, or with a name that no interface can have */
    size_t iface_capacity;
    size_t source_capacity;
    size_t unknown_capacity;
};

/* Reads one file's text into `file` (begin with zero; sourced files are read into the same one). Errors:
 * ATL_E_LIMIT it is longer than SDN_TEXT_MAX; ATL_E_INVALID it holds a NUL. */
ATL_MUST_CHECK enum atl_code sdn_interfaces_read(const char *text, size_t length, struct atl_arena *arena,
                                                 struct sdn_file *file, struct atl_error *err);

/* NULL: there is none. */
const struct sdn_iface *sdn_file_find(const struct sdn_file *file, const char *name);

/* The first value of that key ('-' and '_' are the same), or NULL. */
const char *sdn_stanza_get(const struct sdn_stanza *stanza, const char *key);
/* The same over all stanzas of the interface. */
const char *sdn_iface_get(const struct sdn_iface *iface, const char *key);

/* First stanza of that family, or NULL. */
const struct sdn_stanza *sdn_iface_stanza(const struct sdn_iface *iface, enum sdn_family family);

/* 1..15 bytes, no '/', no blank, no control byte, not "." and "..". */
bool sdn_name_ok(const char *name, size_t length);

/* yes, on, true, 1 */
bool sdn_word_is_yes(const char *word);

/*
 * "10.0.0.1/24", or an address and a netmask ("255.255.255.0" or "24"; NULL: /32 or /128).
 * Errors: ATL_E_INVALID.
 */
struct sdn_address {
    enum sdn_family family;
    uint8_t bytes[16]; /* network order; 4 of IPv4 */
    uint8_t prefix;    /* bits */
    char text[46];     /* without the prefix */
};
ATL_MUST_CHECK enum atl_code sdn_address_parse(const char *address, const char *netmask,
                                               struct sdn_address *ret_address, struct atl_error *err);

#endif
