/* The difference between what is wanted and what is there; see plan.h. */
#include "core/plan.h"

#include <stdio.h>
#include <string.h>

const char *sdn_step_to_text(enum sdn_step_kind kind)
{
    static const char *const texts[SDN_STEP_KINDS] = {
        [SDN_MAKE_BRIDGE] = "make-bridge",
        [SDN_ADD_ADDRESS] = "add-address",
        [SDN_LINK_UP] = "link-up",
        [SDN_LINK_DOWN] = "link-down",
        [SDN_ATTACH] = "attach",
        [SDN_FORWARD] = "forward",
        [SDN_LOAD_NAT] = "load-nat",
        [SDN_DROP_NAT] = "drop-nat",
        [SDN_STOP_DHCP] = "stop-dhcp",
        [SDN_START_DHCP] = "start-dhcp",
        [SDN_REMOVE_BRIDGE] = "remove-bridge",
    };
    atl_assert(kind < SDN_STEP_KINDS);
    return texts[kind];
}

static void add(struct sdn_plan *plan, struct sdn_step step)
{
    if (plan->count < SDN_STEPS_MAX)
        plan->steps[plan->count++] = step;
    else
        plan->cut = true;
}

static const struct sdn_wish *find_wish(const struct sdn_wishes *wishes, const char *name)
{
    for (size_t i = 0; i < wishes->count; i++) {
        if (strcmp(wishes->wishes[i].name, name) == 0)
            return &wishes->wishes[i];
    }
    return NULL;
}

static bool made_by_us(const struct sdn_state *state, const char *name)
{
    for (const char *const *at = state->made; at != NULL && *at != NULL; at++) {
        if (strcmp(*at, name) == 0)
            return true;
    }
    return false;
}

static bool has_address(const struct sdn_state *state, int link, const struct sdn_address *wanted)
{
    size_t size = wanted->family == SDN_INET ? 4 : 16;
    for (size_t i = 0; i < state->address_count; i++) {
        const struct sdn_address *address = &state->addresses[i];
        if (state->address_links[i] == link && address->family == wanted->family &&
            address->prefix == wanted->prefix && memcmp(address->bytes, wanted->bytes, size) == 0)
            return true;
    }
    return false;
}

static void plan_bridge(const struct sdn_wish *wish, const struct sdn_state *state, struct sdn_plan *plan)
{
    const struct sdn_link *link = sdn_links_find(&state->links, wish->name);
    if (link == NULL && wish->make)
        add(plan, (struct sdn_step){.kind = SDN_MAKE_BRIDGE, .name = wish->name, .mtu = wish->mtu});
    /* A bridge that somebody else made is his: its addresses are not ours to add. */
    if ((link == NULL && !wish->make) || (link != NULL && !made_by_us(state, wish->name)))
        return;
    for (size_t i = 0; i < wish->address_count; i++) {
        if (link == NULL || !has_address(state, link->index, &wish->addresses[i]))
            add(plan, (struct sdn_step){
                          .kind = SDN_ADD_ADDRESS, .name = wish->name, .address = &wish->addresses[i]});
    }
    if (link == NULL || !link->up)
        add(plan, (struct sdn_step){.kind = SDN_LINK_UP, .name = wish->name});
}

static bool noted(const struct sdn_lone *lone, int index, atl_ns *ret_since)
{
    for (size_t i = 0; i < lone->count; i++) {
        if (lone->links[i].index == index) {
            *ret_since = lone->links[i].since;
            return true;
        }
    }
    return false;
}

void sdn_lone_note(struct sdn_lone *lone, const struct sdn_links *links, atl_ns now)
{
    const struct sdn_lone before = *lone;
    lone->count = 0;
    for (size_t i = 0; i < links->count && lone->count < SDN_LONE_MAX; i++) {
        const struct sdn_link *link = &links->links[i];
        atl_ns since = now;
        if (link->master != 0)
            continue;
        (void)noted(&before, link->index, &since);
        lone->links[lone->count].index = link->index;
        lone->links[lone->count++].since = since;
    }
}

static bool is_left_alone(const struct sdn_state *state, const struct sdn_link *link)
{
    atl_ns since = 0;
    return link->master == 0 && noted(state->lone, link->index, &since) &&
           state->now - since >= SDN_LONE_TIME;
}

static void plan_port(const struct sdn_port *port, const struct sdn_wishes *wishes,
                      const struct sdn_state *state, struct sdn_plan *plan)
{
    const struct sdn_link *link = sdn_links_find(&state->links, port->name);
    const struct sdn_link *bridge = sdn_links_find(&state->links, port->bridge);
    const struct sdn_wish *wish = find_wish(wishes, port->bridge);
    bool coming = bridge == NULL && wish != NULL && wish->make;
    if (link == NULL || (bridge == NULL && !coming))
        return; /* the guest does not run, or its bridge is not known here */
    /* Only a port that was left without a master: one that is elsewhere was put there by somebody, and to a
     * bridge that is not there nobody else can be about to attach it. */
    if ((coming && link->master == 0) || is_left_alone(state, link))
        add(plan, (struct sdn_step){.kind = SDN_ATTACH, .name = port->name, .bridge = port->bridge});
    if (port->link_down && link->up)
        add(plan, (struct sdn_step){.kind = SDN_LINK_DOWN, .name = port->name});
    if (!port->link_down && !link->up)
        add(plan, (struct sdn_step){.kind = SDN_LINK_UP, .name = port->name});
}

static const struct sdn_dhcp_state *find_dhcp(const struct sdn_state *state, const char *bridge)
{
    for (size_t i = 0; i < state->dhcp_count; i++) {
        if (strcmp(state->dhcp[i].bridge, bridge) == 0)
            return &state->dhcp[i];
    }
    return NULL;
}

/* A server listens on one link: when the bridge is another than it was started for, it is started again. */
static void plan_dhcp(const struct sdn_wish *wish, const struct sdn_state *state,
                      const struct sdn_dhcp_paths *paths, struct atl_arena *arena, struct sdn_plan *plan)
{
    const struct sdn_dhcp_state *running = find_dhcp(state, wish->name);
    const struct sdn_link *link = sdn_links_find(&state->links, wish->name);
    const char *text = wish->dhcp && link != NULL ? sdn_dhcp_text(wish, link->index, paths, arena) : NULL;
    bool right = running != NULL && text != NULL && strcmp(running->conf, text) == 0;
    if (running != NULL && !right)
        add(plan, (struct sdn_step){.kind = SDN_STOP_DHCP, .name = running->bridge});
    if (text != NULL && !right)
        add(plan, (struct sdn_step){.kind = SDN_START_DHCP, .name = wish->name, .text = text});
}

static void plan_nat(const struct sdn_wishes *wishes, const struct sdn_state *state, struct atl_arena *arena,
                     struct sdn_plan *plan)
{
    const char *text = sdn_nat_text(wishes, arena);
    if (text == NULL) {
        if (state->nat_present)
            add(plan, (struct sdn_step){.kind = SDN_DROP_NAT});
        return;
    }
    if (!state->forwarding)
        add(plan, (struct sdn_step){.kind = SDN_FORWARD});
    if (state->nat == NULL || strcmp(state->nat, text) != 0)
        add(plan, (struct sdn_step){.kind = SDN_LOAD_NAT, .text = text});
}

/* Bridges and servers that nobody wants any more. A bridge that still carries guests stays. */
static void plan_removals(const struct sdn_wishes *wishes, const struct sdn_state *state,
                          struct sdn_plan *plan)
{
    for (size_t i = 0; i < state->dhcp_count; i++) {
        if (find_wish(wishes, state->dhcp[i].bridge) == NULL)
            add(plan, (struct sdn_step){.kind = SDN_STOP_DHCP, .name = state->dhcp[i].bridge});
    }
    for (const char *const *at = state->made; at != NULL && *at != NULL; at++) {
        const struct sdn_link *link = sdn_links_find(&state->links, *at);
        bool carries = false;
        for (size_t i = 0; link != NULL && i < state->links.count; i++)
            carries = carries || state->links.links[i].master == link->index;
        if (link != NULL && !carries && find_wish(wishes, *at) == NULL)
            add(plan, (struct sdn_step){.kind = SDN_REMOVE_BRIDGE, .name = *at});
    }
}

void sdn_plan_make(const struct sdn_wishes *wishes, const struct sdn_ports *ports,
                   const struct sdn_state *state, const struct sdn_dhcp_paths *paths, struct atl_arena *arena,
                   struct sdn_plan *ret_plan)
{
    ret_plan->count = 0;
    ret_plan->cut = false;
    plan_removals(wishes, state, ret_plan);
    for (size_t i = 0; i < wishes->count; i++)
        plan_bridge(&wishes->wishes[i], state, ret_plan);
    for (size_t i = 0; i < ports->count; i++)
        plan_port(&ports->ports[i], wishes, state, ret_plan);
    plan_nat(wishes, state, arena, ret_plan);
    for (size_t i = 0; i < wishes->count; i++)
        plan_dhcp(&wishes->wishes[i], state, paths, arena, ret_plan);
}
