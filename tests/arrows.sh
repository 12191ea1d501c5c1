#!/bin/sh
# Fail when a file includes a header from a room it may not look into.
# A room is a folder; every #include "..." is written from the repository
# root. The table below is the picture in README.md.
find config transport preload store -name '*.[ch]' | sort | xargs awk '
BEGIN {
    may["config"]            = "config"
    may["transport"]         = "transport config"
    may["transport/backend"] = "transport/backend transport config"
    may["transport/stream"]  = "transport/stream transport config"
    may["preload"]           = "preload transport/stream transport/backend transport config"
    may["store/protocol"]    = "store/protocol"
    may["store/pm"]          = "store/pm config"
    may["store/ado"]         = "store/ado transport config"
    may["store/engine"]      = "store/engine store/pm store/ado config"
    may["store/server"]      = "store/server store/protocol store/engine config"
    may["store/tool"]        = "store/tool store/engine store/pm config"
    may["store"]             = "store/server store/engine config"
}
function room(path) { return sub("/[^/]*$", "", path) ? path : "(no folder)" }
/^[ \t]*#[ \t]*include[ \t]+"/ {
    split($0, part, "\"")
    from = room(FILENAME)
    if (index(" " may[from] " ", " " room(part[2]) " ") == 0) {
        printf "%s:%d: may not include %s\n", FILENAME, FNR, part[2]
        bad = 1
    }
}
END { exit bad }'
