/* The texts of `kvpool help`. */
#include "store/tool/tool.h"

#include <errno.h>
#include <string.h>

static const char general[] =
    "usage: kvpool COMMAND [OPTIONS] FILE\n"
    "\n"
    "  create  make a file with pools, or more pools in one\n"
    "  info    what a file says about itself and its pools\n"
    "  check   find every damage; nothing is written\n"
    "  repair  say what can be done about it, and with --yes do it\n"
    "  dump    write the items of a pool for another pool or program\n"
    "  load    read them into a pool\n"
    "  grow    make a file, and a pool in it, larger\n"
    "  delete  free a pool of a file, and overwrite it first if wanted\n"
    "  stats   count items, sizes, and what is free\n"
    "  help [COMMAND], version\n"
    "\n"
    "FILE is a pool of kvserver or libkvpool, or a DAX device. A file that\n"
    "another program has open is refused; only info looks at it.\n"
    "With --json what is printed is one JSON object; --progress says in lines\n"
    "on standard error how far a long work has come, where a terminal would\n"
    "see a bar. Sizes are bytes, or have K, M, G or T behind them.\n"
    "Exit status: 0 done, the pool is whole; 1 damage was found or is left;\n"
    "2 mistake in the arguments; 3 no pool that this program can work with;\n"
    "4 open in another program; 5 it failed: no space, no memory, a failed\n"
    "read or write, a bad dump.\n";

static const char create[] =
    "usage: kvpool create --size SIZE [--pool NAME[=SIZE]]... [--grain SIZE]\n"
    "                     [--mode MODE] [--json] FILE\n"
    "       kvpool create --add --pool NAME[=SIZE]... [--json] FILE\n"
    "\n"
    "  --size SIZE         bytes of the file; of a device it is the device's\n"
    "  --pool NAME[=SIZE]  a pool; one of them may be without a size: it gets\n"
    "                      what the others leave. Without --pool there is\n"
    "                      one, \"default\", as kvserver wants it\n"
    "  --grain SIZE        what pools are made of, from 4K to 32M, a power of\n"
    "                      two (default: by the size)\n"
    "  --mode MODE         permissions, in octal (default: 0600)\n"
    "  --add               pools into a file that there is\n";

static const char info[] =
    "usage: kvpool info [--json] FILE\n"
    "\n"
    "Format, features, sizes, pools, and whether each was closed in order;\n"
    "who has the file open. Exit status 1: it is damaged, see kvpool check.\n";

static const char check[] =
    "usage: kvpool check [--max N] [--progress] [--json] FILE\n"
    "\n"
    "Looks at every header, slot, grain word, table word, entry and extent,\n"
    "and says for each damage where it is, what it means and what repair can\n"
    "do. The file is only read.\n"
    "\n"
    "  --max N  so many damages are listed (default: 100); all are counted\n"
    "\n"
    "The bytes of values that do not lie in their entry have no checksum:\n"
    "a change there cannot be seen.\n";

static const char repair[] =
    "usage: kvpool repair [--yes] [--backup FILE | --no-backup] [--max N]\n"
    "                     [--progress] [--json] FILE\n"
    "       kvpool repair --undo BACKUP [--yes] FILE\n"
    "\n"
    "Says what would be changed and which items would be dropped; with --yes\n"
    "does it. What is whole stays as it is.\n"
    "\n"
    "  --yes          do it\n"
    "  --backup FILE  keep what is changed here (default: FILE.undo)\n"
    "  --no-backup    keep nothing\n"
    "  --undo BACKUP  put back what such a file has\n"
    "  --max N        so many damages are listed (default: 100)\n"
    "\n"
    "Exit status 1 also without --yes, when there is something to repair.\n";

static const char dump[] =
    "usage: kvpool dump [--pool NAME] [--output DUMP] [--all] [--progress]\n"
    "                   [--json] FILE\n"
    "\n"
    "Writes keys, values, flags, times to expire and cas ids as text with\n"
    "counted bytes.\n"
    "\n"
    "  --pool NAME    which pool (default: the only one, or \"default\")\n"
    "  --output DUMP  a file that is there whole or not at all (default:\n"
    "                 standard output)\n"
    "  --all          also what has expired or was flushed\n"
    "\n"
    "Of a damaged pool what is whole is dumped, with exit status 1.\n";

static const char load[] =
    "usage: kvpool load [--pool NAME] [--size SIZE] [--keep] [--progress]\n"
    "                   [--json] FILE [DUMP]\n"
    "\n"
    "Stores the items of a dump; without DUMP, or for -, of standard input.\n"
    "A file or pool that is not there is made. A DUMP that is a file is read\n"
    "to its end first: when it has a mistake nothing is changed.\n"
    "\n"
    "  --pool NAME  into which pool (default: that of the dump)\n"
    "  --size SIZE  of what is made (default: as it was)\n"
    "  --keep       an item that is there stays (default: it is replaced)\n"
    "\n"
    "Items keep their cas ids in a pool that was empty; else they get new\n"
    "ones.\n";

static const char grow[] =
    "usage: kvpool grow [--size [+]SIZE] [--pool NAME[=+SIZE]] [--json] FILE\n"
    "\n"
    "  --size [+]SIZE        of the file, or so much more\n"
    "  --pool NAME[=+SIZE]   the pool that gets it (default: the only one),\n"
    "                        and how much of it (default: all that is free)\n";

static const char delete_pool[] =
    "usage: kvpool delete --pool NAME --yes [--zero] [--json] FILE\n"
    "\n"
    "The pool and all that is in it goes; what it had is free for others.\n"
    "\n"
    "  --pool NAME  which pool\n"
    "  --yes        do it\n"
    "  --zero       overwrite its bytes with zeroes first\n";

static const char stats[] =
    "usage: kvpool stats [--pool NAME] [--progress] [--json] FILE\n"
    "\n"
    "Items, expired and flushed ones, sizes of values, load of the table,\n"
    "free runs and how fragmented they are, for each pool or for one.\n";

static const struct {
    const char *command, *text;
} texts[] = {
    {"create", create},
    {"info", info},
    {"check", check},
    {"repair", repair},
    {"dump", dump},
    {"load", load},
    {"grow", grow},
    {"delete", delete_pool},
    {"stats", stats},
    {"help", "usage: kvpool help [COMMAND]\n"},
    {"version", "usage: kvpool version\n"},
};

int tool_help(const char *command, FILE *out)
{
    if (!command) {
        fputs(general, out);
        return 0;
    }
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (strcmp(command, texts[i].command) == 0) {
            fputs(texts[i].text, out);
            return 0;
        }
    }
    return -ENOENT;
}
