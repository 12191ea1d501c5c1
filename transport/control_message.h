/*
 * What two ends say to each other: records of 48 bytes on the TCP stream,
 * messages of 64 bytes on the rendezvous channel. docs/wire.md draws both.
 *
 * Pure: bytes to struct and back, little endian, no state. Decoding checks
 * all that can be told from the bytes alone (magic, version, type, flags,
 * check, bounds); what depends on the stage is the caller's. Outputs are set
 * only on success. Buffers need no alignment.
 */
#ifndef TRANSPORT_STREAM_CONTROL_MESSAGE_H
#define TRANSPORT_STREAM_CONTROL_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#include "transport/reason.h"

enum {
    RECORD_SIZE = 48,
    RECORD_PREFIX = 13, /* tag, magic, version: known before it comes */
    MESSAGE_SIZE = 64,
    HELLO_BODY_SIZE = 80, /* follows a HELLO and a WELCOME, nothing else */
    HELLO_SIZE = MESSAGE_SIZE + HELLO_BODY_SIZE,
    DEVICE_BODY_SIZE = 80, /* between hosts: follows those, and a CONFIRM */
};

enum {
    CONTROL_VERSION = 1,                 /* of records and messages */
    RING_SIZE_LEAST = 4096,              /* bytes; 4 KiB */
    RING_SIZE_MOST = 1024 * 1024 * 1024, /* bytes; 1 GiB */
};

#define CONTROL_OFFSET_MOST ((uint64_t)INT64_MAX) /* of any stream offset */

enum record_type {
    RECORD_SWITCH = 1, /* link from `offset` on; the first record */
    RECORD_HAVE,       /* nothing taken from the link beyond `offset` */
    RECORD_RAW,        /* raw bytes from `offset` on; the last record */
    RECORD_END,        /* the direction ends at `offset` */
    RECORD_BELL,       /* wake up and look */
    RECORD_BEAT,       /* still here */
};

enum record_flag {
    RECORD_LEAVING = 1, /* HAVE, END: the sender's memory goes away */
    RECORD_THIRD = 2,   /* HAVE: for somebody without the library */
};

struct control_record {
    uint64_t tag;      /* of this epoch and direction, chosen by the receiver */
    uint64_t offset;   /* <= CONTROL_OFFSET_MOST; 0 in BELL and BEAT */
    uint64_t count;    /* RAW: bytes of the repeat; else 0 */
    uint32_t epoch;    /* from 1 */
    uint32_t sequence; /* 0 in SWITCH and only there, then +1 per record */
    enum record_type type;
    uint16_t flags; /* enum record_flag */
    enum reason reason;
};

void record_encode(const struct control_record *record,
                   uint8_t out[RECORD_SIZE]);

/* 0, or -EBADMSG for anything that no rightful sender writes. */
int record_decode(const uint8_t in[RECORD_SIZE], struct control_record *record);

enum message_type {
    MESSAGE_HELLO = 1, /* with a body; who I am, what I counted */
    MESSAGE_RINGS,
    MESSAGE_WILLING, /* propose again */
    MESSAGE_PROPOSE, /* epoch, offset = leave, tag, number */
    MESSAGE_ACCEPT,  /* epoch, offset = leave, tag, number */
    MESSAGE_BUSY,    /* epoch, reason */
    MESSAGE_CANCEL,  /* epoch */
    MESSAGE_PING,    /* number */
    MESSAGE_PONG,    /* number of the PING */
    MESSAGE_WELCOME, /* with a body; answers HELLO */
    MESSAGE_REFUSE,  /* reason; answers HELLO */
    MESSAGE_BYE,     /* reason */
    /* Only on links over a device: */
    MESSAGE_CONFIRM, /* with a device body; answers WELCOME */
    MESSAGE_WANT,    /* wake me when there is room */
    MESSAGE_ROOM,    /* there is room; answers WANT */
    MESSAGE_CREDIT,  /* number, offset: data and messages seen so far */
    MESSAGE_LAST = MESSAGE_CREDIT
};

enum message_flag {
    MESSAGE_MAY_IGNORE = 1 << 15, /* skip me if my type is unknown to you */
};

enum message_number {
    MESSAGE_CAREFUL = 1, /* PROPOSE, ACCEPT: the sender leaves TCP only when
                            all before the offsets has been read, both ways */
};

struct control_message {
    uint64_t offset; /* <= CONTROL_OFFSET_MOST */
    uint64_t tag;
    uint64_t number;
    uint32_t stream;
    uint32_t epoch; /* not 0 in PROPOSE, ACCEPT, BUSY, CANCEL */
    uint32_t link;
    uint32_t reason; /* enum reason; unknown values arrive as REASON_OTHER */
    enum message_type type;
    uint16_t flags; /* enum message_flag */
};

void message_encode(const struct control_message *message,
                    uint8_t out[MESSAGE_SIZE]);

/*
 * Reads the first MESSAGE_SIZE of len bytes. 0; -EBADMSG for what no rightful
 * sender writes and when len is short; -EOPNOTSUPP for a sound message of an
 * unknown type that may be skipped (it has no body).
 */
int message_decode(const uint8_t *in, size_t len,
                   struct control_message *message);

/* Bytes that follow a message of this type on a channel within a host. */
size_t message_body_size(enum message_type type);

struct hello_body {
    uint64_t wrote;     /* bytes the application gave to this end, so far */
    uint64_t took;      /* bytes this end gave to its application, so far */
    uint64_t bell;      /* token of the doorbell; 0 is none */
    uint32_t pid;       /* of the sender, as it sees itself; information only */
    uint32_t ring_size; /* bytes wanted, RING_SIZE_LEAST .. _MOST, 2^n */
    uint16_t port_server; /* of the end that accepted; host byte order */
    uint16_t port_client; /* of the end that connected */
    uint8_t version_low;  /* lowest and highest version spoken, from 1 */
    uint8_t version_high;
    uint8_t family;          /* 4 or 6 */
    uint8_t addr_server[16]; /* network order; family 4: 4 bytes, then 0 */
    uint8_t addr_client[16];
};

void hello_encode(const struct hello_body *body, uint8_t out[HELLO_BODY_SIZE]);

/* Reads a body of len bytes. 0, or -EBADMSG as above. */
int hello_decode(const uint8_t *in, size_t len, struct hello_body *body);

/* What two ends on different hosts say besides: keys and proof. */
struct device_body {
    uint64_t nonce[2]; /* of the sender, new for each meeting */
    uint8_t proof[16]; /* over the first bytes; transport/proof.h */
    uint32_t kept[2];  /* bytes kept by way; in WELCOME: those hashed */
    uint64_t ring;     /* remote address of the ring the sender reads */
    uint64_t word;     /* ... of the word that says what was consumed */
    uint64_t key;      /* for both */
    uint32_t index;    /* of the link at the sender */
};

void device_encode(const struct device_body *body,
                   uint8_t out[DEVICE_BODY_SIZE]);

/* Reads a body of len bytes. 0, or -EBADMSG. */
int device_decode(const uint8_t *in, size_t len, struct device_body *body);

/*
 * CRC32C (Castagnoli) of len bytes. control_check picks the instruction of
 * the processor where there is one; the other two are there to be compared.
 */
uint32_t control_check(const void *bytes, size_t len);
uint32_t control_check_table(const void *bytes, size_t len);
/* -EOPNOTSUPP where the processor has no such instruction. */
int control_check_instruction(const void *bytes, size_t len, uint32_t *check);

#endif
