/* The envelope of answers. */
#include "core/answer.h"

#include <string.h>

void gw_answer_data(enum gw_form form, const struct atl_message *table, const ProtobufCMessage *message,
                    struct atl_buf *out)
{
    struct atl_buf beside = {0};
    atl_buf_text(out, "{\"data\":");
    atl_json_encode(table, message, out, &beside);
    if (beside.length > 0)
        atl_buf_add(out, beside.data, beside.length);
    if (form == GW_FORM_EXTJS)
        atl_buf_text(out, ",\"success\":1");
    atl_buf_char(out, '}');
    atl_buf_done(&beside);
}

static void entry(struct atl_buf *out, const char *field, const char *text)
{
    if (out->data[out->length - 1] != '{')
        atl_buf_char(out, ',');
    atl_json_string(out, field, strlen(field));
    atl_buf_char(out, ':');
    atl_json_string(out, text, strlen(text));
}

static void field_errors(const struct gw_failure *failure, struct atl_buf *out)
{
    size_t count = failure->errors != NULL ? failure->errors->count : 0;
    bool single = failure->field != NULL && failure->field[0] != '\0';
    if (count == 0 && !single)
        return;
    atl_buf_text(out, ",\"errors\":{");
    bool named = false;
    for (size_t i = 0; i < count; i++) {
        entry(out, failure->errors->items[i].field, failure->errors->items[i].text);
        named = named || (single && strcmp(failure->errors->items[i].field, failure->field) == 0);
    }
    if (single && !named)
        entry(out, failure->field, failure->text);
    atl_buf_char(out, '}');
}

void gw_answer_failure(enum gw_form form, const struct gw_failure *failure, struct atl_buf *out)
{
    atl_buf_text(out, "{\"data\":null,\"message\":");
    size_t length = strlen(failure->sentence);
    while (length > 0 && failure->sentence[length - 1] == '\n')
        length--;
    atl_json_string(out, failure->sentence, length);
    field_errors(failure, out);
    if (form == GW_FORM_EXTJS)
        atl_buf_printf(out, ",\"status\":%d,\"success\":0", failure->status);
    atl_buf_char(out, '}');
}
