/* Making a cluster and taking it away. */
#include <stdlib.h>
#include <string.h>

#include "ha/place.h"
#include "sim.h"

void sim_init(struct sim *sim, const struct sim_options *options, uint64_t seed)
{
    *sim = (struct sim){.options = *options, .seed = seed, .leader = -1, .tick_ms = ATL_HA_TICK_MS};
    sim->random = seed * 2 + 1;
    sim->nemesis = ~seed;
    atoll__ha__v1__settings__init(&sim->settings);
}

struct sim_node *sim_node_find(struct sim *sim, const char *name)
{
    for (int i = 0; i < sim->node_count; i++)
        if (strcmp(sim->nodes[i].name, name) == 0)
            return &sim->nodes[i];
    return NULL;
}

struct sim_guest *sim_guest_find(struct sim *sim, const char *sid)
{
    for (int i = 0; i < sim->guest_count; i++)
        if (strcmp(sim->guests[i].sid, sid) == 0)
            return &sim->guests[i];
    return NULL;
}

struct sim_node *sim_node_add(struct sim *sim, const char *name)
{
    if (sim->node_count == SIM_NODES || sim_node_find(sim, name) != NULL || strlen(name) >= 24)
        return NULL;
    struct sim_node *node = &sim->nodes[sim->node_count];
    *node = (struct sim_node){.index = sim->node_count++,
                              .cpus = 8,
                              .memory = 32ULL << 30,
                              .voter = true,
                              .boot_takes = 20 * SIM_SECOND};
    (void)snprintf(node->name, sizeof node->name, "%s", name);
    sim_copy_clear(&node->copy);
    return node;
}

/* "vm:100"; on no node: NULL. Nothing of the tree is written yet. */
struct sim_guest *sim_guest_add(struct sim *sim, const char *sid, int node)
{
    bool ct = strncmp(sid, "ct:", 3) == 0;
    uint32_t vmid = (uint32_t)strtoul(sid + 3, NULL, 10);
    if (sim->guest_count == SIM_GUESTS || (!ct && strncmp(sid, "vm:", 3) != 0) || vmid == 0 || node < 0 ||
        strlen(sid) >= 16 || sim_guest_find(sim, sid) != NULL)
        return NULL;
    struct sim_guest *guest = &sim->guests[sim->guest_count++];
    *guest = (struct sim_guest){.vmid = vmid,
                                .there = true,
                                .cpus = 1,
                                .memory = 1ULL << 30,
                                .cpu_used = 0.2,
                                .memory_used = 512ULL << 20,
                                .start_takes = 500 * SIM_MS,
                                .move_takes = 3 * SIM_SECOND};
    (void)snprintf(guest->sid, sizeof guest->sid, "%s", sid);
    (void)snprintf(guest->type, sizeof guest->type, "%s", ct ? "ct" : "vm");
    atoll__ha__v1__resource__init(&guest->resource);
    guest->resource.type = guest->type;
    guest->resource.sid = guest->sid;
    guest->resource.state = atl_arena_strdup(&sim->arena, "started");
    char path[2 * SIM_NAME + 32];
    (void)snprintf(path, sizeof path, "%s%s", ATL_HA_SERVICE, sid);
    guest->key_service = sim_key(sim, path);
    for (int i = 0; i < sim->node_count; i++) {
        (void)snprintf(path, sizeof path, "nodes/%s/%s/%u.conf", sim->nodes[i].name,
                       ct ? "lxc" : "qemu-server", vmid);
        guest->key_file[i] = sim_key(sim, path);
    }
    (void)sim_tree_put(sim, sim->tree.keys[guest->key_file[node]].path, NULL);
    return guest;
}

/* etcd leads and corosync has met before anything else starts. */
void sim_begin(struct sim *sim)
{
    uint32_t all = 0;
    for (int i = 0; i < sim->node_count; i++)
        all |= 1U << i;
    for (int i = 0; i < sim->node_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        node->power = SIM_UP;
        node->members = all;
        node->quorate = true;
        sim_boot_name(node);
        sim_copy_apply(sim, node);
        for (int p = 0; p < SIM_PROCESSES; p++)
            sim_process_start(sim, node, (enum sim_process)p);
    }
}

void sim_done(struct sim *sim)
{
    for (int i = 0; i < sim->node_count; i++) {
        sim_crm_forget(sim, &sim->nodes[i]);
        sim_copy_clear(&sim->nodes[i].copy);
    }
    for (size_t i = 0; i < sim->heap_count; i++)
        sim_call_drop(sim, sim->heap[i].call);
    for (size_t i = 0; i < sim->parked_count; i++)
        sim_call_drop(sim, sim->parked[i].call);
    while (sim->survivors != NULL) {
        struct sim_call *call = sim->survivors;
        sim->survivors = call->next;
        sim_call_drop(sim, call);
    }
    sim_tree_done(sim);
    while (sim->free_memory != NULL) {
        struct sim_memory *memory = sim->free_memory;
        sim->free_memory = memory->next;
        atl_arena_done(&memory->arena);
        free(memory);
    }
    free(sim->heap);
    free(sim->parked);
    atl_arena_done(&sim->arena);
    atl_buf_done(&sim->log);
    atl_buf_done(&sim->history);
}
