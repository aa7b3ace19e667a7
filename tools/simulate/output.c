/* What a run says: its log as it goes, where everything is at its end. */
#include <stdarg.h>
#include <string.h>

#include "sim.h"

static void json_text(struct atl_buf *out, const char *text)
{
    atl_buf_char(out, '"');
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            atl_buf_char(out, '\\');
        if ((unsigned char)*text >= ' ')
            atl_buf_char(out, *text);
    }
    atl_buf_char(out, '"');
}

static void json_line(struct sim *sim, double time, const char *node, const char *who, const char *text)
{
    struct atl_buf *out = &sim->log;
    atl_buf_text(out, out->length == 0 ? "" : ",");
    atl_buf_printf(out, "{\"time\":%.3f,\"node\":", time);
    json_text(out, node);
    atl_buf_text(out, ",\"who\":");
    json_text(out, who);
    atl_buf_text(out, ",\"text\":");
    json_text(out, text);
    atl_buf_char(out, '}');
}

void sim_log(struct sim *sim, const char *node, const char *who, const char *format, ...)
{
    if (sim->options.quiet)
        return;
    char text[SIM_TEXT];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    double time = (double)sim->now / SIM_SECOND;
    if (sim->options.json)
        json_line(sim, time, node, who, text);
    else
        (void)fprintf(sim->options.out, "%9.2f %-6s %-3s: %s\n", time, node, who, text);
}

static const Atoll__Ha__V1__Service *service_of(const struct sim *sim, const struct sim_guest *guest)
{
    const struct sim_value *value = sim->tree.keys[guest->key_service].value;
    return value == NULL ? NULL : (const Atoll__Ha__V1__Service *)value->message;
}

static const char *where(const struct sim *sim, const struct sim_guest *guest)
{
    for (int i = 0; i < sim->node_count; i++)
        if ((guest->running >> i & 1) != 0)
            return sim->nodes[i].name;
    return "-";
}

static const char *lock_of(const struct sim *sim, int node)
{
    const struct sim_value *value = sim->tree.keys[sim->key_lock[node]].value;
    if (value == NULL)
        return "free";
    return ((const Atoll__Ha__V1__NodeLock *)value->message)->fenced ? "fenced" : "held";
}

static const char *state_of(const struct sim *sim, int node)
{
    const struct sim_value *value = sim->tree.keys[sim->key_node[node]].value;
    return value == NULL ? "-" : ((const Atoll__Ha__V1__NodeRecord *)value->message)->state;
}

static const char *agent_of(const struct sim_node *node)
{
    const struct sim_run *run = &node->runs[SIM_LRM];
    if (!run->alive)
        return "gone";
    if (run->paused || node->stopped)
        return "stands still";
    return strcmp(node->lrm.order, "run") == 0 ? "runs" : "ends";
}

static const char *const powers[] = {"off", "booting", "up"};

static void print_text(const struct sim *sim)
{
    FILE *out = sim->options.out;
    (void)fprintf(out, "--- at %.0f s\n", (double)sim->now / SIM_SECOND);
    for (int i = 0; i < sim->node_count; i++)
        if (!sim->nodes[i].witness)
            (void)fprintf(out, "node %s: %s, %s, lock %s, agent %s\n", sim->nodes[i].name,
                          powers[sim->nodes[i].power], state_of(sim, i), lock_of(sim, i),
                          agent_of(&sim->nodes[i]));
    for (int i = 0; i < sim->guest_count; i++) {
        const struct sim_guest *guest = &sim->guests[i];
        const Atoll__Ha__V1__Service *service = service_of(sim, guest);
        if (guest->there)
            (void)fprintf(out, "%s: runs on %s, %s\n", guest->sid, where(sim, guest),
                          service == NULL ? "no resource" : service->state);
    }
    const struct sim_counts *counts = &sim->counts;
    (void)fprintf(out,
                  "%llu fences, %llu recoveries, %llu resets, %llu managers, %llu starts, %llu migrations\n",
                  (unsigned long long)counts->fences, (unsigned long long)counts->recoveries,
                  (unsigned long long)counts->resets, (unsigned long long)counts->managers,
                  (unsigned long long)counts->starts, (unsigned long long)counts->migrations);
    if (sim->failure[0] != '\0')
        (void)fprintf(out, "BROKEN: %s\n", sim->failure);
}

static void json_pair(struct atl_buf *out, const char *key, const char *value, const char *after)
{
    json_text(out, key);
    atl_buf_char(out, ':');
    json_text(out, value);
    atl_buf_text(out, after);
}

static void print_json(const struct sim *sim)
{
    struct atl_buf out = {0};
    atl_buf_printf(&out, "{\"seconds\":%.3f,\"log\":[", (double)sim->now / SIM_SECOND);
    atl_buf_add(&out, sim->log.data, sim->log.length);
    atl_buf_text(&out, "],\"nodes\":[");
    const char *comma = "";
    for (int i = 0; i < sim->node_count; i++) {
        atl_buf_printf(&out, "%s{", comma);
        json_pair(&out, "node", sim->nodes[i].name, ",");
        json_pair(&out, "power", powers[sim->nodes[i].power], ",");
        json_pair(&out, "state", state_of(sim, i), ",");
        json_pair(&out, "lock", lock_of(sim, i), ",");
        json_pair(&out, "agent", agent_of(&sim->nodes[i]), "}");
        comma = ",";
    }
    atl_buf_text(&out, "],\"guests\":[");
    comma = "";
    for (int i = 0; i < sim->guest_count; i++) {
        const Atoll__Ha__V1__Service *service = service_of(sim, &sim->guests[i]);
        atl_buf_printf(&out, "%s{", comma);
        json_pair(&out, "sid", sim->guests[i].sid, ",");
        json_pair(&out, "runs_on", where(sim, &sim->guests[i]), ",");
        json_pair(&out, "state", service == NULL ? "" : service->state, "}");
        comma = ",";
    }
    const struct sim_counts *counts = &sim->counts;
    atl_buf_printf(&out, "],\"fences\":%llu,\"recoveries\":%llu,\"resets\":%llu,\"managers\":%llu,",
                   (unsigned long long)counts->fences, (unsigned long long)counts->recoveries,
                   (unsigned long long)counts->resets, (unsigned long long)counts->managers);
    json_pair(&out, "broken", sim->failure, "}\n");
    (void)fwrite(out.data, 1, out.length, sim->options.out); /* nothing is to be done about a closed output */
    atl_buf_done(&out);
}

void sim_print_end(struct sim *sim)
{
    if (sim->options.json)
        print_json(sim);
    else
        print_text(sim);
}
