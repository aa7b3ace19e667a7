/*
 * What networks Atoll makes on a host, and the steps from what is there to what is wanted.
 *
 * The interfaces file says what is wanted: a bridge with `auto` and without ports of the machine
 * (`bridge-ports none`) that does not exist is made; a bridge with physical ports is the host's own affair
 * (ifup brings it up) and only used. Words of ours in a bridge's stanza, which ifupdown leaves alone:
 *     atoll-nat yes                          guests reach the world behind the host's address
 *     atoll-dhcp-range 10.0.0.50 10.0.0.150  guests get addresses
 *     atoll-dhcp-lease 3600                  seconds (default 3600)
 *
 * A step is in the plan only when something is missing or wrong: what is right is never touched.
 */
#ifndef SDN_CORE_PLAN_H
#define SDN_CORE_PLAN_H

#include "core/interfaces.h"
#include "core/show.h"

enum { SDN_WISHES_MAX = 64, SDN_ADDRESSES_MAX = 8, SDN_STEPS_MAX = 1024, SDN_PORTS_MAX = 4096 };

/* A bridge that the file describes. */
struct sdn_wish {
    char name[SDN_NAME_MAX];
    struct sdn_address addresses[SDN_ADDRESSES_MAX];
    size_t address_count;
    uint32_t mtu; /* 0: the kernel's default */
    bool make;    /* ours to make if it is missing */
    bool nat;
    bool dhcp;
    struct sdn_address dhcp_first;
    struct sdn_address dhcp_last;
    uint32_t lease_seconds;
};

struct sdn_wishes {
    struct sdn_wish wishes[SDN_WISHES_MAX];
    size_t count;
    const char *problems[SDN_WISHES_MAX]; /* sentences: settings that cannot be followed */
    size_t problem_count;
};

/* Never fails: what cannot be followed is left out and named in problems. Texts live in the arena. */
void sdn_wishes_read(const struct sdn_file *file, struct atl_arena *arena, struct sdn_wishes *ret_wishes);

/* A guest's network interface, by its configuration. */
struct sdn_port {
    char name[SDN_NAME_MAX]; /* of the link on the host: "tap100i0", "veth101i0" */
    char bridge[SDN_NAME_MAX];
    bool link_down;
};

/* Adds the ports of one guest; text is its configuration. */
struct sdn_ports {
    struct sdn_port *ports;
    size_t count;
    size_t capacity;
};
void sdn_ports_read(const char *text, size_t length, uint32_t vmid, bool container, struct atl_arena *arena,
                    struct sdn_ports *ports);

/* What runs for a bridge's DHCP. */
struct sdn_dhcp_state {
    char bridge[SDN_NAME_MAX];
    const char *conf; /* text it was started with */
};

/*
 * Links that have no master, and since when. Whoever makes a guest's port (libvirt, liblxc) puts it into its
 * bridge himself, and fails if somebody else was quicker: only one that stays without for a while is ours to
 * attach.
 */
enum { SDN_LONE_MAX = 512 };
#define SDN_LONE_TIME (2 * ATL_SECOND)
struct sdn_lone {
    struct {
        int index;
        atl_ns since;
    } links[SDN_LONE_MAX];
    size_t count;
};
/* now: monotonic. Those past SDN_LONE_MAX are noted when there is room. */
void sdn_lone_note(struct sdn_lone *lone, const struct sdn_links *links, atl_ns now);

/* What is there. */
struct sdn_state {
    struct sdn_links links;
    const struct sdn_lone *lone; /* as noted at `now`, from these links */
    atl_ns now;
    struct sdn_address *addresses; /* of all links */
    int *address_links;            /* index of the link of each */
    size_t address_count;
    bool forwarding;  /* net.ipv4.ip_forward */
    const char *nat;  /* text of the table that is loaded and untouched since; NULL: none, or changed */
    bool nat_present; /* a table of that name is loaded */
    const struct sdn_dhcp_state *dhcp;
    size_t dhcp_count;
    const char *const *made; /* bridges we made, NULL-terminated */
};

enum sdn_step_kind {
    SDN_MAKE_BRIDGE,
    SDN_ADD_ADDRESS,
    SDN_LINK_UP,
    SDN_LINK_DOWN,
    SDN_ATTACH,
    SDN_FORWARD,
    SDN_LOAD_NAT,
    SDN_DROP_NAT,
    SDN_STOP_DHCP,
    SDN_START_DHCP,
    SDN_REMOVE_BRIDGE, /* one that we made and the file does not want any more */
    SDN_STEP_KINDS,
};

struct sdn_step {
    enum sdn_step_kind kind;
    const char *name;                  /* link or bridge */
    const char *bridge;                /* SDN_ATTACH */
    const struct sdn_address *address; /* SDN_ADD_ADDRESS */
    uint32_t mtu;                      /* SDN_MAKE_BRIDGE */
    const char *text;                  /* SDN_LOAD_NAT: table; SDN_START_DHCP: configuration */
};

struct sdn_plan {
    struct sdn_step steps[SDN_STEPS_MAX];
    size_t count;
    bool cut; /* there was more to do than fits: plan again after these */
};

/* Where dnsmasq's files go; the folders of them. */
struct sdn_dhcp_paths {
    const char *run;   /* "/run/atoll/sdn-agent" */
    const char *state; /* "/var/lib/atoll/sdn-agent" */
};

/* In the order to run. What needs a link that this plan makes comes with the next one. wishes, ports and
 * state are borrowed as long as the plan lives. */
void sdn_plan_make(const struct sdn_wishes *wishes, const struct sdn_ports *ports,
                   const struct sdn_state *state, const struct sdn_dhcp_paths *paths, struct atl_arena *arena,
                   struct sdn_plan *ret_plan);

const char *sdn_step_to_text(enum sdn_step_kind kind);

/* The nftables text that makes the table anew, or NULL when no bridge wants it. */
const char *sdn_nat_text(const struct sdn_wishes *wishes, struct atl_arena *arena);

/* dnsmasq's configuration for one bridge; link is the bridge's index, noted in it. */
const char *sdn_dhcp_text(const struct sdn_wish *wish, int link, const struct sdn_dhcp_paths *paths,
                          struct atl_arena *arena);

/* One lease of a lease file. */
struct sdn_lease {
    int64_t expires; /* wall clock, seconds; 0: never */
    char mac[18];
    char address[16];
    char hostname[64]; /* empty: none */
};
/* Reads dnsmasq's lease file; lines that are none are skipped. now: leases that ran out before are left out;
 * 0: all. Sorted by address. */
void sdn_leases_read(const char *text, size_t length, int64_t now, struct atl_arena *arena,
                     struct sdn_lease **ret_leases, size_t *ret_count);

#endif
