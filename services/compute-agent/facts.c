/* What lists and the status view need of the guests' files of one kind. */
#include "facts.h"

#include <stdlib.h>
#include <string.h>

struct cmp_facts_table {
    cmp_facts_fn *read;
    struct cmp_facts **rows; /* sorted by id */
    size_t count;
    size_t room;
};

/* The id in "nodes/pve/lxc/101.conf"; 0: another file. */
static uint32_t path_vmid(const char *path)
{
    const char *base = strrchr(path, '/');
    char *end = NULL;
    unsigned long vmid = base != NULL ? strtoul(base + 1, &end, 10) : 0;
    return vmid >= 100 && vmid <= 999999999 && strcmp(end, ".conf") == 0 ? (uint32_t)vmid : 0;
}

static size_t seek(const struct cmp_facts_table *table, uint32_t vmid)
{
    size_t low = 0;
    size_t high = table->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (table->rows[middle]->vmid < vmid)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void row_free(struct cmp_facts *row)
{
    if (row == NULL)
        return;
    free(row->name);
    free(row->tags);
    free(row->lock);
    free(row);
}

static void drop(struct cmp_facts_table *table, uint32_t vmid)
{
    size_t at = seek(table, vmid);
    if (at == table->count || table->rows[at]->vmid != vmid)
        return;
    row_free(table->rows[at]);
    table->count--;
    memmove(&table->rows[at], &table->rows[at + 1], (table->count - at) * sizeof table->rows[0]);
}

static void put(struct cmp_facts_table *table, struct cmp_facts *row)
{
    size_t at = seek(table, row->vmid);
    if (at < table->count && table->rows[at]->vmid == row->vmid) {
        row_free(table->rows[at]);
        table->rows[at] = row;
        return;
    }
    if (table->count == table->room) {
        table->room = table->room * 2 + 16;
        table->rows = atl_realloc(table->rows, table->room * sizeof table->rows[0]);
    }
    memmove(&table->rows[at + 1], &table->rows[at], (table->count - at) * sizeof table->rows[0]);
    table->rows[at] = row;
    table->count++;
}

static void changed(const char *path, const struct atl_file *file, void *user)
{
    struct cmp_facts_table *table = user;
    uint32_t vmid = path_vmid(path);
    if (vmid == 0)
        return;
    struct cmp_facts *row = atl_new0(struct cmp_facts);
    row->vmid = vmid;
    if (file != NULL && table->read(file, row) == ATL_OK) {
        put(table, row);
        return;
    }
    row_free(row);
    drop(table, vmid);
}

struct cmp_facts_table *cmp_facts_open(struct atl_mirror *mirror, const char *prefix, cmp_facts_fn *read)
{
    struct cmp_facts_table *table = atl_new0(struct cmp_facts_table);
    table->read = read;
    atl_mirror_each(mirror, prefix, changed, table);
    atl_mirror_on_change(mirror, prefix, changed, table);
    return table;
}

void cmp_facts_close(struct cmp_facts_table **table_pointer)
{
    struct cmp_facts_table *table = *table_pointer;
    *table_pointer = NULL;
    if (table == NULL)
        return;
    for (size_t i = 0; i < table->count; i++)
        row_free(table->rows[i]);
    free(table->rows);
    free(table);
}

size_t cmp_facts_count(const struct cmp_facts_table *table)
{
    return table->count;
}

const struct cmp_facts *cmp_facts_at(const struct cmp_facts_table *table, size_t index)
{
    atl_assert(index < table->count);
    return table->rows[index];
}

const struct cmp_facts *cmp_facts_find(const struct cmp_facts_table *table, uint32_t vmid)
{
    size_t at = seek(table, vmid);
    return at < table->count && table->rows[at]->vmid == vmid ? table->rows[at] : NULL;
}
