/* Commands out of the contract: nouns from packages, verbs from method names. */
#include "core/cli_core.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *other;
    const char *noun;
} short_forms[] = {{"vm", "qemu"}, {"ct", "lxc"}, {"user", "access"}};

/* "AgentNetworkGetInterfaces" -> "agent-network-get-interfaces" */
static char *kebab(struct atl_arena *arena, const char *name)
{
    char *text = atl_arena_alloc(arena, 2 * strlen(name) + 1);
    size_t length = 0;
    for (const char *c = name; *c != '\0'; c++) {
        if (isupper((unsigned char)*c) && c != name)
            text[length++] = '-';
        text[length++] = (char)tolower((unsigned char)*c);
    }
    return text;
}

/* "atoll.qemu.v1.Qemu" -> "qemu"; a service that only the bus has is called by its own name. */
static char *noun_of(struct atl_arena *arena, const struct atl_rpc *rpc)
{
    const char *area = strchr(rpc->service->name, '.');
    const char *last = strrchr(rpc->service->name, '.');
    atl_assert(area != NULL);
    if (rpc->path == NULL)
        return kebab(arena, last + 1);
    area++;
    return atl_arena_strndup(arena, area, strcspn(area, "."));
}

/* create-pool of the noun pool is just create; get-config is just config. */
static char *verb_of(struct atl_arena *arena, const struct atl_rpc *rpc, const char *noun)
{
    if (rpc->cli != NULL)
        return atl_arena_strdup(arena, rpc->cli);
    char *verb = kebab(arena, strrchr(rpc->name, '.') + 1);
    size_t length = strlen(verb);
    size_t noun_length = strlen(noun);
    size_t end = length > 0 && verb[length - 1] == 's' ? length - 1 : length;
    if (end > noun_length + 1 && strncmp(verb + end - noun_length, noun, noun_length) == 0 &&
        verb[end - noun_length - 1] == '-')
        verb[end - noun_length - 1] = '\0';
    static const char *const leading[] = {"get-", "list-"};
    for (size_t i = 0; i < ATL_COUNT(leading); i++)
        if (strncmp(verb, leading[i], strlen(leading[i])) == 0)
            return verb + strlen(leading[i]);
    return verb;
}

static bool lists_cli(const struct atl_rpc *rpc)
{
    for (const char *const *caller = rpc->callers; caller != NULL && *caller != NULL; caller++)
        if (strcmp(*caller, "cli") == 0)
            return true;
    return false;
}

static bool is_command(const struct atl_rpc *rpc)
{
    return rpc->path != NULL || (lists_cli(rpc) && strstr(rpc->name, "LocalAssertion") == NULL);
}

static int by_noun(const void *a, const void *b)
{
    const struct cli_command *left = a;
    const struct cli_command *right = b;
    int order = strcmp(left->noun, right->noun);
    if (order != 0)
        return order;
    return left->rpc->index < right->rpc->index ? -1 : left->rpc->index > right->rpc->index;
}

void cli_commands_list(const struct atl_service *const *contract, struct atl_arena *arena,
                       struct cli_commands *ret_commands)
{
    size_t capacity = 0;
    *ret_commands = (struct cli_commands){0};
    for (const struct atl_service *const *service = contract; *service != NULL; service++) {
        if (strncmp((*service)->name, "atoll.test.", 11) == 0)
            continue;
        for (uint32_t i = 0; i < (*service)->count; i++) {
            const struct atl_rpc *rpc = &(*service)->rpcs[i];
            if (!is_command(rpc))
                continue;
            ret_commands->items = atl_arena_grow(arena, ret_commands->items, ret_commands->count, &capacity,
                                                 sizeof *ret_commands->items);
            const char *noun = noun_of(arena, rpc);
            ret_commands->items[ret_commands->count++] =
                (struct cli_command){.rpc = rpc, .noun = noun, .verb = verb_of(arena, rpc, noun)};
        }
    }
    if (ret_commands->count > 0)
        qsort(ret_commands->items, ret_commands->count, sizeof *ret_commands->items, by_noun);
}

const struct cli_command *cli_commands_find(const struct cli_commands *commands, const char *noun,
                                            const char *verb)
{
    for (size_t i = 0; i < ATL_COUNT(short_forms); i++)
        if (strcmp(noun, short_forms[i].other) == 0)
            noun = short_forms[i].noun;
    for (size_t i = 0; i < commands->count; i++) {
        const struct cli_command *command = &commands->items[i];
        if (strcmp(command->noun, noun) == 0 && (verb == NULL || strcmp(command->verb, verb) == 0))
            return command;
    }
    return NULL;
}

/* Does the path fit the template? Adds the values of its {parameters}. The last one takes the rest, slashes
 * too. */
static bool match_path(const char *template, const char *path, struct atl_arena *arena,
                       struct atl_param *params, size_t *count)
{
    size_t found = *count;
    while (*template != '\0') {
        if (*template != '{') {
            if (*template ++ != *path++)
                return false;
            continue;
        }
        size_t name = strcspn(template, "}");
        bool last = template[name + 1] == '\0';
        size_t length = last ? strlen(path) : strcspn(path, "/");
        if (length == 0 || found == CLI_PARAMS_MAX)
            return false;
        params[found++] = (struct atl_param){.name = atl_arena_strndup(arena, template + 1, name - 1),
                                             .value = atl_arena_strndup(arena, path, length)};
        template += name + 1;
        path += length;
    }
    if (*path != '\0')
        return false;
    *count = found;
    return true;
}

static int verb_number(const char *verb)
{
    static const struct {
        const char *word;
        enum atl_verb verb;
    } words[] = {{"get", ATL_GET}, {"ls", ATL_GET},  {"create", ATL_POST},  {"post", ATL_POST},
                 {"set", ATL_PUT}, {"put", ATL_PUT}, {"delete", ATL_DELETE}};
    for (size_t i = 0; i < ATL_COUNT(words); i++)
        if (strcmp(words[i].word, verb) == 0)
            return (int)words[i].verb;
    return -1;
}

const struct cli_command *cli_commands_match(const struct cli_commands *commands, const char *verb,
                                             const char *path, struct atl_arena *arena,
                                             struct atl_param *params, size_t *count)
{
    int wanted = verb_number(verb);
    const struct cli_command *best = NULL;
    size_t before = *count;
    size_t best_values = SIZE_MAX;
    for (size_t i = 0; i < commands->count; i++) {
        const struct atl_rpc *rpc = commands->items[i].rpc;
        size_t found = before;
        if (rpc->path == NULL || rpc->verb != wanted || !match_path(rpc->path, path, arena, params, &found))
            continue;
        if (found - before < best_values) { /* a fixed segment beats a parameter */
            best = &commands->items[i];
            best_values = found - before;
        }
    }
    if (best != NULL) {
        bool again = match_path(best->rpc->path, path, arena, params, count);
        atl_assert(again);
    }
    return best;
}

const struct atl_field *cli_command_field(const struct cli_command *command, const char *name)
{
    const struct atl_field *field = atl_message_field(command->rpc->input, name);
    if (field != NULL)
        return field;
    size_t base = strlen(name);
    while (base > 0 && isdigit((unsigned char)name[base - 1]))
        base--;
    char stem[ATL_FIELD_MAX];
    if (base == 0 || base >= sizeof stem)
        return NULL;
    memcpy(stem, name, base);
    stem[base] = '\0';
    return atl_message_field(command->rpc->input, stem);
}

int cli_exit_code(enum atl_code code)
{
    switch (code) {
    case ATL_OK:
        return 0;
    case ATL_E_INVALID:
    case ATL_E_RANGE:
    case ATL_E_UNIMPLEMENTED:
        return 2;
    case ATL_E_UNAVAILABLE:
    case ATL_E_DEADLINE:
        return 3;
    case ATL_E_DENIED:
    case ATL_E_UNAUTHENTICATED:
        return 4;
    case ATL_E_ABSENT:
        return 5;
    default:
        return 1;
    }
}
