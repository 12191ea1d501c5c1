/* See damage.h. */
#include "store/tool/damage.h"

static const struct {
    const char *name;
    const char *meaning;
} kinds[] = {
    [DAMAGE_HEADER] = {"header", "the region's header is not as it was "
                                 "written; no program opens the file"},
    [DAMAGE_SIZE] = {"size", "the size in the header is not that of the file; "
                             "no program opens it, or pools seem cut off"},
    [DAMAGE_TRUNCATED] = {"truncated",
                          "the file ends before its pools do; what "
                          "lay behind the end is lost"},
    [DAMAGE_SLOT] = {"slot", "an entry of the directory of pools is "
                             "impossible; no program opens the file"},
    [DAMAGE_GRAINS] = {"grains", "the grain words do not make up the pool; no "
                                 "program opens the file"},
    [DAMAGE_POOL] = {"pool-header", "a pool's header is not as it was written; "
                                    "the pool cannot be opened"},
    [DAMAGE_STATE] = {"state", "a word of a pool's state is impossible; the "
                               "pool cannot be opened, or items would vanish"},
    [DAMAGE_SUMMARY] = {"summary", "what the last close has left is not so; an "
                                   "open that believes it would write over "
                                   "items"},
    [DAMAGE_TABLE] = {"table", "a part of the table cannot be reached; the "
                               "pool cannot be opened"},
    [DAMAGE_OWNER] = {"owner", "a bucket names a place that there is not"},
    [DAMAGE_ENTRY] = {"entry", "an entry is not as it was written; its item "
                               "is dropped at the next open"},
    [DAMAGE_KEY] = {"key", "an item's key does not belong where it is; it "
                           "could not be found, and is dropped"},
    [DAMAGE_TWICE] = {"twice", "two items of one key; only one of them is "
                               "true"},
    [DAMAGE_EXTENT] = {"extent", "an item's bytes would lie outside the pool; "
                                 "it is dropped at the next open"},
    [DAMAGE_CHAIN] = {"chain", "the pieces of an item do not make it up; it is "
                               "dropped at the next open"},
    [DAMAGE_OVERLAP] = {"overlap", "two items claim the same bytes; only one "
                                   "of them can be true"},
    [DAMAGE_STRAY] = {"stray", "bytes that have to be zero are not; nothing "
                               "reads them, but somebody wrote there"},
};

const char *damage_name(enum damage_kind kind)
{
    return kinds[kind].name;
}

const char *damage_meaning(enum damage_kind kind)
{
    return kinds[kind].meaning;
}
