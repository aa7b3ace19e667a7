/* Answers as tables. Reads the JSON with json-c, so that local and remote answers look the same. */
#include "core/cli_core.h"

#include <json-c/json.h>
#include <string.h>

enum { COLUMNS_MAX = 64, CUT_MIN = 12 };

struct column {
    const char *name;
    size_t width;
    bool right; /* numbers stand at the right */
};

struct table {
    const struct cli_table_options *options;
    struct column columns[COLUMNS_MAX];
    size_t count;
    size_t hidden;
};

static bool one_of(const char *name, const char *const *list)
{
    for (; *list != NULL; list++)
        if (strcmp(*list, name) == 0)
            return true;
    return false;
}

static bool is_size(const char *name)
{
    static const char *const names[] = {"mem",       "maxmem", "disk",    "maxdisk", "size",   "total",
                                        "used",      "avail",  "free",    "netin",   "netout", "diskread",
                                        "diskwrite", "swap",   "maxswap", "memhost", NULL};
    return one_of(name, names);
}

static void size_text(double bytes, struct atl_buf *out)
{
    static const char *const units[] = {"", "Ki", "Mi", "Gi", "Ti", "Pi"};
    size_t unit = 0;
    while (bytes >= 1024 && unit + 1 < ATL_COUNT(units)) {
        bytes /= 1024;
        unit++;
    }
    atl_buf_printf(out, unit == 0 || bytes >= 100 ? "%.0f%s" : "%.1f%s", bytes, units[unit]);
}

static void duration_text(int64_t seconds, struct atl_buf *out)
{
    if (seconds >= 86400)
        atl_buf_printf(out, "%" PRId64 "d ", seconds / 86400);
    atl_buf_printf(out, "%02" PRId64 ":%02" PRId64 ":%02" PRId64, seconds / 3600 % 24, seconds / 60 % 60,
                   seconds % 60);
}

static bool is_time(const char *name)
{
    static const char *const names[] = {"starttime", "endtime", "ctime", "localtime", NULL};
    return one_of(name, names);
}

/* Days since 1970 to a date of the Gregorian calendar, by 400-year eras that begin in March. */
static void time_text(int64_t seconds, struct atl_buf *out)
{
    int64_t days = (seconds >= 0 ? seconds : seconds - 86399) / 86400;
    int64_t second = seconds - days * 86400;
    int64_t shifted = days + 719468;
    int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    int64_t day_of_era = shifted - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month_from_march = (5 * day_of_year + 2) / 153;
    int64_t day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    int64_t month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
    int64_t year = year_of_era + era * 400 + (month <= 2);
    atl_buf_printf(out, "%04" PRId64 "-%02" PRId64 "-%02" PRId64 " %02" PRId64 ":%02" PRId64 ":%02" PRId64,
                   year, month, day, second / 3600, second / 60 % 60, second % 60);
}

/* One cell, printable, on one line. */
static void cell_text(const struct cli_table_options *options, const char *name, json_object *value,
                      struct atl_buf *out)
{
    size_t from = out->length;
    bool is_number =
        json_object_is_type(value, json_type_int) || json_object_is_type(value, json_type_double);
    if (value == NULL)
        atl_buf_text(out, "");
    else if (is_number && is_size(name))
        size_text(json_object_get_double(value), out);
    else if (is_number && strcmp(name, "uptime") == 0)
        duration_text(json_object_get_int64(value), out);
    else if (is_number && is_time(name) && json_object_get_int64(value) > 0)
        time_text(json_object_get_int64(value) +
                      (strcmp(name, "localtime") != 0 ? options->zone_offset_seconds : 0),
                  out);
    else if (json_object_is_type(value, json_type_double))
        atl_buf_printf(out, "%.4g", json_object_get_double(value));
    else
        atl_buf_text(out, json_object_is_type(value, json_type_string)
                              ? json_object_get_string(value)
                              : json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN));
    for (size_t i = from; i < out->length; i++)
        if ((unsigned char)out->data[i] < 0x20 || out->data[i] == 0x7f)
            out->data[i] = ' '; /* no terminal escapes out of a guest's name */
}

/* Cells as wide as they look: bytes that continue a UTF-8 letter take no place. */
static size_t text_width(const char *text)
{
    size_t width = 0;
    for (; *text != '\0'; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static void add_cell(struct atl_buf *out, const char *text, size_t width, bool right)
{
    size_t own = text_width(text);
    size_t pad = own < width ? width - own : 0;
    for (size_t i = 0; right && i < pad; i++)
        atl_buf_char(out, ' ');
    atl_buf_text(out, text);
    for (size_t i = 0; !right && i < pad; i++)
        atl_buf_char(out, ' ');
}

static struct column *column_of(struct table *table, const char *name)
{
    for (size_t i = 0; i < table->count; i++)
        if (strcmp(table->columns[i].name, name) == 0)
            return &table->columns[i];
    if (table->count == COLUMNS_MAX)
        return NULL;
    table->columns[table->count] = (struct column){.name = name, .width = text_width(name), .right = true};
    return &table->columns[table->count++];
}

/* Keys that name a row come first, the rest in the order of the answer. */
static void put_names_first(struct table *table)
{
    static const char *const first[] = {"vmid",   "id",         "name",      "node",   "storage",
                                        "userid", "poolid",     "iface",     "type",   "status",
                                        "why",    "node-state", "starttime", "endtime"};
    size_t at = 0;
    for (size_t i = 0; i < ATL_COUNT(first); i++)
        for (size_t j = at; j < table->count; j++)
            if (strcmp(table->columns[j].name, first[i]) == 0) {
                struct column found = table->columns[j];
                memmove(&table->columns[at + 1], &table->columns[at], (j - at) * sizeof found);
                table->columns[at++] = found;
                break;
            }
}

static void measure_row(struct table *table, json_object *row)
{
    ATL_BUF_AT_EXIT struct atl_buf cell = {0};
    json_object_object_foreach(row, key, value)
    {
        if (json_object_is_type(value, json_type_object) || json_object_is_type(value, json_type_array))
            continue;
        struct column *column = column_of(table, key);
        if (column == NULL)
            continue;
        atl_buf_reset(&cell);
        cell_text(table->options, key, value, &cell);
        size_t width = cell.data != NULL ? text_width(cell.data) : 0;
        if (width > column->width)
            column->width = width;
        if (json_object_is_type(value, json_type_string))
            column->right = false;
    }
}

/* Leaves out the columns that do not fit; of the first of them, when it is text, what there is room for is
 * shown. */
static void fit(struct table *table, size_t width)
{
    size_t used = 0;
    for (size_t i = 0; width > 0 && i < table->count; i++) {
        struct column *column = &table->columns[i];
        size_t room = width > used + 2 ? width - used - 2 : 0;
        bool cut = i > 0 && !column->right && column->width > room && room >= CUT_MIN;
        column->width = cut ? room : column->width;
        used += column->width + (i > 0 ? 2 : 0);
        if (cut || (used > width && i > 0)) {
            size_t shown = cut ? i + 1 : i;
            table->hidden = table->count - shown;
            table->count = shown;
        }
    }
}

/* The beginning of what is wider than its column. */
static void cut(struct atl_buf *cell, size_t width)
{
    static const char dots[] = "...";
    if (cell->data == NULL || text_width(cell->data) <= width || width < sizeof dots)
        return;
    size_t at = 0;
    for (size_t seen = 0; at < cell->length; at++) {
        seen += ((unsigned char)cell->data[at] & 0xc0) != 0x80;
        if (seen > width - strlen(dots))
            break;
    }
    cell->length = at;
    atl_buf_text(cell, dots);
}

static void print_row(const struct table *table, json_object *row, struct atl_buf *out)
{
    ATL_BUF_AT_EXIT struct atl_buf cell = {0};
    for (size_t i = 0; i < table->count; i++) {
        const struct column *column = &table->columns[i];
        atl_buf_reset(&cell);
        json_object *value = row != NULL ? json_object_object_get(row, column->name) : NULL;
        if (row == NULL)
            atl_buf_text(&cell, column->name);
        else if (value != NULL)
            cell_text(table->options, column->name, value, &cell);
        cut(&cell, column->width);
        bool last_left = i + 1 == table->count && !column->right;
        add_cell(out, cell.data != NULL ? cell.data : "", last_left ? 0 : column->width, column->right);
        atl_buf_text(out, i + 1 == table->count ? "\n" : "  ");
    }
}

static void print_list(json_object *list, const struct cli_table_options *options, struct atl_buf *out)
{
    struct table table = {.options = options};
    size_t rows = json_object_array_length(list);
    for (size_t i = 0; i < rows; i++) {
        json_object *row = json_object_array_get_idx(list, i);
        if (!json_object_is_type(row, json_type_object)) {
            cell_text(options, "", row, out);
            atl_buf_char(out, '\n');
            continue;
        }
        measure_row(&table, row);
    }
    if (table.count == 0)
        return;
    put_names_first(&table);
    fit(&table, options->width);
    print_row(&table, NULL, out);
    for (size_t i = 0; i < rows; i++)
        print_row(&table, json_object_array_get_idx(list, i), out);
    if (table.hidden > 0)
        atl_buf_printf(out, "(%zu more columns: --output json)\n", table.hidden);
}

static void print_object(json_object *object, const struct cli_table_options *options, struct atl_buf *out)
{
    size_t width = 0;
    json_object_object_foreach(object, key, value)
    {
        (void)value;
        if (strlen(key) > width)
            width = strlen(key);
    }
    json_object_object_foreach(object, name, field)
    {
        add_cell(out, name, width + 2, false);
        cell_text(options, name, field, out);
        atl_buf_char(out, '\n');
    }
}

enum atl_code cli_table(const char *json, const struct cli_table_options *options, struct atl_buf *out,
                        struct atl_error *err)
{
    json_object *data = json_tokener_parse(json);
    if (data == NULL && strcmp(json, "null") != 0)
        return atl_fail(err, ATL_E_INVALID, NULL, "the answer is not JSON");
    if (json_object_is_type(data, json_type_array))
        print_list(data, options, out);
    else if (json_object_is_type(data, json_type_object))
        print_object(data, options, out);
    else if (data != NULL) {
        cell_text(options, "", data, out);
        atl_buf_char(out, '\n');
    }
    (void)json_object_put(data); /* it was ours alone */
    return ATL_OK;
}
