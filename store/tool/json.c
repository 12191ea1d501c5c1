/* See json.h. */
#include "store/tool/json.h"

static void quote(FILE *out, const char *text)
{
    putc('"', out);
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < ' ' || c > '~')
            fprintf(out, "\\u%04x", c);
        else if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else
            putc(c, out);
    }
    putc('"', out);
}

static void put_key(struct json *json, const char *key)
{
    if (json->more)
        putc(',', json->out);
    if (json->indent > 0)
        fprintf(json->out, "\n%*s", 2 * json->indent, "");
    json->more = true;
    if (!key)
        return;
    quote(json->out, key);
    fputs(": ", json->out);
}

void json_begin(struct json *json, const char *key, char bracket)
{
    put_key(json, key);
    putc(bracket, json->out);
    json->more = false;
    json->indent++;
}

void json_end(struct json *json, char bracket)
{
    json->indent--;
    if (json->more)
        fprintf(json->out, "\n%*s", 2 * json->indent, "");
    putc(bracket, json->out);
    if (json->indent == 0)
        putc('\n', json->out);
    json->more = true;
}

void json_text(struct json *json, const char *key, const char *text)
{
    put_key(json, key);
    quote(json->out, text);
}

void json_number(struct json *json, const char *key, uint64_t number)
{
    put_key(json, key);
    fprintf(json->out, "%llu", (unsigned long long)number);
}

void json_ratio(struct json *json, const char *key, double ratio)
{
    put_key(json, key);
    fprintf(json->out, "%.4f", ratio);
}

void json_bool(struct json *json, const char *key, bool value)
{
    put_key(json, key);
    fputs(value ? "true" : "false", json->out);
}
