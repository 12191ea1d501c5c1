/* One JSON value, written as it comes. Objects and lists are closed in order.
 */
#ifndef STORE_TOOL_JSON_H
#define STORE_TOOL_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
    FILE *out;
    bool more;  /* something stands before in this object or list */
    int indent; /* how deep */
};

/* key: NULL in a list, and for the outermost value. */
void json_begin(struct json *json, const char *key, char bracket);
void json_end(struct json *json, char bracket);

/* What is not printable ASCII becomes an escape: bytes, not UTF-8. */
void json_text(struct json *json, const char *key, const char *text);
void json_number(struct json *json, const char *key, uint64_t number);
void json_ratio(struct json *json, const char *key, double ratio);
void json_bool(struct json *json, const char *key, bool value);

#endif
