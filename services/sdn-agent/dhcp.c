/* dnsmasq per bridge; see dhcp.h. */
#include "dhcp.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "io/log.h"
#include "io/process.h"
#include "record.h"

#define RETRY_AFTER (5 * ATL_SECOND)
enum { STOP_WAIT_MS = 500, START_TIME_S = 10 };

struct server {
    struct server *next;
    struct sdn_dhcp *dhcp;
    char bridge[SDN_NAME_MAX];
    char *text;                  /* configuration it was started with */
    struct atl_process *process; /* dnsmasq until it has become a daemon */
    atl_ns failed_at;            /* 0: it did not */
};

struct sdn_dhcp {
    struct atl_loop *loop;
    char *run;
    char *state;
    struct server *servers;
};

static char *file_of(const struct sdn_dhcp *dhcp, const char *bridge, const char *kind)
{
    return atl_format("%s/dnsmasq-%s.%s", dhcp->run, bridge, kind);
}

/* Is that process the server of this configuration file? Its command line tells. */
static bool is_server(pid_t pid, const char *conf)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
    char *line = sdn_read_file(path, NULL); /* arguments end with NUL: the second follows the first one's */
    bool found = false;
    if (line != NULL) {
        const char *base = strrchr(line, '/');
        const char *argument = line + strlen(line) + 1;
        found = strcmp(base != NULL ? base + 1 : line, "dnsmasq") == 0 &&
                strncmp(argument, "--conf-file=", 12) == 0 && strcmp(argument + 12, conf) == 0;
    }
    free(line);
    return found;
}

/* The pid of the running server, or 0. */
static pid_t pid_of(const struct sdn_dhcp *dhcp, const char *bridge)
{
    char *name = file_of(dhcp, bridge, "pid");
    char *conf = file_of(dhcp, bridge, "conf");
    char *text = sdn_read_file(name, NULL);
    long pid = text != NULL ? strtol(text, NULL, 10) : 0;
    if (pid <= 1 || pid > 4194304 || !is_server((pid_t)pid, conf))
        pid = 0;
    free(text);
    free(conf);
    free(name);
    return (pid_t)pid;
}

static struct server *find(struct sdn_dhcp *dhcp, const char *bridge)
{
    struct server *server = dhcp->servers;
    while (server != NULL && strcmp(server->bridge, bridge) != 0)
        server = server->next;
    return server;
}

static struct server *need(struct sdn_dhcp *dhcp, const char *bridge)
{
    struct server *server = find(dhcp, bridge);
    if (server != NULL)
        return server;
    server = atl_new0(struct server);
    server->dhcp = dhcp;
    (void)atl_copy(server->bridge, sizeof server->bridge, bridge);
    server->next = dhcp->servers;
    dhcp->servers = server;
    return server;
}

static void server_free(struct sdn_dhcp *dhcp, struct server *server)
{
    struct server **link = &dhcp->servers;
    while (*link != server)
        link = &(*link)->next;
    *link = server->next;
    atl_process_free(server->process);
    free(server->text);
    free(server);
}

/* What an agent before us started: each has its configuration in the run folder. */
static void adopt(struct sdn_dhcp *dhcp)
{
    DIR *stream = opendir(dhcp->run);
    const struct dirent *entry = NULL;
    while (stream != NULL && (entry = readdir(stream)) != NULL) {
        const char *name = entry->d_name;
        size_t length = strlen(name);
        char bridge[SDN_NAME_MAX];
        if (strncmp(name, "dnsmasq-", 8) != 0 || length < 14 || strcmp(name + length - 5, ".conf") != 0 ||
            length - 13 >= sizeof bridge)
            continue;
        (void)snprintf(bridge, sizeof bridge, "%.*s", (int)(length - 13), name + 8);
        need(dhcp, bridge)->text = sdn_read_file(dhcp->run, name);
    }
    if (stream != NULL)
        (void)closedir(stream);
}

struct sdn_dhcp *sdn_dhcp_open(struct atl_loop *loop, const struct sdn_dhcp_paths *paths)
{
    struct sdn_dhcp *dhcp = atl_new0(struct sdn_dhcp);
    dhcp->loop = loop;
    dhcp->run = atl_strdup(paths->run);
    dhcp->state = atl_strdup(paths->state);
    adopt(dhcp);
    return dhcp;
}

void sdn_dhcp_free(struct sdn_dhcp **dhcp)
{
    if (*dhcp == NULL)
        return;
    while ((*dhcp)->servers != NULL)
        server_free(*dhcp, (*dhcp)->servers);
    free((*dhcp)->run);
    free((*dhcp)->state);
    free(*dhcp);
    *dhcp = NULL;
}

const struct sdn_dhcp_state *sdn_dhcp_states(struct sdn_dhcp *dhcp, struct atl_arena *arena,
                                             size_t *ret_count)
{
    struct sdn_dhcp_state *states = NULL;
    size_t count = 0;
    size_t capacity = 0;
    for (struct server *server = dhcp->servers; server != NULL; server = server->next) {
        bool runs = server->process != NULL || pid_of(dhcp, server->bridge) != 0;
        if (!runs || server->text == NULL)
            continue;
        states = atl_arena_grow(arena, states, count, &capacity, sizeof *states);
        (void)atl_copy(states[count].bridge, sizeof states[count].bridge, server->bridge);
        states[count++].conf = atl_arena_strdup(arena, server->text);
    }
    *ret_count = count;
    return states;
}

static void started(const struct atl_process_end *end, void *user)
{
    struct server *server = user;
    server->process = NULL;
    if (end->exit_status == 0 && end->signal == 0) {
        atl_log(ATL_NOTICE, "dhcp-started", "DHCP on bridge %s", server->bridge);
        return;
    }
    server->failed_at = atl_loop_now(server->dhcp->loop);
    atl_log(ATL_WARNING, "dhcp-failed", "dnsmasq for bridge %s ended with status %d, retrying in 5 s: %.*s",
            server->bridge, end->exit_status, (int)strcspn(end->errors, "\n"),
            end->errors + strspn(end->errors, "\n"));
}

enum atl_code sdn_dhcp_start(struct sdn_dhcp *dhcp, const char *bridge, const char *text,
                             struct atl_error *err)
{
    struct server *server = need(dhcp, bridge);
    atl_assert(server->process == NULL);
    atl_ns now = atl_loop_now(dhcp->loop);
    if (server->failed_at != 0 && now - server->failed_at < RETRY_AFTER)
        return ATL_OK;
    char name[64];
    (void)snprintf(name, sizeof name, "dnsmasq-%s.conf", bridge);
    enum atl_code code = sdn_write_file(dhcp->run, name, text, err);
    if (code != ATL_OK)
        return code;
    free(server->text);
    server->text = atl_strdup(text);
    server->failed_at = 0;
    char *argument = atl_format("--conf-file=%s/%s", dhcp->run, name);
    const char *const argv[] = {"dnsmasq", argument, NULL};
    struct atl_process_options options = {
        .argv = argv, .capture = 4096, .timeout = START_TIME_S * ATL_SECOND};
    code = atl_process_start(dhcp->loop, &options, started, server, &server->process, err);
    if (code != ATL_OK)
        server->failed_at = now;
    free(argument);
    return code;
}

static void end_server(pid_t pid)
{
    /* Between the look at its command line and the signal a pid could change hands; through a pidfd it
     * cannot. */
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return;
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    (void)syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0);
    if (poll(&wait, 1, STOP_WAIT_MS) == 0)
        (void)syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
    (void)close(fd);
}

void sdn_dhcp_stop(struct sdn_dhcp *dhcp, const char *bridge)
{
    struct server *server = find(dhcp, bridge);
    static const char *const kinds[] = {"conf", "pid"};
    pid_t pid = pid_of(dhcp, bridge);
    if (pid != 0) {
        end_server(pid);
        atl_log(ATL_NOTICE, "dhcp-stopped", "no DHCP on bridge %s any more", bridge);
    }
    for (size_t i = 0; i < ATL_COUNT(kinds); i++) {
        char *path = file_of(dhcp, bridge, kinds[i]);
        (void)unlink(path); /* gone already: as well */
        free(path);
    }
    if (server != NULL)
        server_free(dhcp, server);
}

void sdn_dhcp_stop_all(struct sdn_dhcp *dhcp)
{
    while (dhcp->servers != NULL)
        sdn_dhcp_stop(dhcp, dhcp->servers->bridge);
}
